"""The runs that the soak kills: a cut of each application's embedded set, and as much randomness as its training can have.

Dropout, augmentation, subword dropout, scheduled sampling, sampled frames, a first stage on cached features and a second that
thaws the encoder: whatever a resumed run could draw otherwise than the uninterrupted one.
"""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from data.paths import find_data

Config = dict[str, Any]

NUM_DAYS = 330
NUM_PAIRS = {"train": 110, "validation": 20, "test": 20}
NUM_IMAGES = {"train": 80, "val": 16, "test": 12}
NUM_CLIPS = {"train": 72, "validation": 18, "test": 18}


def _forecasting(folder: Path) -> Config:
    path = folder / "weather.csv"
    lines = find_data("demo/seattle_weather.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: NUM_DAYS + 1]), encoding="utf-8")
    return {
        "data": {
            "path": str(path),
            "file": {"layout": "wide", "date_column": "date", "columns": ["temp_max", "temp_min"]},
            "context": 30,
            "min_context": 12,
            "horizon": 7,
            "batch_size": 38,
            "season_length": 7,
        },
        "model": {
            "network": {
                "class_path": "Direct",
                "init_args": {
                    "recurrent": {"kind": "lstm", "hidden_size": 24, "num_layers": 2, "dropout": 0.3},
                    "dropout": 0.2,
                    "series_size": 4,
                },
            },
            "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.01},
        },
    }


def _translation(folder: Path) -> Config:
    from pyarrow import parquet

    source = find_data("demo/clauses")
    for part, number in NUM_PAIRS.items():
        parquet.write_table(parquet.read_table(source / f"{part}.parquet")[:number], folder / f"{part}.parquet")
    return {
        "data": {
            "corpus": {
                "class_path": "Table",
                "init_args": {"path": str(folder), **{part: f"{part}.parquet" for part in NUM_PAIRS}},
            },
            "source": "en",
            "target": "fr",
            "text": {"class_path": "BPE", "init_args": {"vocabulary_size": 200, "dropout": 0.1}},
            "batch_size": 10,
        },
        "model": {
            "network": {
                "class_path": "RecurrentTranslator",
                "init_args": {
                    "embedding_size": 24,
                    "embedding_dropout": 0.2,
                    "encoder": {"kind": "gru", "hidden_size": 24, "bidirectional": True},
                    "decoder": {
                        "recurrent": {"kind": "gru", "hidden_size": 32},
                        "context": {
                            "class_path": "AttentionBefore",
                            "init_args": {"attention": {"class_path": "Additive", "init_args": {"num_hidden": 24}}},
                        },
                        "readout": "deep",
                        "readout_dropout": 0.2,
                    },
                },
            },
            "teacher_forcing": {"class_path": "ScheduledSamplingLinear", "init_args": {"slope": 0.02, "start": 0.9}},
            "label_smoothing": 0.1,
            "search": {"beam_size": 2, "max_length": 20},
            "validation_search": {"beam_size": 1, "max_length": 20},
            "optimizer": {"name": "adam", "lr": 0.004},
        },
    }


def _captioning(folder: Path) -> Config:
    source = find_data("demo/scenes")
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    kept = []
    for part, number in NUM_IMAGES.items():
        kept += [image for image in content["images"] if image["split"] == part][:number]
    (folder / "images").mkdir()
    for image in kept:
        shutil.copyfile(source / "images" / image["filename"], folder / "images" / image["filename"])
    (folder / "dataset.json").write_text(json.dumps({**content, "images": kept}), encoding="utf-8")
    return {
        "data": {
            "corpus": {"class_path": "Karpathy", "init_args": {"path": str(folder)}},
            "text": {"class_path": "Words", "init_args": {"min_frequency": 1, "tokeniser": "unpunctuated"}},
            "transform": {"size": 32, "fit": "stretch", "flip": True, "colour_jitter": 0.1},
            "captions_per_image": 2,
            "batch_size": 7,
        },
        "model": {
            "network": {
                "class_path": "RecurrentCaptioner",
                "init_args": {
                    "encoder": {"backbone": "small_cnn", "weights": None, "trainable": "all"},
                    "region_size": 16,
                    "region_dropout": 0.2,
                    "embedding_size": 16,
                    "embedding_dropout": 0.2,
                    "decoder": {
                        "recurrent": {"kind": "lstm", "hidden_size": 24},
                        "context": {
                            "class_path": "AttentionBefore",
                            "init_args": {"attention": {"class_path": "Additive", "init_args": {"num_hidden": 16}}},
                        },
                        "readout": "deep",
                        "readout_dropout": 0.2,
                    },
                },
            },
            "stages": [{"epochs": 1}, {"epochs": 1, "encoder_lr": 0.001}],
            "search": {"beam_size": 2, "max_length": 12},
            "validation_search": {"beam_size": 1, "max_length": 12},
            "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.1},
        },
    }


def _video_classification(folder: Path) -> Config:
    source = find_data("demo/motions")
    with (source / "split1.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = []
    for part, number in NUM_CLIPS.items():
        of_part = [row for row in rows if row["subset"] == part]
        kept += of_part[:: len(of_part) // number][:number]  # classes follow one another: some of each
    for row in kept:
        target = folder / "videos" / row["class"] / row["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "videos" / row["class"] / row["file"], target)
    with (folder / "split1.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return {
        "data": {
            "corpus": {
                "class_path": "SplitTable",
                "init_args": {"path": str(folder), "table": "split1.csv", "validation": "validation"},
            },
            "sampling": {"class_path": "RandomSegments", "init_args": {"num_frames": 6}},
            "transform": {"size": 24, "fit": "stretch", "flip": True},
            "batch_size": 7,
        },
        "model": {
            "network": {
                "class_path": "RecurrentClassifier",
                "init_args": {
                    "encoder": {
                        "backbone": "small_cnn", "weights": None, "trainable": "all", "features": "grid", "grid_size": 2,
                    },
                    "regions": "flat",
                    "frame_size": 16,
                    "frame_dropout": 0.2,
                    "recurrent": {"kind": "gru", "hidden_size": 24},
                    "pooling": "last",
                    "dropout": 0.2,
                },
            },
            "stages": [{"epochs": 1}, {"epochs": 1, "encoder_lr": 0.001}],
            "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.0001},
        },
    }  # fmt: skip


APPLICATIONS: dict[str, Callable[[Path], Config]] = {
    "forecasting": _forecasting,
    "translation": _translation,
    "captioning": _captioning,
    "video_classification": _video_classification,
}


def write_case(application: str, folder: Path) -> Path:
    """Write the cut of the data and the config of an application's run below `folder`; the config's path."""
    data = folder / "data"
    data.mkdir(parents=True)
    config = {
        "seed_everything": 5,
        "num_threads": 1,
        **APPLICATIONS[application](data.resolve()),
        "checkpoint": {"every_n_steps": 3, "every_minutes": None},
        "baseline": {"enabled": False},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "val_check_interval": 5,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
    }
    config["model"]["schedule"] = {"class_path": "Cosine"}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def command_of(application: str, config: Path, *, run_dir: Path, num_processes: int, num_workers: int) -> Sequence[str]:
    """Arguments of Python that train it."""
    arguments = ["-m", f"apps.{application}", "fit", "-c", str(config), "--run_dir", str(run_dir)]
    if num_workers:
        arguments += ["--data.loader.num_workers", str(num_workers)]
    if num_processes > 1:
        arguments += ["--trainer.devices", str(num_processes), "--trainer.strategy", "ddp"]
    return arguments
