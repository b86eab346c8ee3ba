"""Images with their captions as batches: each image once, whatever the number of its captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from data.batching import Indices, Piece
from data.captions.corpus import CaptionCorpus
from data.feature_cache import FeatureCache, FrozenEncoder
from data.images.transforms import ImageTransform
from data.module import notify
from data.text import BOS, EOS, PAD, TokenArrays


class CaptionBatch(NamedTuple):
    """Images and captions; those of an image stand together, as many rows for each image as for every other."""

    images: UInt8[Tensor, "batch 3 height width"] | None
    """RGB; None where features are there in their place."""
    features: Float[Tensor, "batch regions features"] | None
    """What a frozen encoder makes of the images, float16; None where images are there."""
    captions: Int[Tensor, "rows time"]
    """`BOS` and the words: what the decoder is given."""
    labels: Int[Tensor, "rows time"]
    """The words and `EOS`: what it has to say."""
    lengths: Int[Tensor, "rows"]
    """Tokens of captions and of labels; 0 in a row that only fills up an image with fewer captions than others."""
    index: Int[Tensor, "batch"]  # type: ignore[assignment]  # nobody looks a tensor up in a batch
    """Row of each image in its part, as read."""
    weight: Float[Tensor, "batch"]
    """1, or 0 for a filler example that no loss and no metric counts."""

    @property
    def row_weight(self) -> Float[Tensor, "rows"]:
        """The weight of each caption's image."""
        return self.weight.repeat_interleave(len(self.captions) // len(self.weight))


class CaptionDataset:
    """The images of one part as a `PlannedDataset`.

    Args:
        corpus: images and their captions.
        sentences: all captions, those of an image one after the other, without begin or end.
        num_captions: captions of each image, `(num_images,)`.
        rows: the images to take, by their row in the part.
        transform: what is done to an image.
        training: vary images, and choose among captions; otherwise neither.
        captions_per_image: captions of an image in an epoch, drawn anew in each; None: all.
        seed: seed of both.
    """

    def __init__(
        self,
        corpus: CaptionCorpus,
        sentences: TokenArrays,
        num_captions: Indices,
        *,
        rows: Indices,
        transform: ImageTransform,
        training: bool,
        captions_per_image: int | None,
        seed: int,
    ) -> None:
        assert len(num_captions) == len(corpus)
        assert int(num_captions.sum()) == len(sentences)
        self.corpus = corpus
        self.sentences = sentences
        self.num_captions = num_captions
        self.rows = rows
        self.transform = transform
        self.training = training
        self.captions_per_image = captions_per_image if training else None
        self.seed = seed
        self._firsts = np.cumsum(num_captions) - num_captions
        self._cache: FeatureCache | None = None
        self._cached_epochs: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> None:
        """None: captions of one image differ in length, and rows that have ended cost nothing."""
        return

    def use_images(self) -> None:
        """Give images."""
        self._cache = self._cached_epochs = None

    def use_features(self, cache: FeatureCache, *, epochs: int | None) -> None:
        """Give features instead of images: in training for so many epochs, None for all."""
        self._cache = cache
        self._cached_epochs = epochs if self.training else None

    def image(self, row: int, *, epoch: int | None = None) -> UInt8[Tensor, "3 height width"]:
        """An image as the network takes it, varied as in that epoch of the training where one is given.

        Raises:
            data.images.reading.ImageProblem: it cannot be read.
        """
        seed = None if epoch is None or not self.training else (self.seed, epoch, row)
        return self.transform(self.corpus.load(row), seed=seed)

    def batch(self, piece: Piece) -> CaptionBatch:
        """The images of a piece with their captions."""
        rows = self.rows[piece.indices]
        images = features = None
        if self._cache is not None and (self._cached_epochs is None or piece.epoch < self._cached_epochs):
            features = self._cache.take(piece.indices)
        else:
            images = torch.stack([self.image(row, epoch=piece.epoch) for row in rows.tolist()])
        chosen = [self._chosen(row, piece.epoch) for row in rows.tolist()]
        most = max(map(len, chosen))
        # Images with fewer captions are filled up: every image has as many rows as every other.
        is_there = np.arange(most) < np.array([len(some) for some in chosen])[:, None]
        filled = np.zeros((len(rows), most), np.int64)
        filled[is_there] = np.concatenate(chosen)
        taken = self.sentences.take(filled.flatten())
        lengths = np.where(is_there.flatten(), taken.lengths + 1, 0)
        return CaptionBatch(
            images=images,
            features=features,
            captions=torch.from_numpy(taken.padded(before=BOS, padding=PAD)),
            labels=torch.from_numpy(taken.padded(after=EOS, padding=PAD)),
            lengths=torch.from_numpy(lengths),
            index=torch.from_numpy(rows),
            weight=torch.full((len(rows),), piece.weight),
        )

    def _chosen(self, row: int, epoch: int) -> Indices:
        """Numbers of the captions of an image in an epoch."""
        number, first = int(self.num_captions[row]), int(self._firsts[row])
        if self.captions_per_image is None or self.captions_per_image >= number:
            return np.arange(first, first + number)
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch, row))))
        return first + generator.permutation(number)[: self.captions_per_image]


def open_features(
    dataset: CaptionDataset, encoder: FrozenEncoder, *, name: str, key: Mapping[str, str], folder: str, batch_size: int
) -> FeatureCache:
    """The features of a data set's images from the cache, computed where they are not there.

    Args:
        dataset: the images.
        encoder: makes features of them.
        name: slot of the cache.
        key: what decides the features beside encoder and images.
        folder: the cache.
        batch_size: images encoded at once.

    Raises:
        ValueError: an image cannot be read, or the cache cannot be written.
    """
    rows = dataset.rows.tolist()

    def encode(items: list[int]) -> Tensor:
        return encoder.encode(torch.stack([dataset.image(rows[item]) for item in items]))

    return FeatureCache.open_or_build(
        Path(folder),
        name=name,
        key={**key, "weights": encoder.fingerprint()},
        identities=[dataset.corpus.identity(row) for row in rows],
        encode=encode,
        row_shape=encoder.row_shape,
        batch_size=batch_size,
        description="features",
        notify_waiting=notify,
    )
