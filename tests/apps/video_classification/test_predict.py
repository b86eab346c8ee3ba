"""`predict`: what the test says of the same videos, broken files, and options that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from apps.video_classification.predict import predict
from core.training.checkpointing import CheckpointConfig, RunCheckpoints
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
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
