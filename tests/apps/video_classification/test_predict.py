"""`predict`: what the test says of the same videos, broken files, and options that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from apps.video_classification.predict import predict
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from data.video_io import probe, read_frames
from tests.contracts.applications.video_classification import _make


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A folder, a checkpoint of one epoch, and the test's probabilities by the video's name."""
    folder = tmp_path_factory.mktemp("predict")
    torch.manual_seed(0)
    module, data = _make(folder)
    checkpoints = RunCheckpoints(
        folder / "run" / "checkpoints", config=CheckpointConfig(monitor="val/top1", mode="max")
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, callbacks=[checkpoints], use_distributed_sampler=False, **quiet)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    found = module.classified  # type: ignore[attr-defined]
    corpus = data.videos("test")  # type: ignore[attr-defined]
    names = [Path(corpus[row].name).stem for row in data.dataset("test").videos.rows]  # type: ignore[attr-defined]
    return folder, checkpoints.last_path, dict(zip(names, found.probabilities.tolist(), strict=True))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_it_says_what_the_test_says(trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, checkpoint, expected = trained
    output = tmp_path / "out.jsonl"
    predict(str(checkpoint), str(folder / "corpus" / "videos"), str(output), over_time=True, progress=False)
    found = {Path(one["video"]).stem: one for one in lines_of(output)}
    assert len(found) == 68
    for name, probabilities in expected.items():
        top = {one["class"]: one["probability"] for one in found[name]["top"]}
        assert [top["darker"], top["lighter"]] == pytest.approx(probabilities, rel=1e-4)
        assert found[name]["over_time"][-1]["probability"] == pytest.approx(found[name]["probability"], rel=1e-4)


def test_bfloat16_rounds_probabilities(trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    """Of whole videos with what is said and drawn over time, and of one that comes frame by frame."""
    folder, checkpoint, expected = trained
    arguments: dict[str, Any] = {"precision": "bf16-mixed", "progress": False}
    pictures = {"over_time": True, "pictures": str(tmp_path / "pictures"), "num_pictures": 1}
    predict(str(checkpoint), str(folder / "corpus" / "videos"), str(tmp_path / "out.jsonl"), **arguments, **pictures)
    found = {Path(one["video"]).stem: one for one in lines_of(tmp_path / "out.jsonl")}
    top = {name: {one["class"]: one["probability"] for one in found[name]["top"]} for name in expected}
    assert [top[name]["darker"] for name in expected] == pytest.approx([one[0] for one in expected.values()], abs=0.05)
    assert [top[name]["darker"] for name in expected] != pytest.approx([one[0] for one in expected.values()], rel=1e-4)
    video = next((folder / "corpus" / "videos").glob("*/*.mp4"))
    predict(str(checkpoint), str(video), str(tmp_path / "stream.jsonl"), stream=True, **arguments)
    last = lines_of(tmp_path / "stream.jsonl")[-1]
    assert last["probability"] == pytest.approx(found[video.stem]["probability"], abs=0.05)


def test_what_cannot_be_read_is_skipped_counted_and_listed(
    trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, checkpoint, _ = trained
    some = tmp_path / "videos"
    some.mkdir()
    source = next((folder / "corpus" / "videos").glob("*/*.mp4"))
    (some / "a.mp4").write_bytes(b"")
    (some / "b.mp4").write_bytes(source.read_bytes())
    (some / "notes.txt").write_text("none")
    predict(str(checkpoint), str(some), str(tmp_path / "out.jsonl"), progress=False)
    said = capsys.readouterr().err
    assert "a.mp4 is empty" in said
    assert "Classified 1 of 2 videos" in said
    assert "1 could not be read and are skipped. 1 other files are no videos by their names." in said
    (some / "b.mp4").unlink()
    with pytest.raises(ValueError, match="none of its 1 videos can be read"):
        predict(str(checkpoint), str(some), str(tmp_path / "other.jsonl"), progress=False)


def test_a_stream_says_for_every_frame_what_the_whole_says_of_it(
    trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a video, and of a folder with its frames as pictures."""
    folder, checkpoint, _ = trained
    video = max((folder / "corpus" / "videos").glob("*/*.mp4"), key=lambda path: probe(path).num_frames)
    predict(str(checkpoint), str(video), str(tmp_path / "whole.jsonl"), over_time=True, progress=False)
    predict(str(checkpoint), str(video), str(tmp_path / "stream.jsonl"), stream=True)
    assert "frames as they came; latency" in capsys.readouterr().err
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    frames = read_frames(video, range(probe(video).num_frames))
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(pictures / f"{number:03}.png")
    predict(str(checkpoint), str(pictures), str(tmp_path / "folder.jsonl"), stream=True)
    (whole,) = lines_of(tmp_path / "whole.jsonl")
    for name in ("stream", "folder"):
        found = lines_of(tmp_path / f"{name}.jsonl")
        assert len(found) == len(frames) > 3
        for one, expected in zip(found, whole["over_time"], strict=True):
            assert one["class"] == expected["class"]
            assert one["probability"] == pytest.approx(expected["probability"], rel=1e-4)
            assert one.get("time", expected["time"]) == pytest.approx(expected["time"], abs=1e-3)
            assert one["latency_ms"] > 0
        assert found[-1]["probability"] == pytest.approx(whole["probability"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stream_stride": 2}, "--stream_stride and --stream_wait do nothing without --stream true"),
        ({"stream": True, "stream_stride": 0}, "--stream_stride must be at least 1, got 0"),
        ({"stream": True, "stream_wait": -1.0}, "--stream_wait must be at least 0 seconds, got -1"),
        ({"stream": True, "over_time": True}, "do nothing with --stream"),
        ({"stream": True, "input": "nowhere"}, "nowhere is not there"),
        ({"num_best": 0}, "--num_best must be at least 1, got 0"),
        ({"input": "nowhere"}, "--input nowhere is not there"),
        ({"output": "EXISTS"}, "exists. Choose another name"),
        ({"pictures": "EXISTS"}, "is, or lies in, a file"),
    ],
)
def test_options_that_cannot_be_are_refused(
    trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    folder, checkpoint, _ = trained
    (tmp_path / "there").write_text("")
    given = {"input": str(folder / "corpus" / "videos"), "output": str(tmp_path / "out.jsonl"), **options}
    given = {name: str(tmp_path / "there") if value == "EXISTS" else value for name, value in given.items()}
    with pytest.raises(ValueError, match=said):
        predict(str(checkpoint), **given)
