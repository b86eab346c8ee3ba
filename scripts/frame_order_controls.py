"""What is left of recorded video classifiers when their test clips run backwards, or in a drawn order.

    python -m scripts.frame_order_controls jhmdb --seeds 1 2 3 4 5

tests the best checkpoint of each seed that `scripts.results` has made, with each order of frames, and adds the metrics, one
value a seed, to results/video_classification/<experiment>.json. A baseline of the mean of all frames sees no difference.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from core.training.command.finished_run import TEST_FILE
from scripts.paired_bootstrap import add_to_record

ROOT = Path(__file__).resolve().parents[1]
APPLICATION = "video_classification"
ORDERS = ("reversed", "shuffled")
RECORD_KEY = "frame_order"


def main() -> None:
    """Test every seed with every order, and record it; exit status 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m scripts.frame_order_controls", description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="name of a recorded experiment of video_classification")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="folder of the runs themselves")
    given = parser.parse_args()
    folder = given.runs / APPLICATION / given.experiment
    config = Path("configs") / APPLICATION / f"{given.experiment}.yaml"
    try:
        found: dict[str, object] = {
            "command": f"python -m scripts.frame_order_controls {given.experiment} "
            f"--seeds {' '.join(map(str, given.seeds))}"
        }
        for order in ORDERS:
            of_seeds = [_test(folder / f"seed{seed}", config, order=order) for seed in given.seeds]
            found[order] = {name: [metrics[name] for metrics in of_seeds] for name in of_seeds[0]}
            shown = ", ".join(f"{metrics['top1']:.4f}" for metrics in of_seeds)
            print(f"{order}: top1 {shown}", flush=True)
        record = ROOT / "results" / APPLICATION / f"{given.experiment}.json"
        path = add_to_record(record, RECORD_KEY, found, seeds=given.seeds)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Wrote {path}")


def _test(run: Path, config: Path, *, order: str) -> dict[str, float]:
    """The metrics of a run's best checkpoint with the frames of every clip in that order."""
    checkpoint = run / "checkpoints" / "best.ckpt"
    if not (ROOT / checkpoint).is_file():
        raise ValueError(f"There is no {ROOT / checkpoint}. Make it first with `python -m scripts.results`.")
    # A folder of its own: the run's own test must not be overwritten.
    folder = run / order
    command = [sys.executable, "-m", f"apps.{APPLICATION}", "test", "-c", str(config), "--ckpt_path", str(checkpoint)]
    command += ["--run_dir", str(folder), "--data.frame_order", order]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise ValueError(f"The test of {run} ended with exit status {done.returncode}; what it said stands above.")
    metrics: dict[str, float] = json.loads((ROOT / folder / TEST_FILE).read_text())["metrics"]
    return metrics


if __name__ == "__main__":
    main()
