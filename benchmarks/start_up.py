"""How long the command line takes to answer, against a bare LightningCLI in the same run.

    python -m benchmarks.start_up

`ours` and `rival` are whole processes. The goal is a ratio of at least 1 / 1.3: at most 1.3 times as long.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Result, print_results, time_pair, write_results

ROOT = Path(__file__).resolve().parents[1]
GOAL = 1 / 1.3

BARE = """
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.demos.boring_classes import BoringDataModule, BoringModel

LightningCLI(BoringModel, BoringDataModule)
"""


def _process(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run(
        [sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def measure(num_pairs: int = 7) -> list[Result]:
    """`--help` of every application against that of a bare LightningCLI."""
    results = []
    for application in sorted(path.parent.name for path in ROOT.glob("apps/*/__main__.py")):
        results.append(
            time_pair(
                _process("-m", f"apps.{application}", "--help"),
                rival=_process("-c", BARE, "--help"),
                case=f"{application}.help",
                rival_name="bare LightningCLI --help",
                goal=round(GOAL, 3),
                num_pairs=num_pairs,
                num_warm_up=1,
            )
        )
    return results


if __name__ == "__main__":
    results = measure()
    print_results(results)
    print(f"Wrote {write_results(results, name='start_up').relative_to(ROOT)}")
