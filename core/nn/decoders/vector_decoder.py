"""A recurrent decoder of vectors, whose outputs become its next inputs (notes N7, N10, N17), and one to many (N5)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import DecoderConfig
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.decoders.loop_products import LoopProducts, apply_linear
from core.nn.lengths import check_lengths, valid_steps
from core.nn.recurrence.precision import check_like
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.teacher_forcing import check_probability, draw_true_steps


class VectorOutput(NamedTuple):
    """What a decoder of vectors gives for a whole target."""

    outputs: Float[Tensor, "rows time outputs"]
    """y^(t) of every step; zeros in the padding."""
    attention: Float[Tensor, "rows time source"] | None
    """Weights over the source steps, zeros in the padding of both; None without attention."""
    state: CarriedState
    """The state after each target's last valid step."""


class VectorDecoder(nn.Module):
    """Reads y(t-1) and what is known of step t, gives y^(t)."""

    def __init__(
        self,
        config: DecoderConfig,
        *,
        value_size: int,
        num_outputs: int,
        source: SourceShape,
        known_size: int = 0,
        to_value: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """A decoder of vectors.

        Args:
            config: the decoder.
            value_size: width of y.
            num_outputs: numbers a step: y^ itself, or the parameters of its distribution.
            source: what the encoder gives.
            known_size: width of what is known of a step beforehand (a calendar).
            to_value: turns outputs (rows, outputs) into the value fed back (rows, value); None where they are that value.

        Raises:
            ValueError: if outputs would be fed back that are not as wide as y.
        """
        super().__init__()
        if value_size < 1 or num_outputs < 1 or known_size < 0:
            raise ValueError(
                f"value_size and num_outputs must be at least 1 and known_size at least 0, got {value_size}, "
                f"{num_outputs} and {known_size}."
            )
        if to_value is None and num_outputs != value_size:
            raise ValueError(
                f"outputs are fed back as they are and must be as wide as a value, got {num_outputs} and {value_size}. "
                "Give to_value to turn the one into the other."
            )
        self.value_size = value_size
        self.known_size = known_size
        self.to_value = to_value
        self.decoder = Decoder(config, input_size=value_size + known_size, source=source)
        self.output = nn.Linear(self.decoder.output_size, num_outputs)

    def start(self, source: Source) -> CarriedState:
        """The state before the first step, one row an example."""
        return self.decoder.start(source)

    def forward(
        self,
        previous: Float[Tensor, "rows time value"],
        lengths: Int[Tensor, "rows"] | None,
        state: CarriedState,
        *,
        known: Float[Tensor, "rows time known"] | None = None,
        true_probability: float = 1.0,
    ) -> VectorOutput:
        """Outputs of every step of a target.

        Args:
            previous: the true y(t-1) of every step t; the first is the last value of the source. What stands in the
                padding is not read.
            lengths: int64, valid steps of each row, 0 to time; None where every step is valid.
            state: what `start` gave, or the state after the steps before.
            known: what is known of every step beforehand, where `known_size` is not 0.
            true_probability: how often a step reads the true y(t-1), and not the output of the step before; 1 is teacher
                forcing, 0 free running. Gradients pass through what is fed back. The first step always reads the true one.

        Raises:
            ValueError: if a shape, dtype or device does not fit.
        """
        check_probability(true_probability)
        self._check(previous, known, lengths)
        if true_probability < 1.0:
            return self._run_feedback(previous, lengths, state, known, true_probability)
        inputs = previous if known is None else torch.cat([previous, known], dim=-1)
        features, attention, state = self.decoder(inputs, lengths, state)
        outputs = apply_linear(features, self.output.weight, self.output.bias)
        return VectorOutput(_mask(outputs, lengths), attention, state)

    def generate(
        self,
        first: Float[Tensor, "rows value"],
        state: CarriedState,
        *,
        num_steps: int,
        known: Float[Tensor, "rows time known"] | None = None,
    ) -> VectorOutput:
        """Run freely for `num_steps` steps from the value `first`."""
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
        if first.ndim != 2:
            raise ValueError(f"first must have shape (rows, {self.value_size}), got {tuple(first.shape)}.")
        previous = first.unsqueeze(1).expand(-1, num_steps, -1)
        self._check(previous, known, None)
        return self._run_feedback(previous, None, state, known, 0.0)

    def _run_feedback(
        self,
        previous: Tensor,
        lengths: Tensor | None,
        state: CarriedState,
        known: Tensor | None,
        true_probability: float,
    ) -> VectorOutput:
        num_rows, num_steps = previous.shape[:2]
        self.decoder.check_state(state, num_rows=num_rows)
        true = draw_true_steps(true_probability, num_rows=num_rows, num_steps=num_steps, device=previous.device)
        previous = _mask(previous, lengths)
        known = None if known is None else _mask(known, lengths)
        running = None if lengths is None else valid_steps(lengths, num_steps)
        loop = self.decoder.loop(state, num_steps=num_steps)
        project = LoopProducts(num_steps)([self.output.weight], bias=self.output.bias)
        value = previous[:, 0]
        outputs, attention = [], []
        for step in range(num_steps):
            value = torch.where(true[:, step].unsqueeze(1), previous[:, step], value)
            inputs = value if known is None else torch.cat([value, known[:, step]], dim=-1)
            features, weights = loop(inputs, None if running is None else running[:, step].unsqueeze(1))
            output = project(self.decoder.drop(features))
            if running is not None:
                # Not after the loop: a row that has ended must not grow without bound on its own outputs.
                output = output.masked_fill(~running[:, step].unsqueeze(1), 0.0)
            value = self._to_value(output).to(previous.dtype)
            outputs.append(output)
            if weights is not None:
                attention.append(weights)
        weights = _mask(torch.stack(attention, dim=1), lengths) if attention else None
        return VectorOutput(torch.stack(outputs, dim=1), weights, loop.state())

    def _to_value(self, output: Tensor) -> Tensor:
        if self.to_value is None:
            return output
        value = self.to_value(output)
        # One column would be broadcast over all of y without a word.
        if value.shape != (output.shape[0], self.value_size):
            raise ValueError(
                f"to_value must turn outputs of {tuple(output.shape)} into values of "
                f"{(output.shape[0], self.value_size)}, got {tuple(value.shape)}."
            )
        return value

    def _check(self, previous: Tensor, known: Tensor | None, lengths: Tensor | None) -> None:
        if previous.ndim != 3 or previous.shape[1] == 0 or previous.shape[2] != self.value_size:
            raise ValueError(
                f"previous must have shape (rows, time >= 1, {self.value_size}), got {tuple(previous.shape)}."
            )
        check_like(previous, name="previous", like=self.output.weight)
        if (known is not None) != (self.known_size > 0):
            raise ValueError(
                f"known must be {'given' if self.known_size else 'None'} where known_size={self.known_size}, got "
                f"{'None' if known is None else tuple(known.shape)}."
            )
        if known is not None and known.shape != (*previous.shape[:2], self.known_size):
            raise ValueError(
                f"known must have shape {(*previous.shape[:2], self.known_size)}, got {tuple(known.shape)}."
            )
        if known is not None:
            check_like(known, name="known", like=self.output.weight)
        if lengths is not None:
            check_lengths(lengths, of=previous)


class OneToMany(nn.Module):
    """One vector in, a sequence out: the same x at every step (notes N5)."""

    def __init__(self, config: RecurrentConfig, *, input_size: int, num_outputs: int) -> None:
        super().__init__()
        if num_outputs < 1:
            raise ValueError(f"num_outputs must be at least 1, got {num_outputs}.")
        self.recurrent = Recurrent(config, input_size=input_size)
        self.output = nn.Linear(config.output_size, num_outputs)

    def forward(
        self, inputs: Float[Tensor, "batch features"], lengths: Int[Tensor, "batch"], *, num_steps: int
    ) -> Float[Tensor, "batch time outputs"]:
        """Outputs of `num_steps` steps, zeros after each example's own length."""
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
        if inputs.ndim != 2:
            raise ValueError(f"inputs must have shape (batch, features), got {tuple(inputs.shape)}.")
        outputs, _ = self.recurrent(inputs.unsqueeze(1).expand(-1, num_steps, -1), lengths)
        return _mask(apply_linear(outputs, self.output.weight, self.output.bias), lengths)


def _mask(values: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return values
    return values.masked_fill(~valid_steps(lengths, values.shape[1]).unsqueeze(-1), 0.0)
