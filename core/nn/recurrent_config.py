"""Which recurrent layers to build, and which combinations there are."""

import math
from dataclasses import dataclass
from typing import get_args

from core.nn.cells import CELL_KINDS, CellKind, Reset

# Gates that see the inputs alone: no recurrent weight, no second gate to drop.
MIN_KINDS: tuple[CellKind, ...] = ("min_gru", "min_lstm")


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Which cell, how wide, how deep, and how it is kept from overfitting."""

    kind: CellKind
    """Cell: rnn_tanh, rnn_sigmoid, rnn_relu, lstm, gru, min_gru or min_lstm."""
    hidden_size: int
    """Units per layer and direction."""
    num_layers: int = 1
    """Stacked layers, each reading the outputs of the one below."""
    bidirectional: bool = False
    """Add a backward sub-network over the same sequence; outputs are twice as wide."""
    dropout: float = 0.0
    """Probability of zeroing a unit between layers, in [0, 1)."""
    locked_dropout: bool = False
    """Between layers zero the same units at every step of a sequence (Gal & Ghahramani, arXiv:1512.05287)."""
    weight_drop: float = 0.0
    """Probability of zeroing a recurrent weight, for a whole batch at once, in [0, 1) (Merity et al., arXiv:1708.02182)."""
    zoneout: float = 0.0
    """Probability that a hidden unit keeps its value at a step, in [0, 1) (Krueger et al., arXiv:1606.01305)."""
    zoneout_cell: float = 0.0
    """LSTM only: the same for its cell state."""
    layer_norm: bool = False
    """LSTM and GRU only: normalise the products of a step (Ba et al., arXiv:1607.06450)."""
    residual: bool = False
    """Add each layer's input to its output, from the second layer on (Wu et al., arXiv:1609.08144, section 3.1)."""
    learn_initial_state: bool = False
    """Learn the state before the first step instead of starting from zeros."""
    forget_bias: float | None = None
    """LSTM, minLSTM and GRU: where the bias of the gate that keeps the past starts (forget gate, update gate). The larger,
    the longer a state is kept at first. None: 1 for both LSTMs, 0 for the GRU (Jozefowicz et al., ICML 2015, section 2.2)."""
    reset: Reset | None = None
    """GRU only: reset gate `after` the recurrent product (PyTorch's, the default) or `before` (Cho et al. 2014)."""

    def __post_init__(self) -> None:
        if self.kind not in CELL_KINDS:
            raise ValueError(f"kind must be one of {', '.join(CELL_KINDS)}, got {self.kind!r}.")
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, got {self.hidden_size}.")
        if self.num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {self.num_layers}.")
        for name in ("dropout", "weight_drop", "zoneout", "zoneout_cell"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        self._check_depth()
        self._check_cell()

    def _check_depth(self) -> None:
        if self.dropout > 0 and self.num_layers == 1:
            raise ValueError(
                f"dropout={self.dropout} does nothing with num_layers=1: it acts between layers. "
                "Remove it or add a layer."
            )
        if self.locked_dropout and self.dropout == 0:
            raise ValueError(
                "locked_dropout=true does nothing with dropout=0: it says how units between layers are dropped. Set "
                "dropout or remove it."
            )
        if self.residual and self.num_layers == 1:
            raise ValueError(
                "residual=true does nothing with num_layers=1: it starts at the second layer. Remove it or add a layer."
            )

    def _check_cell(self) -> None:
        if self.forget_bias is not None and self.kind not in ("lstm", "min_lstm", "gru"):
            raise ValueError(
                f"forget_bias={self.forget_bias} does nothing with kind={self.kind!r}: only an lstm, a min_lstm and a gru read "
                "it. Remove it."
            )
        if self.forget_bias is not None and not math.isfinite(self.forget_bias):
            raise ValueError(f"forget_bias must be finite, got {self.forget_bias}.")
        if self.reset is not None and self.kind != "gru":
            raise ValueError(
                f"reset={self.reset!r} does nothing with kind={self.kind!r}: only a GRU reads it. Remove it."
            )
        if self.reset is not None and self.reset not in get_args(Reset):
            raise ValueError(f"reset must be one of {', '.join(get_args(Reset))}, got {self.reset!r}.")
        if self.layer_norm and self.kind not in ("lstm", "gru"):
            raise ValueError(
                f"layer_norm=true is not defined for kind={self.kind!r}: it normalises the products behind the gates of "
                "an lstm or a gru. Remove it or change the kind."
            )
        if self.layer_norm and self.reset == "before":
            raise ValueError(
                "layer_norm=true is defined for reset='after' only: it normalises the candidate's recurrent product "
                "before the reset gate meets it. Remove one of them."
            )
        if self.zoneout_cell > 0 and self.kind != "lstm":
            raise ValueError(
                f"zoneout_cell={self.zoneout_cell} does nothing with kind={self.kind!r}: only an LSTM has a cell state. "
                "Remove it."
            )
        for name in ("weight_drop", "zoneout"):
            if getattr(self, name) > 0 and self.kind in MIN_KINDS:
                raise ValueError(
                    f"{name}={getattr(self, name)} cannot be had with kind={self.kind!r}: its gates do not see the state, "
                    "so it has no recurrent weight, and its steps are not computed one by one. Remove it."
                )

    @property
    def num_directions(self) -> int:
        """2 when bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of the outputs: the directions side by side, forward first."""
        return self.num_directions * self.hidden_size
