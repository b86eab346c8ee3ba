"""Feed-forward network, the baseline that every recurrent model is held against (notes N1)."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from core.nn.recurrence.precision import check_like

FeedForwardActivation = Literal["relu", "tanh", "sigmoid", "gelu"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig:
    """Hidden layers of a feed-forward network."""

    hidden_sizes: list[int]
    """Units of each hidden layer, from the input on."""
    activation: FeedForwardActivation = "relu"
    """Non-linearity after each hidden layer: relu, tanh, sigmoid or gelu."""
    dropout: float = 0.0
    """Probability of zeroing a hidden unit, in [0, 1)."""
    layer_norm: bool = False
    """Normalise each hidden layer before its activation (Ba et al. 2016, arXiv:1607.06450)."""

    def __post_init__(self) -> None:
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(
                f"hidden_sizes must name at least one layer of at least one unit, got {self.hidden_sizes}."
            )
        if self.activation not in get_args(FeedForwardActivation):
            raise ValueError(
                f"activation must be one of {', '.join(get_args(FeedForwardActivation))}, got {self.activation!r}."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}.")


class FeedForward(nn.Module):
    """Fully connected layers: a fixed-size vector in, a vector out; any axes before the last are batch.

    Each hidden layer is linear, layer norm where configured, activation, dropout; the output layer is linear alone.
    """

    def __init__(self, config: FeedForwardConfig, *, input_size: int, output_size: int) -> None:
        super().__init__()
        if input_size < 1 or output_size < 1:
            raise ValueError(f"input_size and output_size must be at least 1, got {input_size} and {output_size}.")
        self.config = config
        self.input_size = input_size
        self.output_size = output_size
        layers: list[nn.Module] = []
        size = input_size
        for hidden_size in config.hidden_sizes:
            layers.append(nn.Linear(size, hidden_size))
            if config.layer_norm:
                layers.append(nn.LayerNorm(hidden_size))
            layers.append(_ACTIVATIONS[config.activation]())
            if config.dropout > 0:
                layers.append(nn.Dropout(config.dropout))
            size = hidden_size
        layers.append(nn.Linear(size, output_size))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:
        """Raises ValueError if the last axis is not `input_size` wide."""
        if inputs.shape[-1:] != (self.input_size,):
            raise ValueError(
                f"inputs must have {self.input_size} features in their last axis, got shape {tuple(inputs.shape)}."
            )
        check_like(inputs, name="inputs", like=next(self.layers.parameters()))
        outputs: Tensor = self.layers(inputs)
        return outputs
