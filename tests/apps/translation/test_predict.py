"""`predict`: from a checkpoint alone, file or stream to file or stream, and what it refuses before it begins."""

from __future__ import annotations

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

import apps.translation.translator
from apps.translation.__main__ import TRANSLATION
from apps.translation.generation import Translation
from apps.translation.module import TranslationModule
from apps.translation.predict import predict
from apps.translation.translator import Translator
from core.training.checkpoint_io import KEY
from core.training.cli import main
from data.text import SPECIALS
from tests.contracts.conftest import ROOT

pytestmark = pytest.mark.usefixtures("as_shipped")

LINES = ["the red house", "", "now", "never the smallest horse reads", "  ", "the house sees"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


@pytest.fixture
def translate(checkpoint: Path) -> Callable[..., list[list[Translation]]]:
    """What the network says, without the command."""

    def _translate(lines: list[str], **search: Any) -> list[list[Translation]]:
        module = TranslationModule.from_checkpoint(checkpoint)
        translator = Translator(module, config=replace(module.search, **search))
        return [found for _, found in translator.translate(lines)]

    return _translate


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def _stdin(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return _stdin


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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Standard output holds the translations and nothing else; input and output may be left out."""
    monkeypatch.setattr(apps.translation.translator, "LINES_AT_ONCE", 2)
    stdin("the red house\r\nnow\n\nthe réd horse".encode())
    main(TRANSLATION, ["predict", "--ckpt_path", str(checkpoint)])
    said = capfd.readouterr()
    expected = translate(["the red house", "now", "", "the réd horse"])
    assert said.out.split("\n") == [*(found[0].text if found else "" for found in expected), ""]
    assert said.err == "Translated 4 lines.\n"


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


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(checkpoint: Path, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command says to arguments it cannot take; nothing is written."""

    def _refused(**changes: str) -> str:
        arguments = {"ckpt_path": str(checkpoint), "input": str(source), "output": str(tmp_path / "out.txt"), **changes}
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        with pytest.raises(SystemExit) as raised:
            main(
                TRANSLATION, ["predict", *(part for name, value in arguments.items() for part in (f"--{name}", value))]
            )
        assert raised.value.code == 2
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        said = capfd.readouterr()
        assert said.out == ""
        assert said.err.count("error:") == 1
        assert "Traceback" not in said.err
        assert "Translated" not in said.err
        return said.err

    return _refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": "nowhere.txt"}, "--input nowhere.txt: there is no such file. Give a text file, or -"),
        ({"ckpt_path": "nowhere.ckpt"}, "nowhere.ckpt: there is no such checkpoint file"),
        ({"beam_size": "2", "num_best": "3"}, "num_best must be between 1 and beam_size=2, got 3. Widen the beam"),
        ({"num_best": "0"}, "--num_best must be at least 1, got 0"),
        ({"beam_size": "0"}, "beam_size must be at least 1, got 0"),
        ({"max_source_length": "0"}, "--max_source_length must be at least 1, got 0"),
        ({"token_budget": "0"}, "--token_budget must be at least 1, got 0"),
        ({"device": "abacus"}, "--device abacus cannot be used here"),
        ({"device": "cuda:99"}, "--device cuda:99 cannot be used here"),
        ({"beamsize": "3"}, "Did you mean 'beam_size'?"),
        ({"beam_size": "wide"}, "beam_size"),
    ],
)
def test_arguments_that_cannot_be_taken(refused: Callable[..., str], changes: dict[str, str], said: str) -> None:
    assert said in refused(**changes)


def test_files_are_replaced_only_when_told(
    refused: Callable[..., str], checkpoint: Path, source: Path, tmp_path: Path
) -> None:
    for name in ("output", "alignments"):
        path = tmp_path / "mine.txt"
        path.write_text("mine")
        assert f"--{name} {path} exists. Choose another name, or replace it with --overwrite true" in refused(
            **{name: str(path)}
        )
    predict(str(checkpoint), str(source), str(path), overwrite=True)
    assert len(path.read_text().splitlines()) == len(LINES)


def test_two_outputs_are_two_files(refused: Callable[..., str], tmp_path: Path) -> None:
    path = str(tmp_path / "both.txt")
    assert "--output and --alignments are both" in refused(output=path, alignments=path)


def test_a_folder_that_cannot_be_made(refused: Callable[..., str], source: Path) -> None:
    assert "cannot be written" in refused(output=str(source / "out.txt"))


@pytest.mark.parametrize(
    "changes",
    [{"alignments": "a.txt"}, {"replace_unknown": "true"}, {"coverage_penalty": "0.2"}],
    ids=lambda value: next(iter(value)),
)
def test_what_needs_attention_is_refused_without_it(
    refused: Callable[..., str], checkpoint_without_attention: Path, changes: dict[str, str]
) -> None:
    """Before anything is read or translated."""
    said = refused(ckpt_path=str(checkpoint_without_attention), **changes)
    assert f"--{next(iter(changes))} needs attention, and the network in" in said


def test_a_checkpoint_of_another_application(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, KEY: {**content[KEY], "application": "forecasting"}}, tmp_path / "other.ckpt")
    said = refused(ckpt_path=str(tmp_path / "other.ckpt"))
    assert "a checkpoint of 'forecasting', but 'translation' was asked for" in said


def test_a_vocabulary_that_was_changed(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    pieces = content[KEY]["preprocessing"]["target_text"]["pieces"]
    pieces[0], pieces[1] = pieces[1], pieces[0]
    torch.save(content, tmp_path / "other.ckpt")
    assert "it has been changed since" in refused(ckpt_path=str(tmp_path / "other.ckpt"))


def test_no_utf8_is_said_with_line_and_byte(
    refused: Callable[..., str], tmp_path: Path, stdin: Callable[[bytes], None]
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"now\nthe r\xe9d horse\n")
    said = refused(input=str(tmp_path / "latin.txt"))
    assert "latin.txt, line 2: byte 9 (the first is 0)" in said
    assert "Save the file as UTF-8" in said
    stdin(b"now\nthe r\xe9d horse\n")
    assert "standard input, line 2: byte 9" in refused(input="-")
