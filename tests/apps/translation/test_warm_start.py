"""What a run begins with: word vectors of the config, weights of a checkpoint, and never rows of another vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from apps.translation.module import TranslationModule
from apps.translation.network import RecurrentTranslationNetwork, RecurrentTranslator
from core.nn.recurrent import RecurrentConfig
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.optimisation import OptimizerConfig
from data.parallel.reading import TextFiles
from data.text import Words
from data.translation import TranslationData

EMBEDDINGS = ["model.encoder.embedding", "model.decoder.embedding", "model.decoder.output"]


class Run:
    """A run of one step that changes next to nothing; `path` is its checkpoint."""

    def __init__(
        self,
        folder: Path,
        out: Path,
        *,
        vectors: bool = False,
        min_frequency: int = 1,
        init_from: Path | None = None,
        skip: list[str] | None = None,
    ) -> None:
        text = Words(min_frequency=min_frequency, vectors=str(folder / "en.vec") if vectors else None)
        target_text = Words(min_frequency=min_frequency)
        self.data = TranslationData(
            TextFiles(path=str(folder / "corpus")),
            source="en",
            target="es",
            text=text,
            target_text=target_text,
            shared_vocabulary=False,
            batch_size=10,
            cache_dir=str(folder / "cache"),
        )
        self.module = TranslationModule(
            network=RecurrentTranslator(
                embedding_size=3, encoder=RecurrentConfig(kind="gru", hidden_size=4, bidirectional=True)
            ),
            optimizer=OptimizerConfig(lr=1e-9),
        )
        if init_from is not None:
            self.module.init_from(init_from, skip=skip or [])
        checkpoints = RunCheckpoints(out, config=CheckpointConfig())
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[checkpoints],
        )
        trainer.fit(self.module, datamodule=self.data)
        self.path = Path(checkpoints.last_path)

    def rows(self, *words: str) -> Tensor:
        """Embeddings of words of the source."""
        assert isinstance(self.module.network, RecurrentTranslationNetwork)
        encoded = self.data.source_text.encode([" ".join(words)])[0]
        return self.module.network.embedding_of("source").weight.detach()[torch.from_numpy(encoded).long()]


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Path:
    (folder / "en.vec").write_text("house 1 2 3\nhorse 4 5 6\n")
    return folder


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(corpus, tmp_path_factory.mktemp("first"))


def test_embeddings_begin_with_the_word_vectors_of_the_config(corpus: Path, first: Run, tmp_path: Path) -> None:
    run = Run(corpus, tmp_path, vectors=True)
    expected = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    torch.testing.assert_close(run.rows("house", "horse"), expected)
    torch.testing.assert_close(run.rows("red", "now"), first.rows("red", "now"))  # without a vector: as ever


def test_vectors_are_refused_where_the_checkpoint_gives_the_embedding(corpus: Path, first: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vectors of data\.text do nothing for the source: .* comes from --init_from"):
        Run(corpus, tmp_path, vectors=True, init_from=first.path)


def test_vectors_are_taken_by_an_embedding_that_starts_afresh(corpus: Path, first: Run, tmp_path: Path) -> None:
    run = Run(corpus, tmp_path, vectors=True, init_from=first.path, skip=["model.encoder.embedding"])
    torch.testing.assert_close(run.rows("house"), torch.tensor([[1.0, 2, 3]]))
    for name, weight in run.module.named_parameters():
        if "encoder.embedding" not in name:
            torch.testing.assert_close(weight, dict(first.module.named_parameters())[name])


def test_rows_of_another_vocabulary_are_refused(
    corpus: Path, first: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A corpus of as many other words: every shape agrees."""
    other = tmp_path_factory.mktemp("other")
    (other / "corpus").mkdir()
    for file in (corpus / "corpus").iterdir():
        text = file.read_text(encoding="utf-8")
        (other / "corpus" / file.name).write_text(
            text.replace("house", "hound").replace("casa", "cada"), encoding="utf-8"
        )
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"keeps model\.encoder\.embedding\.weight of .* the source is another here"):
        Run(other, tmp_path / "a", init_from=first.path, skip=["model.decoder"])
    with pytest.raises(ValueError, match=r"keeps .*model\.decoder\.output\.bias of .* the target is another here"):
        Run(other, tmp_path / "a", init_from=first.path, skip=["model.encoder.embedding"])
    Run(other, tmp_path / "a", init_from=first.path, skip=EMBEDDINGS)
