"""Randomness as a function of where the run stands, so that none has to be stored to resume it (contract 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_from(*parts: int | str) -> int:
    """A 63-bit seed from a tuple: neighbouring tuples give unrelated streams, on every platform and version."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_step(seed: int, *, epoch: int, batch: int, piece: int) -> None:
    """Seed torch, on the CPU and all GPUs, for the forward pass of one piece: dropout masks follow from the position.

    Args:
        seed: seed of the run.
        epoch: its epoch.
        batch: the global batch within the epoch.
        piece: the piece within the global batch, whichever process computes it.
    """
    # The last part was the process's number once: runs of one process draw what they always have.
    drawn = seed_from("step", seed, epoch, batch, piece, 0)
    if _has_idle_gpus_alone():
        # What `torch.manual_seed` keeps for GPUs that nothing uses is a stack trace, at every step.
        torch.default_generator.manual_seed(drawn)
    else:
        torch.manual_seed(drawn)


def _has_idle_gpus_alone() -> bool:
    """Whether no other generator than the CPU's can be drawn from."""
    accelerator = torch.accelerator.current_accelerator()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return accelerator is None or (accelerator.type == "cuda" and not used)


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Run a block with its own seed and leave the generator on the CPU as it was: weights are initialised so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(purpose, seed))
        yield
