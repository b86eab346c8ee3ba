"""Our side of the translation benchmark, in a process that is told what to do: `benchmarks.worker`.

    python -m benchmarks.translation_process FOLDER {bucketed,unbucketed} PRECISION

It trains through the same DataModule, LightningModule and trainer that `apps.translation` uses.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from apps.translation.module import TranslationModule
from apps.translation.network import RecurrentTranslationNetwork, RecurrentTranslator
from apps.translation.translator import Translator
from benchmarks.joeynmt_weights import as_joeynmt
from benchmarks.translation_task import Task, data_of
from benchmarks.worker import Answer, Gate, Instant, StepSize, take_pipes
from core.nn.attention import General
from core.nn.decoders.decoder_config import AttentionAfter, DecoderConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig
from core.training.optimisation import Constant, OptimizerConfig
from core.training.process.allocator import keep_freed_memory
from data.batching import Piece
from data.translation import TranslationBatch, TranslationData


def network_of(task: Task) -> RecurrentTranslator:
    """The network, as a config."""
    # The rival's forget gates start with 1 in both of their biases, which add up.
    cell = RecurrentConfig(kind="lstm", hidden_size=task.encoder_size, forget_bias=2.0)
    return RecurrentTranslator(
        encoder=replace(cell, bidirectional=True),
        decoder=DecoderConfig(
            recurrent=replace(cell, hidden_size=task.decoder_size),
            context=AttentionAfter(attention=General(), input_feeding=True),
            bridge="dense",
            readout="attentional",
            readout_dropout=task.dropout,
        ),
        embedding_size=task.embedding_size,
        embedding_dropout=task.dropout,
    )


def tie(network: RecurrentTranslationNetwork) -> int:
    """Make the network the rival's: no bias of the output layer, and one vector as first hidden and first cell state.

    The weights that are too many start equal, or at zero, and their gradients keep them there. Returns how many weights
    are free.
    """
    dense = network.decoder.decoder.bridge.dense
    bias = network.decoder.output.bias
    half = len(dense.weight) // 2
    with torch.no_grad():
        bias.zero_()
        for parameter in (dense.weight, dense.bias):
            parameter[half:] = parameter[:half]

    def mean_of_halves(gradient: Tensor) -> Tensor:
        mean = (gradient[:half] + gradient[half:]) / 2
        return torch.cat([mean, mean])

    hooks: list[tuple[Any, Callable[[Tensor], Tensor]]] = [
        (dense.weight, mean_of_halves),
        (dense.bias, mean_of_halves),
        (bias, torch.zeros_like),
    ]
    for parameter, hook in hooks:
        parameter.register_hook(hook)
    total = sum(parameter.numel() for parameter in network.parameters())
    return total - bias.numel() - dense.weight.numel() // 2 - dense.bias.numel() // 2


class OurSide(pl.Callback):
    """Lets our training be asked."""

    def __init__(self, task: Task, data: TranslationData) -> None:
        self.task = task
        self.data = data
        self.num_weights = 0
        handlers = {
            "describe": self.describe,
            "translate": self.translate,
            "loss": self.loss,
            "save": self.save,
            "load": self.load,
            "validated": lambda request: {"ended": False},
        }
        requests, answers = take_pipes()
        self.gate = Gate(handlers, requests=requests, answers=answers)
        self.module: TranslationModule

    @property
    def network(self) -> RecurrentTranslationNetwork:
        """The network that is trained."""
        assert isinstance(self.module.network, RecurrentTranslationNetwork)
        return self.module.network

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tie the weights before the first step."""
        assert isinstance(pl_module, TranslationModule)
        self.module = pl_module
        self.num_weights = tie(self.network)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TranslationBatch, batch_idx: int
    ) -> None:
        """Wait until the step is asked for."""
        sides = (batch.source, batch.source_lengths), (batch.labels, batch.target_lengths)
        padded, valid = (sum(part) for part in zip(*((t.numel(), int(n.sum())) for t, n in sides), strict=True))
        self.gate.pass_step(
            StepSize(
                sentences=len(batch.index),
                target_tokens=int(batch.target_lengths.sum()),
                padded_target_tokens=batch.labels.numel(),
                tokens=valid,
                padded_tokens=padded,
            )
        )

    def describe(self, request: Answer) -> Answer:
        """What was built, to be held against the rival."""
        plan = self.data.plan("train")
        return {
            "num_weights": self.num_weights,
            "vocabulary_size": self.data.target_text.vocabulary_size,
            "num_pairs": len(self.data.dataset("train")),
            "padding_waste": plan.padding_waste(),
        }

    @torch.no_grad()
    def loss(self, request: Answer) -> Answer:
        """Summed cross-entropy of the first pairs of the validation part, without dropout."""
        self.module.eval()
        dataset = self.data.dataset("validation")
        plan = self.data.plan("validation")
        loss = self.network.loss(dataset.batch(Piece(0, plan.batches(0)[0])), mean="token")
        self.module.train()
        return {"loss": float(loss.sum), "target_tokens": int(loss.count)}

    def translate(self, request: Answer) -> Answer:
        """Translate the first sentences of a part, `batch_size` at a time in their own order: from raw text to raw text."""
        sentences = self.data.sources(request["part"])[: request["sentences"]]
        beam = request["beam_size"]
        config = BeamConfig(
            beam_size=beam,
            min_length=2,  # the rival never gives an empty sentence
            max_length=self.task.max_length,
            length_penalty=self.task.length_penalty if beam > 1 else 0.0,
        )
        self.module.eval()
        translator = Translator(self.module, config=config, align=False, token_budget=1 << 30)
        start = Instant.now()
        found = []
        with self.module.trainer.precision_plugin.forward_context():
            for first in range(0, len(sentences), self.task.batch_size):
                found += list(translator.translate(sentences[first : first + self.task.batch_size]))
        spent = start.until_now()
        self.module.train()
        best = [translations[0] for _, translations in found]
        return {**spent, "texts": [one.text for one in best], "tokens": sum(len(one.tokens) for one in best)}

    def save(self, request: Answer) -> Answer:
        """Write the weights, under our names and under the rival's."""
        weights = self.network.state_dict()
        torch.save({"ours": weights, "joeynmt": as_joeynmt(weights)}, request["path"])
        return {}

    def load(self, request: Answer) -> Answer:
        """Take weights that `save` wrote."""
        self.network.load_state_dict(torch.load(request["path"], weights_only=True)["ours"])
        return {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on answering when there is no more to train."""
        self.gate.training_ended()


def main(folder: str, batches: str, precision: str) -> None:
    """Build everything, then wait before the first step."""
    task = Task.read(folder)
    torch.set_num_threads(task.num_threads)
    keep_freed_memory()
    data = data_of(task, bucketed=batches == "bucketed")
    module = TranslationModule(
        network=network_of(task),
        optimizer=OptimizerConfig(lr=task.lr),
        schedule=Constant(),
        seed=task.seed,
    )
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        max_epochs=task.max_epochs,
        gradient_clip_val=task.max_gradient_norm,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[OurSide(task, data)],
        default_root_dir=str(Path(folder)),
        **settings,
    )
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    main(*sys.argv[1:])
