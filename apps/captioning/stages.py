"""The stages of a captioner's training: the decoder alone, then the encoder with it, then what captions are measured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from core.training.stages import TrainingStage

Objective = Literal["cross_entropy", "self_critical"]


@dataclass(frozen=True, kw_only=True)
class Stage(TrainingStage):
    """Some epochs with one objective; the schedule of the learning rate runs from its begin to its end in each stage."""

    objective: Objective = "cross_entropy"
    """cross_entropy of the references' words, or self_critical: the reward of captions that the network draws itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in get_args(Objective):
            raise ValueError(
                f"objective of a stage must be one of {', '.join(get_args(Objective))}, got {self.objective!r}."
            )
