"""From an encoder to the state a decoder starts from (notes N10)."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.nn.cells import RecurrentState
from core.nn.decoders.loop_products import apply_linear
from core.nn.lengths import check_lengths
from core.nn.recurrence.precision import check_like
from core.nn.recurrent import RecurrentConfig

BridgeKind = Literal["zero", "copy", "dense"]


class Source(NamedTuple):
    """What an encoder hands to a decoder: sequences, image regions, or a vector alone."""

    outputs: Float[Tensor, "examples source features"]
    """What attention reads."""
    lengths: Int[Tensor, "examples"]
    """int64, valid steps of each source."""
    summary: Float[Tensor, "examples summary"]
    """The context c, one vector an example (notes N10)."""
    state: RecurrentState | None = None
    """The last state of a recurrent encoder, which the bridge `copy` takes."""


class SourceShape(NamedTuple):
    """What a decoder must know of an encoder beforehand."""

    output_size: int
    """Width of `Source.outputs`."""
    summary_size: int
    """Width of `Source.summary`."""
    recurrent: RecurrentConfig | None = None
    """The encoder's layers; None for an encoder that has no recurrent state."""


def check_source(source: Source, shape: SourceShape, *, like: Tensor) -> None:
    """Refuse a source whose shapes are not those of `shape`, or that is on another device or in another precision.

    Raises:
        ValueError: saying what was expected and what was got.
    """
    if source.outputs.ndim != 3 or source.outputs.shape[2] != shape.output_size:
        raise ValueError(
            f"source.outputs must have shape (examples, source, {shape.output_size}), "
            f"got {tuple(source.outputs.shape)}."
        )
    expected = (source.outputs.shape[0], shape.summary_size)
    if source.summary.shape != expected:
        raise ValueError(f"source.summary must have shape {expected}, got {tuple(source.summary.shape)}.")
    check_like(source.outputs, name="source.outputs", like=like)
    check_like(source.summary, name="source.summary", like=like)
    check_lengths(source.lengths, of=source.outputs)


class Bridge(nn.Module):
    """A decoder's first state, of every layer.

    zero: the decoder's own, zeros or learned; the source reaches the decoder by another way.
    copy: the encoder's last state, a bidirectional encoder's directions side by side: as many layers, as wide
    (Sutskever et al., "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014).
    dense: tanh(V c + b), one for each layer, and for an LSTM's cell state (Cho et al. 2014, appendix A.1.2; Bahdanau
    et al. 2015, appendix A.2.2).
    """

    def __init__(self, kind: BridgeKind, *, decoder: RecurrentConfig, source: SourceShape) -> None:
        super().__init__()
        if kind not in get_args(BridgeKind):
            raise ValueError(f"bridge must be one of {', '.join(get_args(BridgeKind))}, got {kind!r}.")
        if kind != "zero" and decoder.learn_initial_state:
            raise ValueError(
                f"learn_initial_state=true does nothing with bridge {kind!r}, which gives the decoder its first state. "
                "Remove it or set bridge to zero."
            )
        self.kind: BridgeKind = kind
        self.decoder = decoder
        self.encoder = source.recurrent
        if kind == "copy":
            _check_copy(decoder, source.recurrent)
        if kind == "dense":
            self.num_parts = (2 if decoder.kind == "lstm" else 1) * decoder.num_layers
            self.dense = nn.Linear(source.summary_size, self.num_parts * decoder.hidden_size)

    def forward(self, source: Source, initial_state: Callable[[int], RecurrentState]) -> RecurrentState:
        """The first state, one row an example; `initial_state` gives the decoder's own for so many rows.

        Raises:
            ValueError: if the bridge copies a state that the source does not have, or one of another encoder.
        """
        if self.kind == "zero":
            return initial_state(source.summary.shape[0])
        if self.kind == "copy":
            if source.state is None:
                raise ValueError("bridge copy needs the encoder's last state in source.state, got None.")
            assert self.encoder is not None, "checked where the bridge was made"
            _check_state(source.state, encoder=self.encoder, like=source.summary)
            directions = self.encoder.num_directions
            hidden, cell = source.state
            return RecurrentState(
                _side_by_side(hidden, directions), None if cell is None else _side_by_side(cell, directions)
            )
        parts = torch.tanh(apply_linear(source.summary, self.dense.weight, self.dense.bias))
        stacked = parts.reshape(-1, self.num_parts, self.decoder.hidden_size).transpose(0, 1)
        if self.decoder.kind != "lstm":
            return RecurrentState(stacked)
        hidden, cell = stacked.chunk(2)
        return RecurrentState(hidden, cell)


def _side_by_side(part: Tensor, num_directions: int) -> Tensor:
    if num_directions == 1:
        return part
    layers = part.reshape(-1, num_directions, *part.shape[1:])
    return torch.cat(layers.unbind(1), dim=-1)


def _check_state(state: RecurrentState, *, encoder: RecurrentConfig, like: Tensor) -> None:
    if (state.cell is not None) != (encoder.kind == "lstm"):
        raise ValueError(
            f"the state of a {encoder.kind} has {'a' if encoder.kind == 'lstm' else 'no'} cell state, got one "
            f"{'without' if state.cell is None else 'with'} it in source.state: it comes from another kind of cell."
        )
    shape = (encoder.num_layers * encoder.num_directions, like.shape[0], encoder.hidden_size)
    for name, part in zip(RecurrentState._fields, state, strict=True):
        if part is None:
            continue
        if part.shape != shape:
            raise ValueError(
                f"source.state.{name} must have shape (layers x directions, examples, hidden) = {shape}, got "
                f"{tuple(part.shape)}."
            )
        check_like(part, name=f"source.state.{name}", like=like, like_name="source.summary is")


def _check_copy(decoder: RecurrentConfig, encoder: RecurrentConfig | None) -> None:
    if encoder is None:
        raise ValueError("bridge copy needs a recurrent encoder, whose state it copies. Set bridge to dense or zero.")
    has = (encoder.num_layers, encoder.output_size, encoder.kind == "lstm")
    needs = (decoder.num_layers, decoder.hidden_size, decoder.kind == "lstm")
    if has != needs:
        raise ValueError(
            "bridge copy needs an encoder and a decoder with as many layers, as wide a state (an encoder's directions "
            f"together) and both or neither an LSTM; the encoder has {encoder.num_layers} layers of "
            f"{encoder.output_size} ({encoder.kind}), the decoder {decoder.num_layers} of {decoder.hidden_size} "
            f"({decoder.kind}). Make them alike or set bridge to dense."
        )
