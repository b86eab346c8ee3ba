"""`predict` of captioning: what it writes, what it skips, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.captioning.predict import predict
from tests.contracts.applications.captioning import write_corpus


@pytest.fixture
def images(folder: Path, tmp_path: Path) -> Path:
    """Three pictures, one of them broken, and a file that is none."""
    path = tmp_path / "images"
    path.mkdir()
    for name in ("000.png", "001.png", "002.png"):
        shutil.copy(write_corpus(folder) / "images" / name, path)
    whole = (path / "001.png").read_bytes()
    (path / "001.png").write_bytes(whole[: len(whole) // 2])
    (path / "notes.txt").write_text("no picture\n")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_described_and_what_is_broken_is_skipped_counted_and_listed(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    predict(str(checkpoint), input=str(images), output=str(output), images_at_once=1)
    found = lines_of(output)
    assert [Path(one["image"]).name for one in found] == ["000.png", "002.png"]
    assert all(isinstance(one["caption"], str) and one["log_probability"] < 0 for one in found)
    said = capsys.readouterr().err
    assert "001.png" in said
    assert "Described 2 of 3 images" in said
    assert "1 could not be read and are skipped" in said


def test_captions_do_not_depend_on_how_many_are_in_memory(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    for number in (1, 7):
        predict(
            str(checkpoint),
            input=str(write_corpus(folder) / "images"),
            output=str(tmp_path / f"{number}.jsonl"),
            beam_size=3,
            num_best=2,
            images_at_once=number,
        )
    first, second = (lines_of(tmp_path / f"{number}.jsonl") for number in (1, 7))
    assert [[one["caption"] for one in each["hypotheses"]] for each in first] == [
        [one["caption"] for one in each["hypotheses"]] for each in second
    ]
    for each in first:
        scores = [one["score"] for one in each["hypotheses"]]
        assert len(scores) == 2
        assert scores == sorted(scores, reverse=True)
        assert each["caption"] == each["hypotheses"][0]["caption"]


def test_bfloat16_rounds_what_is_said_of_a_caption(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    """With pictures of attention, which are made from arrays that have no bfloat16."""
    found = []
    for precision in (None, "bf16-mixed"):
        output = tmp_path / f"{precision}.jsonl"
        maps = tmp_path / f"maps_{precision}"
        predict(str(checkpoint), str(images), str(output), precision=precision, attention_maps=str(maps), beam_size=1)
        assert len(list(maps.iterdir())) == 2
        found.append([one["log_probability"] for one in lines_of(output)])
    assert found[0] != found[1]
    # By word: greedy captions may differ in length once a rounded score is above another.
    assert found[1] == pytest.approx(found[0], rel=0.3)


def test_one_image_goes_to_standard_output(checkpoint: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(str(checkpoint), input=str(images / "000.png"))
    assert json.loads(capsys.readouterr().out)["image"].endswith("000.png")


def test_attention_is_drawn_for_each_hypothesis(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    predict(
        str(checkpoint),
        input=str(images),
        output=str(tmp_path / "out.jsonl"),
        beam_size=2,
        num_best=2,
        attention_maps=str(maps),
        num_attention_maps=1,
    )
    assert sorted(path.name for path in maps.iterdir()) == ["0001_000_1.png", "0001_000_2.png"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_best": 0}, "--num_best must be at least 1, got 0"),
        ({"num_best": 5, "beam_size": 2}, "num_best"),
        ({"images_at_once": 0}, "--images_at_once must be at least 1, got 0"),
        ({"input": "nowhere.png"}, "There is no file or folder 'nowhere.png'"),
        ({"device": "cuda:99"}, "--device cuda:99 cannot be used here"),
    ],
)
def test_wrong_input_is_refused(
    checkpoint: Path, images: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    given = {"input": str(images), "output": str(tmp_path / "out.jsonl"), **options}
    with pytest.raises(ValueError, match=said):
        predict(str(checkpoint), **given)
    assert not (tmp_path / "out.jsonl").exists()


def test_files_that_exist_are_kept(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    with pytest.raises(ValueError, match="exists"):
        predict(str(checkpoint), input=str(images), output=str(output))
    assert output.read_text() == "mine"
    predict(str(checkpoint), input=str(images), output=str(output), overwrite=True)
    assert len(lines_of(output)) == 2
    with pytest.raises(ValueError, match=r"--attention_maps .* is, or lies in, a file"):
        predict(str(checkpoint), input=str(images), attention_maps=str(output / "maps"))


def test_nothing_that_can_be_read_is_an_error(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of its 1 images can be read"):
        predict(str(checkpoint), input=str(images / "001.png"), output=str(tmp_path / "out.jsonl"))


def test_options_that_do_nothing_are_refused(pooled_checkpoint: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--attention_maps needs attention"):
        predict(str(pooled_checkpoint), input=str(images), attention_maps=str(tmp_path / "maps"))
    with pytest.raises(ValueError, match="--beam_size does nothing for the network"):
        predict(str(pooled_checkpoint), input=str(images), beam_size=3)
