"""The folder of a run: whose it is, which checkpoint is meant, what is cleared when it is replaced."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.cli import SaveConfigCallback

from core.training.baseline import FOLDER as BASELINE_FOLDER
from core.training.command.finished_run import METRICS_FILE, TEST_FILE, write_whole

CHECKPOINTS = tuple(
    f"{folder}checkpoints/{name}.ckpt" for folder in ("", f"{BASELINE_FOLDER}/") for name in ("last", "best")
)
OF_A_RUN = (*CHECKPOINTS, METRICS_FILE, TEST_FILE)
AUTO = "auto"
"""What --ckpt_path says to start a run or to resume it, whichever it is: the same command for both."""


class RunFolder(SaveConfigCallback):
    """Takes the run's folder over: clears what a replaced run left, and keeps the whole config beside the checkpoints."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Not yet: data or a checkpoint may still be refused, and then nothing may have been written over."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear and write, on the first process."""
        if not trainer.is_global_zero:
            return
        run_dir = Path(trainer.default_root_dir)
        if self.config.ckpt_path is None:
            for name in OF_A_RUN:
                (run_dir / name).unlink(missing_ok=True)
            self._clear_logs(trainer, run_dir)
        for folder in (run_dir, run_dir / BASELINE_FOLDER):
            # What a run that was killed while it saved has left.
            for part in (folder / "checkpoints").glob(".*.ckpt.*.part"):
                part.unlink(missing_ok=True)
        write_whole(run_dir / "config.yaml", self.parser.dump(self.config, skip_none=False))

    @staticmethod
    def _clear_logs(trainer: pl.Trainer, run_dir: Path) -> None:
        """Curves of a replaced run would be drawn as part of the new one."""
        for logger in trainer.loggers:
            current = Path(logger.log_dir) if logger.log_dir else None
            if current is None or not current.is_relative_to(run_dir):
                continue
            for old in current.parent.glob("version_*"):
                if old != current:
                    shutil.rmtree(old)


def resolve_checkpoint(ckpt_path: str | None, folder: Path, *, fitting: bool) -> Path | None:
    """The file that --ckpt_path means: `last`, `best`, a path, or `auto`: `last` where there is one.

    Raises:
        ValueError: where there is none: to train from scratch instead would silently be another run.
    """
    if ckpt_path is None:
        if fitting:
            return None
        ckpt_path = "best"
    if ckpt_path == AUTO:
        if not fitting:
            raise ValueError("--ckpt_path auto starts or resumes a training; here give last, best or a path.")
        return last if (last := folder / "last.ckpt").is_file() else None
    path = folder / f"{ckpt_path}.ckpt" if ckpt_path in ("last", "best") else Path(ckpt_path)
    if not path.is_file():
        raise ValueError(
            f"--ckpt_path {ckpt_path}: there is no checkpoint {path}. "
            + ("Leave --ckpt_path out to start from scratch." if fitting else "Run fit first, or give its path.")
        )
    return path


@rank_zero_only
def claim_run_dir(run_dir: Path, *, resumed: Path | None, overwrite: bool) -> None:
    """Refuse a folder that holds another run, or that cannot be written; nothing is changed in it yet."""
    held = [run_dir / name for name in CHECKPOINTS if (run_dir / name).exists()]
    own = resumed is not None and any(resumed.samefile(path) for path in held)
    if held and not own and not overwrite:
        raise ValueError(
            f"{run_dir} holds a run already ({held[0]}). Resume it with --ckpt_path last, choose another folder with "
            "--run_dir, or let it be replaced with --overwrite true."
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        raise ValueError(
            f"The run folder {run_dir} cannot be written ({error.strerror}). Choose another one with --run_dir."
        ) from error
