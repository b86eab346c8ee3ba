"""What a second process is worth: training throughput of two processes against one, each with one thread.

    python -m benchmarks.processes [--applications forecasting translation ...] [--pairs 3]

Every run is a whole command, `fit` of the application's demo with steps of some tenths of a second, as those of real networks
take; its last line says the throughput, start-up and validation left out. (The demos' own steps take some hundredths: half a
batch takes a recurrent layer nearly as long as a whole one then, and two processes that wait for each other at every step lose
the rest.) A process loads its data itself: with a worker, as some demos have one, a single process would use two cores already.

How much two can be above one is a matter of the machine: cores that share their arithmetic units add up to less than two. So a
row is measured beside each: two runs of one process at once, which share nothing, are the floor of what processes cost each
other (`<application>.apart`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Result, print_results, write_results

ROOT = Path(__file__).resolve().parents[1]
UNITS = {"forecasting": "windows", "translation": "tokens", "captioning": "images", "video_classification": "frames"}
STEPS = 20
LARGER = {
    "forecasting": ("--data.batch_size", "512", "--model.network.recurrent.hidden_size", "256"),
    "translation": ("--data.batch_size", "512"),
    "captioning": ("--data.batch_size", "100"),
    "video_classification": ("--data.batch_size", "100"),
}
GOAL = 1.5


def _start(application: str, folder: Path, *further: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", f"apps.{application}", "fit", "-c", f"configs/{application}/demo.yaml",
        "--run_dir", str(folder), "--trainer.accelerator", "cpu", "--num_threads", "1",
        "--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(STEPS),
        "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1", "--trainer.check_val_every_n_epoch", "1",
        "--trainer.enable_progress_bar", "false", "--baseline.enabled", "false", "--data.loader.num_workers", "0",
        *LARGER[application], *further,
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _throughput(runs: Sequence[subprocess.Popen[str]], unit: str) -> float:
    """Of all runs together."""
    total = 0.0
    for run in runs:
        said, error = run.communicate()
        if run.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, run.args))}\n{error[-2000:]}")  # type: ignore[arg-type]
        total += json.loads(said.splitlines()[-1])[f"{unit}_per_second"]
    return total


def measure(applications: Sequence[str] = tuple(UNITS), num_pairs: int = 3) -> list[Result]:
    """Two processes of one run, and two runs apart, each against one process; in turns."""
    results = []
    for application in applications:
        unit = UNITS[application]
        rates: dict[str, list[float]] = {"one": [], "two": [], "apart": []}
        with tempfile.TemporaryDirectory() as temporary:
            for pair in range(num_pairs):
                folder = Path(temporary) / str(pair)
                rates["one"].append(_throughput([_start(application, folder / "one")], unit))
                two = _start(application, folder / "two", "--trainer.devices", "2", "--trainer.strategy", "ddp")
                rates["two"].append(_throughput([two], unit))
                apart = [_start(application, folder / f"apart{number}") for number in range(2)]
                rates["apart"].append(_throughput(apart, unit))
        for name, case in (("two", f"processes.{application}"), ("apart", f"processes.{application}.apart")):
            ratios = [ours / one for ours, one in zip(rates[name], rates["one"], strict=True)]
            quartiles = statistics.quantiles(ratios, n=4)
            results.append(
                Result(
                    case=case,
                    ours=statistics.median(rates[name]),
                    rival=statistics.median(rates["one"]),
                    rival_name="one process, one thread",
                    unit=f"{unit}/s",
                    ratio=statistics.median(ratios),
                    spread=quartiles[2] - quartiles[0],
                    goal=GOAL if name == "two" else None,
                )
            )
    return results


def main() -> None:
    """Measure and print; with all applications, write `benchmarks/results/processes.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__.splitlines()[0])
    parser.add_argument("--applications", nargs="+", choices=UNITS, default=list(UNITS))
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.pairs < 2:
        parser.error(f"--pairs must be at least 2 for a spread, got {arguments.pairs}.")
    results = measure(arguments.applications, arguments.pairs)
    print_results(results)
    if set(arguments.applications) < set(UNITS):
        print("Not written: the record has all applications, measured in one run.")
        return
    print(f"Wrote {write_results(results, name='processes').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
