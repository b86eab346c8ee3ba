"""Pictures of any size come out at one size; augmentation is a function of its seed and nothing else."""

from __future__ import annotations

import itertools
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from data.images.transforms import ImageTransform

AUGMENTED: dict[str, Any] = {"flip": True, "crop_scale": (0.3, 1.0), "colour_jitter": 0.4}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])


sizes = st.one_of(st.integers(1, 33), st.tuples(st.integers(1, 40), st.integers(1, 40)))
sides = st.one_of(st.integers(1, 60), st.sampled_from([1, 2, 700]))


@settings(max_examples=120, deadline=None)
@given(size=sizes, height=sides, width=sides, fit=st.sampled_from(["stretch", "crop", "pad"]), seed=st.integers(0, 99))
def test_every_picture_comes_out_at_the_size(size: Any, height: int, width: int, fit: Any, seed: int) -> None:
    """Strips of a pixel, and frames of any form, in evaluation and in training."""
    augmented = AUGMENTED if fit != "pad" else {**AUGMENTED, "crop_scale": None}
    transform = ImageTransform(size=size, fit=fit, **augmented)
    for how in (None, (seed, 0, 1)):
        found = transform(picture(height, width), seed=how)
        assert found.shape == (3, *transform.shape)
        assert found.dtype == torch.uint8
        assert found.is_contiguous()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(8, 90), width=st.integers(8, 90), size=st.integers(4, 40))
def test_crop_is_that_of_the_published_weights(height: int, width: int, size: int) -> None:
    """Pretrained encoders were evaluated on the short side scaled and the centre taken (torchvision's own presets)."""
    image = picture(height, width)
    theirs = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    expected = theirs(torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(ImageTransform(size=size)(image, seed=None), expected)


def test_a_long_strip_takes_no_memory_and_gives_its_centre() -> None:
    """Scaled as a whole, a strip of 1 x 60,000 pixels would be 224 x 13,440,000."""
    strip = np.zeros((2, 60_000, 3), np.uint8)
    strip[:, 29_000:31_000] = 200
    found = ImageTransform(size=32)(strip, seed=None)
    assert (found == 200).all()
    assert (ImageTransform(size=32)(strip.swapaxes(0, 1), seed=None) == 200).all()


def test_a_strip_that_is_cut_first_gives_what_the_whole_would() -> None:
    image = picture(10, 400, seed=3)
    expected = v2.Compose([v2.Resize(20), v2.CenterCrop(20)])(torch.from_numpy(image).permute(2, 0, 1))
    found = ImageTransform(size=20)(image, seed=None)
    assert (found.int() - expected.int()).abs().max() <= 1


def test_pad_shows_the_whole_picture_between_grey() -> None:
    image = np.full((10, 40, 3), 250, np.uint8)
    found = ImageTransform(size=(16, 20), fit="pad")(image, seed=None)
    rows = found.float().mean((0, 2))
    assert rows.tolist() == [127.0] * 5 + [250.0] * 5 + [127.0] * 6
    assert (ImageTransform(size=(5, 20), fit="pad")(image, seed=None) == 250).all()


def test_stretch_keeps_the_edges_and_crop_does_not() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, :10] = 255
    stretched = ImageTransform(size=9, fit="stretch")(image, seed=None)
    assert stretched[0, 4].tolist()[:2] == [255, 255]
    assert (ImageTransform(size=10, fit="crop")(image, seed=None) == 0).all()


def test_scaling_down_is_antialiased() -> None:
    """Without it a fine pattern becomes whatever lines the samples hit."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for fit in ("stretch", "crop", "pad"):
        found = ImageTransform(size=8, fit=fit)(stripes, seed=None).float()
        assert (found - 127.5).abs().max() < 12
    random_part = ImageTransform(size=8, crop_scale=(0.8, 1.0))(stripes, seed=(0,)).float()
    assert (random_part - 127.5).abs().max() < 24


class TestAugmentation:
    def test_it_is_a_function_of_the_seed_whatever_ran_before(self) -> None:
        """Contract 3: the same example in any order, in any worker, after any other draw."""
        transform, image = ImageTransform(size=24, **AUGMENTED), picture(50, 70)
        seeds = list(itertools.product([0, 7], range(3), range(4)))
        first = {seed: transform(image, seed=seed) for seed in seeds}
        torch.manual_seed(99)
        torch.rand(5)
        for seed in reversed(seeds):
            assert torch.equal(pickle.loads(pickle.dumps(transform))(image, seed=seed), first[seed])
            assert torch.equal(transform(image, seed=list(np.array(seed))), first[seed])

    @pytest.mark.parametrize(
        "settings", [{"flip": True}, {"crop_scale": (0.3, 0.9)}, {"colour_jitter": 0.5}, AUGMENTED]
    )
    def test_each_kind_varies_with_each_number(self, settings: dict[str, Any]) -> None:
        transform, image = ImageTransform(size=16, **settings), picture(50, 70)
        for place in range(3):
            found = {
                transform(image, seed=tuple(number if at == place else 5 for at in range(3))).numpy().tobytes()
                for number in range(20)
            }
            assert len(found) == 2 if settings == {"flip": True} else len(found) > 15
        assert not torch.equal(transform(image, seed=(1, 23)), transform(image, seed=(12, 3))) or "flip" in settings

    def test_generators_are_as_before(self) -> None:
        """Dropout draws from the same generator: augmentation in the training process must not move it."""
        torch.manual_seed(1)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002  the global one is meant
        ImageTransform(size=8, **AUGMENTED)(picture(20, 20), seed=(1, 2))
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002

    def test_evaluation_is_without_it(self) -> None:
        image = picture(40, 60)
        plain = ImageTransform(size=20)
        assert torch.equal(ImageTransform(size=20, **AUGMENTED)(image, seed=None), plain(image, seed=None))
        assert torch.equal(plain(image, seed=(1, 2)), plain(image, seed=None))
        assert not plain.is_random

    def test_the_picture_is_not_changed(self) -> None:
        image = picture(20, 20)
        before = image.copy()
        image.flags.writeable = False
        ImageTransform(size=20, **AUGMENTED)(image, seed=(3,))
        assert np.array_equal(image, before)

    def test_a_mirrored_picture_is_the_mirror(self) -> None:
        image = picture(30, 30)
        transform = ImageTransform(size=30, flip=True)
        whole = transform(image, seed=None)
        found = [transform(image, seed=(number,)) for number in range(200)]
        assert all(torch.equal(one, whole) or torch.equal(one, whole.flip(-1)) for one in found)
        assert 70 < sum(torch.equal(one, whole) for one in found) < 130

    @pytest.mark.parametrize("fit", ["stretch", "crop"])
    def test_parts_have_the_area_and_form_that_are_said(self, fit: Any) -> None:
        """Rows and columns number themselves, so that what comes out tells which part it was."""
        rows, columns = 120, 240
        image = np.zeros((rows, columns, 3), np.uint8)
        image[:, :, 0], image[:, :, 1] = np.arange(rows)[:, None], np.arange(columns)[None]
        transform = ImageTransform(size=(30, 30), fit=fit, crop_scale=(0.2, 0.5))
        for number in range(40):
            found = transform(image, seed=(number,)).float()
            height = float(found[0, -1, 5] - found[0, 0, 5]) * 30 / 29
            width = float(found[1, 5, -1] - found[1, 5, 0]) * 30 / 29
            assert 0.2 * 0.85 < height * width / (rows * columns) < 0.5 * 1.15
            form = width / height / (columns / rows if fit == "stretch" else 1)
            assert 3 / 4 * 0.9 < form < 4 / 3 * 1.1


def test_plain_data_is_the_way_to_a_checkpoint_and_back() -> None:
    for transform in (ImageTransform(size=224), ImageTransform(size=(96, 128), fit="stretch", **AUGMENTED)):
        plain = json.loads(json.dumps(transform.plain()))
        assert ImageTransform(**plain) == transform
        assert hash(ImageTransform(**plain)) == hash(transform)


def test_the_fingerprint_tells_what_acts_in_evaluation() -> None:
    """Cached features must be found again with other augmentation, and never with another size or fit."""
    fingerprint = ImageTransform(size=64).fingerprint
    assert ImageTransform(size=64, **AUGMENTED).fingerprint == ImageTransform(size=(64, 64)).fingerprint == fingerprint
    others = [ImageTransform(size=64, fit="pad"), ImageTransform(size=(64, 63)), ImageTransform(size=(63, 64))]
    assert len({fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, r"data.transform.size must be whole numbers of at least 1 pixel, got 0"),
        ({"size": (3, 4, 5)}, r"one number or \[height, width\], got \[3, 4, 5\]"),
        ({"size": 8, "fit": "zoom"}, r"data.transform.fit is 'zoom'\. Known: stretch, crop, pad"),
        ({"size": 8, "colour_jitter": 1.5}, r"colour_jitter must be from 0 \(none\) to 1, got 1\.5"),
        ({"size": 8, "colour_jitter": float("nan")}, "got nan"),
        ({"size": 8, "crop_scale": (0.0, 1.0)}, "0 < least <= most <= 1"),
        ({"size": 8, "crop_scale": (0.9, 0.5)}, r"got \[0\.9, 0\.5\]"),
        ({"size": 8, "crop_scale": (1.0, 1.0)}, "does nothing. Leave it out"),
        ({"size": 8, "crop_scale": (0.5, 1.0), "fit": "pad"}, "fills the frame in training, but"),
    ],
)
def test_settings_that_contradict_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageTransform(**settings)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(height, width, 3\), got float64"):
        ImageTransform(size=8)(np.zeros((4, 4, 3)), seed=None)
    with pytest.raises(ValueError, match=r"got uint8 \(3, 4, 4\)"):
        ImageTransform(size=8)(np.zeros((3, 4, 4), np.uint8), seed=None)
