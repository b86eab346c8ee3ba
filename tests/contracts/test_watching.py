"""What is logged of a run's speed, padding, gradient and memory: right, over all applications, and of no effect on the run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from core.training.watching.learning_curves import read_epochs
from core.training.watching.throughput import Throughput
from core.training.watching.workload import peak_memory
from data.batching import Piece
from data.module import PlannedDataModule
from tests.contracts.case import Case
from tests.contracts.cases import CASES
from tests.contracts.test_4_loss import Gradients


def planned_units(name: str, data: PlannedDataModule, epoch: int) -> int:
    """Tokens, windows, images or frames of an epoch, from what the plan deals: every example once."""
    dataset: Any = data.dataset("train")
    if name == "forecasting_stream":
        # Every step of a series that has its horizon within the training part.
        return int((data.train_ends - dataset.horizon).clip(0).sum())  # type: ignore[attr-defined]
    if name == "translation":
        return int(dataset.lengths_in(epoch)[:, 1].sum())
    if name == "video_classification":
        return int(dataset.lengths.sum())
    return len(dataset)


def planned_waste(data: PlannedDataModule, epoch: int) -> float:
    """Share of padding over the global batches of an epoch: of the plan's lengths, or counted row by row."""
    plan, dataset = data.plan("train"), data.dataset("train")
    if plan.lengths is not None:
        return plan.padding_waste(epoch)
    steps = slots = 0
    for indices in plan.batches(epoch):
        lengths = dataset.batch(Piece(epoch, indices)).lengths.tolist()
        steps += sum(lengths)
        slots += len(lengths) * max(lengths)
    return 1.0 - steps / slots


def test_what_is_logged_is_what_was_planned(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    throughput, run = Throughput(), case.make(tmp_path)
    logger = CSVLogger(tmp_path, name="csv")
    train(run, tmp_path / "run", callbacks=(throughput,), logger=logger)
    unit, whole = run.module.unit, throughput.whole
    assert whole.units == sum(planned_units(case.name, run.data, epoch) for epoch in range(2)) > 0
    epochs = read_epochs(tmp_path)
    assert list(epochs) == [0, 1]
    for epoch, values in epochs.items():
        assert values[f"train/{unit}_per_second"] > 0
        assert 0 <= values["train/data_wait_share"] < 1
        # The peak so far: no more than now, and far from a number in other units.
        assert peak_memory() / 2 < values["train/memory_mb"] <= peak_memory() + 1
        waste = planned_waste(run.data, epoch)
        assert values["train/padding_waste"] == pytest.approx(waste, rel=1e-5, abs=1e-7)
        assert 0 < waste < 1
    seconds = [planned_units(case.name, run.data, e) / v[f"train/{unit}_per_second"] for e, v in epochs.items()]
    assert sum(seconds) == pytest.approx(whole.seconds, rel=1e-4)


def test_the_logged_norm_is_that_of_the_whole_gradient_before_clipping(
    case: Case, train: Callable[..., Any], tmp_path: Path
) -> None:
    def fit(name: str, **settings: Any) -> tuple[list[float], Gradients]:
        gradients, logger = Gradients(), CSVLogger(tmp_path, name=name)
        train(
            case.make(tmp_path), tmp_path / name, callbacks=(Throughput(), gradients), logger=logger, max_epochs=1,
            log_every_n_steps=1, precision="64-true", accumulate_grad_batches=2, limit_train_batches=8,
            limit_val_batches=0, **settings,
        )  # fmt: skip
        rows = (tmp_path / name / "version_0" / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("train/gradient_norm")
        return [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]], gradients

    norms, gradients = fit("whole")
    expected = [float(torch.linalg.vector_norm(each)) for each in gradients.seen]
    assert len(norms) == 4
    assert len(expected) >= 3, "the last step's gradient is followed by none that would clear it"
    assert norms[: len(expected)] == pytest.approx(expected, rel=1e-6)
    clipped, gradients = fit("clipped", gradient_clip_val=norms[0] / 10)
    assert clipped[0] == pytest.approx(norms[0], rel=1e-6)
    assert float(torch.linalg.vector_norm(gradients.seen[0])) == pytest.approx(norms[0] / 10, rel=1e-3)


def test_watching_changes_no_bit(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    weights = []
    for name, callbacks, logger in (
        ("alone", (), False),
        ("watched", (Throughput(),), CSVLogger(tmp_path, name="csv")),
    ):
        run = case.make(tmp_path, dropout=0.2)
        train(
            run, tmp_path / name, callbacks=callbacks, logger=logger, log_every_n_steps=1, max_epochs=1,
            limit_train_batches=3, limit_val_batches=0,
        )  # fmt: skip
        weights.append(run.module.state_dict())
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


class Killed(pl.Callback):
    """Ends a run within its second epoch, between two batches, without a word to anyone."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 2):
            raise KeyError("killed")


def test_a_resumed_run_counts_what_came_before(case: Case, train: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="killed"):
        train(case.make(tmp_path), tmp_path / "run", callbacks=(Throughput(), Killed()))
    throughput, run = Throughput(), case.make(tmp_path)
    logger = CSVLogger(tmp_path, name="csv")
    train(run, tmp_path / "run", resume=True, callbacks=(throughput,), logger=logger)
    assert throughput.whole.units == sum(planned_units(case.name, run.data, epoch) for epoch in range(2))
    # The epoch that was interrupted, too, is logged as a whole.
    waste = read_epochs(tmp_path)[1]["train/padding_waste"]
    assert waste == pytest.approx(planned_waste(run.data, 1), rel=1e-5)


def _last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=refuse)
    return line


def test_the_last_line_is_the_result_as_json(
    here: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one application: the line is made by none of them."""
    case, config, folder = CASES[0], tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(case.config(tmp_path))
    here(case, "fit", "-c", str(config), "--run_dir", str(folder))
    line = _last_line(capsys)
    written = json.loads((folder / "metrics.json").read_text())
    assert (line["application"], line["command"], line["status"]) == (case.application, "fit", "finished")
    assert (line["run_dir"], line["epochs"], line["steps"]) == (str(folder), 2, written["steps"])
    assert line["seconds"] == pytest.approx(written["fit_seconds"], abs=0.02)
    assert written["device"] == "cpu"
    ours = {name: value for name, value in line["metrics"].items() if "/" not in name}
    assert ours == written["metrics"]
    speed = f"{case.entry.module.unit}_per_second"
    assert speed in line
    for name in (speed, "padding_waste", "data_wait_share", "memory_mb"):
        assert line[name] == written[name]
        assert math.isfinite(line[name])
    for command, metric in (("validate", "loss"), ("test", next(iter(ours)))):
        here(case, command, "-c", str(config), "--run_dir", str(folder))
        line = _last_line(capsys)
        assert (line["command"], line["status"]) == (command, "finished")
        assert line["metrics"][metric] is not None
        assert command == "validate" or line["metrics"] == pytest.approx(written_again(folder), nan_ok=True)


def test_a_finished_run_that_is_started_again_says_the_same(here: Callable[..., None], tmp_path: Path) -> None:
    """As after a kill in the test that follows training: nothing is left to train, and its figures are those of the whole."""
    case, config, folder = CASES[0], tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(case.config(tmp_path))
    here(case, "fit", "-c", str(config), "--run_dir", str(folder))
    before = json.loads((folder / "metrics.json").read_text())
    here(case, "fit", "-c", str(config), "--run_dir", str(folder), "--ckpt_path", "last")
    again = json.loads((folder / "metrics.json").read_text())
    assert again.keys() == before.keys()
    for name in ("metrics", "steps", "padding_waste", "fit_seconds", "checkpoint_seconds"):
        assert again[name] == pytest.approx(before[name], rel=0.5, nan_ok=True), name
    assert again["padding_waste"] == before["padding_waste"]
    assert again["metrics"] == before["metrics"]


def written_again(folder: Path) -> dict[str, Any]:
    """The metrics that `test` wrote, those of baselines under `<baseline>/<metric>` as a run has them."""
    written = json.loads((folder / "test_metrics.json").read_text())
    return written["metrics"] | {
        f"{who}/{name}": value for who, values in written["baselines"].items() for name, value in values.items()
    }
