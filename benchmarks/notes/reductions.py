"""Many to one: the last state or a combination of all; the cost: per token or per sequence (notes N4, N5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings, figure, holds
from benchmarks.notes.learning import ManyToMany, fit
from benchmarks.notes.plots import draw_lines
from benchmarks.notes.tasks import marked_value, two_lengths
from core.nn.lengths import valid_steps
from core.nn.losses import MeanOver, SummedLoss, squared_error, summed_loss
from core.nn.pooling import PoolingKind, build_pooling
from core.nn.recurrent import Recurrent, RecurrentConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

END, ANYWHERE = "end", "anywhere"
POOLINGS: tuple[PoolingKind, ...] = get_args(PoolingKind)


class Pooled(nn.Module):
    """Recurrent layers, a reduction over time, a linear output."""

    def __init__(self, config: RecurrentConfig, *, kind: PoolingKind) -> None:
        super().__init__()
        self.recurrent = Recurrent(config, input_size=2)
        self.pooling = build_pooling(kind, num_features=config.output_size, bidirectional=config.bidirectional)
        self.output = nn.Linear(config.output_size, 1)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, time, 2)` -> `(batch,)`."""
        outputs, _ = self.recurrent(inputs, lengths)
        answer: Tensor = self.output(self.pooling(outputs, lengths))
        return answer.squeeze(1)


def pooling_case(kind: str, place: str) -> str:
    """Name of a case."""
    return f"{kind}, mark at the end" if place == END else f"{kind}, mark anywhere"


POOLING_CASES = {pooling_case(kind, place): (kind, place) for place in (END, ANYWHERE) for kind in POOLINGS}


def run_pooling(case: str, settings: Settings) -> Measured:
    """The marked value of ragged sequences: mean squared error."""
    kind, place = POOLING_CASES[case]

    def draw(num_examples: int) -> tuple[Tensor, Tensor, Tensor]:
        return marked_value(num_examples, shortest=settings["shortest"], longest=settings["longest"], place=place)

    inputs, lengths, answers = draw(settings["num_test"])
    network = Pooled(RecurrentConfig(kind="lstm", hidden_size=settings["hidden_size"]), kind=kind)

    def loss(_: int) -> Tensor:
        batch, of_batch, wanted = draw(settings["batch_size"])
        return F.mse_loss(network(batch, of_batch), wanted)

    def test() -> float:
        return float(F.mse_loss(network(inputs, lengths), answers))

    curve = fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    return Measured({"error": curve["y"][-1]}, {"error": curve})


def pooling_findings(record: Record) -> list[Finding]:
    """Combinations against the last state, by where the answer stands."""
    last_anywhere, last_end = pooling_case("last", ANYWHERE), pooling_case("last", END)
    return [
        *(
            record.less(
                pooling_case(kind, ANYWHERE),
                last_anywhere,
                "error",
                statement=f"Mark anywhere: {kind} does better than the last state",
            )
            for kind in POOLINGS
            if kind != "last"
        ),
        *(
            record.less(
                last_end,
                pooling_case(kind, END),
                "error",
                statement=f"Mark at the end: the last state does better than {kind}",
            )
            for kind in POOLINGS
            if kind != "last"
        ),
    ]


def draw_pooling(record: Record, figure: Figure) -> None:
    """Error over the updates: mark at the end left, anywhere right."""
    axes = figure.subplots(1, 2, sharey=True)
    curves = record.curves("error")
    for axis, place, title in zip(axes, (END, ANYWHERE), ("mark at the end", "mark anywhere"), strict=True):
        draw_lines(
            axis,
            {kind: curves[pooling_case(kind, place)] for kind in POOLINGS},
            x="updates",
            y="mean squared error" if place == END else None,
            log=True,
            level=(1 / 3, "always answering 0"),
        )
        axis.set_title(title, loc="left", fontsize=10)
    shortest, longest = record.settings["shortest"], record.settings["longest"]
    figure.suptitle(f"Which value was marked among {shortest} to {longest}: the last state and combinations of all")


MEANS: dict[str, MeanOver] = {"cost per token": "token", "cost per sequence": "sequence"}


def run_loss_mean(case: str, settings: Settings) -> Measured:
    """Trained with one of the costs, measured by both; and what is answered at the first step, before anything is known."""
    sizes = {"short": settings["short"], "long": settings["long"], "cue": settings["cue"]}
    inputs, lengths, target = two_lengths(settings["num_test"], **sizes)
    network = ManyToMany(RecurrentConfig(kind="lstm", hidden_size=settings["hidden_size"]), input_size=1, num_outputs=1)

    def cost(batch: Tensor, of_batch: Tensor, wanted: Tensor, mean: MeanOver) -> Tensor:
        mask = valid_steps(of_batch, wanted.shape[1])
        answers = network(batch, of_batch).squeeze(-1)
        summed: SummedLoss = summed_loss(squared_error(answers, wanted, mask=mask), mask=mask, mean=mean)
        return summed.sum / summed.count

    def loss(_: int) -> Tensor:
        return cost(*two_lengths(settings["batch_size"], **sizes), MEANS[case])

    def test() -> float:
        return float(cost(inputs, lengths, target, MEANS[case]))

    fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test)
    with torch.no_grad():
        answers = network(inputs, lengths).squeeze(-1)
        costs: dict[str, float] = {mean: float(cost(inputs, lengths, target, mean)) for mean in MEANS.values()}
    shared = settings["short"]
    mean_answer = answers[:, :shared].mean(0).tolist()
    return Measured(
        {**costs, "trained_on": costs[MEANS[case]], "first": mean_answer[0]},
        {"answer": {"x": [float(step + 1) for step in range(shared)], "y": mean_answer}},
    )


def best_first_answer(settings: Settings, mean: MeanOver) -> float:
    """What the answer that minimises a cost is at the first step, in the mean over the sequences.

    For an input x the best answer is the mean target given x, each sequence weighed as the cost weighs a step of it: the
    tanh of half the log-odds log(w_short / w_long) + 2 cue x. Its mean over x is a sum over a fine grid.
    """
    odds = settings["long"] / settings["short"] if mean == "sequence" else 1.0
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    cue = settings["cue"]
    density = torch.exp(-((x - cue) ** 2) / 2) + torch.exp(-((x + cue) ** 2) / 2)
    answer = torch.tanh(math.log(odds) / 2 + cue * x)
    return float((density * answer).sum() / density.sum())


def loss_mean_findings(record: Record) -> list[Finding]:
    """Each cost is best served by itself, and they are different costs."""
    token, sequence = MEANS
    expected = best_first_answer(record.settings, "sequence")
    first = record.mean(sequence, "first")
    return [
        record.less(token, sequence, "token", statement="Measured per token, training per token does better"),
        record.less(sequence, token, "sequence", statement="Measured per sequence, training per sequence does better"),
        Finding(
            f"Per sequence, the first answer leans to the short sequences, within 0.1 of the best {figure(expected)}",
            holds(abs(first - expected) < 0.1),
            f"{figure(first)} ± {figure(record.spread(sequence, 'first'))}",
        ),
        Finding(
            "Per token, the first answer leans to neither, within 0.1 of the best, 0",
            holds(abs(record.mean(token, "first")) < 0.1),
            f"{figure(record.mean(token, 'first'))} ± {figure(record.spread(token, 'first'))}",
        ),
    ]


def draw_loss_mean(record: Record, figure: Figure) -> None:
    """The mean answer over the steps that short and long sequences share."""
    axis = figure.subplots()
    draw_lines(axis, record.curves("answer"), x="step", y="mean answer (short: 1, long: -1)")
    axis.set_ylim(-1, 1)
    short, long = record.settings["short"], record.settings["long"]
    figure.suptitle(f"What the cost weighs: sequences of {short} and of {long} steps, equally many of each")


POOLING = Experiment(
    name="pooling",
    lines=("N5",),
    claim="Many-to-one: the loss on the last h(T) or on a combination of all hidden states.",
    settings={
        "shortest": 40,
        "longest": 80,
        "hidden_size": 24,
        "batch_size": 32,
        "num_updates": 600,
        "num_test": 300,
    },
    tiny={"shortest": 3, "longest": 5, "hidden_size": 3, "num_updates": 4, "num_test": 8},
    tuning={"num_updates": 300},
    cases=tuple(POOLING_CASES),
    columns=(Column("error", "mean squared error", ""),),
    run=run_pooling,
    findings=pooling_findings,
    draw=draw_pooling,
    rates=(0.003, 0.01, 0.03),
)
LOSS_MEAN = Experiment(
    name="loss_mean",
    lines=("N4",),
    claim="J = 1/n sum_i [1/m_i sum_t L] weighs every sequence the same, the mean per token every step.",
    settings={
        "short": 10,
        "long": 50,
        "cue": 0.3,
        "hidden_size": 8,
        "batch_size": 64,
        "num_updates": 500,
        "num_test": 1000,
    },
    tiny={"short": 2, "long": 4, "hidden_size": 3, "num_updates": 4, "num_test": 8},
    tuning={"num_updates": 250},
    cases=tuple(MEANS),
    columns=(
        Column("trained_on", "the cost it was trained on", ""),
        Column("token", "cost per token", ""),
        Column("sequence", "cost per sequence", ""),
        Column("first", "first answer", ""),
    ),
    run=run_loss_mean,
    findings=loss_mean_findings,
    draw=draw_loss_mean,
    rates=(0.003, 0.01, 0.03),
)
