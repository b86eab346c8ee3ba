"""Recurrent decoders against the papers' equations, one example and one step at a time, and against themselves."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
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
                below = torch.cat([inputs, context])
            if decoder.fed_size:
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
                fed = feature if decoder.fed_size else fed
            elif config.readout == "deep":
                feature = decoder.readout.linear(torch.cat([*parts, inputs])).reshape(-1, 2).max(-1).values
            else:
                feature = below
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


@settings(deadline=None, max_examples=60)
@given(recipe=recipes())
def test_every_configuration_is_its_equations_in_a_loop(recipe: Recipe) -> None:
    """Attention, context, bridge, readout, cell, depth; target and source lengths from 0: values and all gradients."""
    case = recipe.make()
    reference = case.fresh()
    assert_equal(case.run(), with_gradients(naive(reference), reference))


@pytest.mark.parametrize("context", CONTEXTS, ids=repr)
@settings(deadline=None, max_examples=4)
@given(data=st.data())
def test_every_context_is_its_equations_in_a_loop(context: ContextConfig, data: st.DataObject) -> None:
    """As above, none left out by chance."""
    case = data.draw(recipes(contexts=[context])).make()
    reference = case.fresh()
    assert_equal(case.run(), with_gradients(naive(reference), reference))


@settings(deadline=None, max_examples=25)
@given(recipe=recipes())
def test_step_by_step_is_the_whole(recipe: Recipe) -> None:
    """What search drives gives what training sees."""
    case = recipe.make()
    inputs = case.leaves["inputs"]
    whole = case.decoder(inputs, None, case.decoder.start(case.source()))
    state = case.decoder.start(case.source())
    steps = []
    for step in inputs.unbind(1):
        features, weights, state = case.decoder.step(step, state)
        steps.append((features, weights))
    features = torch.stack([one for one, _ in steps], dim=1)
    attention = None if whole.attention is None else torch.stack([one for _, one in steps], dim=1)
    got, expected = parts_of(features, attention, state), parts_of(whole.features, whole.attention, whole.state)
    assert_equal(got, expected)


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(), junk=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e300]))
def test_padding_never_reaches_an_output_or_a_gradient(recipe: Recipe, junk: float) -> None:
    """Contract 1, of target and source."""
    case = recipe.make()
    dirty = {name: leaf.clone() for name, leaf in case.leaves.items()}
    for row, (length, source_length) in enumerate(zip(recipe.lengths, recipe.source_lengths, strict=True)):
        dirty["inputs"][row, length:] = junk
        dirty["outputs"][row, source_length:] = junk
    assert_equal(case._replace(leaves=dirty).run(), case.run(), tolerance=0.0)


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(), extra=st.integers(1, 9), data=st.data())
def test_padding_order_and_company_change_nothing(recipe: Recipe, extra: int, data: st.DataObject) -> None:
    """Contract 2: more padding, another order, alone or in a batch."""
    case = recipe.make()
    expected = case.decoder(case.leaves["inputs"], case.lengths, case.decoder.start(case.source()))
    longer = {
        name: torch.nn.functional.pad(leaf, (0, 0, 0, extra)) if name in ("inputs", "outputs") else leaf
        for name, leaf in case.leaves.items()
    }
    padded = case._replace(leaves=longer)
    got = padded.decoder(longer["inputs"], case.lengths, case.decoder.start(padded.source()))
    num_steps, num_source = case.leaves["inputs"].shape[1], case.leaves["outputs"].shape[1]
    torch.testing.assert_close(got.features[:, :num_steps], expected.features, rtol=1e-10, atol=1e-10)
    assert not got.features[:, num_steps:].any()
    if got.attention is not None:
        cut = got.attention[:, :num_steps, :num_source]
        torch.testing.assert_close(cut, expected.attention, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got.state.recurrent, expected.state.recurrent, rtol=1e-10, atol=1e-10)
    order = torch.tensor(data.draw(st.permutations(range(len(recipe.lengths)))))
    for rows in (order, order[:1]):
        some = case.rows(rows)
        one = some.decoder(some.leaves["inputs"], some.lengths, some.decoder.start(some.source()))
        torch.testing.assert_close(one.features, expected.features[rows], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(one.state.recurrent, expected.state.recurrent.select(rows), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(), cut=st.integers(1, 4))
def test_a_carried_state_continues_the_target(recipe: Recipe, cut: int) -> None:
    """Two chunks with the state handed over are the whole (notes N6)."""
    case = recipe._replace(extra_steps=recipe.extra_steps + 1).make()
    inputs = case.leaves["inputs"]
    cut = min(cut, inputs.shape[1] - 1)
    whole = case.decoder(inputs, case.lengths, case.decoder.start(case.source()))
    first = case.decoder(inputs[:, :cut], case.lengths.clamp(max=cut), case.decoder.start(case.source()))
    second = case.decoder(inputs[:, cut:], (case.lengths - cut).clamp(min=0), first.state)
    features = torch.cat([first.features, second.features], dim=1)
    torch.testing.assert_close(features, whole.features, rtol=1e-10, atol=1e-10)
    assert_equal(parts_of(features, None, second.state), parts_of(whole.features, None, whole.state), tolerance=1e-10)
    assert not any(part.requires_grad for part in parts_of(features.detach(), None, first.state.detach()).values())


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(), num_hypotheses=st.integers(1, 3), data=st.data())
def test_selected_hypotheses_go_on_as_they_would_alone(
    recipe: Recipe, num_hypotheses: int, data: st.DataObject
) -> None:
    """Expanded, reordered, repeated, and with examples that ended taken away; the source stays once an example."""
    case = recipe.make()
    num_examples = len(recipe.lengths)
    expand = torch.arange(num_examples).repeat_interleave(num_hypotheses)
    state = case.decoder.start(case.source()).select(expand)
    steps = torch.randn(3, num_examples * num_hypotheses, INPUTS, dtype=torch.float64)
    _, _, state = case.decoder.step(steps[0], state)
    kept = sorted(data.draw(st.sets(st.integers(0, num_examples - 1), min_size=1)))
    rows = [
        example * num_hypotheses + data.draw(st.integers(0, num_hypotheses - 1))
        for example in kept
        for _ in range(num_hypotheses)
    ]
    state = state.select(torch.tensor(rows), examples=None if len(kept) == num_examples else torch.tensor(kept))
    for owned in (state.memory, state.context):
        assert owned is None or len(owned if isinstance(owned, Tensor) else owned.mask) == len(kept)
    features, weights, state = case.decoder.step(steps[1][: len(rows)], state)
    for number, row in enumerate(rows):
        alone = case.rows(torch.tensor([row // num_hypotheses]))
        _, _, one = alone.decoder.step(steps[0][row : row + 1], alone.decoder.start(alone.source()))
        one_features, one_weights, _ = alone.decoder.step(steps[1][number : number + 1], one)
        torch.testing.assert_close(features[number], one_features[0], rtol=1e-10, atol=1e-10)
        if weights is not None:
            torch.testing.assert_close(weights[number], one_weights[0], rtol=1e-10, atol=1e-10)
    # A whole continuation for every hypothesis, as rescoring does.
    tail = torch.randn(len(rows), 2, INPUTS, dtype=torch.float64)
    whole = case.decoder(tail, None, state)
    for step in range(2):
        features, _, state = case.decoder.step(tail[:, step], state)
        torch.testing.assert_close(whole.features[:, step], features, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context", [*CONTEXTS[:5], *CONTEXTS[8::5]], ids=repr)
def test_gradients_are_those_of_finite_differences(context: ContextConfig) -> None:
    config = DecoderConfig(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=HIDDEN, num_layers=2),
        context=context,
        readout="deep" if isinstance(context, FirstStateOnly) else "attentional",
    )
    case = Recipe(lambda: config, [2, 3], [3, 2], 0, 0).make().fresh()

    def run(inputs: Tensor, outputs: Tensor, summary: Tensor) -> Tensor:
        source = Source(outputs, case.source_lengths, summary)
        features: Tensor = case.decoder(inputs, case.lengths, case.decoder.start(source)).features
        return features

    leaves = tuple(case.leaves[name] for name in ("inputs", "outputs", "summary"))
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("context", [AttentionAfter(attention=General()), AttentionBefore(attention=ATTENTIONS[0])])
def test_float32_in_oneDNNs_products_is_near_float64(context: ContextConfig) -> None:
    """Float32 takes the packed products of a loop, float64 does not."""
    config = DecoderConfig(recurrent=RecurrentConfig(kind="lstm", hidden_size=HIDDEN), context=context)
    recipe = Recipe(lambda: config, [5, 2, 0], [4, 3, 2], 1, 0)
    exact = recipe.make()
    single = exact._replace(
        decoder=Decoder(config, input_size=INPUTS, source=exact.decoder.source),
        leaves={name: leaf.float() for name, leaf in exact.leaves.items()},
    )
    single.decoder.load_state_dict(exact.decoder.state_dict())
    got = {name: value.double() for name, value in single.run().items()}
    assert_equal(got, exact.run(), tolerance=2e-4)


def test_dropout_leaves_alone_what_is_fed_back() -> None:
    config = DecoderConfig(
        recurrent=RecurrentConfig(kind="gru", hidden_size=HIDDEN, num_layers=2, dropout=0.5),
        context=AttentionAfter(attention=Dot()),
        readout_dropout=0.5,
    )
    case = Recipe(lambda: config, [5, 5], [4, 4], 0, 0).make()
    run = lambda: case.decoder(case.leaves["inputs"], None, case.decoder.start(case.source()))  # noqa: E731
    assert not torch.equal(run().features, run().features)
    case.decoder.eval()
    expected = run()
    assert torch.equal(run().features, expected.features)
    only_last = Decoder(
        replace(config, recurrent=replace(config.recurrent, dropout=0.0)),
        input_size=INPUTS,
        source=case.decoder.source,
    ).double()
    only_last.load_state_dict(case.decoder.state_dict())
    dropped = only_last(case.leaves["inputs"], None, only_last.start(case.source()))
    kept = dropped.features != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(dropped.features[kept], 2 * expected.features[kept])
    torch.testing.assert_close(dropped.state, expected.state)


def test_a_second_backward_pass_gives_the_same_and_second_derivatives_are_refused() -> None:
    """The inputs that the loop keeps for its weights' gradients are neither used up nor doubled."""
    config = DecoderConfig(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=HIDDEN), context=AttentionAfter(attention=General())
    )
    case = Recipe(lambda: config, [4, 2], [3, 2], 0, 0).make().fresh()
    parameters = list(case.decoder.layers.parameters())
    total = case.decoder(case.leaves["inputs"], case.lengths, case.decoder.start(case.source())).features.sum()
    torch.autograd.grad(total, case.leaves["inputs"], retain_graph=True)
    first = torch.autograd.grad(total, parameters, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(total, parameters, retain_graph=True)))
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(total, parameters, create_graph=True)
