"""`predict`: from a checkpoint alone, file or stream to file or stream."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.translation.__main__ import TRANSLATION
from apps.translation.generation import Translation
from apps.translation.module import TranslationModule
from apps.translation.predict import predict
from apps.translation.predict_files import input_lines
from apps.translation.translator import Translator
from core.training.checkpoints.files import KEY
from core.training.cli import main
from data.text import SPECIALS
from tests.apps.translation.conftest import LINES
from tests.contracts.conftest import ROOT

pytestmark = pytest.mark.usefixtures("as_shipped")


@pytest.fixture
def translate(checkpoint: Path) -> Callable[..., list[list[Translation]]]:
    """What the network says, without the command."""

    def _translate(lines: list[str], **search: Any) -> list[list[Translation]]:
        module = TranslationModule.from_checkpoint(checkpoint)
        translator = Translator(module, config=replace(module.search, **search))
        return [found for _, found in translator.translate(lines)]

    return _translate


# What comes out -------------------------------------------------------------------------------------------------------


def test_from_file_to_file(
    checkpoint: Path, source: Path, tmp_path: Path, translate: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """A translation a line, empty ones where they were; standard output is not touched."""
    output = tmp_path / "new folder" / "out.txt"
    predict(str(checkpoint), str(source), str(output))
    lines = output.read_text(encoding="utf-8").split("\n")
    assert lines == [*(found[0].text if found else "" for found in translate(LINES)), ""]
    assert lines[1] == lines[4] == ""
    said = capfd.readouterr()
    assert said.out == ""
    assert f"Translated 6 lines to {output}." in said.err
    assert [path.name for path in output.parent.iterdir()] == ["out.txt"]


def test_from_stream_to_stream_through_the_command_line(
    checkpoint: Path,
    translate: Callable[..., Any],
    stdin: Callable[[bytes], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Standard output holds the translations and nothing else; input and output may be left out."""
    stdin("the red house\r\nnow\n\nthe réd horse".encode())
    main(TRANSLATION, ["predict", "--ckpt_path", str(checkpoint), "--lines_at_once", "2"])
    said = capfd.readouterr()
    expected = translate(["the red house", "now", "", "the réd horse"])
    assert said.out.split("\n") == [*(found[0].text if found else "" for found in expected), ""]
    assert said.err.endswith("Translated 4 lines.\n")
    # A network of random weights does not know when to end.
    assert "had not ended after max_length=" in said.err


def test_the_best_few_of_each_line(
    checkpoint: Path, source: Path, tmp_path: Path, translate: Callable[..., Any]
) -> None:
    search = {"beam_size": 4, "num_best": 3, "length_penalty": 0.5, "max_length": 5}
    output = tmp_path / "out.txt"
    predict(str(checkpoint), str(source), str(output), **search)
    rows = [line.split(" ||| ") for line in output.read_text(encoding="utf-8").splitlines()]
    assert [int(number) for number, *_ in rows] == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 4, 5, 5, 5]
    expected = [one for found in translate(LINES, **search) for one in found or [None]]
    for (_, text, score), one in zip(rows, expected, strict=True):
        assert text == (one.text if one else "")
        assert float(score) == pytest.approx(one.score if one else 0.0, rel=1e-5)
    assert [float(score) for *_, score in rows[:3]] == sorted((float(score) for *_, score in rows[:3]), reverse=True)


def test_json_lines_hold_everything(
    checkpoint: Path, source: Path, tmp_path: Path, translate: Callable[..., Any]
) -> None:
    predict(str(checkpoint), str(source), str(tmp_path / "out.jsonl"), beam_size=2, num_best=2)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["source"] for row in rows] == LINES
    for row, found in zip(rows, translate(LINES, beam_size=2, num_best=2), strict=True):
        assert row["hypotheses"] == [
            {
                "text": one.text,
                "score": one.score,
                "log_probability": one.log_probability,
                "alignment": [list(pair) for pair in one.alignment],
            }
            for one in found
        ]


def test_alignments_stand_in_a_file_of_their_own(
    checkpoint: Path, source: Path, tmp_path: Path, translate: Callable[..., Any]
) -> None:
    """Pharaoh format, of the best translation of each line."""
    predict(str(checkpoint), str(source), str(tmp_path / "out.txt"), alignments=str(tmp_path / "out.align"))
    lines = (tmp_path / "out.align").read_text().split("\n")
    for line, found in zip(lines, [*translate(LINES), []], strict=True):
        pairs = [tuple(map(int, pair.split("-"))) for pair in line.split()]
        assert pairs == (found[0].alignment if found else [])


def test_an_unknown_word_is_replaced_where_that_is_wanted(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    """A network that says nothing but the unknown word copies its source."""
    content = torch.load(checkpoint, weights_only=True)
    bias = next(value for name, value in content["state_dict"].items() if name.endswith("decoder.output.bias"))
    bias[3] = 1e3
    torch.save(content, tmp_path / "unknown.ckpt")
    for wanted in (False, True):
        output = tmp_path / f"{wanted}.txt"
        predict(str(tmp_path / "unknown.ckpt"), str(source), str(output), replace_unknown=wanted)
        for line, translation in zip(LINES, output.read_text(encoding="utf-8").splitlines(), strict=True):
            assert "<unk>" not in translation
            copied = bool(translation) and set(translation.split()) <= set(line.split())
            assert copied == (wanted and bool(line.strip()))


def test_given_translations_are_scored_aligned_and_drawn(
    checkpoint: Path, source: Path, tmp_path: Path, translate: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Those that a search has found are worth what it said."""
    found = translate(LINES)
    (tmp_path / "given.txt").write_text(
        "".join(f"{best[0].text if best else ''}\n" for best in found), encoding="utf-8"
    )
    arguments = {"target": str(tmp_path / "given.txt"), "heat_maps": str(tmp_path / "maps"), "num_heat_maps": 2}
    predict(str(checkpoint), str(source), str(tmp_path / "out.jsonl"), **arguments)
    assert "Scored 6 lines to" in capfd.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, best in zip(rows, found, strict=True):
        if best and best[0].tokens[-1] == "<eos>":
            (hypothesis,) = row["hypotheses"]
            assert hypothesis["text"] == best[0].text
            assert hypothesis["score"] == pytest.approx(best[0].score)
            assert hypothesis["alignment"] == [list(pair) for pair in best[0].alignment]
        else:
            assert len(row["hypotheses"]) == bool(best)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["line_1.png", "line_3.png"]
    predict(str(checkpoint), str(source), str(tmp_path / "out.txt"), target=str(tmp_path / "given.txt"))
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ||| ")[0] for line in lines] == [str(number) for number in range(len(LINES))]


def test_bfloat16_rounds_scores(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    """Of given translations, so that the same are scored; a search runs to its end, with pictures and alignments."""
    (tmp_path / "given.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    scores = []
    for precision in (None, "bf16-mixed"):
        output = str(tmp_path / f"{precision}.jsonl")
        predict(str(checkpoint), str(source), output, target=str(tmp_path / "given.txt"), precision=precision)
        rows = [json.loads(line) for line in Path(output).read_text(encoding="utf-8").splitlines()]
        scores.append([one["score"] for row in rows for one in row["hypotheses"]])
    assert scores[0] != scores[1]
    assert scores[1] == pytest.approx(scores[0], rel=0.05)
    drawn: dict[str, Any] = {"alignments": str(tmp_path / "pairs"), "heat_maps": str(tmp_path / "maps")}
    predict(str(checkpoint), str(source), str(tmp_path / "found.txt"), precision="bf16-mixed", **drawn)
    assert len((tmp_path / "found.txt").read_text(encoding="utf-8").splitlines()) == len(LINES)


def test_heat_maps_of_what_was_found(
    checkpoint: Path, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source.write_text("".join(f"{line}\n" for line in (*LINES, "now and " * 50)), encoding="utf-8")
    predict(
        str(checkpoint),
        str(source),
        str(tmp_path / "out.txt"),
        heat_maps=str(tmp_path / "maps"),
        num_heat_maps=3,
        max_length=5,
    )
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["line_1.png", "line_3.png", "line_4.png"]
    said = capfd.readouterr().err
    assert f"Drew 3 heat maps in {tmp_path / 'maps'}." in said
    assert "1 further lines are not drawn: --num_heat_maps is 3." in said
    assert "more than 80 pieces: line 7." in said


@pytest.mark.parametrize(("content", "number"), [(b"", 0), (b"a\nb\n", 2), (b"a\nb", 2), (b"\n", 1)])
def test_lines_are_counted_with_the_last_ended_or_not(tmp_path: Path, content: bytes, number: int) -> None:
    (tmp_path / "in.txt").write_bytes(content)
    with contextlib.ExitStack() as stack:
        lines, total = input_lines(str(tmp_path / "in.txt"), stack)
        assert total == number == len(list(lines))


def test_a_translation_comes_as_soon_as_its_lines_are_read(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    class Slow(io.RawIOBase):
        lines = iter([b"now\n", b"the red house\n"])

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            said.append(capfd.readouterr().out)
            line = next(self.lines, b"")
            buffer[: len(line)] = line
            return len(line)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Slow())))
    predict(str(checkpoint), lines_at_once=1)
    assert [text.count("\n") for text in said] == [0, 1, 1]


def test_an_empty_input_gives_an_empty_output(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    predict(str(checkpoint), str(tmp_path / "empty.txt"), str(tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_bytes() == b""


def test_a_line_of_ten_thousand_words_is_cut_and_said(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("now\n" + "the red horse " * 3333 + "now\n")
    output, pairs = tmp_path / "out.txt", tmp_path / "pairs"
    predict(
        str(checkpoint),
        str(tmp_path / "in.txt"),
        str(output),
        alignments=str(pairs),
        max_source_length=50,
        max_length=5,
    )
    assert len(output.read_text(encoding="utf-8").splitlines()) == 2
    assert all(int(pair.split("-")[0]) < 50 for pair in pairs.read_text().split())
    assert "Longer than max_source_length=50 pieces and cut there: 1 of the lines (2)." in capfd.readouterr().err


@pytest.mark.processes
def test_whoever_reads_may_stop(checkpoint: Path, tmp_path: Path) -> None:
    """As `head` does: no traceback. And text is UTF-8 whatever the terminal says."""
    content = torch.load(checkpoint, weights_only=True)
    bias = next(value for name, value in content["state_dict"].items() if name.endswith("decoder.output.bias"))
    bias[content[KEY]["preprocessing"]["target_text"]["pieces"].index("pequeña") + len(SPECIALS)] = 1e3
    torch.save(content, tmp_path / "small.ckpt")
    (tmp_path / "in.txt").write_text("the red house\n" * 20_000)
    command = [sys.executable, "-m", "apps.translation", "predict", "--ckpt_path", str(tmp_path / "small.ckpt")]
    process = subprocess.Popen(
        [*command, "--input", str(tmp_path / "in.txt"), "--max_length", "4", "--beam_size", "2", "--num_best", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"},
    )
    assert process.stdout is not None
    first = process.stdout.readline().decode("utf-8")
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1
    assert first.startswith("0 ||| pequeña pequeña")
