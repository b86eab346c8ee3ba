"""How a test turns the run-time checks of shape annotations off."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def as_shipped() -> Iterator[None]:
    """Without annotation checks, as users run it: a wrong shape reaches the check that has to explain it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
