"""The applications as the contracts see them. A new application joins by its module in `applications` and one line here."""

from __future__ import annotations

from tests.contracts.applications.captioning import CAPTIONING
from tests.contracts.applications.forecasting import FORECASTING
from tests.contracts.applications.forecasting_stream import FORECASTING_STREAM
from tests.contracts.applications.translation import TRANSLATION
from tests.contracts.applications.video_classification import VIDEO_CLASSIFICATION
from tests.contracts.case import Case, Run

CASES = (FORECASTING, FORECASTING_STREAM, TRANSLATION, CAPTIONING, VIDEO_CLASSIFICATION)

__all__ = [
    "CAPTIONING",
    "CASES",
    "FORECASTING",
    "FORECASTING_STREAM",
    "TRANSLATION",
    "VIDEO_CLASSIFICATION",
    "Case",
    "Run",
]
