"""The results of the experiments are those of the code, and docs/notes.md says what was measured."""

from __future__ import annotations

import json
import re
from statistics import mean, stdev

import pytest

from benchmarks.notes import running
from benchmarks.notes.catalogue import EXPERIMENTS
from benchmarks.notes.experiment import Record
from benchmarks.notes.running import PICTURES, ROOT
from scripts import tables

DOCUMENT = ROOT / "docs" / "notes.md"


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
