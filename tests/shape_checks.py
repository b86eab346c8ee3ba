"""Checks of shape annotations at run time: each is built once, at the first call that it checks.

Building one takes milliseconds, and a function within a function would have its own built whenever it is defined anew,
as the steps of a decoder are in every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
from beartype import beartype

_BUILT: dict[Hashable, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype.beartype(function)`, later, for the functions that jaxtyping makes to hold annotations and nothing else.

    They have no closure and no body of their own, so those of one place with the same annotations are one.
    """
    annotations = tuple((name, repr(annotation)) for name, annotation in function.__annotations__.items())
    key = (function.__module__, function.__qualname__, function.__code__, annotations)

    def check(*args: Any, **kwargs: Any) -> Any:
        built = _BUILT.get(key)
        if built is None:
            built = _BUILT[key] = beartype(function)
        return built(*args, **kwargs)

    return _BUILT.get(key, check)


@contextmanager
def unchecked() -> Iterator[None]:
    """As users run it: without checks, and without those that functions within functions are given as they are defined."""
    jaxtyped = jaxtyping.jaxtyped

    def decorator(*, typechecker: Any) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            is_inner = "<locals>" in getattr(function, "__qualname__", "")
            return function if is_inner else jaxtyped(function, typechecker=typechecker)

        return decorate

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    jaxtyping.jaxtyped = decorator  # type: ignore[assignment]
    try:
        yield
    finally:
        jaxtyping.jaxtyped = jaxtyped
        jaxtyping.config.update("jaxtyping_disable", before)
