"""Captions and images as batches: what stands where, what is drawn anew, when features take the images' place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.batching import Piece
from data.captioning import CaptionBatch, CaptioningData
from data.captions.reading import Karpathy
from data.feature_cache import FrozenEncoder
from data.images.transforms import ImageTransform
from data.text import BOS, EOS, PAD, Words
from tests.contracts.applications.captioning import IMAGES, write_corpus


def data_of(folder: Path, **settings: Any) -> CaptioningData:
    data = CaptioningData(
        Karpathy(path=str(write_corpus(folder))),
        **{
            "text": Words(min_frequency=1, tokeniser="unpunctuated"),
            "transform": ImageTransform(size=16, fit="stretch"),
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
            "seed": 3,
            **settings,
        },
    )
    data.prepare_data()
    data.setup("fit")
    return data


def batch_of(data: CaptioningData, rows: list[int], *, part: str = "train", epoch: int = 0) -> CaptionBatch:
    return data.dataset(part).batch(Piece(epoch, np.array(rows)))


class Encoder:
    """Means of colours of four quarters; counts what it has encoded."""

    def __init__(self) -> None:
        self.num_encoded = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.num_encoded += len(images)
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(2).transpose(1, 2)

    def frozen(self, **settings: Any) -> FrozenEncoder:
        return FrozenEncoder(encode=self, fingerprint=lambda: "quarters", row_shape=(4, 3), **settings)


def test_a_batch_has_each_image_once_and_its_captions_side_by_side(tmp_path: Path) -> None:
    data = data_of(tmp_path)
    rows = [4, 0, 7, 9]
    batch = batch_of(data, rows)
    corpus = data.captions("train")
    most = max(len(corpus.captions[row]) for row in rows)
    assert batch.images is not None
    assert batch.features is None
    assert batch.images.shape == (4, 3, 16, 16)
    assert batch.index.tolist() == rows
    assert len(batch.captions) == 4 * most
    for place, row in enumerate(rows):
        torch.testing.assert_close(batch.images[place], data.transform(corpus.load(row), seed=None), rtol=0, atol=0)
        for number in range(most):
            at = place * most + number
            length = int(batch.lengths[at])
            if number >= len(corpus.captions[row]):
                assert length == 0
                continue
            assert batch.captions[at, 0] == BOS
            assert batch.labels[at, length - 1] == EOS
            assert batch.captions[at, 1:length].tolist() == batch.labels[at, : length - 1].tolist()
            assert set(batch.captions[at, length:].tolist()) <= {PAD}
            assert data.words.decode(batch.labels[at, : length - 1].tolist()) == corpus.captions[row][number]
    assert batch.row_weight.shape == (4 * most,)


def test_captions_are_drawn_anew_in_every_epoch_and_alike_in_any_batch(tmp_path: Path) -> None:
    """Contract 3: a function of seed, epoch and image."""
    data = data_of(tmp_path, captions_per_image=1)
    rows = [row for row, some in enumerate(data.captions("train").captions) if len(some) == 3][:6]

    def drawn(chosen: list[int], epoch: int, one: CaptioningData = data) -> dict[int, list[int]]:
        batch = batch_of(one, chosen, epoch=epoch)
        assert len(batch.captions) == len(chosen)
        return {
            row: label[:length].tolist() for row, label, length in zip(chosen, batch.labels, batch.lengths, strict=True)
        }

    first = drawn(rows, 0)
    assert drawn(rows[::-1], 0) == first
    assert drawn(rows[2:3], 0)[rows[2]] == first[rows[2]]
    assert any(drawn(rows, epoch) != first for epoch in (1, 2))
    assert any(drawn(rows, 0, data_of(tmp_path, captions_per_image=1, seed=seed)) != first for seed in (4, 5))
    # Evaluation has all of them.
    assert len(batch_of(data, [0, 1, 2, 3, 4], part="validation").captions) > 5


def test_images_are_varied_in_training_alone(tmp_path: Path) -> None:
    data = data_of(tmp_path, transform=ImageTransform(size=16, fit="stretch", crop_scale=(0.5, 0.9), colour_jitter=0.5))
    first, again, other = (batch_of(data, [1, 2], epoch=epoch).images for epoch in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch_of(data, [2, 1]).images[1], first[0])  # type: ignore[index]
    validation = [batch_of(data, [1], part="validation", epoch=epoch).images for epoch in (0, 1)]
    assert torch.equal(*validation)  # type: ignore[arg-type]


def test_features_take_the_place_of_images(tmp_path: Path) -> None:
    """Of a frozen encoder: each image is encoded once, whatever the epochs, and the features are those of the images."""
    encoder = Encoder()
    data = data_of(tmp_path)
    images = batch_of(data, [3, 1]).images
    data.use_encoder(encoder.frozen())
    for epoch in range(3):
        batch = batch_of(data, [3, 1], epoch=epoch)
        assert batch.images is None
        assert batch.features is not None
        assert batch.features.dtype == torch.float16
        torch.testing.assert_close(batch.features, Encoder()(images).half(), rtol=0, atol=0)  # type: ignore[arg-type]
    batch_of(data, [0], part="validation")
    assert encoder.num_encoded == IMAGES["train"] + IMAGES["val"]
    again = data_of(tmp_path)
    again.use_encoder(encoder.frozen())
    assert batch_of(again, [3, 1]).features is not None
    assert encoder.num_encoded == IMAGES["train"] + IMAGES["val"]
    data.use_encoder(None)
    assert batch_of(data, [3, 1]).images is not None


def test_an_encoder_that_thaws_sees_images_from_then_on(tmp_path: Path) -> None:
    """And in every evaluation: what it makes of an image changes."""
    encoder = Encoder()
    data = data_of(tmp_path, transform=ImageTransform(size=16, fit="stretch", flip=True))
    data.use_encoder(encoder.frozen(epochs=2))
    assert [batch_of(data, [0], epoch=epoch).features is not None for epoch in range(4)] == [True, True, False, False]
    assert batch_of(data, [0], part="validation").images is not None
    assert encoder.num_encoded == IMAGES["train"]


def test_another_encoder_or_size_has_other_features(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = data_of(tmp_path)
    data.use_encoder(Encoder().frozen())
    batch_of(data, [0])
    capfd.readouterr()
    encoder = Encoder()
    changed = data_of(tmp_path, transform=ImageTransform(size=20, fit="stretch"))
    changed.use_encoder(encoder.frozen())
    batch_of(changed, [0])
    assert encoder.num_encoded == IMAGES["train"]
    assert "transform" in capfd.readouterr().err


def test_varied_images_for_a_frozen_encoder_are_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, transform=ImageTransform(size=16, flip=True))
    with pytest.raises(ValueError, match=r"data\.transform varies images in training, but the encoder is frozen"):
        data.use_encoder(Encoder().frozen())
    without = data_of(tmp_path, transform=ImageTransform(size=16, flip=True), feature_cache=False)
    without.use_encoder(Encoder().frozen())
    assert batch_of(without, [0]).images is not None


def test_long_captions_are_left_out_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = data_of(tmp_path)
    data = data_of(tmp_path, max_length=1)
    said = capfd.readouterr().err
    captions = whole.captions("train").captions
    num_long = sum(len(caption.split()) > 1 for some in captions for caption in some)
    num_bare = sum(all(len(caption.split()) > 1 for caption in some) for some in captions)
    assert f"left out are {num_long} longer than data.max_length=1 words" in said
    assert (f"; {num_bare} images have no other" in said) == bool(num_bare)
    assert len(data.dataset("train")) == len(captions) - num_bare
    assert len(data.dataset("validation")) == IMAGES["val"]


def test_references_and_their_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    data = data_of(tmp_path)
    references, tokens = data.references("validation"), data.reference_tokens("validation")
    for said, numbers in zip(references, tokens, strict=True):
        assert [data.words.decode(one[:-1]) for one in numbers] == said
        assert all(one[-1] == EOS for one in numbers)
    assert data.truth("validation") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"captions_per_image": 0}, r"data\.captions_per_image must be at least 1, or null for all of them, got 0"),
        ({"max_length": 0}, r"data\.max_length must be at least 1 word, got 0"),
        ({"batch_size": 0}, r"data\.batch_size must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    make: Callable[[], object] = lambda: data_of(tmp_path, **settings)  # noqa: E731
    with pytest.raises(ValueError, match=said):
        make()
