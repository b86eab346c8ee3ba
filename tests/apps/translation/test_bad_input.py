"""What a user hears of parallel text that cannot be used: exit status 2, one message, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.translation.__main__ import TRANSLATION
from core.training.cli import main
from tests.contracts.applications.translation import write_corpus

pytestmark = pytest.mark.usefixtures("as_shipped")

DATA = """
data:
  corpus:
    class_path: TextFiles
    init_args: {path: corpus}
  text:
    class_path: BPE
    init_args: {vocabulary_size: 60}
"""
NETWORK = """
class_path: RecurrentTranslator
init_args:
  embedding_size: 4
  encoder: {kind: gru, hidden_size: 4}
  decoder:
    recurrent: {kind: gru, hidden_size: 4}
    context: {class_path: FixedContext}
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A good one, to be spoilt."""
    return write_corpus(tmp_path)


@pytest.fixture
def fit(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(DATA)
    (tmp_path / "network.yaml").write_text(NETWORK)

    def _fit(*more: str) -> None:
        main(
            TRANSLATION,
            [
                "fit", "-c", "run.yaml", "--data.source", "en", "--data.target", "es", "--data.batch_size", "16",
                "--data.cache_dir", "cache", "--model.network", "network.yaml", "--run_dir", "run",
                "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.logger", "false",
                "--trainer.enable_progress_bar", "false", "--baseline.enabled", "false", *more,
            ],
        )  # fmt: skip

    return _fit


@pytest.fixture
def refused(fit: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def _refused(*more: str) -> str:
        with pytest.raises(SystemExit) as raised:
            fit(*more)
        assert raised.value.code == 2
        said = capfd.readouterr().err.replace(f"{tmp_path}/", "")
        assert said.count("error:") == 1
        assert "Traceback" not in said
        assert not (tmp_path / "run" / "checkpoints").exists()
        return said

    return _refused


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().split(b"\n")[:-1])))


def test_different_numbers_of_lines(refused: Callable[..., str], corpus: Path) -> None:
    """Both numbers, and the first suspicious place: the line that was put in."""
    extra = b"una frase que no tiene pareja, con el numero 77 dentro y larga, mas larga que todas las demas juntas"
    edit(corpus / "train.es", lambda lines: [*lines[:40], extra, *lines[40:]])
    said = refused()
    assert "corpus/train.en has 61 lines, but corpus/train.es has 62: each must have its partner." in said
    assert "line 4" in said
    assert "una frase que no tiene" in said


def test_no_utf8(refused: Callable[..., str], corpus: Path) -> None:
    edit(corpus / "train.es", lambda lines: [lines[0], "peque\xf1a".encode("latin-1"), *lines[2:]])
    assert "corpus/train.es, line 2: byte 8 of the file (the first is 0) is b'\\xf1', which is no UTF-8" in refused()


@pytest.mark.parametrize("name", ["train.en", "val.es"])
def test_an_empty_file(refused: Callable[..., str], corpus: Path, name: str) -> None:
    (corpus / name).write_bytes(b"")
    assert f"corpus/{name} is empty. It needs a sentence a line." in refused()


def test_a_pair_whose_source_is_empty(refused: Callable[..., str], corpus: Path) -> None:
    edit(corpus / "train.en", lambda lines: [*lines[:6], b"  ", *lines[7:]])
    said = refused()
    assert "train: 1 of 61 pairs have an empty side: corpus/train.en and corpus/train.es, line 7." in said
    assert "data.empty: drop" in said


def test_source_and_target_are_the_same(refused: Callable[..., str], corpus: Path) -> None:
    (corpus / "train.es").write_bytes((corpus / "train.en").read_bytes())
    said = refused()
    assert "source and target are the same in all 61 pairs, so there is nothing to translate" in said
    assert "data.source and data.target" in said


def test_a_vocabulary_smaller_than_the_alphabet(refused: Callable[..., str]) -> None:
    said = refused("--data.text.vocabulary_size", "15")
    assert "vocabulary_size is 15, but the training text has 2" in said
    assert "different characters" in said
    assert "Raise vocabulary_size to" in said


def test_an_unknown_language(refused: Callable[..., str]) -> None:
    said = refused("--data.target", "xx")
    assert "corpus/train.xx does not exist. Languages that corpus has 'train' in: en, es." in said
    assert "data.source and data.target" in said


def test_a_missing_folder(refused: Callable[..., str]) -> None:
    assert "There is no file or folder 'corpsu'" in refused("--data.corpus.path", "corpsu")


def test_a_budget_below_a_sentence(refused: Callable[..., str]) -> None:
    said = refused("--data.batch_size", "null", "--data.token_budget", "64")
    assert "data.token_budget is 64, but a training pair may have data.max_length=100 tokens" in said


def test_settings_that_do_nothing(refused: Callable[..., str], tmp_path: Path) -> None:
    """Contract 9."""
    (tmp_path / "network.yaml").write_text("class_path: BagOfWordsBaseline")
    said = refused("--model.teacher_forcing", "NeverTrue")
    assert "model.teacher_forcing is NeverTrue, but BagOfWordsBaseline reads no target" in said


def test_a_sentence_of_ten_thousand_words_is_left_out_and_counted(
    fit: Callable[..., None], corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(corpus / "train.en", lambda lines: [*lines[:9], b"now " * 10_000, *lines[10:]])
    fit("--trainer.fast_dev_run", "true")
    said = capfd.readouterr().err.replace(f"{tmp_path}/", "")
    assert (
        "corpus/train.en and corpus/train.es: of 61 training pairs, left out are 1 longer than data.max_length=100 tokens."
        in said
    )


def test_a_checkpoint_with_another_vocabulary(
    fit: Callable[..., None], corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run does not go on with it; a test and a fine-tuning take the checkpoint's, whose languages must be these."""
    fit()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    capfd.readouterr()
    for more, parts in (
        (
            ("--ckpt_path", "last", "--data.text.vocabulary_size", "50"),
            ("source_text.fingerprint", "vocabulary_size: 60, now 50", "--init_from"),
        ),
        (
            ("--init_from", str(last), "--data.source", "es", "--data.target", "en", "--run_dir", "other"),
            ("from 'en' to 'es', but data.source is 'es' and data.target 'en'",),
        ),
    ):
        with pytest.raises(SystemExit) as raised:
            fit(*more)
        assert raised.value.code == 2
        said = capfd.readouterr().err
        assert "Traceback" not in said
        for part in parts:
            assert part in said, said
        assert last.read_bytes() == before
    fit(
        "--init_from",
        str(last),
        "--data.text.vocabulary_size",
        "50",
        "--run_dir",
        "other",
        "--trainer.fast_dev_run",
        "true",
    )
