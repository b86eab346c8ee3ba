"""Videos and their classes: files to frames, pixels or cached features to batches of clips of different lengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data.batching import Indices
from data.encoded_module import EncodedDataModule
from data.feature_cache import slot_name
from data.images.transforms import ImageTransform
from data.module import LoaderConfig, notify
from data.videos.balance import ClassBalance
from data.videos.batches import FRAME_ORDERS, ClipDataset, FrameOrder, VideoBatch, draws_frames, open_features
from data.videos.checks import PARTS
from data.videos.examining import Examined, examine
from data.videos.reading import VideoCorpus, VideoCorpusConfig
from data.videos.sampling import SamplingConfig, Uniform, sampling_to_plain

__all__ = ["ClipDataset", "VideoBatch", "VideoClassificationData"]

SQUARE = ImageTransform(size=224)
SIXTEEN = Uniform(num_frames=16)


class VideoClassificationData(EncodedDataModule[ClipDataset]):
    """Clips with their classes as batches."""

    image_name: ClassVar[str] = "frame"

    def __init__(
        self,
        corpus: VideoCorpusConfig,
        *,
        batch_size: int | None = None,
        frame_budget: int | None = None,
        sampling: SamplingConfig = SIXTEEN,
        transform: ImageTransform = SQUARE,
        frame_order: FrameOrder = "forward",
        max_broken_share: float = 0.01,
        feature_cache: bool = True,
        loader: LoaderConfig = LoaderConfig(),
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        """Clips with their classes as batches.

        Args:
            corpus: where videos and classes are: SplitTable, ClassFolders, UCF101, HMDB51, Kinetics or HuggingFaceVideos.
            batch_size: clips an optimiser step, over all processes and accumulated pieces. Exactly one of batch_size and
                frame_budget is given.
            frame_budget: padded frames an optimiser step instead: its longest clip times its number of clips.
            sampling: which frames of a video are seen: Uniform, RandomSegments, Dense, AtRate or EveryFrame.
            transform: how frames are brought to one size; what varies in training is the same for all frames of a clip.
            frame_order: forward; reversed or shuffled, as controls of what a network makes of the order.
            max_broken_share: share of a part's videos that may be unreadable: they are left out, and named. More are an error.
            feature_cache: keep what a frozen encoder makes of the frames on disk, instead of encoding them in every epoch.
            loader: how batches are brought to the network.
            cache_dir: where features, and what is known of videos, are kept. None: UNROLL_CACHE, or the user's cache folder.
            seed: seed of the order of clips, of the frames drawn and of their variation.
        """
        if (batch_size is None) == (frame_budget is None):
            raise ValueError(
                f"Give either data.batch_size or data.frame_budget, got batch_size={batch_size} and "
                f"frame_budget={frame_budget}."
            )
        if frame_budget is not None and frame_budget < 1:
            raise ValueError(f"data.frame_budget must be at least 1, got {frame_budget}.")
        if frame_order not in FRAME_ORDERS:
            raise ValueError(f"data.frame_order must be one of {', '.join(FRAME_ORDERS)}, got {frame_order!r}.")
        if not 0 <= max_broken_share < 1:
            raise ValueError(f"data.max_broken_share must be at least 0 and below 1, got {max_broken_share}.")
        super().__init__(
            batch_size=batch_size,
            seed=seed,
            loader=loader,
            token_budget=frame_budget,
            transform=transform,
            feature_cache=feature_cache,
            cache_dir=cache_dir,
        )
        self.corpus = corpus
        self.sampling = sampling
        self.frame_order: FrameOrder = frame_order
        self.max_broken_share = max_broken_share
        self._read: dict[str, VideoCorpus] = {}
        self._examined: dict[str, Examined] = {}
        self._adopted: dict[str, Any] | None = None
        self._has_told = False

    def prepare_data(self) -> None:
        """Look into the videos once, on the first process, so that the others find in the cache what it found."""
        self._videos("train")

    def setup(self, stage: str) -> None:
        """Have the parts ready that a stage needs: `fit`, `validate`, `test` or `predict`."""
        for part in {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}.get(stage, ()):
            self.dataset(part)
        if stage == "fit" and not self._has_told:
            self._has_told = True
            notify(self.balance().summary("train"))

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        """Hold the classes to those of a checkpoint: another set of classes, or another order of them, is refused.

        Raises:
            ValueError: naming the classes that one has and the other has not.
        """
        self._adopted = dict(preprocessing)

    def videos(self, part: str) -> VideoCorpus:
        """Videos and classes of `train`, `validation` or `test`, as listed."""
        if part not in self._read:
            assert part in PARTS
            self._read[part] = self.corpus.read(part, cache_dir=self._folder())
            self._check_classes(self._read[part].class_names)
        return self._read[part]

    def _check_classes(self, names: tuple[str, ...]) -> None:
        if self._adopted is None or tuple(self._adopted["class_names"]) == names:
            return
        theirs = self._adopted["class_names"]
        more, fewer = [name for name in names if name not in theirs], [name for name in theirs if name not in names]
        raise ValueError(
            f"The checkpoint knows {len(theirs)} classes and data.corpus has {len(names)}"
            + (f"; only here: {', '.join(more[:5])}" if more else "")
            + (f"; only there: {', '.join(fewer[:5])}" if fewer else "")
            + ("" if more or fewer else ", the same ones in another order")
            + ". Evaluate on the classes that the network was trained for, or train it for these."
        )

    def _videos(self, part: str) -> Examined:
        if part not in self._examined:
            self._examined[part] = examine(
                self.videos(part),
                name=f"{slot_name(self.corpus)}-{part}",
                folder=Path(self._folder()),
                max_broken_share=self.max_broken_share,
                num_workers=self.loader.num_workers,
            )
        return self._examined[part]

    def dataset(self, part: str) -> ClipDataset:
        """The clips of `train`, `validation` or `test`."""
        if part not in self._datasets:
            videos = self._videos(part)
            self._datasets[part] = ClipDataset(
                videos,
                self.videos(part).labels[videos.rows],
                sampling=self.sampling,
                transform=self.transform,
                frame_order=self.frame_order,
                training=part == "train",
                max_broken_share=self.max_broken_share,
                seed=self.seed,
            )
        dataset = self._datasets[part]
        encoder = self._encoder_due(part)
        if encoder is not None:
            corpus = self.videos(part)
            cache = open_features(
                dataset,
                encoder,
                name=f"{slot_name(self.corpus)}-{part}",
                key={"transform": self.transform.fingerprint},
                folder=self._folder(),
                identities=[corpus.identity(row) for row in dataset.videos.rows],
            )
            dataset.use_features(cache, epochs=encoder.epochs, has_all_frames=draws_frames(dataset))
        return dataset

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes, in their order."""
        if self._adopted is not None and not self._read:
            return tuple(self._adopted["class_names"])
        corpora = list(self._read.values())
        return corpora[0].class_names if corpora else self.videos("train").class_names

    def balance(self) -> ClassBalance:
        """Clips of each class in each part that has been read."""
        return ClassBalance(self.class_names, {part: corpus.counts for part, corpus in self._read.items()})

    def labels(self, part: str) -> Indices:
        """Class of each readable video of a part."""
        return self.dataset(part).labels

    def preprocessing(self) -> dict[str, Any]:
        """What classifying new videos needs: classes, which frames are seen, and what is done to them."""
        return {
            "class_names": list(self.class_names),
            "class_counts": self._class_counts(),
            "sampling": sampling_to_plain(self.sampling),
            "transform": self.transform.plain(),
            "image_size": list(self.transform.shape),
        }

    def _class_counts(self) -> list[int]:
        if self._adopted is not None:
            return list(self._adopted["class_counts"])
        counts: list[int] = np.bincount(self.labels("train"), minlength=len(self.class_names)).tolist()
        return counts

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share; the clips of the training part by their fingerprint, wherever they lie now."""
        return {
            "sampling": sampling_to_plain(self.sampling),
            "transform": self.transform.plain(),
            "frame_order": self.frame_order,
            "batch_size": self.batch_size,
            "frame_budget": self.token_budget,
            "feature_cache": self.feature_cache,
            "seed": self.seed,
            # None where a test has done without the training part.
            "clips of the training part": self._read["train"].fingerprint if "train" in self._read else None,
        }
