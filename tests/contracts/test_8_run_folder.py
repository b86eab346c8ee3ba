"""Nothing of a user's is written over or deleted that they did not give up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.training.cli import main
from tests.contracts.case import Case


@pytest.fixture
def case(first_case: Case) -> Case:
    return first_case


@pytest.fixture
def fit(case: Case, tmp_path: Path) -> Callable[..., None]:
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))

    def _fit(run_dir: Path, *more: str) -> None:
        arguments = ["fit", "-c", str(config), "--run_dir", str(run_dir), "--trainer.max_epochs", "1", *more]
        main(case.entry, arguments)

    return _fit


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.ckpt")} | {
        path: path.read_bytes() for path in folder.rglob("metrics.json")
    }


def test_runs_below_a_run_folder_are_left_alone(fit: Callable[..., None], tmp_path: Path) -> None:
    fit(tmp_path / "runs" / "a")
    before = _content(tmp_path / "runs" / "a")
    assert len(before) == 3
    fit(tmp_path / "runs")
    fit(tmp_path / "runs", "--overwrite", "true")
    assert _content(tmp_path / "runs" / "a") == before
    # Of the run that was replaced no log is left, which would be drawn as part of the new one.
    for logger in ("csv", "tensorboard"):
        assert len(list((tmp_path / "runs" / logger).glob("version_*"))) == 1


def test_a_run_is_replaced_only_when_the_new_one_starts(
    fit: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run")
    before = _content(tmp_path / "run")
    for mistake in (
        ["--data.path", "nowhere.csv"],
        ["--init_from", "nowhere.ckpt"],
        ["--model.optimizer.lr", "-1"],
        ["--ckpt_path", "last"],
    ):
        with pytest.raises(SystemExit) as raised:
            fit(tmp_path / "run", "--overwrite", "true", *mistake)
        assert raised.value.code == 2
        assert _content(tmp_path / "run") == before, mistake
    fit(tmp_path / "run", "--overwrite", "true", "--trainer.fast_dev_run", "true")
    assert _content(tmp_path / "run") == before
    # The checkpoint that a run starts from may be the one it replaces.
    own = tmp_path / "run" / "checkpoints" / "best.ckpt"
    fit(tmp_path / "run", "--overwrite", "true", "--init_from", str(own), "--seed_everything", "5")
    assert _content(tmp_path / "run") != before


def test_a_run_is_resumed_in_its_own_folder_or_in_an_empty_one(
    fit: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "a")
    fit(tmp_path / "b", "--seed_everything", "9")
    before = _content(tmp_path / "b")
    last = str(tmp_path / "a" / "checkpoints" / "last.ckpt")
    with pytest.raises(SystemExit):
        fit(tmp_path / "b", "--ckpt_path", last, "--trainer.max_epochs", "2")
    assert "holds a run already" in capfd.readouterr().err
    assert _content(tmp_path / "b") == before
    fit(tmp_path / "c", "--ckpt_path", last, "--trainer.max_epochs", "2")
    assert {path.name for path in _content(tmp_path / "c")} == {"last.ckpt", "best.ckpt", "metrics.json"}


@pytest.mark.parametrize(
    "settings", [["--trainer.max_steps", "2"], ["--trainer.check_val_every_n_epoch", "5"]], ids=["steps", "epochs"]
)
def test_a_run_without_a_validation_is_tested_and_says_so(
    fit: Callable[..., None], tmp_path: Path, settings: list[str]
) -> None:
    with pytest.warns(UserWarning, match=r"no best\.ckpt; last\.ckpt is tested"):
        fit(tmp_path / "run", *settings, "--baseline.enabled", "true")
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written["metrics"]
    assert "feed_forward" in written["baselines"]


def test_a_baseline_shorter_than_the_run_is_validated_too(fit: Callable[..., None], tmp_path: Path) -> None:
    fit(
        tmp_path / "run", "--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "2",
        "--baseline.enabled", "true", "--baseline.max_epochs", "1",
    )  # fmt: skip
    assert (tmp_path / "run" / "baseline" / "checkpoints" / "best.ckpt").is_file()


def test_an_empty_test_publishes_nothing(
    fit: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path / "run", "--trainer.limit_test_batches", "0")
    assert "limit_test_batches is 0" in capfd.readouterr().err
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_test_may_be_of_some_batches_only(fit: Callable[..., None], case: Case, tmp_path: Path) -> None:
    fit(tmp_path / "run", "--trainer.limit_test_batches", "1", "--baseline.enabled", "true")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["baselines"]["feed_forward"]


def test_shipped_multi_gpu_settings_train_with_the_baseline(
    fit: Callable[..., None], case: Case, tmp_path: Path
) -> None:
    """A strategy object, bf16 and clipping together, twice in one process: for the run and for its baseline."""
    import torch.distributed

    try:
        fit(
            tmp_path / "run", "-c", f"configs/{case.application}/multi_gpu.yaml", "--trainer.accelerator", "cpu",
            "--trainer.devices", "1", "--model.optimizer.name", "adamw", "--baseline.enabled", "true",
            "--data.loader", '{"num_workers": 1, "prefetch_factor": 2}', "--trainer.callbacks+=LearningRateMonitor",
        )  # fmt: skip
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert "feed_forward" in json.loads((tmp_path / "run" / "metrics.json").read_text())["baselines"]
