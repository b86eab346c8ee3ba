"""JSON that holds captions, read with errors that name the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.corpora import some
from data.parallel.files import read_text


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object that a file is.

    Raises:
        ValueError: it is no UTF-8, no JSON or no object; the message has the line.
    """
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}, line {error.lineno}, column {error.colno}: no JSON ({error.msg}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {_shown(content)}, but must hold a JSON object.")
    return content


_KINDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


def field(holder: Any, key: str, *kinds: type, where: str) -> Any:
    """What an object of JSON holds under a key.

    Args:
        holder: the object.
        key: the key.
        kinds: what it may be: str, int, list or dict.
        where: place of the object, for messages.

    Raises:
        ValueError: the holder is no object, lacks the key or holds something else.
    """
    expected = " or ".join(_KINDS[kind] for kind in kinds)
    if not isinstance(holder, dict):
        raise ValueError(f"{where}: {_shown(holder)} is no JSON object. It must be one with {key!r}, {expected}.")
    if key not in holder:
        raise ValueError(f"{where}: {key!r} is missing. There are: {some(list(map(repr, holder))) or 'no keys'}.")
    value = holder[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{where}: {key!r} is {_shown(value)}, but must be {expected}.")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
