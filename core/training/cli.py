"""The command line of every application: `python -m apps.<application> {fit,validate,test,predict}`."""

from __future__ import annotations

import copy
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError, Namespace, set_docstring_parse_options
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from core.training.baseline import FOLDER as BASELINE_FOLDER
from core.training.baseline import BaselineConfig, test_metrics, train_baseline
from core.training.checkpoints.files import KEY, full_disk_explained, read_checkpoint
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.command.finished_run import FinishedRun, Metrics
from core.training.command.quiet import leave_out_what_is_no_news
from core.training.command.restarts import Restarts
from core.training.command.run_folder import AUTO, RunFolder, claim_run_dir, resolve_checkpoint
from core.training.command.suggestions import with_nearest_key
from core.training.command.summary import Status, fit_figures, print_summary
from core.training.command.trainer_checks import keep_limits_whole
from core.training.module import ApplicationModule
from core.training.preemption import Preemption
from core.training.process.allocator import keep_freed_memory
from core.training.process.group import leave_process_group
from core.training.process.matmul import use_onednn_matmul
from core.training.process.signals import Interrupted, catch_keyboard, exit_interrupted, keep_exit_status, stop_at_once
from core.training.process.torchrun import meet_in_a_new_store
from core.training.watching.loggers import LoggersParser, default_loggers, settle_loggers
from core.training.watching.progress import progress_bar
from core.training.watching.throughput import Throughput
from core.training.watching.workload import device_name

EXIT_BAD_INPUT = 2
OUR_PACKAGES = ("apps", "core", "data")
DEFAULT_EPOCHS = 10


@dataclass(frozen=True)
class Application:
    """What the command line must know of an application.

    Attributes:
        name: its folder under `apps`.
        module: its LightningModule.
        data: its DataModule.
        predict: `predict(ckpt_path, input, output, ...)`; its signature and docstring make the subcommand.
        baseline: the untrained feed-forward baseline (notes N1) to a module.
        report: table and pictures of a tested run, on the first process.
        defaults: defaults of further keys, such as `{"checkpoint.monitor": "val/mae"}`.
    """

    name: str
    module: type[ApplicationModule]
    data: type[pl.LightningDataModule]
    predict: Callable[..., None]
    baseline: Callable[[Any], ApplicationModule]
    report: Callable[[FinishedRun], None]
    defaults: dict[str, Any] = field(default_factory=dict)


class _Parser(LoggersParser):
    """Ends with the nearest known key when a key is unknown."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ArgumentError(None, with_nearest_key(message, self))


class ApplicationCLI(LightningCLI):
    """LightningCLI with our run folder, checkpoints, and resume apart from fine-tuning."""

    def __init__(self, application: Application, args: Sequence[str]) -> None:
        self.application = application
        super().__init__(
            application.module,
            application.data,
            save_config_callback=RunFolder,
            parser_class=_Parser,
            parser_kwargs={"prog": f"python -m apps.{application.name}", "exit_on_error": False, "allow_abbrev": False},
            trainer_defaults={
                "use_distributed_sampler": False,
                "enable_model_summary": False,
            },
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(args),
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's subcommands; `predict` is ours (it needs no config)."""
        skip = {"model", "dataloaders", "datamodule", "weights_only", "verbose"}
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": skip,
            "test": skip,
        }

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        for name in self.subcommands():
            kwargs.setdefault(name, {}).update(exit_on_error=False, allow_abbrev=False)
        super()._add_subcommands(parser, **kwargs)
        # Listed here for --help; `main` has dispatched it before any config is asked for.
        predict = LightningArgumentParser()
        predict.add_function_arguments(self.application.predict)
        assert parser._subcommands_action is not None
        parser._subcommands_action.add_subcommand("predict", predict, help="Predict new data from a checkpoint alone.")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys of a run beside trainer, model and data."""
        keep_limits_whole(parser)
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Folder of the run: checkpoints, logs, tables, pictures. None: runs/<application>/<name of the first config>.",
        )
        parser.add_argument(
            "--overwrite",
            type=bool,
            default=False,
            help="Start afresh in a run folder that holds a checkpoint already; otherwise that is refused.",
        )
        parser.add_argument(
            "--max_starts",
            type=int,
            default=3,
            help="With --ckpt_path auto: starts in a row at the same step that are let through, so that a run which never "
            "reaches its next checkpoint is not started for ever. Those that a signal has ended do not count.",
        )
        parser.add_argument(
            "--num_threads",
            type=int | None,
            default=None,
            help="CPU threads of each process; None: as many as torch chooses. Small networks are as fast with one.",
        )
        parser.add_argument(
            "--onednn_matmul",
            type=bool,
            default=False,
            help="Send float32 matrix products on CPU through oneDNN: faster on some CPUs; refused where it would round.",
        )
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Fine-tune: start from the weights of this checkpoint, everything else from the config.",
        )
        parser.add_argument(
            "--init_skip",
            type=list[str],
            default=[],
            help="With init_from: prefixes of parameter names that start afresh.",
        )
        parser.add_class_arguments(CheckpointConfig, "checkpoint", help="When checkpoints are written.")
        parser.add_class_arguments(BaselineConfig, "baseline", help="The baseline trained beside the run.")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")
        if self.application.defaults:
            parser.set_defaults(self.application.defaults)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments only; Lightning would warn that they are not sys.argv."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint override the config here; ours holds no hyper-parameters to do so."""

    def before_instantiate_classes(self) -> None:
        """Settle the run folder and which checkpoint is meant, before anything expensive."""
        config = self.config[self.subcommand]
        if config.num_threads is not None:
            if config.num_threads < 1:
                raise ValueError(f"num_threads must be at least 1, got {config.num_threads}.")
            torch.set_num_threads(config.num_threads)
        if config.onednn_matmul:
            use_onednn_matmul()
        self.run_dir = Path(config.run_dir or self._default_run_dir(config))
        settle_loggers(config.trainer.logger, self.run_dir)
        checkpoints = self.run_dir / "checkpoints"
        self.ckpt_path = resolve_checkpoint(config.ckpt_path, checkpoints, fitting=self.subcommand == "fit")
        if self.subcommand == "fit":
            if config.init_from and config.ckpt_path:
                raise ValueError(
                    "--ckpt_path resumes a run exactly, --init_from starts a new one from its weights: give one of them."
                )
            if config.init_skip and not config.init_from:
                raise ValueError("--init_skip says what --init_from leaves out; without it, it does nothing.")
            if config.overwrite and self.ckpt_path is not None:
                raise ValueError("--overwrite replaces a run and --ckpt_path resumes one: give one of them.")
            if config.max_starts < 1:
                raise ValueError(f"max_starts must be at least 1, got {config.max_starts}.")
            self.is_started_again = config.ckpt_path == AUTO
            if self.ckpt_path is None:
                config.ckpt_path = None
            if not config.trainer.fast_dev_run:
                claim_run_dir(self.run_dir, resumed=self.ckpt_path, overwrite=config.overwrite)
        elif config.init_from or config.init_skip:
            raise ValueError(f"--init_from and --init_skip do nothing under {self.subcommand}: they belong to fit.")
        if config.trainer.default_root_dir is not None:
            raise ValueError("trainer.default_root_dir is the run folder here: set --run_dir instead.")
        if isinstance(config.seed_everything, bool) or config.seed_everything < 0:
            raise ValueError(f"seed_everything must be an integer of at least 0, got {config.seed_everything}.")

    def _default_run_dir(self, config: Namespace) -> Path:
        name = Path(str(config.config[0])).stem if config.config else "unnamed"
        return Path("runs") / self.application.name / name

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The configured trainer, with the run folder, the checkpoints, the throughput and the default loggers."""
        config = self.config_init[self.subcommand]
        self.store = meet_in_a_new_store()
        self.checkpoints = RunCheckpoints(self.run_dir / "checkpoints", config=config.checkpoint)
        self.config[self.subcommand]["run_dir"] = str(self.run_dir)
        trainer = {**config.trainer, "default_root_dir": str(self.run_dir)}
        fitting = self.subcommand == "fit" and not trainer["fast_dev_run"]
        if trainer["max_epochs"] is None and trainer["max_steps"] < 0 and trainer["max_time"] is None:
            trainer["max_epochs"] = DEFAULT_EPOCHS
        if trainer["logger"] in (None, True):
            trainer["logger"] = default_loggers(self.run_dir) if fitting else False
        given = trainer["callbacks"] or []
        callbacks: list[pl.Callback] = list(given) if isinstance(given, list | tuple) else [given]
        if trainer["enable_progress_bar"] is not False and not any(
            isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks
        ):
            callbacks.append(progress_bar())
        trainer["callbacks"] = callbacks
        # The baseline's trainer gets copies as they are now: callbacks and strategies keep state of their trainer.
        self.baseline_settings = copy.deepcopy(trainer)
        self.throughput = Throughput()
        ours: list[pl.Callback] = [Preemption(self.checkpoints if fitting else None)]
        if fitting:
            ours += [self.checkpoints, self.throughput]
            if self.is_started_again:
                ours.append(Restarts(self.run_dir, max_starts=config.max_starts))
        return self._instantiate_trainer(trainer, ours)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with full_disk_explained(self.run_dir):
                super()._run_subcommand(subcommand)
        except Interrupted:
            self._summarise("interrupted", {})
            raise
        leave_process_group()

    def fit(self, model: ApplicationModule, **kwargs: Any) -> None:
        """Train, then hand the run to the application for its tests and pictures."""
        catch_keyboard()
        config = self.config[self.subcommand]
        if config.init_from:
            model.init_from(config.init_from, skip=config.init_skip)
            if not config.init_skip:  # parts that start afresh may be those that a vocabulary belongs to
                self._adopt(config.init_from)
        self.trainer.fit(model, datamodule=self.datamodule, ckpt_path=_text(self.ckpt_path))
        if self.trainer.interrupted or config.trainer.fast_dev_run:
            self._summarise("interrupted" if self.trainer.interrupted else "finished", {})
            return
        run = FinishedRun(
            model,
            self.datamodule,
            self.run_dir,
            test_metrics(self.trainer, model, self.datamodule, self.checkpoints.tested_path()),
            facts={
                "seed": config.seed_everything,
                "fit_seconds": round(self.throughput.fit_seconds, 2),
                "steps": self.trainer.global_step,
                "device": device_name(self.trainer.strategy.root_device),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                **self.throughput.figures(),
                "checkpoint_seconds": round(self.checkpoints.seconds_spent, 3),
                **model.facts(),
            },
        )
        if config.baseline.enabled:
            # Written before as well: whatever happens to the baseline, the run itself is measured.
            self._write(run)
            self._say("\nThe feed-forward baseline on the same data:")
            run.baseline, run.baseline_metrics = train_baseline(
                self.application.baseline(model),
                self.datamodule,
                config=self.config_init[self.subcommand].baseline,
                trainer_settings=self.baseline_settings,
                checkpoint=self.config_init[self.subcommand].checkpoint,
                run_dir=self.run_dir,
            )
        self._report(run)
        self._summarise("finished", run.metrics)

    def _summarise(self, status: Status, metrics: Metrics) -> None:
        command, application = str(self.subcommand), self.application.name
        figures = fit_figures(self.trainer, self.throughput, status=status) if command == "fit" else {}
        print_summary(status, metrics, command=command, application=application, run_dir=self.run_dir, **figures)

    @rank_zero_only
    def _say(self, message: str) -> None:
        print(message, flush=True)

    @rank_zero_only
    def _write(self, run: FinishedRun) -> None:
        run.write()

    @rank_zero_only
    def _report(self, run: FinishedRun) -> None:
        run.write()
        self.application.report(run)

    def _adopt(self, ckpt_path: str | Path) -> None:
        """Weights mean something with the vocabulary alone that they were trained with."""
        checkpoint = read_checkpoint(ckpt_path, application=self.application.name)
        self.datamodule.adopt(checkpoint[KEY]["preprocessing"])

    def validate(self, model: ApplicationModule, **kwargs: Any) -> None:
        """Evaluate a checkpoint on the validation part."""
        assert self.ckpt_path is not None
        self._adopt(self.ckpt_path)
        self.trainer.validate(model, datamodule=self.datamodule, ckpt_path=_text(self.ckpt_path))
        self._summarise("finished", model.evaluation_metrics)

    def test(self, model: ApplicationModule, **kwargs: Any) -> None:
        """Evaluate a checkpoint on the test part, with table and pictures."""
        assert self.ckpt_path is not None
        self._adopt(self.ckpt_path)
        metrics = test_metrics(self.trainer, model, self.datamodule, self.ckpt_path)
        run = FinishedRun(model, self.datamodule, self.run_dir, metrics)
        trained = self.run_dir / BASELINE_FOLDER / "checkpoints" / "best.ckpt"
        if trained.is_file():
            run.baseline = self.application.baseline(model)
            run.baseline_metrics = test_metrics(self.trainer, run.baseline, self.datamodule, trained)
        self._report(run)
        self._summarise("finished", run.metrics)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def main(application: Application, args: Sequence[str] | None = None) -> None:
    """Run the command line of an application; a user's mistake ends with one clear message and exit status 2."""
    args = sys.argv[1:] if args is None else args
    leave_out_what_is_no_news()
    if any(argument.endswith("help") for argument in args[1:]):
        # What every key of a config means; reading it takes a while, and only a subcommand's help shows it.
        set_docstring_parse_options(attribute_docstrings=True)
    keep_freed_memory()
    try:
        if args and args[0] == "predict":
            _predict(application, args[1:])
        else:
            ApplicationCLI(application, args)
    except Interrupted as reason:
        exit_interrupted(reason)
    except ArgumentError as error:
        _fail(error.message)
    except (MisconfigurationException, PermissionError) as error:
        if "UNROLL_TRACEBACK" in os.environ:
            raise
        _fail(str(error))
    except ValueError as error:
        if "UNROLL_TRACEBACK" in os.environ or not _raised_by_us(error):
            raise
        _fail(str(error))
    finally:
        keep_exit_status()


def _predict(application: Application, args: Sequence[str]) -> None:
    stop_at_once()
    parser = _Parser(prog=f"python -m apps.{application.name} predict", exit_on_error=False, allow_abbrev=False)
    parser.add_function_arguments(application.predict)
    application.predict(**parser.instantiate(parser.parse_args(list(args))).as_dict())


def _raised_by_us(error: BaseException) -> bool:
    """Whether our own code raised it: there a ValueError is always about the user's input; elsewhere it may be a bug."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).resolve().parents[2]
    last = Path(frames[-1].filename).resolve()
    in_dataclass = frames[-1].filename == "<string>"
    return in_dataclass or any(last.is_relative_to(root / package) for package in OUR_PACKAGES)


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(EXIT_BAD_INPUT)
