"""The LightningModule under the applications that look at images: an encoder that is frozen, trained later, or all along."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Generic

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.trainer.states import TrainerFn

from core.nn.vision import ImageEncoder, ImageEncoderConfig
from core.training.module import ApplicationModule
from core.training.optimisation import OptimizerConfig, Part, ScheduleConfig
from core.training.stages import AnyStage, Stages


class StagedModule(ApplicationModule, Generic[AnyStage]):
    """Base of the modules whose network has an image encoder, at `network.encoder`.

    The encoder has a learning rate of its own in the stages that train it. All its weights that may be trained are with the
    optimiser from the start, so that a checkpoint of any stage resumes in any other.

    Args:
        stages: the stages of the run.
        encoder: which part of the encoder may be trained.
        optimizer: the optimiser.
        schedule: how the learning rate moves within a stage.
        seed: seed of initial weights and dropout.

    Raises:
        ValueError: where stages would train an encoder that may not be trained, or none trains one that may be.
    """

    encoder_prefix: ClassVar[str] = "network.encoder."

    def __init__(
        self,
        *,
        stages: Sequence[AnyStage],
        encoder: ImageEncoderConfig,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        seed: int,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule, seed=seed)
        self.stages = Stages(stages)
        if encoder.trainable == "none" and any(stage.encoder_lr is not None for stage in stages):
            raise ValueError(
                "A stage of model.stages has an encoder_lr, but model.network.encoder.trainable is none. Say there what may be "
                "trained: all, or prefixes of names."
            )
        if encoder.trainable != "none" and all(stage.encoder_lr is None for stage in stages):
            raise ValueError(
                f"model.network.encoder.trainable is {encoder.trainable!r}, but no stage of model.stages has an encoder_lr: "
                "nothing of the encoder would be trained. Give one, or set trainable: none."
            )

    @property
    def has_idle_weights(self) -> bool:
        """Whether the encoder is trained in some stages and not in others."""
        return len({stage.encoder_lr is None for stage in self.stages.stages}) == 2

    @property
    def loads_encoder_weights(self) -> bool:
        """Whether the encoder's weights come from where its config says; whatever does not train has them from a checkpoint."""
        trainer = getattr(self, "_trainer", None)
        return trainer is not None and trainer.state.fn == TrainerFn.FITTING

    def frozen_encoder(self, size: tuple[int, int]) -> dict[str, Any] | None:
        """The encoder as it is before it is trained, by the fields of `data.feature_cache.FrozenEncoder`.

        Args:
            size: height and width of the images, pixels.

        Returns:
            None where it is trained from the start.
        """
        epochs = self.stages.frozen_epochs
        if epochs == 0:
            return None
        network: Any = self.network
        encoder: ImageEncoder = network.encoder
        encode = network.encode
        return {
            "encode": lambda images: encode(images.to(self.device)),
            "fingerprint": lambda: (
                f"{encoder.weights_fingerprint()}-{encoder.config.features}-{encoder.config.grid_size}"
            ),
            "row_shape": (math.prod(encoder.grid_shape(*size)), encoder.num_features),
            "epochs": epochs,
        }

    def optimised_parts(self, *, num_steps: int, steps_an_epoch: int) -> Sequence[Part]:
        """The encoder, and all else."""
        reached, number = self.stages.num_reached(num_steps / steps_an_epoch), len(self.stages.stages)
        if reached < number:
            _tell(
                f"Of the {number} stages of model.stages this run reaches {reached}: together they take "
                f"{self.stages.num_epochs} epochs. Raise trainer.max_epochs for the others."
            )
        named = list(self.named_parameters())
        peak = self.optimizer.lr

        def rate(step: int, which: int) -> float:
            return self.stages.rates(
                self.schedule, step=step, num_steps=num_steps, steps_an_epoch=steps_an_epoch, peak=peak
            )[which]

        return [
            Part([each for each in named if not each[0].startswith(self.encoder_prefix)], lambda step: rate(step, 0)),
            Part([each for each in named if each[0].startswith(self.encoder_prefix)], lambda step: rate(step, 1)),
        ]


@rank_zero_only
def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
