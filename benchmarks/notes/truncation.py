"""Full against truncated back-propagation through time on long streams (notes N6)."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings, figure, holds
from benchmarks.notes.learning import ManyToMany, fit
from benchmarks.notes.plots import draw_bars
from benchmarks.notes.tasks import held_values
from core.nn.recurrent import RecurrentConfig
from core.training.truncated_bptt import StreamStates, counted_steps, run_streams
from data.batching import Piece
from data.streams import ChunkConfig, Chunks, StreamPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Cut(NamedTuple):
    """How a stream is cut."""

    chunk_size: int | None
    """None: not at all."""
    shift: int | None = None
    carried: bool = True


CUTS = {
    "whole": Cut(None),
    "chunks of 100": Cut(100),
    "chunks of 100, moved on by 50": Cut(100, 50),
    "chunks of 25": Cut(25),
    "chunks of 25, state dropped": Cut(25, carried=False),
}


def run(case: str, settings: Settings) -> Measured:
    """Streams of held values; the loss counts the steps at least `youngest` steps after a mark, the error likewise."""
    cut, num_steps, youngest = CUTS[case], settings["num_steps"], settings["youngest"]
    gaps = {"num_steps": num_steps, "shortest": settings["shortest"], "longest": settings["longest"]}
    config = ChunkConfig(chunk_size=cut.chunk_size or num_steps, shift=cut.shift)
    chunks = Chunks([num_steps] * settings["batch_size"], config=config)
    plan = StreamPlan(chunks, batch_size=settings["batch_size"], shuffle=False, seed=0)
    pieces = [Piece(epoch=0, indices=indices) for indices in plan.batches(0)]
    unseen = held_values(settings["num_test"], **gaps)
    layers = RecurrentConfig(kind="lstm", hidden_size=settings["hidden_size"])
    network = ManyToMany(layers, input_size=2, num_outputs=1)
    with torch.no_grad():
        network.recurrent.get_parameter("bias_ih_l0").chunk(4)[1].fill_(settings["forget_bias"])
    states = StreamStates()
    current = held_values(settings["batch_size"], **gaps)
    memory: list[float] = []
    pass_starts: list[float] = []

    def loss(update: int) -> Tensor:
        nonlocal current
        number = update % len(pieces)
        if number == 0:
            pass_starts.append(time.process_time())
            current = held_values(settings["batch_size"], **gaps)
            states.reset()
        chunk = chunks.of(pieces[number])
        inputs, target, age = (
            chunks.gather(np.ascontiguousarray(part.flatten(0, 1).numpy()), pieces[number]) for part in current
        )
        mask = counted_steps(chunk, inputs.shape[1]) & (age >= youngest)
        if not cut.carried:
            states.reset()
            chunk = chunk._replace(starts=(True,) * len(inputs))
        with _Held() as held:
            outputs = network.output(run_streams(network.recurrent, inputs, chunk=chunk, states=states))
            errors = (outputs - target).squeeze(-1).square().masked_fill(~mask, 0.0).sum()
            # Far from all marks a short chunk may have nothing to learn from.
            value: Tensor = errors / mask.sum().clamp(min=1)
        if not memory and number == len(pieces) // 2:
            memory.append(held.mib(network))
        return value

    def test() -> float:
        counted = unseen.age >= youngest
        return float(F.mse_loss(network(unseen.inputs).squeeze(-1)[counted], unseen.target.squeeze(-1)[counted]))

    num_updates = settings["num_passes"] * len(pieces)
    curve = fit(network, loss, num_updates=num_updates, lr=settings["lr"], test=test, num_tests=1)
    # The median leaves out the first calls of a process, which prepare kernels.
    seconds = median(after - before for before, after in pairwise(pass_starts))
    values = {"error": curve["y"][-1], "updates": num_updates, "seconds": seconds, "memory": memory[0]}
    return Measured(values, {})


class _Held:
    """What a forward pass keeps for the backward pass."""

    def __init__(self) -> None:
        # The tensors themselves, so that no two that live one after the other share an address.
        self._kept: list[Tensor] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        self._kept.append(tensor.detach())
        return tensor

    def __enter__(self) -> _Held:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def mib(self, network: torch.nn.Module) -> float:
        """MiB of distinct memory, the weights left out."""
        storages = {kept.untyped_storage().data_ptr(): kept.untyped_storage().nbytes() for kept in self._kept}
        for parameter in network.parameters():
            storages.pop(parameter.untyped_storage().data_ptr(), None)
        return sum(storages.values()) / 2**20


WHOLE, LONG, LONG_OVERLAPPING, SHORT, DROPPED = CUTS


def findings(record: Record) -> list[Finding]:
    """What truncation saves, what it costs, what the carried state is for."""
    num_steps, size = record.settings["num_steps"], CUTS[SHORT].chunk_size
    assert size is not None
    memory = record.mean(WHOLE, "memory") / record.mean(SHORT, "memory")
    return [
        Finding(
            "Memory goes with the length of the chunk, not with that of the stream",
            holds(0.8 * num_steps / size < memory < 1.25 * num_steps / size),
            f"{figure(record.mean(WHOLE, 'memory'))} against {figure(record.mean(SHORT, 'memory'))} MiB",
        ),
        record.less(
            SHORT, WHOLE, "seconds", statement="Chunks of 25 take less computing time a pass than whole streams"
        ),
        record.less(SHORT, WHOLE, "error", statement="In as many passes chunks of 25 learn more than whole streams"),
        record.less(SHORT, DROPPED, "error", statement="The state must be carried over"),
    ]


def reach_findings(record: Record) -> list[Finding]:
    """What lies further back than a chunk."""
    return [
        record.less(LONG, SHORT, "error", statement="Chunks of 100 learn more than chunks of 25"),
        record.less(LONG_OVERLAPPING, LONG, "error", statement="Moving chunks of 100 on by 50 learns more"),
        record.less(LONG, WHOLE, "error", statement="In as many passes chunks of 100 learn more than whole streams"),
        Finding(
            "Chunks of 25 learn nothing: the error stays that of always answering 0, 1/3",
            holds(abs(record.mean(SHORT, "error") - 1 / 3) < 0.05),
            record.figures((SHORT,), "error"),
        ),
    ]


def draw(record: Record, figure: Figure) -> None:
    """Error, memory, time."""
    axes = figure.subplots(1, 3)
    names = ("whole", "100", "100,\nby 50", "25", "25, not\ncarried")
    titles = (
        ("error", "error on other streams", "mean squared error"),
        ("memory", "held for the backward pass", "MiB an update"),
        ("seconds", "computing time of a pass", "seconds on one core"),
    )
    for axis, (key, title, label) in zip(axes, titles, strict=True):
        bars = {short: record.values(case, key) for case, short in zip(CUTS, names, strict=True)}
        draw_bars(axis, bars, y=label)
        axis.tick_params(axis="x", labelsize=7.5)
        axis.set_title(title, loc="left", fontsize=10)
    axes[1].set_xlabel("steps of a chunk")
    youngest = record.settings["youngest"]
    where = f"loss {youngest} and more steps after the mark" if youngest else "loss at every step"
    figure.suptitle(f"Streams of {record.settings['num_steps']:,} steps, whole and in chunks, {where}")


SETTINGS = {
    "num_steps": 2000,
    "shortest": 35,
    "longest": 50,
    "youngest": 0,
    "hidden_size": 24,
    "forget_bias": 3.0,
    "batch_size": 8,
    "num_passes": 60,
    "num_test": 8,
}
TINY = {
    "num_steps": 130,
    "shortest": 30,
    "longest": 35,
    "hidden_size": 3,
    "batch_size": 2,
    "num_passes": 2,
    "num_test": 2,
}
COLUMNS = (
    Column("error", "mean squared error", ""),
    Column("updates", "updates", ""),
    Column("seconds", "a pass", "s"),
    Column("memory", "held for the backward pass", "MiB"),
)
RATES = (0.003, 0.01, 0.03)

TRUNCATION = Experiment(
    name="truncation",
    lines=("N6",),
    claim="For 1,000 and more steps back-propagation through time is truncated: chunks of k2 steps, moved on by k1, "
    "the state carried over.",
    settings=SETTINGS,
    tiny=TINY,
    tuning={"num_passes": 30},
    cases=tuple(CUTS),
    columns=COLUMNS,
    run=run,
    findings=findings,
    draw=draw,
    rates=RATES,
)
REACH = Experiment(
    name="truncation_reach",
    lines=("N6",),
    claim="What is cut off: no gradient reaches further back than a chunk.",
    settings={**SETTINGS, "youngest": 26, "num_passes": 100},
    tiny=TINY,
    cases=tuple(CUTS),
    columns=COLUMNS,
    run=run,
    findings=reach_findings,
    draw=draw,
    rates=RATES,
)
