"""How many parameters a recurrent layer has, by cell: counted (notes N3, N12, N13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings, figure, holds
from benchmarks.notes.learning import count_parameters
from benchmarks.notes.plots import draw_bars
from core.nn.recurrent import Recurrent, RecurrentConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from core.nn.cells import CellKind

KINDS: dict[str, CellKind] = {
    "tanh": "rnn_tanh",
    "LSTM": "lstm",
    "GRU": "gru",
    "minLSTM": "min_lstm",
    "minGRU": "min_gru",
}


def run(case: str, settings: Settings) -> Measured:
    """The count, and its ratio to that of the tanh layer of the same width."""

    def count(kind: CellKind) -> int:
        config = RecurrentConfig(kind=kind, hidden_size=settings["hidden_size"])
        return count_parameters(Recurrent(config, input_size=settings["input_size"]))

    own = count(KINDS[case])
    return Measured({"parameters": own, "ratio": own / count("rnn_tanh")}, {})


def findings(record: Record) -> list[Finding]:
    """The two ratios of the notes."""
    return [
        Finding(
            f"{case}: {times} times the parameters of the tanh layer",
            holds(record.mean(case, "ratio") == times),
            figure(record.mean(case, "ratio")),
        )
        for case, times in (("LSTM", 4), ("GRU", 3))
    ]


def draw(record: Record, figure: Figure) -> None:
    """A bar a cell."""
    axis = figure.subplots()
    draw_bars(axis, {case: record.values(case, "parameters") for case in KINDS}, y="parameters")
    hidden_size, input_size = record.settings["hidden_size"], record.settings["input_size"]
    figure.suptitle(f"Parameters of one layer of {hidden_size} units over {input_size} inputs")


PARAMETERS = Experiment(
    name="parameters",
    lines=("N12", "N13"),
    claim="An LSTM has 4 times the parameters of the tanh network, a GRU 3 times.",
    settings={"hidden_size": 64, "input_size": 32},
    tiny={"hidden_size": 3, "input_size": 2},
    cases=tuple(KINDS),
    columns=(Column("parameters", "parameters", ""), Column("ratio", "relative to tanh", "")),
    run=run,
    findings=findings,
    draw=draw,
    seeds=(1,),
)
