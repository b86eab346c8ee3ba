"""The captioning LightningModule: network, stages of training, generated captions and their metrics joined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from apps.captioning.network import (
    CaptioningNetwork,
    CaptionShape,
    NetworkConfig,
    RecurrentCaptioner,
    RecurrentCaptioningNetwork,
)
from apps.captioning.scores import caption_metrics
from apps.captioning.scores.cider import CiderD
from apps.captioning.self_critical import SelfCriticalConfig, self_critical_loss
from apps.captioning.stages import Stage
from core.nn.losses import MeanOver, SummedLoss
from core.nn.search import BeamConfig, Hypotheses
from core.nn.teacher_forcing import AlwaysTrue, TeacherForcingConfig
from core.nn.token_losses import check_label_smoothing
from core.training.checkpoints.plain import from_plain, to_plain
from core.training.optimisation import Constant, OptimizerConfig, ScheduleConfig
from core.training.staged_module import StagedModule
from core.training.warm_start import check_taken_rows
from core.training.watching.workload import Workload
from data.captioning import CaptionBatch, CaptioningData
from data.feature_cache import FrozenEncoder
from data.text import Text, load_text

GREEDY = BeamConfig(beam_size=1, max_length=50)
BEAM = BeamConfig(beam_size=5, max_length=50, length_penalty=1.0, patience=math.inf)


class CaptioningModule(StagedModule[Stage]):
    """Trains a network that describes images, and measures what it says of them."""

    application: ClassVar[str] = "captioning"
    unit: ClassVar[str] = "images"
    free_in_evaluation: ClassVar[tuple[str, ...]] = (
        *("optimizer", "schedule", "seed", "loss_mean", "label_smoothing", "teacher_forcing", "doubly_stochastic"),
        *("stages", "self_critical", "search", "validation_search", "max_length"),
    )
    network: CaptioningNetwork | None

    def __init__(
        self,
        *,
        network: NetworkConfig = RecurrentCaptioner(),
        stages: list[Stage] | None = None,
        self_critical: SelfCriticalConfig | None = None,
        teacher_forcing: TeacherForcingConfig = AlwaysTrue(),
        label_smoothing: float = 0.0,
        doubly_stochastic: float = 0.0,
        loss_mean: MeanOver = "token",
        search: BeamConfig = BEAM,
        validation_search: BeamConfig = GREEDY,
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        """Trains a network that describes images, and measures what it says of them.

        Args:
            network: RecurrentCaptioner or PooledBaseline.
            stages: the stages of training, each with its epochs, objective and learning rates; the last one goes on for as
                long as trainer.max_epochs says. None: cross-entropy all along, and what the encoder's trainable names is
                trained with all else.
            self_critical: how captions are drawn in stages with that objective. None: as by default.
            teacher_forcing: what the decoder reads in training: AlwaysTrue, NeverTrue or ScheduledSampling... (notes N7).
            label_smoothing: share of each word's target that is spread over the vocabulary, in [0, 1).
            doubly_stochastic: how much it costs to look at a region not once, all in all (Xu et al. 2015, eq. 14).
            loss_mean: token (every word counts alike) or sequence (every caption counts alike; notes N4).
            search: beam search of the test and, unless it is told otherwise, of predict.
            validation_search: search of each validation; by default greedy (a beam of 1).
            optimizer: the optimiser.
            schedule: how the learning rate moves within a stage: Constant, Exponential, Cosine or InverseSquareRoot.
            seed: seed of initial weights, dropout and drawn captions.
        """
        super().__init__(
            stages=stages or [_one_stage(network, optimizer)],
            encoder=network.image_encoder,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )
        check_label_smoothing(label_smoothing)
        self.network_config = network
        self._given_stages = stages
        self._given_self_critical = self_critical
        self.self_critical = self_critical or SelfCriticalConfig()
        self.teacher_forcing = teacher_forcing
        self.label_smoothing = label_smoothing
        self.doubly_stochastic = doubly_stochastic
        self.loss_mean: MeanOver = loss_mean
        self.search = search
        self.validation_search = validation_search
        self.captions: dict[int, str] = {}
        self._text: Text | None = None
        self._reward: CiderD | None = None
        self._check()

    def _check(self) -> None:
        network, stages = self.network_config, self.stages.stages
        is_drawn = any(stage.objective == "self_critical" for stage in stages)
        if self._given_self_critical is not None and not is_drawn:
            raise ValueError(
                "model.self_critical is given, but no stage of model.stages has the objective self_critical: it would do "
                "nothing. Leave it out."
            )
        if isinstance(network, RecurrentCaptioner):
            if self.doubly_stochastic and network.decoder.context.attention_config is None:
                raise ValueError(
                    f"model.doubly_stochastic is {self.doubly_stochastic}, but {type(network.decoder.context).__name__} "
                    "attends to nothing: it would do nothing. Leave it out."
                )
            return
        name = type(network).__name__
        if not isinstance(self.teacher_forcing, AlwaysTrue):
            raise ValueError(
                f"model.teacher_forcing is {type(self.teacher_forcing).__name__}, but {name} reads no caption: it would do "
                "nothing. Leave it out."
            )
        if self.doubly_stochastic:
            raise ValueError(f"model.doubly_stochastic does nothing: {name} attends to nothing. Leave it out.")
        if is_drawn:
            raise ValueError(f"{name} cannot be trained self-critically: its words do not depend on each other.")

    def build_network(self, preprocessing: Mapping[str, Any]) -> CaptioningNetwork:
        """The configured network for images and captions of this preprocessing."""
        self._text = None
        return self.network_config.build(CaptionShape.of(preprocessing), load_weights=self.loads_encoder_weights)

    def configure_model(self) -> None:
        """Build the network, and hand its encoder to the data where images need be encoded once only.

        Raises:
            ValueError: where weights were taken from a checkpoint whose vocabulary is another.
        """
        is_new = self.network is None
        super().configure_model()
        if is_new and self._init_from is not None and self.trainer.state.fn == TrainerFn.FITTING:
            assert self.network is not None
            path, _ = self._init_from
            check_taken_rows(
                [name for name in self.network.vocabulary_weights if name in self.taken_weights],
                path=path,
                vocabulary="vocabulary of the captions",
                theirs=CaptioningModule.from_checkpoint(path).text.pieces,
                ours=self.text.pieces,
            )
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, CaptioningData):
            frozen = self.frozen_encoder(data.transform.shape)
            data.use_encoder(None if frozen is None else FrozenEncoder(**frozen))

    @property
    def text(self) -> Text:
        """The vocabulary, as the checkpoint holds it."""
        if self._text is None:
            self._text = load_text(self.preprocessing["text"])
        return self._text

    def settings(self) -> dict[str, Any]:
        """The module's own settings as plain data."""
        return {
            "network": to_plain(self.network_config),
            "stages": None if self._given_stages is None else [to_plain(stage) for stage in self._given_stages],
            "self_critical": None if self._given_self_critical is None else to_plain(self._given_self_critical),
            "teacher_forcing": to_plain(self.teacher_forcing),
            "label_smoothing": self.label_smoothing,
            "doubly_stochastic": self.doubly_stochastic,
            "loss_mean": self.loss_mean,
            "search": to_plain(self.search),
            "validation_search": to_plain(self.validation_search),
            **self._optimisation_settings(),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The module that `settings` described."""
        stages, self_critical = settings["stages"], settings["self_critical"]
        return cls(
            network=from_plain(NetworkConfig, settings["network"]),  # type: ignore[type-abstract]
            stages=None if stages is None else [from_plain(Stage, stage) for stage in stages],
            self_critical=None if self_critical is None else from_plain(SelfCriticalConfig, self_critical),
            teacher_forcing=from_plain(TeacherForcingConfig, settings["teacher_forcing"]),  # type: ignore[type-abstract]
            label_smoothing=settings["label_smoothing"],
            doubly_stochastic=settings["doubly_stochastic"],
            loss_mean=settings["loss_mean"],
            search=from_plain(BeamConfig, settings["search"]),
            validation_search=from_plain(BeamConfig, settings["validation_search"]),
            **cls._optimisation_from(settings),
        )

    def forward(self, images: Tensor) -> Hypotheses:
        """Describe images (uint8 RGB, at the size of the training) with the search of the test."""
        assert self.network is not None
        return self.network.caption(self.network.encode(images), config=self.search)

    def training_loss(self, batch: CaptionBatch) -> SummedLoss:
        """Cross-entropy of all captions' words, or the self-critical loss, as the stage says."""
        assert self.network is not None
        stage = self.stages.at(self.position.epoch)
        features = self._features(batch, train=stage.encoder_lr is not None)
        if stage.objective == "self_critical":
            return self._self_critical_loss(features, batch)
        return self.network.loss(
            features,
            batch,
            mean=self.loss_mean,
            label_smoothing=self.label_smoothing,
            true_probability=self.teacher_forcing.true_probability(self.position.total_batches),
            doubly_stochastic=self.doubly_stochastic,
        )

    def _features(self, batch: CaptionBatch, *, train: bool = False) -> Tensor:
        assert self.network is not None
        if batch.features is not None:
            return batch.features
        assert batch.images is not None
        return self.network.encode(batch.images, train=train)

    def _self_critical_loss(self, features: Tensor, batch: CaptionBatch) -> SummedLoss:
        network = self.network
        assert isinstance(network, RecurrentCaptioningNetwork)
        reward = self._training_reward()
        found = self_critical_loss(
            network,
            features,
            reward=reward.score,
            rows=batch.index,
            weight=batch.weight,
            config=self.self_critical,
            seed=_joined_seed(self.seed, self.position.epoch),
        )
        self.training_sums.add({"reward": found.reward})
        return found.loss

    def _training_reward(self) -> CiderD:
        if self._reward is None:
            data = getattr(self.trainer, "datamodule", None)
            assert isinstance(data, CaptioningData)
            self._reward = CiderD.of(data.reference_tokens("train"))
        return self._reward

    def workload(self, batch: CaptionBatch) -> Workload:
        """Images; padding of their captions."""
        captions = Workload.of_lengths(batch.lengths, size=batch.captions.shape[1], weight=batch.row_weight)
        return captions._replace(units=(batch.weight > 0).sum())

    def evaluation_values(self, batch: CaptionBatch) -> dict[str, SummedLoss]:
        """The loss of the true captions, without smoothing and penalties: exp of it is the perplexity a word."""
        assert self.network is not None
        return {"loss": self.network.loss(self._features(batch), batch, mean=self.loss_mean)}

    def evaluation_rows(self, batch: CaptionBatch) -> dict[int, str]:
        """What is said of each image: never what the true words led to."""
        assert self.network is not None
        config = self.search if self.trainer.state.fn == TrainerFn.TESTING else self.validation_search
        hypotheses = self.network.caption(self._features(batch), config=config)
        rows = zip(batch.index.tolist(), captions_of(hypotheses, text=self.text), batch.weight.tolist(), strict=True)
        return {index: caption for index, caption, weight in rows if weight > 0}

    def metrics_of_rows(self, rows: Mapping[int, str], *, part: str) -> dict[str, float]:
        """BLEU, ROUGE-L and CIDEr-D against all references; of scenes, the share of captions that are true."""
        data = getattr(self.trainer, "datamodule", None)
        assert isinstance(data, CaptioningData)
        self.captions = dict(rows)
        references = data.references(part)
        metrics = dict(caption_metrics(list(rows.values()), [references[index] for index in rows]))
        truth = data.truth(part)
        if truth is not None:
            metrics["true"] = float(np.mean([truth(index, caption) for index, caption in rows.items()]))
        return metrics


def captions_of(hypotheses: Hypotheses, *, text: Text) -> list[str]:
    """The best caption of each image as text."""
    return [text.decode(found[0]) if found else "" for found in hypotheses.token_lists()]


def _one_stage(network: NetworkConfig, optimizer: OptimizerConfig) -> Stage:
    trains = network.image_encoder.trainable != "none"
    return Stage(epochs=1, encoder_lr=optimizer.lr if trains else None)


def _joined_seed(seed: int, epoch: int) -> int:
    """One seed of two: (1, 2) and (2, 1) draw otherwise."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
