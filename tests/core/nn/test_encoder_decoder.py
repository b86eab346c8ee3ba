"""Encoder and decoder together: source and target of other lengths, both ragged (notes N10)."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Additive, General, MultiHead
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
)
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.decoders.vector_decoder import VectorDecoder
from core.nn.encoder_decoder import EncoderDecoder, RecurrentEncoder, TokenEncoder
from core.nn.recurrent import RecurrentConfig

WORDS = 8
CONTEXTS: list[tuple[ContextConfig, str]] = [
    (FirstStateOnly(), "copy"),
    (FixedContext(), "dense"),
    (AttentionAfter(attention=General()), "copy"),
    (AttentionAfter(attention=MultiHead(num_heads=2, num_hidden=6), input_feeding=False), "dense"),
    (AttentionBefore(attention=Additive(num_hidden=5)), "zero"),
]


def make(context: ContextConfig, bridge: Any, *, hidden_size: int = 6, num_layers: int = 2) -> EncoderDecoder:
    torch.manual_seed(0)
    encoder = TokenEncoder(
        RecurrentConfig(kind="lstm", hidden_size=hidden_size // 2, num_layers=num_layers, bidirectional=True),
        vocabulary_size=WORDS,
        embedding_size=hidden_size,
    )
    decoder = DecoderConfig(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=hidden_size, num_layers=num_layers),
        context=context,
        bridge=bridge,
        readout="state" if isinstance(context, FirstStateOnly) else "attentional",
    )
    config = TokenDecoderConfig(decoder=decoder, embedding_size=hidden_size)
    return EncoderDecoder(encoder, TokenDecoder(config, vocabulary_size=WORDS, source=encoder.source_shape))


def gradients(total: Tensor, model: EncoderDecoder) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize(("context", "bridge"), CONTEXTS, ids=repr)
@settings(deadline=None, max_examples=12)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=2, max_size=4),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    junk=st.sampled_from([-3, WORDS, 2**40]),
)
def test_an_example_alone_is_the_example_in_any_batch(
    context: ContextConfig, bridge: str, lengths: list[tuple[int, int]], extra: tuple[int, int], junk: int
) -> None:
    """Logits, and gradients that add up over the examples; ids that are no words may stand in the padding."""
    model = make(context, bridge).double()
    source_lengths, target_lengths = (torch.tensor(column) for column in zip(*lengths, strict=True))
    source = torch.randint(WORDS, (len(lengths), max(1, int(source_lengths.max())) + extra[0]))
    target = torch.randint(WORDS, (len(lengths), max(1, int(target_lengths.max())) + extra[1]))
    for row, (source_length, target_length) in enumerate(lengths):
        source[row, source_length:] = junk
        target[row, target_length:] = junk
    logits = model(source, source_lengths, target, target_lengths).logits
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for row, (source_length, target_length) in enumerate(lengths):
        one = slice(row, row + 1)
        alone = model(
            source[one, : max(1, source_length)],
            source_lengths[one],
            target[one, : max(1, target_length)],
            target_lengths[one],
        ).logits
        torch.testing.assert_close(logits[row, :target_length], alone[0, :target_length], rtol=1e-10, atol=1e-10)
        assert not logits[row, target_length:].any()
        total = [one + other for one, other in zip(total, gradients(alone.square().sum(), model), strict=True)]
    torch.testing.assert_close(gradients(logits.square().sum(), model), tuple(total), rtol=1e-10, atol=1e-10)


def test_it_learns_to_copy_backwards() -> None:
    """From words to words through encoder, bridge, attention and feedback."""
    model = make(AttentionAfter(attention=General()), "dense", hidden_size=32, num_layers=1)
    lengths = torch.randint(2, 6, (16,))
    words = torch.randint(1, WORDS, (16, 5))
    target = torch.zeros(16, 6, dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        target[row, 1 : length + 1] = words[row, :length].flip(0)
    mask = torch.arange(5) < lengths.unsqueeze(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        logits = model(words, lengths, target[:, :-1], lengths).logits
        loss = torch.nn.functional.cross_entropy(logits[mask], target[:, 1:][mask])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    decoder = model.decoder
    assert isinstance(decoder, TokenDecoder)
    tokens, _ = decoder.generate(torch.zeros(16, dtype=torch.int64), model.start(words, lengths), num_steps=5)
    assert float((tokens == target[:, 1:])[mask].float().mean()) > 0.95


def test_vectors_in_vectors_out() -> None:
    """A forecaster's form: an encoder over values, its decoder teacher-forced, mixed and free."""
    torch.manual_seed(0)
    encoder = RecurrentEncoder(RecurrentConfig(kind="gru", hidden_size=5), input_size=2)
    config = DecoderConfig(recurrent=RecurrentConfig(kind="gru", hidden_size=5), context=FixedContext(), bridge="copy")
    decoder = VectorDecoder(config, value_size=2, num_outputs=2, source=encoder.source_shape)
    model = EncoderDecoder(encoder, decoder)
    inputs, lengths, previous = torch.randn(3, 6, 2), torch.tensor([6, 2, 4]), torch.randn(3, 4, 2)
    source = encoder(inputs, lengths)
    assert torch.equal(source.summary, source.outputs[torch.arange(3), lengths - 1])
    state = model.start(inputs, lengths)
    assert torch.equal(state.recurrent.hidden[0], source.summary)
    for probability in (1.0, 0.5, 0.0):
        torch.manual_seed(1)
        output = model(inputs, lengths, previous, None, true_probability=probability)
        torch.manual_seed(1)
        expected = decoder(previous, None, state, true_probability=probability)
        assert torch.equal(output.outputs, expected.outputs)


@pytest.mark.usefixtures("as_shipped")
def test_settings_and_input_that_are_wrong_are_refused() -> None:
    recurrent = RecurrentConfig(kind="gru", hidden_size=4)
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 4"):
        TokenEncoder(recurrent, vocabulary_size=0, embedding_size=4)
    with pytest.raises(ValueError, match=r"embedding_dropout must be in \[0, 1\), got 1.0"):
        TokenEncoder(recurrent, vocabulary_size=3, embedding_size=4, embedding_dropout=1.0)
    encoder = TokenEncoder(recurrent, vocabulary_size=3, embedding_size=4)
    with pytest.raises(ValueError, match="tokens must be 0 to 2"):
        encoder(torch.full((2, 3), 3), torch.tensor([3, 1]))
