"""What docs/translation.md shows works: the config trains, the commands run or parse, the tables name what there is."""

from __future__ import annotations

import inspect
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from apps.translation.__main__ import TRANSLATION
from apps.translation.metrics import signatures, translation_metrics
from apps.translation.predict import predict
from core.nn.decoders.decoder_config import ContextConfig
from core.nn.teacher_forcing import TeacherForcingConfig
from core.training.cli import main
from data.parallel.reading import CorpusConfig
from data.text import TextConfig
from tests.build_only import BuildOnly, Built
from tests.shape_checks import unchecked

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "translation.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"^(?:echo .* \| )?python -m apps\.translation .*$", TEXT, flags=re.MULTILINE)
CHECKPOINT = "runs/translation/pairs/checkpoints/best.ckpt"
NUM_TEST = 4


def _arguments(command: str) -> list[str]:
    (command,) = re.findall(r"python -m apps\.translation (.*)", command)
    return shlex.split(command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the document makes (less of them), its configs, and a checkpoint of a few steps."""
    folder = tmp_path_factory.mktemp("translation")
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        patch.setenv("UNROLL_CACHE", str(folder / "cache"))
        (script,) = re.findall(r"^python - <<'END'\n(.*?)^END$", TEXT, flags=re.DOTALL | re.MULTILINE)
        exec(compile(script, "docs/translation.md", "exec"), {})
        (folder / "pairs").mkdir()
        for language in ("en", "fr"):
            lines = Path(f"my.{language}").read_text(encoding="utf-8").splitlines(keepends=True)
            assert len(lines) == 9000
            # As the document deals them, but for their number.
            for part, some in (("train", lines[:100]), ("val", lines[-1000:-996]), ("test", lines[-NUM_TEST:])):
                Path(f"pairs/{part}.{language}").write_text("".join(some), encoding="utf-8")
        for name, content in zip(("pairs", "words", "deep", "average"), YAML, strict=True):
            Path(f"{name}.yaml").write_text(content, encoding="utf-8")
        few = ["--trainer.max_epochs", "1", "--trainer.num_sanity_val_steps", "0", "--baseline.enabled", "false"]
        main(TRANSLATION, [*_arguments(COMMANDS[0]), *few, "--trainer.accelerator", "cpu"])
        yield folder


@pytest.fixture(autouse=True)
def _in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UNROLL_CACHE", str(folder / "cache"))


def test_the_config_is_a_dozen_lines() -> None:
    assert len(YAML[0].splitlines()) <= 12


def test_fit_leaves_the_files_that_the_document_lists() -> None:
    (listed,) = re.findall(r"```\nruns/translation/pairs/\n(.*?)```", TEXT, flags=re.DOTALL)
    names = set(re.findall(r"(?<=\s)[\w/]+\.(?:ckpt|yaml|jsonl|json|png)", listed))
    assert len(names) == 9
    there = {str(path.relative_to("runs/translation/pairs")) for path in Path("runs/translation/pairs").rglob("*.*")}
    assert names - there == {"test_metrics.json"}  # `test` writes it


@pytest.mark.parametrize("command", [command for command in COMMANDS if " predict " in command])
def test_predict(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command as it stands; what is piped into it comes by standard input."""
    piped = re.fullmatch(r'echo "(.*)" \| .*', command)
    stream = io.TextIOWrapper(io.BytesIO(f"{piped[1]}\n".encode() if piped else b""))
    monkeypatch.setattr(sys, "stdin", stream)
    arguments = _arguments(command)
    main(TRANSLATION, arguments)
    given = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    num_lines = 1 if piped else NUM_TEST * int(given.get("--num_best", 1))
    out = Path(given["--output"]).read_text(encoding="utf-8") if "--output" in given else capsys.readouterr().out
    assert len(out.splitlines()) == num_lines
    if "--num_best" in given:
        assert re.match(r"0 \|\|\| .* \|\|\| -?[\d.e-]+$", out.splitlines()[0])
    if "--alignments" in given:
        assert len(Path(given["--alignments"]).read_text().splitlines()) == num_lines


@pytest.mark.parametrize("command", [command for command in COMMANDS[1:] if " fit " in command])
def test_fit_takes_the_settings_shown(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is built before a training; the training itself takes its time."""
    arguments = _arguments(command)
    if "configs/translation/multi_gpu.yaml" in arguments:
        monkeypatch.chdir(ROOT)
        arguments += ["--trainer.accelerator", "cpu", "--run_dir", str(tmp_path)]
    with pytest.raises(Built):
        BuildOnly(TRANSLATION, arguments)


@pytest.mark.parametrize("name", ["words", "deep", "average"])
def test_a_fragment_goes_after_the_config(name: str, tmp_path: Path) -> None:
    with pytest.raises(Built):
        BuildOnly(TRANSLATION, ["fit", "-c", "pairs.yaml", "-c", f"{name}.yaml", "--run_dir", str(tmp_path)])


def test_the_example_from_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    # What an untrained network says is long, and would be computed twice.
    quick = block.replace("max_epochs=1,", "max_epochs=1, num_sanity_val_steps=0,")
    assert quick != block
    exec(compile(quick, "docs/translation.md", "exec"), {})
    assert "The girls looked for him. -> " in capsys.readouterr().out


@pytest.mark.parametrize("base", [CorpusConfig, TextConfig, ContextConfig, TeacherForcingConfig])
def test_every_choice_is_named(base: type) -> None:
    for choice in base.__subclasses__():
        assert f"`{choice.__name__}`" in TEXT, choice


def test_every_option_of_predict_is_named_and_no_other() -> None:
    options = set(inspect.signature(predict).parameters)
    (part,) = re.findall(r"## New text\n(.*?)\n## ", TEXT, flags=re.DOTALL)
    named = set(re.findall(r"--(\w+)", part))
    assert named <= options
    assert options - named == {"progress"}


def test_the_signatures_are_those_of_sacrebleu() -> None:
    translation_metrics(["a b c d"], ["a b c d"])
    for name, signature in signatures().items():
        shown = signature.split("|version")[0].replace("|", "\\|")
        assert re.search(rf"\| `{name}` \|.*\| `{re.escape(shown)}` \|", TEXT), name


def test_the_checkpoint_is_where_the_commands_look_for_it() -> None:
    assert Path(CHECKPOINT).is_file()
    assert TEXT.count(CHECKPOINT) >= 5


def test_metrics_are_those_that_are_reported() -> None:
    (part,) = re.findall(r"## Metrics\n(.*?)\n## ", TEXT, flags=re.DOTALL)
    reported = yaml.safe_load(Path("runs/translation/pairs/metrics.json").read_text())["metrics"]
    assert set(re.findall(r"^\| `(\w+)`", part, flags=re.MULTILINE)) == set(reported)
