"""Clips as batches: which frames stand where, broken videos, and features in place of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.batching import Piece
from data.feature_cache import FrozenEncoder
from data.images.transforms import ImageTransform
from data.video_classification import VideoBatch, VideoClassificationData
from data.videos.clip_table import SplitTable
from data.videos.sampling import Dense, EveryFrame, RandomSegments, SamplingConfig, Uniform
from tests.data.videos.video_files import numbered_frames, numbers_in, write_truncated, write_video

CLASSES = ("jump", "run")
FOUR = Uniform(num_frames=4)
FRAMES = {"train": (5, 8, 12, 9, 7, 6), "validation": (6, 9), "test": (11, 4, 8)}
"""Of each video of each part."""
TRANSFORM = ImageTransform(size=(48, 64), fit="stretch")
"""The size that the videos have, so that the number of a frame can be read off its pixels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus whose frames show their numbers."""
    folder = tmp_path_factory.mktemp("videos")
    rows = ["class,file,group,subset"]
    for part, lengths in FRAMES.items():
        for number, length in enumerate(lengths):
            name = CLASSES[number % 2]
            (folder / "videos" / name).mkdir(parents=True, exist_ok=True)
            write_video(folder / "videos" / name / f"{part}_{number}.mp4", numbered_frames(length))
            rows.append(f"{name},{part}_{number}.mp4,{part}_{number},{part}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    return folder


def data_of(folder: Path, *, sampling: SamplingConfig = FOUR, **changed: Any) -> VideoClassificationData:
    corpus = SplitTable(path=str(folder), validation="validation")
    given = {"batch_size": 3, "transform": TRANSFORM, "cache_dir": str(folder / "cache"), "seed": 3, **changed}
    if "frame_budget" in changed:
        given["batch_size"] = None
    data = VideoClassificationData(corpus, sampling=sampling, **given)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def batch_of(data: VideoClassificationData, rows: list[int], *, part: str = "train", epoch: int = 0) -> VideoBatch:
    return data.dataset(part).batch(Piece(epoch, np.array(rows)))


def numbers_of(batch: VideoBatch) -> Iterator[list[int]]:
    """Of the frames of each clip."""
    assert batch.images is not None
    for clip in batch.images.split(batch.lengths.tolist()):
        yield numbers_in(clip.permute(0, 2, 3, 1).numpy())


class Encoder:
    """Colours of the left and right half; counts what it has encoded."""

    def __init__(self) -> None:
        self.num_encoded = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.num_encoded += len(images)
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, (8, 8)).flatten(2).transpose(1, 2)

    def frozen(self, **settings: Any) -> FrozenEncoder:
        return FrozenEncoder(encode=self, fingerprint=lambda: "squares", row_shape=(64, 3), **settings)


def test_a_batch_has_the_frames_of_its_clips_without_padding(folder: Path) -> None:
    batch = batch_of(data_of(folder), [3, 0, 2])
    assert batch.lengths.tolist() == [4, 4, 4]
    assert list(numbers_of(batch)) == [[1, 3, 5, 7], [0, 1, 2, 4], [1, 4, 7, 10]]
    assert batch.labels.tolist() == [1, 0, 0]
    assert batch.index.tolist() == [3, 0, 2]
    assert batch.weight.tolist() == [1.0, 1.0, 1.0]
    lone = data_of(folder).dataset("train").batch(Piece(0, np.array([1]), weight=0.0))
    assert lone.weight.tolist() == [0.0]


def test_lengths_are_known_before_anything_is_decoded(folder: Path) -> None:
    for sampling in (Uniform(num_frames=8), EveryFrame(stride=2), Dense(num_frames=3, stride=3), RandomSegments(6)):
        dataset = data_of(folder, sampling=sampling).dataset("train")
        batch = dataset.batch(Piece(0, np.arange(len(dataset))))
        assert batch.lengths.tolist() == dataset.lengths.tolist()
    data = data_of(folder, sampling=EveryFrame(), frame_budget=20)
    plan = data.plan("train")
    for pieces in plan.batches(0):
        lengths = data.dataset("train").lengths[pieces]
        assert lengths.max() * len(lengths) <= 20


@settings(deadline=None, max_examples=10)
@given(epoch=st.integers(0, 5), rows=st.permutations(range(6)))
def test_what_is_drawn_follows_from_seed_epoch_and_clip(folder: Path, epoch: int, rows: list[int]) -> None:
    """Contract 3: whatever else is in the batch, and whatever was drawn before."""
    transform = ImageTransform(size=(48, 64), fit="stretch", colour_jitter=0.5)
    data = data_of(folder, sampling=RandomSegments(3), transform=transform)
    batch = batch_of(data, rows, epoch=epoch)
    assert batch.images is not None
    clips = batch.images.split(batch.lengths.tolist())
    for row, clip in zip(rows, clips, strict=True):
        torch.rand(3)
        alone = batch_of(data, [row], epoch=epoch).images
        assert alone is not None
        assert torch.equal(alone, clip)


def test_other_epochs_draw_other_frames_and_evaluation_draws_none(folder: Path) -> None:
    data = data_of(folder, sampling=RandomSegments(3))
    drawn = {tuple(next(numbers_of(batch_of(data, [2], epoch=epoch)))) for epoch in range(12)}
    assert len(drawn) > 4
    tested = {tuple(next(numbers_of(batch_of(data, [0], part="test", epoch=epoch)))) for epoch in range(3)}
    assert tested == {(1, 5, 9)}


def test_all_frames_of_a_clip_are_varied_alike(folder: Path, tmp_path: Path) -> None:
    """Of a video that stands still every frame stays the same."""
    (tmp_path / "videos" / "still").mkdir(parents=True)
    (tmp_path / "videos" / "moving").mkdir()
    rows = ["class,file,group,subset"]
    for number, part in enumerate(("train", "validation", "test")):
        for name in ("still", "moving"):
            write_video(tmp_path / "videos" / name / f"{number}.mp4", np.repeat(numbered_frames(12)[11:], 6, axis=0))
            rows.append(f"{name},{number}.mp4,{name}{number},{part}")
    (tmp_path / "split.csv").write_text("\n".join(rows) + "\n")
    transform = ImageTransform(size=32, flip=True, crop_scale=(0.3, 1.0), colour_jitter=0.5)
    dataset = data_of(tmp_path, transform=transform).dataset("train")
    firsts = []
    for epoch in range(4):
        images = dataset.batch(Piece(epoch, np.array([0]))).images
        assert images is not None
        assert (images.int() - images[:1].int()).abs().max() <= 24  # what compression leaves, varied
        firsts.append(images[0].int())
    assert max(int((first - firsts[0]).abs().max()) for first in firsts) > 60


def test_several_clips_of_a_video_are_tested_each(folder: Path) -> None:
    data = data_of(folder, sampling=Dense(num_frames=3, num_clips=2))
    dataset = data.dataset("test")
    assert dataset.video_of.tolist() == [0, 0, 1, 1, 2, 2]
    assert list(numbers_of(batch_of(data, [0, 1, 3], part="test"))) == [[0, 1, 2], [8, 9, 10], [1, 2, 3]]
    assert len(data.dataset("train")) == 6


def test_controls_give_the_same_frames_in_another_order(folder: Path) -> None:
    forward = next(numbers_of(batch_of(data_of(folder), [2])))
    assert next(numbers_of(batch_of(data_of(folder, frame_order="reversed"), [2]))) == forward[::-1]
    shuffled = {
        tuple(next(numbers_of(batch_of(data_of(folder, frame_order="shuffled"), [2], epoch=epoch))))
        for epoch in range(8)
    }
    assert len(shuffled) > 3
    assert {tuple(sorted(each)) for each in shuffled} == {tuple(forward)}


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
@pytest.mark.parametrize(
    "sampling", [Uniform(num_frames=4), RandomSegments(3), EveryFrame(), Dense(num_frames=3, num_clips=2)]
)
def test_features_are_those_of_the_frames_they_stand_for(folder: Path, sampling: SamplingConfig, order: str) -> None:
    """With the cache and without, frame by frame; zeros in the padding."""
    with_images, with_features = (data_of(folder, sampling=sampling, frame_order=order) for _ in range(2))
    encoder = Encoder()
    with_features.use_encoder(encoder.frozen())
    for part, epoch in (("train", 0), ("train", 3), ("test", 0)):
        rows = list(range(min(5, len(with_features.dataset(part)))))
        images = batch_of(with_images, rows, part=part, epoch=epoch)
        features = batch_of(with_features, rows, part=part, epoch=epoch)
        assert images.images is not None
        assert features.features is not None
        assert features.images is None
        assert torch.equal(images.lengths, features.lengths)
        assert torch.equal(images.labels, features.labels)
        there = torch.arange(features.features.shape[1]) < features.lengths[:, None]
        torch.testing.assert_close(features.features[there], Encoder()(images.images).half(), rtol=0, atol=0)
        assert not features.features[~there].any()
    seen = encoder.num_encoded
    again = data_of(folder, sampling=sampling, frame_order=order)
    again.use_encoder(encoder.frozen())
    batch_of(again, [0])
    assert encoder.num_encoded == seen


def test_an_encoder_that_thaws_sees_images_from_then_on(folder: Path) -> None:
    data = data_of(folder)
    data.use_encoder(Encoder().frozen(epochs=2))
    assert batch_of(data, [0], epoch=1).features is not None
    assert batch_of(data, [0], epoch=2).images is not None
    assert batch_of(data, [0], part="validation").images is not None


def test_a_video_that_breaks_off_gives_way_to_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only its beginning is decoded at the start; the same one steps in whenever it is met."""
    data = data_of(folder, sampling=EveryFrame(), max_broken_share=0.2)
    path = Path(data.dataset("train").videos.paths[1])
    whole = path.read_bytes()
    try:
        write_truncated(path, num=8, share=0.7)
        capsys.readouterr()
        first, again = (batch_of(data, [1, 0]) for _ in range(2))
        assert next(numbers_of(first)) == list(range(12))  # the third one's
        assert torch.equal(first.images, again.images)  # type: ignore[arg-type]
        assert first.labels.tolist() == [0, 0]
        said = capsys.readouterr().err
        assert said.count("Another video takes its place in training (1 so far)") == 1
        assert str(path) in said
        strict = data_of(folder, sampling=EveryFrame(), max_broken_share=0.2)
        strict.dataset("train").broken.max_share = 0.1
        with pytest.raises(ValueError, match="1 of 6 training videos broke off while they were read"):
            batch_of(strict, [1])
    finally:
        path.write_bytes(whole)


def test_what_cannot_be_opened_is_named_at_the_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "videos" / "run" / "train_1.mp4"
    whole = path.read_bytes()
    try:
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=r"1 of the 6 videos cannot be read, .*train_1.mp4 is empty"):
            data_of(folder)
        data = data_of(folder, max_broken_share=0.2)
        assert "1 of 6 videos cannot be read and are left out" in capsys.readouterr().err
        assert len(data.dataset("train")) == 5
        assert data.labels("train").tolist() == [0, 0, 1, 0, 1]
        assert data.preprocessing()["class_counts"] == [3, 2]
    finally:
        path.write_bytes(whole)


def test_a_checkpoint_brings_its_classes(folder: Path) -> None:
    plain = data_of(folder).preprocessing()
    assert plain["class_names"] == ["jump", "run"]
    data = VideoClassificationData(SplitTable(path=str(folder), validation="validation"), batch_size=2)
    data.adopt({**plain, "class_names": ["jump", "walk"]})
    with pytest.raises(ValueError, match=r"knows 2 classes and data\.corpus has 2; only here: run; only there: walk"):
        data.videos("test")
    data = VideoClassificationData(SplitTable(path=str(folder), validation="validation"), batch_size=2)
    data.adopt({**plain, "class_names": ["run", "jump"]})
    with pytest.raises(ValueError, match="the same ones in another order"):
        data.videos("test")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"batch_size": None},
            "either data.batch_size or data.frame_budget, got batch_size=None and frame_budget=None",
        ),
        ({"frame_budget": 0, "batch_size": None}, "frame_budget must be at least 1, got 0"),
        ({"frame_order": "backward"}, "must be one of forward, reversed, shuffled, got 'backward'"),
        ({"max_broken_share": 1.0}, "max_broken_share must be at least 0 and below 1, got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VideoClassificationData(SplitTable(path="nowhere"), **{"batch_size": 3, **settings})


def test_variation_that_a_frozen_encoder_cannot_notice_is_refused(folder: Path) -> None:
    data = data_of(folder, transform=ImageTransform(size=16, flip=True))
    with pytest.raises(ValueError, match="the encoder is frozen and its features are computed once"):
        data.use_encoder(Encoder().frozen())
    data.use_encoder(Encoder().frozen(epochs=1))
