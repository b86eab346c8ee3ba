"""Going on with a run on another number of processes or accumulated pieces: exact, or refused with the reason (contract 5).

Global batches are planned without knowing who computes them, gradients are sums over counts, and positions count global
batches, so a run goes on as it would have: bit for bit where batches are cut in as many pieces as before (two summands have one
sum in either order), else to the rounding of sums in another order. What is drawn in the forward pass - dropout, scheduled
sampling - is drawn piece by piece, so that another number of pieces would be another run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

COUNTED_IN_PIECES = ("limit_train_batches", "val_check_interval")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How the global batches of a run are cut."""

    processes: int
    """Processes."""
    accumulation: int
    """Pieces that each of them computes for an optimiser step."""

    @property
    def num_pieces(self) -> int:
        """Pieces of a global batch."""
        return self.processes * self.accumulation

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{processes} with trainer.accumulate_grad_batches {self.accumulation}"


class RandomDraws:
    """Whether the forward passes of a run's training draw random numbers; seen by what they leave of the generators."""

    def __init__(self) -> None:
        self.any = False
        self._elsewhere: tuple[Cut, Cut] | None = None

    @contextmanager
    def watched(self, device: torch.device) -> Iterator[None]:
        """Look whether the block draws; nothing is looked at once one has."""
        if self.any:
            yield
            return
        before = _generators(device)
        yield
        self.any = any(not torch.equal(one, other) for one, other in zip(before, _generators(device), strict=True))
        if self.any and self._elsewhere is not None:
            rank_zero_warn(
                f"From this step on the training draws random numbers (dropout, scheduled sampling ...), and by piece: this "
                f"run was saved on {self._elsewhere[0]} and goes on with {self._elsewhere[1]}, where it draws others than it "
                "would have."
            )

    def goes_on(self, stored: Mapping[str, Any], *, now: Cut) -> None:
        """Take up what the checkpoint says, in a run that is cut as `now`.

        Raises:
            ValueError: where the numbers that training draws would be others than in the run that is to go on.
        """
        before = Cut(processes=stored["processes"], accumulation=stored["accumulation"])
        self.any = stored["random"]
        if before.num_pieces == now.num_pieces:
            return
        if self.any:
            raise ValueError(
                f"The run was saved on {before} and is to go on with {now}: its batches would be cut in {now.num_pieces} "
                f"pieces instead of {before.num_pieces}. Its training draws random numbers (dropout, scheduled sampling ...) "
                "for each piece, so it would go on otherwise than it would have. Choose processes and "
                f"trainer.accumulate_grad_batches whose product is {before.num_pieces}, which is exact, or use --init_from to "
                "start a new run from the weights of the checkpoint."
            )
        self._elsewhere = before, now
        rank_zero_warn(
            f"This run was saved on {before} and goes on with {now}: with the same batches, but sums are added in another "
            "order, so its numbers can differ in the last bits."
        )


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def trainer_settings_in_pieces(
    settings: Mapping[str, Any], *, stored: int, now: int, steps_an_epoch: int
) -> dict[str, Any]:
    """The trainer's settings of a checkpoint as a run with another accumulation would have to give them.

    Lightning counts pieces, not steps: with twice as many accumulated, a validation every 4 batches comes every 2 steps.

    Args:
        settings: those of the checkpoint.
        stored: pieces that a process accumulated for a step then.
        now: and now.
        steps_an_epoch: optimiser steps of an epoch.
    """
    scaled = dict(settings)
    for name in COUNTED_IN_PIECES if stored != now else ():
        value = scaled.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            pieces = value * now / stored
            scaled[name] = int(pieces) if pieces.is_integer() else pieces
    share = scaled.get("val_check_interval")
    if isinstance(share, float) and share < 1.0:
        # Lightning rounds the share of an epoch down to whole pieces.
        steps = [int(steps_an_epoch * accumulation * share) / accumulation for accumulation in (stored, now)]
        if steps[0] != steps[1]:
            scaled["val_check_interval"] = (
                f"{share} of an epoch, every {steps[0]:g} steps (now it would be {steps[1]:g})"
            )
    return scaled
