"""What the comparison of tokenisers counts; the reference itself needs Java, so another stands in for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.captioning.scores import caption_tokens, metrics_of_tokens
from scripts import caption_tokens as script

IMAGES = {
    "one.jpg": ["A dog runs .", "The dog's running", "Dogs run", "A brown dog runs on grass", "A dog on grass"],
    "two.jpg": ["Two men play", "Men play ball", "Two men with a ball", "Some men", "Two men with a red ball"],
    "three.jpg": ["A red bus", "A bus", "The bus is red", "Bus", "A red bus drives"],
}


@pytest.fixture
def flickr8k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "flickr8k"
    folder.mkdir()
    # Numbers out of order: the fifth caption is the one that is numbered 4.
    rows = [f"{name}#{number}\t{of_image[number]}\n" for name, of_image in IMAGES.items() for number in (4, 0, 1, 2, 3)]
    (folder / "Flickr8k.token.txt").write_text("".join(rows), encoding="utf-8")
    (folder / "Flickr_8k.testImages.txt").write_text("two.jpg\nthree.jpg\n", encoding="utf-8")
    monkeypatch.setenv("UNROLL_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


def answer(_: Path, question: dict[str, Any]) -> dict[str, Any]:
    """A reference that differs in possessives alone."""
    if "captions" in question:
        return {"tokens": [caption_tokens(text.replace("'s", "s")) for text in question["captions"]], "version": "0"}
    return {**metrics_of_tokens(**question), "version": "0"}


def test_differences_are_counted_and_shown(
    flickr8k: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "_ask", answer)
    (flickr8k / "more.txt").write_text("A bus\nA dog's bus\nThe dog's\nDogs\n", encoding="utf-8")
    output = flickr8k / "out" / "tokens.json"
    given = ["caption_tokens", "--reference-python", "python", "--lines", "flickr8k/more.txt", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", given)
    script.main()
    record = json.loads(output.read_text(encoding="utf-8"))
    found = record["tokens"]["flickr8k"]
    assert (found["num_captions"], found["num_different"]) == (15, 1)
    assert found["different"] == [
        {"caption": "The dog's running", "ours": "the dog 's running", "reference": "the dogs running"}
    ]
    assert record["tokens"]["flickr8k/more.txt"]["share_different"] == 0.5
    assert record["num_test_images"] == 2
    last = [caption_tokens(IMAGES[name][4]) for name in ("two.jpg", "three.jpg")]
    others = [[caption_tokens(text) for text in IMAGES[name][:4]] for name in ("two.jpg", "three.jpg")]
    assert record["metrics"]["our metrics, our tokens"] == pytest.approx(metrics_of_tokens(last, others))
    assert "flickr8k/more.txt: 2 of 4 captions differ" in capsys.readouterr().out


@pytest.mark.usefixtures("flickr8k")
def test_a_python_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["caption_tokens", "--reference-python", "no/such/python"])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
    assert "no/such/python cannot be run" in capsys.readouterr().err


def test_a_line_that_is_no_caption_is_said(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("a.jpg#0\tA dog\na.jpg A cat\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2: expected IMAGE#NUMBER, a tab and a caption, got 'a\.jpg A cat'"):
        script.read_captions(path)
