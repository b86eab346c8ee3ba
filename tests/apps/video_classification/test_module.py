"""The module: weights of classes, what it refuses, and the baseline beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from apps.video_classification.baseline import MeanBaseline
from apps.video_classification.module import VideoClassificationModule
from apps.video_classification.recurrent import RecurrentClassifier
from apps.video_classification.report import feed_forward_baseline
from core.nn.vision import ImageEncoderConfig
from core.training.stages import TrainingStage
from data.video_classification import VideoBatch

ENCODER = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")
PRETRAINED = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained", features="pooled")
PREPROCESSING = {"class_names": ["a", "b", "c"], "class_counts": [10, 5, 1], "image_size": [16, 16]}


def batch_of() -> VideoBatch:
    return VideoBatch(
        images=torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8),
        features=None,
        lengths=torch.tensor([3, 1, 2]),
        labels=torch.tensor([0, 2, 1]),
        index=torch.arange(3),
        weight=torch.tensor([1.0, 1.0, 0.0]),
    )


@pytest.mark.parametrize("kind", [None, "inverse_frequency", "effective_number"])
def test_the_loss_is_pytorchs_weighted_mean(kind: str | None) -> None:
    module = VideoClassificationModule(
        network=RecurrentClassifier(encoder=ENCODER),
        class_weights=kind,  # type: ignore[arg-type]
    )
    module.build(PREPROCESSING)
    batch = batch_of()
    loss = module.training_loss(batch)
    weights = torch.ones(3) if kind is None else module._class_weights(torch.zeros(()))
    expected = F.cross_entropy(module(batch)[:2], batch.labels[:2], weight=weights)
    torch.testing.assert_close(loss.sum / loss.count, expected, rtol=1e-5, atol=1e-6)
    if kind == "inverse_frequency":
        torch.testing.assert_close(weights * torch.tensor([10.0, 5.0, 1.0]), torch.full((3,), 16 / 3))


def test_the_baseline_sees_the_same_frames_and_trains_its_encoder_where_that_has_nothing_yet() -> None:
    for encoder, trainable in ((PRETRAINED, "none"), (ENCODER, "all")):
        module = VideoClassificationModule(network=RecurrentClassifier(encoder=encoder), label_smoothing=0.1)
        baseline = feed_forward_baseline(module)
        assert isinstance(baseline.network_config, MeanBaseline)
        assert baseline.network_config.encoder.trainable == trainable
        assert baseline.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: VideoClassificationModule(
                network=RecurrentClassifier(encoder=PRETRAINED), stages=[TrainingStage(epochs=1, encoder_lr=0.1)]
            ),
            r"has an encoder_lr, but model\.network\.encoder\.trainable is none",
        ),
        (
            lambda: VideoClassificationModule(
                network=RecurrentClassifier(encoder=replace(PRETRAINED, trainable="all")),
                stages=[TrainingStage(epochs=1)],
            ),
            "but no stage of model.stages has an encoder_lr",
        ),
        (
            lambda: VideoClassificationModule(class_weights="square_root"),  # type: ignore[arg-type]
            "must be one of inverse_frequency, effective_number, or null, got 'square_root'",
        ),
        (lambda: VideoClassificationModule(label_smoothing=1.0), r"label_smoothing must be in \[0, 1\), got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
