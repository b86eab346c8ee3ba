"""What both sides of the translation benchmark train and translate: corpus, architecture, sizes.

The tokens are the same on both sides: the vocabulary is learnt once, and the rival is given text that is already cut,
with a space between pieces. This file imports nothing heavy at its top: the rival's process reads it too.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from data.text import Text
    from data.translation import TranslationData

TASK_FILE = "task.json"
VOCABULARY_FILE = "vocabulary.txt"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Corpus, network and training; as it stands, those of the published table."""

    folder: str
    """Where both sides find the cut text and put what they write."""
    corpus: str
    """Folder of text files `train`, `val` and the test's, each with the two language codes as endings."""
    test: str = "test_2016_flickr"
    """Name of the files to translate."""
    source: str = "de"
    """Code of the language to translate from."""
    target: str = "en"
    """Code of the language to translate to."""
    vocabulary_size: int = 8000
    """Pieces that both languages share (BPE), four special tokens included."""
    embedding_size: int = 256
    """Width of an embedded token on each side; the two tables and the output layer are not tied."""
    encoder_size: int = 256
    """Units of the encoder's LSTM, a direction; one layer."""
    decoder_size: int = 512
    """Units of the decoder's LSTM; one layer, Luong's attention (general), input feeding."""
    dropout: float = 0.2
    """Of embeddings and of what the output layer reads, in training."""
    batch_size: int = 80
    """Pairs an optimiser step, and sentences translated at once."""
    lr: float = 0.001
    """Learning rate of Adam."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    max_epochs: int = 1000
    """Epochs of training; the benchmark stops it before."""
    max_length: int = 60
    """Pieces of a translation, its end included."""
    beam_size: int = 5
    """Width of the beam."""
    length_penalty: float = 1.0
    """alpha of Wu et al. 2016, eq. 14."""
    seed: int = 1
    """Of weights and of the order of pairs."""
    num_threads: int = 1
    """Threads of each side."""

    def write(self) -> None:
        """Leave it in its folder, for the processes of both sides."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        Path(self.folder, TASK_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The task that was left in a folder."""
        return cls(**json.loads(Path(folder, TASK_FILE).read_text(encoding="utf-8")))


def data_of(task: Task, *, bucketed: bool = True) -> "TranslationData":
    """Our DataModule for the task.

    Args:
        task: what to read.
        bucketed: batches of like length; otherwise drawn at random, as the rival draws them.
    """
    from data.batching import BatchPlan
    from data.parallel.reading import TextFiles
    from data.text import BPE
    from data.translation import TranslationData

    class Unbucketed(TranslationData):
        def plan(self, part: str) -> BatchPlan:
            plan = super().plan(part)
            return BatchPlan(plan.num_examples, batch_size=plan.batch_size, shuffle=plan.shuffle, seed=plan.seed)

    return (TranslationData if bucketed else Unbucketed)(
        TextFiles(path=task.corpus, test=task.test),
        source=task.source,
        target=task.target,
        text=BPE(vocabulary_size=task.vocabulary_size),
        batch_size=task.batch_size,
        cache_dir=str(Path(task.folder, "cache")),
        seed=task.seed,
    )


def write_cut_text(task: Task, data: "TranslationData") -> None:
    """The corpus as pieces with a space between them, and the vocabulary, a piece a line: what the rival reads.

    Raises:
        ValueError: for a piece that the rival would take for a special token.
    """
    pieces = data.source_text.pieces[4:]
    if reserved := sorted({"<unk>", "<pad>", "<s>", "</s>"} & set(pieces)):
        raise ValueError(
            f"The text of {task.corpus} has the pieces {', '.join(reserved)}, which the rival takes for special tokens. "
            "Take them out of the text."
        )
    folder = Path(task.folder)
    (folder / VOCABULARY_FILE).write_text("\n".join(pieces) + "\n", encoding="utf-8")
    for part in PARTS:
        for code, lines in ((task.source, data.sources(part)), (task.target, data.references(part))):
            cut = _cut(data.source_text, lines)
            (folder / f"{part}.{code}").write_text("\n".join(cut) + "\n", encoding="utf-8")


def _cut(text: "Text", lines: list[str]) -> list[str]:
    return [" ".join(text.tokens(ids.tolist())) for ids in text.encode(lines)]
