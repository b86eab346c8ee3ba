"""Decoders of vectors, which feed their outputs back, and one to many."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from core.nn.attention import Additive, General
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import AttentionAfter, AttentionBefore, ContextConfig, DecoderConfig, FixedContext
from core.nn.decoders.vector_decoder import OneToMany, VectorDecoder
from core.nn.recurrent import RecurrentConfig

CONTEXTS: list[ContextConfig] = [
    FixedContext(),
    AttentionAfter(attention=General()),
    AttentionBefore(attention=Additive(num_hidden=3)),
]
contexts = pytest.mark.parametrize("context", CONTEXTS, ids=repr)


def make(context: ContextConfig, *, num_outputs: int = 2, known_size: int = 3) -> tuple[VectorDecoder, Source]:
    """A decoder of two values a step over a ragged source of 3 examples; more outputs than values are means first."""
    torch.manual_seed(0)
    model = VectorDecoder(
        DecoderConfig(recurrent=RecurrentConfig(kind="gru", hidden_size=4, num_layers=2), context=context),
        value_size=2,
        num_outputs=num_outputs,
        known_size=known_size,
        source=SourceShape(output_size=4, summary_size=5),
        to_value=None if num_outputs == 2 else lambda outputs: outputs[..., :2],
    ).double()
    outputs, summary = torch.randn(3, 6, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    return model, Source(outputs, torch.tensor([6, 0, 2]), summary)


def gradients(total: Tensor, model: VectorDecoder) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)


@contexts
@pytest.mark.parametrize("num_outputs", [2, 4])
@pytest.mark.parametrize("known_size", [0, 3])
def test_free_running_is_feeding_back_by_hand(context: ContextConfig, num_outputs: int, known_size: int) -> None:
    """Outputs of every step and all gradients, which pass through what is fed back (notes N7)."""
    model, source = make(context, num_outputs=num_outputs, known_size=known_size)
    first = torch.randn(3, 2, dtype=torch.float64)
    known = torch.randn(3, 5, known_size, dtype=torch.float64) if known_size else None
    got = model.generate(first, model.start(source), num_steps=5, known=known)
    value, state, outputs = first, model.start(source), []
    for step in range(5):
        inputs = value if known is None else torch.cat([value, known[:, step]], dim=-1)
        features, _, state = model.decoder.step(inputs, state)
        outputs.append(model.output(features))
        value = outputs[-1][:, :2]
    expected = torch.stack(outputs, dim=1)
    torch.testing.assert_close(got.outputs, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        gradients(got.outputs.square().sum(), model),
        gradients(expected.square().sum(), model),
        rtol=1e-10,
        atol=1e-10,
    )


@contexts
def test_the_ends_of_scheduled_sampling(context: ContextConfig) -> None:
    model, source = make(context)
    previous, known = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(3, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([5, 0, 3])
    forced = model(previous, lengths, model.start(source), known=known)
    looped = model(previous, lengths, model.start(source), known=known, true_probability=1 - 1e-12)
    torch.testing.assert_close(looped, forced, rtol=1e-10, atol=1e-10)
    free = model(previous, lengths, model.start(source), known=known, true_probability=0.0)
    generated = model.generate(previous[:, 0], model.start(source), num_steps=5, known=known)
    assert torch.equal(free.outputs[0], generated.outputs[0])
    assert torch.equal(free.outputs[2, :3], generated.outputs[2, :3])
    assert not free.outputs[1].any()
    assert not free.outputs[2, 3:].any()


@contexts
@pytest.mark.parametrize("probability", [1.0, 0.5, 0.0])
def test_padding_never_reaches_an_output_or_a_gradient(context: ContextConfig, probability: float) -> None:
    model, source = make(context)
    previous, known = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(3, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([5, 0, 3])
    results = []
    for junk in (0.0, torch.nan, torch.inf):
        for row, length in enumerate(lengths.tolist()):
            previous[row, length:] = junk
            known[row, length:] = junk
        torch.manual_seed(1)
        output = model(previous, lengths, model.start(source), known=known, true_probability=probability)
        results.append([output.outputs, *gradients(output.outputs.square().sum(), model)])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_outputs_that_grow_on_themselves_stop_at_each_rows_end() -> None:
    """A ReLU network that triples its value at every step reaches infinity in the padding; 0 x infinity is NaN."""
    torch.manual_seed(0)
    config = DecoderConfig(
        recurrent=RecurrentConfig(kind="rnn_relu", hidden_size=2), context=FixedContext(), readout="state"
    )
    model = VectorDecoder(config, value_size=2, num_outputs=2, source=SourceShape(output_size=1, summary_size=1))
    with torch.no_grad():
        model.decoder.layers.first.weight_ih_l0.fill_(1.5)
        model.output.weight.copy_(2 * torch.eye(2))
    source = Source(torch.ones(2, 1, 1), torch.tensor([1, 1]), torch.ones(2, 1))
    output = model(torch.ones(2, 200, 2), torch.tensor([3, 2]), model.start(source), true_probability=0.0)
    output.outputs.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_one_to_many_reads_the_same_vector_at_every_step() -> None:
    """Notes N5; each example is as long as it is said to be."""
    torch.manual_seed(0)
    config = RecurrentConfig(kind="lstm", hidden_size=4)
    model = OneToMany(config, input_size=3, num_outputs=2).double()
    inputs, lengths = torch.randn(3, 3, dtype=torch.float64), torch.tensor([4, 0, 2])
    outputs = model(inputs, lengths, num_steps=5)
    for row, length in enumerate(lengths.tolist()):
        assert not outputs[row, length:].any()
        if length:
            expected, _ = model.recurrent(inputs[row].expand(1, length, 3), None)
            torch.testing.assert_close(outputs[row, :length], model.output(expected)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("as_shipped")
def test_input_that_does_not_fit_is_refused() -> None:
    model, source = make(CONTEXTS[0])
    state = model.start(source)
    previous, known = torch.zeros(3, 4, 2).double(), torch.zeros(3, 4, 3).double()
    for arguments, message in (
        ({"previous": previous[..., :1]}, r"previous must have shape \(rows, time >= 1, 2\), got \(3, 4, 1\)"),
        ({"previous": previous[:, :0]}, r"got \(3, 0, 2\)"),
        ({"known": None}, "known must be given where known_size=3, got None"),
        ({"known": known[:, :3]}, r"known must have shape \(3, 4, 3\), got \(3, 3, 3\)"),
        ({"lengths": torch.tensor([1])}, "one entry per example"),
        ({"true_probability": -0.1}, r"in \[0, 1\], got -0.1"),
        ({"previous": previous.float(), "known": known.float()}, "previous must be torch.float64"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{"previous": previous, "lengths": None, "state": state, "known": known, **arguments})
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        model.generate(previous[:, 0], state, num_steps=0, known=known)
    for first in (previous[0, 0], previous):
        with pytest.raises(ValueError, match=r"first must have shape \(rows, 2\), got"):
            model.generate(first, state, num_steps=4, known=known)
    with pytest.raises(ValueError, match="known must be None where known_size=0"):
        make(CONTEXTS[0], known_size=0)[0](previous, None, state, known=known)
    shape = SourceShape(output_size=4, summary_size=5)
    with pytest.raises(ValueError, match="must be as wide as a value, got 4 and 2"):
        VectorDecoder(model.decoder.config, value_size=2, num_outputs=4, source=shape)
    with pytest.raises(ValueError, match="got 0, 4 and 0"):
        VectorDecoder(model.decoder.config, value_size=0, num_outputs=4, source=shape)
    with pytest.raises(ValueError, match="num_outputs must be at least 1, got 0"):
        OneToMany(model.decoder.config.recurrent, input_size=3, num_outputs=0)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        OneToMany(model.decoder.config.recurrent, input_size=3, num_outputs=2)(
            torch.zeros(1, 3), torch.tensor([1]), num_steps=0
        )


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("wrong", [lambda outputs: outputs[:, :1], lambda outputs: outputs, lambda outputs: outputs[0]])
def test_a_value_fed_back_is_as_wide_as_a_value(wrong: Callable[[Tensor], Tensor]) -> None:
    """One column would be broadcast over both values without a word."""
    model, source = make(CONTEXTS[0], num_outputs=4, known_size=0)
    model.to_value = wrong
    with pytest.raises(ValueError, match=r"to_value must turn outputs of \(3, 4\) into values of \(3, 2\), got \("):
        model.generate(torch.zeros(3, 2).double(), model.start(source), num_steps=2)
