"""What the tests of the captioning application share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.applications.captioning import CAPTIONING
from tests.contracts.trained import trained
from tests.shape_checks import unchecked


@pytest.fixture(autouse=True)
def _as_shipped() -> Iterator[None]:
    """Without the checks of shape annotations; tests/core makes them."""
    with unchecked():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captioning")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return trained(CAPTIONING, folder)


@pytest.fixture(scope="module")
def pooled_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(CAPTIONING, tmp_path_factory.mktemp("pooled"), variant="pooled")
