"""What docs/watching.md says of a run is what a run shows."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.forecasting.__main__ import FORECASTING
from core.training.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m apps\.forecasting (.*)$", TEXT, flags=re.MULTILINE)
WITH_LOGGER, WITH_PACKAGE, WITHOUT = [command for command in COMMANDS if "logger" in command]

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(sales: Path) -> Run:
    """Runs a command of the document for an epoch, in a folder of its own."""

    def _run(name: str, command: str, *more: str) -> Path:
        few = ["--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1", "--baseline.enabled", "false"]
        main(FORECASTING, [*shlex.split(command), *few, "--trainer.accelerator", "cpu", "--run_dir", name, *more])
        return sales / name

    return _run


def _logged(folder: Path) -> set[str]:
    (file,) = folder.glob("csv/**/metrics.csv")
    with file.open(encoding="utf-8") as rows:
        return set(next(csv.reader(rows)))


def test_every_name_in_the_table_is_logged_and_no_other(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("logged", "fit -c sales.yaml")
    listed = set(re.findall(r"^\| `(train/[\w/<>]+)`", TEXT, flags=re.MULTILINE))
    named = {name.replace("<unit>", FORECASTING.module.unit) for name in listed} - {"train/gpu_memory_mb"}
    logged = _logged(folder)
    assert named == {name for name in logged if name.startswith("train/")}
    assert {name.partition("/")[0] for name in logged if "/" in name} == {"train", "val", "test"}
    assert any((folder / "tensorboard").rglob("events.*"))
    # The last line holds the keys of the table, and those of the line that is shown.
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    shown = re.findall(r'^\{"application".*$', TEXT, flags=re.MULTILINE)[0]
    assert list(said) == [*re.findall(r'"(\w+)": ', shown.partition('"metrics": ')[0]), "metrics"]
    keys = re.findall(
        r"`([\w<>]+)`", " ".join(re.findall(r"^\| (`.*?) \|", TEXT.partition("| key |")[2], re.MULTILINE))
    )
    assert {key.replace("<unit>", FORECASTING.module.unit) for key in keys} <= set(said)
    assert said["status"] == "finished"


def test_other_loggers_go_by_their_names(run: Run) -> None:
    folder = run("other", WITH_LOGGER)
    assert "train/loss" in _logged(folder)
    assert not (folder / "tensorboard").exists()
    folder = run("none", WITHOUT)
    assert not (folder / "csv").exists()
    assert (folder / "metrics.json").is_file()


@pytest.mark.parametrize(("command", "package"), [(WITH_PACKAGE, "wandb")])
def test_a_logger_without_its_package_ends_the_run_at_once(
    run: Run, command: str, package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed.")
    with pytest.raises(SystemExit) as ended:
        run("missing", command)
    assert ended.value.code == 2
    assert package in capsys.readouterr().err
