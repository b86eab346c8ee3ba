"""Contract 8: a user's mistake ends with one clear message and exit status 2, and nothing is written over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from apps.forecasting.__main__ import FORECASTING
from core.training.checkpoints.files import KEY
from core.training.cli import main
from tests.contracts.case import Case

Refused = Callable[..., str]


@pytest.fixture
def case(first_case: Case) -> Case:
    return first_case


@pytest.fixture
def refused(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must be refused; returns what it said."""
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))

    def _refused(*arguments: str) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        command = [str(config) if argument == "CONFIG" else argument for argument in arguments]
        with pytest.raises(SystemExit) as raised:
            main(case.entry, command)
        assert raised.value.code == 2
        said = capfd.readouterr().err
        assert "Traceback" not in said
        assert said.count("error:") == 1
        for path, content in before.items():
            assert path.read_bytes() == content, f"{path} was written over"
        return said

    return _refused


FIT = ("fit", "-c", "CONFIG", "--run_dir", "{folder}/run")


def _fit(folder: Path, *more: str) -> list[str]:
    return [part.format(folder=folder) for part in FIT] + list(more)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data.batch_sise", "3"], "Did you mean 'data.batch_size'?"),
        (["--trainer.max_epoch", "3"], "Did you mean 'trainer.max_epochs'?"),
        (["--model.optimizer.lr", "fast"], "model.optimizer.lr"),
        (["--model.optimizer.lr", "-1"], "optimizer.lr must be positive, got -1.0"),
        (["--data.batch_size", "0"], "data.batch_size must be at least 1, got 0"),
        (["-c", "nowhere.yaml"], "nowhere.yaml"),
        (["--ckpt_path", "last"], "there is no checkpoint"),
        (["--init_from", "nowhere.ckpt"], "no such checkpoint file"),
        (["--init_skip", "[head]"], "without it, it does nothing"),
        (["--trainer.overfit_batches", "1"], "limit_train_batches"),
        (["--checkpoint.monitor", "val/lost"], "Logged: "),
    ],
)
def test_settings(refused: Refused, tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in refused(*_fit(tmp_path, *arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data.loader.prefetch_factor", "2"], "without workers nothing is prepared ahead"),
        (["--model.optimizer", '{"name": "adam", "weight_decay": 0.1}'], "optimizer.name to adamw"),
    ],
)
def test_a_setting_that_does_nothing_is_an_error(
    refused: Refused, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Contract 9."""
    assert said in refused(*_fit(tmp_path, *arguments))


def test_a_run_folder_that_holds_a_run_is_kept(refused: Refused, tmp_path: Path) -> None:
    held = tmp_path / "run" / "checkpoints" / "last.ckpt"
    held.parent.mkdir(parents=True)
    held.write_bytes(b"hours of work")
    said = refused(*_fit(tmp_path))
    assert "--ckpt_path last" in said
    assert "--overwrite true" in said
    assert held.read_bytes() == b"hours of work"


def test_a_run_folder_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused("fit", "-c", "CONFIG", "--run_dir", str(tmp_path / "file" / "run"))
    assert "cannot be written" in said
    assert "--run_dir" in said


def test_resume_and_fine_tune_are_apart(refused: Refused, case: Case, tmp_path: Path, train: Callable) -> None:
    path = train(case.make(tmp_path), tmp_path / "other", max_epochs=1).last_path
    said = refused(*_fit(tmp_path, "--ckpt_path", str(path), "--init_from", str(path)))
    assert "give one of them" in said


def test_checkpoints_that_cannot_be_used(refused: Refused, case: Case, tmp_path: Path, train: Callable) -> None:
    path = train(case.make(tmp_path), tmp_path / "other", max_epochs=1).last_path
    content = torch.load(path, weights_only=True)

    def with_predict(name: str) -> str:
        return refused("predict", "--ckpt_path", str(tmp_path / name), *case.predict_args(tmp_path))

    torch.save({**content, KEY: {**content[KEY], "application": "cooking"}}, tmp_path / "foreign.ckpt")
    said = with_predict("foreign.ckpt")
    assert f"a checkpoint of 'cooking', but '{case.application}' was asked for" in said
    (tmp_path / "cut.ckpt").write_bytes(path.read_bytes()[:1000])
    assert "not a whole checkpoint (1000 bytes)" in with_predict("cut.ckpt")
    torch.save({**content, "extra": Path("x")}, tmp_path / "evil.ckpt")
    assert "could run code" in with_predict("evil.ckpt")
    for arguments in (["--ckpt_path"], ["--init_from"]):
        said = refused(*_fit(tmp_path, *arguments, str(tmp_path / "evil.ckpt")))
        assert "could run code" in said
    assert "no such checkpoint file" in with_predict("absent.ckpt")


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what our own code says of the input is a user's mistake; torch complaining of us is not."""

    def broken(application: object, args: object) -> None:
        torch.zeros(2).view(3, 3, 3, 3).item()

    monkeypatch.setattr("core.training.cli.ApplicationCLI", broken)
    with pytest.raises(RuntimeError):
        main(FORECASTING, ["fit"])
