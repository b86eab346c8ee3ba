"""More layers, and a second direction, at an equal number of parameters (notes N8, N9)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings, told_apart
from benchmarks.notes.learning import ManyToMany, count_parameters, fit, widest
from benchmarks.notes.plots import draw_bars, draw_lines
from benchmarks.notes.tasks import TEMPERATURE, cascade, read_weather
from core.nn.recurrent import RecurrentConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTHS = {"1 layer": 1, "2 layers": 2, "3 layers": 3, "4 layers": 4}
ONE_WAY, TWO_WAYS = "one direction", "bidirectional"
GAP, NEXT = "a day in the middle", "the day after the last"
DIRECTION_CASES = tuple(f"{place}: {way}" for place in (GAP, NEXT) for way in (ONE_WAY, TWO_WAYS))


def run_depth(case: str, settings: Settings) -> Measured:
    """The cascade's last stage at every step: mean squared error."""
    sizes = {"num_steps": settings["num_steps"], "num_stages": settings["num_stages"]}
    inputs, answers = cascade(settings["num_test"], **sizes)

    def build(width: int) -> ManyToMany:
        config = RecurrentConfig(kind="lstm", hidden_size=width, num_layers=DEPTHS[case])
        return ManyToMany(config, input_size=1, num_outputs=1)

    network = widest(build, num_parameters=settings["num_parameters"])

    def loss(_: int) -> Tensor:
        batch, wanted = cascade(settings["batch_size"], **sizes)
        return F.mse_loss(network(batch), wanted)

    def test() -> float:
        return float(F.mse_loss(network(inputs), answers))

    curve = fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    # Relative to always answering 0.
    scale = float(answers.square().mean())
    curve["y"] = [error / scale for error in curve["y"]]
    return Measured({"error": curve["y"][-1], "parameters": count_parameters(network)}, {"error": curve})


def depth_findings(record: Record) -> list[Finding]:
    """Each layer more against the one before."""
    names = list(DEPTHS)
    return [
        record.less(deeper, name, "error", statement=f"{deeper} do better than {name} at equal size")
        for name, deeper in pairwise(names)
    ]


def draw_depth(record: Record, figure: Figure) -> None:
    """Error over the updates, by depth."""
    axis = figure.subplots()
    draw_lines(axis, record.curves("error"), x="updates", y="mean squared error / variance")
    axis.set_ylim(0, 1.05)
    figure.suptitle(f"A cascade of {record.settings['num_stages']} stages, LSTM layers, equally many parameters")


def run_directions(case: str, settings: Settings) -> Measured:
    """The highest temperature of a day that is hidden: mean absolute error in degrees C.

    All four values of the day are hidden and a mark says so; the answer is read at its step.
    """
    place, _, way = case.partition(": ")
    weather = read_weather(test_year=settings["test_year"])
    num_days = settings["num_days"]
    hidden = num_days // 2 if place == GAP else num_days - 1
    train, test_windows = (weather.windows(num_days=num_days, test=test) for test in (False, True))

    def build(width: int) -> ManyToMany:
        config = RecurrentConfig(kind="lstm", hidden_size=width, bidirectional=way == TWO_WAYS)
        return ManyToMany(config, input_size=train.shape[-1] + 1, num_outputs=1)

    network = widest(build, num_parameters=settings["num_parameters"])

    def answer(windows: Tensor) -> Tensor:
        mark = torch.zeros(*windows.shape[:2], 1)
        mark[:, hidden] = 1.0
        seen: Tensor = network(torch.cat([windows * (1 - mark), mark], dim=-1))
        return seen[:, hidden, 0]

    def loss(_: int) -> Tensor:
        batch = train[torch.randint(len(train), (settings["batch_size"],))]
        return F.mse_loss(answer(batch), batch[:, hidden, TEMPERATURE])

    def test() -> float:
        wanted = test_windows[:, hidden, TEMPERATURE]
        return weather.degrees * float((answer(test_windows) - wanted).abs().mean())

    curve = fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    return Measured({"error": curve["y"][-1], "parameters": count_parameters(network)}, {"error": curve})


def direction_findings(record: Record) -> list[Finding]:
    """Where there is a future to read, and where there is none."""
    cases = f"{NEXT}: {TWO_WAYS}", f"{NEXT}: {ONE_WAY}"
    better = told_apart(record.values(cases[0], "error"), record.values(cases[1], "error"))
    return [
        record.less(
            f"{GAP}: {TWO_WAYS}",
            f"{GAP}: {ONE_WAY}",
            "error",
            statement="Bidirectional does better where days on both sides are known",
        ),
        Finding(
            "Bidirectional does no better where nothing follows",
            "no" if better == "yes" else "yes",
            record.figures(cases, "error"),
        ),
    ]


def draw_directions(record: Record, figure: Figure) -> None:
    """A bar a case."""
    axis = figure.subplots()
    values = {case.replace(": ", ":\n"): record.values(case, "error") for case in DIRECTION_CASES}
    draw_bars(axis, values, y="mean absolute error (degrees C)")
    figure.suptitle(f"A hidden day's highest temperature from {record.settings['num_days'] - 1} others")


ERROR, SIZE = "error", Column("parameters", "parameters", "")

DEPTH = Experiment(
    name="depth",
    lines=("N9",),
    claim="A deep recurrent network is a stack of recurrent layers.",
    settings={
        "num_stages": 3,
        "num_steps": 40,
        "num_parameters": 6000,
        "batch_size": 32,
        "num_updates": 900,
        "num_test": 200,
    },
    tiny={"num_steps": 5, "num_parameters": 600, "num_updates": 4, "num_test": 8},
    tuning={"num_updates": 600},
    cases=tuple(DEPTHS),
    columns=(Column(ERROR, "mean squared error / variance", ""), SIZE),
    run=run_depth,
    findings=depth_findings,
    draw=draw_depth,
    rates=(0.003, 0.01, 0.03),
)
DIRECTIONS = Experiment(
    name="directions",
    lines=("N8",),
    claim="A bidirectional network reads a sequence forward and backward.",
    settings={"num_days": 29, "num_parameters": 3000, "batch_size": 64, "num_updates": 400, "test_year": 2015},
    tiny={"num_days": 5, "num_parameters": 300, "num_updates": 4, "batch_size": 4},
    tuning={"test_year": 2014},
    cases=DIRECTION_CASES,
    columns=(Column(ERROR, "mean absolute error", "degrees C"), SIZE),
    run=run_directions,
    findings=direction_findings,
    draw=draw_directions,
    rates=(0.001, 0.003, 0.01),
)
