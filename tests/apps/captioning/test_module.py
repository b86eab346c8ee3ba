"""The captioning module: stages, the cache, rewards in training, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from apps.captioning.baseline import PooledBaseline
from apps.captioning.module import CaptioningModule
from apps.captioning.network import RecurrentCaptioner
from apps.captioning.report import feed_forward_baseline
from apps.captioning.self_critical import SelfCriticalConfig
from apps.captioning.stages import Stage
from core.nn.decoders.decoder_config import DecoderConfig, FixedContext
from core.nn.recurrent import RecurrentConfig
from core.nn.teacher_forcing import NeverTrue
from core.nn.vision import ImageEncoderConfig
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.optimisation import OptimizerConfig
from data.captioning import CaptioningData
from data.images.transforms import ImageTransform
from tests.contracts.applications.captioning import CAPTIONING

ALL = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")
PART = ImageEncoderConfig(backbone="resnet18", weights=None, trainable="none")


def fit(module: CaptioningModule, data: CaptioningData, folder: Path, **settings: Any) -> RunCheckpoints:
    checkpoints = RunCheckpoints(folder, config=CheckpointConfig(every_n_steps=1, every_minutes=None))
    resume = settings.pop("resume", False)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        precision="64-true",
        default_root_dir=str(folder),
        callbacks=[checkpoints, *settings.pop("callbacks", [])],
        **settings,
    )
    trainer.fit(module, datamodule=data, ckpt_path=str(checkpoints.last_path) if resume else None)
    return checkpoints


class Seen(pl.Callback):
    """What each batch held, and the encoder after each epoch."""

    def __init__(self) -> None:
        self.features: list[bool] = []
        self.encoders: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.features.append(batch.features is not None)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._note(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._note(pl_module)

    def _note(self, module: Any) -> None:
        weights = [parameter.detach().flatten() for parameter in module.network.encoder.parameters()]
        self.encoders.append(torch.cat(weights).clone())


def test_the_encoder_thaws_with_its_stage_and_not_before(tmp_path: Path) -> None:
    run, seen = CAPTIONING.make(tmp_path), Seen()
    fit(run.module, run.data, tmp_path / "run", max_epochs=2, callbacks=[seen])  # type: ignore[arg-type]
    half = len(seen.features) // 2
    assert seen.features == [True] * half + [False] * half
    first, after_first, _, after_second = seen.encoders
    assert torch.equal(first, after_first)
    assert not torch.equal(first, after_second)


def _self_critical(folder: Path) -> tuple[CaptioningModule, CaptioningData]:
    made = CAPTIONING.make(folder)
    module = CaptioningModule(
        network=made.module.network_config,  # type: ignore[attr-defined]
        stages=[Stage(epochs=1), Stage(epochs=1, objective="self_critical", encoder_lr=0.001)],
        self_critical=SelfCriticalConfig(num_samples=3, max_length=6),
        optimizer=OptimizerConfig(lr=0.01),
        seed=3,
    )
    assert isinstance(made.data, CaptioningData)
    return module, made.data


def test_a_self_critical_stage_resumes_exactly(tmp_path: Path) -> None:
    """Draws follow from the position; running sums of rewards are kept."""
    whole, data = _self_critical(tmp_path)
    fit(whole, data, tmp_path / "whole", max_epochs=2)
    assert whole.trainer.callback_metrics["train/reward"] >= 0
    cut, data = _self_critical(tmp_path)
    steps_an_epoch = data_steps = len(whole.trainer.train_dataloader)  # type: ignore[arg-type]
    fit(cut, data, tmp_path / "cut", max_epochs=2, max_steps=steps_an_epoch + 2)
    again, data = _self_critical(tmp_path)
    fit(again, data, tmp_path / "cut", max_epochs=2, resume=True)
    assert again.trainer.global_step == 2 * data_steps
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.trainer.callback_metrics["train/reward"] == whole.trainer.callback_metrics["train/reward"]


def test_a_frozen_encoder_gives_the_same_with_and_without_the_cache(tmp_path: Path) -> None:
    """What float16 rounds away is rounded away on both ways."""
    losses = []
    for cached in (True, False):
        module = CaptioningModule(
            network=RecurrentCaptioner(
                encoder=ImageEncoderConfig(backbone="resnet18", weights=None),
                decoder=DecoderConfig(recurrent=RecurrentConfig(kind="gru", hidden_size=6), context=FixedContext()),
                region_size=5,
                embedding_size=6,
            ),
            optimizer=OptimizerConfig(name="sgd", lr=0.05),
            seed=1,
        )
        data = CAPTIONING.make(tmp_path).data
        assert isinstance(data, CaptioningData)
        data.feature_cache, data.transform = cached, ImageTransform(size=32, fit="stretch")
        for dataset in ("train", "validation"):
            data._datasets.pop(dataset, None)
        fit(module, data, tmp_path / str(cached), max_epochs=1)
        losses.append(float(module.trainer.callback_metrics["val/loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_the_baseline_leaves_pretrained_weights_as_they_are() -> None:
    pretrained = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained", trainable="all")
    for encoder, trainable in ((pretrained, "none"), (ALL, "all")):
        module = CaptioningModule(network=RecurrentCaptioner(encoder=encoder))
        baseline = feed_forward_baseline(module)
        assert isinstance(baseline.network_config, PooledBaseline)
        assert baseline.network_config.encoder.trainable == trainable


FIXED = DecoderConfig(recurrent=RecurrentConfig(kind="gru", hidden_size=4), context=FixedContext())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: CaptioningModule(
                network=RecurrentCaptioner(encoder=PART), stages=[Stage(epochs=1, encoder_lr=0.1)]
            ),
            r"has an encoder_lr, but model\.network\.encoder\.trainable is none",
        ),
        (
            lambda: CaptioningModule(network=RecurrentCaptioner(encoder=ALL), stages=[Stage(epochs=1)]),
            "but no stage of model.stages has an encoder_lr",
        ),
        (
            lambda: CaptioningModule(network=RecurrentCaptioner(encoder=PART), self_critical=SelfCriticalConfig()),
            "no stage of model.stages has the objective self_critical",
        ),
        (
            lambda: CaptioningModule(network=RecurrentCaptioner(encoder=PART, decoder=FIXED), doubly_stochastic=1.0),
            "FixedContext attends to nothing",
        ),
        (
            lambda: CaptioningModule(network=PooledBaseline(encoder=PART), teacher_forcing=NeverTrue()),
            "PooledBaseline reads no caption",
        ),
        (
            lambda: CaptioningModule(network=PooledBaseline(encoder=PART), doubly_stochastic=1.0),
            "PooledBaseline attends to nothing",
        ),
        (
            lambda: CaptioningModule(
                network=PooledBaseline(encoder=PART), stages=[Stage(epochs=1, objective="self_critical")]
            ),
            "PooledBaseline cannot be trained self-critically",
        ),
    ],
)
def test_a_setting_that_does_nothing_is_an_error(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_an_objective_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of cross_entropy, self_critical, got 'reinforce'"):
        Stage(epochs=1, objective="reinforce")  # type: ignore[arg-type]


def test_one_process_hands_ddp_what_it_needs_of_idle_weights() -> None:
    stages = [Stage(epochs=1), Stage(epochs=1, encoder_lr=0.1)]
    assert CaptioningModule(network=RecurrentCaptioner(encoder=ALL), stages=stages).has_idle_weights
    assert not CaptioningModule(network=RecurrentCaptioner(encoder=ALL)).has_idle_weights
    assert not CaptioningModule(network=RecurrentCaptioner(encoder=PART)).has_idle_weights
