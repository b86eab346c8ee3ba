"""`sbatch scripts/slurm.sh` on real Slurm: whatever becomes of a job, it ends as one that nothing happened to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from core.training.checkpoints.files import KEY, read_checkpoint
from tests.cluster.conftest import Experiment
from tests.cluster.slurm import Cluster, Job, wait_for

pytestmark = pytest.mark.timeout(900)

PACE = {"SECONDS_A_STEP": "0.5"}
# Longer than Slurm waits for an answer (10 s): it then asks again a minute later, when the next start is under way.
SLOW_TO_END = {"SECONDS_TO_END": "15", "SECONDS_A_STEP_LATER": "0.8"}


class Jobs(NamedTuple):
    """Jobs that run side by side, each awaited by a test of its own."""

    time_limit: Job
    killed: Job
    cancelled: Job
    mistaken: Job


def assert_same(path: Path, other: Path) -> None:
    """Weights, optimiser and position, to the last bit."""
    one, two = read_checkpoint(path), read_checkpoint(other)
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    assert str(one["optimizer_states"]) == str(two["optimizer_states"])
    assert one[KEY]["position"] == two[KEY]["position"]


def under_way(experiment: Experiment, run: str, job: Job, *, steps: int = 3) -> None:
    """Wait until a run has saved that many steps."""
    wait_for(lambda: experiment.steps(run) >= steps, f"{steps} steps of {run}", told=job.text)


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, experiment: Experiment) -> Jobs:
    """All at once: most of their time is waiting."""

    def submit(run: str, *further: str, options: tuple[str, ...] = (), **environment: str) -> Job:
        return cluster.submit(
            experiment.folder / f"{run}.log", "forecasting", *experiment.arguments(run), *further,
            options=options, **experiment.environment, **{**PACE, **environment},
        )  # fmt: skip

    time_limit = submit("time_limit", options=("--time=3", "--signal=B:USR1@60"), SECONDS_A_STEP="2.5")
    killed = submit("killed", **SLOW_TO_END)
    under_way(experiment, "killed", killed)
    os.kill(int((experiment.folder / "killed" / "process1").read_text()), signal.SIGKILL)
    cancelled = submit("cancelled")
    under_way(experiment, "cancelled", cancelled)
    cluster.cancel(cancelled)
    mistaken = submit("mistaken", "--model.network.hiden_size", "3", options=("--nodes=1",))
    return Jobs(time_limit, killed, cancelled, mistaken)


def test_scancel_saves_and_ends(jobs: Jobs, cluster: Cluster, experiment: Experiment, whole: Path) -> None:
    assert jobs.cancelled.wait() == "CANCELLED"
    wait_for(
        lambda: "interrupted by SIGTERM: saved" in jobs.cancelled.text(), "the word of it", 40, jobs.cancelled.text
    )
    assert jobs.cancelled.restarts() == 0
    stopped = experiment.steps("cancelled")
    assert 0 < stopped < read_checkpoint(whole)["global_step"]
    again = cluster.submit(
        experiment.folder / "again.log", "forecasting", *experiment.arguments("cancelled"), **experiment.environment
    )
    assert again.wait() == "COMPLETED", again.text()
    assert_same(experiment.last("cancelled"), whole)


def test_a_mistake_is_not_started_again(jobs: Jobs) -> None:
    assert jobs.mistaken.wait() == "FAILED"
    assert jobs.mistaken.restarts() == 0
    assert "hidden_size" in jobs.mistaken.text()
    assert "not started again" in jobs.mistaken.text()


def test_an_array_over_seeds(cluster: Cluster, experiment: Experiment, whole: Path) -> None:
    """Each task has its own folder, and one that is signalled is put back alone."""
    arguments = experiment.arguments("unused")
    del arguments[arguments.index("--run_dir") : arguments.index("--run_dir") + 2]
    array = cluster.submit(
        experiment.folder / "array-%a.log", "forecasting", *arguments,
        options=("--array=3-4",), UNROLL_RUNS=str(experiment.folder / "runs"), **experiment.environment, **PACE,
    )  # fmt: skip
    tasks = [Job(f"{array.number}_{seed}", experiment.folder / f"array-{seed}.log") for seed in (3, 4)]
    under_way(experiment, "runs/forecasting/run/seed4", tasks[1])
    cluster.signal(tasks[1], "USR1")
    assert [task.wait() for task in tasks] == ["COMPLETED"] * 2, tasks[1].text()
    assert [task.restarts() for task in tasks] == [0, 1], tasks[1].text()
    assert "SIGUSR1" not in tasks[0].text()
    # The seed of the config is 3, so that task is the run of the other tests.
    assert_same(experiment.last("runs/forecasting/run/seed3"), whole)
    one, two = (read_checkpoint(experiment.last(f"runs/forecasting/run/seed{seed}")) for seed in (3, 4))
    assert any(not torch.equal(value, two["state_dict"][name]) for name, value in one["state_dict"].items())


def test_a_task_that_is_killed(jobs: Jobs, experiment: Experiment, whole: Path) -> None:
    """One restart, although the other task takes its time to end and Slurm asks it to twice."""
    assert jobs.killed.wait(420) == "COMPLETED", jobs.killed.text()
    assert jobs.killed.restarts() == 1, jobs.killed.text()
    assert "back into the queue" in jobs.killed.text()
    assert "interrupted by" not in jobs.killed.text()
    assert_same(experiment.last("killed"), whole)


def test_the_time_limit(jobs: Jobs, experiment: Experiment, whole: Path) -> None:
    assert jobs.time_limit.wait(420) == "COMPLETED", jobs.time_limit.text()
    # A start that is slow on a loaded machine comes near the limit itself.
    assert jobs.time_limit.restarts() >= 1
    assert "interrupted by SIGUSR1: saved" in jobs.time_limit.text()
    assert_same(experiment.last("time_limit"), whole)


# The last, because jobs of the others would lose their node too.
def test_a_node_that_fails_and_comes_back(cluster: Cluster, experiment: Experiment, whole: Path) -> None:
    job = cluster.submit(
        experiment.folder / "node.log", "forecasting", *experiment.arguments("node"), **experiment.environment, **PACE
    )
    under_way(experiment, "node", job)
    cluster.take_down("n2")
    wait_for(lambda: job.restarts() == 1, "the job to be put back", 120, job.text)
    cluster.bring_back("n2")
    assert job.wait() == "COMPLETED", job.text()
    assert job.restarts() == 1, job.text()
    assert_same(experiment.last("node"), whole)
