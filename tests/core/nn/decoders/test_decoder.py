"""Recurrent decoders against the papers' equations, one example and one step at a time, and against themselves."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Dot, General
from core.nn.decoders.bridge import Source
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
)
from core.nn.recurrent import RecurrentConfig
from tests.core.nn.decoders.decoder_cases import (
    ATTENTIONS,
    CONTEXTS,
    HIDDEN,
    INPUTS,
    Recipe,
    assert_equal,
    naive,
    parts_of,
    recipes,
    with_gradients,
)


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
