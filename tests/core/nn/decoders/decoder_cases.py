"""Decoders that hypothesis draws, and what they are by definition: one example, one step, one layer at a time."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Additive, Dot, General, MultiHead
from core.nn.cells import CellWeights, RecurrentState, gru_step, lstm_step, rnn_step
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
    TopDown,
)
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.recurrent import RecurrentConfig

INPUTS, HIDDEN, FEATURES, SUMMARY = 3, 4, 4, 5
ATTENTIONS = [
    Additive(num_hidden=5),
    Additive(num_hidden=3, coverage=True),
    Dot(),
    General(),
    MultiHead(num_heads=2, num_hidden=6),
]
CONTEXTS: list[ContextConfig] = [
    FirstStateOnly(),
    FixedContext(),
    *(AttentionAfter(attention=attention) for attention in ATTENTIONS),
    *(AttentionAfter(attention=attention, input_feeding=False) for attention in ATTENTIONS),
    *(AttentionBefore(attention=attention) for attention in ATTENTIONS),
    *(AttentionBetween(attention=attention) for attention in ATTENTIONS),
    *(AttentionBefore(attention=attention, gated=True) for attention in ATTENTIONS[:3]),
    *(TopDown(attention=attention) for attention in ATTENTIONS),
]


class Recipe(NamedTuple):
    """What hypothesis draws: plain settings, so that no tensor is made inside a strategy."""

    make_config: Callable[[], DecoderConfig]
    lengths: list[int]
    source_lengths: list[int]
    extra_steps: int
    seed: int

    def make(self, dtype: torch.dtype = torch.float64) -> "Case":
        torch.manual_seed(self.seed)
        config = self.make_config()
        recurrent = config.recurrent
        encoder = replace(
            recurrent, hidden_size=HIDDEN // 2, bidirectional=True, residual=False, learn_initial_state=False
        )
        shape = SourceShape(output_size=FEATURES, summary_size=SUMMARY, recurrent=encoder)
        decoder = Decoder(config, input_size=INPUTS, source=shape).to(dtype)
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.normal_(std=0.5)
        batch_size = len(self.lengths)
        num_source = max(1, *self.source_lengths) + self.extra_steps
        leaves = {
            "inputs": torch.randn(batch_size, max(1, *self.lengths) + self.extra_steps, INPUTS, dtype=dtype),
            "outputs": torch.randn(batch_size, num_source, FEATURES, dtype=dtype),
            "summary": torch.randn(batch_size, SUMMARY, dtype=dtype),
            "hidden": torch.randn(2 * recurrent.num_layers, batch_size, HIDDEN // 2, dtype=dtype),
        }
        if recurrent.kind == "lstm":
            leaves["cell"] = torch.randn(2 * recurrent.num_layers, batch_size, HIDDEN // 2, dtype=dtype)
        return Case(decoder, leaves, torch.tensor(self.lengths), torch.tensor(self.source_lengths))


class Case(NamedTuple):
    decoder: Decoder
    leaves: dict[str, Tensor]
    lengths: Tensor
    source_lengths: Tensor

    def source(self) -> Source:
        leaves = self.leaves
        state = RecurrentState(leaves["hidden"], leaves.get("cell"))
        return Source(leaves["outputs"], self.source_lengths, leaves["summary"], state)

    def fresh(self) -> "Case":
        return self._replace(leaves={name: leaf.clone().requires_grad_() for name, leaf in self.leaves.items()})

    def rows(self, rows: Tensor) -> "Case":
        leaves = {
            name: leaf[:, rows] if name in ("hidden", "cell") else leaf[rows] for name, leaf in self.leaves.items()
        }
        return self._replace(leaves=leaves, lengths=self.lengths[rows], source_lengths=self.source_lengths[rows])

    def run(self) -> dict[str, Tensor]:
        """Outputs, last state, and the gradient of a fixed mix of all in inputs, source and weights."""
        case = self.fresh()
        output = case.decoder(case.leaves["inputs"], case.lengths, case.decoder.start(case.source()))
        return with_gradients(parts_of(output.features, output.attention, output.state), case)


def parts_of(features: Tensor, attention: Tensor | None, state: CarriedState) -> dict[str, Tensor]:
    parts = {"features": features, "attention": attention, "hidden": state.recurrent.hidden}
    parts |= {"cell": state.recurrent.cell, "fed": state.fed, "coverage": state.coverage}
    return {name: part for name, part in parts.items() if part is not None}


def with_gradients(results: dict[str, Tensor], case: Case) -> dict[str, Tensor]:
    mixed = sum(
        (value * torch.cos(torch.arange(value.numel(), dtype=value.dtype)).reshape(value.shape)).sum()
        for value in results.values()
    )
    leaves = {**case.leaves, **dict(case.decoder.named_parameters())}
    if mixed.requires_grad:
        gradients = torch.autograd.grad(mixed, list(leaves.values()), allow_unused=True, materialize_grads=True)
    else:  # nothing but empty targets and a state of zeros
        gradients = tuple(torch.zeros_like(leaf) for leaf in leaves.values())
    return {**results, **{f"d {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}}


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    for name, value in got.items():
        torch.testing.assert_close(
            value, expected[name], rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@st.composite
def configs(draw: st.DrawFn, *, contexts: list[ContextConfig] = CONTEXTS) -> Callable[[], DecoderConfig]:
    context = draw(st.sampled_from(contexts))
    kind = draw(st.sampled_from(["rnn_tanh", "rnn_relu", "lstm", "gru"]))
    num_layers = draw(st.integers(2 if isinstance(context, AttentionBetween) else 1, 3))
    bridges = ["copy", "dense"] if isinstance(context, FirstStateOnly) else ["zero", "copy", "dense"]
    bridge = draw(st.sampled_from(bridges))
    readouts = ["state", "attentional", "deep"]
    if isinstance(context, FirstStateOnly):
        readouts = ["state", "deep"]
    if isinstance(context, AttentionAfter):
        readouts = ["attentional"] if context.input_feeding else ["attentional", "deep"]
    readout = draw(st.sampled_from(readouts))
    return partial(
        DecoderConfig,
        recurrent=RecurrentConfig(
            kind=kind,
            hidden_size=HIDDEN,
            num_layers=num_layers,
            residual=num_layers > 1 and draw(st.booleans()),
            learn_initial_state=bridge == "zero" and draw(st.booleans()),
            reset=draw(st.sampled_from([None, "before"])) if kind == "gru" else None,
        ),
        context=context,
        bridge=bridge,
        readout=readout,
        readout_size=None if readout == "state" else draw(st.sampled_from([None, 2])),
    )


@st.composite
def recipes(draw: st.DrawFn, *, contexts: list[ContextConfig] = CONTEXTS) -> Recipe:
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    return Recipe(
        draw(configs(contexts=contexts)),
        lengths=lengths,
        source_lengths=[draw(st.integers(0, 4)) for _ in lengths],
        extra_steps=draw(st.integers(0, 2)),
        seed=draw(st.integers(0, 2**31)),
    )


def first_state(case: Case, row: int) -> tuple[list[Tensor], list[Tensor]]:
    """Hidden and cell state of every layer before the first step, of one example."""
    decoder, config = case.decoder, case.decoder.config
    layers, is_lstm = range(config.recurrent.num_layers), config.recurrent.kind == "lstm"
    if config.bridge == "zero":
        state = decoder.layers.initial_state(1)
        return list(state.hidden[:, 0]), [] if state.cell is None else list(state.cell[:, 0])
    if config.bridge == "copy":
        found = [
            [torch.cat([case.leaves[name][2 * layer, row], case.leaves[name][2 * layer + 1, row]]) for layer in layers]
            for name in (("hidden", "cell") if is_lstm else ("hidden",))
        ]
    else:
        dense = decoder.bridge.dense
        parts = torch.tanh(dense.weight @ case.leaves["summary"][row] + dense.bias).split(HIDDEN)
        found = [list(parts[: len(layers)]), list(parts[len(layers) :])]
    return found[0], found[1] if is_lstm else []


def cell_step(decoder: Decoder, layer: int, inputs: Tensor, hidden: Tensor, cell: Tensor | None) -> Any:
    config = decoder.config.recurrent
    split = len(decoder.layers.upper) > 0
    module = (decoder.layers.upper[layer - 1] if layer else decoder.layers.first) if split else decoder.layers.first
    weights = CellWeights(*(getattr(module, f"{name}_l{0 if split else layer}") for name in CellWeights._fields))
    inputs, hidden = inputs.unsqueeze(0), hidden.unsqueeze(0)
    if config.kind == "lstm":
        hidden, cell = lstm_step(inputs, hidden=hidden, cell=cell.unsqueeze(0), weights=weights)
        return hidden[0], cell[0]
    if config.kind == "gru":
        return gru_step(inputs, hidden=hidden, weights=weights, reset=config.reset or "after")[0], None
    return rnn_step(inputs, hidden=hidden, weights=weights, activation=config.kind.removeprefix("rnn_"))[0], None


def naive(case: Case) -> dict[str, Tensor]:
    """The definition: one example, one step, one layer at a time."""
    decoder, config = case.decoder, case.decoder.config
    context_kind, recurrent = config.context, config.recurrent
    rows = []
    for row, length in enumerate(case.lengths.tolist()):
        hiddens, cells = first_state(case, row)
        fed = case.leaves["inputs"].new_zeros(decoder.fed_size)
        covered = case.leaves["inputs"].new_zeros(case.leaves["outputs"].shape[1])
        memory = None
        if decoder.attention is not None:
            one = slice(row, row + 1)
            memory = decoder.attention.memory(case.leaves["outputs"][one], case.source_lengths[one])

        def look(query: Tensor) -> tuple[Tensor, Tensor]:
            coverage = covered[None, None] if decoder.attention.has_coverage else None  # noqa: B023
            context, weights = decoder.attention(query[None, None], memory, coverage)  # noqa: B023
            return context[0, 0], weights[0, 0]

        features, attention = [], []
        for inputs in case.leaves["inputs"][row, :length]:
            context = weights = None
            below = inputs
            if isinstance(context_kind, FixedContext):
                context = case.leaves["summary"][row]
                below = torch.cat([inputs, context])
            if isinstance(context_kind, AttentionBefore):
                context, weights = look(hiddens[-1])
                if context_kind.gated:
                    context = context * torch.sigmoid(decoder.gate.weight[0] @ hiddens[-1] + decoder.gate.bias)
                below = torch.cat([inputs, context])
            if isinstance(context_kind, TopDown):
                below = torch.cat([inputs, case.leaves["summary"][row], fed])
            elif decoder.fed_size:
                below = torch.cat([inputs, fed])
            for layer in range(recurrent.num_layers):
                between = isinstance(context_kind, AttentionBetween) and layer > 0
                step = torch.cat([below, context]) if between else below
                hidden, cell = cell_step(decoder, layer, step, hiddens[layer], cells[layer] if cells else None)
                hiddens[layer] = hidden
                if cells:
                    cells[layer] = cell
                below = hidden + below if recurrent.residual and layer > 0 else hidden
                if isinstance(context_kind, AttentionBetween) and layer == 0:
                    context, weights = look(hidden)
            if isinstance(context_kind, AttentionAfter):
                context, weights = look(below)
            parts = [below] if context is None else [context, below]
            if config.readout == "attentional":
                feature = torch.tanh(decoder.readout.linear(torch.cat(parts)))
            elif config.readout == "deep":
                feature = decoder.readout.linear(torch.cat([*parts, inputs])).reshape(-1, 2).max(-1).values
            else:
                feature = below
            if decoder.fed_size:
                fed = below if isinstance(context_kind, TopDown) else feature
            features.append(feature)
            if weights is not None:
                attention.append(weights)
                covered = covered + weights
        rows.append(pad_row(case, features, attention, hiddens, cells, fed, covered))
    found = {}
    for name in rows[0]:
        found[name] = torch.stack([row[name] for row in rows], dim=1 if name in ("hidden", "cell") else 0)
    if not decoder.fed_size:
        found.pop("fed")
    if decoder.attention is None or not decoder.attention.has_coverage:
        found.pop("coverage")
    return found


def pad_row(case: Case, features: Any, attention: Any, hiddens: Any, cells: Any, fed: Any, covered: Any) -> Any:
    padding = case.leaves["inputs"].shape[1] - len(features)
    row = {"features": features + [covered.new_zeros(case.decoder.output_size)] * padding}
    if case.decoder.attention is not None:
        row["attention"] = attention + [torch.zeros_like(covered)] * padding
    row["hidden"] = hiddens
    if cells:
        row["cell"] = cells
    return {**{name: torch.stack(parts) for name, parts in row.items()}, "fed": fed, "coverage": covered}
