"""Draws BLEU by length of the source for several translators of the same test set, side by side.

    python -m scripts.bleu_by_length --output compared.png attention=runs/translation/a context=runs/translation/b

Each is a name and the folder of a run that was tested: `test_translations.jsonl` is read, and nothing is translated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from apps.translation.metrics import bleu_by_length
from apps.translation.plots import Bins, plot_bleu_by_length
from apps.translation.report import LENGTH_EDGES, TRANSLATIONS_FILE


def main() -> None:
    """Draw what the command line names; exit status 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN_DIR")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--title", default="BLEU by length of the source")
    given = parser.parse_args()
    try:
        plot_bleu_by_length(_curves(given.runs), given.output, title=given.title)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Wrote {given.output}")


def _curves(runs: list[str]) -> dict[str, Bins]:
    curves: dict[str, Bins] = {}
    read: dict[str, list[tuple[str, str]]] = {}
    for run in runs:
        name, is_named, folder = run.partition("=")
        if not (name and is_named and folder):
            raise ValueError(f"expected NAME=RUN_DIR, got {run!r}.")
        if name in curves:
            raise ValueError(f"two runs are named {name!r}: give each a name of its own.")
        path = Path(folder) / TRANSLATIONS_FILE
        if not path.is_file():
            raise ValueError(f"{path} does not exist: give the folder of a run that was tested.")
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        read[name] = [(row["source"], row["reference"]) for row in rows]
        first = next(iter(read))
        if read[name] != read[first]:
            raise ValueError(
                f"{name} and {first} were tested on different sentences: only the same ones can be compared."
            )
        curves[name] = bleu_by_length(
            [row["ours"] for row in rows],
            [row["reference"] for row in rows],
            lengths=[len(row["source"].split()) for row in rows],
            edges=LENGTH_EDGES,
        )
    return curves


if __name__ == "__main__":
    main()
