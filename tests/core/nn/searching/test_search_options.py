"""Settings of search that are wrong, or do nothing, are refused."""

import math
from typing import Any

import pytest

from core.nn.searching.search_options import BeamConfig, GreedyConfig, SamplingConfig, SpecialTokens


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_length": 0}, "1 <= min_length <= max_length, got 1 and 0"),
        ({"min_length": 0}, "got 0 and 8"),
        ({"min_length": 9}, "got 9 and 8"),
        ({"max_length_ratio": 0.0}, "max_length_ratio must be a number above 0, got 0.0"),
        ({"max_length_ratio": math.nan}, "max_length_ratio must be a number above 0, got nan"),
        ({"max_length_offset": 3}, "max_length_offset=3 does nothing without max_length_ratio"),
        ({"no_repeat_ngram": 0}, "no_repeat_ngram must be at least 1 and below max_length=8"),
        ({"no_repeat_ngram": 8}, r"below max_length=8 \(longer runs cannot occur twice\), got 8"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "needed"), [(GreedyConfig, {}), (BeamConfig, {"beam_size": 2}), (SamplingConfig, {"seed": 0})]
)
def test_limits(kind: Any, needed: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{"max_length": 8, **needed, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"beam_size": 0}, "beam_size must be at least 1, got 0"),
        ({"num_best": 0}, "num_best must be between 1 and beam_size=4, got 0"),
        ({"num_best": 5}, "num_best must be between 1 and beam_size=4, got 5"),
        ({"length_penalty": math.inf}, "length_penalty must be finite, got inf"),
        ({"coverage_penalty": -0.1}, "coverage_penalty must be finite and at least 0, got -0.1"),
        ({"coverage_penalty": math.nan}, "coverage_penalty must be finite and at least 0, got nan"),
        ({"patience": 0.5}, "patience must be at least 1, got 0.5"),
        ({"patience": math.nan}, "patience must be at least 1, got nan"),
    ],
)
def test_beam(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BeamConfig(**{"beam_size": 4, "max_length": 8, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": -1}, r"seed must be between 0 and 2 \*\* 32 - 1, got -1"),
        ({"seed": 2**32}, "got 4294967296"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be a number above 0, got 0.0. For the likeliest token use greedy"),
        ({"temperature": math.inf}, "temperature must be a number above 0, got inf"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": 1, "num_samples": 2}, "top_k=1 draws the same 2 times"),
        ({"top_p": 0.0}, "top_p must be above 0 and below 1, got 0.0"),
        ({"top_p": 1.0}, "top_p must be above 0 and below 1, got 1.0. To draw from all tokens leave it out"),
    ],
)
def test_sampling(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**{"seed": 0, "max_length": 8, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bos": -1}, "bos must be a token id, at least 0, got -1"),
        ({"eos": -1}, "eos must be a token id, at least 0, got -1"),
        ({"forbidden": (-2,)}, "forbidden must hold token ids, at least 0, got -2"),
        ({"forbidden": (3, 2)}, "forbidden holds 2, the end of sequence: no hypothesis could end"),
    ],
)
def test_special_tokens(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecialTokens(**{"bos": 1, "eos": 2, "pad": 0, **changed})


def test_the_longest_length_follows_the_source() -> None:
    config = GreedyConfig(max_length=20, min_length=4, max_length_ratio=1.5, max_length_offset=2)
    assert config.longest([1, 3, 5, 11, 12, 40]) == [4, 6, 9, 18, 20, 20]
    assert GreedyConfig(max_length=20).longest([1, 40]) == [20, 20]
