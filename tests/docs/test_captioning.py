"""What docs/captioning.md shows works: the config trains, the commands run, the tables name what there is."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from apps.captioning.__main__ import CAPTIONING
from apps.captioning.predict import predict
from core.training.cli import main
from data.captions.corpus import CaptionCorpusConfig
from tests.build_only import BuildOnly, Built
from tests.shape_checks import unchecked

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "captioning.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"^python -m apps\.captioning (.*)$", TEXT, flags=re.MULTILINE)
NUM_TRAIN = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the document makes, its config, and a checkpoint of a few steps on some of the images."""
    pytest.importorskip("efficientnet_lite_pytorch")
    folder = tmp_path_factory.mktemp("captioning")
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        patch.setenv("UNROLL_CACHE", str(folder / "cache"))
        (script,) = re.findall(r"^python - <<'END'\n(.*?)^END$", TEXT, flags=re.DOTALL | re.MULTILINE)
        exec(compile(script, "docs/captioning.md", "exec"), {})
        assert len(list(Path("photos/images").iterdir())) == 600
        for part, number in (("train", NUM_TRAIN), ("validation", 4), ("test", 6)):
            file = Path(f"photos/{part}.csv")
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[: 1 + 5 * number]), encoding="utf-8")
        Path("photos.yaml").write_text(YAML[0], encoding="utf-8")
        few = ["--trainer.max_epochs", "1", "--trainer.num_sanity_val_steps", "0", "--baseline.enabled", "false"]
        main(CAPTIONING, [*shlex.split(COMMANDS[0]), *few, "--trainer.accelerator", "cpu"])
        yield folder


@pytest.fixture(autouse=True)
def _in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UNROLL_CACHE", str(folder / "cache"))


def test_the_config_is_a_dozen_lines() -> None:
    assert len(YAML[0].splitlines()) <= 12


def test_the_stages_parse_and_build(folder: Path) -> None:
    content = {**yaml.safe_load(YAML[0]), **yaml.safe_load(YAML[1])}
    Path("stages.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(Built):
        BuildOnly(CAPTIONING, ["fit", "-c", "stages.yaml", "--run_dir", "stages", "--trainer.accelerator", "cpu"])


def test_the_commands_run(folder: Path) -> None:
    """The second command tests, the others predict."""
    assert [command.split()[0] for command in COMMANDS] == ["fit", "test", "predict", "predict", "predict"]
    main(CAPTIONING, [*shlex.split(COMMANDS[1]), "--trainer.accelerator", "cpu"])
    lines = Path("runs/captioning/photos/test_captions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    # Few images are enough to see that it runs.
    for image in sorted(Path("photos/images").iterdir()):
        if image.name not in ("test_000.png", "test_001.png"):
            image.unlink()
    for command in COMMANDS[2:]:
        main(CAPTIONING, [*shlex.split(command), "--device", "cpu"])
    best3 = [json.loads(line) for line in Path("best3.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [len(one["hypotheses"]) for one in best3] == [3, 3]
    assert len(list(Path("maps").iterdir())) == 6
    with Image.open(next(Path("maps").iterdir())) as picture:
        assert min(picture.size) > 100
    assert len(Path("captions.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_the_lines_of_python_run(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    capsys.readouterr()
    exec(compile(script, "docs/captioning.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert [line.split()[0] for line in lines] == [
        "test_000.png",
        "test_001.png",
    ]  # what a network of few steps says is its own


def test_the_table_of_corpora_is_complete() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| ", TEXT.partition("## The network")[0], flags=re.MULTILINE)) == {
        kind.__name__ for kind in CaptionCorpusConfig.__subclasses__() if kind.__module__.startswith("data.")
    }


def test_every_option_of_predict_that_is_shown_exists() -> None:
    known = set(inspect.signature(predict).parameters)
    shown = {
        option for command in COMMANDS if command.startswith("predict") for option in re.findall(r"--(\w+)", command)
    }
    assert shown <= known
