"""Images and their captions: files to vocabulary, pixels or cached features to batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data.batching import Indices
from data.captions.batches import CaptionBatch, CaptionDataset, open_features
from data.captions.reading import PARTS, CaptionCorpus, CaptionCorpusConfig
from data.encoded_module import EncodedDataModule
from data.feature_cache import slot_name
from data.images.transforms import ImageTransform
from data.module import LoaderConfig, notify
from data.text import EOS, Normalisation, Text, TextConfig, TokenArrays, Words, load_text
from data.tokenisation.cache import cached_text

__all__ = ["CaptionBatch", "CaptionDataset", "CaptioningData"]

WORDS = Words(min_frequency=5, tokeniser="unpunctuated", normalisation=Normalisation(lowercase=True))
SQUARE = ImageTransform(size=224)
_ENCODED_AT_ONCE = 32


class CaptioningData(EncodedDataModule[CaptionDataset]):
    """Images with all their captions as batches."""

    def __init__(
        self,
        corpus: CaptionCorpusConfig,
        *,
        batch_size: int,
        text: TextConfig = WORDS,
        transform: ImageTransform = SQUARE,
        captions_per_image: int | None = None,
        max_length: int = 50,
        feature_cache: bool = True,
        loader: LoaderConfig = LoaderConfig(),
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        """Images with all their captions as batches.

        Args:
            corpus: where images and captions are: Flickr, Karpathy, CocoCaptions, CaptionTable or HuggingFaceCaptions.
            batch_size: images an optimiser step, over all processes and accumulated pieces; their captions come with them.
            text: how captions are split into words.
            transform: how images are brought to one size, and varied in training.
            captions_per_image: captions of an image in an epoch of training, drawn anew in each. None: all.
            max_length: words that a training caption may have; longer ones are left out, and counted.
            feature_cache: keep what a frozen encoder makes of the images on disk, instead of encoding them in every epoch.
            loader: how batches are brought to the network.
            cache_dir: where vocabularies and features are kept. None: UNROLL_CACHE, or the user's cache folder.
            seed: seed of the order of images, of their variation, and of the choice of captions.
        """
        super().__init__(
            batch_size=batch_size,
            seed=seed,
            loader=loader,
            transform=transform,
            feature_cache=feature_cache,
            cache_dir=cache_dir,
        )
        if captions_per_image is not None and captions_per_image < 1:
            raise ValueError(
                f"data.captions_per_image must be at least 1, or null for all of them, got {captions_per_image}."
            )
        if max_length < 1:
            raise ValueError(f"data.max_length must be at least 1 word, got {max_length}.")
        self.corpus = corpus
        self.text = text
        self.captions_per_image = captions_per_image
        self.max_length = max_length
        self._text: Text | None = None
        self._read: dict[str, CaptionCorpus] = {}

    def prepare_data(self) -> None:
        """Learn the vocabulary once, on the first process, so that the others find it in the cache."""
        self._learn()

    def setup(self, stage: str) -> None:
        """Have the vocabulary ready, and the parts that a stage needs: `fit`, `validate`, `test` or `predict`."""
        self._learn()
        for part in {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}.get(stage, ()):
            self.dataset(part)

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        """Take the vocabulary of a checkpoint, before `setup`, instead of learning another."""
        assert self._text is None, "a vocabulary is adopted before it is learnt"
        self._text = load_text(preprocessing["text"])
        notify("The vocabulary is that of the checkpoint; what data.text says of it is not read.")

    def _learn(self) -> None:
        if self._text is not None:
            return
        lines = list(chain.from_iterable(self.captions("train").captions))
        content = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        folder = Path(self._folder())
        self._text = cached_text(self.text, content=content, folder=folder, build=lambda: self.text.build(lines))

    def captions(self, part: str) -> CaptionCorpus:
        """Images and captions of `train`, `validation` or `test`, as read."""
        if part not in self._read:
            self._read[part] = self.corpus.read(_part(part), cache_dir=self._folder())
        return self._read[part]

    @property
    def words(self) -> Text:
        """The vocabulary, after `setup`."""
        assert self._text is not None, "the vocabulary is there after setup"
        return self._text

    def dataset(self, part: str) -> CaptionDataset:
        """The images of `train`, `validation` or `test`, after `setup`; none is left out in evaluation."""
        if part not in self._datasets:
            corpus, training = self.captions(part), part == "train"
            sentences = self.words.encode_flat(chain.from_iterable(corpus.captions))
            num_captions = np.array([len(some) for some in corpus.captions], np.int64)
            rows: Indices = np.arange(len(corpus))
            if training:
                sentences, num_captions, rows = self._kept(sentences, num_captions)
            self._datasets[part] = CaptionDataset(
                corpus,
                sentences,
                num_captions,
                rows=rows,
                transform=self.transform,
                training=training,
                captions_per_image=self.captions_per_image,
                seed=self.seed,
            )
        dataset = self._datasets[part]
        encoder = self._encoder_due(part)
        if encoder is not None:
            key = {"transform": self.transform.fingerprint}
            name = f"{slot_name(self.corpus)}-{part}"
            features = open_features(
                dataset, encoder, name=name, key=key, folder=self._folder(), batch_size=_ENCODED_AT_ONCE
            )
            dataset.use_features(features, epochs=encoder.epochs)
        return dataset

    def _kept(self, sentences: TokenArrays, num_captions: Indices) -> tuple[TokenArrays, Indices, Indices]:
        """Without captions that are too long, or have no word, and images that have no other."""
        lengths = sentences.lengths
        long, empty = lengths > self.max_length, lengths == 0
        kept = ~(long | empty)
        if kept.all():
            return sentences, num_captions, np.arange(len(num_captions))
        of_image = np.repeat(np.arange(len(num_captions)), num_captions)
        counts = np.bincount(of_image[kept], minlength=len(num_captions)).astype(np.int64)
        said = [f"{long.sum()} longer than data.max_length={self.max_length} words"] if long.any() else []
        said += [f"{empty.sum()} without a word of the vocabulary's kind"] if empty.any() else []
        bare = int((counts == 0).sum())
        notify(
            f"Of {len(sentences)} training captions, left out are {' and '.join(said)}"
            + (f"; {bare} images have no other, and are left out too." if bare else ".")
        )
        if not kept.any():
            raise ValueError("No training caption is left. Raise data.max_length, or look at the captions.")
        return sentences.take(np.flatnonzero(kept)), counts, np.flatnonzero(counts)

    def references(self, part: str) -> list[list[str]]:
        """The captions of each image of a part, as read: what a caption is measured against."""
        return self.captions(part).captions

    def reference_tokens(self, part: str) -> list[list[list[int]]]:
        """The same in numbers of the vocabulary, each with its end: what rewards are made of."""
        return [
            [[*map(int, tokens), EOS] for tokens in self.words.encode(captions)] for captions in self.references(part)
        ]

    def truth(self, part: str) -> Callable[[int, str], bool] | None:
        """Says whether a caption is true of the image in a row, where the images' scenes are known; None elsewhere."""
        extras = self.captions(part).extras
        if extras is None or "scene" not in extras[0]:
            return None
        from data.demo.scenes_objects import Scene
        from data.demo.scenes_truth import is_true

        scenes = [Scene.from_plain(extra["scene"]) for extra in extras]
        return lambda row, caption: is_true(caption, scenes[row])

    def preprocessing(self) -> dict[str, Any]:
        """What describing new images needs: vocabulary, what is done to images, and the longest caption of the training."""
        return {
            "text": self.words.to_plain(),
            "transform": self.transform.plain(),
            "image_size": list(self.transform.shape),
            "max_length": self.max_length,
        }

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share; the content of the training part by its fingerprint, wherever it lies now."""
        return {
            "text": self.text.to_plain(),
            "transform": self.transform.plain(),
            "captions_per_image": self.captions_per_image,
            "batch_size": self.batch_size,
            "max_length": self.max_length,
            "feature_cache": self.feature_cache,
            "seed": self.seed,
            # None where a test has done without the training part.
            "captions of the training part": self._read["train"].fingerprint if "train" in self._read else None,
        }


def _part(part: str) -> Any:
    assert part in PARTS
    return part
