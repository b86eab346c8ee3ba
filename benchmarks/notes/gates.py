"""Feed-forward, tanh and gated networks with equally many parameters (notes N1, N12, N13)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings
from benchmarks.notes.learning import (
    FEED_FORWARD,
    NETWORKS,
    ManyToMany,
    ManyToOne,
    WholeWindow,
    count_parameters,
    fit,
    widest,
)
from benchmarks.notes.plots import draw_lines
from benchmarks.notes.tasks import ALPHABET, TEMPERATURE, adding_problem, copy_task, read_weather
from core.nn.gradient_flow import decades_lost, network_gradient_norms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES = (FEED_FORWARD, *NETWORKS)
RATES = (0.003, 0.01, 0.03)
PERSISTENCE = "the same as today"
UNIFORM = "tanh, uniform start"
"""A tanh network whose recurrent weights are not orthogonal at the start."""


def build(case: str, settings: Settings, *, window: int, input_size: int, num_outputs: int) -> nn.Module:
    """The widest network of that name with at most `num_parameters` parameters and one output."""
    if case == FEED_FORWARD:
        return widest(
            lambda width: WholeWindow(width, num_steps=window, input_size=input_size, num_outputs=num_outputs),
            num_parameters=settings["num_parameters"],
        )
    return widest(
        lambda width: ManyToOne(
            replace(NETWORKS[case], hidden_size=width), input_size=input_size, num_outputs=num_outputs
        ),
        num_parameters=settings["num_parameters"],
    )


def run_adding(case: str, settings: Settings) -> Measured:
    """The adding problem: error over the updates, and how far the gradient reaches before and after."""
    num_steps = settings["num_steps"]
    inputs, answers = adding_problem(settings["num_test"], num_steps=num_steps)
    network = build(case, settings, window=num_steps, input_size=2, num_outputs=1)

    def loss(_: int) -> Tensor:
        batch, wanted = adding_problem(settings["batch_size"], num_steps=num_steps)
        return F.mse_loss(network(batch)[:, 0], wanted)

    def test() -> float:
        return float(F.mse_loss(network(inputs)[:, 0], answers))

    curve = fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    values: dict[str, float] = {"error": curve["y"][-1], "parameters": count_parameters(network)}
    if case != FEED_FORWARD:
        norms = network_gradient_norms(network, lambda: F.mse_loss(network(inputs[:50])[:, 0], answers[:50]))
        values["decades"] = decades_lost(norms["recurrent"][0])
    return Measured(values, {"error": curve})


class CopyAtEnd(nn.Module):
    """Scores of the symbols in the last steps: of a feed-forward network all at once."""

    def __init__(self, network: nn.Module, *, num_symbols: int) -> None:
        super().__init__()
        self.network = network
        self.num_symbols = num_symbols

    def forward(self, inputs: Tensor) -> Tensor:
        """`(batch, time, features)` -> `(batch, symbols, ALPHABET)`."""
        scores: Tensor = self.network(inputs)
        if scores.ndim == 2:
            return scores.reshape(len(inputs), self.num_symbols, ALPHABET)
        return scores[:, -self.num_symbols :]


def run_copying(case: str, settings: Settings) -> Measured:
    """The copy task: share of symbols that are wrong."""
    num_symbols, delay = settings["num_symbols"], settings["delay"]
    inputs, symbols = copy_task(settings["num_test"], num_symbols=num_symbols, delay=delay)
    features = inputs.shape[-1]

    def network_of(width: int) -> nn.Module:
        if case == FEED_FORWARD:
            return WholeWindow(
                width, num_steps=inputs.shape[1], input_size=features, num_outputs=num_symbols * ALPHABET
            )
        config = NETWORKS["tanh" if case == UNIFORM else case]
        return ManyToMany(replace(config, hidden_size=width), input_size=features, num_outputs=ALPHABET)

    network = CopyAtEnd(widest(network_of, num_parameters=settings["num_parameters"]), num_symbols=num_symbols)
    if case == UNIFORM:
        weight = network.network.get_parameter("recurrent.weight_hh_l0")
        # As `torch.nn.RNN` starts.
        nn.init.uniform_(weight, -(len(weight) ** -0.5), len(weight) ** -0.5)

    def loss(_: int) -> Tensor:
        batch, wanted = copy_task(settings["batch_size"], num_symbols=num_symbols, delay=delay)
        return F.cross_entropy(network(batch).flatten(0, 1), wanted.flatten())

    def test() -> float:
        return float((network(inputs).argmax(-1) != symbols).float().mean())

    curve = fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    return Measured({"error": curve["y"][-1], "parameters": count_parameters(network)}, {"error": curve})


def run_weather(case: str, settings: Settings) -> Measured:
    """Tomorrow's highest temperature from the days before: mean absolute error in degrees C."""
    weather = read_weather(test_year=settings["test_year"])
    train, test_windows = (weather.windows(num_days=settings["num_days"] + 1, test=test) for test in (False, True))
    wanted = test_windows[:, -1, TEMPERATURE]
    if case == PERSISTENCE:
        error = weather.degrees * float((test_windows[:, -2, TEMPERATURE] - wanted).abs().mean())
        return Measured({"error": error, "parameters": 0}, {})
    network = build(case, settings, window=settings["num_days"], input_size=train.shape[-1], num_outputs=1)

    def loss(_: int) -> Tensor:
        batch = train[torch.randint(len(train), (settings["batch_size"],))]
        return F.mse_loss(network(batch[:, :-1])[:, 0], batch[:, -1, TEMPERATURE])

    def test() -> float:
        return weather.degrees * float((network(test_windows[:, :-1])[:, 0] - wanted).abs().mean())

    curve = fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    return Measured({"error": curve["y"][-1], "parameters": count_parameters(network)}, {"error": curve})


def findings(record: Record) -> list[Finding]:
    """Gates against tanh, recurrence against none."""
    return [
        *(
            record.less(case, "tanh", "error", statement=f"{case} does better than tanh at equal size")
            for case in ("LSTM", "GRU", "LSTM, layer norm", "minGRU")
        ),
        *(
            record.less(case, FEED_FORWARD, "error", statement=f"{case} does better than feed-forward at equal size")
            for case in ("tanh", "LSTM", "GRU")
        ),
    ]


def adding_findings(record: Record) -> list[Finding]:
    """Also whether the gradient reaches further once it is trained."""
    return [
        *findings(record),
        *(
            record.less(case, "tanh", "decades", statement=f"{case}, trained, loses less of the gradient than tanh")
            for case in ("LSTM", "GRU")
        ),
    ]


def copying_findings(record: Record) -> list[Finding]:
    """Also what the orthogonal start is worth to a network without gates."""
    return [
        *findings(record),
        record.less("tanh", UNIFORM, "error", statement="tanh needs its orthogonal start"),
        *(
            record.less(case, UNIFORM, "error", statement=f"{case} does better than tanh from a uniform start")
            for case in ("LSTM", "GRU")
        ),
    ]


def weather_findings(record: Record) -> list[Finding]:
    """Also whether anything was learnt."""
    return [
        *findings(record),
        record.less("LSTM", PERSISTENCE, "error", statement="The LSTM does better than saying the same as today"),
    ]


def draw_adding(record: Record, figure: Figure) -> None:
    """Error over the updates."""
    axis = figure.subplots()
    level = (1 / 6, "always answering 1")
    draw_lines(axis, record.curves("error"), x="updates", y="mean squared error", log=True, level=level)
    figure.suptitle(f"Adding problem, {record.settings['num_steps']} steps, equally many parameters")


def draw_copying(record: Record, figure: Figure) -> None:
    """Wrong symbols over the updates."""
    axis = figure.subplots()
    level = (1 - 1 / ALPHABET, "guessing")
    draw_lines(axis, record.curves("error"), x="updates", y="share of wrong symbols", level=level)
    axis.set_ylim(0, 1)
    figure.suptitle(
        f"Copying {record.settings['num_symbols']} symbols over {record.settings['delay']} steps, "
        "equally many parameters"
    )


def draw_weather(record: Record, figure: Figure) -> None:
    """Error over the updates."""
    axis = figure.subplots()
    level = (record.mean(PERSISTENCE, "error"), PERSISTENCE)
    draw_lines(axis, record.curves("error"), x="updates", y="mean absolute error (degrees C)", level=level)
    axis.set_ylim(1.8, 3.2)
    figure.suptitle("Tomorrow's highest temperature in Seattle, equally many parameters")


ERROR, SIZE = "error", Column("parameters", "parameters", "")
CLAIM = "At an equal parameter count gated units do better than tanh; a recurrent network does better than a feed-forward one."

ADDING = Experiment(
    name="adding",
    lines=("N1", "N12", "N13"),
    claim=CLAIM,
    settings={"num_steps": 50, "num_parameters": 6000, "batch_size": 32, "num_updates": 2000, "num_test": 500},
    tiny={"num_steps": 6, "num_parameters": 150, "num_updates": 4, "num_test": 8},
    tuning={"num_updates": 1250},
    cases=CASES,
    columns=(
        Column(ERROR, "mean squared error", ""),
        Column("decades", "decades of the gradient lost, trained", "powers of ten"),
        SIZE,
    ),
    run=run_adding,
    findings=adding_findings,
    draw=draw_adding,
    rates=RATES,
)
COPYING = Experiment(
    name="copying",
    lines=("N1", "N12", "N13"),
    claim=CLAIM,
    settings={
        "num_symbols": 5,
        "delay": 20,
        "num_parameters": 6000,
        "batch_size": 32,
        "num_updates": 2000,
        "num_test": 200,
    },
    tiny={"num_symbols": 2, "delay": 3, "num_parameters": 400, "num_updates": 4, "num_test": 8},
    tuning={"num_updates": 1000},
    cases=(*CASES, UNIFORM),
    columns=(Column(ERROR, "share of wrong symbols", ""), SIZE),
    run=run_copying,
    findings=copying_findings,
    draw=draw_copying,
    rates=RATES,
)
WEATHER = Experiment(
    name="weather",
    lines=("N1", "N12", "N13", "N17"),
    claim=CLAIM,
    settings={"num_days": 28, "num_parameters": 3000, "batch_size": 64, "num_updates": 400, "test_year": 2015},
    tiny={"num_days": 3, "num_parameters": 200, "num_updates": 4, "batch_size": 4},
    # The year before the test year chooses the rate.
    tuning={"test_year": 2014},
    cases=(PERSISTENCE, *CASES),
    columns=(Column(ERROR, "mean absolute error", "degrees C"), SIZE),
    run=run_weather,
    findings=weather_findings,
    draw=draw_weather,
    rates=(0.001, 0.003, 0.01),
)
