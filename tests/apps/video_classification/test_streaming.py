"""A clip as it comes is classified as the whole is."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.video_classification.classifier import Classifier
from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.streaming import classify_stream, stride_of
from data.video_io import probe
from data.videos.growing import coming_frames
from data.videos.sampling import AtRate, EveryFrame, sampling_to_plain
from tests.contracts.applications.video_classification import _make


def module_of(folder: Path, *, variant: str = "vectors") -> VideoClassificationModule:
    run = _make(folder, variant=variant)
    run.data.setup("fit")
    run.module.build(run.data.preprocessing())
    assert isinstance(run.module, VideoClassificationModule)
    return run.module


def videos_of(folder: Path, *, num: int = 4) -> list[Path]:
    """Some videos of different lengths."""
    return sorted((folder / "corpus" / "videos").glob("*/train*.mp4"))[:num]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("variant", ["vectors", "maps", "mean"])
def test_every_frame_says_what_the_clip_up_to_it_says(tmp_path: Path, variant: str, stride: int) -> None:
    module = module_of(tmp_path, variant=variant)
    module.preprocessing["sampling"] = sampling_to_plain(EveryFrame(stride=stride))
    classifier = Classifier(module, over_time=True)
    assert stride_of(classifier, None) == stride
    for path, whole in classifier.classify(videos_of(tmp_path)):
        assert whole.over_time is not None
        found = list(classify_stream(classifier, coming_frames(path), stride=stride))
        assert [one.frame.number for one in found] == whole.frames == list(range(0, probe(path).num_frames, stride))
        for one, expected in zip(found, whole.over_time, strict=True):
            assert one.probabilities == pytest.approx(expected, rel=1e-4)
            assert one.latency > 0
        assert found[-1].probabilities == pytest.approx(whole.probabilities, rel=1e-4)


def test_frames_that_depend_on_the_end_have_to_be_said(tmp_path: Path) -> None:
    module = module_of(tmp_path)
    module.preprocessing["sampling"] = sampling_to_plain(AtRate(frames_per_second=5))
    with pytest.raises(ValueError, match=r"cannot be chosen before a clip has ended\. Say by --stream_stride"):
        stride_of(Classifier(module), None)
    assert stride_of(Classifier(module), 3) == 3
