"""Several networks that describe images as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from apps.captioning.module import CaptioningModule
from apps.captioning.network import SPECIAL, RecurrentCaptioningNetwork, num_regions
from core.nn.search import BeamConfig, Hypotheses, score, search
from core.nn.searching.ensemble import Ensemble, EnsembleState
from core.nn.vision import first_alike


class CaptioningEnsemble:
    """Searches by the mean of the probabilities that its members give each next word; each has an encoder of its own.

    The members share the vocabulary and see as many regions. Source: Vinyals et al., CVPR 2015.
    """

    def __init__(self, members: Sequence[RecurrentCaptioningNetwork]) -> None:
        self.members = tuple(members)
        self._decoder = Ensemble([member.decoder for member in self.members])
        self._encoders = first_alike([member.encoder for member in self.members])
        self._widths = [member.encoder.num_features for member in self.members]

    @classmethod
    def of(cls, modules: Sequence[CaptioningModule], *, names: Sequence[str]) -> Self:
        """The networks of modules that share the vocabulary and the size of images, as one.

        Raises:
            ValueError: naming the module whose network searches nothing, or sees other regions than the first.
        """
        members: list[RecurrentCaptioningNetwork] = []
        size = modules[0].preprocessing["image_size"]
        for name, module in zip(names, modules, strict=True):
            if not isinstance(module.network, RecurrentCaptioningNetwork):
                raise ValueError(
                    f"--ensemble: the network in {name} searches nothing, each of its words stands for itself. Leave it out."
                )
            members.append(module.network)
            first, other = (each.encoder.grid_shape(*size) for each in (members[0], module.network))
            if first != other:
                raise ValueError(
                    f"--ensemble: the network in {name} sees {other[0]} x {other[1]} regions, that in {names[0]} "
                    f"{first[0]} x {first[1]}: they cannot look at an image together. Leave it out."
                )
        return cls(members)

    @property
    def has_attention(self) -> bool:
        """Whether all members look at regions: the weights are then the mean of theirs."""
        return all(member.has_attention for member in self.members)

    @property
    def has_search(self) -> bool:
        """A word depends on those before it."""
        return True

    def encode(self, images: Shaped[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch regions features"]:
        """What the members' encoders make of images, side by side; what is alike is computed once."""
        found = {number: self.members[number].encode(images) for number in set(self._encoders)}
        return torch.cat([found[number] for number in self._encoders], dim=-1)

    def caption(self, features: Float[Tensor, "batch regions features"], *, config: BeamConfig) -> Hypotheses:
        """See `CaptioningNetwork.caption`."""
        return search(
            self._decoder,
            state=self._start(features),
            config=config,
            special=SPECIAL,
            source_lengths=num_regions(features),
        )

    def score(
        self, features: Float[Tensor, "batch regions features"], given: Sequence[Sequence[int]], *, config: BeamConfig
    ) -> Hypotheses:
        """See `CaptioningNetwork.score`."""
        return score(
            self._decoder,
            state=self._start(features),
            given=given,
            config=config,
            special=SPECIAL,
            source_lengths=num_regions(features),
        )

    @torch.no_grad()
    def _start(self, features: Tensor) -> EnsembleState:
        parts = torch.split(features, self._widths, dim=-1)
        return self._decoder.join([member.start(part) for member, part in zip(self.members, parts, strict=True)])
