"""`sbatch scripts/slurm.sh` on real Slurm: whatever becomes of a job, it ends as one that nothing happened to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from core.training.checkpoint_io import KEY, read_checkpoint
from tests.cluster.conftest import Experiment
from tests.cluster.slurm import Cluster, Job, wait_for

pytestmark = pytest.mark.timeout(900)

PACE = {"SECONDS_A_STEP": "0.4"}


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

    def submit(run: str, *further: str, options: tuple[str, ...] = (), pace: str = "0.4") -> Job:
        return cluster.submit(
            experiment.folder / f"{run}.log", "forecasting", *experiment.arguments(run), *further,
            options=options, **experiment.environment, SECONDS_A_STEP=pace,
        )  # fmt: skip

    time_limit = submit("time_limit", options=("--time=3", "--signal=B:USR1@90"), pace="1.5")
    under_way(experiment, "time_limit", time_limit)
    started = Jobs(
        time_limit, submit("killed"), submit("cancelled"), submit("mistaken", "--model.network.hiden_size", "3")
    )
    under_way(experiment, "cancelled", started.cancelled)
    cluster.cancel(started.cancelled)
    under_way(experiment, "killed", started.killed)
    os.kill(int((experiment.folder / "killed" / "process1").read_text()), signal.SIGKILL)
    return started


def test_a_task_that_is_killed(jobs: Jobs, experiment: Experiment, whole: Path) -> None:
    assert jobs.killed.wait() == "COMPLETED", jobs.killed.text()
    assert jobs.killed.restarts() >= 1
    assert "back into the queue" in jobs.killed.text()
    assert_same(experiment.last("killed"), whole)


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


def test_the_time_limit(jobs: Jobs, experiment: Experiment, whole: Path) -> None:
    assert jobs.time_limit.wait(420) == "COMPLETED", jobs.time_limit.text()
    assert jobs.time_limit.restarts() >= 1
    assert "interrupted by SIGUSR1: saved" in jobs.time_limit.text()
    assert_same(experiment.last("time_limit"), whole)


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
    assert tasks[1].restarts() >= 1
    assert "SIGUSR1" not in tasks[0].text()
    # The seed of the config is 3, so that task is the run of the other tests.
    assert_same(experiment.last("runs/forecasting/run/seed3"), whole)
    one, two = (read_checkpoint(experiment.last(f"runs/forecasting/run/seed{seed}")) for seed in (3, 4))
    assert any(not torch.equal(value, two["state_dict"][name]) for name, value in one["state_dict"].items())


def test_a_node_that_fails_and_comes_back(cluster: Cluster, experiment: Experiment, whole: Path) -> None:
    job = cluster.submit(
        experiment.folder / "node.log", "forecasting", *experiment.arguments("node"), **experiment.environment, **PACE
    )
    under_way(experiment, "node", job)
    cluster.take_down("n2")
    wait_for(lambda: job.restarts() >= 1, "the job to be put back", 60, job.text)
    cluster.bring_back("n2")
    assert job.wait() == "COMPLETED", job.text()
    assert_same(experiment.last("node"), whole)
