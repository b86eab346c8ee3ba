"""How every network here is built and trained: the same loop, optimiser and schedule for all that are compared."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.notes.experiment import Curve
from core.nn.feed_forward import FeedForward, FeedForwardConfig
from core.nn.lengths import last_valid_step
from core.nn.recurrent import Recurrent, RecurrentConfig

LARGEST_GRADIENT = 1.0
"""Norm to which gradients are clipped."""

NETWORKS: dict[str, RecurrentConfig] = {
    "tanh": RecurrentConfig(kind="rnn_tanh", hidden_size=1),
    "LSTM": RecurrentConfig(kind="lstm", hidden_size=1),
    "GRU": RecurrentConfig(kind="gru", hidden_size=1),
    "LSTM, layer norm": RecurrentConfig(kind="lstm", hidden_size=1, layer_norm=True),
    "minGRU": RecurrentConfig(kind="min_gru", hidden_size=1),
}
"""Recurrent layers by their name in a table; the width follows from the number of parameters."""

FEED_FORWARD = "feed-forward"


class ManyToMany(nn.Module):
    """Recurrent layers and a linear output at every step."""

    def __init__(self, config: RecurrentConfig, *, input_size: int, num_outputs: int) -> None:
        super().__init__()
        self.recurrent = Recurrent(config, input_size=input_size)
        self.output = nn.Linear(config.output_size, num_outputs)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(batch, time, features)` -> `(batch, time, outputs)`."""
        outputs, _ = self.recurrent(inputs, lengths)
        scores: Tensor = self.output(outputs)
        return scores


class ManyToOne(ManyToMany):
    """The output after the last step alone."""

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(batch, time, features)` -> `(batch, outputs)`."""
        outputs, _ = self.recurrent(inputs, lengths)
        last = outputs[:, -1] if lengths is None else last_valid_step(outputs, lengths)
        scores: Tensor = self.output(last)
        return scores


class WholeWindow(nn.Module):
    """A feed-forward network over all steps of a window at once."""

    def __init__(self, width: int, *, num_steps: int, input_size: int, num_outputs: int) -> None:
        super().__init__()
        self.layers = FeedForward(
            FeedForwardConfig(hidden_sizes=[width]), input_size=num_steps * input_size, output_size=num_outputs
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """`(batch, time, features)` -> `(batch, outputs)`."""
        scores: Tensor = self.layers(inputs.flatten(1))
        return scores


def count_parameters(network: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def widest(build: Callable[[int], nn.Module], *, num_parameters: int) -> nn.Module:
    """The widest network with at most so many parameters; at least one unit wide."""
    low, high = 1, 2
    while count_parameters(build(high)) <= num_parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_parameters(build(middle)) <= num_parameters else (low, middle)
    return build(low)


def fit(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    *,
    num_updates: int,
    lr: float,
    test: Callable[[], float],
    num_tests: int = 20,
) -> Curve:
    """Adam with clipped gradients, its rate warmed up over 2 % of the updates and then falling to 0 along a cosine.

    Args:
        network: what is trained.
        loss: the loss of the batch of an update, counted from 0.
        num_updates: optimiser steps.
        lr: largest learning rate.
        test: the error on the test data, in evaluation mode.
        num_tests: tests on the way, the last one at the end.

    Returns:
        The test error over the updates.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    warm_up = max(1, num_updates // 50)
    every = max(1, num_updates // num_tests)
    curve: Curve = {"x": [], "y": []}
    network.train()
    for update in range(num_updates):
        factor = min((update + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * update / num_updates)))
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        optimizer.zero_grad(set_to_none=True)
        loss(update).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        if (num_updates - update - 1) % every == 0:
            network.eval()
            with torch.no_grad():
                curve["x"].append(update + 1)
                curve["y"].append(test())
            network.train()
    network.eval()
    return curve
