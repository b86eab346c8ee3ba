"""Dropout whose mask stays the same over a sequence.

Source: Gal & Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", NeurIPS 2016,
section 4.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LockedDropout(nn.Module):
    """Zeroes the same features at every step of a sequence, other ones in every sequence; the rest is scaled up.

    For a recurrent layer's inputs and outputs; between stacked layers `RecurrentConfig.locked_dropout` does the same.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"probability must be in [0, 1), got {probability}.")
        self.probability = probability

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"probability={self.probability}"

    def forward(self, inputs: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
        """The inputs themselves in evaluation.

        Raises:
            ValueError: for inputs without these three axes, or without a step, or that are no floating-point numbers.
        """
        if inputs.ndim != 3 or inputs.shape[1] == 0:
            raise ValueError(f"inputs must have shape (batch, time >= 1, features), got {tuple(inputs.shape)}.")
        if not inputs.is_floating_point():
            raise ValueError(f"inputs must be floating point, got {inputs.dtype}.")
        if not self.training or self.probability == 0.0:
            return inputs
        return inputs * locked_mask(inputs[:, 0], probability=self.probability).unsqueeze(1)


def locked_mask(like: Float[Tensor, "batch features"], *, probability: float) -> Float[Tensor, "batch features"]:
    """0 where a feature is dropped from a sequence, 1 / (1 - probability) elsewhere."""
    return F.dropout(torch.ones_like(like), probability, training=True)
