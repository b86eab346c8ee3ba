"""Table, classes and pictures of a tested network beside its baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from apps.video_classification.baseline import MeanBaseline
from apps.video_classification.classifier import Classifier
from apps.video_classification.metrics import Classified, written
from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.plots import plot_confusion, plot_over_time
from core.training.baseline import FOLDER as BASELINE_FOLDER
from core.training.command.finished_run import FinishedRun, format_table, write_whole
from core.training.optimisation import OptimizerConfig
from core.training.watching.learning_curves import Panel, plot_learning_curves
from data.video_classification import VideoClassificationData
from data.video_io import read_frames

SHOWN_METRICS = ("top1", "top5", "class_top1", "loss")
NAMES = {"ours": "recurrent network", "feed_forward": "mean of frames, feed-forward"}
CURVES: list[Panel] = [("loss, nats a clip", ("train/loss", "val/loss")), ("top-1", ("val/top1",))]
NUM_OVER_TIME = 3
PREDICTIONS_FILE = "test_predictions.jsonl"


def feed_forward_baseline(module: VideoClassificationModule) -> VideoClassificationModule:
    """The FNN (notes N1) on the mean of the same frames with the loss of `module`, untrained."""
    encoder = module.network_config.encoder
    if encoder.weights is not None:
        encoder = replace(encoder, trainable="none")  # what it has is what a frozen encoder gives
    return VideoClassificationModule(
        network=MeanBaseline(encoder=encoder, frames_at_once=module.network_config.frames_at_once),
        class_weights=module.class_weights,
        label_smoothing=module.label_smoothing,
        # Its own: what suits a recurrent network is no guide here.
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=module.schedule,
        seed=module.seed,
    )


def report(run: FinishedRun) -> None:
    """Print the table; write what network and baseline took each test video for; draw confusion, videos and learning curves."""
    shown_metrics = [name for name in SHOWN_METRICS if name in run.metrics]
    print("\n" + format_table(run.forecasters(), shown_metrics, names=NAMES) + "\n")
    data, module = run.data, run.module
    assert isinstance(data, VideoClassificationData)
    found, names = module.classified, data.class_names
    folder = Path(run.run_dir)
    _write_predictions(found, data, folder / PREDICTIONS_FILE)
    if isinstance(run.baseline, VideoClassificationModule) and run.baseline.classified is not None:
        _write_predictions(run.baseline.classified, data, folder / BASELINE_FOLDER / PREDICTIONS_FILE)
    pictures = folder / "plots"
    plot_confusion(
        found.confusion(), names, pictures / "confusion.png", title="Test videos: what each class is taken for"
    )
    if module.network.is_causal:
        _plot_videos(run, pictures)
    plot_learning_curves(folder, pictures / "learning_curves.png", panels=CURVES)
    print(f"Table, predictions, pictures and checkpoints: {run.run_dir}")


def _write_predictions(found: Classified, data: VideoClassificationData, path: Path) -> None:
    """A line a test video, in their order."""
    corpus, rows = data.videos("test"), data.dataset("test").videos.rows
    lines = [
        json.dumps(
            {
                "video": corpus[rows[number]].name,
                "class": data.class_names[found.labels[number]],
                "predicted": data.class_names[found.predicted[number]],
                "probability": written(found.probabilities[number].max()),
            },
            ensure_ascii=False,
        )
        for number in range(len(found.labels))
    ]
    write_whole(path, "\n".join(lines) + "\n")


def _plot_videos(run: FinishedRun, pictures: Path) -> None:
    """Some test videos, evenly through the part, the same ones in every run."""
    dataset = run.data.dataset("test")
    classifier = Classifier(run.module, over_time=True)
    number = len(dataset.videos.paths)
    for place, video in enumerate(
        np.unique(np.arange(NUM_OVER_TIME) * number // NUM_OVER_TIME + number // (2 * NUM_OVER_TIME)), start=1
    ):
        path = Path(dataset.videos.paths[min(int(video), number - 1)])
        for _, found in classifier.classify([path]):
            assert found.over_time is not None
            plot_over_time(
                read_frames(path, found.frames),
                found.over_time,
                classifier.class_names,
                pictures / f"over_time_{place}.png",
                title=f"{classifier.class_names[int(dataset.labels[min(int(video), number - 1)])]}: {path.name}",
            )
