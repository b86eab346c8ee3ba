"""Config dataclasses to plain data and back: what a checkpoint stores must need no class of ours to be read."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterator
from math import isnan
from typing import Any, TypeVar, get_type_hints

import torch

Config = TypeVar("Config")

# Not "kind", which is a setting of some configs.
CLASS = "class"


def to_plain(value: Any) -> Any:
    """Dataclasses become dictionaries with the class name under `class`; containers are walked.

    Raises:
        TypeError: for anything that is no plain data (None, bool, int, float, str, list, dict, tensor).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {CLASS: type(value).__name__, **fields}
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    raise TypeError(f"Expected plain data or a dataclass of it, got {type(value).__name__}.")


def from_plain(base: type[Config], data: dict[str, Any]) -> Config:
    """The config that `to_plain` took apart: `base` itself or the subclass of it that `class` names.

    Raises:
        ValueError: for a class or a key that this version does not know.
    """
    known = {candidate.__name__: candidate for candidate in _with_subclasses(base) if not inspect.isabstract(candidate)}
    name = data.get(CLASS, base.__name__)
    if name not in known:
        raise ValueError(f"Unknown {base.__name__} '{name}'. Known: {', '.join(sorted(known))}.")
    cls = known[name]
    assert dataclasses.is_dataclass(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    values = {key: value for key, value in data.items() if key != CLASS}
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"{name} has no setting '{key}'.{hint}")
    hints = get_type_hints(cls)
    for key, value in values.items():
        if isinstance(value, dict) and dataclasses.is_dataclass(hints.get(key)):
            values[key] = from_plain(hints[key], value)
    return cls(**values)


def _with_subclasses(base: type[Config]) -> Iterator[type[Config]]:
    yield base
    for subclass in base.__subclasses__():
        yield from _with_subclasses(subclass)


def differences(before: Any, now: Any, *, prefix: str = "") -> list[str]:
    """Where two pieces of plain data differ: one line a key, `key: BEFORE, now NOW`."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in [*before, *(key for key in now if key not in before)]:
            path = f"{prefix}.{key}" if prefix else str(key)
            if key not in before or key not in now:
                lines.append(f"{path}: {before.get(key, 'absent')}, now {now.get(key, 'absent')}")
            else:
                lines.extend(differences(before[key], now[key], prefix=path))
        return lines
    if isinstance(before, torch.Tensor) and isinstance(now, torch.Tensor):
        return [] if _same_tensor(before, now) else [f"{prefix}: other values"]
    if before == now or (isinstance(before, float) and isinstance(now, float) and isnan(before) and isnan(now)):
        return []
    return [f"{prefix}: {_short(before)}, now {_short(now)}"]


def _same_tensor(before: torch.Tensor, now: torch.Tensor) -> bool:
    if before.shape != now.shape:
        return False
    # A series without a unit or a scale has NaN there, before and now.
    return bool(((before == now) | (before.isnan() & now.isnan())).all())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
