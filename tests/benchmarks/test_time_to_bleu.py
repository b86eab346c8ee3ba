"""The time to the rival's BLEU: who got there when, and what becomes of the others when a side ends before its time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.time_to_bleu import compare, cpus_of_their_own, measure_time_to_bleu, reached
from benchmarks.translation_rows import Sizes
from benchmarks.worker import Worker, WorkerError

ANSWERS = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)["request"]
    answer = ANSWERS[request]
    if answer == "end":
        sys.exit("out of memory")
    if answer == "wait":
        sys.stdin.read()
    print(json.dumps({"cpus": sorted(os.sched_getaffinity(0))} if answer == "cpus" else answer), flush=True)
"""
TEXTS = ["a dog runs through the red house.", "the man sees a dog in a house."]
TRAINED: dict[str, Any] = {
    "describe": {"num_pairs": 160},
    "train": {"seconds": 60.0, "ended": True},
    "translate": {"texts": TEXTS},
    "validated": {"ended": False},
}


def worker(name: str, folder: Path, *, cpus: set[int] | None = None, **answers: Any) -> Worker:
    command = [sys.executable, "-c", ANSWERS.replace("ANSWERS", repr(answers))]
    return Worker(name, command=command, log=folder / f"{name}.log", num_threads=1, cpus=cpus)


def measured(rival: Worker, ours: dict[str, Worker]) -> Any:
    task: Any = SimpleNamespace(batch_size=80, beam_size=5)
    data: Any = SimpleNamespace(references=lambda part: TEXTS)
    return measure_time_to_bleu(rival, ours, rival_name="theirs", task=task, data=data, sizes=Sizes())


@given(
    bleu=st.lists(st.floats(0, 100), min_size=1, max_size=8),
    target=st.floats(0, 100),
)
def test_the_time_to_a_score_is_that_of_the_first_one_as_good(bleu: list[float], target: float) -> None:
    curve = [(float(place), value) for place, value in enumerate(bleu)]
    found = reached(curve, target)
    if found is None:
        assert max(bleu) < target
    else:
        assert bleu[int(found)] >= target > max(bleu[: int(found)], default=-1.0)


def test_who_does_not_get_there_is_no_row_but_a_sentence() -> None:
    rival = [(1.0, 10.0), (2.0, 30.0), (3.0, 29.0)]
    found = compare(rival, {"": [(0.5, 30.5)], ".bf16": [(0.2, 12.0), (0.4, 11.0)]}, rival_name="theirs")
    (row,) = found.rows
    assert (row.case, row.ours, row.rival, row.ratio) == ("translation.time_to_bleu", 0.5, 2.0, 4.0)
    (sentence,) = found.missed
    assert sentence.startswith("translation.time_to_bleu.bf16: theirs reached BLEU 30.00 in 2.0 min; ours got to 12.00")
    assert "--epochs" in sentence


@pytest.mark.processes
def test_both_are_scored_as_often_by_their_own_clocks(tmp_path: Path) -> None:
    sides = [worker(name, tmp_path, **TRAINED) for name in ("rival", "ours")]
    found = measured(sides[0], {"": sides[1]})
    assert [(row.ours, row.rival) for row in found.rows] == [(1.0, 1.0)]
    for side in sides:
        side.close()


@pytest.mark.processes
@pytest.mark.parametrize("faulty", ["rival", "ours"])
def test_a_side_that_ends_before_its_time_ends_the_others(tmp_path: Path, faulty: str) -> None:
    sides = {
        name: worker(name, tmp_path, **{**TRAINED, "train": "end" if name == faulty else "wait"})
        for name in ("rival", "ours")
    }
    with pytest.raises(WorkerError, match=rf"(?s){faulty} ended with status 1 when asked to train.*out of memory"):
        measured(sides["rival"], {"": sides["ours"]})
    for side in sides.values():
        assert side.process.wait(timeout=10) != 0
        side.close()


def test_each_side_has_cpus_of_its_own_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 2, 4, 5})
    assert cpus_of_their_own(2) == ({2, 4}, {5, 7})
    assert cpus_of_their_own(3) == (None, None)


@pytest.mark.processes
def test_a_side_runs_on_its_cpus(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    side = worker("pinned", tmp_path, cpus={cpu}, where="cpus")
    assert side.ask("where") == {"cpus": [cpu]}
    side.close()
