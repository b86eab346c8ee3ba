"""What `predict` refuses, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from apps.translation.__main__ import TRANSLATION
from apps.translation.predict import predict
from core.training.checkpoints.files import KEY
from core.training.cli import main
from tests.apps.translation.conftest import LINES

pytestmark = pytest.mark.usefixtures("as_shipped")


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
        ({"lines_at_once": "0"}, "--lines_at_once must be at least 1, got 0"),
        ({"num_heat_maps": "0"}, "--num_heat_maps must be at least 1, got 0"),
        ({"patience": "0.5"}, "patience must be at least 1, got 0.5"),
        ({"target": "nowhere.txt"}, "--target nowhere.txt: there is no such file"),
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


def test_pictures_need_a_folder(refused: Callable[..., str], source: Path, tmp_path: Path) -> None:
    for path in (source, source / "maps"):
        assert f"--heat_maps {path} is, or lies in, a file: name a folder." in refused(
            heat_maps=str(path), overwrite="true"
        )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.png").touch()
    assert f"--heat_maps {tmp_path / 'full'} exists" in refused(heat_maps=str(tmp_path / "full"))


def test_a_folder_that_cannot_be_made(refused: Callable[..., str], source: Path) -> None:
    assert "cannot be written" in refused(output=str(source / "out.txt"))


@pytest.mark.parametrize(
    "changes",
    [{"alignments": "a.txt"}, {"replace_unknown": "true"}, {"coverage_penalty": "0.2"}, {"heat_maps": "maps"}],
    ids=lambda value: next(iter(value)),
)
def test_what_needs_attention_is_refused_without_it(
    refused: Callable[..., str], checkpoint_without_attention: Path, changes: dict[str, str]
) -> None:
    """Before anything is read or translated."""
    said = refused(ckpt_path=str(checkpoint_without_attention), **changes)
    assert f"--{next(iter(changes))} needs attention, and the network in" in said


@pytest.mark.parametrize(
    "changes",
    [{"beam_size": "5"}, {"beam_size": "5", "num_best": "2"}, {"length_penalty": "1"}, {"patience": "2"}],
    ids="-".join,
)
def test_a_search_is_refused_where_words_do_not_depend_on_each_other(
    refused: Callable[..., str], bag_of_words: Path, changes: dict[str, str]
) -> None:
    said = refused(ckpt_path=str(bag_of_words), **changes)
    assert f"--{next(iter(changes))} does nothing for the network in {bag_of_words}" in said


@pytest.mark.parametrize(
    "changes",
    [{"beam_size": "5"}, {"no_repeat_ngram": "2"}, {"max_length": "9"}, {"replace_unknown": "true"}],
    ids="-".join,
)
def test_a_search_is_refused_where_translations_are_given(
    refused: Callable[..., str], source: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    assert "--input and --target are both" in refused(target=str(source))
    (tmp_path / "given.txt").write_text("la\n" * len(LINES))
    said = refused(target=str(tmp_path / "given.txt"), **changes)
    assert f"--{next(iter(changes))} does nothing with --target" in said


@pytest.mark.parametrize("number", [0, len(LINES) - 1, len(LINES) + 3])
def test_each_line_needs_its_translation(refused: Callable[..., str], tmp_path: Path, number: int) -> None:
    (tmp_path / "given.txt").write_text("la\n" * number)
    said = refused(target=str(tmp_path / "given.txt"))
    assert f"has {len(LINES)} lines, but --target {tmp_path / 'given.txt'} has {number}" in said


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


@pytest.mark.parametrize("option", ["output", "alignments"])
def test_a_folder_is_no_output(refused: Callable[..., str], tmp_path: Path, option: str) -> None:
    """Found before the work, which would be lost."""
    (tmp_path / "folder").mkdir()
    for changes in ({}, {"overwrite": "true"}):
        said = refused(**{option: str(tmp_path / "folder"), **changes})
        assert f"--{option} {tmp_path / 'folder'} is a folder. Name a file in it." in said
