"""Cases and seeds as independent jobs in a pool of one-threaded processes, and what is kept of them."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.notes import plots
from benchmarks.notes.catalogue import EXPERIMENTS
from benchmarks.notes.experiment import Experiment, Measured, Record, Settings, rows_of, significant

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "notes"
PICTURES = ROOT / "docs" / "pictures"
RATES = "learning_rates"
"""Name of the file with the learning rates that were tried, and what each led to."""
TUNING_SEED = 0
PACKAGES = ("torch", "numpy")


class Job(NamedTuple):
    """One case of an experiment with one seed."""

    experiment: str
    case: str
    seed: int
    settings: dict[str, Any]


def perform(job: Job) -> tuple[Measured, float]:
    """Run a job; what it found, and the seconds of one core it took."""
    torch.manual_seed(job.seed)
    # Of this one thread, whatever else the machine does.
    start = time.process_time()
    measured = EXPERIMENTS[job.experiment].run(job.case, job.settings)
    return measured, time.process_time() - start


def perform_all(jobs: Sequence[Job], *, num_processes: int) -> Iterator[tuple[Job, Measured, float]]:
    """The jobs in as many processes, as they end; each has one thread, so that results do not depend on how many there are."""
    if num_processes == 1:
        for job in jobs:
            yield (job, *perform(job))
        return
    # Threads that wait for each other would take longer than the work. Spawned: a fork would inherit this process's.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        running = {pool.submit(perform, job): job for job in jobs}
        for future in as_completed(running):
            job = running[future]
            measured, seconds = future.result()
            rate = f", lr {job.settings['lr']}" if "lr" in job.settings else ""
            first = EXPERIMENTS[job.experiment].columns[0].key
            print(
                f"{job.experiment}: {job.case}, seed {job.seed}{rate}: {first} {measured.values[first]:.4g}, {seconds:.1f} s",
                flush=True,
            )
            yield job, measured, seconds


def jobs_of(experiment: Experiment, *, changed: Settings, rates: Mapping[str, Any] | None) -> list[Job]:
    """All cases with all seeds.

    Args:
        experiment: what is run.
        changed: settings that differ from the published ones.
        rates: what `tune` found; None where the settings have a rate, or need none.

    Raises:
        ValueError: where a case has no learning rate.
    """
    jobs: list[Job] = []
    for case in experiment.cases:
        settings = {**experiment.settings, **changed}
        if experiment.rates and "lr" not in settings:
            try:
                settings["lr"] = (rates or {})[experiment.name][case]["lr"]
            except KeyError:
                raise ValueError(
                    f"{RESULTS / RATES}.json has no learning rate for '{case}' of {experiment.name}. Choose it with: "
                    f"python -m benchmarks.notes --tune {experiment.name}"
                ) from None
        jobs.extend(Job(experiment.name, case, seed, settings) for seed in experiment.seeds)
    return jobs


def record_of(
    experiment: Experiment,
    found: Sequence[tuple[Job, Measured, float]],
    *,
    commit: str,
    machine: str,
) -> dict[str, Any]:
    """The content of a result file, whatever order the jobs ended in."""
    found = sorted(found, key=lambda one: (experiment.cases.index(one[0].case), one[0].seed))
    by_case: dict[str, list[Measured]] = {case: [] for case in experiment.cases}
    for job, measured, _ in found:
        by_case[job.case].append(measured)
    settings = {key: value for key, value in found[0][0].settings.items() if key != "lr"}
    if experiment.rates:
        settings["lr"] = {job.case: job.settings["lr"] for job, _, _ in found}
    names = dict.fromkeys(name for _, measured, _ in found for name in measured.curves)
    curves: dict[str, Any] = {}
    for case, measured_seeds in by_case.items():
        curves[case] = {
            name: [
                {axis: [significant(value) for value in measured.curves[name][axis]] for axis in ("x", "y")}
                for measured in measured_seeds
            ]
            for name in names
            if name in measured_seeds[0].curves
        }
    return described(
        experiment,
        {
            "experiment": experiment.name,
            "command": f"python -m benchmarks.notes {experiment.name}",
            "seeds": list(experiment.seeds),
            "settings": settings,
            "rows": rows_of(experiment, by_case),
            "curves": curves,
            "duration_s": round(sum(seconds for _, _, seconds in found), 1),
            "commit": commit,
            "machine": machine,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        },
    )


def described(experiment: Experiment, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a result file with all that follows from its numbers and the experiment's wording."""
    return {
        **content,
        "lines": list(experiment.lines),
        "claim": experiment.claim,
        "columns": [column._asdict() for column in experiment.columns],
        "findings": [finding._asdict() for finding in experiment.findings(Record(content))],
    }


def describe_and_draw(name: str) -> None:
    """Write the findings of a result file anew and draw its picture.

    Raises:
        ValueError: where the experiment has not been run.
    """
    record = read_record(name)
    if record is None:
        raise ValueError(f"There is no {RESULTS / name}.json to draw. Run: python -m benchmarks.notes {name}")
    content = described(EXPERIMENTS[name], record.content)
    _write(RESULTS / f"{name}.json", content)
    plots.draw(EXPERIMENTS[name], Record(content), PICTURES / f"notes_{name}.png")


def read_record(name: str, *, folder: Path = RESULTS) -> Record | None:
    """What was kept of an experiment; None where it never ran."""
    path = folder / f"{name}.json"
    return Record(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def read_rates() -> dict[str, Any]:
    """The learning rates that `tune` chose."""
    path = RESULTS / f"{RATES}.json"
    rates: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return rates


def run_and_keep(names: Sequence[str], *, num_processes: int, commit: str, machine: str) -> None:
    """Run experiments, all jobs in one queue, and write each result file once its last job is done.

    Raises:
        ValueError: where a case has no learning rate.
    """
    rates = read_rates()
    jobs = [job for name in names for job in jobs_of(EXPERIMENTS[name], changed={}, rates=rates)]
    missing = {name: sum(job.experiment == name for job in jobs) for name in names}
    found: dict[str, list[tuple[Job, Measured, float]]] = {name: [] for name in names}
    for job, measured, seconds in perform_all(jobs, num_processes=num_processes):
        name = job.experiment
        found[name].append((job, measured, seconds))
        if len(found[name]) == missing[name]:
            content = record_of(EXPERIMENTS[name], found[name], commit=commit, machine=machine)
            _write(RESULTS / f"{name}.json", content)


def tune_and_keep(names: Sequence[str], *, num_processes: int) -> None:
    """Try all learning rates for all cases of experiments, and write which led furthest."""
    jobs = [job for name in names for job in tuning_jobs(EXPERIMENTS[name])]
    found = list(perform_all(jobs, num_processes=num_processes))
    rates = read_rates()
    for name in names:
        if EXPERIMENTS[name].rates:
            rates[name] = chosen_rates(EXPERIMENTS[name], [one for one in found if one[0].experiment == name])
    _write(RESULTS / f"{RATES}.json", {name: rates[name] for name in EXPERIMENTS if name in rates})


def tuning_jobs(experiment: Experiment, *, changed: Settings | None = None) -> list[Job]:
    """Every rate for every case, once, with a seed that no result uses."""
    settings = {**experiment.settings, **experiment.tuning, **(changed or {})}
    return [
        Job(experiment.name, case, TUNING_SEED, {**settings, "lr": rate})
        for case in experiment.cases
        for rate in experiment.rates
    ]


def chosen_rates(experiment: Experiment, found: Sequence[tuple[Job, Measured, float]]) -> dict[str, Any]:
    """`{case: {lr, tried: {rate: error}}}`: the rate with the least first column; what is no number counts as the worst."""
    errors = {(job.case, job.settings["lr"]): measured.values[experiment.columns[0].key] for job, measured, _ in found}
    chosen: dict[str, Any] = {}
    for case in experiment.cases:
        tried = {rate: significant(errors[case, rate]) for rate in experiment.rates}
        best = min(tried, key=lambda rate: math.inf if math.isnan(tried[rate]) else tried[rate])
        chosen[case] = {"lr": best, "tried": {str(rate): error for rate, error in tried.items()}}
    return chosen


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_folded(json.dumps(content, indent=2)) + "\n", encoding="utf-8")
    print(f"Wrote {path.relative_to(ROOT)}", flush=True)


def _folded(text: str) -> str:
    """Lists of numbers on one line: a curve is read as a whole."""
    return re.sub(
        r"\[[-+0-9.eE,\s]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text
    )
