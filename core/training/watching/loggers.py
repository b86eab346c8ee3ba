"""Loggers: TensorBoard and CSV by default, any other one of Lightning's by its name, with its files in the run's folder."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

PACKAGES = {
    "WandbLogger": ("wandb", "wandb"),
    "MLFlowLogger": ("mlflow", "mlflow"),
    "CometLogger": ("comet-ml", "comet_ml"),
}
"""What each of Lightning's loggers needs: the package, and the module that is in it."""

FOLDERS = {"CSVLogger": "csv", "TensorBoardLogger": "tensorboard"}
"""Below the run's folder, for loggers that take its name."""

FOLDERS_OF_OTHERS = {"MLFlowLogger": "mlruns"}
"""The same for loggers that take the whole `save_dir` for their own."""

SAVE_DIR = "save_dir"


def default_loggers(run_dir: Path) -> list[Logger]:
    """TensorBoard and CSV files under the run folder."""
    return [TensorBoardLogger(run_dir, name="tensorboard"), CSVLogger(run_dir, name="csv")]


class LoggersParser(LightningArgumentParser):
    """Asks for no `save_dir` of a logger: `settle_loggers` puts the run's folder there."""

    def add_class_arguments(self, class_type: type, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a class; see jsonargparse."""
        # The parser of one class, which jsonargparse makes where one of several classes is chosen by its name.
        if not (isinstance(class_type, type) and issubclass(class_type, Logger) and _takes_save_dir(class_type)):
            return list(super().add_class_arguments(class_type, *args, **kwargs))
        kwargs["skip"] = {*(kwargs.get("skip") or ()), SAVE_DIR}
        added = list(super().add_class_arguments(class_type, *args, **kwargs))
        self.add_argument(f"--{SAVE_DIR}", type=str | None, default=None, help="Folder. None: that of the run.")
        if class_type.__name__ in FOLDERS:
            self.set_defaults(name=FOLDERS[class_type.__name__])
        return [*added, SAVE_DIR]


def settle_loggers(loggers: Any, run_dir: Path) -> None:
    """Check that the configured loggers can be made, and let them write into the run's folder unless told otherwise.

    Args:
        loggers: `trainer.logger` as parsed, before anything is instantiated.
        run_dir: the run's folder.

    Raises:
        ValueError: a logger's package is not installed.
    """
    for chosen in _configured(loggers):
        module, _, name = chosen.class_path.rpartition(".")
        if module.startswith("pytorch_lightning.") and name in PACKAGES:
            package, imported = PACKAGES[name]
            if importlib.util.find_spec(imported) is None:
                raise ValueError(
                    f"trainer.logger is {name}, which needs the package {package}: it is not installed. Run "
                    f"`pip install {package}`, or choose CSVLogger or TensorBoardLogger."
                )
        settings = chosen.get("init_args")
        if settings is not None and SAVE_DIR in settings and settings[SAVE_DIR] is None:
            settings[SAVE_DIR] = str(run_dir / FOLDERS_OF_OTHERS.get(name, ""))


def _configured(loggers: Any) -> Iterator[Namespace]:
    for each in loggers if isinstance(loggers, list | tuple) else [loggers]:
        if isinstance(each, Namespace) and "class_path" in each:
            yield each


def _takes_save_dir(class_type: type) -> bool:
    return SAVE_DIR in inspect.signature(class_type).parameters
