"""Teacher forcing, free running and scheduled sampling (notes N7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings
from benchmarks.notes.learning import fit
from benchmarks.notes.plots import draw_lines
from benchmarks.notes.tasks import waves
from core.nn.decoders.decoder_config import DecoderConfig, FirstStateOnly
from core.nn.decoders.vector_decoder import VectorDecoder
from core.nn.encoder_decoder import EncoderDecoder, RecurrentEncoder
from core.nn.recurrent import RecurrentConfig
from core.nn.teacher_forcing import AlwaysTrue, NeverTrue, ScheduledSamplingLinear, TeacherForcingConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORCED, SCHEDULED, FREE = "teacher forcing", "scheduled sampling", "free running"


def schedule_of(case: str, *, num_updates: int) -> TeacherForcingConfig:
    """How often the true value is read; scheduled: from always to never over three quarters of the updates."""
    if case == FORCED:
        return AlwaysTrue()
    return NeverTrue() if case == FREE else ScheduledSamplingLinear(slope=1 / (0.75 * num_updates))


def build(*, hidden_size: int) -> EncoderDecoder:
    """An LSTM that reads the context, and one that goes on from its state."""
    recurrent = RecurrentConfig(kind="lstm", hidden_size=hidden_size)
    encoder = RecurrentEncoder(recurrent, input_size=1)
    config = DecoderConfig(recurrent=recurrent, context=FirstStateOnly(), bridge="copy", readout="state")
    decoder = VectorDecoder(config, value_size=1, num_outputs=1, source=encoder.source_shape)
    return EncoderDecoder(encoder, decoder)


def run(case: str, settings: Settings) -> Measured:
    """Waves continued: root mean squared error free running, as at inference, and with the true values given."""
    context, horizon = settings["context"], settings["horizon"]
    network = build(hidden_size=settings["hidden_size"])
    schedule = schedule_of(case, num_updates=settings["num_updates"])

    def answer(series: Tensor, true_probability: float) -> Tensor:
        lengths = torch.full((len(series),), context)
        previous = series[:, context - 1 : -1]
        outputs: Tensor = network(
            series[:, :context], lengths, previous, None, true_probability=true_probability
        ).outputs
        return outputs

    def draw_series(num_examples: int) -> Tensor:
        return waves(num_examples, num_steps=context + horizon, noise=settings["noise"])

    unseen = draw_series(settings["num_test"])

    def loss(update: int) -> Tensor:
        series = draw_series(settings["batch_size"])
        return F.mse_loss(answer(series, schedule.true_probability(update)), series[:, context:])

    def errors(true_probability: float) -> Tensor:
        return (answer(unseen, true_probability) - unseen[:, context:]).squeeze(-1).square().mean(0)

    def test() -> float:
        return float(errors(0.0).mean().sqrt())

    fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test, num_tests=4)
    with torch.no_grad():
        free, given = errors(0.0), errors(1.0)
    by_step = free.sqrt().tolist()
    return Measured(
        {
            "free": float(free.mean().sqrt()),
            "first": by_step[0],
            "last": by_step[-1],
            "given": float(given.mean().sqrt()),
        },
        {"free": {"x": [float(step + 1) for step in range(horizon)], "y": by_step}},
    )


def findings(record: Record) -> list[Finding]:
    """At inference, and with the truth given."""
    return [
        record.less(
            SCHEDULED, FORCED, "free", statement="At inference scheduled sampling does better than teacher forcing"
        ),
        record.less(
            FREE, FORCED, "free", statement="At inference training free running does better than teacher forcing"
        ),
        record.less(FORCED, FREE, "given", statement="With the true y(t-1) given, teacher forcing does better"),
        record.less(FREE, SCHEDULED, "free", statement="At inference free running does better than scheduled sampling"),
    ]


def draw(record: Record, figure: Figure) -> None:
    """Error by step of the horizon."""
    axis = figure.subplots()
    level = (record.settings["noise"], "the noise of the series")
    draw_lines(axis, record.curves("free"), x="step of the horizon", y="root mean squared error", level=level)
    axis.set_ylim(bottom=0)
    figure.suptitle("Waves continued on its own predictions, by what the decoder read in training")


FEEDBACK = Experiment(
    name="feedback",
    lines=("N7",),
    claim="In training the true y(t-1) is the next input, at inference the prediction.",
    settings={
        "context": 40,
        "horizon": 40,
        "noise": 0.1,
        "hidden_size": 32,
        "batch_size": 32,
        "num_updates": 800,
        "num_test": 300,
    },
    tiny={"context": 4, "horizon": 3, "hidden_size": 3, "num_updates": 4, "num_test": 6},
    tuning={"num_updates": 500},
    cases=(FORCED, SCHEDULED, FREE),
    columns=(
        Column("free", "at inference", "RMSE"),
        Column("first", "its first step", "RMSE"),
        Column("last", "its last step", "RMSE"),
        Column("given", "true values given", "RMSE"),
    ),
    run=run,
    findings=findings,
    draw=draw,
    rates=(0.003, 0.01, 0.03),
)
