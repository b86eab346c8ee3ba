"""When `last.ckpt` and `best.ckpt` are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import RandomDataset
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints

STEPS_AN_EPOCH = 5


class Scripted(pl.LightningModule):
    """Logs the validation scores it is given; its weight counts the steps."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.steps = torch.nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return -self.steps

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Recorder(RunCheckpoints):
    """Remembers after how many steps each file was written."""

    def __init__(self, folder: Path, *, config: CheckpointConfig) -> None:
        super().__init__(folder, config=config)
        self.written: list[tuple[str, int]] = []

    def _write(self, trainer: pl.Trainer, paths: list[Path]) -> None:
        self.written += [(path.stem, trainer.global_step) for path in paths]
        super()._write(trainer, paths)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Recorder]:
    def _fit(scores: list[float], **config: Any) -> Recorder:
        checkpoints = Recorder(tmp_path / "checkpoints", config=CheckpointConfig(**{"every_minutes": None, **config}))
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=len(scores),
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(tmp_path),
            callbacks=[checkpoints],
        )
        loader = DataLoader(RandomDataset(1, STEPS_AN_EPOCH), batch_size=1)
        trainer.fit(Scripted(scores), loader, DataLoader(RandomDataset(1, 1)))
        return checkpoints

    return _fit


def steps_in(path: Path) -> int:
    return int(torch.load(path, weights_only=False)["state_dict"]["steps"])


@pytest.mark.parametrize(
    ("mode", "scores", "best_epochs"),
    [
        ("min", [3.0, 1.0, 2.0], [1, 2]),
        ("max", [3.0, 1.0, 2.0], [1]),
        ("min", [1.0, 1.0, 1.0], [1]),  # as good is not better
        ("min", [float("nan"), 2.0, float("nan")], [2]),
    ],
)
def test_best_holds_the_weights_of_the_best_score(
    mode: str, scores: list[float], best_epochs: list[int], fit: Callable[..., Recorder]
) -> None:
    checkpoints = fit(scores, monitor="val/score", mode=mode)
    best = [steps for name, steps in checkpoints.written if name == "best"]
    assert best == [STEPS_AN_EPOCH * epoch for epoch in best_epochs]
    assert steps_in(checkpoints.best_path) == best[-1]
    assert steps_in(checkpoints.last_path) == STEPS_AN_EPOCH * len(scores)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_without_a_metric_best_is_the_last(fit: Callable[..., Recorder], mode: str) -> None:
    """Whatever the application's own mode is, which the user has not named."""
    checkpoints = fit([1.0, 2.0], monitor=None, mode=mode)
    assert checkpoints.written == [("best", 5), ("last", 5), ("best", 10), ("last", 10)]


def test_what_is_the_same_is_written_once(fit: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    """And the best stays as it is when the last goes on."""
    saved: list[str] = []
    save = pl.Trainer.save_checkpoint

    def recorded(trainer: pl.Trainer, path: Path) -> None:
        saved.append(path.stem)
        save(trainer, path)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", recorded)
    checkpoints = fit([2.0, 1.0, 3.0], monitor="val/score")
    assert saved == ["best", "best", "last"]
    assert checkpoints.written == [("best", 5), ("last", 5), ("best", 10), ("last", 10), ("last", 15)]
    assert steps_in(checkpoints.best_path) == 10
    assert steps_in(checkpoints.last_path) == 15


def test_last_is_written_every_so_many_steps_and_at_the_end_of_each_epoch(fit: Callable[..., Recorder]) -> None:
    checkpoints = fit([1.0, 2.0, 3.0], every_n_steps=2, monitor="val/score")
    assert [steps for name, steps in checkpoints.written if name == "last"] == [2, 4, 5, 6, 8, 10, 12, 14, 15]


def test_short_epochs_need_not_write_each_and_the_end_of_training_does(fit: Callable[..., Recorder]) -> None:
    checkpoints = fit([1.0, 2.0, 3.0, 4.0, 5.0], every_n_epochs=2, monitor=None)
    assert [steps for name, steps in checkpoints.written if name == "last"] == [10, 20, 25]
    assert [steps for name, steps in checkpoints.written if name == "best"] == [10, 20, 25]
    checkpoints = fit([3.0, 2.0, 4.0], every_n_epochs=3, monitor="val/score")
    assert checkpoints.written == [("best", 5), ("best", 10), ("last", 15)]  # what is better is always kept


def test_the_clock_alone_writes_too(fit: Callable[..., Recorder]) -> None:
    checkpoints = fit([1.0], every_minutes=1e-9, monitor="val/score")
    assert [steps for name, steps in checkpoints.written if name == "last"] == [1, 2, 3, 4, 5]
    assert checkpoints.seconds_spent > 0


def test_a_resumed_run_knows_the_best_score_so_far(tmp_path: Path) -> None:
    before, after = (RunCheckpoints(tmp_path, config=CheckpointConfig(monitor="x")) for _ in range(2))
    before.on_validation_end(_trainer(x=0.5), None)  # type: ignore[arg-type]
    after.load_state_dict(before.state_dict())
    assert after.best_score == 0.5
    after.on_validation_end(_trainer(x=0.7), None)  # type: ignore[arg-type]
    assert after.best_score == 0.5
    after.on_validation_end(_trainer(x=0.4), None)  # type: ignore[arg-type]
    assert after.best_score == pytest.approx(0.4)


def _trainer(*, fn: TrainerFn = TrainerFn.FITTING, sanity_checking: bool = False, **metrics: float) -> Any:
    logged = {name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}
    return SimpleNamespace(
        sanity_checking=sanity_checking, state=SimpleNamespace(fn=fn), callback_metrics=logged, callbacks=[]
    )


def test_a_metric_that_is_not_logged_names_those_that_are(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, config=CheckpointConfig(monitor="val/bleu"))
    with pytest.raises(ValueError, match=r"monitor is 'val/bleu', which is not logged\. Logged: mae, mse\."):
        checkpoints.on_validation_end(_trainer(mse=1.0, mae=2.0), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Logged: none"):
        checkpoints.on_validation_end(_trainer(), None)  # type: ignore[arg-type]


def test_a_sanity_check_and_a_validation_alone_are_no_score(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, config=CheckpointConfig(monitor="x"))
    checkpoints.on_validation_end(_trainer(x=0.1, sanity_checking=True), None)  # type: ignore[arg-type]
    checkpoints.on_validation_end(_trainer(x=0.1, fn=TrainerFn.VALIDATING), None)  # type: ignore[arg-type]
    assert checkpoints.best_score == float("inf")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_steps": 0}, r"checkpoint\.every_n_steps must be at least 1, got 0"),
        ({"every_minutes": 0.0}, r"checkpoint\.every_minutes must be positive, got 0"),
        ({"every_n_epochs": 0}, r"checkpoint\.every_n_epochs must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CheckpointConfig(**settings)
