"""Random numbers that are a function of their coordinates: the same for any batch, order, device and call."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_WORD = 0xFFFFFFFF
_PARITY = 0x1BD11BDA
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(
    key: tuple[Int[Tensor, "*#shape"], Int[Tensor, "*#shape"]],
    *,
    counter: tuple[Int[Tensor, "*#shape"], Int[Tensor, "*#shape"]],
) -> tuple[Int[Tensor, "..."], Int[Tensor, "..."]]:
    """Two random 32-bit words for each key and counter, which are two 32-bit words each, in int64 tensors.

    Threefry-2x32 with 20 rounds. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    first, second = (counter[0] + keys[0]) & _WORD, (counter[1] + keys[1]) & _WORD
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first = (first + second) & _WORD
            second = ((second << rotation) & _WORD | second >> (32 - rotation)) ^ first
        first = (first + keys[(group + 1) % 3]) & _WORD
        second = (second + keys[(group + 2) % 3] + group + 1) & _WORD
    return first, second


def uniform(
    keys: Int[Tensor, "examples"], *, seed: int, num_samples: int, num_steps: int
) -> Float[Tensor, "examples samples steps"]:
    """Float64 in [0, 1), each a function of (seed, key, number of the sample, step). Seed and keys are 32-bit words."""
    words = keys.reshape(-1, 1, 1)
    samples = torch.arange(num_samples, device=keys.device).reshape(1, -1, 1)
    steps = torch.arange(num_steps, device=keys.device).reshape(1, 1, -1)
    first, second = threefry((torch.full_like(words, seed), words), counter=(samples, steps))
    # The 53 bits of a float64's fraction.
    return ((first >> 5).double() * 2**26 + (second >> 6).double()) * 2.0**-53
