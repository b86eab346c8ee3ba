"""The experiments of docs/notes.md: the tasks are what they say, every experiment runs, the document says what was measured."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from statistics import mean, stdev
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
from benchmarks.notes.running import PICTURES, ROOT, Job
from benchmarks.notes.truncation import _Held
from core.nn.recurrent import RecurrentConfig
from scripts import tables

DOCUMENT = ROOT / "docs" / "notes.md"
MACHINE_DEPENDENT = {"seconds"}


def seeded(seed: int) -> None:
    torch.manual_seed(seed)


@given(num_steps=st.integers(2, 30), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_adding_problem_marks_one_number_in_each_half(num_steps: int, seed: int) -> None:
    seeded(seed)
    inputs, answers = tasks.adding_problem(5, num_steps=num_steps)
    numbers, marks = inputs.unbind(-1)
    half = num_steps // 2
    assert torch.equal(marks[:, :half].sum(1), torch.ones(5))
    assert torch.equal(marks[:, half:].sum(1), torch.ones(5))
    torch.testing.assert_close(answers, numbers[marks == 1].reshape(5, 2).sum(1))
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_always_answering_one_has_the_error_that_the_picture_compares_with() -> None:
    seeded(0)
    _, answers = tasks.adding_problem(200_000, num_steps=2)
    assert float((answers - 1).square().mean()) == pytest.approx(1 / 6, rel=0.01)


@given(num_symbols=st.integers(1, 6), delay=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_copy_task_shows_symbols_then_blanks_then_asks(num_symbols: int, delay: int, seed: int) -> None:
    seeded(seed)
    inputs, symbols = tasks.copy_task(4, num_symbols=num_symbols, delay=delay)
    assert torch.equal(inputs.sum(-1), torch.ones(4, 2 * num_symbols + delay))
    shown = inputs.argmax(-1)
    assert torch.equal(shown[:, :num_symbols], symbols + 1)
    asked = (shown == tasks.ALPHABET + 1).nonzero()[:, 1]
    # Right before the first step in which a symbol is wanted.
    assert (asked == num_symbols + delay - 1).all()
    assert len(asked) == 4
    rest = shown[:, num_symbols:]
    assert ((rest == 0) | (rest == tasks.ALPHABET + 1)).all()


@pytest.mark.parametrize("test_year", [2014, 2015])
def test_weather_is_learnt_from_the_years_before_alone(test_year: int) -> None:
    weather = tasks.read_weather(test_year=test_year)
    assert len(weather.values) == {2014: 1096, 2015: 1461}[test_year]
    assert weather.first_test_day == {2014: 731, 2015: 1096}[test_year]
    train, unseen = (weather.windows(num_days=5, test=test) for test in (False, True))
    before = weather.values[: weather.first_test_day]
    assert torch.equal(train[0], before[:5])
    assert torch.equal(train[-1], before[-5:])
    assert len(train) + len(unseen) == len(weather.values) - 4
    assert torch.equal(unseen[0, -1], weather.values[weather.first_test_day])
    assert len(unseen) == 365
    torch.testing.assert_close(before.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(before.std(0), torch.ones(4))


@given(num_stages=st.integers(1, 4), cut=st.integers(1, 7), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_cascade_is_causal_and_each_stage_reads_the_one_below(num_stages: int, cut: int, seed: int) -> None:
    seeded(seed)
    inputs, answers = tasks.cascade(2, num_steps=8, num_stages=num_stages)
    signal = inputs[0, :, 0].tolist()
    for _ in range(num_stages):
        # s(t) written out, not as the recurrence.
        levels = [sum(0.7 ** (t - s) * signal[s] for s in range(t + 1)) for t in range(8)]
        signal = [math.sin(2 * level) for level in levels]
    torch.testing.assert_close(answers[0, :, 0], torch.tensor(signal), atol=1e-4, rtol=1e-4)


def test_waves_are_two_sines_of_the_periods_named() -> None:
    seeded(0)
    series = tasks.waves(50, num_steps=400, noise=0.0).squeeze(-1)
    assert float(series.abs().max()) <= 1.0
    spectrum = torch.fft.rfft(series * torch.hann_window(400)).abs().square()
    inside = spectrum[:, 400 // 40 - 2 : 400 // 10 + 3].sum(1)
    assert float((inside / spectrum.sum(1)).min()) > 0.99
    seeded(0)
    noisy = tasks.waves(50, num_steps=400, noise=0.1).squeeze(-1)
    assert float((noisy - series).std()) == pytest.approx(0.1, rel=0.05)


@given(shortest=st.integers(1, 5), more=st.integers(0, 4), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_held_values_are_those_of_the_last_mark(shortest: int, more: int, seed: int) -> None:
    seeded(seed)
    held = tasks.held_values(3, num_steps=23, shortest=shortest, longest=shortest + more)
    for row in range(3):
        marks = held.inputs[row, :, 1].nonzero().squeeze(1).tolist()
        assert marks[0] == 0
        gaps = [after - before for before, after in zip(marks, [*marks[1:], None], strict=True) if after is not None]
        assert all(shortest <= gap <= shortest + more for gap in gaps)
        for step in range(23):
            last = max(mark for mark in marks if mark <= step)
            assert held.target[row, step, 0] == held.inputs[row, last, 0]
            assert held.age[row, step] == step - last


@given(place=st.sampled_from(["end", "anywhere"]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_marked_value_is_inside_its_sequence(place: str, seed: int) -> None:
    seeded(seed)
    inputs, lengths, answers = tasks.marked_value(6, shortest=1, longest=9, place=place)
    for row, length in enumerate(lengths.tolist()):
        values, marks = inputs[row, :length].unbind(-1)
        (marked,) = marks.nonzero().squeeze(1).tolist()
        assert answers[row] == values[marked]
        assert place == "anywhere" or marked == length - 1
        assert inputs[row, length:].isnan().all()


def test_two_lengths_are_told_apart_by_many_steps_only() -> None:
    seeded(0)
    inputs, lengths, target = tasks.two_lengths(20_000, short=4, long=9, cue=0.3)
    assert set(lengths.tolist()) == {4, 9}
    assert torch.equal(target[:, 0] == 1, lengths == 4)
    assert float(inputs[lengths == 4].mean()) == pytest.approx(0.3, abs=0.02)
    assert float(inputs[lengths == 9].mean()) == pytest.approx(-0.3, abs=0.02)
    assert float(inputs.squeeze(-1)[:, 0].std()) == pytest.approx(math.hypot(1, 0.3), rel=0.02)


@given(num_words=st.sampled_from([3, 4, 20]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_sentences_are_translated_word_for_word_in_the_opposite_order(num_words: int, seed: int) -> None:
    seeded(seed)
    pairs = tasks.sentences(5, shortest=1, longest=6, num_words=num_words)
    for row, length in enumerate(pairs.source_lengths.tolist()):
        words = (pairs.source[row, :length] - 2).tolist()
        assert min(words) >= 0
        expected = [(7 * word + 3) % num_words + 2 for word in reversed(words)]
        assert pairs.wanted[row, : length + 1].tolist() == [*expected, tasks.END]
        assert pairs.given[row, : length + 1].tolist() == [tasks.END, *expected]
        assert not pairs.source[row, length:].any()
        assert pairs.target_lengths[row] == length + 1


@pytest.mark.parametrize("part", ["settings", "tiny"])
def test_every_word_has_a_translation_of_its_own(part: str) -> None:
    num_words = getattr(EXPERIMENTS["sentences"], part)["num_words"]
    assert len({(7 * word + 3) % num_words for word in range(num_words)}) == num_words


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
    seeded(0)
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
    seeded(0)
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


def record(name: str) -> Record:
    found = running.read_record(name)
    assert found is not None, f"{name} has no result: python -m benchmarks.notes {name}"
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_result_is_that_of_the_settings_in_the_code(name: str) -> None:
    experiment, kept = EXPERIMENTS[name], record(name)
    rates = running.read_rates()
    without_rates = {key: value for key, value in kept.settings.items() if key != "lr"}
    assert without_rates == json.loads(json.dumps(dict(experiment.settings)))
    if experiment.rates:
        assert kept.settings["lr"] == {case: rates[name][case]["lr"] for case in experiment.cases}
    assert kept.content["seeds"] == list(experiment.seeds)
    assert {row["name"] for row in kept.content["rows"]} == set(experiment.cases)
    assert {row["measure"] for row in kept.content["rows"]} == {column.key for column in experiment.columns}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_a_result_says_follows_from_its_values(name: str) -> None:
    content = record(name).content
    for row in content["rows"]:
        assert row["mean"] == pytest.approx(mean(row["values"]), rel=1e-3)
        if len(row["values"]) > 1:
            assert row["spread"] == pytest.approx(stdev(row["values"]), rel=1e-3, abs=1e-12)
    assert running.described(EXPERIMENTS[name], content) == content


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_document_shows_every_experiment(name: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"(pictures/notes_{name}.png)" in text
    assert (PICTURES / f"notes_{name}.png").is_file()
    for kind in tables.NOTES:
        assert f"{tables.START}{kind}/{name} -->" in text


# What the sentences under the tables rely on, in the order of the findings: y(es), n(o), - not told apart.
VERDICTS = {
    "gradients": "yynynynyy",
    "parameters": "yy",
    "adding": "yyyy-yy--",
    "copying": "nnnn-nny-y",
    "weather": "yyn-yyyy",
    "depth": "yy-",
    "directions": "yy",
    "feedback": "-nyn",
    "truncation": "ynyy",
    "truncation_reach": "yyyy",
    "pooling": "-yyyyy",
    "loss_mean": "yyyy",
    "sentences": "yyyyyn",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_sentences_of_the_document_are_those_of_the_results(name: str) -> None:
    """Where this fails after a new run, read the sentence under the table again."""
    held = "".join({"yes": "y", "no": "n"}.get(one["held"], "-") for one in record(name).content["findings"])
    assert held == VERDICTS[name]


def test_the_tables_of_the_document_are_those_of_the_results() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert tables.rewritten(text, document="docs/notes.md") == text


def test_every_line_of_the_notes_is_in_the_document_and_every_measured_one_has_an_experiment() -> None:
    rows = re.findall(r"^\| (N\d+) \|(.*)\|$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [line for line, _ in rows] == [f"N{number}" for number in range(1, 18)]
    linked = {line: set(re.findall(r"\(#([a-z_]+)\)", rest)) for line, rest in rows}
    for name, experiment in EXPERIMENTS.items():
        for line in experiment.lines:
            assert name in linked[line], f"{line} does not lead to {name}"
    assert set().union(*linked.values()) <= set(EXPERIMENTS)


def test_every_file_and_test_that_the_document_names_exists() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]+/[\w.]*)`((?: `test_\w+`,?)*)", text)
    assert len(named) > 20
    for path, tests in named:
        assert (ROOT / path).exists(), path
        for test in re.findall(r"test_\w+", tests):
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}: {test}"
