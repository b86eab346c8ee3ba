"""The nearest known key for one that is misspelt."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

UNKNOWN = (
    re.compile(r"[Oo]ption '(?P<key>[\w.]+)' is not accepted"),
    re.compile(r"does not accept option '(?P<key>[\w.]+)'"),
    re.compile(r"unrecognized arguments: --(?P<key>[\w.]+)"),
    re.compile(r"[Kk]ey '(?P<key>[\w.]+)' is not expected"),
)
CLASS_NAME = re.compile(r"Parser key \"(?P<key>[\w.]+)\"(?s:.*)Expected a dot import path string: (?P<name>\w+)")
CLASS = re.compile(r"class_path '(?P<path>[\w.]+)'")
MARK = "\nDid you mean"
KNOWN = "\nKnown:"


def with_nearest_key(message: str, parser: ArgumentParser) -> str:
    """The parser's message, with the nearest known key or class where it complains about an unknown one."""
    if (
        MARK.strip() in message or KNOWN.strip() in message
    ):  # parsers are nested, and each adds to what the inner one said
        return message
    name = CLASS_NAME.search(message)
    if name is not None:
        return message + _hint(name["name"], _classes(parser, name["key"]))
    match = next((found for pattern in UNKNOWN if (found := pattern.search(message))), None)
    if match is None:
        return message
    owner = CLASS.search(message)
    if owner is None:
        near = difflib.get_close_matches(match["key"], _keys(parser), n=1, cutoff=0.5)
        return f"{message}{MARK} '{near[0]}'?" if near else message
    return message + _hint(match["key"], _parameters(owner["path"]))


def _hint(name: str, known: list[str]) -> str:
    if not known:
        return ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"{MARK} '{near[0]}'?" if near else f"{KNOWN} {', '.join(known)}."


def _keys(parser: ArgumentParser) -> list[str]:
    keys = {action.dest for each in _with_subparsers(parser) for action in each._actions}
    return sorted(keys - {"help", "subcommand"})


def _classes(parser: ArgumentParser, key: str) -> list[str]:
    """Names of the classes that a key of this name can take."""
    for each in _with_subparsers(parser):
        for action in each._actions:
            kind = getattr(action, "_typehint", None)
            if action.dest == key:
                # Of several types, such as one logger or a list or true, the classes that are not Python's own.
                kinds = [kind] if inspect.isclass(kind) else [one for one in get_args(kind) if inspect.isclass(one)]
                ours = [
                    one
                    for one in kinds
                    if one.__module__ != "builtins" and not one.__module__.startswith("collections")
                ]
                return sorted({name.__name__ for one in ours for name in _concrete(one)})
    return []


def _concrete(base: type) -> list[type]:
    found = [] if inspect.isabstract(base) else [base]
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        found += _concrete(subclass)
    return found


def _with_subparsers(parser: ArgumentParser) -> list[ArgumentParser]:
    action = parser._subcommands_action
    return [parser, *(action.choices.values() if action and action.choices else ())]


def _parameters(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
