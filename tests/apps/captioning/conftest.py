"""What the tests of the captioning application share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import pytorch_lightning as pl

from core.training.checkpointing import CheckpointConfig, RunCheckpoints
from tests.contracts.applications.captioning import CAPTIONING


@pytest.fixture(autouse=True)
def _as_shipped() -> Iterator[None]:
    """Without the checks of shape annotations; tests/core makes them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def trained(folder: Path, **settings: Any) -> Path:
    """A checkpoint of one step in float64."""
    run = CAPTIONING.make(folder, **settings)
    checkpoints = RunCheckpoints(folder / "checkpoints", config=CheckpointConfig())
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        precision="64-true",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=str(folder),
        callbacks=[checkpoints],
    )
    trainer.fit(run.module, datamodule=run.data)
    return checkpoints.last_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captioning")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return trained(folder)


@pytest.fixture(scope="module")
def pooled_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("pooled"), variant="pooled")
