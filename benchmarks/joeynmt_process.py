"""JoeyNMT's side of the translation benchmark; runs in a virtual environment of its own (`benchmarks.joeynmt`).

    PYTHON_OF_JOEYNMT -m benchmarks.joeynmt_process FOLDER

Its own training loop, loader, optimiser, search and post-processing run as they are; only what stands around them is
ours. Kreutzer et al., "Joey NMT: A Minimalist NMT Toolkit for Novices", EMNLP 2019, https://github.com/joeynmt/joeynmt.
"""

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.translation_task import VOCABULARY_FILE, Task
from benchmarks.worker import Answer, Gate, Instant, StepSize, take_pipes
from core.training.process.allocator import keep_freed_memory

# Validations are asked for over the pipe: its own loop never comes to one.
NEVER = 10**9


def configuration(task: Task, model_dir: Path) -> dict[str, Any]:
    """The task in JoeyNMT's terms."""
    folder = Path(task.folder)
    side = {"level": "word", "lowercase": False, "max_length": 100, "voc_file": str(folder / VOCABULARY_FILE)}
    embeddings = {"embedding_dim": task.embedding_size, "scale": False, "dropout": task.dropout}
    return {
        "name": "benchmark",
        "joeynmt_version": "2.3.0",
        "model_dir": str(model_dir),
        "use_cuda": False,
        "random_seed": task.seed,
        "data": {
            "train": str(folder / "train"),
            "dev": str(folder / "validation"),
            "test": str(folder / "test"),
            "dataset_type": "plain",
            "src": {"lang": task.source, **side},
            "trg": {"lang": task.target, **side},
        },
        "testing": {
            "batch_size": task.batch_size,
            "batch_type": "sentence",
            "max_output_length": task.max_length,
            "beam_alpha": task.length_penalty,
            "generate_unk": False,
        },
        "training": {
            "optimizer": "adam",
            "learning_rate": task.lr,
            "learning_rate_min": task.lr / 100,
            "clip_grad_norm": task.max_gradient_norm,
            "batch_size": task.batch_size,
            "batch_type": "sentence",
            "normalization": "tokens",
            "epochs": task.max_epochs,
            "logging_freq": 100,
            "validation_freq": NEVER - NEVER % 100,
            "early_stopping_metric": "bleu",
            # It moves at validations alone, and without any the rate stays: a config without a scheduler is refused.
            "scheduling": "plateau",
            "patience": 1,
            "decrease_factor": 0.5,
        },
        "model": {
            "initializer": "xavier_uniform",
            "embed_initializer": "normal",
            "encoder": {
                "type": "recurrent",
                "rnn_type": "lstm",
                "embeddings": embeddings,
                "hidden_size": task.encoder_size,
                "bidirectional": True,
                "num_layers": 1,
            },
            "decoder": {
                "type": "recurrent",
                "rnn_type": "lstm",
                "embeddings": embeddings,
                "hidden_size": task.decoder_size,
                "hidden_dropout": task.dropout,
                "num_layers": 1,
                "attention": "luong",
                "input_feeding": True,
                "init_hidden": "bridge",
            },
        },
    }


class JoeyNMT:
    """Lets JoeyNMT's training be asked."""

    def __init__(self, task: Task) -> None:
        _mend()
        from joeynmt.config import parse_global_args  # type: ignore[import-not-found]
        from joeynmt.prediction import prepare  # type: ignore[import-not-found]
        from joeynmt.training import TrainManager  # type: ignore[import-not-found]

        handlers = {
            "describe": self.describe,
            "translate": self.translate,
            "loss": self.loss,
            "load": self.load,
            "validated": self.validated,
        }
        requests, answers = take_pipes()
        self.gate = Gate(handlers, requests=requests, answers=answers)
        model_dir = Path(task.folder, "joeynmt")
        shutil.rmtree(model_dir, ignore_errors=True)
        model_dir.mkdir(parents=True)
        self.task = task
        self.settings = parse_global_args(configuration(task, model_dir), mode="train")
        self.model, self.train_data, validation, test = prepare(self.settings, rank=0, mode="train")
        self.data = {"validation": validation, "test": test}

        side = self

        class GatedTraining(TrainManager):  # type: ignore[misc]
            def _train_step(self, batch: Any) -> Any:
                side.gate.pass_step(_size(batch))
                return super()._train_step(batch)

        self.trainer = GatedTraining(
            model=self.model,
            model_dir=self.settings.model_dir,
            device=self.settings.device,
            autocast=self.settings.autocast,
            seed=self.settings.seed,
            rank=0,
            train_args=self.settings.train,
            dev_args=self.settings.test,
        )

    def run(self) -> None:
        """Its own training loop, to its end."""
        self.trainer.train_and_validate(train_data=self.train_data, valid_data=self.data["validation"])
        self.gate.training_ended()

    def describe(self, request: Answer) -> Answer:
        """What was built, to be held against ours."""
        # It leaves out pairs that are too long when it comes to them.
        kept = sum(self.train_data[index][1] is not None for index in range(len(self.train_data)))
        return {
            "num_weights": sum(parameter.numel() for parameter in self.model.parameters()),
            "vocabulary_size": len(self.model.trg_vocab),
            "num_pairs": kept,
        }

    @torch.no_grad()
    def loss(self, request: Answer) -> Answer:
        """Summed cross-entropy of the first pairs of the validation part, without dropout."""
        self.model.eval()
        batch = next(iter(self._batches("validation")))
        batch.sort_by_src_length()
        loss, *_ = self.model(return_type="loss", **vars(batch))
        return {"loss": float(loss), "target_tokens": int(batch.ntokens)}

    def _batches(self, part: str) -> Any:
        return self.data[part].make_iter(
            batch_size=self.task.batch_size,
            pad_index=self.model.pad_index,
            eos_index=self.model.eos_index,
            device=self.settings.device,
        )

    def translate(self, request: Answer) -> Answer:
        """Translate the first sentences of a part, `batch_size` at a time in their own order: from text to text."""
        from joeynmt.prediction import predict

        data = self.data[request["part"]]
        data.has_trg, has_trg = False, data.has_trg  # else it scores, too
        data.indices = list(range(min(len(data), request["sentences"])))
        start = Instant.now()
        _, _, texts, pieces, *_ = predict(
            model=self.model,
            data=data,
            device=self.settings.device,
            n_gpu=0,
            args=self.settings.test._replace(beam_size=request["beam_size"]),
            autocast=self.settings.autocast,
        )
        spent = start.until_now()
        data.has_trg = has_trg
        data.reset_indices()
        joined = ["".join(text.split(" ")).replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip() for text in texts]
        return {**spent, "texts": joined, "tokens": sum(map(len, pieces))}

    def load(self, request: Answer) -> Answer:
        """Take our weights."""
        self.model.load_state_dict(torch.load(request["path"], weights_only=True)["joeynmt"])
        return {}

    def validated(self, request: Answer) -> Answer:
        """Hand its scheduler a validation's score; training ends where it would end by itself."""
        self.trainer.scheduler.step(metrics=request["score"])
        rate = self.trainer.optimizer.param_groups[0]["lr"]
        return {"ended": rate < self.settings.train.learning_rate_min}


def _mend() -> None:
    """Let JoeyNMT 2.3.0 run with a PyTorch whose plateau scheduler no longer takes `verbose`."""
    from joeynmt import builders  # type: ignore[import-not-found]

    class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
        def __init__(self, *arguments: Any, verbose: bool = False, **settings: Any) -> None:
            super().__init__(*arguments, **settings)

    builders.ReduceLROnPlateau = Plateau


def _size(batch: Any) -> StepSize:
    target_tokens = int(batch.ntokens)
    return StepSize(
        sentences=int(batch.nseqs),
        target_tokens=target_tokens,
        padded_target_tokens=batch.trg.numel(),
        tokens=int(batch.src_length.sum()) + target_tokens,
        padded_tokens=batch.src.numel() + batch.trg.numel(),
    )


def main(folder: str) -> None:
    """Build everything, then wait before the first step."""
    task = Task.read(folder)
    torch.set_num_threads(task.num_threads)
    keep_freed_memory()
    logging.captureWarnings(True)
    JoeyNMT(task).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
