"""Decoders of tokens and of vectors: teacher forcing, scheduled sampling, free running, and learning."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Additive, Dot, General
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
)
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.losses import MeanOver
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig, SpecialTokens, search

VOCABULARY = 7
CONTEXTS: list[ContextConfig] = [
    FirstStateOnly(),
    FixedContext(),
    AttentionAfter(attention=General()),
    AttentionAfter(attention=Dot(), input_feeding=False),
    AttentionBefore(attention=Additive(num_hidden=3, coverage=True)),
    AttentionBetween(attention=Additive(num_hidden=3)),
]
contexts = pytest.mark.parametrize("context", CONTEXTS, ids=repr)


def make(
    context: ContextConfig, *, kind: str = "lstm", dropout: float = 0.0, **changed: Any
) -> tuple[TokenDecoder, Source]:
    """A decoder of random weights and a ragged source of 3 examples."""
    torch.manual_seed(0)
    decoder = DecoderConfig(
        recurrent=RecurrentConfig(kind=kind, hidden_size=4, num_layers=2, dropout=dropout),
        context=context,
        readout="deep" if isinstance(context, FirstStateOnly) else "attentional",
        readout_dropout=dropout,
    )
    config = TokenDecoderConfig(**{"decoder": decoder, "embedding_size": 4, "embedding_dropout": dropout, **changed})
    shape = SourceShape(output_size=4, summary_size=5)
    model = TokenDecoder(config, vocabulary_size=VOCABULARY, source=shape).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    outputs, summary = torch.randn(3, 6, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    return model, Source(outputs, torch.tensor([6, 0, 2]), summary)


def gradients(total: Tensor, model: TokenDecoder) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)


@contexts
def test_free_running_is_feeding_back_by_hand(context: ContextConfig) -> None:
    """Tokens, scores, attention and all gradients."""
    model, source = make(context)
    first = torch.tensor([1, 2, 3])
    tokens, output = model.generate(first, model.start(source), num_steps=5)
    state, token = model.start(source), first
    logits = []
    for step in range(5):
        result = model.step(token, state)
        token, state = result.logits.argmax(-1), result.state
        logits.append(result.logits)
        assert torch.equal(token, tokens[:, step])
        if output.attention is not None:
            torch.testing.assert_close(result.attention, output.attention[:, step], rtol=1e-10, atol=1e-10)
    expected = torch.stack(logits, dim=1)
    torch.testing.assert_close(output.logits, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.state.recurrent, state.recurrent, rtol=1e-10, atol=1e-10)
    got = gradients(output.logits.square().sum(), model)
    torch.testing.assert_close(got, gradients(expected.square().sum(), model), rtol=1e-10, atol=1e-10)


@contexts
def test_the_ends_of_scheduled_sampling(context: ContextConfig) -> None:
    """Probability 1 is teacher forcing to the bit and draws nothing; 0 is free running to the bit."""
    model, source = make(context)
    tokens, lengths = torch.randint(VOCABULARY, (3, 5)), torch.tensor([5, 0, 3])
    before = torch.random.get_rng_state()
    forced = model(tokens, lengths, model.start(source))
    assert torch.equal(model(tokens, lengths, model.start(source), true_probability=1.0).logits, forced.logits)
    free = model(tokens, lengths, model.start(source), true_probability=0.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    _, generated = model.generate(tokens[:, 0], model.start(source), num_steps=5)
    assert torch.equal(free.logits[0], generated.logits[0])
    assert torch.equal(free.logits[2, :3], generated.logits[2, :3])
    assert not free.logits[1].any()
    assert not free.logits[2, 3:].any()
    # Nearly always true: the loop with the true tokens is the whole at once.
    looped = model(tokens, lengths, model.start(source), true_probability=1 - 1e-12)
    torch.testing.assert_close(looped, forced, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        gradients(looped.logits.square().sum(), model),
        gradients(forced.logits.square().sum(), model),
        rtol=1e-10,
        atol=1e-10,
    )


@contexts
def test_every_token_is_drawn_for_itself_from_the_global_generator(context: ContextConfig) -> None:
    """The mix read by each row is the one that the drawn coins say; the same seed gives the same mix."""
    model, source = make(context)
    tokens = torch.randint(VOCABULARY, (3, 6))
    run = lambda: model(tokens, None, model.start(source), true_probability=0.5)  # noqa: E731
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(1)
    coins = torch.rand(3, 6) < 0.5
    coins[:, 0] = True
    assert 3 < coins[:, 1:].sum() < 12
    state, predicted = model.start(source), tokens[:, 0]
    for step in range(6):
        result = model.step(torch.where(coins[:, step], tokens[:, step], predicted), state)
        torch.testing.assert_close(first.logits[:, step], result.logits, rtol=1e-10, atol=1e-10)
        predicted, state = result.logits.argmax(-1), result.state
    torch.manual_seed(1)
    assert torch.equal(run().logits, first.logits)


def test_a_sampled_feedback_follows_the_distribution() -> None:
    model, source = make(CONTEXTS[2], feedback="sample")
    one = Source(source.outputs[:1], source.lengths[:1], source.summary[:1])
    num_rows = 4000
    state = model.start(one).select(torch.zeros(num_rows, dtype=torch.int64))
    tokens, output = model.generate(torch.ones(num_rows, dtype=torch.int64), state, num_steps=1)
    expected = output.logits[0, 0].softmax(-1)
    frequency = torch.bincount(tokens[:, 0], minlength=VOCABULARY) / num_rows
    torch.testing.assert_close(frequency.double(), expected.detach(), rtol=0.0, atol=0.04)


@contexts
@settings(deadline=None, max_examples=10)
@given(junk=st.sampled_from([-1, VOCABULARY, 2**62]), extra=st.integers(0, 4), probability=st.sampled_from([1.0, 0.0]))
def test_padding_never_reaches_an_output_or_a_gradient(
    context: ContextConfig, junk: int, extra: int, probability: float
) -> None:
    """Tokens that are no tokens may stand in the padding."""
    model, source = make(context)
    tokens, lengths = torch.randint(VOCABULARY, (3, 5)), torch.tensor([5, 0, 3])
    expected = model(tokens, lengths, model.start(source), true_probability=probability)
    dirty = torch.nn.functional.pad(tokens, (0, extra), value=junk)
    for row, length in enumerate(lengths.tolist()):
        dirty[row, length:] = junk
    got = model(dirty, lengths, model.start(source), true_probability=probability)
    torch.testing.assert_close(got.logits[:, :5], expected.logits, rtol=1e-12, atol=1e-12)
    assert not got.logits[:, 5:].any()
    torch.testing.assert_close(
        gradients(got.logits.square().sum(), model),
        gradients(expected.logits.square().sum(), model),
        rtol=1e-10,
        atol=1e-10,
    )


@contexts
@settings(deadline=None, max_examples=12)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any),
    probability=st.sampled_from([1.0, 0.5, 0.0]),
    mean=st.sampled_from(["token", "sequence"]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    weight=st.sampled_from([None, [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]),
    junk=st.sampled_from([-1, VOCABULARY, 2**62]),
)
def test_the_loss_is_the_cross_entropy_of_the_scores(
    context: ContextConfig,
    lengths: list[int],
    probability: float,
    mean: MeanOver,
    label_smoothing: float,
    weight: list[float] | None,
    junk: int,
) -> None:
    """Row by row, with the same coins and dropout; what is no token may stand in the padding of tokens and labels."""
    model, source = make(context, dropout=0.3)
    tokens, labels = torch.randint(VOCABULARY, (2, 3, 5))
    torch.manual_seed(1)
    logits = model(tokens, torch.tensor(lengths), model.start(source), true_probability=probability).logits
    total, count = logits.sum() * 0.0, 0.0
    for row, length in enumerate(lengths):
        if length and (weight is None or weight[row]):
            loss = torch.nn.functional.cross_entropy(
                logits[row, :length], labels[row, :length], label_smoothing=label_smoothing
            )
            total = total + loss * (length if mean == "token" else 1)
            count += length if mean == "token" else 1
    padding = torch.arange(5) >= torch.tensor(lengths).unsqueeze(1)
    torch.manual_seed(1)
    found = model.loss(
        tokens.masked_fill(padding, junk),
        torch.tensor(lengths),
        model.start(source),
        labels=labels.masked_fill(padding, junk),
        mean=mean,
        weight=None if weight is None else torch.tensor(weight),
        label_smoothing=label_smoothing,
        true_probability=probability,
    )
    torch.testing.assert_close(found.sum, total, rtol=1e-10, atol=1e-10)
    assert float(found.count) == count
    torch.testing.assert_close(gradients(found.sum, model), gradients(total, model), rtol=1e-10, atol=1e-10)


@contexts
def test_the_hypotheses_of_a_beam_have_the_scores_of_teacher_forcing(context: ContextConfig) -> None:
    """Reordered, repeated and dropped hypotheses over one source each: their log-probabilities are those of the whole."""
    model, source = make(context)
    special = SpecialTokens(bos=1, eos=2, pad=0)
    config = BeamConfig(max_length=6, beam_size=3, num_best=3)
    found = search(
        model, state=model.start(source), config=config, special=special, source_lengths=source.lengths.clamp(min=1)
    )
    tokens, lengths = found.tokens.flatten(0, 1), found.lengths.flatten()
    assert (lengths > 0).all()
    inputs = torch.cat([torch.ones(9, 1, dtype=torch.int64), tokens[:, :-1]], dim=1)
    state = model.start(source).select(torch.arange(3).repeat_interleave(3))
    output = model(inputs, lengths, state)
    chosen = output.logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    total = chosen.masked_fill(torch.arange(tokens.shape[1]) >= lengths.unsqueeze(1), 0.0).sum(1)
    torch.testing.assert_close(found.log_probabilities.flatten(), total, rtol=1e-10, atol=1e-10)
    if output.attention is not None:
        torch.testing.assert_close(found.attention.flatten(0, 1), output.attention, rtol=1e-10, atol=1e-10)


@contexts
@pytest.mark.usefixtures("as_shipped")
def test_one_exported_step_runs_on_other_batches(context: ContextConfig) -> None:
    model, source = make(context)
    state = model.eval().start(source)
    batch = torch.export.Dim("batch", min=1, max=64)

    def shape_of(path: Any, leaf: Tensor | None) -> dict[int, Any] | None:
        if leaf is None:
            return None
        return {1 if "recurrent" in torch.utils._pytree.keystr(path) else 0: batch}

    shapes = torch.utils._pytree.tree_map_with_path(shape_of, state)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
            output = self.model.step(tokens, state)
            return output.logits, output.state

    step = Step().eval()
    program = torch.export.export(
        step, (torch.tensor([1, 2, 3]), state), dynamic_shapes={"tokens": {0: batch}, "state": shapes}
    )
    more = Source(
        torch.randn(5, 6, 4, dtype=torch.float64),
        torch.tensor([6, 1, 0, 3, 6]),
        torch.randn(5, 5, dtype=torch.float64),
    )
    tokens = torch.tensor([4, 3, 2, 1, 0])
    got = program.module()(tokens, model.start(more))
    torch.testing.assert_close(got, step(tokens, model.start(more)), rtol=1e-12, atol=1e-12)


@contexts
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_bfloat16_by_autocast_is_near_float32(context: ContextConfig, probability: float) -> None:
    model, source = make(context)
    model = model.float()
    source = Source(source.outputs.float(), source.lengths, source.summary.float())
    tokens, lengths = torch.randint(VOCABULARY, (3, 4)), torch.tensor([4, 0, 2])
    expected = model(tokens, lengths, model.start(source))
    exact = gradients(expected.logits.sum(), model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(tokens, lengths, model.start(source), true_probability=probability)
    assert not half.logits[2, 2:].any()
    got = gradients(half.logits.float().sum(), model)
    assert all(gradient.dtype == torch.float32 and torch.isfinite(gradient).all() for gradient in got)
    if probability == 1.0:
        torch.testing.assert_close(half.logits.float(), expected.logits, rtol=0.1, atol=0.3)
        for one, other in zip(got, exact, strict=True):
            assert (one - other).norm() <= 0.2 * other.norm() + 0.1


def test_tied_embeddings_are_one_table() -> None:
    model, source = make(CONTEXTS[2], tie_embeddings=True)
    assert model.output.weight is model.embedding.weight
    tokens = torch.randint(VOCABULARY, (3, 5))
    forced = gradients(model(tokens, None, model.start(source)).logits.square().sum(), model)
    looped = model(tokens, None, model.start(source), true_probability=1 - 1e-12).logits
    torch.testing.assert_close(gradients(looped.square().sum(), model), forced, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context", [CONTEXTS[2], CONTEXTS[4]], ids=repr)
def test_it_learns_to_reverse(context: ContextConfig) -> None:
    """A batch of sequences to be read out backwards, of lengths of their own: what attention is for."""
    torch.manual_seed(0)
    decoder = DecoderConfig(recurrent=RecurrentConfig(kind="gru", hidden_size=24), context=context)
    config = TokenDecoderConfig(decoder=decoder, embedding_size=12)
    size = 24
    model = TokenDecoder(config, vocabulary_size=VOCABULARY, source=SourceShape(output_size=size, summary_size=size))
    table = torch.nn.Embedding(VOCABULARY * 6, size)
    lengths = torch.randint(2, 6, (16,))
    words = torch.randint(1, VOCABULARY, (16, 5))
    position = torch.arange(5)
    targets = torch.zeros(16, 6, dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        targets[row, 1 : length + 1] = words[row, :length].flip(0)
    optimiser = torch.optim.Adam([*model.parameters(), *table.parameters()], lr=0.02)
    for _ in range(120):
        outputs = table(words * 6 + position)
        state = model.start(Source(outputs, lengths, outputs[:, 0]))
        logits = model(targets[:, :-1], lengths, state).logits
        mask = torch.arange(5) < lengths.unsqueeze(1)
        loss = torch.nn.functional.cross_entropy(logits[mask], targets[:, 1:][mask])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    outputs = table(words * 6 + position)
    tokens, _ = model.generate(
        torch.zeros(16, dtype=torch.int64), model.start(Source(outputs, lengths, outputs[:, 0])), num_steps=5
    )
    assert float((tokens == targets[:, 1:])[mask].float().mean()) > 0.95


@pytest.mark.usefixtures("as_shipped")
def test_input_that_does_not_fit_is_refused() -> None:
    model, source = make(CONTEXTS[2])
    other, _ = make(CONTEXTS[0])
    state = model.start(source)
    tokens = torch.zeros(3, 4, dtype=torch.int64)
    lengths = torch.tensor([4, 1, 2])
    for wrong, message in (
        ({"tokens": tokens + VOCABULARY}, r"tokens must be 0 to 6 \(vocabulary_size=7\), got 7"),
        ({"tokens": tokens - 1}, "got -1"),
        ({"tokens": tokens.float()}, "tokens must be int64"),
        ({"tokens": tokens[:, :0]}, r"got torch.int64 of shape \(3, 0\)"),
        ({"tokens": tokens.to("meta")}, "tokens must be on cpu"),
        ({"lengths": lengths[:2]}, "one entry per example"),
        ({"state": other.start(source)}, "state.memory must be there"),
        ({"state": state.select(torch.tensor([0, 1]))}, "the state is one of 2 rows, got inputs of 3"),
        ({"true_probability": 1.5}, r"in \[0, 1\], got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{"tokens": tokens, "lengths": lengths, "state": state, **wrong})
    with pytest.raises(ValueError, match="the state is one of 3 rows, got inputs of 2"):
        model(tokens[:2], None, state, true_probability=0.0)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        model.generate(tokens[:, 0], state, num_steps=0)
    for call, name in ((model.step, "tokens"), (lambda *of: model.generate(*of, num_steps=2), "first")):
        for wrong in (tokens, tokens[0, 0]):
            with pytest.raises(ValueError, match=rf"{name} must have shape \(rows,\), one token a row, got"):
                call(wrong, state)
    with pytest.raises(ValueError, match=r"source.outputs must have shape \(examples, source, 4\)"):
        model.start(Source(source.outputs[..., :3], source.lengths, source.summary))
    with pytest.raises(ValueError, match=r"source.summary must have shape \(3, 5\), got \(2, 5\)"):
        model.start(Source(source.outputs, source.lengths, source.summary[:2]))


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embedding_size": 0}, "embedding_size must be at least 1"),
        ({"embedding_dropout": 1.0}, r"embedding_dropout must be in \[0, 1\)"),
        ({"embedding_size": 5, "tie_embeddings": True}, "as wide as an embedding, got 4 and embedding_size=5"),
        ({"feedback": "beam"}, "argmax, sample, got 'beam'"),
    ],
)
def test_settings_that_are_wrong_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(CONTEXTS[2], **changed)


@pytest.mark.usefixtures("as_shipped")
@contexts
@pytest.mark.parametrize("true_probability", [1.0, 0.0])
def test_a_state_that_does_not_fit_is_refused_part_by_part(context: ContextConfig, true_probability: float) -> None:
    """Of another source, in another precision, on another device: each part is named, before anything is computed."""
    model, source = make(context)
    tokens, state = torch.zeros(3, 4, dtype=torch.int64), model.start(source)
    for name in ("fed", "coverage", "context"):
        part = getattr(state, name)
        if part is None:
            continue
        for wrong, message in (
            (part.float(), r"torch\.float64 on cpu, as the weights are, got torch\.float32 on cpu"),
            (part.to("meta"), "got torch.float64 on meta"),
            (part[:, :-1], r"shape \(3, \d\), got \(3, \d\)"),
        ):
            with pytest.raises(ValueError, match=rf"state\.{name} .*{message}"):
                model(tokens, None, state._replace(**{name: wrong}), true_probability=true_probability)
    if state.memory is None:
        return
    for wrong, message in (
        (state.memory.keys.float(), r"state\.memory\.keys must be torch\.float64 on cpu, as the weights are"),
        (state.memory.keys.to("meta"), r"state\.memory\.keys .* got torch\.float64 on meta"),
        (state.memory.keys[..., :-1], r"state\.memory\.keys must have shape .* another attention"),
    ):
        changed = state._replace(memory=state.memory._replace(keys=wrong))
        with pytest.raises(ValueError, match=message):
            model(tokens, None, changed, true_probability=true_probability)
