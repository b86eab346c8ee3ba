"""The hand-written loop against the same decoder run step by step through autograd: values and all gradients."""

import gc
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import core.nn.decoders.decoder
from core.nn.attention import Additive, AttentionConfig, Dot, General, MultiHead
from core.nn.decoders.attentive_targets import can_scan
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import AttentionAfter, AttentionBefore, DecoderConfig
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.decoders.layer_scan import LayerScan
from core.nn.recurrent import RecurrentConfig

SCORES: list[AttentionConfig] = [Additive(num_hidden=5), Dot(), General()]
CELLS: list[dict[str, Any]] = [
    {"kind": "lstm"},
    {"kind": "gru"},
    {"kind": "gru", "reset": "before"},
    {"kind": "rnn_tanh"},
    {"kind": "rnn_sigmoid"},
    {"kind": "rnn_relu"},
]


def make(cell: dict[str, Any], score: AttentionConfig, *, readout: str) -> Decoder:
    """Luong's decoder where `readout` is "fed", Bahdanau's elsewhere, gated where it is "gated"."""
    config = DecoderConfig(
        recurrent=RecurrentConfig(hidden_size=4, **cell),
        context=AttentionAfter(attention=score)
        if readout == "fed"
        else AttentionBefore(attention=score, gated=readout == "gated"),
        readout={"fed": "attentional", "gated": "deep"}.get(readout, readout),  # type: ignore[arg-type]
        readout_size=3 if readout == "fed" else None,
    )
    decoder = Decoder(config, input_size=3, source=SourceShape(output_size=4, summary_size=4))
    return decoder.double()


def run(
    decoder: Decoder, *, scan: bool, leaves: list[Tensor], lengths: Tensor | None, source_lengths: Tensor
) -> list[Tensor]:
    """Features, weights, last state; then the gradients of a weighted sum of all of them."""
    inputs, outputs, summary = (leaf.detach().requires_grad_() for leaf in leaves)
    decoder.zero_grad()
    state = decoder.start(Source(outputs, source_lengths, summary))
    if len(inputs) != len(outputs):
        state = state.select(torch.arange(len(outputs)).repeat_interleave(len(inputs) // len(outputs)))
    assert can_scan(decoder._parts(), inputs, lengths, state)
    with pytest.MonkeyPatch.context() as patch:
        if not scan:
            patch.setattr(core.nn.decoders.decoder, "can_scan", lambda *arguments: False)
        found = decoder(inputs, lengths, state)
    last: CarriedState = found.state
    values = [found.features, found.attention, *(part for part in (*last.recurrent, last.fed) if part is not None)]
    generator = torch.Generator().manual_seed(1)
    total = sum((value * torch.randn(value.shape, generator=generator, dtype=value.dtype)).sum() for value in values)
    total.backward()
    gradients = [leaf.grad for leaf in (inputs, outputs, summary, *decoder.parameters())]
    return [*(value.detach() for value in values), *(gradient for gradient in gradients if gradient is not None)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@settings(deadline=None, max_examples=100)
@given(
    cell=st.sampled_from(CELLS),
    score=st.sampled_from(SCORES),
    readout=st.sampled_from(["state", "attentional", "deep", "gated", "fed"]),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    hypotheses=st.integers(1, 3),
    source=st.integers(1, 4),
    is_dense=st.booleans(),
    data=st.data(),
)
def test_it_is_the_loop_through_autograd(
    cell: dict[str, Any],
    score: AttentionConfig,
    readout: str,
    lengths: list[int],
    hypotheses: int,
    source: int,
    is_dense: bool,
    data: st.DataObject,
) -> None:
    """Ragged targets, some of them empty, over ragged sources, some of them empty, each with one target or several."""
    source_lengths = torch.tensor([data.draw(st.integers(0, source)) for _ in lengths])
    decoder = make(cell, score, readout=readout)
    rows = len(lengths)
    targets = [data.draw(st.integers(0, 5)) for _ in range((hypotheses - 1) * rows)]
    shapes = ((hypotheses * rows, 5, 3), (rows, source, 4), (rows, 4))
    leaves = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    given_lengths = None if is_dense else torch.tensor(lengths + targets)
    found, expected = (
        run(decoder, scan=scan, leaves=leaves, lengths=given_lengths, source_lengths=source_lengths)
        for scan in (True, False)
    )
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("readout", ["deep", "gated", "fed"])
@pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)
def test_gradients_are_those_of_differences(score: AttentionConfig, readout: str) -> None:
    decoder = make({"kind": "gru"}, score, readout=readout)
    source_lengths, lengths = torch.tensor([3, 1]), torch.tensor([2, 3])

    def features(inputs: Tensor, outputs: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        found = decoder(inputs, lengths, decoder.start(Source(outputs, source_lengths, summary)))
        return found.features, found.attention

    shapes = ((2, 3, 3), (2, 3, 4), (2, 4))
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(features, leaves)


@pytest.mark.parametrize("readout", ["state", "gated", "fed"])
def test_backward_may_run_twice(readout: str) -> None:
    decoder = make({"kind": "lstm"}, Additive(num_hidden=5), readout=readout)
    inputs = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    outputs, summary = torch.randn(2, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    state = decoder.start(Source(outputs, torch.tensor([4, 2]), summary))
    total = decoder(inputs, torch.tensor([1, 3]), state).features.square().sum()
    first, second = (torch.autograd.grad(total, inputs, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("readout", ["state", "gated", "fed"])
def test_a_weight_that_is_written_over_before_backward_is_refused(readout: str) -> None:
    decoder = make({"kind": "lstm"}, Additive(num_hidden=5), readout=readout)
    inputs = torch.randn(2, 3, 3, dtype=torch.float64)
    outputs, summary = torch.randn(2, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    state = decoder.start(Source(outputs, torch.tensor([4, 2]), summary))
    total = decoder(inputs, None, state).features.sum()
    with torch.no_grad():
        decoder.layers.first.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@pytest.mark.parametrize("readout", ["state", "gated", "fed"])
def test_what_a_loop_has_kept_is_freed_with_its_outputs(readout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the garbage collector, which would let a training's memory grow for a while."""
    decoder = make({"kind": "lstm"}, Dot(), readout=readout)
    inputs = torch.randn(2, 3, 3, dtype=torch.float64)
    outputs, summary = torch.randn(2, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    kept: list[weakref.ref[Any]] = []
    release = LayerScan.release

    def noted(self: LayerScan) -> None:
        kept.append(weakref.ref(self))
        release(self)

    monkeypatch.setattr(LayerScan, "release", noted)
    gc.disable()
    try:
        for num_backward in (0, 1, 2):
            kept.clear()
            found = decoder(inputs, None, decoder.start(Source(outputs, torch.tensor([4, 2]), summary)))
            for _ in range(num_backward):
                found.features.sum().backward(retain_graph=True)
            assert kept[0]() is not None
            del found
            assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("readout", ["state", "gated", "fed"])
def test_second_derivatives_are_refused(readout: str) -> None:
    decoder = make({"kind": "gru"}, Dot(), readout=readout)
    inputs = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    outputs, summary = torch.randn(1, 2, 4, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    total = decoder(inputs, None, decoder.start(Source(outputs, torch.tensor([2]), summary))).features.sum()
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(total, inputs, create_graph=True)


@pytest.mark.parametrize(
    ("cell", "score"),
    [
        ({"kind": "gru", "num_layers": 2}, Dot()),
        ({"kind": "gru", "layer_norm": True}, Dot()),
        ({"kind": "gru"}, Additive(num_hidden=5, coverage=True)),
        ({"kind": "gru"}, MultiHead(num_heads=2, num_hidden=4)),
    ],
)
def test_what_it_does_not_serve_runs_step_by_step(cell: dict[str, Any], score: AttentionConfig) -> None:
    decoder = make(cell, score, readout="state")
    leaves = [torch.randn(shape, dtype=torch.float64) for shape in ((2, 3, 3), (2, 4, 4), (2, 4))]
    state = decoder.start(Source(leaves[1], torch.tensor([4, 2]), leaves[2]))
    assert not can_scan(decoder._parts(), leaves[0], None, state)
