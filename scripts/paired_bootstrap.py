"""Whether recorded runs are better than the baseline beside them, or only luckier in their test clips: a paired bootstrap.

    python -m scripts.paired_bootstrap video_classification jhmdb --seeds 1 2 3 4 5

reads what each seed's run and its baseline took every test clip for (`test_predictions.jsonl`, as `scripts.results` leaves it),
and writes the difference of their accuracies with its 5 % and 95 % bounds into results/<application>/<experiment>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from core.training.baseline import FOLDER as BASELINE_FOLDER
from core.training.command.finished_run import write_whole

ROOT = Path(__file__).resolve().parents[1]
PREDICTIONS_FILE = "test_predictions.jsonl"
RECORD_KEY = "paired_bootstrap"


@dataclass(frozen=True)
class Comparison:
    """How much more often one of two is right than the other."""

    difference: float
    """Of their accuracies, as shares of 1."""
    low: float
    """Below it 5 % of the resamples' differences."""
    high: float
    """Above it 5 %."""
    share_above_0: float
    """Of the resamples."""


def main() -> None:
    """Compare what the command line names, and record it; exit status 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m scripts.paired_bootstrap", description=__doc__.splitlines()[0])
    parser.add_argument("application")
    parser.add_argument("experiment", help="name of a recorded experiment")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="folder of the runs themselves")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--resample_seed", type=int, default=0)
    given = parser.parse_args()
    folder = ROOT / given.runs / given.application / given.experiment
    try:
        names, ours, theirs = read_runs([folder / f"seed{seed}" for seed in given.seeds])
        found = paired_bootstrap(ours, theirs, resamples=given.resamples, seed=given.resample_seed)
        path = add_to_record(
            ROOT / "results" / given.application / f"{given.experiment}.json",
            RECORD_KEY,
            {
                "command": f"python -m scripts.paired_bootstrap {given.application} {given.experiment} "
                f"--seeds {' '.join(map(str, given.seeds))}",
                "baseline": "feed_forward",
                "clips": len(names),
                "resamples": given.resamples,
                "resample_seed": given.resample_seed,
                "ours": ours.mean(1).tolist(),
                "theirs": theirs.mean(1).tolist(),
                **asdict(found),
            },
            seeds=given.seeds,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(
        f"{len(names)} clips, {len(given.seeds)} seeds: {ours.mean():.4f} against {theirs.mean():.4f}, a difference of "
        f"{found.difference:+.4f}; 90 % of {given.resamples:,} resamples from {found.low:+.4f} to {found.high:+.4f}"
    )
    print(f"Wrote {path}")


def paired_bootstrap(
    ours: Bool[np.ndarray, "seeds clips"],
    theirs: Bool[np.ndarray, "seeds clips"],
    *,
    resamples: int,
    seed: int,
) -> Comparison:
    """The difference of two accuracies, and how it varies over other clips of the same kind.

    Clips are drawn with replacement, the same ones for both; each counts with its mean over the seeds, so that the runs are
    those that there are, and the interval is about clips alone. Source: Efron & Tibshirani, "An Introduction to the Bootstrap",
    1993, section 13.3 (percentile interval); Koehn, EMNLP 2004, for its paired form.

    Args:
        ours: whether each clip was right, by seed.
        theirs: the same clips in the same order.
        resamples: how often clips are drawn.
        seed: of the drawing.
    """
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1] or 0 in ours.shape or 0 in theirs.shape:
        raise ValueError(
            f"What is compared must be (seeds, clips) with the same clips, got {ours.shape} and {theirs.shape}."
        )
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    difference: Float64[np.ndarray, "clips"] = ours.mean(0) - theirs.mean(0)
    number = len(difference)
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for place in range(resamples):
        drawn[place] = difference[generator.integers(number, size=number)].mean()
    low, high = np.quantile(drawn, [0.05, 0.95])
    return Comparison(float(difference.mean()), float(low), float(high), float((drawn > 0).mean()))


def read_runs(
    folders: list[Path],
) -> tuple[list[str], Bool[np.ndarray, "seeds clips"], Bool[np.ndarray, "seeds clips"]]:
    """Names of the clips, and by seed whether each was right: by the run, and by its baseline.

    Raises:
        ValueError: a run has no predictions, or two have other clips.
    """
    names: list[str] | None = None
    right: dict[str, list[list[bool]]] = {"ours": [], "theirs": []}
    for folder in folders:
        for who, file in (("ours", folder / PREDICTIONS_FILE), ("theirs", folder / BASELINE_FOLDER / PREDICTIONS_FILE)):
            found = _read(file)
            if names is None:
                names = list(found)
            if found.keys() != set(names):
                differing = sorted(found.keys() ^ set(names))
                raise ValueError(
                    f"{file} has other clips than {folders[0] / PREDICTIONS_FILE}: {len(differing)} are in one of them alone, "
                    f"as {differing[0]}. Compare runs that were tested on the same part."
                )
            right[who].append([found[name] for name in names])
    if names is None:
        raise ValueError("No run is named: give at least one seed.")
    return names, np.array(right["ours"], bool), np.array(right["theirs"], bool)


def _read(file: Path) -> dict[str, bool]:
    if not file.is_file():
        raise ValueError(f"There is no {file}. Make it with `python -m scripts.results`, which tests run and baseline.")
    found: dict[str, bool] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            name, is_right = str(row["video"]), bool(row["predicted"] == row["class"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file}, line {number}: expected an object with video, class and predicted, got {line[:60]!r}. "
                "Make the run again."
            ) from error
        if name in found:
            raise ValueError(f"{file}, line {number}: the clip {name} is there twice. Make the run again.")
        found[name] = is_right
    return found


def add_to_record(path: Path, key: str, value: object, *, seeds: list[int]) -> Path:
    """Put something that was found later beside what `scripts.results` recorded.

    Raises:
        ValueError: there is no record, or one of other seeds.
    """
    if not path.is_file():
        raise ValueError(f"There is no {path}. Make it first with `python -m scripts.results`.")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["seeds"] != seeds:
        raise ValueError(f"{path} is about the seeds {record['seeds']}, not {seeds}. Give the same ones.")
    write_whole(path, json.dumps({**record, key: value}, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
