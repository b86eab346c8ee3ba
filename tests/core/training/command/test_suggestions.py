"""The nearest key, from what the parser of the command line really says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from apps.forecasting.__main__ import FORECASTING
from core.training.cli import main
from core.training.command.suggestions import with_nearest_key

CONFIG = """
data: {path: nowhere.csv, context: 12, horizon: 3}
model:
  network:
    class_path: Direct
    init_args:
      recurrent: {kind: gru, hidden_size: 6}
"""


@pytest.fixture
def complaint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command line says about arguments, or about a config in which a text is replaced."""
    config = tmp_path / "run.yaml"

    def _complaint(*args: str, replace: tuple[str, str] = ("", "")) -> str:
        config.write_text(CONFIG.replace(*replace))
        with pytest.raises(SystemExit) as ended:
            main(FORECASTING, ["fit", "-c", str(config), "--run_dir", str(tmp_path / "run"), *args])
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert message.count("Did you mean") <= 1
        return message

    return _complaint


@pytest.mark.parametrize(
    ("args", "nearest"),
    [
        (["--initfrom", "x.ckpt"], "init_from"),
        (["--over_write", "true"], "overwrite"),
        (["--data.contxt", "5"], "data.context"),
        (["--model.optimizer.learning", "5"], None),
        (["--trainer.max_epoch", "3"], "trainer.max_epochs"),
        (["--checkpoint.every_n_step", "3"], "checkpoint.every_n_steps"),
        (["--baseline.enable", "false"], "baseline.enabled"),
    ],
)
def test_an_unknown_option(args: list[str], nearest: str | None, complaint: Callable[..., str]) -> None:
    message = complaint(*args)
    assert args[0].lstrip("-").split(".")[-1] in message
    if nearest is not None:
        assert f"Did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
    ("replace", "nearest"),
    [
        (("data: {path", "dota: {path"), "data.path"),
        (("context: 12", "contekst: 12"), "context"),
        (("hidden_size: 6", "hiden_size: 6"), "hidden_size"),
        (("  network:", "  netwrok:"), "network"),
    ],
)
def test_an_unknown_key_of_a_config(replace: tuple[str, str], nearest: str, complaint: Callable[..., str]) -> None:
    message = complaint(replace=replace)
    assert replace[1].strip().split(":")[0].strip() in message
    assert f"{nearest}'?" in message, message


def test_an_unknown_setting_of_a_class_is_looked_up_among_its_own(complaint: Callable[..., str]) -> None:
    """`poling` is a misspelt setting of the network, not of the data or the trainer."""
    message = complaint("--model.network.init_args.poling", "max")
    assert "Did you mean 'pooling'?" in message
    assert "'pooling'" in complaint(replace=("      recurrent:", "      poling: max\n      recurrent:"))


def test_an_unknown_class_names_the_known_ones(complaint: Callable[..., str]) -> None:
    message = complaint(replace=("class_path: Direct", "class_path: Dirct"))
    assert "Did you mean 'Direct'?" in message


def test_other_messages_are_left_alone() -> None:
    parser = ArgumentParser()
    parser.add_argument("--context", type=int)
    for message in ("No such file", "Parser key 'context': Expected an int", ""):
        assert with_nearest_key(message, parser) == message


def test_a_name_like_nothing_known_gets_no_suggestion() -> None:
    parser = ArgumentParser()
    parser.add_argument("--context", type=int)
    message = "unrecognized arguments: --zzzzzz 3"
    assert with_nearest_key(message, parser) == message
    assert with_nearest_key("unrecognized arguments: --contxt 3", parser).endswith("\nDid you mean 'context'?")
