"""A Slurm cluster of two nodes on this machine, made of Debian's packages, for the tests of `scripts/slurm.sh`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("slurm.conf.in")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
AT_WORK = {"idle", "mixed", "allocated", "completing"}
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


def is_installed() -> bool:
    """Whether the packages are there, and this is a user who may start the daemons."""
    return os.geteuid() == 0 and all(shutil.which(program) for program in PROGRAMS)


@dataclass
class Job:
    """A job that was submitted.

    Attributes:
        number: its number, `array_task` for one of an array.
        log: what it prints, over all its starts.
    """

    number: str
    log: Path

    def state(self) -> str:
        """Slurm's word for where it stands."""
        return self._shown("JobState")

    def restarts(self) -> int:
        """How often it was put back into the queue."""
        return int(self._shown("Restarts"))

    def _shown(self, key: str) -> str:
        shown = _output("scontrol", "show", "job", "-o", self.number)
        return next(word.partition("=")[2] for word in shown.split() if word.startswith(f"{key}="))

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    def wait(self, seconds: float = 240) -> str:
        """Wait for its end, and return its last state."""
        wait_for(lambda: self.state() in OVER, f"the end of job {self.number}", seconds, self.text)
        return self.state()


class Cluster:
    """The running daemons."""

    def submit(self, log: Path, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> Job:
        """`sbatch scripts/slurm.sh` with these arguments, on both nodes."""
        number = _output(
            "sbatch", "--parsable", "--nodes=2", f"--output={log}", *options, "scripts/slurm.sh", *arguments,
            environment={"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
        return Job(number.strip(), log)

    def take_down(self, node: str) -> None:
        """What the controller does when a node fails."""
        _output("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def bring_back(self, node: str) -> None:
        """Return a node to service, unless it returns by itself, as it may as soon as it is heard of again."""

        def is_back() -> bool:
            state = _output("sinfo", "-h", f"--nodes={node}", "-o", "%T").strip()
            if state.startswith(("down", "drain")):
                # Refused where the node has returned since that look: the next look tells.
                _run("scontrol", "update", f"nodename={node}", "state=resume")
            return state.rstrip("*") in AT_WORK

        wait_for(is_back, f"node {node}", 120)

    def signal(self, job: Job, name: str) -> None:
        """Signal the job's batch script, as the time limit does."""
        _output("scancel", f"--signal={name}", "--batch", job.number)

    def cancel(self, job: Job) -> None:
        """`scancel`."""
        _output("scancel", job.number)


def wait_for(
    condition: Callable[[], bool], what: str, seconds: float = 240, told: Callable[[], str] = lambda: ""
) -> None:
    """Wait until it holds; a failure shows what was said meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}\n{told()[-3000:]}"
        time.sleep(0.25)


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start munge, the controller and two nodes; stop them at the end, whatever happens."""
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(TEMPLATE.read_text().format(host=host, folder=folder))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    os.environ["SLURM_CONF"] = str(conf)
    munge = [
        "munged", "--force", f"--key-file={key}", f"--socket={folder / 'munge.socket'}",
        f"--pid-file={folder / 'munged.pid'}", f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'munged.seed'}",
    ]  # fmt: skip
    try:
        subprocess.run(munge, check=True)
        subprocess.run(["slurmctld", "-f", str(conf)], check=True)
        for node in ("n1", "n2"):
            subprocess.run(["slurmd", "-N", node, "-f", str(conf)], check=True)
        wait_for(lambda: _run("sinfo", "-h", "-o", "%T").stdout.split() == ["idle"], "two idle nodes", 120)
        yield Cluster()
    finally:
        _run("scancel", "--user=root")
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld", "munged"):
            _end(folder / f"{name}.pid")
        del os.environ["SLURM_CONF"]


def _end(pid_file: Path) -> None:
    if not pid_file.is_file():
        return
    number = int(pid_file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
        for _ in range(50):
            os.kill(number, 0)
            time.sleep(0.1)
        os.kill(number, signal.SIGKILL)


def _output(*command: str, environment: dict[str, str] | None = None) -> str:
    done = _run(*command, environment=environment)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _run(*command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
