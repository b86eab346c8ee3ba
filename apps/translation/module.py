"""The translation LightningModule: network, loss, generated translations and their metrics joined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from apps.translation.generation import texts_of
from apps.translation.metrics import signatures, translation_metrics
from apps.translation.network import (
    NetworkConfig,
    RecurrentTranslationNetwork,
    RecurrentTranslator,
    TextShape,
    TranslationNetwork,
)
from core.nn.losses import MeanOver, SummedLoss
from core.nn.search import BeamConfig, Hypotheses
from core.nn.teacher_forcing import AlwaysTrue, TeacherForcingConfig
from core.nn.token_losses import check_label_smoothing
from core.training.checkpoints.plain import from_plain, to_plain
from core.training.module import ApplicationModule
from core.training.optimisation import Constant, OptimizerConfig, ScheduleConfig
from core.training.warm_start import check_taken_rows
from core.training.watching.workload import Workload
from data.text import Text, load_text
from data.translation import TranslationBatch, TranslationData

# Twice the source and ten tokens: no natural pair is longer, and a network early in training does not run on for ever.
GREEDY = BeamConfig(beam_size=1, max_length=200, max_length_ratio=2.0, max_length_offset=10)
# Searched to the end (patience): five early ends are no reason to leave a better hypothesis that still runs.
BEAM = BeamConfig(
    beam_size=5,
    max_length=200,
    max_length_ratio=2.0,
    max_length_offset=10,
    length_penalty=1.0,
    patience=math.inf,
)


class TranslationModule(ApplicationModule):
    """Trains a network that translates, and measures what it generates."""

    application: ClassVar[str] = "translation"
    unit: ClassVar[str] = "tokens"
    free_in_evaluation: ClassVar[tuple[str, ...]] = (
        *("optimizer", "schedule", "seed", "loss_mean", "label_smoothing", "teacher_forcing"),
        *("search", "validation_search", "max_length"),
    )
    network: TranslationNetwork | None

    def __init__(
        self,
        *,
        network: NetworkConfig = RecurrentTranslator(),
        teacher_forcing: TeacherForcingConfig = AlwaysTrue(),
        label_smoothing: float = 0.0,
        loss_mean: MeanOver = "token",
        search: BeamConfig = BEAM,
        validation_search: BeamConfig = GREEDY,
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        """Trains a network that translates, and measures what it generates.

        Args:
            network: RecurrentTranslator or BagOfWordsBaseline.
            teacher_forcing: what the decoder reads in training: AlwaysTrue, NeverTrue or ScheduledSampling... (notes N7).
            label_smoothing: share of each token's target that is spread over the vocabulary, in [0, 1).
            loss_mean: token (every token counts alike) or sequence (every sentence counts alike; notes N4).
            search: beam search of the test and, unless it is told otherwise, of predict.
            validation_search: beam search of each validation; by default greedy (a beam of 1).
            optimizer: the optimiser.
            schedule: how the learning rate moves: Constant, Exponential, Cosine or InverseSquareRoot.
            seed: seed of initial weights and dropout.
        """
        super().__init__(optimizer=optimizer, schedule=schedule, seed=seed)
        check_label_smoothing(label_smoothing)
        if not isinstance(network, RecurrentTranslator) and not isinstance(teacher_forcing, AlwaysTrue):
            raise ValueError(
                f"model.teacher_forcing is {type(teacher_forcing).__name__}, but {type(network).__name__} reads no target: it "
                "would do nothing. Leave it out."
            )
        self.network_config = network
        self.teacher_forcing = teacher_forcing
        self.label_smoothing = label_smoothing
        self.loss_mean: MeanOver = loss_mean
        self.search = search
        self.validation_search = validation_search
        self._texts: tuple[Text, Text] | None = None

    def build_network(self, preprocessing: Mapping[str, Any]) -> TranslationNetwork:
        """The configured network for the texts of this preprocessing."""
        self._texts = None
        return self.network_config.build(TextShape.of(preprocessing))

    def configure_model(self) -> None:
        """Build the network; embeddings that start afresh take the word vectors that the data names.

        Raises:
            ValueError: where weights were taken from a checkpoint whose vocabulary is another, or vectors are of no use.
        """
        is_new = self.network is None
        super().configure_model()
        if is_new and self.trainer.state.fn == TrainerFn.FITTING:
            self._check_taken_vocabulary()
            self._take_word_vectors()

    def _check_taken_vocabulary(self) -> None:
        if self._init_from is None or self.network is None:
            return
        path, _ = self._init_from
        stored = TranslationModule.from_checkpoint(path).texts
        for side, theirs, ours in zip(("source", "target"), stored, self.texts, strict=True):
            taken = [name for name in self.network.vocabulary_weights(side) if name in self.taken_weights]
            check_taken_rows(
                taken, path=path, vocabulary=f"vocabulary of the {side}", theirs=theirs.pieces, ours=ours.pieces
            )

    def _take_word_vectors(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TranslationData):
            return
        if not isinstance(self.network, RecurrentTranslationNetwork):
            return  # the baseline learns its own
        for side in ("source", "target"):
            name = self.network.vocabulary_weights(side)[0]
            if name in self.taken_weights:
                if data.has_word_vectors(side):
                    raise ValueError(
                        f"vectors of data.text do nothing for the {side}: {name} comes from --init_from. Leave them out, or "
                        f"let it start afresh by --init_skip '[{name}]'."
                    )
                continue
            vectors = data.word_vectors(side)
            if vectors is None:
                continue
            table = self.network.embedding_of(side)
            if vectors.width != table.embedding_dim:
                raise ValueError(
                    f"The word vectors of the {side} have {vectors.width} numbers each, but model.network.embedding_size is "
                    f"{table.embedding_dim}. Set it to {vectors.width}."
                )
            with torch.no_grad():
                table.weight[vectors.found] = vectors.values[vectors.found].to(table.weight)

    @property
    def texts(self) -> tuple[Text, Text]:
        """The vocabularies of source and target, as the checkpoint holds them."""
        if self._texts is None:
            source = load_text(self.preprocessing["source_text"])
            target = self.preprocessing["target_text"]
            self._texts = source, source if target is None else load_text(target)
        return self._texts

    def settings(self) -> dict[str, Any]:
        """The module's own settings as plain data."""
        return {
            "network": to_plain(self.network_config),
            "teacher_forcing": to_plain(self.teacher_forcing),
            "label_smoothing": self.label_smoothing,
            "loss_mean": self.loss_mean,
            "search": to_plain(self.search),
            "validation_search": to_plain(self.validation_search),
            **self._optimisation_settings(),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The module that `settings` described."""
        return cls(
            network=from_plain(NetworkConfig, settings["network"]),  # type: ignore[type-abstract]
            teacher_forcing=from_plain(TeacherForcingConfig, settings["teacher_forcing"]),  # type: ignore[type-abstract]
            label_smoothing=settings["label_smoothing"],
            loss_mean=settings["loss_mean"],
            search=from_plain(BeamConfig, settings["search"]),
            validation_search=from_plain(BeamConfig, settings["validation_search"]),
            **cls._optimisation_from(settings),
        )

    def forward(self, source: Tensor, lengths: Tensor) -> Hypotheses:
        """Translate encoded sentences, each ending in EOS, with the search of the test."""
        assert self.network is not None
        return self.network.translate(source, lengths, config=self.search)

    def training_loss(self, batch: TranslationBatch) -> SummedLoss:
        """Summed cross-entropy of the target's tokens, and its count."""
        assert self.network is not None
        return self.network.loss(
            batch,
            mean=self.loss_mean,
            label_smoothing=self.label_smoothing,
            true_probability=self.teacher_forcing.true_probability(self.position.total_batches),
        )

    def workload(self, batch: TranslationBatch) -> Workload:
        """Tokens of the target with its end; padding of both sides."""
        source, target = (
            Workload.of_lengths(lengths, size=side.shape[1], weight=batch.weight)
            for lengths, side in ((batch.source_lengths, batch.source), (batch.target_lengths, batch.target))
        )
        return (source + target)._replace(units=target.units)

    def evaluation_values(self, batch: TranslationBatch) -> dict[str, SummedLoss]:
        """The loss of the true translation, without smoothing: exp of it is the perplexity a token."""
        assert self.network is not None
        return {"loss": self.network.loss(batch, mean=self.loss_mean)}

    def evaluation_rows(self, batch: TranslationBatch) -> dict[int, str]:
        """The generated translation of each sentence: never the one that the true words led to."""
        assert self.network is not None
        config = self.search if self.trainer.state.fn == TrainerFn.TESTING else self.validation_search
        hypotheses = self.network.translate(batch.source, batch.source_lengths, config=config)
        texts = texts_of(hypotheses, target_text=self.texts[1])
        rows = zip(batch.index.tolist(), texts, batch.weight.tolist(), strict=True)
        return {index: text for index, text, weight in rows if weight > 0}

    def metrics_of_rows(self, rows: Mapping[int, str], *, part: str) -> dict[str, float]:
        """BLEU, chrF and exact matches against the raw references."""
        data = getattr(self.trainer, "datamodule", None)
        assert isinstance(data, TranslationData)
        self.translations = dict(rows)
        references = data.references(part)
        return translation_metrics(list(rows.values()), [references[index] for index in rows])

    def facts(self) -> dict[str, Any]:
        """The signatures of sacreBLEU's metrics."""
        return {"signatures": signatures()}
