"""Every shipped YAML is commented, parses, and builds its classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.captioning.__main__ import CAPTIONING
from apps.forecasting.__main__ import FORECASTING
from apps.translation.__main__ import TRANSLATION
from apps.video_classification.__main__ import VIDEO_CLASSIFICATION
from core.training.cli import Application
from tests.build_only import BuildOnly, Built

ROOT = Path(__file__).resolve().parents[2]
APPLICATIONS = {
    "forecasting": FORECASTING,
    "translation": TRANSLATION,
    "captioning": CAPTIONING,
    "video_classification": VIDEO_CLASSIFICATION,
}
ALL = sorted((ROOT / "configs").glob("*/*.yaml"))
CLUSTER = [path for path in ALL if path.parent.name == "cluster"]  # of all applications
CONFIGS = [path for path in ALL if path not in CLUSTER]


def _application(path: Path) -> Application:
    return APPLICATIONS[path.parent.name]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_builds(path: Path, tmp_path: Path) -> None:
    arguments = ["fit"]
    if path.stem.startswith("multi_gpu"):
        # A fragment: it goes after an experiment, and there may be no GPU here.
        arguments += ["-c", str(path.parent / "demo.yaml"), "-c", str(path), "--trainer.accelerator", "cpu"]
    else:
        arguments += ["-c", str(path)]
    with pytest.raises(Built):
        BuildOnly(_application(path), [*arguments, "--run_dir", str(tmp_path)])


@pytest.mark.parametrize("path", CLUSTER, ids=lambda path: path.stem)
@pytest.mark.parametrize("application", APPLICATIONS)
def test_a_fragment_for_clusters_builds(path: Path, application: str, tmp_path: Path) -> None:
    configs = ROOT / "configs" / application
    files = [configs / "demo.yaml", configs / "multi_gpu.yaml", path]
    arguments = ["fit", *(word for file in files for word in ("-c", str(file))), "--trainer.accelerator", "cpu"]
    with pytest.raises(Built):
        BuildOnly(APPLICATIONS[application], [*arguments, "--run_dir", str(tmp_path)])
    assert "sbatch " in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_says_what_it_is_and_how_to_run_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"python -m apps.{path.parent.name} fit -c configs/{path.parent.name}/" in text


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_sizes_say_their_unit(path: Path) -> None:
    """A number of steps, windows, pairs or pieces without its unit cannot be changed with confidence."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(
            r"\s*(context|horizon|batch_size|segment_size|token_budget|frame_budget|num_frames|vocabulary_size): *\d",
            line,
        ):
            assert "#" in line, line


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("forecasting", "contxt", "context"),
        ("translation", "batch_sise", "batch_size"),
        ("captioning", "transfrm", "transform"),
    ],
)
def test_every_key_of_a_yaml_is_a_key_of_the_command_line(name: str, wrong: str, right: str, tmp_path: Path) -> None:
    """What `fit` refuses in a YAML it names; nothing is dropped on the way."""
    file = tmp_path / "wrong.yaml"
    content: dict[str, Any] = yaml.safe_load((ROOT / f"configs/{name}/demo.yaml").read_text())
    content["data"][wrong] = 3
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(Exception, match=wrong) as raised:
        BuildOnly(APPLICATIONS[name], ["fit", "-c", str(file), "--run_dir", str(tmp_path)])
    assert f"Did you mean 'data.{right}'" in str(raised.value)
