"""Loggers by their names, in the run's folder unless told otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from core.training.watching import loggers as loggers_module
from core.training.watching.loggers import PACKAGES, LoggersParser, settle_loggers


def parsed(*args: str, run_dir: Path) -> Any:
    """`trainer.logger` as the command line makes it."""
    parser = LoggersParser(exit_on_error=False)
    parser.add_lightning_class_args(pl.Trainer, "trainer")
    config = parser.parse_args(list(args))
    settle_loggers(config.trainer.logger, run_dir)
    assert "save_dir: null" not in parser.dump(config), "the config that is kept says where"
    return parser.instantiate(config).trainer.logger


@pytest.mark.parametrize(
    ("name", "kind", "folder"),
    [("CSVLogger", CSVLogger, "csv"), ("TensorBoardLogger", TensorBoardLogger, "tensorboard")],
)
def test_a_name_is_enough(name: str, kind: type, folder: str, tmp_path: Path) -> None:
    logger = parsed("--trainer.logger", name, run_dir=tmp_path)
    assert type(logger) is kind
    assert logger.log_dir == str(tmp_path / folder / "version_0")


def test_what_is_said_of_a_logger_holds(tmp_path: Path) -> None:
    chosen = [
        {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "there"), "name": "mine"}},
        {"class_path": "TensorBoardLogger", "init_args": {"version": "first"}},
    ]
    csv, board = parsed("--trainer.logger", json.dumps(chosen), run_dir=tmp_path / "run")
    assert csv.log_dir == str(tmp_path / "there" / "mine" / "version_0")
    assert board.log_dir == str(tmp_path / "run" / "tensorboard" / "first")


@pytest.mark.parametrize("value", ["true", "false", "null"])
def test_no_name_is_left_to_the_command_line(value: str, tmp_path: Path) -> None:
    assert parsed("--trainer.logger", value, run_dir=tmp_path) is {"true": True, "false": False, "null": None}[value]


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_package_that_is_not_there_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"{name}, which needs the package {PACKAGES[name][0]}: .*pip install"):
        parsed("--trainer.logger", name, run_dir=tmp_path)


def test_the_settings_of_a_logger_reach_it_and_its_folder_is_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a logger whose package is not there to try it: what it would be made with."""
    monkeypatch.setattr(loggers_module.importlib.util, "find_spec", lambda _: object())
    parser = LoggersParser(exit_on_error=False)
    parser.add_lightning_class_args(pl.Trainer, "trainer")
    for name, folder, settings in (("WandbLogger", "", {"project": "mine"}), ("MLFlowLogger", "mlruns", {})):
        given = [f"--trainer.logger.{key}={value}" for key, value in settings.items()]
        config = parser.parse_args([f"--trainer.logger={name}", *given])
        settle_loggers(config.trainer.logger, tmp_path)
        made = config.trainer.logger.init_args
        assert made.save_dir == str(tmp_path / folder)
        assert all(made[key] == value for key, value in settings.items())
