"""What a captioner begins with: weights of a checkpoint, and never rows of another vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl

from tests.contracts.applications.captioning import CAPTIONING, write_corpus

WORDS = ["decoder.embedding", "decoder.output"]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder with a corpus of as many other words: every shape agrees."""
    file = write_corpus(tmp_path) / "dataset.json"
    file.write_text(file.read_text().replace("lies", "sits"))
    return tmp_path


def start(folder: Path, checkpoint: Path, *, skip: list[str]) -> None:
    """Begin a training, which is all that is needed."""
    run = CAPTIONING.make(folder)
    run.module.init_from(checkpoint, skip=skip)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=str(folder),
    )
    trainer.fit(run.module, datamodule=run.data)


def test_rows_of_another_vocabulary_are_refused(checkpoint: Path, other: Path) -> None:
    with pytest.raises(ValueError, match=r"keeps decoder\.embedding\.weight, .* the captions is another here"):
        start(other, checkpoint, skip=["regions"])
    with pytest.raises(ValueError, match=r"keeps decoder\.output\.weight, decoder\.output\.bias of "):
        start(other, checkpoint, skip=["decoder.embedding"])
    start(other, checkpoint, skip=WORDS)


def test_rows_of_the_same_vocabulary_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    start(tmp_path, checkpoint, skip=["regions"])
