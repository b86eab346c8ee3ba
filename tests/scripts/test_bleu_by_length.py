"""Several translators of one test set in one picture, and what cannot be compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from apps.translation.plots import Bins
from scripts import bleu_by_length

PAIRS = [
    ("the red house", "la maison rouge"),
    ("a much longer sentence of seven words here", "une phrase bien plus longue"),
]


def run(folder: Path, translations: list[str], pairs: list[tuple[str, str]] = PAIRS) -> Path:
    folder.mkdir()
    rows = [
        {"source": source, "reference": reference, "ours": ours}
        for (source, reference), ours in zip(pairs, translations, strict=True)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "test_translations.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the picture is to be; what is drawn is kept beside it, as JSON."""
    plot = bleu_by_length.plot_bleu_by_length

    def kept(curves: dict[str, Bins], path: Path, *, title: str) -> None:
        path.with_suffix(".json").write_text(json.dumps(curves))
        plot(curves, path, title=title)

    monkeypatch.setattr(bleu_by_length, "plot_bleu_by_length", kept)
    return tmp_path / "compared.png"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["bleu_by_length", *map(str, arguments)])
    bleu_by_length.main()


def test_runs_stand_side_by_side(draw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = run(tmp_path / "right", [reference for _, reference in PAIRS])
    wrong = run(tmp_path / "wrong", [PAIRS[0][1], "non"])
    call(monkeypatch, "--output", draw, f"right={right}", f"wrong={wrong}")
    assert draw.stat().st_size > 5000
    drawn = json.loads(draw.with_suffix(".json").read_text())
    assert [name for name, *_ in drawn["right"]] == ["1-5", "6-10"]
    assert drawn["right"][1][2] == pytest.approx(100)
    assert drawn["wrong"][1][2] < 10


def test_what_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run(tmp_path / "one", ["a", "b"])
    other = run(tmp_path / "other", ["a"], PAIRS[:1])
    for runs, message in (
        ([f"a={one}", f"b={other}"], "b and a were tested on different sentences"),
        ([f"a={one}", f"a={one}"], "two runs are named 'a'"),
        ([str(one)], "expected NAME=RUN_DIR"),
        ([f"a={tmp_path}"], "test_translations.jsonl does not exist: give the folder of a run that was tested"),
    ):
        with pytest.raises(SystemExit) as raised:
            call(monkeypatch, "--output", tmp_path / "no.png", *runs)
        assert raised.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()
