"""Classes of video files from a checkpoint alone, in the order of the files."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from apps.video_classification.classifier import Classifier, Found
from apps.video_classification.ensemble import ClassificationEnsemble
from apps.video_classification.metrics import written
from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.network import not_causal
from apps.video_classification.streaming import classify_stream, stride_of
from core.training.command.members import as_paths, load_members
from core.training.command.prediction import (
    STANDARD,
    check_output,
    progress_bar,
    rounding,
    told_problems,
    usable_device,
    writable,
)
from data.images.transforms import ImageTransform
from data.video_io import list_videos
from data.videos.growing import coming_frames


def predict(
    ckpt_path: str,
    input: str,
    output: str = STANDARD,
    num_best: int = 5,
    over_time: bool = False,
    pictures: str | None = None,
    num_pictures: int = 20,
    stream: bool = False,
    stream_stride: int | None = None,
    stream_wait: float = 0.0,
    ensemble: list[str] | str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> None:
    """Classify videos: one JSON object a line, in the order of the files.

    Each has the file, its likeliest class with its probability, and the num_best likeliest ones. A file that cannot be read is
    skipped; such files are counted and listed at the end.

    Args:
        ckpt_path: the checkpoint; it holds all that is needed.
        input: a video, or a folder of videos (and its subfolders).
        output: file to write, or - for standard output.
        num_best: classes of each video that are given.
        over_time: add, for every frame of the video's first clip, its time in seconds and the likeliest class up to it.
        pictures: folder for a picture of each video: frames, and how probable classes are as it goes on.
        num_pictures: videos that are drawn at most.
        stream: classify one clip as it comes, a line a frame: a video, or a folder into which pictures come one by one. Each
            line has the frame, the likeliest class up to it, its probability and the latency in milliseconds.
        stream_stride: with stream, look at one frame of so many. None: as in training, where that was every one of so many.
        stream_wait: with stream of a folder, seconds to wait for the next picture, after which the clip has ended.
        ensemble: a further checkpoint for the same classes, or several as [b.ckpt, c.ckpt]: the mean of all probabilities.
        device: where to compute, such as cpu or cuda.
        precision: bf16-mixed multiplies in bfloat16, which GPUs and newer CPUs do faster; results are rounded, and may depend a
            little on what is computed together. None: that of the checkpoint.
        progress: show a progress bar on standard error, where that is a terminal.
        overwrite: replace output files where they exist.
    """
    for name, value in (("num_best", num_best), ("num_pictures", num_pictures)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    _check_outputs(output, pictures, overwrite=overwrite)
    others = as_paths(ensemble)
    if stream:
        _check_stream(stream_stride, stream_wait, over_time=over_time, pictures=pictures)
        modules = _load([ckpt_path, *others], device=device)
        classifier = Classifier(modules[0], ensemble=ClassificationEnsemble(modules) if others else None)
        with rounding(precision, *modules):
            _predict_stream(classifier, input, output, stride=stream_stride, wait=stream_wait, num_best=num_best)
        return
    if stream_stride is not None or stream_wait:
        raise ValueError("--stream_stride and --stream_wait do nothing without --stream true.")
    paths, num_others = _listed(input)
    modules = _load([ckpt_path, *others], device=device)
    classifier = Classifier(
        modules[0],
        over_time=over_time or pictures is not None,
        ensemble=ClassificationEnsemble(modules) if others else None,
    )
    number = num_drawn = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(rounding(precision, *modules))
        out = stack.enter_context(writable(output, "--output"))
        count = stack.enter_context(progress_bar(len(paths), unit="video", shown=progress))
        for path, found in classifier.classify(paths):
            out.write(_as_json(path, found, classifier.class_names, num_best=num_best, over_time=over_time))
            if output == STANDARD:
                out.flush()  # whoever waits for it need not wait for more
            number += 1
            if pictures is not None and num_drawn < num_pictures:
                _draw(classifier, path, found, Path(pictures), number=number)
                num_drawn += 1
            count()
    said = told_problems(classifier.problems)
    if num_others:
        said += f" {num_others} other files are no videos by their names."
    if pictures is not None:
        said += f" Drew {num_drawn} of them in {pictures}."
    where = "" if output == STANDARD else f" to {output}"
    print(f"Classified {number} of {len(paths)} videos{where}.{said}", file=sys.stderr)
    if not number:
        raise ValueError(f"--input {input}: none of its {len(paths)} videos can be read.")


def _load(paths: list[str], *, device: str) -> list[VideoClassificationModule]:
    return load_members(
        VideoClassificationModule,
        paths,
        device=usable_device(device),
        alike=lambda made: {
            "their classes": made["class_names"],
            "which frames they take": made["sampling"],
            "the size of frames": ImageTransform(**made["transform"]).fingerprint,
        },
    )


def _check_stream(stride: int | None, wait: float, *, over_time: bool, pictures: str | None) -> None:
    if stride is not None and stride < 1:
        raise ValueError(f"--stream_stride must be at least 1, got {stride}.")
    if wait < 0:
        raise ValueError(f"--stream_wait must be at least 0 seconds, got {wait}.")
    if over_time or pictures is not None:
        raise ValueError("--over_time and --pictures do nothing with --stream, which tells for every frame anyway.")


def _predict_stream(
    classifier: Classifier, input: str, output: str, *, stride: int | None, wait: float, num_best: int
) -> None:
    if not classifier.network.is_causal:
        raise not_causal()
    latencies = []
    with writable(output, "--output") as out:
        for found in classify_stream(classifier, coming_frames(input, wait=wait), stride=stride_of(classifier, stride)):
            line = {"frame": found.frame.name, "time": found.frame.time}
            if found.frame.time is None:
                del line["time"]
            out.write(
                json.dumps(
                    {
                        **line,
                        **_best(found.probabilities, classifier.class_names, num_best=num_best),
                        "latency_ms": round(1e3 * found.latency, 3),
                    },
                    ensure_ascii=False,
                )
                + "\n"
            )
            out.flush()  # whoever watches need not wait for more
            latencies.append(found.latency)
    # The first one pays for what is set up once.
    usual = np.array(latencies[1:] or latencies) * 1e3
    print(
        f"Classified {len(latencies)} frames as they came; latency {np.median(usual):.1f} ms (median), "
        f"{np.quantile(usual, 0.95):.1f} ms (95 %).",
        file=sys.stderr,
    )


def _listed(input: str) -> tuple[list[Path], int]:
    path = Path(input)
    if path.is_dir():
        return list_videos(path)
    if not path.exists():
        raise ValueError(f"--input {input} is not there. Name a video, or a folder of videos.")
    return [path], 0


def _as_json(path: Path, found: Found, class_names: list[str], *, num_best: int, over_time: bool) -> str:
    line: dict[str, Any] = {"video": str(path), **_best(found.probabilities, class_names, num_best=num_best)}
    if over_time:
        assert found.over_time is not None
        line["over_time"] = [
            {
                "time": round(frame / found.fps, 3),
                "class": class_names[int(probabilities.argmax())],
                "probability": written(probabilities.max()),
            }
            for frame, probabilities in zip(found.frames, found.over_time, strict=True)
        ]
    return json.dumps(line, ensure_ascii=False) + "\n"


def _best(probabilities: Float[np.ndarray, "classes"], class_names: list[str], *, num_best: int) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")
    return {
        "class": class_names[order[0]],
        "probability": written(probabilities[order[0]]),
        "top": [{"class": class_names[one], "probability": written(probabilities[one])} for one in order[:num_best]],
    }


def _draw(classifier: Classifier, path: Path, found: Found, folder: Path, *, number: int) -> None:
    from apps.video_classification.plots import plot_over_time
    from data.video_io import read_frames

    assert found.over_time is not None
    best = classifier.class_names[int(found.probabilities.argmax())]
    plot_over_time(
        read_frames(path, found.frames),
        found.over_time,
        classifier.class_names,
        folder / f"{number:04}_{path.stem}.png",
        title=f"{path.name}: {best}",
    )


def _check_outputs(output: str, pictures: str | None, *, overwrite: bool) -> None:
    check_output(output, "--output", overwrite=overwrite)
    if pictures is None:
        return
    folder = Path(pictures)
    if any(part.exists() and not part.is_dir() for part in (folder, *folder.parents)):
        raise ValueError(f"--pictures {pictures} is, or lies in, a file: name a folder.")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"--pictures {pictures} exists. Choose another name, or replace it with --overwrite true.")
