"""The experiments of docs/notes.md: the tools they are made with, and that every one runs and is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.notes import plots, running, tasks
from benchmarks.notes.catalogue import EXPERIMENTS
from benchmarks.notes.experiment import Experiment, Measured, Record, figure, significant, told_apart
from benchmarks.notes.learning import ManyToOne, count_parameters, fit, widest
from benchmarks.notes.reductions import best_first_answer
from benchmarks.notes.running import Job
from benchmarks.notes.truncation import _Held
from core.nn.recurrent import RecurrentConfig

MACHINE_DEPENDENT = {"seconds"}


@given(budget=st.integers(60, 3000), kind=st.sampled_from(["rnn_tanh", "lstm", "gru"]))
@settings(deadline=None, max_examples=20)
def test_widest_is_within_the_budget_and_one_unit_more_is_not(budget: int, kind: Any) -> None:
    def build(width: int) -> ManyToOne:
        return ManyToOne(RecurrentConfig(kind=kind, hidden_size=width), input_size=2, num_outputs=1)

    network = widest(build, num_parameters=budget)
    assert isinstance(network, ManyToOne)
    assert count_parameters(network) <= budget
    assert count_parameters(build(network.recurrent.config.hidden_size + 1)) > budget


def test_fit_learns_and_tests_at_the_end() -> None:
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    inputs = torch.randn(64, 2)
    wanted = inputs @ torch.tensor([[1.0], [-2.0]])
    modes = []

    def test() -> float:
        modes.append(network.training)
        return float((network(inputs) - wanted).square().mean())

    curve = fit(
        network, lambda _: (network(inputs) - wanted).square().mean(), num_updates=103, lr=0.1, test=test, num_tests=10
    )
    assert curve["x"][-1] == 103
    assert len(curve["x"]) == len(curve["y"]) == len(modes)
    assert not any(modes)
    assert curve["y"][-1] < 1e-3 < curve["y"][0]


def test_memory_is_what_the_graph_keeps_without_the_weights() -> None:
    network = nn.Linear(256, 1024)
    inputs = torch.randn(512, 256)
    with _Held() as held:
        network(inputs).tanh().sum()
    # The input for the weight's gradient, the output of tanh for its own; the weight itself is no activation.
    assert held.mib(network) == pytest.approx((512 * 256 + 512 * 1024) * 4 / 2**20)


@given(short=st.integers(1, 20), more=st.integers(1, 50), cue=st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=10)
def test_the_best_first_answer_is_that_of_bayes_rule(short: int, more: int, cue: float) -> None:
    sizes = {"short": short, "long": short + more, "cue": cue}
    torch.manual_seed(0)
    inputs, lengths, target = tasks.two_lengths(100_000, **sizes)
    x = inputs[:, 0, 0].double()
    for name, weights in (("token", (1.0, 1.0)), ("sequence", (1 / short, 1 / (short + more)))):
        likelihood = [
            weight * torch.exp(-((x - sign * cue) ** 2) / 2) for weight, sign in zip(weights, (1, -1), strict=True)
        ]
        answer = (likelihood[0] - likelihood[1]) / (likelihood[0] + likelihood[1])
        assert best_first_answer(sizes, name) == pytest.approx(float(answer.mean()), abs=0.02)  # type: ignore[arg-type]
        # No other constant shift of it has a lower cost.
        weight = torch.where(lengths == short, *weights)

        def cost(shift: float, weight: Any = weight, answer: Any = answer) -> float:
            return float((weight * (answer + shift - target[:, 0]).square()).mean())

        assert cost(0.0) < min(cost(0.1), cost(-0.1))


def test_seeds_tell_apart_only_where_they_all_agree() -> None:
    assert told_apart([1.0, 2.0], [3.0, 2.5]) == "yes"
    assert told_apart([3.0, 2.5], [1.0, 2.0]) == "no"
    assert told_apart([1.0, 2.6], [3.0, 2.5]) == "not told apart"
    assert told_apart([1.0], [1.0]) == "not told apart"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1.0, "1"), (0.12345, "0.123"), (12345.6, "12346"), (1.234e-5, "1.2e-05"), (-2.5e7, "-2.5e+07")],
)
def test_figures_have_three_digits(value: float, shown: str) -> None:
    assert figure(value) == shown


def tiny_jobs(experiment: Experiment) -> list[Job]:
    changed = {**experiment.tiny, "lr": 0.01} if experiment.rates else experiment.tiny
    return running.jobs_of(experiment, changed=changed, rates=None)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_and_is_drawn(name: str, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    found = list(running.perform_all(tiny_jobs(experiment), num_processes=1))
    # In the order that a pool may end them in.
    content = running.record_of(experiment, found[::-1], commit="0", machine="m")
    assert content == json.loads(json.dumps(content))
    record = Record(content)
    for row in content["rows"]:
        assert len(row["values"]) == len(experiment.seeds)
        assert all(math.isfinite(value) for value in row["values"])
    first = experiment.columns[0].key
    assert {row["name"] for row in content["rows"] if row["measure"] == first} == set(experiment.cases)
    assert content["findings"]
    path = tmp_path / "picture.png"
    plots.draw(experiment, record, path)
    assert path.stat().st_size > 5000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_job_is_its_seed_alone(name: str) -> None:
    """Whatever the process did before."""
    jobs = tiny_jobs(EXPERIMENTS[name])
    values = [running.perform(job)[0].values for job in (jobs[0], jobs[-1], jobs[0])]
    once, _, again = ({key: value for key, value in one.items() if key not in MACHINE_DEPENDENT} for one in values)
    assert once == again


def test_another_seed_is_another_run() -> None:
    errors = {running.perform(job)[0].values["decades"] for job in tiny_jobs(EXPERIMENTS["gradients"])[:3]}
    assert len(errors) == 3


@pytest.mark.processes
def test_a_pool_of_processes_finds_the_same() -> None:
    jobs = tiny_jobs(EXPERIMENTS["loss_mean"])
    alone = {(job.case, job.seed): measured for job, measured, _ in running.perform_all(jobs, num_processes=1)}
    pooled = {(job.case, job.seed): measured for job, measured, _ in running.perform_all(jobs, num_processes=2)}
    assert alone == pooled


def test_a_case_without_a_learning_rate_says_how_to_get_one() -> None:
    with pytest.raises(ValueError, match=r"no learning rate for 'feed-forward' of adding.*--tune adding"):
        running.jobs_of(EXPERIMENTS["adding"], changed={}, rates={})


def test_the_rate_that_led_furthest_is_chosen() -> None:
    experiment = EXPERIMENTS["loss_mean"]
    errors = {0.003: 0.5, 0.01: 0.2, 0.03: math.nan}
    found = [
        (job, Measured({"trained_on": errors[job.settings["lr"]]}, {}), 0.0) for job in running.tuning_jobs(experiment)
    ]
    chosen = running.chosen_rates(experiment, found)
    assert [chosen[case]["lr"] for case in experiment.cases] == [0.01, 0.01]
    assert {job.seed for job, _, _ in found}.isdisjoint(experiment.seeds)


def test_a_count_is_kept_whole_and_a_measurement_to_four_digits() -> None:
    assert significant(25088) == 25088
    assert significant(0.123456) == 0.1235
