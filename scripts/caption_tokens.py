"""Counts how often `apps.captioning.scores` splits a caption otherwise than the reference evaluation, and what that changes.

    python -m scripts.caption_tokens --reference-python PATH [--lines FILE ...] [--output FILE]

PATH is a Python that has pycocoevalcap 1.2 and numpy (an environment of its own will do), on a machine with Java. The captions
are those of Flickr8k, under UNROLL_DATA. Metrics are computed of the fifth caption of each test image against the other
four: by the reference on its own tokens, by the reference on ours, and by ours on ours. Each --lines is a text file, a
caption a line, whose tokens are compared too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.captioning.scores import caption_tokens, metrics_of_tokens
from data.paths import find_data

DEFAULT_OUTPUT = Path("results/captioning/tokeniser.json")
MAX_SHOWN = 20

# Run by the other Python: it has nothing of ours. Java reads UTF-8 whatever the locale is.
_REFERENCE = """
import json, os, sys
os.environ["JAVA_TOOL_OPTIONS"] = "-Dfile.encoding=UTF-8"
from importlib.metadata import version
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

asked = json.load(sys.stdin)
if "captions" in asked:
    tokens = PTBTokenizer().tokenize({row: [{"caption": text}] for row, text in enumerate(asked["captions"])})
    answer = {"tokens": [tokens[row][0].split() for row in range(len(tokens))]}
else:
    texts = lambda rows: {row: [" ".join(tokens) for tokens in of_row] for row, of_row in enumerate(rows)}
    references, captions = texts(asked["references"]), texts([[tokens] for tokens in asked["hypotheses"]])
    bleu = Bleu(4).compute_score(references, captions, verbose=0)[0]
    answer = {f"bleu{order}": 100 * value for order, value in enumerate(bleu, start=1)}
    answer["rouge_l"] = float(Rouge().compute_score(references, captions)[0])
    answer["cider_d"] = float(Cider().compute_score(references, captions)[0])
json.dump({**answer, "version": version("pycocoevalcap")}, sys.stdout)
"""


def main() -> None:
    """Compare, print and write; exit status 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", required=True, type=Path, metavar="PATH")
    parser.add_argument("--lines", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--output", default=DEFAULT_OUTPUT, type=Path)
    given = parser.parse_args()
    try:
        record = compare(given.reference_python, lines=given.lines)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    words = ["python", "-m", "scripts.caption_tokens", "--reference-python", "PATH"]
    record = {"command": shlex.join([*words, *(["--lines", *given.lines] if given.lines else [])]), **record}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, found in record["tokens"].items():
        print(f"{name}: {found['num_different']} of {found['num_captions']} captions differ")
    for name, metrics in record["metrics"].items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.6f}" for metric, value in metrics.items()))
    print(f"Wrote {given.output}")


def compare(reference_python: Path, *, lines: Sequence[str]) -> dict[str, Any]:
    """Counts and metrics, as they are written.

    Raises:
        ValueError: where a file is not there or not as expected, or the reference does not run.
    """
    captions = read_captions(find_data("flickr8k/Flickr8k.token.txt"))
    test_images = find_data("flickr8k/Flickr_8k.testImages.txt").read_text(encoding="utf-8").split()
    texts = {"flickr8k": [text for of_image in captions.values() for text in of_image]}
    texts |= {name: find_data(name).read_text(encoding="utf-8").splitlines() for name in lines}
    tokens, theirs = {}, {}
    for name, some in texts.items():
        answer = _ask(reference_python, {"captions": some})
        tokens[name], of_text = _differences(some, answer["tokens"])
        if name == "flickr8k":
            theirs, reference_version = of_text, answer["version"]
    ours = {text: caption_tokens(text) for text in texts["flickr8k"]}
    last, others = [captions[image][4] for image in test_images], [captions[image][:4] for image in test_images]

    def split(by: dict[str, list[str]]) -> dict[str, Any]:
        return {"hypotheses": [by[text] for text in last], "references": [[by[one] for one in some] for some in others]}

    by_reference = {
        "reference metrics, reference tokens": _ask(reference_python, split(theirs)),
        "reference metrics, our tokens": _ask(reference_python, split(ours)),
    }
    for metrics in by_reference.values():
        del metrics["version"]
    return {
        "reference": f"pycocoevalcap {reference_version}",
        "tokens": tokens,
        "num_test_images": len(test_images),
        "metrics": {**by_reference, "our metrics, our tokens": metrics_of_tokens(**split(ours))},
    }


def read_captions(path: Path) -> dict[str, list[str]]:
    """The captions of each image in a file of lines "IMAGE#NUMBER<tab>CAPTION", in the order of their numbers."""
    numbered: dict[str, dict[str, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        name, tab, text = line.partition("\t")
        image, hash_sign, of_image = name.partition("#")
        if line and not (tab and hash_sign):
            raise ValueError(f"{path}, line {number}: expected IMAGE#NUMBER, a tab and a caption, got {line[:60]!r}.")
        if line:
            numbered.setdefault(image, {})[of_image] = text
    return {image: [of_image[key] for key in sorted(of_image)] for image, of_image in numbered.items()}


def _differences(texts: Sequence[str], reference: Sequence[list[str]]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    different = [
        {"caption": text, "ours": " ".join(ours), "reference": " ".join(theirs)}
        for text, theirs in zip(texts, reference, strict=True)
        if (ours := caption_tokens(text)) != theirs
    ]
    counts = {
        "num_captions": len(texts),
        "num_different": len(different),
        "share_different": len(different) / len(texts),
        "different": different[:MAX_SHOWN],
    }
    return counts, dict(zip(texts, reference, strict=True))


def _ask(python: Path, question: dict[str, Any]) -> Any:
    try:
        done = subprocess.run(
            [str(python), "-c", _REFERENCE], input=json.dumps(question), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ValueError(f"{python} cannot be run ({error.strerror}). Give a Python by --reference-python.") from error
    if done.returncode:
        raise ValueError(
            f"The reference evaluation failed:\n{done.stderr.strip()}\n{python} must have pycocoevalcap and numpy, and "
            "`java` must be on the path."
        )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
