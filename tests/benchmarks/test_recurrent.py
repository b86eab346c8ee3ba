"""The rows of the core, at sizes that show no more than that all of it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import recurrent
from core.training.process import matmul
from tests.shape_checks import unchecked

# What bfloat16 leaves of a product, as on CPUs with matrix units (AMX), and what float32 does.
ERRORS = {"rounding": 3.2e-3, "exact": 1e-6}


@pytest.mark.parametrize("cpu", ERRORS)
def test_rows_with_the_switch_are_there_where_products_stay_float32(
    cpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matmul, "matmul_error", lambda: ERRORS[cpu])
    monkeypatch.setattr(recurrent, "CASES", {"gru.dense": recurrent.CASES["gru.dense"]})
    monkeypatch.setattr(recurrent, "FLAGGED", ("gru.dense",))
    # Whether the values agree under the switch is a matter of the machine that this runs on.
    monkeypatch.setattr("benchmarks.case.TOLERANCE", 1.0)
    with unchecked():
        assert recurrent.main(["--small", "--pairs", "3", "--output", str(tmp_path / "rows.json")]) == 0
    rows = [row["case"] for row in json.loads((tmp_path / "rows.json").read_text())]
    assert rows == (["gru.dense", "gru.dense.flag"] if cpu == "exact" else ["gru.dense"])
    assert ("left out: onednn_matmul: true would round" in capsys.readouterr().err) == (cpu == "rounding")


def test_such_a_row_by_name_is_refused_where_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matmul, "matmul_error", lambda: ERRORS["rounding"])
    with pytest.raises(SystemExit) as end:
        recurrent.main(["--small", "--only", "gru.dense.flag"])
    assert end.value.code == 2
    assert "no rows that end in .flag: onednn_matmul: true would round" in capsys.readouterr().err
