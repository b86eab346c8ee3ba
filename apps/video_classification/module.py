"""The video-classification LightningModule: network, stages of training, clips and the videos they belong to joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apps.video_classification.metrics import Classified, classified
from apps.video_classification.network import ClassificationNetwork, ClipShape, NetworkConfig
from apps.video_classification.recurrent import RecurrentClassifier
from core.nn.lengths import valid_steps
from core.nn.losses import SummedLoss
from core.nn.token_losses import check_label_smoothing
from core.training.checkpoints.plain import from_plain, to_plain
from core.training.optimisation import Constant, OptimizerConfig, ScheduleConfig
from core.training.staged_module import StagedModule
from core.training.stages import TrainingStage
from core.training.watching.workload import Workload
from data.feature_cache import FrozenEncoder
from data.video_classification import VideoBatch, VideoClassificationData
from data.videos.balance import class_weights as weights_of_classes

ClassWeights = Literal["inverse_frequency", "effective_number"]


class VideoClassificationModule(StagedModule[TrainingStage]):
    """Trains a network that says what a clip shows, and measures how often it is right."""

    application: ClassVar[str] = "video_classification"
    unit: ClassVar[str] = "frames"
    free_in_evaluation: ClassVar[tuple[str, ...]] = (
        *("optimizer", "schedule", "seed", "stages", "class_weights", "label_smoothing"),
    )
    network: ClassificationNetwork[Any] | None

    def __init__(
        self,
        *,
        network: NetworkConfig = RecurrentClassifier(),
        stages: list[TrainingStage] | None = None,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        """Trains a network that says what a clip shows, and measures how often it is right.

        Args:
            network: RecurrentClassifier, ConvRecurrentClassifier or MeanBaseline.
            stages: the stages of training, each with its epochs and learning rates; the last one goes on for as long as
                trainer.max_epochs says. None: one, and what the encoder's trainable names is trained with all else.
            class_weights: what a clip counts in the training loss: inverse_frequency (all classes alike) or effective_number
                (Cui et al., CVPR 2019). None: all clips alike.
            label_smoothing: share of the target that is spread over all classes, in [0, 1).
            optimizer: the optimiser.
            schedule: how the learning rate moves within a stage: Constant, Exponential, Cosine or InverseSquareRoot.
            seed: seed of initial weights and dropout.
        """
        super().__init__(
            stages=stages or [_one_stage(network, optimizer)],
            encoder=network.encoder,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )
        check_label_smoothing(label_smoothing)
        if class_weights is not None and class_weights not in get_args(ClassWeights):
            raise ValueError(
                f"model.class_weights must be one of {', '.join(get_args(ClassWeights))}, or null, got {class_weights!r}."
            )
        self.network_config = network
        self._given_stages = stages
        self.class_weights: ClassWeights | None = class_weights
        self.label_smoothing = label_smoothing
        self.classified: Classified | None = None
        """The videos of the last evaluation."""
        self._weights: Tensor | None = None

    def build_network(self, preprocessing: Mapping[str, Any]) -> ClassificationNetwork[Any]:
        """The configured network for clips and classes of this preprocessing."""
        self._weights = None
        return self.network_config.build(ClipShape.of(preprocessing), load_weights=self.loads_encoder_weights)

    def configure_model(self) -> None:
        """Build the network, and hand its encoder to the data where frames need be encoded once only."""
        super().configure_model()
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, VideoClassificationData):
            frozen = self.frozen_encoder(data.transform.shape)
            data.use_encoder(None if frozen is None else FrozenEncoder(**frozen))

    def settings(self) -> dict[str, Any]:
        """The module's own settings as plain data."""
        return {
            "network": to_plain(self.network_config),
            "stages": None if self._given_stages is None else [to_plain(stage) for stage in self._given_stages],
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
            **self._optimisation_settings(),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The module that `settings` described."""
        stages = settings["stages"]
        return cls(
            network=from_plain(NetworkConfig, settings["network"]),  # type: ignore[type-abstract]
            stages=None if stages is None else [from_plain(TrainingStage, stage) for stage in stages],
            class_weights=settings["class_weights"],
            label_smoothing=settings["label_smoothing"],
            **cls._optimisation_from(settings),
        )

    def forward(self, batch: VideoBatch, *, train: bool = False) -> Float[Tensor, "batch classes"]:
        """Scores (logits) of the classes of each clip, in at least float32.

        Args:
            batch: images or features.
            train: let gradients reach what may be trained of the encoder.
        """
        assert self.network is not None
        scores: Tensor = self.network(self._features(batch, train=train), batch.lengths)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def _features(self, batch: VideoBatch, *, train: bool) -> Tensor:
        """(batch, time, regions, features), zeros in the padding."""
        if batch.features is not None:
            return batch.features
        assert self.network is not None
        assert batch.images is not None
        frames = self.network.encode(batch.images, train=train)
        # The longest is known on the CPU, where lengths were made; asking a GPU for it would stall it.
        is_there = valid_steps(batch.lengths, int(batch.lengths.max()))
        padded = frames.new_zeros(*is_there.shape, *frames.shape[1:])
        return padded.masked_scatter(is_there[..., None, None], frames)

    def training_loss(self, batch: VideoBatch) -> SummedLoss:
        """Cross-entropy of the classes; with weights its count is their sum, as in a weighted mean."""
        stage = self.stages.at(self.position.epoch)
        scores = self(batch, train=stage.encoder_lr is not None)
        losses = F.cross_entropy(scores, batch.labels, reduction="none", label_smoothing=self.label_smoothing)
        weight = batch.weight.to(losses.dtype)
        if self.class_weights is not None:
            weight = weight * self._class_weights(losses)[batch.labels]
        return _summed(losses, weight)

    def _class_weights(self, like: Tensor) -> Tensor:
        if self._weights is None:
            assert self.class_weights is not None
            counts = torch.tensor(self.preprocessing["class_counts"]).numpy()
            self._weights = torch.from_numpy(weights_of_classes(counts, self.class_weights))
        return self._weights.to(like)

    def workload(self, batch: VideoBatch) -> Workload:
        """Frames; padding of clips to the longest, which pixels have none of, but their features have."""
        return Workload.of_lengths(batch.lengths, size=batch.lengths.max(), weight=batch.weight)

    def evaluation_values(self, batch: VideoBatch) -> dict[str, SummedLoss]:
        """Cross-entropy of the classes, nats a clip, without smoothing and weights."""
        self._scores = self(batch)
        losses = F.cross_entropy(self._scores, batch.labels, reduction="none")
        return {"loss": _summed(losses, batch.weight.to(losses.dtype))}

    def evaluation_rows(self, batch: VideoBatch) -> dict[int, list[float]]:
        """Log-probabilities of the classes of each clip."""
        # `evaluation_values` has just made the scores of this batch.
        found = self._scores.log_softmax(-1).tolist()
        rows = zip(batch.index.tolist(), found, batch.weight.tolist(), strict=True)
        return {index: probabilities for index, probabilities, weight in rows if weight > 0}

    def metrics_of_rows(self, rows: Mapping[int, list[float]], *, part: str) -> dict[str, float]:
        """Accuracy of videos, each by the mean probability over its clips."""
        data = getattr(self.trainer, "datamodule", None)
        assert isinstance(data, VideoClassificationData)
        dataset = data.dataset(part)
        self.classified = classified(rows, video_of=dataset.video_of, labels=dataset.labels)
        return self.classified.metrics()


def _summed(losses: Tensor, weight: Tensor) -> SummedLoss:
    # A filler's loss may be anything, NaN too: it leaves by the mask, not by a product with 0.
    return SummedLoss((losses.masked_fill(weight == 0, 0.0) * weight).sum(), weight.sum())


def _one_stage(network: NetworkConfig, optimizer: OptimizerConfig) -> TrainingStage:
    trains = network.encoder.trainable != "none"
    return TrainingStage(epochs=1, encoder_lr=optimizer.lr if trains else None)
