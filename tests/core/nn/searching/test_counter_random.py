"""Random numbers by their coordinates."""

import pytest
import torch
from torch import Tensor

from core.nn.searching.counter_random import threefry, uniform


def words(*values: int) -> tuple[Tensor, Tensor]:
    first, second = values
    return torch.tensor([first]), torch.tensor([second])


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_published_values(counter: tuple[int, int], key: tuple[int, int], expected: tuple[int, int]) -> None:
    """The known answers of Threefry-2x32-20 that come with Random123, the code of the paper."""
    found = threefry(words(*key), counter=words(*counter))
    assert tuple(int(word) for word in found) == expected


def test_a_number_is_a_function_of_its_coordinates() -> None:
    keys = torch.tensor([7, 0, 2**32 - 1])
    whole = uniform(keys, seed=3, num_samples=4, num_steps=9)
    assert torch.equal(uniform(keys[[2, 0]], seed=3, num_samples=2, num_steps=5), whole[[2, 0], :2, :5])
    assert not (uniform(keys, seed=4, num_samples=4, num_steps=9) == whole).any()
    assert whole.unique().numel() == whole.numel()


def test_numbers_are_uniform_and_independent_along_every_axis() -> None:
    """Mean, variance and the correlation of neighbours, each within five standard errors."""
    numbers = uniform(torch.arange(50), seed=1, num_samples=40, num_steps=30)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    count = numbers.numel()
    assert abs(float(numbers.mean()) - 1 / 2) < 5 * (1 / 12 / count) ** 0.5
    assert abs(float(numbers.var()) - 1 / 12) < 5 * (1 / 180 / count) ** 0.5
    centred = (numbers - 0.5) * 12**0.5
    for dim in range(3):
        ahead, behind = centred.narrow(dim, 1, centred.shape[dim] - 1), centred.narrow(dim, 0, centred.shape[dim] - 1)
        assert abs(float((ahead * behind).mean())) < 5 * ahead.numel() ** -0.5
