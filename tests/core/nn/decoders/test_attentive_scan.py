"""The hand-written loop against the same decoder run step by step through autograd: values and all gradients."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Additive, AttentionConfig, Dot, General, MultiHead
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig
from core.nn.decoders.decoder_loop import CarriedState
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


def make(cell: dict[str, Any], score: AttentionConfig, *, readout: str, hidden_size: int = 4) -> Decoder:
    config = DecoderConfig(
        recurrent=RecurrentConfig(hidden_size=hidden_size, **cell),
        context=AttentionBefore(attention=score),
        readout=readout,  # type: ignore[arg-type]
    )
    decoder = Decoder(config, input_size=3, source=SourceShape(output_size=4, summary_size=4))
    return decoder.double()


def run(
    decoder: Decoder, *, scan: bool, leaves: list[Tensor], lengths: Tensor | None, source_lengths: Tensor
) -> list[Tensor]:
    """Features, weights, last state; then the gradients of a weighted sum of all of them."""
    inputs, outputs, summary = (leaf.detach().requires_grad_() for leaf in leaves)
    decoder.zero_grad()
    used = []
    chosen = decoder._run_scan

    def noted(*arguments: Any) -> Any:
        used.append(True)
        return chosen(*arguments)

    decoder._run_scan = noted  # type: ignore[method-assign]
    if not scan:
        decoder._has_scan = lambda *arguments: False  # type: ignore[method-assign]
    try:
        state = decoder.start(Source(outputs, source_lengths, summary))
        found = decoder(inputs, lengths, state)
    finally:
        del decoder._run_scan
        if not scan:
            del decoder._has_scan
    assert bool(used) == scan
    last: CarriedState = found.state
    values = [found.features, found.attention, *(part for part in last.recurrent if part is not None)]
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
    readout=st.sampled_from(["state", "attentional", "deep"]),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    source=st.integers(1, 4),
    is_dense=st.booleans(),
    data=st.data(),
)
def test_it_is_the_loop_through_autograd(
    cell: dict[str, Any],
    score: AttentionConfig,
    readout: str,
    lengths: list[int],
    source: int,
    is_dense: bool,
    data: st.DataObject,
) -> None:
    """Ragged targets, some of them empty, over ragged sources, some of them empty."""
    source_lengths = torch.tensor([data.draw(st.integers(0, source)) for _ in lengths])
    decoder = make(cell, score, readout=readout)
    rows = len(lengths)
    leaves = [torch.randn(shape, dtype=torch.float64) for shape in ((rows, 5, 3), (rows, source, 4), (rows, 4))]
    given_lengths = None if is_dense else torch.tensor(lengths)
    found, expected = (
        run(decoder, scan=scan, leaves=leaves, lengths=given_lengths, source_lengths=source_lengths)
        for scan in (True, False)
    )
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)
def test_gradients_are_those_of_differences(score: AttentionConfig) -> None:
    decoder = make({"kind": "gru"}, score, readout="deep")
    source_lengths, lengths = torch.tensor([3, 1]), torch.tensor([2, 3])

    def features(inputs: Tensor, outputs: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        found = decoder(inputs, lengths, decoder.start(Source(outputs, source_lengths, summary)))
        return found.features, found.attention

    shapes = ((2, 3, 3), (2, 3, 4), (2, 4))
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(features, leaves)


def test_backward_may_run_twice() -> None:
    decoder = make({"kind": "lstm"}, Additive(num_hidden=5), readout="state")
    inputs = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    outputs, summary = torch.randn(2, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    state = decoder.start(Source(outputs, torch.tensor([4, 2]), summary))
    total = decoder(inputs, torch.tensor([1, 3]), state).features.square().sum()
    first, second = (torch.autograd.grad(total, inputs, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_second_derivatives_are_refused() -> None:
    decoder = make({"kind": "gru"}, Dot(), readout="state")
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
    assert not decoder._has_scan(leaves[0], None, state)
