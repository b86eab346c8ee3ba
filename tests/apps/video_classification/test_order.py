"""On demo/motions the order of the frames is all there is: who reads it learns the classes, who cannot is at chance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from apps.video_classification.baseline import MeanBaseline
from apps.video_classification.network import ClipShape, NetworkConfig
from apps.video_classification.recurrent import RecurrentClassifier
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.vision import ImageEncoderConfig
from data.batching import Piece
from data.demo import motions
from data.demo.motions_drawing import FRAME_SIZE
from data.demo.motions_orders import MOTIONS
from data.feature_cache import FrozenEncoder
from data.images.transforms import ImageTransform
from data.video_classification import VideoClassificationData
from data.videos.batches import FrameOrder
from data.videos.clip_table import SplitTable
from data.videos.sampling import EveryFrame

TAKES = {"train": 20, "validation": 1, "test": 12}
"""Of each part; a take is a clip of each class."""
EPOCHS, BATCH_SIZE = 12, 24
# Its features are made below, as many numbers a frame as this one would give.
ENCODER = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all", grid_size=1)
ORDERED = RecurrentClassifier(
    encoder=ENCODER,
    frame_size=32,
    recurrent=RecurrentConfig(kind="gru", hidden_size=64),
    pooling="last",
)
MEAN = MeanBaseline(encoder=ENCODER, feed_forward=FeedForwardConfig(hidden_sizes=[64]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some takes of the demo set, written as it is."""
    all_takes = motions.generate()
    some = {part: takes[:: len(takes) // TAKES[part]][: TAKES[part]] for part, takes in all_takes.items()}
    folder = tmp_path_factory.mktemp("motions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motions, "generate", lambda: some)
        motions.write(folder)
    return folder


def where_edges_are(images: UInt8[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 1 96"]:
    """Contrast of each colour in 8 x 4 fields of a frame: where the sprite is, without a network to train."""
    pixels = images.float() / 255
    down, across = pixels.diff(dim=-2).abs()[..., :-1], pixels.diff(dim=-1).abs()[..., :-1, :]
    return F.adaptive_avg_pool2d(down + across, (8, 4)).flatten(1).unsqueeze(1) * 10


def accuracy(folder: Path, network: NetworkConfig, *, frame_order: FrameOrder) -> float:
    """Share of the test clips that are right after training, with the frames in that order in training and test."""
    data = VideoClassificationData(
        SplitTable(path=str(folder), table="split1.csv", validation="validation"),
        sampling=EveryFrame(),
        transform=ImageTransform(size=FRAME_SIZE, fit="stretch"),
        frame_order=frame_order,
        batch_size=BATCH_SIZE,
        cache_dir=str(folder / "cache"),
        seed=0,
    )
    data.use_encoder(FrozenEncoder(encode=where_edges_are, fingerprint=lambda: "edges", row_shape=(1, 96)))
    data.setup("fit")
    data.setup("test")
    torch.manual_seed(0)
    model = network.build(ClipShape(len(MOTIONS), data.transform.shape), load_weights=True)
    learnt = [each for name, each in model.named_parameters() if not name.startswith("encoder.")]
    optimiser = torch.optim.AdamW(learnt, lr=0.006)
    train, generator = data.dataset("train"), np.random.default_rng(0)
    num_steps = EPOCHS * -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.006, total_steps=num_steps)
    for epoch in range(EPOCHS):
        order = generator.permutation(len(train))
        for start in range(0, len(train), BATCH_SIZE):
            batch = train.batch(Piece(epoch, order[start : start + BATCH_SIZE]))
            assert batch.features is not None
            loss = F.cross_entropy(model(batch.features.float(), batch.lengths), batch.labels)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimiser.step()
            schedule.step()
    test = data.dataset("test")
    batch = test.batch(Piece(0, np.arange(len(test))))
    assert batch.features is not None
    with torch.no_grad():
        found = model.eval()(batch.features.float(), batch.lengths).argmax(-1)
    return float((found == batch.labels).double().mean())


def chance_at_most() -> float:
    """What the share of right guesses stays below but once in thousands of test sets: four standard deviations."""
    chance, number = 1 / len(MOTIONS), TAKES["test"] * len(MOTIONS)
    return chance + 4 * math.sqrt(chance * (1 - chance) / number)


def test_a_network_that_reads_the_frames_in_their_order_learns_the_classes(folder: Path) -> None:
    assert accuracy(folder, ORDERED, frame_order="forward") > 0.6 > 2 * chance_at_most()


@pytest.mark.parametrize(
    ("network", "frame_order"), [(ORDERED, "shuffled"), (MEAN, "forward")], ids=["shuffled", "mean"]
)
def test_without_the_order_it_is_at_chance(folder: Path, network: NetworkConfig, frame_order: FrameOrder) -> None:
    """The same network on shuffled frames, and the feed-forward one on their mean."""
    assert accuracy(folder, network, frame_order=frame_order) < chance_at_most()
