"""Contract 6: a disk that fills while a run saves costs the steps since the last checkpoint, and one line says what to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from core.training.checkpoints.files import SafeCheckpointIO, read_checkpoint
from tests.contracts.cases import FORECASTING

SIZE = 3 * 2**20


class FillDisk(pl.Callback):
    """Somebody else's file takes what is left of the disk, but for `left` bytes."""

    def __init__(self, step: int, left: int) -> None:
        self.step = step
        self.left = left

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            fill(Path(trainer.default_root_dir), left=self.left)


def fill(folder: Path, *, left: int) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(file.tell() - left, 0))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small file system")
@pytest.mark.parametrize("left", [0, 32 * 1024], ids=["nothing_left", "a_little_left"])
def test_a_run_goes_on_once_there_is_room(
    here: Callable[..., None], small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], left: int
) -> None:
    """Whether the checkpoint or a log is the first that finds no room."""
    config = tmp_path / "run.yaml"
    config.write_text(FORECASTING.config(tmp_path))
    here(FORECASTING, "fit", "-c", str(config), "--run_dir", str(tmp_path / "whole"))
    run_dir = small_disk / "run"
    arguments = ["fit", "-c", str(config), "--run_dir", str(run_dir)]
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        here(
            FORECASTING, *arguments, "--trainer.callbacks+=tests.contracts.test_6_full_disk.FillDisk",
            "--trainer.callbacks.step", "7", "--trainer.callbacks.left", str(left),
        )  # fmt: skip
    assert ended.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    for part in (str(run_dir), "is full", "MB free", "Make room", "--ckpt_path last"):
        assert part in said[0], said
    last = run_dir / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 6
    assert not list(last.parent.glob(".*.part"))
    (run_dir / "filler").unlink()
    here(FORECASTING, *arguments, "--ckpt_path", "last")
    whole = read_checkpoint(tmp_path / "whole" / "checkpoints" / "last.ckpt")["state_dict"]
    resumed = read_checkpoint(last)["state_dict"]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small file system")
@pytest.mark.parametrize("num_values", [100_000, 10_000_000])
def test_the_old_file_stays_where_the_new_one_finds_no_room(small_disk: Path, num_values: int) -> None:
    """What torch says of it is `unexpected pos 960 vs 854`."""
    path = small_disk / "checkpoints" / "last.ckpt"
    writer = SafeCheckpointIO()
    writer.save_checkpoint({"value": torch.ones(10)}, path)
    fill(small_disk, left=16 * 1024)
    with pytest.raises(ValueError, match=r"is full.*last\.ckpt could not be written.*held before is whole.*Make room"):
        writer.save_checkpoint({"value": torch.zeros(num_values)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["value"], torch.ones(10))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
