"""`make demo`: trains every application there is on embedded data and shows what came out.

Writes runs/demo/<application>/ and runs/demo/report.html, a plain page with the table and the pictures.
"""

from __future__ import annotations

import html
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.training.command.finished_run import METRICS_FILE, format_table

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "demo"


@dataclass(frozen=True)
class Demo:
    """One application of the demo: its metrics shown, its pictures with a caption each."""

    application: str
    title: str
    metrics: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]


DEMOS = (
    Demo(
        "forecasting",
        "Forecasting: daily weather of Seattle, the next two weeks",
        ("mae", "mse", "mase", "wql", "coverage80"),
        (
            ("plots/forecast.png", "The last two weeks of the data, which training never saw: median and intervals."),
            (
                "plots/error_by_horizon.png",
                "Mean absolute error, one to fourteen days ahead, over the whole last year.",
            ),
        ),
    ),
    Demo(
        "translation",
        "Translation: English to French, sentences that training never saw",
        ("exact_match", "bleu_cased", "chrf", "loss"),
        (
            ("plots/attention.png", "Where the network looked, for each piece of its translation (rows)."),
            ("plots/bleu_by_length.png", "BLEU of the test part by words of the sentence."),
            ("plots/learning_curves.png", "Loss and BLEU of generated translations, epoch by epoch."),
        ),
    ),
    Demo(
        "captioning",
        "Captioning: pictures of shapes, half of them of combinations that training never saw",
        ("true", "bleu4", "cider_d", "loss"),
        (
            ("plots/contact_sheet.png", "Test pictures: what the network says (orange: not true), and two references."),
            ("plots/attention_1.png", "Where the network looked for each word."),
            ("plots/learning_curves.png", "Loss and CIDEr-D of generated captions, epoch by epoch."),
        ),
    ),
    Demo(
        "video_classification",
        "Video classification: motions that differ in the order of their frames alone",
        ("top1", "top5", "loss"),
        (
            ("plots/over_time_2.png", "A test video, and how probable classes are with every further frame."),
            ("plots/confusion.png", "Test videos of each class (rows), and what they were taken for."),
            ("plots/learning_curves.png", "Loss and accuracy, epoch by epoch."),
        ),
    ),
)


def main() -> None:
    """Run the demos one after the other; stops at the first that fails, with its exit status."""
    finished: list[tuple[Demo, dict[str, Any], float]] = []
    for demo in DEMOS:
        print(f"\n== {demo.title}\n", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", f"apps.{demo.application}", "fit", "-c"]
        command.append(f"configs/{demo.application}/demo.yaml")
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            sys.exit(status)
        seconds = time.monotonic() - start
        finished.append((demo, json.loads((RUNS / demo.application / METRICS_FILE).read_text()), seconds))
    print("\n== Results\n")
    for demo, result, seconds in finished:
        print(f"{demo.title} ({seconds:.0f} s)\n{format_table(_rows(result), demo.metrics)}\n")
    page = RUNS / "report.html"
    page.write_text(_page(finished), encoding="utf-8")
    print(f"Report with pictures: {page.relative_to(ROOT)}")


def _rows(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    rows = {"ours": result["metrics"], **result["baselines"]}
    names = {"ours": "recurrent", "feed_forward": "feed-forward", "seasonal_naive": "seasonal naive"}
    return {
        names.get(who, who): {name: value for name, value in values.items() if value is not None}
        for who, values in rows.items()
    }


def _page(finished: list[tuple[Demo, dict[str, Any], float]]) -> str:
    parts = []
    for demo, result, seconds in finished:
        rows = _rows(result)
        head = "".join(f"<th>{metric}</th>" for metric in demo.metrics)
        body = "".join(
            f"<tr><th>{html.escape(who)}</th>"
            + "".join(f"<td>{values[m]:.3f}</td>" if m in values else "<td>&ndash;</td>" for m in demo.metrics)
            + "</tr>"
            for who, values in rows.items()
        )
        pictures = "".join(
            f'<figure><img src="{demo.application}/{path}" alt="{html.escape(caption)}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for path, caption in demo.pictures
        )
        facts = f"{result['parameters']:,} parameters, {result['steps']:,} steps, {seconds:.0f} s in all"
        parts.append(
            f"<h2>{html.escape(demo.title)}</h2><p>{facts}.</p><table><tr><th></th>{head}</tr>{body}</table>{pictures}"
        )
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;color:#1f2933;max-width:64rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .9rem;text-align:right}"
        "tr+tr{border-top:1px solid #e4e7eb}th:first-child{text-align:left}figure{margin:1.5rem 0}"
        "img{max-width:100%}figcaption{color:#52606d;font-size:.9rem}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Unroll: demo</title><style>{style}</style>'
        f"<h1>Unroll: demo</h1>{''.join(parts)}</html>\n"
    )


if __name__ == "__main__":
    main()
