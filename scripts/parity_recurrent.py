"""Recurrent layers against the steps of `core.nn.cells` in a plain loop on the CPU, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.nn import cells
from core.nn.cells import CELL_KINDS, CellWeights, InputWeights, NormWeights, RecurrentState
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.recurrent_config import MIN_KINDS
from scripts.parity import EXACT, Check, Place, Precision, Results, with_gradients

RAGGED = (7, 0, 1, 4, 7)


class Setting(NamedTuple):
    """A network and a batch, without the mode and the padding, which change nothing."""

    config: RecurrentConfig
    lengths: tuple[int, ...]
    dense: bool = False
    """The lengths are not given: all are the longest."""
    state_given: bool = False
    input_size: int = 3
    extra_steps: int = 2
    """Steps of padding that no sequence reaches."""

    @property
    def name(self) -> str:
        """What tells it apart."""
        config = self.config
        parts = [f"recurrent {config.kind}", f"{config.num_layers} x {config.hidden_size}"]
        parts += [
            name for name in ("bidirectional", "layer_norm", "residual", "learn_initial_state") if getattr(config, name)
        ]
        parts += [f"{name} {getattr(config, name)}" for name in ("zoneout", "zoneout_cell") if getattr(config, name)]
        parts += [f"reset {config.reset}"] if config.reset else []
        parts.append("no padding" if self.dense else f"lengths {' '.join(map(str, self.lengths))}")
        return ", ".join([*parts, "state given"] if self.state_given else parts)


class Drawn(NamedTuple):
    """What a setting stands for."""

    model: Recurrent
    inputs: Tensor
    lengths: Tensor | None
    state: RecurrentState | None


def checks(*, small: bool) -> Iterator[Check]:
    """Cells, depths, directions and options, over batches with and without padding."""
    for setting in _settings(small=small):
        expected = cache(lambda setting=setting: loop(draw(setting, EXACT)))
        noise = bool(setting.config.zoneout or setting.config.zoneout_cell)
        for training, junk in product(
            (False,) if noise else (False, True), (0.0,) if setting.dense else (0.0, torch.nan)
        ):
            mode = "training" if training else "evaluation"
            name = f"{setting.name}, {mode}{', NaN in the padding' if junk else ''}"
            half: tuple[Precision, ...] = ("bfloat16",) if training and (junk or setting.dense) else ()
            yield Check(name, _compute(setting, training=training, junk=junk), expected, ("float64", "float32", *half))


def _settings(*, small: bool) -> Iterator[Setting]:
    depths = (2,) if small else (1, 2)
    for kind, num_layers, bidirectional in product(CELL_KINDS, depths, (True,) if small else (False, True)):
        config = RecurrentConfig(kind=kind, hidden_size=4, num_layers=num_layers, bidirectional=bidirectional)
        yield Setting(config, RAGGED, state_given=True)
        if not small:
            yield Setting(config, (5, 5, 5), dense=True)
            yield Setting(config, (0, 0))
    for kind, options in _OPTIONS:
        config = RecurrentConfig(**{"kind": kind, "hidden_size": 4, "num_layers": 2, "bidirectional": True, **options})
        yield Setting(config, RAGGED)
        if not small:
            yield Setting(config, (5, 5, 5), dense=True)
    if not small:
        # Wide enough for the kernels that large networks run on.
        for kind in CELL_KINDS:
            config = RecurrentConfig(kind=kind, hidden_size=128)
            yield Setting(config, (20, 1, 13, 7, 20, 2, 9, 16), input_size=128, extra_steps=0)


_OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    ("gru", {"reset": "before"}),
    ("gru", {"layer_norm": True}),
    ("lstm", {"layer_norm": True, "learn_initial_state": True}),
    ("lstm", {"zoneout": 0.2, "zoneout_cell": 0.3}),
    ("gru", {"zoneout": 0.2, "layer_norm": True}),
    ("lstm", {"residual": True, "learn_initial_state": True}),
    ("rnn_tanh", {"residual": True}),
    ("min_gru", {"residual": True, "learn_initial_state": True}),
]


def draw(setting: Setting, place: Place) -> Drawn:
    """The same network and batch at every place: drawn on the CPU in float64, then moved."""
    config = setting.config
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    model = Recurrent(config, input_size=setting.input_size).double()
    with torch.no_grad():
        for parameter in model.parameters():
            # Well away from how they start, and no wider sums in wider layers.
            parameter.copy_(normal(*parameter.shape) * min(0.5, config.hidden_size**-0.5))
    num_steps = max(1, *setting.lengths) + (0 if setting.dense else setting.extra_steps)
    inputs = normal(len(setting.lengths), num_steps, setting.input_size)
    state = None
    if setting.state_given:
        like = model.initial_state(len(setting.lengths))
        hidden, cell = (None if part is None else place.put(normal(*part.shape)).requires_grad_() for part in like)
        assert hidden is not None, "only a cell state may be missing"
        state = RecurrentState(hidden, cell)
    lengths = None if setting.dense else place.put(torch.tensor(setting.lengths))
    return Drawn(model.to(place.device, place.dtype), place.put(inputs).requires_grad_(), lengths, state)


def _compute(setting: Setting, *, training: bool, junk: float) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        drawn = draw(setting, place)
        inputs = drawn.inputs
        if drawn.lengths is not None:
            valid = torch.arange(inputs.shape[1], device=place.device) < drawn.lengths.unsqueeze(1)
            inputs = inputs.masked_fill(~valid.unsqueeze(-1), junk)
        outputs, state = drawn.model.train(training)(inputs, drawn.lengths, drawn.state)
        return _results(drawn, outputs, state)

    return compute


def _results(drawn: Drawn, outputs: Tensor, state: RecurrentState) -> Results:
    values = {"outputs": outputs, "hidden": state.hidden}
    if state.cell is not None:
        values["cell"] = state.cell
    leaves = {"inputs": drawn.inputs, **dict(drawn.model.named_parameters())}
    if drawn.state is not None:
        leaves |= {f"state.{name}": part for name, part in drawn.state._asdict().items() if part is not None}
    if not any(value.requires_grad for value in values.values()):  # nothing but empty sequences, and a state of zeros
        return {**values, **{f"gradient of {name}": torch.zeros_like(leaf) for name, leaf in leaves.items()}}
    return with_gradients(values, leaves)


def loop(drawn: Drawn) -> Results:
    """The definition: one sequence, one layer, one direction, one step at a time."""
    model, inputs = drawn.model, drawn.inputs
    config = model.config
    state = drawn.state or model.initial_state(inputs.shape[0])
    lengths = [inputs.shape[1]] * inputs.shape[0] if drawn.lengths is None else drawn.lengths.tolist()
    rows, hiddens, last_cells = [], [], []
    for row, length in enumerate(lengths):
        sequence = [step.unsqueeze(0) for step in inputs[row, :length]]
        for layer in range(config.num_layers):
            directions = []
            for direction, suffix in enumerate(("", "_reverse")[: config.num_directions]):
                index = layer * config.num_directions + direction
                hidden = state.hidden[index, row : row + 1]
                cell = None if state.cell is None else state.cell[index, row : row + 1]
                outputs = []
                for step in reversed(sequence) if direction else sequence:
                    hidden, cell = _step(model, f"l{layer}{suffix}", step, hidden, cell)
                    outputs.append(hidden)
                hiddens.append(hidden)
                last_cells += [] if cell is None else [cell]
                directions.append(outputs[::-1] if direction else outputs)
            above = [torch.cat(parts, dim=-1) for parts in zip(*directions, strict=True)]
            if config.residual and layer > 0:
                above = [output + below for output, below in zip(above, sequence, strict=True)]
            sequence = above
        rows.append(torch.cat([*sequence, inputs.new_zeros(inputs.shape[1] - length, config.output_size)]))

    def stacked(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts).reshape(len(rows), -1, config.hidden_size).transpose(0, 1)

    after = RecurrentState(stacked(hiddens), stacked(last_cells) if last_cells else None)
    return _results(drawn, torch.stack(rows), after)


def _step(
    model: Recurrent, suffix: str, inputs: Tensor, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    config = model.config

    def read(names: tuple[str, ...]) -> list[Tensor]:
        return [getattr(model, f"{name}_{suffix}") for name in names]

    if config.kind in MIN_KINDS:
        minimal = {"min_gru": cells.min_gru_step, "min_lstm": cells.min_lstm_step}[config.kind]
        return minimal(inputs, hidden=hidden, weights=InputWeights(*read(InputWeights._fields))), None
    weights = CellWeights(*read(CellWeights._fields))
    norm = None
    if config.layer_norm:
        norm = NormWeights(*read(NormWeights._fields if config.kind == "lstm" else NormWeights._fields[:2]))
    if cell is not None:
        new, new_cell = cells.lstm_step(inputs, hidden=hidden, cell=cell, weights=weights, norm=norm)
        kept = config.zoneout_cell * cell + (1 - config.zoneout_cell) * new_cell
        return config.zoneout * hidden + (1 - config.zoneout) * new, kept
    if config.kind == "gru":
        new = cells.gru_step(inputs, hidden=hidden, weights=weights, reset=config.reset or "after", norm=norm)
    else:
        activation: Any = config.kind.removeprefix("rnn_")
        new = cells.rnn_step(inputs, hidden=hidden, weights=weights, activation=activation)
    return config.zoneout * hidden + (1 - config.zoneout) * new, None
