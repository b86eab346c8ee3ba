"""All experiments, in the order of the document."""

from __future__ import annotations

from benchmarks.notes.experiment import Experiment
from benchmarks.notes.feedback import FEEDBACK
from benchmarks.notes.gates import ADDING, COPYING, WEATHER
from benchmarks.notes.gradients import GRADIENTS
from benchmarks.notes.reductions import LOSS_MEAN, POOLING
from benchmarks.notes.sentences import SENTENCES
from benchmarks.notes.sizes import PARAMETERS
from benchmarks.notes.stacking import DEPTH, DIRECTIONS
from benchmarks.notes.truncation import REACH, TRUNCATION

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        GRADIENTS,
        PARAMETERS,
        ADDING,
        COPYING,
        WEATHER,
        DEPTH,
        DIRECTIONS,
        FEEDBACK,
        TRUNCATION,
        REACH,
        POOLING,
        LOSS_MEAN,
        SENTENCES,
    )
}
