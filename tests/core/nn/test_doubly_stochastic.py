"""The penalty of attention against its definition, and through a decoder's loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Additive
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig, FixedContext
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.doubly_stochastic import doubly_stochastic_loss
from core.nn.losses import MeanOver
from core.nn.recurrent import RecurrentConfig

MEANS: list[MeanOver] = ["token", "sequence"]


def decoder_of(context: object) -> TokenDecoder:
    config = DecoderConfig(recurrent=RecurrentConfig(kind="lstm", hidden_size=4), context=context)  # type: ignore[arg-type]
    tokens = TokenDecoderConfig(decoder=config, embedding_size=3)
    return TokenDecoder(tokens, vocabulary_size=9, source=SourceShape(output_size=5, summary_size=5)).double()


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    source=st.integers(1, 5),
    mean=st.sampled_from(MEANS),
    data=st.data(),
)
def test_it_is_its_definition(lengths: list[int], source: int, mean: MeanOver, data: st.DataObject) -> None:
    """Row by row in plain Python; a filler and an empty row count nothing."""
    source_lengths = [data.draw(st.integers(1, source)) for _ in lengths]
    fillers = [data.draw(st.booleans()) for _ in lengths]
    weights = torch.rand(len(lengths), 4, source, dtype=torch.float64)
    total, count = 0.0, 0
    for row, (length, width, filler) in enumerate(zip(lengths, source_lengths, fillers, strict=True)):
        weights[row, length:] = 0.0
        weights[row, :, width:] = 0.0
        if filler or not length:
            continue
        each = sum((1 - float(weights[row, :length, place].sum())) ** 2 for place in range(width))
        total += each if mean == "token" else each / length
        count += length if mean == "token" else 1
    found = doubly_stochastic_loss(
        weights,
        torch.tensor(lengths),
        source_mask=torch.arange(source) < torch.tensor(source_lengths).unsqueeze(1),
        mean=mean,
        weight=1.0 - torch.tensor(fillers, dtype=torch.float64),
    )
    assert float(found.sum) == pytest.approx(total, abs=1e-12)
    assert float(found.count) == count


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("true_probability", [1.0, 0.0])
def test_a_decoders_loss_with_it_does_not_depend_on_how_a_batch_is_cut(mean: MeanOver, true_probability: float) -> None:
    """Contract 4, with several captions an image: the penalty is in the units of the loss's count."""
    torch.manual_seed(0)
    decoder = decoder_of(AttentionBefore(attention=Additive(num_hidden=4), gated=True))
    regions, summary = torch.randn(3, 6, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    source_lengths, lengths = torch.tensor([6, 2, 4]), torch.tensor([4, 1, 3, 0, 2, 4])
    tokens, labels = torch.randint(9, (6, 4)), torch.randint(9, (6, 4))

    def loss(images: list[int], doubly_stochastic: float) -> tuple[Tensor, Tensor]:
        rows = [row for image in images for row in (2 * image, 2 * image + 1)]
        state = decoder.start(Source(regions[images], source_lengths[images], summary[images]))
        return decoder.loss(
            tokens[rows],
            lengths[rows],
            state.select(torch.arange(len(images)).repeat_interleave(2)),
            labels=labels[rows],
            mean=mean,
            true_probability=true_probability,
            doubly_stochastic=doubly_stochastic,
        )

    whole, parts = loss([0, 1, 2], 0.7), [loss([0], 0.7), loss([1, 2], 0.7)]
    torch.testing.assert_close(sum(part[0] for part in parts), whole[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sum(part[1] for part in parts), whole[1], rtol=0, atol=0)
    without = loss([0, 1, 2], 0.0)
    assert whole[1] == without[1]
    assert whole[0] > without[0]
    assert torch.autograd.grad(whole[0], decoder.decoder.attention.key.weight)[0].abs().sum() > 0  # type: ignore[union-attr]


def test_a_decoder_without_attention_refuses_it() -> None:
    decoder = decoder_of(FixedContext())
    state = decoder.start(
        Source(torch.zeros(1, 2, 5).double(), torch.tensor([2]), torch.zeros(1, 5, dtype=torch.float64))
    )
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="this decoder has none"):
        decoder.loss(tokens, torch.tensor([2]), state, labels=tokens, mean="token", doubly_stochastic=1.0)


@pytest.mark.usefixtures("as_shipped")
def test_shapes_that_do_not_fit_are_said() -> None:
    with pytest.raises(ValueError, match=r"must have shapes .* got \(2, 3, 4\), \(2,\) and \(2, 3\)"):
        doubly_stochastic_loss(
            torch.zeros(2, 3, 4), torch.tensor([1, 2]), source_mask=torch.ones(2, 3, dtype=torch.bool), mean="token"
        )
