"""Contract 6: checkpoints are whole or absent, plain data, and enough to predict from."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoints.files import KEY, SafeCheckpointIO, link_checkpoint, read_checkpoint
from core.training.optimisation import OptimizerConfig
from core.training.warm_start import initialise_from
from tests.contracts.case import Case
from tests.contracts.cases import FORECASTING

PLAIN = (type(None), bool, int, float, str, torch.Tensor)


def _assert_plain(value: Any, path: str) -> None:
    if type(value) in (dict, list, tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _assert_plain(item, f"{path}.{key}")
    else:
        assert type(value) in PLAIN, f"{path} is {type(value)}"


@pytest.fixture
def trained(case: Case, train: Callable[..., Any], tmp_path: Path) -> tuple[Any, Path]:
    run = case.make(tmp_path)
    return run, train(run, tmp_path / "run", max_epochs=1).last_path


def test_it_holds_plain_data_alone(trained: tuple[Any, Path]) -> None:
    _assert_plain(torch.load(trained[1], weights_only=True)[KEY], KEY)


def test_a_module_comes_back_from_its_checkpoint_alone(case: Case, trained: tuple[Any, Path]) -> None:
    run, path = trained
    for load in (type(run.module).from_checkpoint, type(run.module).load_from_checkpoint):
        module = load(path)
        assert not module.training
        assert module.settings() == run.module.settings()
        assert str(module.preprocessing) == str(run.module.preprocessing)
        for name, value in run.module.state_dict().items():
            assert torch.equal(value, module.state_dict()[name]), name


class Payload:
    """What an attacker would put into a checkpoint."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("payload_ran"),))


def test_a_payload_is_refused_and_does_not_run(
    trained: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = trained
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / "evil.ckpt"
    torch.save({**torch.load(path, weights_only=True), "extra": Payload()}, evil)
    bare = tmp_path / "bare.ckpt"
    bare.write_bytes(pickle.dumps(Payload()))
    for file in (evil, bare):
        with pytest.raises(ValueError, match="could run code"):
            read_checkpoint(file)
        with pytest.raises(ValueError, match="could run code"):
            type(run.module).load_from_checkpoint(file)
    assert not Path("payload_ran").exists()


def test_lightning_resumes_with_the_safe_reader(
    case: Case, train: Callable[..., Any], trained: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trainer.fit(ckpt_path=...)` from Python goes through the same door."""
    monkeypatch.chdir(tmp_path)
    path = trained[1]
    torch.save({**torch.load(path, weights_only=True), "extra": Payload()}, path)
    with pytest.raises(ValueError, match="could run code"):
        train(case.make(tmp_path), tmp_path / "run", resume=True)
    assert not Path("payload_ran").exists()


@pytest.mark.parametrize("keep", [0, 100, 0.5, -10])
def test_a_truncated_file_is_named_as_such(trained: tuple[Any, Path], keep: float) -> None:
    path = trained[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"not a whole checkpoint|not plain data") as raised:
        read_checkpoint(path)
    assert str(path) in str(raised.value)


def test_other_files_are_refused_with_the_reason(case: Case, trained: tuple[Any, Path], tmp_path: Path) -> None:
    path = trained[1]
    with pytest.raises(ValueError, match=r"no such checkpoint file.*last\.ckpt"):
        read_checkpoint(path.with_name("lost.ckpt"))
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(ValueError, match="not a checkpoint of Unroll"):
        read_checkpoint(foreign)
    with pytest.raises(ValueError, match=f"a checkpoint of '{case.application}', but 'cooking'"):
        read_checkpoint(path, application="cooking")
    newer = torch.load(path, weights_only=True)
    newer[KEY]["format"] = 99
    torch.save(newer, foreign)
    with pytest.raises(ValueError, match="newer version"):
        read_checkpoint(foreign)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a kill in the middle: the previous checkpoint stays, and no part of the new one."""
    path = tmp_path / "last.ckpt"
    writer = SafeCheckpointIO()
    writer.save_checkpoint({"value": 1}, path)

    def half(checkpoint: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(ValueError, match=r"is full.*last\.ckpt could not be written.*held before is whole"):
        writer.save_checkpoint({"value": 2}, path)
    assert torch.load(path, weights_only=True) == {"value": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [None, errno.EPERM, errno.EOPNOTSUPP], ids=["links", "forbidden", "no links"])
def test_one_checkpoint_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None) -> None:
    """Also on a disk without second names; and each is replaced alone."""
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    writer = SafeCheckpointIO()
    writer.save_checkpoint({"value": 0}, last)
    writer.save_checkpoint({"value": 1}, best)

    def refused(*_: Any) -> None:
        raise OSError(error, os.strerror(error or 0))

    if error is not None:
        monkeypatch.setattr(os, "link", refused)
    link_checkpoint(best, last)
    assert best.samefile(last) == (error is None)
    assert best.stat().st_mode == last.stat().st_mode
    assert torch.load(last, weights_only=True) == {"value": 1}
    writer.save_checkpoint({"value": 2}, last)
    assert [torch.load(path, weights_only=True)["value"] for path in (best, last)] == [1, 2]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_second_name_that_fails_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"value": 1}, best)

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        link_checkpoint(best, last)
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


def test_weights_come_in_and_everything_else_from_the_config(
    case: Case, train: Callable[..., Any], trained: tuple[Any, Path], tmp_path: Path
) -> None:
    """Fine-tuning is no resumption: weights of the checkpoint, step 0, the config's learning rate."""
    run, path = trained
    tuned = case.make(tmp_path)
    tuned.module.optimizer = OptimizerConfig(lr=1e-30)
    tuned.module.init_from(path)
    done = train(tuned, tmp_path / "tuned", max_epochs=1)
    for name, value in run.module.state_dict().items():
        torch.testing.assert_close(tuned.module.state_dict()[name], value, rtol=0, atol=1e-12)
    assert read_checkpoint(done.last_path)["global_step"] == read_checkpoint(path)["global_step"]


def test_weights_that_do_not_fit_are_named(case: Case, trained: tuple[Any, Path], tmp_path: Path) -> None:
    run, path = trained
    other = case.make(tmp_path, variant=case.variants[-1])
    other.module.build(run.module.preprocessing)
    before = {name: value.clone() for name, value in other.module.network.state_dict().items()}
    with pytest.raises(ValueError, match=r"does not fit.*not in the checkpoint.*--init_skip"):
        _match_any_line(initialise_from, other.module.network, path, application=case.application)
    assert all(torch.equal(value, before[name]) for name, value in other.module.network.state_dict().items())
    fresh = case.make(tmp_path)
    fresh.module.build(run.module.preprocessing)
    name = next(iter(fresh.module.network.state_dict()))
    with torch.no_grad():
        fresh.module.network.state_dict()[name].add_(1.0)
    kept = fresh.module.network.state_dict()[name].clone()
    skipped = initialise_from(fresh.module.network, path, application=case.application, skip=[name])
    assert skipped == [name]
    assert torch.equal(fresh.module.network.state_dict()[name], kept)
    with pytest.raises(ValueError, match="init_skip names 'nothing'"):
        initialise_from(fresh.module.network, path, application=case.application, skip=["nothing"])


def _match_any_line(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    try:
        function(*args, **kwargs)
    except ValueError as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def test_the_seconds_of_a_run_are_those_of_all_its_checkpoints(here: Callable[..., None], tmp_path: Path) -> None:
    """The test at its end loads best.ckpt, which knows those before it alone."""
    config = tmp_path / "run.yaml"
    config.write_text(FORECASTING.config(tmp_path))
    here(FORECASTING, "fit", "-c", str(config), "--run_dir", str(tmp_path / "run"))
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["checkpoint_seconds"]
    stored = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["callbacks"]
    (seconds,) = [state["seconds"] for state in stored.values() if "seconds" in state]
    assert told > seconds > 0
