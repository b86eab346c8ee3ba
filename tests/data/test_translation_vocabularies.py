"""Vocabularies of a parallel corpus: learnt once, kept, adopted, and compared when a run resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoints.plain import differences, to_plain
from data.text import BPE, Unigram, Words
from tests.data.conftest import data_of, ready, write


def test_a_shared_vocabulary_is_one_and_that_of_both_directions(folder: Path) -> None:
    data = ready(folder)
    assert data.source_text is data.target_text
    assert data.preprocessing()["target_text"] is None
    assert ready(folder, source="de", target="en").source_text.fingerprint == data.source_text.fingerprint
    apart = ready(folder, shared_vocabulary=False, target_text=Words(min_frequency=1))
    assert "ein" in apart.target_text.pieces
    assert not {"ä", "ein"} & set(apart.source_text.pieces)


def test_a_vocabulary_is_learnt_once_and_kept_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    build = BPE.build
    monkeypatch.setattr(BPE, "build", lambda config, lines: built.append(len(lines)) or build(config, lines))
    first = ready(folder)
    second = ready(folder)
    assert built == [120]
    assert second.source_text.fingerprint == first.source_text.fingerprint
    assert [file.suffix for file in (folder / "cache" / "text").iterdir()] == [".pt"]
    ready(folder, text=BPE(vocabulary_size=60, dropout=0.2))  # dropout makes no other vocabulary
    assert built == [120]
    ready(folder, text=BPE(vocabulary_size=50))
    write(folder, "train", 61)
    ready(folder)
    assert built == [120, 120, 122]


def test_a_broken_file_in_the_cache_is_named(folder: Path) -> None:
    ready(folder)
    (file,) = (folder / "cache" / "text").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{file.name}, a vocabulary .* cannot be read\. Delete the file"):
        ready(folder)


def test_a_cache_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "cache").write_text("a file, not a folder")
    with pytest.raises(ValueError, match=r"cannot be written to .* Set data\.cache_dir"):
        ready(folder)


def test_a_vocabulary_smaller_than_asked_for_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ready(folder, text=BPE(vocabulary_size=900)).source_text.vocabulary_size
    assert f"a vocabulary of {size} pieces, fewer than vocabulary_size=900" in capsys.readouterr().err


def test_a_checkpoints_vocabulary_is_adopted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """For testing, which then needs no training part, and for fine-tuning on other sentences."""
    trained = ready(folder, text=Unigram(vocabulary_size=50))
    file = folder / "checkpoint.pt"
    torch.save(to_plain(trained.preprocessing()), file)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere, "test", 9, seed=1)
    data = data_of(elsewhere)
    data.adopt(torch.load(file, weights_only=True))
    data.prepare_data()
    data.setup("test")
    assert data.source_text.fingerprint == trained.source_text.fingerprint
    assert differences(to_plain(trained.preprocessing()), to_plain(data.preprocessing())) == []
    assert sum(len(batch.index) for batch in data.test_dataloader()) == 9
    assert data.settings()["sentences of the training part"] is None
    with pytest.raises(ValueError, match=r"from 'en' to 'de', but data\.source is 'de' and data\.target 'en'"):
        data_of(elsewhere, source="de", target="en").adopt(torch.load(file, weights_only=True))


def test_another_vocabulary_is_told_in_a_few_lines(folder: Path) -> None:
    before = to_plain(ready(folder).preprocessing())
    now = to_plain(ready(folder, text=BPE(vocabulary_size=50)).preprocessing())
    lines = differences(before, now)
    assert any(line.startswith("source_text.fingerprint") for line in lines)
    assert len(lines) <= 3
    assert all(len(line) < 200 for line in lines)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 4}, "seed"),
        ({"batch_size": 8}, "batch_size"),
        ({"max_length": 50}, "max_length"),
        ({"max_length_ratio": 2.0}, "max_length_ratio"),
        ({"empty": "drop"}, "empty"),
        ({"text": BPE(vocabulary_size=60, dropout=0.1)}, "dropout.source"),
        ({"shared_vocabulary": False}, "shared_vocabulary"),
    ],
)
def test_a_resumed_run_must_share_what_decides_what_is_learnt(folder: Path, change: dict[str, Any], key: str) -> None:
    before = to_plain(ready(folder).settings())
    assert differences(before, to_plain(ready(folder).settings())) == []
    assert any(line.startswith(f"{key}:") for line in differences(before, to_plain(ready(folder, **change).settings())))


def test_a_resumed_run_must_have_the_same_sentences_wherever_they_lie(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = to_plain(ready(folder).settings())
    moved = tmp_path_factory.mktemp("moved")
    for file in folder.glob("*.*"):
        (moved / file.name).write_bytes(file.read_bytes())
    assert differences(before, to_plain(ready(moved).settings())) == []
    write(moved, "train", 60, seed=5)
    (line,) = differences(before, to_plain(ready(moved).settings()))
    assert line.startswith("sentences of the training part")


def test_word_vectors_are_those_of_the_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "v.vec").write_text("man 1 2 3\ndog 4 5 6\n")
    words = Words(min_frequency=1, vectors=str(folder / "v.vec"))
    data = ready(folder, text=words, target_text=Words(min_frequency=1), shared_vocabulary=False)
    vectors = data.word_vectors("source")
    assert vectors is not None
    assert vectors.values[data.source_text.pieces.index("dog")].tolist() == [4, 5, 6]
    assert f"vectors for {vectors.share_found:.0%} of the words of the source" in capsys.readouterr().err
    assert data.word_vectors("target") is None
    assert ready(folder).word_vectors("source") is None
