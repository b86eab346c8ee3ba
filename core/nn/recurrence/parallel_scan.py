"""The linear recurrence h(t) = a(t) h(t-1) + b(t) in a number of passes that grows with the logarithm of its length.

What minGRU and minLSTM run on a GPU, where many small steps one after the other leave most of the device idle. On CPU a
loop is faster: see `core.nn.recurrence.scan`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.ragged import is_traced


def parallel_scan(
    decays: Float[Tensor, "time *batch"], additions: Float[Tensor, "time *batch"], *, first: Float[Tensor, "*batch"]
) -> Float[Tensor, "time *batch"]:
    """Every h(t) = decays(t) h(t-1) + additions(t), from h(-1) = `first`.

    Source: Blelloch, "Prefix Sums and Their Applications", CMU-CS-90-190, 1990, section 1.4; the gradient is the same
    recurrence run backwards (Martin & Cundy, "Parallelizing Linear Recurrent Neural Nets Over Sequence Length", ICLR
    2018, section 2.2).
    """
    additions = torch.cat([(additions[0] + decays[0] * first).unsqueeze(0), additions[1:]])
    if is_traced():
        return _scan(decays, additions)
    states: Tensor = _ParallelScan.apply(decays, additions)
    return states


class _ParallelScan(torch.autograd.Function):
    """From h(0) = additions(0); decays(0) is not read."""

    @staticmethod
    def forward(ctx: Any, decays: Tensor, additions: Tensor) -> Tensor:
        states = _scan(decays, additions)
        ctx.save_for_backward(decays, states)
        return states

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        decays, states = ctx.saved_tensors
        # Backwards, step t takes from step t + 1 what decays(t + 1) let through.
        shifted = torch.cat([torch.zeros_like(decays[:1]), decays[1:].flip(0)])
        grad_additions = _scan(shifted, grad.flip(0)).flip(0)
        grad_decays = torch.cat([torch.zeros_like(states[:1]), grad_additions[1:] * states[:-1]])
        return grad_decays, grad_additions


def _scan(decays: Tensor, additions: Tensor) -> Tensor:
    num_steps = decays.shape[0]
    if num_steps == 1:
        return additions
    num_pairs = num_steps // 2
    odd = decays[1::2]
    # Two steps at once are one step of the same kind: h(t) = a(t) a(t-1) h(t-2) + (a(t) b(t-1) + b(t)).
    states_odd = _scan(
        odd * decays[0 : 2 * num_pairs : 2], torch.addcmul(additions[1::2], odd, additions[0 : 2 * num_pairs : 2])
    )
    later = slice(2, None, 2)
    num_later = (num_steps - 1) // 2
    states_even = torch.cat([additions[:1], torch.addcmul(additions[later], decays[later], states_odd[:num_later])])
    interleaved = torch.stack([states_even[:num_pairs], states_odd], dim=1).flatten(0, 1)
    return interleaved if num_steps % 2 == 0 else torch.cat([interleaved, states_even[-1:]])
