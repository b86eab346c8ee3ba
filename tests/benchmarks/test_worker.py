"""A training that is told over a pipe what to do: the answering side's account of its steps."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.worker import Gate, StepSize

ONE_STEP = StepSize(sentences=2, target_tokens=5, padded_target_tokens=8, tokens=11, padded_tokens=16)


@given(blocks=st.lists(st.integers(1, 5), max_size=6), num_steps=st.integers(0, 12))
def test_a_gate_lets_the_steps_pass_that_were_asked_for(blocks: list[int], num_steps: int) -> None:
    """Every step is in one block, in order, and one more request after the last gets an answer without steps."""
    requests = "".join(json.dumps({"request": "train", "steps": steps}) + "\n" for steps in blocks)
    answers = io.StringIO()
    gate = Gate({}, requests=io.StringIO(requests), answers=answers)
    passed: list[StepSize] = []

    def train() -> None:
        for _ in range(num_steps):
            gate.pass_step(ONE_STEP)
            passed.append(ONE_STEP)
        gate.training_ended()

    with pytest.raises(SystemExit):  # when nobody asks any more
        train()
    assert len(passed) == min(num_steps, sum(blocks))
    found = [json.loads(line) for line in answers.getvalue().splitlines()]
    left = num_steps
    for answer, steps in zip(found, blocks, strict=False):
        expected = min(steps, left)
        left -= expected
        assert answer["steps"] == expected
        assert answer["target_tokens"] == 5 * expected
        assert answer["padded_tokens"] == 16 * expected
    # A block is answered at the gate of the step after it, or at the end.
    assert len(found) == len(blocks)


def test_a_gate_answers_between_steps() -> None:
    lines = [{"request": "double", "of": 4}, {"request": "train", "steps": 1}, {"request": "double", "of": 1}]
    answers = io.StringIO()
    handlers = {"double": lambda request: {"twice": 2 * request["of"]}}
    gate = Gate(handlers, requests=io.StringIO("\n".join(map(json.dumps, lines))), answers=answers)
    gate.pass_step(ONE_STEP)
    assert json.loads(answers.getvalue()) == {"twice": 8}
    with pytest.raises(SystemExit):
        gate.pass_step(ONE_STEP)
    assert [sorted(json.loads(line)) for line in answers.getvalue().splitlines()[1:]] == [
        sorted(["seconds", "cpu_seconds", "steps", "ended", *StepSize.__dataclass_fields__]),
        ["twice"],
    ]
