"""Vocabularies kept between runs: what took a while to learn is learnt once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from data.text import Text, TextConfig, load_text

_FORMAT = 1


def cached_text(config: TextConfig, *, content: str, folder: Path, build: Callable[[], Text]) -> Text:
    """The vocabulary from the cache, or built and kept there.

    Args:
        config: what decides the vocabulary besides the lines.
        content: fingerprint of the lines.
        folder: the cache. Several processes may use it at once: files appear in it whole.
        build: builds the vocabulary.

    Raises:
        ValueError: a file in the cache cannot be read, or what `build` refuses.
    """
    file = folder / "text" / f"{_key(config, content)}.pt"
    if file.is_file():
        try:
            return load_text(torch.load(file, weights_only=True))
        except Exception as error:
            raise ValueError(
                f"{file}, a vocabulary kept from an earlier run, cannot be read. Delete the file."
            ) from error
    text = build()
    _write(file, text.to_plain())
    return text


def _key(config: TextConfig, content: str) -> str:
    # Another version may learn another vocabulary.
    versions = [version(package) for package in ("tokenizers", "sentencepiece", "torchtext")]
    what = json.dumps([_FORMAT, config.to_plain(), content, versions], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _write(file: Path, plain: dict[str, Any]) -> None:
    """Under a temporary name first: nobody ever sees half of it, and who comes last writes the same."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
    except OSError as error:
        raise ValueError(
            f"{file.parent} cannot be written to ({error.strerror}). Set data.cache_dir to another folder."
        ) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            torch.save(plain, stream)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
