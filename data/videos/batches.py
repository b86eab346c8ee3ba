"""Clips as batches: pixels of their frames, or what a frozen encoder makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from data.batching import Indices, Piece
from data.feature_cache import FeatureCache, FrozenEncoder
from data.images.transforms import ImageTransform
from data.module import notify
from data.videos.decoding import read_frames
from data.videos.examining import BrokenVideos, Examined
from data.videos.files import VideoProblem
from data.videos.sampling import SamplingConfig

FrameOrder = Literal["forward", "reversed", "shuffled"]
FRAME_ORDERS: tuple[FrameOrder, ...] = get_args(FrameOrder)


class VideoBatch(NamedTuple):
    """Clips of different lengths with their classes."""

    images: UInt8[Tensor, "frames 3 height width"] | None
    """RGB frames of all clips one after the other, without padding; None where features are there in their place."""
    features: Float[Tensor, "batch time regions features"] | None
    """What a frozen encoder makes of the frames, float16, zeros in the padding; None where images are there."""
    lengths: Int[Tensor, "batch"]
    """Frames of each clip, at least 1."""
    labels: Int[Tensor, "batch"]
    """Class of each clip."""
    index: Int[Tensor, "batch"]  # type: ignore[assignment]  # nobody looks a tensor up in a batch
    """Number of each clip in its part."""
    weight: Float[Tensor, "batch"]
    """1, or 0 for a filler example that no loss and no metric counts."""


class ClipDataset:
    """The clips of one part as a `PlannedDataset`.

    In training a video is one clip; in evaluation it is as many as `sampling` says, one after the other.

    Args:
        videos: what is in them.
        labels: class of each video.
        sampling: which frames are seen.
        transform: what is done to each of them; in training what it varies is the same for all frames of a clip.
        frame_order: forward; reversed or shuffled are controls, of what a network makes of the order.
        training: whether frames are drawn and varied.
        max_broken_share: share of the videos that may turn out to be broken in training.
        seed: seed of both, and of shuffled frames.
    """

    def __init__(
        self,
        videos: Examined,
        labels: Indices,
        *,
        sampling: SamplingConfig,
        transform: ImageTransform,
        frame_order: FrameOrder,
        training: bool,
        max_broken_share: float,
        seed: int,
    ) -> None:
        assert len(labels) == len(videos.rows)
        self.videos = videos
        self.labels = labels
        self.sampling = sampling
        self.transform = transform
        self.frame_order: FrameOrder = frame_order
        self.training = training
        self.seed = seed
        self.broken = BrokenVideos(len(labels), max_share=max_broken_share)
        known = list(zip(videos.num_frames, videos.fps, strict=True))
        clips = [1 if training else len(sampling.clips(*each, seed=None)) for each in known]
        self.video_of: Indices = np.repeat(np.arange(len(labels)), clips)
        """The video that each clip is of, `(num_clips,)`."""
        self._clip_of = np.concatenate([np.arange(number) for number in clips])
        self._lengths = np.array([sampling.num_frames_of(*each) for each in known], np.int64)[self.video_of]
        self._cache: FeatureCache | None = None
        self._cached_epochs: int | None = None
        self._caches_all_frames = False

    def __len__(self) -> int:
        return len(self.video_of)

    @property
    def lengths(self) -> Indices:
        """Frames of each clip, `(num_clips,)`."""
        return self._lengths

    def use_images(self) -> None:
        """Give images."""
        self._cache = self._cached_epochs = None

    def use_features(self, cache: FeatureCache, *, epochs: int | None, has_all_frames: bool) -> None:
        """Give features instead of images: in training for so many epochs, None for all.

        Args:
            cache: of every clip in its order; with `has_all_frames` of every video, all its frames.
            epochs: see above.
            has_all_frames: whether the frames of a clip have to be found among those of its video.
        """
        self._cache = cache
        self._cached_epochs = epochs if self.training else None
        self._caches_all_frames = has_all_frames

    def frames_of(self, clip: int, *, epoch: int | None) -> Indices:
        """Numbers of a clip's frames in its video, in the order they are given in.

        Args:
            clip: its number.
            epoch: of training; None in evaluation.
        """
        video = int(self.video_of[clip])
        seed = None if epoch is None or not self.training else (self.seed, epoch, video)
        clips = self.sampling.clips(self.videos.num_frames[video], self.videos.fps[video], seed=seed)
        frames = clips[0 if self.training else int(self._clip_of[clip])]
        if self.frame_order == "reversed":
            return frames[::-1].copy()
        if self.frame_order == "shuffled":
            drawn = (self.seed, epoch or 0, video) if self.training else (self.seed, video)
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(drawn)))
            return frames[generator.permutation(len(frames))]
        return frames

    def pixels(
        self, video: int, frames: Indices, *, epoch: int | None = None
    ) -> UInt8[Tensor, "frames 3 height width"]:
        """Frames of a video as the network takes them, all varied alike.

        Raises:
            VideoProblem: they cannot be read.
        """
        read = read_frames(self.videos.paths[video], frames)
        seed = None if epoch is None or not self.training else (self.seed, epoch, video)
        return torch.stack([self.transform(frame, seed=seed) for frame in read])

    def batch(self, piece: Piece) -> VideoBatch:
        """The clips of a piece."""
        epoch = piece.epoch if self.training else None
        clips = piece.indices
        images = features = None
        if self._cache is not None and (self._cached_epochs is None or piece.epoch < self._cached_epochs):
            features, lengths = self._features(self._cache, clips, epoch=epoch)
            labels = self.labels[self.video_of[clips]]
        else:
            read = [self._read(int(clip), epoch=epoch) for clip in clips]
            images = torch.cat([pixels for pixels, _ in read])
            lengths = torch.tensor([len(pixels) for pixels, _ in read])
            labels = self.labels[self.video_of[[clip for _, clip in read]]]
        return VideoBatch(
            images=images,
            features=features,
            lengths=lengths,
            labels=torch.from_numpy(labels),
            index=torch.from_numpy(clips),
            weight=torch.full((len(clips),), piece.weight),
        )

    def _read(self, clip: int, *, epoch: int | None) -> tuple[Tensor, int]:
        """A clip's pixels, and which clip it is: in training another one's where it is broken."""
        while True:
            try:
                return self.pixels(int(self.video_of[clip]), self.frames_of(clip, epoch=epoch), epoch=epoch), clip
            except VideoProblem as problem:
                if not self.training:
                    raise  # what is tested must be whole
                clip = self.broken.add(clip, problem)

    def _features(self, cache: FeatureCache, clips: Indices, *, epoch: int | None) -> tuple[Tensor, Tensor]:
        frames = [self.frames_of(int(clip), epoch=epoch) for clip in clips]
        lengths = torch.tensor([len(some) for some in frames])
        there = cache.take_padded(self.video_of[clips] if self._caches_all_frames else clips).features
        if self._caches_all_frames:
            places = frames
        elif self.frame_order != "forward":
            # The cache has them in their own order.
            places = [np.argsort(np.argsort(some)) for some in frames]
        else:
            return there, lengths
        padded = np.zeros((len(clips), int(lengths.max())), np.int64)
        for row, some in enumerate(places):
            padded[row, : len(some)] = some
        features = there[torch.arange(len(clips))[:, None], torch.from_numpy(padded)]
        features[torch.arange(padded.shape[1]) >= lengths[:, None]] = 0
        return features, lengths


def open_features(
    dataset: ClipDataset,
    encoder: FrozenEncoder,
    *,
    name: str,
    key: Mapping[str, str],
    folder: str,
    identities: list[str],
) -> FeatureCache:
    """The features of a part's frames from the cache, computed where they are not there.

    Where training draws other frames in every epoch, all frames of its videos are kept; otherwise those that are seen.

    Args:
        dataset: the clips.
        encoder: makes features of frames.
        name: slot of the cache.
        key: what decides the features beside encoder and videos.
        folder: the cache.
        identities: of each video.

    Raises:
        ValueError: a video cannot be read, or the cache cannot be written.
    """
    if draws_frames(dataset):
        wanted = [(video, np.arange(number)) for video, number in enumerate(dataset.videos.num_frames)]
        called = identities
    else:
        # In their own order, whatever order they are given in.
        wanted = [
            (int(video), np.sort(dataset.frames_of(clip, epoch=None))) for clip, video in enumerate(dataset.video_of)
        ]
        called = [f"{identities[video]}|{','.join(map(str, frames))}" for video, frames in wanted]

    def encode(items: list[int]) -> Tensor:
        return torch.cat([encoder.encode(dataset.pixels(*wanted[item])) for item in items])

    return FeatureCache.open_or_build(
        Path(folder),
        name=name,
        key={**key, "weights": encoder.fingerprint()},
        identities=called,
        encode=encode,
        row_shape=encoder.row_shape,
        batch_size=1,
        lengths=[len(frames) for _, frames in wanted],
        description="features",
        notify_waiting=notify,
    )


def draws_frames(dataset: ClipDataset) -> bool:
    """Whether a part sees other frames in every epoch."""
    return dataset.training and dataset.sampling.is_random
