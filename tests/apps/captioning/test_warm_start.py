"""What a captioner begins with: weights of a checkpoint, and never rows of another vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.applications.captioning import CAPTIONING, write_corpus
from tests.contracts.trained import trained

WORDS = ["decoder.embedding", "decoder.output"]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder with a corpus of as many other words: every shape agrees."""
    file = write_corpus(tmp_path) / "dataset.json"
    file.write_text(file.read_text().replace("lies", "sits"))
    return tmp_path


def test_rows_of_another_vocabulary_are_refused(checkpoint: Path, other: Path) -> None:
    with pytest.raises(ValueError, match=r"keeps decoder\.embedding\.weight, .* the captions is another here"):
        trained(CAPTIONING, other, init_from=checkpoint, skip=["regions"])
    with pytest.raises(ValueError, match=r"keeps decoder\.output\.weight, decoder\.output\.bias of "):
        trained(CAPTIONING, other, init_from=checkpoint, skip=["decoder.embedding"])
    trained(CAPTIONING, other, init_from=checkpoint, skip=WORDS)


def test_rows_of_the_same_vocabulary_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    trained(CAPTIONING, tmp_path, init_from=checkpoint, skip=["regions"])
