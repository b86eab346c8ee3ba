"""The mean of the weights of several checkpoints of one run.

    python -m scripts.average_checkpoints --output averaged.ckpt step1000.ckpt step2000.ckpt

The result can be tested, predicted with and fine-tuned, not resumed. Checkpoints along a run are kept by Lightning's
ModelCheckpoint in trainer.callbacks (save_top_k, every_n_train_steps).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.training.averaging import average_checkpoints


def main() -> None:
    """Average what the command line names; exit status 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--output", required=True, type=Path)
    given = parser.parse_args()
    if given.output.exists():
        parser.error(f"--output {given.output} exists: choose another name")
    try:
        average_checkpoints(given.checkpoints, given.output)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Wrote the mean of {len(given.checkpoints)} checkpoints to {given.output}.")


if __name__ == "__main__":
    main()
