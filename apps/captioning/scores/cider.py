"""CIDEr-D of captions (Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015, section 8)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from apps.captioning.scores.ngrams import Integers, NgramCounts, NgramNumbers, joined_keys, second_of_keys

__all__ = ["CiderD"]

Floats = npt.NDArray[np.float64]
References = Sequence[Sequence[Sequence[Hashable]]]

_MAX_ORDER = 4
_SIGMA = 6.0  # in tokens: how much another length than the reference's costs
_FACTOR = 10.0


class _Order(NamedTuple):
    """All references' n-grams of one order, sorted by image and n-gram."""

    key: Integers
    """Image and n-gram in one number, ascending, shape (entries,)."""
    caption: npt.NDArray[np.int32]
    """Which reference has it, shape (entries,)."""
    times: npt.NDArray[np.int32]
    """How often, shape (entries,)."""
    norm: Floats
    """Length of each reference's tf-idf vector, shape (references,)."""
    idf: Floats
    """Of each n-gram that is known, shape (ngrams,)."""


class CiderD:
    """Scores captions of images whose references are prepared once; `CiderD.of` makes one.

    For each order n = 1..4 a text is the vector of its n-grams' count x idf, idf = log(images) - log(images whose
    references have the n-gram; at least 1). A caption c and a reference r give sum(min(c, r) r) / (|c| |r|), 0 where either
    has no length, times exp(-d^2 / 72) with d the difference of their lengths. The score is 10 times the mean over the
    orders and an image's references. So with a single image, or for n-grams that every image has, all is 0.
    """

    def __init__(
        self, *, numbers: NgramNumbers, orders: Sequence[_Order], first: Integers, lengths: Integers, log_num: float
    ) -> None:
        self._numbers = numbers
        self._orders = orders
        self._first = first
        self._lengths = lengths
        self._log_num = log_num

    @classmethod
    def of(cls, references: References, *, documents: References | None = None) -> CiderD:
        """Prepares to score captions of these images.

        Args:
            references: tokens of each reference of each image; tokens are anything hashable, words as well as numbers
                (not tensors, which are never equal as keys).
            documents: references of the images in which document frequencies are counted, as those trained on; None =
                `references`, which is how a test set is evaluated.

        Raises:
            ValueError: for an image without a reference, or documents without an image.
        """
        for row, of_image in enumerate(references):
            if not of_image:
                raise ValueError(
                    f"Image {row} has no reference: CIDEr-D compares a caption with at least one. Leave it out."
                )
        if documents is not None and not documents:
            raise ValueError("documents has no image: leave it out to count frequencies in the references themselves.")
        captions = list(chain.from_iterable(references))
        texts = captions if documents is None else [*captions, *chain.from_iterable(documents)]
        numbers, found = NgramNumbers.of(texts, max_order=_MAX_ORDER)
        image = _image_of(references)
        if documents is None:
            frequencies, num_documents = _document_frequencies(image, found, numbers), len(references)
        else:
            further = [_of_sequences(counts, len(captions), len(texts)) for counts in found]
            frequencies, num_documents = _document_frequencies(_image_of(documents), further, numbers), len(documents)
            found = [_of_sequences(counts, 0, len(captions)) for counts in found]
        log_num = float(np.log(max(num_documents, 1)))
        orders = []
        for counts, frequency in zip(found, frequencies, strict=True):
            idf = log_num - np.log(np.maximum(frequency, 1))
            key = joined_keys(image[counts.sequence], counts.number)
            by_key = np.argsort(key, kind="stable")
            orders.append(
                _Order(
                    key=key[by_key],
                    caption=counts.sequence[by_key].astype(np.int32),
                    times=counts.times[by_key].astype(np.int32),
                    norm=_norms(counts, idf[counts.number], num=len(captions)),
                    idf=idf,
                )
            )
        first = np.concatenate([[0], np.cumsum(_nums(references))])
        return cls(numbers=numbers, orders=orders, first=first, lengths=_lengths(captions), log_num=log_num)

    def score(self, rows: Sequence[int], hypotheses: Sequence[Sequence[Hashable]]) -> Floats:
        """The score of each caption, 0 to 10, shape (num,); what papers print as 50 is a mean of 0.50.

        Args:
            rows: the image of each caption, as it was numbered in `of`; one may come several times.
            hypotheses: tokens of each caption, of the same kind as the references' (an empty one has 0).
        """
        image = np.asarray(rows, dtype=np.int64)
        assert image.shape == (len(hypotheses),)
        num_images = len(self._first) - 1
        assert not len(image) or (image.min() >= 0 and image.max() < num_images), f"rows are below {num_images}"
        # A pair is a caption and one of its image's references; the pairs of a caption stand together.
        first, num_references = self._first[image], self._first[image + 1] - self._first[image]
        pair_start = np.cumsum(num_references) - num_references
        pair_hypothesis = np.repeat(np.arange(len(image)), num_references)
        num_pairs = len(pair_hypothesis)
        pair_caption = np.arange(num_pairs) - np.repeat(pair_start - first, num_references)

        similarity = np.zeros(num_pairs)
        for counts, order in zip(self._numbers.counts(hypotheses), self._orders, strict=True):
            idf = np.full(len(counts.number), self._log_num)
            is_known = counts.number < len(order.idf)
            idf[is_known] = order.idf[counts.number[is_known]]
            norm = _norms(counts, idf, num=len(image))

            key = joined_keys(image[counts.sequence], counts.number)
            entry, match = _matches(order, key)
            theirs = order.times[match]
            product = np.minimum(counts.times[entry], theirs) * theirs * idf[entry] ** 2
            hypothesis = counts.sequence[entry]
            pair = pair_start[hypothesis] + order.caption[match] - first[hypothesis]
            norms = norm[pair_hypothesis] * order.norm[pair_caption]
            dots = np.bincount(pair, product, minlength=num_pairs)
            similarity += np.divide(dots, norms, out=np.zeros(num_pairs), where=norms > 0)

        difference = _lengths(hypotheses)[pair_hypothesis] - self._lengths[pair_caption]
        similarity *= np.exp(-(difference**2) / (2 * _SIGMA**2))
        total = np.bincount(pair_hypothesis, similarity, minlength=len(image))
        return _FACTOR * total / (_MAX_ORDER * num_references)


def _matches(order: _Order, key: Integers) -> tuple[Integers, Integers]:
    """All (place in `key`, entry of the references) where both are the same n-gram of the same image."""
    left, right = np.searchsorted(order.key, key, "left"), np.searchsorted(order.key, key, "right")
    num = right - left
    place = np.repeat(np.arange(len(key)), num)
    return place, np.arange(len(place)) + np.repeat(left - (np.cumsum(num) - num), num)


def _image_of(references: References) -> Integers:
    return np.repeat(np.arange(len(references)), _nums(references))


def _nums(references: References) -> Integers:
    return np.asarray([len(of_image) for of_image in references], dtype=np.int64)


def _document_frequencies(image: Integers, found: Sequence[NgramCounts], numbers: NgramNumbers) -> list[Integers]:
    """Images whose references have each n-gram, for each order; `image` is that of each reference."""
    frequencies = []
    for counts, num in zip(found, numbers.num_known, strict=True):
        key = np.sort(joined_keys(image[counts.sequence], counts.number))
        # An n-gram of several references of an image is counted once. (np.unique hashes here, which took ten times as long.)
        first_of_image = key[np.diff(key, prepend=-1) > 0]
        frequencies.append(np.bincount(second_of_keys(first_of_image), minlength=num))
    return frequencies


def _of_sequences(counts: NgramCounts, start: int, stop: int) -> NgramCounts:
    """Those of some sequences, numbered from 0 again; entries are sorted by sequence."""
    first, last = np.searchsorted(counts.sequence, [start, stop])
    return NgramCounts(counts.sequence[first:last] - start, counts.number[first:last], counts.times[first:last])


def _norms(counts: NgramCounts, idf: Floats, *, num: int) -> Floats:
    return np.sqrt(np.bincount(counts.sequence, (counts.times * idf) ** 2, minlength=num))


def _lengths(captions: Sequence[Sequence[Hashable]]) -> Integers:
    """In pairs of tokens, as the reference evaluation counts: none and one token are the same length to it."""
    return np.asarray([max(len(caption) - 1, 0) for caption in captions], dtype=np.int64)
