"""The generated sets, made once a process, and not before a test reads them: collection should take no seconds for them."""

from __future__ import annotations

from functools import cache

from data.demo.clauses import generate as generate_clauses
from data.demo.clauses_sentences import Pair
from data.demo.scenes import Example
from data.demo.scenes import generate as generate_scenes


@cache
def clauses() -> dict[str, list[Pair]]:
    return generate_clauses()


@cache
def pairs() -> list[Pair]:
    """Of all parts."""
    return [pair for part in clauses().values() for pair in part]


@cache
def scenes() -> dict[str, list[Example]]:
    return generate_scenes()


@cache
def examples() -> list[Example]:
    """Of all parts."""
    return [example for part in scenes().values() for example in part]
