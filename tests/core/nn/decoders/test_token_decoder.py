"""Decoders of tokens: teacher forcing, scheduled sampling, free running, their loss, and learning."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import ContextConfig, DecoderConfig
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.losses import MeanOver
from core.nn.recurrent import RecurrentConfig
from tests.core.nn.decoders.token_decoder_cases import CONTEXTS, VOCABULARY, contexts, gradients, make


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
