"""The check of a GPU, on the CPU at a small size: it passes, and it sees what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.nn import convolutional
from core.nn.recurrence.scan_cells import ResetBeforeGRUScan
from scripts import gpu_check, parity, parity_networks, parity_recurrent
from scripts.parity import Check, Outcome, Place
from tests.shape_checks import unchecked

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--small", "--device", "cpu", "--parity_only"]


@pytest.fixture(autouse=True)
def _as_shipped() -> Iterator[None]:
    """As on a GPU, where nothing checks annotations: tests/core does."""
    with unchecked():
        yield


def nothing(*, small: bool) -> Iterator[Check]:
    return iter(())


@pytest.mark.processes
def test_from_the_shell_without_what_tests_need(tmp_path: Path) -> None:
    """Parity and timings, with nothing installed but what it says it needs."""
    refused = ("pytest", "hypothesis", "beartype", "pandas", "datasets", "pyarrow", "jsonargparse", "matplotlib")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name.split('.')[0] in {refused!r}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    command = ["bash", "scripts/gpu_check.sh", "--small", "--device", "cpu", "--output", str(tmp_path / "out")]
    command += ["--record", str(tmp_path / "kept" / "gpu_check.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert record["failed"] == 0
    assert record["device"] == "cpu"
    assert record["machine"]
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {check["precision"] for check in record["checks"]} == {"float64", "float32", "bfloat16"}
    kinds = {check["name"].split(",")[0].split()[0] for check in record["checks"]}
    assert kinds >= {"recurrent", "convolutional", "attention", "pooling", "decoder", "search", "parallel", "noise"}
    rows = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    assert "lstm.ragged" in {row["case"] for row in rows}
    kept = json.loads((tmp_path / "kept" / "gpu_check.json").read_text())
    assert kept["rows"] == rows
    assert {name: kept[name] for name in ("commit", "machine", "versions")} == {
        name: record[name] for name in ("commit", "machine", "versions")
    }
    assert sum(line["cases"] for line in kept["parity"]) == len(record["checks"])
    assert all(line["failed"] == 0 and line["worst"] <= line["allowed"] for line in kept["parity"])


def test_a_broken_cell_is_named_and_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state too large by a thousandth, in the fast path alone."""
    right = ResetBeforeGRUScan.forward

    def wrong(self: ResetBeforeGRUScan, projected: Any, before: Any, after: Any, saved: Any) -> None:
        right(self, projected, before, after, saved)
        after.hidden.mul_(1.001)

    monkeypatch.setattr(ResetBeforeGRUScan, "forward", wrong)
    monkeypatch.setattr(parity_networks, "checks", nothing)
    assert gpu_check.main([*SMALL, "--output", str(tmp_path)]) == 1
    failures = [line for line in capsys.readouterr().err.splitlines() if line.startswith("FAILED")]
    assert failures
    assert all(line.startswith("FAILED recurrent gru, 2 x 4, bidirectional, reset before") for line in failures), (
        failures
    )
    assert any("[float64]: differs by" in line for line in failures)
    record = json.loads((tmp_path / "parity.json").read_text())
    assert record["failed"] == len(failures)
    assert {check["name"] for check in record["checks"] if not check["passed"]} == {
        line.removeprefix("FAILED ").rpartition(" [")[0] for line in failures
    }


def test_a_case_that_raises_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(convolutional, "conv_lstm_update", refuse)
    monkeypatch.setattr(parity_recurrent, "checks", nothing)
    assert gpu_check.main([*SMALL, "--output", str(tmp_path)]) == 1
    assert "RuntimeError: no kernel image is available" in capsys.readouterr().err
    record = json.loads((tmp_path / "parity.json").read_text())
    failed = [check for check in record["checks"] if not check["passed"]]
    assert record["failed"] == len(failed) == 3
    assert all(check["error"] is None and check["name"].startswith("convolutional") for check in failed)


def test_a_record_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for record, said in (
        (tmp_path, "--record must be a file to write"),
        (tmp_path / "file" / "x.json", "cannot be made"),
    ):
        with pytest.raises(SystemExit) as stopped:
            gpu_check.main([*SMALL, "--output", str(tmp_path / "out"), "--record", str(record)])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main(["--device", "cuda"])
    assert stopped.value.code == 2
    assert "there is no cuda for PyTorch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ({"x": torch.tensor([1.0, 2.0])}, {"x": torch.tensor([1.0, 2.1])}),
        ({"x": torch.tensor([torch.nan, 2.0])}, {"x": torch.tensor([1.0, 2.0])}),
        ({"a": torch.tensor([torch.nan]), "x": torch.tensor([2.0])}, {"a": torch.ones(1), "x": torch.tensor([2.0])}),
        ({"x": torch.tensor([1, 2])}, {"x": torch.tensor([1, 3])}),
        ({"x": torch.tensor([[1.0]])}, {"x": torch.tensor([1.0])}),
        ({"x": torch.tensor([1.0])}, {"x": torch.tensor([1.0]), "y": torch.tensor([1.0])}),
        ({"gradient of x": torch.tensor([torch.inf])}, {"gradient of x": torch.tensor([1.0])}),
    ],
)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_what_differs_is_seen(got: Any, expected: Any, precision: Any) -> None:
    """In a value, a shape, a name, a whole number; NaN and infinity are no small differences."""
    (outcome,) = outcomes(got, expected, precision)
    assert not outcome.passed
    assert outcome.message


def test_what_bfloat16_is_asked() -> None:
    """Values near, gradients finite."""
    near = {"x": torch.tensor([1.05]), "gradient of x": torch.tensor([3.0])}
    expected = {"x": torch.tensor([1.0]), "gradient of x": torch.tensor([1.0])}
    assert outcomes(near, expected, "bfloat16")[0].passed
    assert not outcomes(near, expected, "float32")[0].passed
    assert not outcomes({**near, "gradient of x": torch.tensor([torch.nan])}, expected, "bfloat16")[0].passed


def outcomes(got: Any, expected: Any, precision: Any) -> list[Outcome]:
    def compute(place: Place) -> Any:
        assert place.precision == precision
        assert torch.is_autocast_enabled("cpu") == (precision == "bfloat16")
        return got

    wanted = {name: value.double() if value.is_floating_point() else value for name, value in expected.items()}
    return parity.run(
        [Check("case", compute, lambda: wanted, (precision,))], torch.device("cpu"), report=lambda outcome: None
    )
