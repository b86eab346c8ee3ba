"""What docs/forecasting.md shows works: the config trains, the commands run, the table of keys is whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from apps.forecasting.__main__ import FORECASTING
from apps.forecasting.network import NetworkConfig
from core.training.cli import main
from tests.build_only import BuildOnly, Built

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "forecasting.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"^python -m apps\.forecasting (.*)$", TEXT, flags=re.MULTILINE)
KEYS = TEXT.partition("## Every key")[2]
# Of Lightning, and explained there.
NOT_OURS = ("trainer.",)


@pytest.fixture(scope="module")
def resolved(sales: Path) -> dict[str, Any]:
    """The config of a run that is trained as the document says, on a part of its series, for an epoch."""
    few = ["--trainer.max_epochs", "1", "--baseline.enabled", "false", "--trainer.accelerator", "cpu"]
    main(FORECASTING, [*shlex.split(COMMANDS[0]), *few])
    loaded: dict[str, Any] = yaml.safe_load(Path("runs/forecasting/sales/config.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.usefixtures("resolved")
def test_the_three_commands_run(sales: Path) -> None:
    assert [command.split()[0] for command in COMMANDS[:3]] == ["fit", "test", "predict"]
    main(FORECASTING, [*shlex.split(COMMANDS[1]), "--trainer.accelerator", "cpu"])
    assert Path("runs/forecasting/sales/test_metrics.json").is_file()
    main(FORECASTING, [*shlex.split(COMMANDS[2]), "--device", "cpu"])
    forecast = pd.read_csv("next.csv")
    header, _, last = re.findall(r"^unique_id,ds,mean,.*$", TEXT, flags=re.MULTILINE)[0].partition(", ... ,")
    assert ",".join(forecast.columns).startswith(header)
    assert forecast.columns[-1] == last
    assert len(forecast) == 2 * 14


@pytest.mark.usefixtures("resolved")
def test_the_run_s_folder_holds_what_is_listed() -> None:
    (listing,) = re.findall(r"^runs/forecasting/sales/\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r"(?:^  |  )((?:\w+/)*\w+(?:\.\w+|/))(?= |$)", listing, flags=re.MULTILINE)
    assert len(named) == 10
    missing = {name for name in named if not Path("runs/forecasting/sales", name).exists()}
    assert missing == {"baseline/"}  # which was left out here


@pytest.mark.usefixtures("sales")
def test_whole_series_build() -> None:
    content = {**yaml.safe_load(YAML[0]), "model": yaml.safe_load(YAML[1])["model"]}
    content["data"] = {**content["data"], **yaml.safe_load(YAML[1])["data"]}
    Path("stream.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(Built):
        BuildOnly(FORECASTING, ["fit", "-c", "stream.yaml", "--run_dir", "stream", "--trainer.accelerator", "cpu"])


@pytest.mark.usefixtures("sales")
def test_the_lines_of_python_run(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(script.replace("max_epochs=2", "max_epochs=1, accelerator='cpu'"), "docs/forecasting.md", "exec"), {})
    assert "shop0" in capsys.readouterr().out


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of a config, as the tables of keys write them."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _rows(title: str) -> dict[str, str]:
    """Keys of a section and their defaults, as they stand in its tables; several in a cell are several keys."""
    section = KEYS.partition(f"### {title}\n")[2].partition("\n### ")[0]
    found = {}
    for row in re.findall(r"^\| `(.*) \|$", section, flags=re.MULTILINE):
        keys, default = f"`{row}".split(" | ")[:2]
        found.update(dict.fromkeys(re.findall(r"`([\w.*]+)`", keys), default.strip("`")))
    return found


def test_every_key_of_a_run_is_in_the_table(resolved: dict[str, Any]) -> None:
    own = {key: value for key, value in resolved.items() if key not in ("data", "model")}
    there = {key for key, _ in _flat(own) if not key.startswith(NOT_OURS)}
    assert set(_rows("Run")) - {"trainer.*"} == there


def test_every_key_of_the_data_is_in_the_table(resolved: dict[str, Any]) -> None:
    data = {**resolved["data"], "split": None}
    assert {key for key, _ in _flat(data)} <= set(_rows("`data`"))
    of_the_run = dict(_flat(data))
    for key, default in _rows("`data`").items():
        # What the run has set itself says nothing of the default.
        if key in of_the_run and key not in ("path", "context", "horizon", "batch_size", "split"):
            assert str(yaml.safe_load(default)) == str(of_the_run[key]), key


def test_every_key_of_a_network_is_in_the_table() -> None:
    section = KEYS.partition("### `model`\n")[2]
    named = set(re.findall(r"`([\w.]+)`", section))
    for kind in NetworkConfig.__subclasses__():
        if kind.__module__.startswith("apps."):
            assert set(_names_of(kind())) <= named, kind.__name__


def _names_of(config: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _names_of(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"
