"""Captioning against what is usually done: `python -m benchmarks.captioning`.

captioning.cache   features of an epoch of images from the cache, against decoding and encoding every image again
                   (EfficientNet-Lite0, 224 pixels, JPEG files; an epoch of `--images` images).
captioning.step    a training step of the decoder, forward and backward, 32 images with five captions each, against one that
                   projects the regions to keys anew at every word; regions as wide as the encoder's features (1,280) and
                   512 units, as tutorials have it. captioning.step.flickr8k is that of configs/captioning/flickr8k.yaml,
                   whose regions have 384 numbers.
captioning.beam    beam search (5) over 64 images at once, against one image after the other, at the sizes of Flickr8k;
                   captioning.beam.demo at those of the demo.

Float32. Before timing, both sides are compared: exits with 1 if features, losses, gradients or captions differ, whatever the
speed.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from apps.captioning.network import CaptionShape, RecurrentCaptioner, RecurrentCaptioningNetwork
from benchmarks.beam import differences
from benchmarks.case import Case
from benchmarks.harness import Result, print_results, time_pair, write_results
from core.nn.attention import Additive, AdditiveAttention
from core.nn.cells import CellWeights, lstm_step
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig
from core.nn.searching.hypotheses import Hypotheses
from core.nn.vision import ImageEncoderConfig
from core.training.process.allocator import keep_freed_memory
from data.captions.batches import CaptionBatch
from data.feature_cache import FeatureCache
from data.images.reading import read_image
from data.images.transforms import ImageTransform
from data.text import BOS, EOS, PAD

TOLERANCE = 1e-4
CAPTIONS = 5
BEAM = BeamConfig(beam_size=5, max_length=30, length_penalty=1.0)


class Sizes(NamedTuple):
    """Of images, network and batch."""

    pixels: int = 224
    images: int = 256
    batch: int = 32
    search: int = 64
    regions: int = 49
    region: int = 384
    hidden: int = 384
    embedding: int = 256
    attention: int = 256
    vocabulary: int = 3000
    words: int = 16
    backbone: str = "efficientnet_lite0"


FLICKR8K = Sizes()
WIDE = Sizes(region=1280, hidden=512, embedding=512, attention=512)
DEMO = Sizes(regions=64, region=96, hidden=128, embedding=48, attention=96, vocabulary=43, words=14)
SMALL = Sizes(64, 6, 3, 4, 4, 8, 8, 8, 8, 20, 6, "resnet18")


def _network(sizes: Sizes) -> RecurrentCaptioningNetwork:
    torch.manual_seed(0)
    weights = "pretrained" if sizes.backbone == "efficientnet_lite0" else None
    network = RecurrentCaptioner(
        encoder=ImageEncoderConfig(backbone=sizes.backbone, weights=weights),
        region_size=sizes.region,
        embedding_size=sizes.embedding,
        decoder=DecoderConfig(
            recurrent=RecurrentConfig(kind="lstm", hidden_size=sizes.hidden),
            context=AttentionBefore(attention=Additive(num_hidden=sizes.attention), gated=True),
            readout="deep",
            readout_size=sizes.embedding,
        ),
    ).build(CaptionShape(sizes.vocabulary, sizes.words, (sizes.pixels, sizes.pixels)), load_weights=True)
    assert isinstance(network, RecurrentCaptioningNetwork)
    return network


def cache(sizes: Sizes, folder: Path) -> Case:
    """Features of all images, from the cache and from their files."""
    from PIL import Image

    network, transform = _network(sizes).eval(), ImageTransform(size=sizes.pixels, fit="stretch")
    generator = np.random.default_rng(0)
    files = []
    for number in range(sizes.images):
        # Smooth, as photographs are: noise would not compress.
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        files.append(folder / f"{number}.jpg")
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(files[-1], quality=90)

    def encode(rows: Sequence[int]) -> Tensor:
        return network.encode(torch.stack([transform(read_image(files[row]), seed=None) for row in rows]))

    height, width = network.encoder.grid_shape(sizes.pixels, sizes.pixels)
    features = FeatureCache.open_or_build(
        folder,
        name="benchmark",
        key={"weights": network.encoder.weights_fingerprint()},
        identities=[str(file) for file in files],
        encode=encode,
        row_shape=(height * width, network.encoder.num_features),
        batch_size=sizes.batch,
    )
    starts = range(0, sizes.images, sizes.batch)

    def cached() -> list[Tensor]:
        return [features.take(np.arange(start, min(start + sizes.batch, sizes.images))) for start in starts]

    def direct() -> list[Tensor]:
        return [encode(range(start, min(start + sizes.batch, sizes.images))) for start in starts]

    def compare() -> list[str]:
        kept, made = torch.cat(cached()), torch.cat(direct())
        found = [] if torch.equal(kept.float(), made) else ["features from the cache are not those of the images"]
        captions = [network.caption(each[: sizes.search], config=BEAM).token_lists() for each in (kept, made)]
        num_other = sum(ours != theirs for ours, theirs in zip(*captions, strict=True))
        return found + ([f"{num_other} of {len(captions[0])} captions differ"] if num_other else [])

    return Case(cached, direct, "decoding and encoding again", compare)


def step(sizes: Sizes) -> Case:
    """Forward and backward over five captions an image."""
    network = _network(sizes).train()
    num_features = network.encoder.num_features
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(sizes.batch, sizes.regions, num_features, generator=generator).relu()
    rows = sizes.batch * CAPTIONS
    lengths = torch.randint(sizes.words // 2, sizes.words + 1, (rows,), generator=generator)
    labels = torch.randint(EOS + 2, sizes.vocabulary, (rows, sizes.words), generator=generator)
    labels[torch.arange(sizes.words) >= lengths.unsqueeze(1)] = PAD
    labels[torch.arange(rows), lengths - 1] = EOS
    captions = torch.cat([torch.full((rows, 1), BOS), labels[:, :-1]], dim=1)
    batch = CaptionBatch(None, features, captions, labels, lengths, torch.arange(sizes.batch), torch.ones(sizes.batch))

    def run(loss: Callable[[], Tensor]) -> Callable[[], dict[str, Tensor]]:
        def whole() -> dict[str, Tensor]:
            network.zero_grad(set_to_none=True)
            total = loss()
            torch.autograd.backward(total)
            gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
            return {"loss": total.detach(), **gradients}

        return whole

    ours = run(lambda: network.loss(features, batch, mean="token").sum)
    rival = run(lambda: _loss_word_by_word(network, features, batch))

    def compare() -> list[str]:
        found, theirs = [], rival()
        for name, value in ours().items():
            error = float((value - theirs[name]).abs().max() / theirs[name].abs().max())
            if not error <= TOLERANCE:
                found.append(f"{name} differs by {error:.1e} of its largest value (tolerance {TOLERANCE:.0e})")
        return found

    return Case(ours, rival, "keys projected at every word", compare)


def _loss_word_by_word(network: RecurrentCaptioningNetwork, features: Tensor, batch: CaptionBatch) -> Tensor:
    """The same loss as tutorials have it: an image for each caption, longest first, keys anew at every word."""
    decoder = network.decoder
    attention, gate, readout = decoder.decoder.attention, decoder.decoder.gate, decoder.decoder.readout
    assert isinstance(attention, AdditiveAttention)
    assert gate is not None
    order = batch.lengths.argsort(descending=True, stable=True)
    state = network.start(features).recurrent
    assert state.cell is not None
    images = torch.arange(len(features)).repeat_interleave(CAPTIONS)[order]
    regions = network.regions(features)[images]
    hidden, cell = state.hidden[0][images], state.cell[0][images]
    embedded, labels, lengths = decoder.embedding(batch.captions[order]), batch.labels[order], batch.lengths[order]
    first = decoder.decoder.layers.first
    weights = CellWeights(*(getattr(first, f"{name}_l0") for name in CellWeights._fields))
    total = features.new_zeros(())
    for place in range(int(lengths.max())):
        running = int((lengths > place).sum())
        hidden, cell, regions = hidden[:running], cell[:running], regions[:running]
        energy = torch.tanh(attention.key(regions) + attention.query(hidden).unsqueeze(1))
        looked = attention.score(energy).squeeze(2).softmax(1)
        context = torch.sigmoid(gate(hidden)) * (looked.unsqueeze(2) * regions).sum(1)
        inputs = embedded[:running, place]
        hidden, cell = lstm_step(torch.cat([inputs, context], dim=1), hidden=hidden, cell=cell, weights=weights)
        scores = decoder.output(readout(context, hidden, inputs))
        total = total + torch.nn.functional.cross_entropy(scores, labels[:running, place], reduction="sum")
    return total


def beam(sizes: Sizes) -> Case:
    """All images at once against one after the other."""
    network = _network(sizes).eval()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(sizes.search, sizes.regions, network.encoder.num_features, generator=generator).relu()
    with torch.no_grad():
        # Logits spread as a trained network's, and captions of about ten words.
        network.decoder.output.weight.normal_(std=0.5, generator=generator)
        network.decoder.output.bias[EOS] += 2.0 + math.log(sizes.vocabulary / 3000)

    def together() -> Hypotheses:
        return network.caption(features, config=BEAM)

    def one_at_a_time() -> list[Hypotheses]:
        return [network.caption(features[row : row + 1], config=BEAM) for row in range(sizes.search)]

    return Case(together, one_at_a_time, "one image after the other", lambda: differences(together(), one_at_a_time()))


def main(arguments: list[str] | None = None) -> int:
    """Compare, time, write the results; 1 on a difference in values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="timed runs of each side (default 7)")
    parser.add_argument("--images", type=int, default=128, help="images of an epoch of captioning.cache (default 128)")
    parser.add_argument("--only", nargs="*", default=[], metavar="CASE", help="run these cases and write nothing")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; nothing is written")
    parser.add_argument("--output", type=Path, help="write the results to this file instead of benchmarks/results")
    given = parser.parse_args(arguments)
    flickr8k = SMALL if given.small else FLICKR8K._replace(images=given.images)
    with tempfile.TemporaryDirectory() as folder:
        cases: dict[str, tuple[Callable[[], Case], float | None]] = {
            "captioning.cache": (lambda: cache(flickr8k, Path(folder)), 20.0),
            "captioning.step": (lambda: step(SMALL if given.small else WIDE), 3.0),
            "captioning.step.flickr8k": (lambda: step(flickr8k), None),
            "captioning.beam": (lambda: beam(flickr8k), 6.0),
            "captioning.beam.demo": (lambda: beam(SMALL if given.small else DEMO), 3.0),
        }
        if unknown := set(given.only) - set(cases):
            parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(cases)}")
        keep_freed_memory()
        results: list[Result] = []
        different = False
        for name in given.only or cases:
            build, goal = cases[name]
            case = build()
            for difference in case.differences():
                print(f"{name}: {difference}", file=sys.stderr)
                different = True
            results.append(
                time_pair(
                    case.ours,
                    rival=case.rival,
                    case=name,
                    rival_name=case.rival_name,
                    goal=goal,
                    num_pairs=given.pairs,
                    num_warm_up=1,
                )
            )
            print_results(results[-1:], header=len(results) == 1)
    if given.output is not None or not (given.only or given.small):
        print(f"written to {write_results(results, name='captioning', path=given.output)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
