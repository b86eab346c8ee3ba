"""Several networks that classify clips as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.network import ClassificationNetwork
from core.nn.vision import first_alike


class ClassificationEnsemble:
    """Scores clips by the mean of the members' probabilities; each member has an encoder of its own.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.
    """

    def __init__(self, modules: Sequence[VideoClassificationModule]) -> None:
        """Of modules, in evaluation mode, for the same classes and the same size of frames."""
        self.members: list[ClassificationNetwork[Any]] = []
        # Maps and pooled features are flattened to stand side by side.
        self._shapes: list[tuple[int, int]] = []
        for module in modules:
            assert module.network is not None
            self.members.append(module.network)
            encoder = module.network.encoder
            num_regions = math.prod(encoder.grid_shape(*module.preprocessing["image_size"]))
            self._shapes.append((num_regions, encoder.num_features))
        self._encoders = first_alike([member.encoder for member in self.members])

    @property
    def is_causal(self) -> bool:
        """Whether all members can classify clips as they come."""
        return all(member.is_causal for member in self.members)

    def encode(self, images: Shaped[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 1 features"]:
        """What the members' encoders make of frames, side by side; what is alike is computed once."""
        found = {number: self.members[number].encode(images).flatten(1) for number in set(self._encoders)}
        return torch.cat([found[number] for number in self._encoders], dim=-1).unsqueeze(1)

    def __call__(
        self, features: Float[Tensor, "batch time 1 features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Logarithms of the classes' mean probabilities; see `ClassificationNetwork.forward`."""
        return _mean(member(part, lengths) for member, part in zip(self.members, self._split(features), strict=True))

    def scores_over_time(self, features: Float[Tensor, "batch time 1 features"]) -> Float[Tensor, "batch time classes"]:
        """See `ClassificationNetwork.scores_over_time`."""
        parts = self._split(features)
        return _mean(member.scores_over_time(part) for member, part in zip(self.members, parts, strict=True))

    def step(
        self, features: Float[Tensor, "batch 1 features"], state: list[Any] | None
    ) -> tuple[Float[Tensor, "batch classes"], list[Any]]:
        """See `ClassificationNetwork.step`."""
        states = [None] * len(self.members) if state is None else state
        parts = self._split(features)
        steps = [member.step(part, own) for member, part, own in zip(self.members, parts, states, strict=True)]
        return _mean(scores for scores, _ in steps), [own for _, own in steps]

    def _split(self, features: Tensor) -> list[Tensor]:
        parts = torch.split(features.squeeze(-2), [math.prod(shape) for shape in self._shapes], dim=-1)
        return [part.reshape(*part.shape[:-1], *shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _mean(scores: Iterable[Tensor]) -> Tensor:
    chances = [each.double().log_softmax(-1) for each in scores]
    return torch.stack(chances).logsumexp(0) - math.log(len(chances))
