"""Video classification against what is usually done: `python -m benchmarks.video`.

video.decode        16 frames of each of `--clips` generated clips (H.264, 320 x 240 pixels, 40 to 110 frames) chosen and read,
                    against a bare PyAV loop over the same files that ends with the last of the same frames; one thread on both
                    sides. video.decode.demo is every frame of clips of demo/motions, video.decode.long 16 frames of a clip of
                    1,500.
video.cache         a training epoch on cached features, against one that decodes and encodes its frames: 16 frames a clip drawn
                    anew (EfficientNet-Lite0, 224 pixels), a bidirectional GRU of 256 units over them, batches of 8 clips.
video.stream        a clip classified as it comes, transform, encoder and recurrent step of a frame, against the encoder alone:
                    a GRU of 256 units over vectors (EfficientNet-Lite0, 224 pixels); video.stream.maps a ConvGRU of 64 channels
                    over its maps, video.stream.demo the network of the demo.
video.convlstm_bf16 a training step of a ConvLSTM (64 channels, maps of 14 x 14, 8 clips of 12 frames), channels-last under
                    bfloat16 autocast, against float32.

Before timing, both sides are compared: exits with 1 if pixels, losses or probabilities differ, whatever the speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from apps.video_classification.classifier import Classifier
from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.network import NetworkConfig
from apps.video_classification.recurrent import ConvRecurrentClassifier, RecurrentClassifier
from apps.video_classification.streaming import classify_stream
from benchmarks.case import Case
from benchmarks.harness import Result, print_results, time_pair, write_results
from benchmarks.video_clips import read_by_bare_loop, write_clip
from core.nn.convolutional import ConvRecurrent, ConvRecurrentConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.vision import ImageEncoderConfig
from core.training.process.allocator import keep_freed_memory
from data.batching import Piece
from data.feature_cache import FrozenEncoder
from data.images.transforms import ImageTransform
from data.paths import find_data
from data.video_io import EveryFrame, RandomSegments, SamplingConfig, Uniform, iterate_frames, probe, read_frames
from data.videos.batches import ClipDataset, VideoBatch, open_features
from data.videos.examining import Examined
from data.videos.growing import ComingFrame
from data.videos.sampling import sampling_to_plain

TOLERANCE = 1e-4
# bfloat16 keeps eight bits of every product's factors, over some steps.
HALF_TOLERANCE = 0.1
CLASSES = 21


class Sizes(NamedTuple):
    """Of clips, frames and networks."""

    clips: int = 8
    height: int = 240
    width: int = 320
    shortest: int = 40
    longest: int = 110
    long: int = 1500
    frames: int = 16
    pixels: int = 224
    batch: int = 8
    hidden: int = 256
    channels: int = 64
    map_clips: int = 8
    map_frames: int = 12
    map_size: int = 14
    backbone: str = "efficientnet_lite0"


FULL = Sizes()
SMALL = Sizes(3, 48, 64, 5, 8, 90, 4, 64, 2, 8, 4, 2, 3, 3, "resnet18")


def _clips(sizes: Sizes, folder: Path) -> list[Path]:
    lengths = np.linspace(sizes.shortest, sizes.longest, sizes.clips).round().astype(int).tolist()
    paths = [folder / f"clip{number}.mp4" for number in range(sizes.clips)]
    for number, (path, length) in enumerate(zip(paths, lengths, strict=True)):
        if not path.exists():
            write_clip(path, num_frames=length, height=sizes.height, width=sizes.width, seed=number)
    return paths


def decode(paths: Sequence[Path], sampling: SamplingConfig) -> Case:
    """Frames of all files, chosen and read; how long a file is is known, as it is to a run."""
    known = [(path, probe(path)) for path in paths]

    def chosen() -> list[tuple[Path, np.ndarray]]:
        return [(path, sampling.clips(info.num_frames, info.fps, seed=None)[0]) for path, info in known]

    def ours() -> list[np.ndarray]:
        return [read_frames(path, frames) for path, frames in chosen()]

    def rival() -> list[np.ndarray]:
        return [read_by_bare_loop(path, frames) for path, frames in chosen()]

    def compare() -> list[str]:
        same = [np.array_equal(one, other) for one, other in zip(ours(), rival(), strict=True)]
        return [] if all(same) else [f"pixels of {same.count(False)} of {len(same)} files differ"]

    return Case(ours, rival, "bare PyAV loop", compare)


def demo_clips() -> list[Path]:
    """One of twenty clips of demo/motions."""
    return sorted(find_data("demo/motions").glob("videos/*/*.mp4"))[::20]


def _encoder(sizes: Sizes, *, pooled: bool = True) -> ImageEncoderConfig:
    weights = "pretrained" if sizes.backbone == "efficientnet_lite0" else None
    return ImageEncoderConfig(backbone=sizes.backbone, weights=weights, features="pooled" if pooled else "grid")


def _module(network: NetworkConfig, *, pixels: int) -> VideoClassificationModule:
    module = VideoClassificationModule(network=network)
    module.build(
        {
            "class_names": [f"class{number}" for number in range(CLASSES)],
            "class_counts": [1] * CLASSES,
            "sampling": sampling_to_plain(EveryFrame()),
            "transform": ImageTransform(size=pixels).plain(),
            "image_size": [pixels, pixels],
        }
    )
    return module


def cache(sizes: Sizes, folder: Path) -> Case:
    """Training epochs with and without the cache; both sides go on training the same network."""
    recurrent = RecurrentConfig(kind="gru", hidden_size=sizes.hidden, bidirectional=True)
    network = RecurrentClassifier(
        encoder=_encoder(sizes), frame_size=sizes.hidden, differences=True, recurrent=recurrent
    )
    module = _module(network, pixels=sizes.pixels)
    optimiser = torch.optim.AdamW((each for each in module.parameters() if each.requires_grad), lr=1e-4)
    paths = _clips(sizes, folder)
    infos = [probe(path) for path in paths]
    examined = Examined(
        list(range(len(paths))), [str(path) for path in paths], [i.num_frames for i in infos], [i.fps for i in infos]
    )
    dataset = ClipDataset(
        examined,
        np.arange(len(paths)) % CLASSES,
        sampling=RandomSegments(num_frames=sizes.frames),
        transform=ImageTransform(size=sizes.pixels),
        frame_order="forward",
        training=True,
        max_broken_share=0.0,
        seed=0,
    )
    handed = module.frozen_encoder((sizes.pixels, sizes.pixels))
    assert handed is not None
    features = open_features(
        dataset,
        FrozenEncoder(**handed),
        name="benchmark",
        key={"transform": dataset.transform.fingerprint},
        folder=str(folder),
        identities=[str(path) for path in paths],
    )

    def use(*, cached: bool) -> None:
        if cached:
            dataset.use_features(features, epochs=None, has_all_frames=True)
        else:
            dataset.use_images()

    def batches(epoch: int) -> list[VideoBatch]:
        pieces = np.array_split(np.arange(len(dataset)), -(-len(dataset) // sizes.batch))
        return [dataset.batch(Piece(epoch, indices)) for indices in pieces]

    def epoch(*, cached: bool) -> Callable[[], None]:
        def run() -> None:
            use(cached=cached)
            module.train()
            for batch in batches(0):
                loss = module.training_loss(batch)
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss.sum / loss.count)
                optimiser.step()

        return run

    def compare() -> list[str]:
        module.eval()
        losses = []
        for cached in (True, False):
            use(cached=cached)
            with torch.no_grad():
                losses.append([float(module.training_loss(batch).sum) for batch in batches(1)])
        close = np.allclose(losses[0], losses[1], rtol=TOLERANCE, atol=0)
        return [] if close else [f"losses of features from the cache are {losses[0]}, of images {losses[1]}"]

    return Case(epoch(cached=True), epoch(cached=False), "decoding and encoding again", compare)


def stream(network: NetworkConfig, *, pixels: int, clip: Path, num_frames: int) -> Case:
    """The first frames of a clip, one after the other; the encoder alone gets each of them already transformed."""
    torch.manual_seed(0)
    module = _module(network, pixels=pixels)
    assert module.network is not None
    encoder = module.network.encoder
    classifier = Classifier(module, over_time=True)
    coming = [ComingFrame(number, str(number), time, frame) for number, time, frame in iterate_frames(clip)]
    frames = coming[:num_frames]
    images = [classifier.transform(frame.pixels, seed=None).unsqueeze(0) for frame in frames]

    def ours() -> list[np.ndarray]:
        return [found.probabilities for found in classify_stream(classifier, frames, stride=1)]

    def rival() -> list[Tensor]:
        with torch.no_grad():
            return [encoder(image) for image in images]

    def compare() -> list[str]:
        with torch.no_grad():
            features = classifier.network.encode(torch.cat(images)).unsqueeze(0)
            whole = classifier.network.scores_over_time(features)[0].double().softmax(-1).numpy()
        error = np.abs(np.stack(ours()) - whole).max()
        return [] if error <= TOLERANCE else [f"probabilities of the stream are off by {error:.1e}"]

    return Case(ours, rival, "the encoder alone", compare)


def _vectors(sizes: Sizes) -> NetworkConfig:
    recurrent = RecurrentConfig(kind="gru", hidden_size=sizes.hidden)
    return RecurrentClassifier(encoder=_encoder(sizes), frame_size=sizes.hidden, differences=True, recurrent=recurrent)


def _maps(sizes: Sizes) -> NetworkConfig:
    return ConvRecurrentClassifier(
        encoder=_encoder(sizes, pooled=False),
        map_channels=sizes.channels,
        differences=True,
        conv_recurrent=ConvRecurrentConfig(kind="conv_gru", hidden_channels=sizes.channels),
    )


def _demo() -> NetworkConfig:
    return RecurrentClassifier(
        encoder=ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all", grid_size=4),
        regions="flat",
        frame_size=64,
        recurrent=RecurrentConfig(kind="gru", hidden_size=96),
        pooling="last",
    )


def convlstm(sizes: Sizes) -> Case:
    """Forward and backward, without the optimiser."""
    torch.manual_seed(0)
    config = ConvRecurrentConfig(kind="conv_lstm", hidden_channels=sizes.channels)
    plain = ConvRecurrent(config, input_channels=sizes.channels)
    last = ConvRecurrent(config, input_channels=sizes.channels)
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)
    maps = torch.randn(sizes.map_clips, sizes.map_frames, sizes.channels, sizes.map_size, sizes.map_size)
    maps_last = maps.movedim(2, -1).contiguous().movedim(-1, 2)

    def step(layer: ConvRecurrent, inputs: Tensor, *, half: bool) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            layer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs, _ = layer(inputs, None)
            torch.autograd.backward(outputs.float().square().sum())
            gradients = [each.grad for each in layer.parameters() if each.grad is not None]
            return [outputs.detach().float(), *gradients]

        return run

    ours, rival = step(last, maps_last, half=True), step(plain, maps, half=False)

    def compare() -> list[str]:
        errors = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours(), rival(), strict=True)]
        worst = max(errors)
        return [] if worst <= HALF_TOLERANCE else [f"outputs or gradients differ by {worst:.1e} of their largest value"]

    return Case(ours, rival, "float32", compare)


class Row(NamedTuple):
    """A row of the table."""

    build: Callable[[], Case]
    goal: float | None
    per_call: int = 1
    """What a call does so many times; figures are for one."""


def rows(sizes: Sizes, folder: Path, *, small: bool) -> dict[str, Row]:
    """All rows, by their names."""

    def of_stream(network: NetworkConfig, pixels: int) -> Callable[[], Case]:
        return lambda: stream(network, pixels=pixels, clip=_clips(sizes, folder)[-1], num_frames=sizes.frames)

    def long() -> Case:
        path = folder / "long.mp4"
        write_clip(path, num_frames=sizes.long, height=sizes.height, width=sizes.width, seed=0)
        return decode([path], Uniform(num_frames=sizes.frames))

    least = 0.833  # latency within 1.2 of the encoder's
    return {
        "video.decode": Row(lambda: decode(_clips(sizes, folder), Uniform(num_frames=sizes.frames)), 0.9),
        "video.decode.demo": Row(lambda: decode(_clips(sizes, folder) if small else demo_clips(), EveryFrame()), 0.9),
        "video.decode.long": Row(long, 0.9),
        "video.cache": Row(lambda: cache(sizes, folder), 20.0),
        "video.stream": Row(of_stream(_vectors(sizes), sizes.pixels), least, sizes.frames),
        "video.stream.maps": Row(of_stream(_maps(sizes), sizes.pixels), least, sizes.frames),
        "video.stream.demo": Row(of_stream(_demo(), 48), None, sizes.frames),
        "video.convlstm_bf16": Row(lambda: convlstm(sizes), 1.6),
    }


def _beside_others(results: list[Result], file: Path) -> list[Result]:
    """Rows of the file with those measured now in place of older ones."""
    before = [Result(**row) for row in json.loads(file.read_text(encoding="utf-8"))] if file.exists() else []
    now = {result.case: result for result in results}
    return [now.pop(result.case, result) for result in before] + list(now.values())


def main(arguments: list[str] | None = None) -> int:
    """Compare, time, write the results; 1 on a difference in values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="timed runs of each side (default 7)")
    parser.add_argument("--clips", type=int, default=FULL.clips, help=f"generated clips (default {FULL.clips})")
    parser.add_argument("--only", nargs="*", default=[], metavar="CASE", help="run these cases and write nothing")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; nothing is written")
    parser.add_argument("--output", type=Path, help="write to this file; rows of others stay in it")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        cases = rows(SMALL if given.small else FULL._replace(clips=given.clips), Path(folder), small=given.small)
        if unknown := set(given.only) - set(cases):
            parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(cases)}")
        keep_freed_memory()
        results: list[Result] = []
        different = False
        for name in given.only or cases:
            row = cases[name]
            case = row.build()
            for difference in case.differences():
                print(f"{name}: {difference}", file=sys.stderr)
                different = True
            timed = time_pair(
                case.ours,
                rival=case.rival,
                case=name,
                rival_name=case.rival_name,
                goal=row.goal,
                num_pairs=given.pairs,
                num_warm_up=1,
            )
            results.append(replace(timed, ours=timed.ours / row.per_call, rival=timed.rival / row.per_call))
            print_results(results[-1:], header=len(results) == 1)
    if given.output is not None or not (given.only or given.small):
        results = results if given.output is None else _beside_others(results, given.output)
        print(f"written to {write_results(results, name='video', path=given.output)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
