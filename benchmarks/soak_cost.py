"""What checkpoints cost a run at the default interval.

    python -m benchmarks.soak_cost translation.multi30k_de_en=runs/results/translation/multi30k_de_en/seed1 ...

Each run is a finished one. Its last.ckpt is read and written again under two names, with the file brought to the disk as in
training, beside where it lies. By default last.ckpt is written every ten minutes and at each epoch's end, or as the run's
`checkpoint` says, and best.ckpt becomes a second name of it whenever a validation was better; the figure is the share of the
time if all were: seconds of a write x (1 / 600 s + 1 / seconds of that many epochs). The goal is at most 2 %.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.harness import RESULTS, Result, print_results, write_results
from core.training.checkpoints.files import KEY, SafeCheckpointIO, link_checkpoint, read_checkpoint
from core.training.checkpoints.plain import from_plain
from core.training.checkpoints.saving import CheckpointConfig

MOST = 2.0
"""Per cent of the time that checkpoints may take."""


def cost_of(name: str, run_dir: Path, *, num_writes: int) -> Result:
    """The row of a finished run."""
    path = run_dir / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    for needed in ("config.yaml", "metrics.json"):
        if not (run_dir / needed).is_file():
            raise ValueError(f"{run_dir} has no {needed}: give the folder of a finished run.")
    config = from_plain(CheckpointConfig, yaml.safe_load((run_dir / "config.yaml").read_text())["checkpoint"])
    if config.every_n_steps is not None or config.every_minutes is None:
        raise ValueError(f"{run_dir} wrote checkpoints by steps: give a run that writes them by the clock.")
    epoch_seconds = json.loads((run_dir / "metrics.json").read_text())["fit_seconds"] / max(
        checkpoint[KEY]["position"]["epoch"], 1
    )
    seconds = []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for _ in range(num_writes):
            start = time.perf_counter()
            SafeCheckpointIO().save_checkpoint(checkpoint, Path(folder) / "best.ckpt")
            link_checkpoint(Path(folder) / "best.ckpt", Path(folder) / "last.ckpt")
            seconds.append(time.perf_counter() - start)
    # A validation that is better writes as well, however many epochs lie between two writings.
    epochs = config.every_n_epochs if config.monitor is None else 1
    writes_a_second = 1 / (60 * config.every_minutes) + 1 / (epochs * epoch_seconds)
    shares = [100 * each * writes_a_second for each in seconds]
    first, _, third = statistics.quantiles([MOST / share for share in shares], n=4)
    print(
        f"{name}: {path.stat().st_size / 1e6:.1f} MB in {statistics.median(seconds):.3f} s, an epoch in {epoch_seconds:.0f} s"
    )
    return Result(
        case=f"checkpoints.{name}",
        ours=statistics.median(shares),
        rival=MOST,
        rival_name="the share that is allowed",
        unit="%",
        ratio=statistics.median(MOST / share for share in shares),
        spread=third - first,
        goal=1.0,
    )


def main() -> None:
    """Measure the given runs and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN_DIR", help="finished runs")
    parser.add_argument("--writes", type=int, default=9, help="times that each checkpoint is written, at least 3")
    parser.add_argument("--output", type=Path, help="file for the rows instead of benchmarks/results/soak_cost.json")
    given = parser.parse_args()
    if given.writes < 3:
        parser.error(f"--writes must be at least 3 for a spread, got {given.writes}.")
    named = [run.partition("=") for run in given.runs]
    try:
        results = [cost_of(name, Path(folder), num_writes=given.writes) for name, _, folder in named]
    except ValueError as error:  # what cannot be read is said in a line
        parser.error(str(error))
    print_results(results)
    write_results(results, name="soak_cost", path=given.output or RESULTS / "soak_cost.json")


if __name__ == "__main__":
    main()
