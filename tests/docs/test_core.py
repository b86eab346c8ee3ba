"""The examples of the documents run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from core.training.gradient_flow import GradientFlow

TEXT = (Path(__file__).parents[2] / "docs" / "core.md").read_text(encoding="utf-8")


def test_the_examples_of_the_core_run_one_after_the_other() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "docs/core.md", "exec"), names)
    assert names["summary"].shape == (4, 128)
    assert names["best"].tokens.shape[:2] == (3, 2)
    assert names["best"].attention.shape[-1] == 11
    assert names["scores"].shape == (3, 6, 90)


def test_every_key_of_a_recurrent_layer_is_in_the_table() -> None:
    from dataclasses import fields

    from core.nn.recurrent_config import RecurrentConfig

    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows)))
    assert named == {field.name for field in fields(RecurrentConfig)}


def test_the_callback_takes_the_settings_shown() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    (callback,) = yaml.safe_load(block)["trainer"]["callbacks"]
    assert callback["class_path"].rsplit(".", 1)[-1] == GradientFlow.__name__
    GradientFlow(**callback["init_args"])
