"""What is timed against what, and at which sizes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.training.process.matmul import use_onednn_matmul

# Sums of thousands of float32 products in another order.
TOLERANCE = 1e-4

Step = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the cases; as they stand, those of the published table."""

    device: str = "cpu"
    """Where both sides run."""
    hidden: int = 512
    """Units, and inputs of a layer."""
    steps: int = 128
    """Time steps of a layer's batch."""
    long_steps: int = 1024
    """Time steps of the minimal GRU's batch."""
    batch: int = 32
    """Sequences of a layer's batch."""
    sentences: int = 64
    """Sentences of a decoder's batch."""
    words: int = 30
    """Steps of a decoder's source and target."""
    vocabulary: int = 10_000
    """Tokens a search chooses from."""


SMALL = Sizes(hidden=32, steps=16, long_steps=40, batch=6, sentences=5, words=7, vocabulary=50)


class Case(NamedTuple):
    """One row of the table, ready to run."""

    ours: Callable[[], Any]
    rival: Callable[[], Any]
    rival_name: str
    differences: Callable[[], list[str]]
    """What differs between the results of both, beyond rounding; run before anything is timed."""


def training_step(module: nn.Module, run: Callable[..., Tensor], *, weight: Tensor, **inputs: Tensor) -> Step:
    """A training step without the optimiser: outputs, their weighted sum, gradients in inputs and weights."""

    def step() -> dict[str, Tensor]:
        module.zero_grad(set_to_none=True)
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
        outputs = run(*leaves.values())
        torch.autograd.backward(outputs, weight)
        results = {"outputs": outputs.detach()}
        for name, tensor in (*leaves.items(), *module.named_parameters()):
            assert tensor.grad is not None, f"no gradient in {name}"
            results[name] = tensor.grad
        return results

    return step


def compare(ours: Step, rival: Step, *, name_of: Callable[[str], str] = str) -> Callable[[], list[str]]:
    """What differs by more than the tolerance, relative to the largest value of each result.

    Args:
        ours: our step.
        rival: the rival's step over the same data and weights.
        name_of: the rival's name of a result of ours.
    """

    def differences() -> list[str]:
        found = []
        theirs = rival()
        for name, value in ours().items():
            expected = theirs[name_of(name)]
            error = float((value - expected).abs().max() / expected.abs().max())
            if not error <= TOLERANCE:
                found.append(f"{name} differs by {error:.1e} of its largest value (tolerance {TOLERANCE:.0e})")
        return found

    return differences


@contextmanager
def onednn_matmul() -> Iterator[None]:
    """All float32 products of the process through oneDNN, and back: the rows that end in `.flag`."""
    switch: Any = torch.backends.mkldnn
    before = switch.matmul.fp32_precision
    use_onednn_matmul()
    try:
        yield
    finally:
        switch.matmul.fp32_precision = before


def onednn_refused() -> str | None:
    """Why this machine has no rows that end in `.flag`, or None where it has them."""
    try:
        with onednn_matmul():
            return None
    except ValueError as error:
        return str(error)


def flagged(function: Callable[[], Any]) -> Callable[[], Any]:
    """The same under `onednn_matmul`."""

    def run() -> Any:
        with onednn_matmul():
            return function()

    return run
