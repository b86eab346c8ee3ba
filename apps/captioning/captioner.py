"""Captions of image files from a trained module, a few files at a time; what cannot be read is skipped and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from apps.captioning.ensemble import CaptioningEnsemble
from apps.captioning.module import CaptioningModule
from core.nn.search import BeamConfig, Hypotheses
from data.images.reading import ImageProblem, read_image
from data.images.transforms import ImageTransform
from data.text import EOS

IMAGES_AT_ONCE = 32


@dataclass(frozen=True)
class Caption:
    """One caption of one image."""

    text: str
    score: float
    """What the search ranked by: log-probability, with its penalties."""
    log_probability: float
    """log P(caption | image), natural logarithm."""
    tokens: list[str] = field(default_factory=list)
    """Words, the end included where there is one."""
    attention: npt.NDArray[np.floating[Any]] | None = None
    """(words, height, width) of the grid, each sums to 1; None without attention."""


class Captioner:
    """Describes images.

    Args:
        module: trained, on the device to compute on.
        config: the search.
        images_at_once: memory and speed, not results.
        ensemble: what describes in the place of the module's network.
    """

    def __init__(
        self,
        module: CaptioningModule,
        *,
        config: BeamConfig,
        images_at_once: int = IMAGES_AT_ONCE,
        ensemble: CaptioningEnsemble | None = None,
    ) -> None:
        assert module.network is not None
        self.module = module.eval()
        self.network = ensemble or module.network
        self._encoder = module.network.encoder
        self.config = config
        self.images_at_once = images_at_once
        self.transform = ImageTransform(**module.preprocessing["transform"])
        self.problems: list[str] = []
        """What was wrong with each file that was skipped."""

    def describe(self, paths: Iterable[Path]) -> Iterator[tuple[Path, list[Caption]]]:
        """Each file that can be read with its captions, best first, in order."""
        remaining = iter(paths)
        while some := list(islice(remaining, self.images_at_once)):
            readable, images = [], []
            for path in some:
                try:
                    images.append(self.transform(read_image(path), seed=None))
                except ImageProblem as problem:
                    self.problems.append(str(problem))
                    continue
                readable.append(path)
            if images:
                yield from zip(readable, self.describe_images(torch.stack(images)), strict=True)

    def describe_images(self, images: Tensor) -> list[list[Caption]]:
        """Captions of uint8 RGB images (batch, 3, height, width) at the size of the training."""
        features = self.network.encode(images.to(self.module.device))
        return self.read(self.network.caption(features, config=self.config), size=(images.shape[2], images.shape[3]))

    def score_images(self, images: Tensor, given: Sequence[str]) -> list[list[Caption]]:
        """Given captions, one an image, scored, and with where the network would have looked."""
        features = self.network.encode(images.to(self.module.device))
        tokens = [list(map(int, caption)) for caption in self.module.text.encode(given)]
        found = self.network.score(features, tokens, config=self.config)
        return self.read(found, size=(images.shape[2], images.shape[3]))

    def read(self, hypotheses: Hypotheses, *, size: tuple[int, int]) -> list[list[Caption]]:
        """Hypotheses as captions; `size` of the images in pixels, height and width."""
        text, grid = self.module.text, self._encoder.grid_shape(*size)
        attention = None if hypotheses.attention is None else hypotheses.attention.float().cpu().numpy()
        lists = hypotheses.token_lists()
        numbers = (hypotheses.scores, hypotheses.log_probabilities, hypotheses.lengths)
        scores, log_probabilities, lengths = (part.tolist() for part in numbers)
        found = []
        for row, some in enumerate(lists):
            captions = []
            for rank, ids in enumerate(some):
                length = lengths[row][rank]
                captions.append(
                    Caption(
                        text=text.decode(ids),
                        score=scores[row][rank],
                        log_probability=log_probabilities[row][rank],
                        tokens=text.tokens([*ids, EOS] if length > len(ids) else ids),
                        attention=None if attention is None else attention[row, rank, :length].reshape(length, *grid),
                    )
                )
            found.append(captions)
        return found
