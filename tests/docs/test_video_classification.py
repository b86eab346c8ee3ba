"""What docs/video_classification.md shows works: the config trains, the commands run, the tables name what there is."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.video_classification.__main__ import VIDEO_CLASSIFICATION
from apps.video_classification.network import NetworkConfig
from apps.video_classification.predict import predict
from core.training.cli import main
from data.videos.corpus import VideoCorpusConfig
from data.videos.sampling import SamplingConfig
from scripts.scan_videos import main as scan
from tests.shape_checks import unchecked

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "video_classification.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"^python -m apps\.video_classification (.*)$", TEXT, flags=re.MULTILINE)
SCANS = re.findall(r"^python -m scripts\.scan_videos (.*)$", TEXT, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with some of the videos that the document makes, its config, and a checkpoint of a few steps."""
    pytest.importorskip("efficientnet_lite_pytorch")
    folder = tmp_path_factory.mktemp("video_classification")
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        (script,) = re.findall(r"^python - <<'END'\n(.*?)^END$", TEXT, flags=re.DOTALL | re.MULTILINE)
        exec(compile(script, "docs/video_classification.md", "exec"), {})
        videos = sorted(Path("clips").glob("*/*.mp4"))
        assert len(videos) == 408
        assert len({video.parent for video in videos}) == 3
        for video in videos:
            if not re.search(r"source0[0-7]_0\.", video.name):
                video.unlink()
        patch.setenv("UNROLL_CACHE", str(folder / "cache"))
        Path("clips.yaml").write_text(YAML[0], encoding="utf-8")
        few = ["--trainer.max_epochs", "1", "--baseline.enabled", "false", "--trainer.accelerator", "cpu"]
        main(VIDEO_CLASSIFICATION, [*shlex.split(COMMANDS[0]), *few])
        yield folder


@pytest.fixture(autouse=True)
def _in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UNROLL_CACHE", str(folder / "cache"))


def test_the_config_is_a_dozen_lines() -> None:
    assert len(YAML[0].splitlines()) <= 13


def test_the_scan_runs(folder: Path) -> None:
    (command,) = SCANS
    scan(shlex.split(command))
    assert len(Path("manifest.jsonl").read_text(encoding="utf-8").splitlines()) >= 24


def test_the_commands_run(folder: Path) -> None:
    """The second command tests, the others predict."""
    assert [command.split()[0] for command in COMMANDS] == ["fit", "test", "predict", "predict", "predict"]
    main(VIDEO_CLASSIFICATION, [*shlex.split(COMMANDS[1]), "--trainer.accelerator", "cpu"])
    lines = Path("runs/video_classification/clips/test_predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert 3 <= len(lines) <= 6
    for video in Path("clips").glob("*/*.mp4"):  # one of each class is enough to see that it runs
        if "source00_0." not in video.name:
            video.unlink()
    for command in COMMANDS[2:]:
        main(VIDEO_CLASSIFICATION, [*shlex.split(command), "--device", "cpu"])
    number = len(list(Path("clips").glob("*/*.mp4")))
    assert number == 3
    found = [json.loads(line) for line in Path("over_time.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(found) == len(Path("classes.jsonl").read_text(encoding="utf-8").splitlines()) == number
    for one in found:
        assert one["over_time"][-1]["class"] == one["class"]
        assert one["over_time"][-1]["probability"] == pytest.approx(one["probability"], abs=1e-4)
    assert len(list(Path("pictures").iterdir())) == 3


def test_the_lines_of_python_run(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    capsys.readouterr()
    exec(compile(script, "docs/video_classification.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(".mp4" in line and len(line.split()) > 1 for line in lines)


def _subclasses(kind: type) -> set[str]:
    return {each.__name__ for each in kind.__subclasses__() if each.__module__.startswith(("data.", "apps."))}


@pytest.mark.parametrize(
    ("heading", "base"),
    [
        ("## Where videos", VideoCorpusConfig),
        ("## Which frames", SamplingConfig),
        ("## The network", NetworkConfig),
    ],
)
def test_the_tables_are_complete(heading: str, base: type) -> None:
    section = TEXT.split(heading)[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \| ", section, flags=re.MULTILINE)) == _subclasses(base)


def test_every_option_of_predict_that_is_shown_exists() -> None:
    known = set(inspect.signature(predict).parameters)
    shown = {
        option for command in COMMANDS if command.startswith("predict") for option in re.findall(r"--(\w+)", command)
    }
    assert shown <= known
