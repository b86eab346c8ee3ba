"""Runs the experiments of docs/notes.md and writes their results and pictures.

python -m benchmarks.notes                 # all of them
python -m benchmarks.notes adding depth    # some
python -m benchmarks.notes --tune adding   # choose the learning rates anew
python -m benchmarks.notes --draw          # the pictures from the results there are
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.notes import running
from benchmarks.notes.catalogue import EXPERIMENTS
from scripts import provenance


def main() -> None:
    """Run, tune or draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.notes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(EXPERIMENTS)}; all where none is named")
    parser.add_argument("--processes", type=int, default=2, help="processes side by side, one thread each (default 2)")
    parser.add_argument("--tune", action="store_true", help="choose the learning rates, run nothing else")
    parser.add_argument("--draw", action="store_true", help="draw the results there are, run nothing")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(EXPERIMENTS))
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    names = arguments.names or list(EXPERIMENTS)
    start = time.monotonic()
    try:
        if arguments.tune:
            running.tune_and_keep(names, num_processes=arguments.processes)
        elif not arguments.draw:
            commit, machine = provenance.commit(), provenance.machine()
            running.run_and_keep(names, num_processes=arguments.processes, commit=commit, machine=machine)
        for name in [] if arguments.tune else names:
            running.describe_and_draw(name)
    except ValueError as error:
        sys.exit(str(error))
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
