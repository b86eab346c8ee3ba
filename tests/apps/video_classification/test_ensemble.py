"""Several checkpoints that classify videos together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.video_classification.predict import predict
from tests.contracts.applications.video_classification import VIDEO_CLASSIFICATION, write_corpus
from tests.contracts.trained import trained


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of vectors and of maps: their encoders' features have other shapes; and one that reads clips from their end too."""
    return {
        variant: trained(VIDEO_CLASSIFICATION, tmp_path_factory.mktemp(variant), variant=variant)
        for variant in ("vectors", "maps", "bidirectional")
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("videos")) / "videos" / "lighter"


def test_probabilities_are_the_mean_of_the_members(checkpoints: dict[str, Path], videos: Path, tmp_path: Path) -> None:
    """Of whole videos, of what is said over time, and of one that comes frame by frame."""
    found = {}
    for name, paths in {"a": ["vectors"], "b": ["maps"], "both": ["vectors", "maps"]}.items():
        first, *others = (str(checkpoints[path]) for path in paths)
        output = tmp_path / f"{name}.jsonl"
        predict(first, str(videos), str(output), over_time=True, ensemble=others, progress=False)
        found[name] = lines_of(output)
    for one, other, both in zip(*found.values(), strict=True):
        chances = [{each["class"]: each["probability"] for each in line["top"]} for line in (one, other, both)]
        for name, chance in chances[2].items():
            assert chance == pytest.approx((chances[0][name] + chances[1][name]) / 2, abs=2e-6)
        assert both["over_time"][-1]["probability"] == pytest.approx(both["probability"], abs=1e-5)
    video = Path(found["both"][0]["video"])
    arguments: dict[str, Any] = {"ensemble": str(checkpoints["maps"]), "stream": True, "progress": False}
    predict(str(checkpoints["vectors"]), str(video), str(tmp_path / "stream.jsonl"), **arguments)
    last = lines_of(tmp_path / "stream.jsonl")[-1]
    assert last["probability"] == pytest.approx(found["both"][0]["probability"], abs=1e-5)


def test_what_cannot_classify_together_is_refused(checkpoints: dict[str, Path], videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    made = torch.load(checkpoints["vectors"], weights_only=False)
    made["unroll"]["preprocessing"]["class_names"] = ["paler", "redder"]
    torch.save(made, tmp_path / "other.ckpt")
    for other, options, message in (
        (checkpoints["vectors"], {}, "is given twice"),
        (tmp_path / "other.ckpt", {}, "differ in their classes"),
        (checkpoints["bidirectional"], {"over_time": True}, "reads clips from their end"),
        (checkpoints["bidirectional"], {"stream": True}, "reads clips from their end"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(str(checkpoints["vectors"]), str(videos), str(output), ensemble=str(other), **options)
        assert not output.exists()
