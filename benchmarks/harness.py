"""Paired timing of two callables that compute the same, and how its results are kept.

The two run in turns, so that whatever else the machine does falls on both; the figure is the median of the ratios of
neighbouring runs, not a ratio of figures taken minutes apart.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of `benchmarks/results/<name>.json`."""

    case: str
    """What was measured, a fixed name."""
    ours: float
    """Median of ours, in `unit`."""
    rival: float
    """Median of the rival, in `unit`."""
    rival_name: str
    """What ours was held against."""
    unit: str
    """Unit of `ours` and `rival`."""
    ratio: float
    """Median over the pairs of rival / ours: above 1, ours is faster."""
    spread: float
    """Distance between the quartiles of the pairs' ratios."""
    goal: float | None
    """The ratio aimed at; None where there is none."""


def time_pair(
    ours: Callable[[], object],
    *,
    rival: Callable[[], object],
    case: str,
    rival_name: str,
    goal: float | None = None,
    num_pairs: int = 15,
    num_warm_up: int = 2,
    synchronise: Callable[[], None] | None = None,
) -> Result:
    """Time both in turns, `num_pairs` times each after `num_warm_up` unmeasured pairs; in milliseconds a call.

    `synchronise` waits for a device that works on after a call has returned; it is called whenever the clock is read.
    """
    if num_pairs < 3:
        raise ValueError(f"num_pairs must be at least 3 for a spread, got {num_pairs}.")
    for _ in range(num_warm_up):
        ours()
        rival()
    our_times: list[float] = []
    rival_times: list[float] = []
    for pair in range(num_pairs):
        # Each goes first in half of the pairs: the second finds warmer caches.
        for run, times in ((ours, our_times), (rival, rival_times))[:: 1 if pair % 2 == 0 else -1]:
            start = _clock(synchronise)
            run()
            times.append(1e3 * (_clock(synchronise) - start))
    ratios = [theirs / own for own, theirs in zip(our_times, rival_times, strict=True)]
    first, _, third = statistics.quantiles(ratios, n=4)
    return Result(
        case=case,
        ours=statistics.median(our_times),
        rival=statistics.median(rival_times),
        rival_name=rival_name,
        unit="ms",
        ratio=statistics.median(ratios),
        spread=third - first,
        goal=goal,
    )


def _clock(synchronise: Callable[[], None] | None) -> float:
    if synchronise is not None:
        synchronise()
    return time.perf_counter()


def print_results(results: Sequence[Result], *, header: bool = True) -> None:
    """The table a person reads."""
    if header:
        print(f"{'case':<24}{'ours':>10}{'rival':>10}  {'unit':<5}{'ratio':>7}{'spread':>8}{'goal':>6}  rival")
    for result in results:
        goal = "-" if result.goal is None else f"{result.goal:g}"
        print(
            f"{result.case:<24}{result.ours:>10.2f}{result.rival:>10.2f}  {result.unit:<5}{result.ratio:>7.2f}"
            f"{result.spread:>8.2f}{goal:>6}  {result.rival_name}",
            flush=True,
        )


def write_results(results: Sequence[Result], *, name: str, path: Path | None = None) -> Path:
    """Write `benchmarks/results/<name>.json`, or another file, figures to four significant digits."""
    rows = [
        {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in asdict(result).items()}
        for result in results
    ]
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return path
