"""The linear recurrence in logarithmically many passes against its definition."""

import pytest
import torch
from torch import Tensor

from core.nn.recurrence.parallel_scan import parallel_scan


def loop(decays: Tensor, additions: Tensor, first: Tensor) -> Tensor:
    states = []
    for decay, addition in zip(decays, additions, strict=True):
        first = decay * first + addition
        states.append(first)
    return torch.stack(states)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 7, 8, 31, 64])
def test_equal_to_the_loop_in_values_and_gradients(num_steps: int) -> None:
    torch.manual_seed(num_steps)
    leaves = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((num_steps, 2, 3),) * 2]
    leaves.append(torch.randn(2, 3, dtype=torch.float64, requires_grad=True))
    decays, additions, first = leaves
    weight = torch.randn(num_steps, 2, 3, dtype=torch.float64)
    results = []
    for states in (parallel_scan(decays, additions, first=first), loop(*leaves)):
        results.append([states, *torch.autograd.grad((states * weight).sum(), leaves)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    leaves = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 2), (5, 2), (2,))]
    assert torch.autograd.gradcheck(lambda a, b, h: parallel_scan(a, b, first=h), leaves)


def test_thousands_of_shut_gates_lose_nothing() -> None:
    """Products of decays reach 0 and must not be divided by: a sum of logarithms or of quotients would end in NaN."""
    decays = torch.full((4096, 1), 0.01)
    decays[::7] = 0.0
    additions = torch.randn(4096, 1)
    states = parallel_scan(decays, additions, first=torch.ones(1))
    torch.testing.assert_close(states, loop(decays, additions, torch.ones(1)))
