"""Self-critical training: the network draws captions, and the better ones become likelier.

The gradient is that of -sum over drawn captions of (r - b) log p, r the reward of a caption (CIDEr-D against the image's
references) and b a baseline that does not depend on it: the reward of the greedy caption (Rennie et al., "Self-Critical
Sequence Training for Image Captioning", CVPR 2017, eq. 7), or the mean reward of the image's other draws (Luo, "A Better
Variant of Self-Critical Sequence Training", arXiv:2003.09971).

Captions are drawn without dropout, and scored without it too by default, among the words that may be drawn: the distribution
that is drawn from is the one whose gradient is taken. A draw is a function of seed, epoch and image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from apps.captioning.network import RecurrentCaptioningNetwork
from core.nn.losses import SummedLoss
from core.nn.search import BeamConfig, Hypotheses, SamplingConfig
from data.text import EOS

Reward = Callable[[Sequence[int], Sequence[Sequence[int]]], npt.NDArray[np.float64]]
"""(rows of images, words and ends of one caption each) -> reward of each caption."""

BaselineKind = Literal["others", "greedy"]


@dataclass(frozen=True, kw_only=True)
class SelfCriticalConfig:
    """How captions are drawn, and what their rewards are held against."""

    num_samples: int = 5
    """Captions drawn for each image."""
    baseline: BaselineKind = "others"
    """others: the mean reward of the image's other draws; greedy: the reward of the greedy caption."""
    max_length: int = 20
    """Words of a drawn caption at most, its end included."""
    dropout: bool = False
    """Take the gradient of what was drawn, which is without dropout, with the network's dropout: that of the expected reward
    only nearly, and some guard against learning few images by heart."""

    def __post_init__(self) -> None:
        if self.baseline not in get_args(BaselineKind):
            raise ValueError(
                f"self_critical.baseline must be one of {', '.join(get_args(BaselineKind))}, got {self.baseline!r}."
            )
        least = 2 if self.baseline == "others" else 1
        if self.num_samples < least:
            raise ValueError(
                f"self_critical.num_samples must be at least {least} with baseline {self.baseline}, got {self.num_samples}."
            )
        if self.max_length < 2:
            raise ValueError(f"self_critical.max_length must be at least 2, got {self.max_length}.")


class SelfCriticalLoss(NamedTuple):
    """What a piece of a batch gives."""

    loss: SummedLoss
    """-sum of (r - b) log p, and the words drawn."""
    reward: SummedLoss
    """Sum of the drawn captions' rewards, and their number."""


def self_critical_loss(
    network: RecurrentCaptioningNetwork,
    features: Float[Tensor, "batch regions features"],
    *,
    reward: Reward,
    rows: Int[Tensor, "batch"],
    weight: Float[Tensor, "batch"],
    config: SelfCriticalConfig,
    seed: int,
) -> SelfCriticalLoss:
    """The loss whose gradient is that of the expected reward.

    Args:
        network: in any mode; it is run without dropout, but for what `config.dropout` says.
        features: of the images, with a history where the encoder is trained.
        reward: of captions.
        rows: int64, what names each image for `reward` and for the draw.
        weight: 1, or 0 for a filler.
        config: how captions are drawn.
        seed: of the draw.
    """
    with without_dropout(network):
        sampling = SamplingConfig(seed=seed, num_samples=config.num_samples, max_length=config.max_length)
        samples = network.caption(features.detach(), config=sampling, keys=rows)
        rewards = _rewards(samples, rows, reward).to(features.device)
        if config.baseline == "greedy":
            greedy = network.caption(features.detach(), config=BeamConfig(beam_size=1, max_length=config.max_length))
            advantage = rewards - _rewards(greedy, rows, reward).to(features.device)
        else:
            advantage = (rewards - rewards.mean(1, keepdim=True)) * config.num_samples / (config.num_samples - 1)
    per_row = (advantage * weight.to(advantage).unsqueeze(1)).flatten()
    with nullcontext() if config.dropout else without_dropout(network):
        total = network.sample_loss(features, samples, weight=per_row.to(weight.dtype))
    num_words = (samples.lengths * weight.to(samples.lengths.dtype).unsqueeze(1)).sum()
    kept = weight.to(rewards).unsqueeze(1)
    return SelfCriticalLoss(
        SummedLoss(total, num_words.to(total.dtype)),
        SummedLoss((rewards * kept).sum(), kept.sum() * config.num_samples),
    )


def _rewards(hypotheses: Hypotheses, rows: Tensor, reward: Reward) -> Tensor:
    """(images, captions) float64."""
    captions, images = [], []
    lists = hypotheses.token_lists()
    finished = hypotheses.finished.tolist()
    for row, some, ended in zip(rows.tolist(), lists, finished, strict=True):
        for caption, has_end in zip(some, ended, strict=True):
            # The end is a word of the reward too: without it captions that break off score as well as those that close.
            captions.append([*caption, EOS] if has_end else caption)
            images.append(row)
    return torch.from_numpy(reward(images, captions)).reshape(len(lists), -1)


@contextmanager
def without_dropout(network: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode for a while."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
