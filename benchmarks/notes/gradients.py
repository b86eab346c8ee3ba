"""How far a gradient reaches back, by cell and by the size of its weights (notes N11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings, figure, holds
from benchmarks.notes.plots import draw_lines
from core.nn.gradient_flow import decades_lost, hidden_gradient_norms
from core.nn.recurrent import Recurrent, RecurrentConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from core.nn.cells import CellKind

KINDS: dict[str, CellKind] = {
    "tanh": "rnn_tanh",
    "sigmoid": "rnn_sigmoid",
    "ReLU": "rnn_relu",
    "LSTM": "lstm",
    "GRU": "gru",
}
DOUBLED = ", recurrent weights x 2"
OPEN = ", gates that hold"
HOLDING = {"lstm": (4, 1), "gru": (3, 1)}
"""Number of gates, and which of them keeps the state: the LSTM's forget gate and the GRU's update gate."""
HOLDING_BIAS = 5.0


def run(case: str, settings: Settings) -> Measured:
    """||dL/dh(t)|| of a network as it is built, L the squared distance of its last output from a random target."""
    name, _, variant = case.partition(", ")
    config = RecurrentConfig(kind=KINDS[name], hidden_size=settings["hidden_size"])
    # float64: over so many steps float32 would underflow.
    recurrent = Recurrent(config, input_size=settings["input_size"]).double()
    inputs = torch.randn(settings["batch_size"], settings["num_steps"], settings["input_size"], dtype=torch.float64)
    target = torch.rand(settings["batch_size"], settings["hidden_size"], dtype=torch.float64)
    with torch.no_grad():
        if f", {variant}" == DOUBLED:
            recurrent.get_parameter("weight_hh_l0").mul_(2)
        elif f", {variant}" == OPEN:
            num_gates, gate = HOLDING[config.kind]
            recurrent.get_parameter("bias_ih_l0").chunk(num_gates)[gate].fill_(HOLDING_BIAS)
    norms = hidden_gradient_norms(
        recurrent, inputs, None, loss=lambda outputs, _: 0.5 * (outputs[:, -1] - target).square().sum()
    )[0]
    relative = (norms / norms[-1]).tolist()
    steps_back = [float(len(relative) - 1 - step) for step in range(len(relative))]
    return Measured(
        {"decades": decades_lost(norms), "left": relative[0]}, {"gradient": {"x": steps_back, "y": relative}}
    )


def findings(record: Record) -> list[Finding]:
    """Vanishing, exploding, and what gates change."""

    def decades(case: str) -> str:
        lost = record.mean(case, "decades")
        done = "lost" if lost > 0 else "gained"
        return f"{done} {figure(abs(lost))} ± {figure(record.spread(case, 'decades'))} decades"

    def vanishes(case: str) -> Finding:
        return Finding(f"{case}: the gradient vanishes", holds(min(record.values(case, "decades")) > 1), decades(case))

    def explodes(case: str) -> Finding:
        return Finding(
            f"{case}: the gradient explodes",
            holds(max(record.values(case, "decades")) < -1),
            decades(case),
        )

    return [
        vanishes("tanh"),
        vanishes("sigmoid"),
        explodes("ReLU"),
        explodes("ReLU" + DOUBLED),
        vanishes("tanh" + DOUBLED),
        record.less("LSTM", "tanh", "decades", statement="The LSTM as built keeps more of it than tanh"),
        record.less("GRU", "tanh", "decades", statement="The GRU as built keeps more of it than tanh"),
        record.less("LSTM" + OPEN, "tanh", "decades", statement="The LSTM keeps more of it once its gates hold"),
        record.less("GRU" + OPEN, "tanh", "decades", statement="The GRU keeps more of it once its gates hold"),
    ]


def draw(record: Record, figure: Figure) -> None:
    """As built on the left, changed weights on the right."""
    left, right = figure.subplots(1, 2, sharey=True)
    curves = record.curves("gradient")
    built = {case: curves[case] for case in KINDS}
    draw_lines(left, built, x="steps back from the loss", y="||dL/dh(t)|| relative to the last step", log=True)
    changed = {case: found for case, found in curves.items() if case not in KINDS}
    draw_lines(right, changed, x="steps back from the loss", y=None, log=True)
    left.set_ylim(1e-40, 1e40)
    left.set_title("as built (orthogonal recurrent weights)", loc="left", fontsize=10)
    right.set_title("larger weights, or gates that hold", loc="left", fontsize=10)
    figure.suptitle("How much of the gradient is left after how many steps")


GRADIENTS = Experiment(
    name="gradients",
    lines=("N11",),
    claim="Over many steps gradients vanish (tanh, sigmoid) or explode (ReLU); gated cells carry them further.",
    settings={"num_steps": 200, "hidden_size": 64, "input_size": 8, "batch_size": 16},
    tiny={"num_steps": 12, "hidden_size": 4, "input_size": 2, "batch_size": 2},
    cases=(*KINDS, "tanh" + DOUBLED, "sigmoid" + DOUBLED, "ReLU" + DOUBLED, "LSTM" + OPEN, "GRU" + OPEN),
    columns=(
        Column("decades", "decades lost", "powers of ten"),
        Column("left", "left at the first step", "relative to the last"),
    ),
    run=run,
    findings=findings,
    draw=draw,
)
