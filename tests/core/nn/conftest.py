"""How a test turns the run-time checks of shape annotations off."""

from collections.abc import Iterator

import pytest

from tests.shape_checks import unchecked


@pytest.fixture
def as_shipped() -> Iterator[None]:
    """Without annotation checks, as users run it: a wrong shape reaches the check that has to explain it."""
    with unchecked():
        yield
