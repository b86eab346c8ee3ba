"""What the tests of the translation application share."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from apps.translation.module import TranslationModule
from tests.contracts.applications.translation import TRANSLATION, write_corpus
from tests.contracts.trained import trained
from tests.shape_checks import unchecked

MakeModule = Callable[..., TranslationModule]

LINES = ["the red house", "", "now", "never the smallest horse reads", "  ", "the house sees"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the contracts' corpus, and the vocabularies learnt from it."""
    folder = tmp_path_factory.mktemp("translation")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def make_module(folder: Path) -> MakeModule:
    """`make_module(variant)`: a network of the contracts in float64, its weights large enough that sentences differ."""

    def make(variant: str) -> TranslationModule:
        run = TRANSLATION.make(folder, variant=variant)
        run.data.prepare_data()
        module = run.module
        module.build(run.data.preprocessing())
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.double().parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        assert isinstance(module, TranslationModule)
        return module.eval()

    return make


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with attention."""
    return trained(TRANSLATION, tmp_path_factory.mktemp("attention"), variant="after")


@pytest.fixture(scope="session")
def checkpoint_without_attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that reads one fixed context."""
    return trained(TRANSLATION, tmp_path_factory.mktemp("fixed"), variant="fixed")


@pytest.fixture(scope="session")
def bag_of_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The feed-forward network."""
    return trained(TRANSLATION, tmp_path_factory.mktemp("bag_of_words"), variant="bag_of_words")


@pytest.fixture(scope="module")
def as_shipped() -> Iterator[None]:
    """Without the checks of shape annotations, which take four fifths of a decoder's time."""
    with unchecked():
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of `LINES`."""
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """`stdin(content)`: what standard input then holds."""

    def _stdin(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return _stdin
