"""Rewrites the generated tables of the documents from results/ and benchmarks/results/.

    python -m scripts.tables [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; nothing in it is typed by hand. With --check nothing is
written, and the exit status says whether something would be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.notes.experiment import figure

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "docs/forecasting.md",
    "docs/translation.md",
    "docs/captioning.md",
    "docs/video_classification.md",
    "docs/benchmarks.md",
    "docs/notes.md",
)
START, END = "<!-- table: ", "<!-- end -->"


def _results(application: str, metrics: tuple[str, ...], *, digits: int) -> str:
    lines = [
        f"| experiment | network | {' | '.join(metrics)} | seeds |",
        f"|---|---|{'---|' * (len(metrics) + 1)}",
    ]
    for path in sorted((ROOT / "results" / application).glob("*.json")):
        record = json.loads(path.read_text())
        if "seeds" not in record:
            continue  # about the metrics themselves
        ours = [_mean_and_spread(record["metrics"].get(metric), digits=digits) for metric in metrics]
        lines.append(f"| {path.stem} | **recurrent** | {' | '.join(ours)} | {len(record['seeds'])} |")
        for who, values in record["baselines"].items():
            cells = [f"{values[metric]:.{digits}f}" if metric in values else "" for metric in metrics]
            lines.append(f"| | {who.replace('_', ' ')} | {' | '.join(cells)} | |")
        lines += _later_findings(record, metrics, digits=digits)
        lines.append(
            f"| | `{record['command']}`, {record['duration_s'] / 60:.0f} min on {record['machine']} |"
            + " |" * (len(metrics) + 1)
        )
    return "\n".join(lines)


def _later_findings(record: dict[str, Any], metrics: tuple[str, ...], *, digits: int) -> list[str]:
    """Rows of what was added to a record of clips: other orders of frames, and whether the difference is one of luck."""
    lines = []
    orders = record.get("frame_order", {})
    for order in (name for name in orders if name != "command"):
        cells = [f"{mean(orders[order][metric]):.{digits}f}" if metric in orders[order] else "" for metric in metrics]
        lines.append(f"| | recurrent, frames {order} | {' | '.join(cells)} | {len(record['seeds'])} |")
    found = record.get("paired_bootstrap")
    if found is not None:
        against = found["baseline"].replace("_", " ")
        cell = f"{found['difference']:+.{digits}f} ({found['low']:+.{digits}f} to {found['high']:+.{digits}f})"
        lines.append(
            f"| | more than {against} (90 % of resampled clips) | {cell} |"
            + " |" * (len(metrics) - 1)
            + f" {len(found['ours'])} |"
        )
    return lines


def _mean_and_spread(values: list[float] | None, *, digits: int) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"**{mean(values):.{digits}f}**{spread}"


def _benchmarks() -> str:
    lines = [
        "| case | ours | rival | unit | ratio | spread | goal | held against |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        rows = json.loads(path.read_text())
        # The soak compares runs, not speeds, and has a table of its own.
        for row in rows if isinstance(rows, list) else ():
            goal = "" if row["goal"] is None else f"{row['goal']:g}"
            lines.append(
                f"| {row['case']} | {row['ours']:g} | {row['rival']:g} | {row['unit']} | **{row['ratio']:.2f}** | "
                f"{row['spread']:.2f} | {goal} | {row['rival_name']} |"
            )
    return "\n".join(lines)


def _gpu() -> str:
    """Timings on a GPU, which have no goals, and what was compared there before."""
    record = json.loads((ROOT / "benchmarks" / "results" / "gpu_check.json").read_text())
    lines = ["| case | ours | rival | unit | ratio | spread | held against |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['case']} | {row['ours']:g} | {row['rival']:g} | {row['unit']} | **{row['ratio']:.2f}** | "
        f"{row['spread']:.2f} | {row['rival_name']} |"
        for row in record["rows"]
    ]
    lines += [
        f"| parity, {line['precision']} | {line['cases']} cases, {line['failed']} failed, worst {line['worst']:.0e}, "
        f"allowed {line['allowed']:.0e} |" + " |" * 5
        for line in record["parity"]
    ]
    lines.append(f"| {record['machine']}; PyTorch {record['versions']['torch']} |" + " |" * 6)
    return "\n".join(lines)


def _soak() -> str:
    """How many kills there were of each kind of run, by what they came in the middle of, and how the runs ended."""
    record = json.loads((ROOT / "benchmarks" / "results" / "soak.json").read_text())
    moments = sorted({kill["moment"] for case in record["cases"] for kill in case["kills"]})
    lines = [
        f"| application | processes | workers | {' | '.join(moments)} | identical |",
        f"|---|---|---|{'---|' * (len(moments) + 1)}",
    ]
    for case in record["cases"]:
        met = [kill["moment"] for kill in case["kills"]]
        counts = [str(met.count(moment) or "") for moment in moments]
        verdict = "yes" if case["identical"] else "**no**"
        lines.append(
            f"| {case['application']} | {case['processes']} | {case['workers']} | {' | '.join(counts)} | {verdict} |"
        )
    took = f"{record['duration_s'] / 60:.0f} min on {record['machine']}"
    lines.append(
        f"| **{record['identical']} of {record['kills']}** kills, `{record['command']}`, {took} |"
        + " |" * (len(moments) + 3)
    )
    return "\n".join(lines)


def _notes(record: dict[str, Any]) -> str:
    """Every case of an experiment, mean and standard deviation over the seeds."""
    columns, rates = record["columns"], record["settings"].get("lr")
    titles = [f"{column['title']} ({column['unit']})" if column["unit"] else column["title"] for column in columns]
    titles += ["learning rate"] if rates else []
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    rows = {(row["name"], row["measure"]): row for row in record["rows"]}
    for case in dict.fromkeys(row["name"] for row in record["rows"]):
        of_case = [rows.get((case, column["key"])) for column in columns]
        cells = ["" if row is None else _with_spread(row) for row in of_case] + ([str(rates[case])] if rates else [])
        lines.append(f"| {case} | {' | '.join(cells)} |")
    seeds = f"{len(record['seeds'])} seed{'s' if len(record['seeds']) > 1 else ''}"
    lines.append(
        f"| `{record['command']}`, {seeds}, {record['duration_s']:.0f} s of one core of {record['machine']} |"
        + " |" * len(titles)
    )
    return "\n".join(lines)


def _with_spread(row: dict[str, Any]) -> str:
    return figure(row["mean"]) + (f" ± {figure(row['spread'])}" if row["spread"] else "")


def _findings(record: dict[str, Any]) -> str:
    """What the numbers say to the claim."""
    lines = ["| | holds | figures |", "|---|---|---|"]
    lines += [f"| {one['statement']} | **{one['held']}** | {one['figures']} |" for one in record["findings"]]
    return "\n".join(lines)


NOTES: dict[str, Callable[[dict[str, Any]], str]] = {"notes": _notes, "findings": _findings}
TABLES: dict[str, Callable[[], str]] = {
    "forecasting": lambda: _results("forecasting", ("mse", "mae", "mase"), digits=4),
    "translation": lambda: _results("translation", ("bleu_lc", "bleu_cased", "chrf", "loss"), digits=2),
    "captioning": lambda: _results("captioning", ("bleu4", "rouge_l", "cider_d", "loss"), digits=3),
    "video_classification": lambda: _results("video_classification", ("top1", "top5", "class_top1", "loss"), digits=3),
    "benchmarks": _benchmarks,
    "soak": _soak,
    "gpu": _gpu,
}


def _maker(name: str) -> Callable[[], str] | None:
    """What makes the table of that name: one of `TABLES`, or notes/EXPERIMENT and findings/EXPERIMENT."""
    kind, _, experiment = name.partition("/")
    path = ROOT / "benchmarks" / "results" / "notes" / f"{experiment}.json"
    if kind in NOTES and path.is_file():
        return lambda: NOTES[kind](json.loads(path.read_text(encoding="utf-8")))
    return TABLES.get(name)


def rewritten(text: str, *, document: str) -> str:
    """The document with every table made anew.

    Raises:
        ValueError: for a table nobody makes, or one that does not end.
    """
    parts = text.split(START)
    for position, part in enumerate(parts[1:], start=1):
        name, arrow, rest = part.partition(" -->")
        _, end, after = rest.partition(END)
        make = _maker(name)
        if make is None or not arrow or not end:
            raise ValueError(
                f"{document}: expected one of {', '.join(TABLES)}, or notes/NAME or findings/NAME of an experiment of "
                f"benchmarks/results/notes, up to '{END}', got '{name}'."
            )
        parts[position] = f"{name} -->\n{make()}\n{END}{after}"
    return START.join(parts)


def main(arguments: list[str]) -> int:
    """Rewrite, or with --check only compare."""
    changed = []
    for name in DOCUMENTS:
        path = ROOT / name
        if not path.is_file():
            continue
        before: Any = path.read_text(encoding="utf-8")
        after = rewritten(before, document=name)
        if after != before:
            changed.append(name)
            if "--check" not in arguments:
                path.write_text(after, encoding="utf-8")
    print(f"{'Stale' if '--check' in arguments else 'Rewrote'}: {', '.join(changed)}" if changed else "All up to date.")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
