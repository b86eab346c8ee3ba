"""Translations of new text from a checkpoint alone, in constant memory and in the order of the input."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch

from apps.translation.generation import Translation
from apps.translation.module import TranslationModule
from apps.translation.translator import Translator
from data.line_stream import line_stream

STANDARD = "-"


def predict(
    ckpt_path: str,
    input: str = STANDARD,
    output: str = STANDARD,
    beam_size: int | None = None,
    num_best: int = 1,
    length_penalty: float | None = None,
    coverage_penalty: float | None = None,
    no_repeat_ngram: int | None = None,
    max_length: int | None = None,
    replace_unknown: bool = False,
    alignments: str | None = None,
    max_source_length: int = 1000,
    token_budget: int = 4096,
    device: str = "cpu",
    progress: bool = True,
    overwrite: bool = False,
) -> None:
    """Translate text, a sentence a line, in the order of the input; an empty line stays an empty line.

    Plain output has a translation a line. With num_best > 1 it has "line ||| translation ||| score" for each, lines counted
    from 0. A file that ends in .jsonl gets an object a line: source and hypotheses with text, score, log_probability
    and alignment.

    Args:
        ckpt_path: the checkpoint; it holds all that is needed.
        input: text file in UTF-8, or - for standard input.
        output: file to write, or - for standard output; .jsonl for JSON lines, anything else for text.
        beam_size: width of the beam; 1 is greedy. None: as the checkpoint's test.
        num_best: translations of each sentence, at most beam_size.
        length_penalty: alpha of Wu et al. 2016, eq. 14; more favours longer translations. None: as the checkpoint's test.
        coverage_penalty: beta of the same. None: as the checkpoint's test.
        no_repeat_ngram: no run of this many pieces occurs twice in a translation. None: as the checkpoint's test.
        max_length: pieces a translation has at most. None: as the checkpoint's test.
        replace_unknown: put the source word that attention looked at most where the unknown word comes out (for Words).
        alignments: file for source-target pairs of words, a line a sentence, from 0 (Pharaoh format); needs attention.
        max_source_length: pieces of a sentence that are read; the rest is cut off, and the lines are named.
        token_budget: padded source pieces a batch; memory and speed, not results.
        device: where to compute, such as cpu or cuda.
        progress: show a progress bar on standard error, where that is a terminal.
        overwrite: replace output files where they exist.
    """
    for name, value in (
        ("num_best", num_best),
        ("max_source_length", max_source_length),
        ("token_budget", token_budget),
    ):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    for name, path in (("output", output), ("alignments", alignments)):
        if path is not None and path != STANDARD and Path(path).exists() and not overwrite:
            raise ValueError(f"--{name} {path} exists. Choose another name, or replace it with --overwrite true.")
    if input != STANDARD and not Path(input).is_file():
        raise ValueError(f"--input {input}: there is no such file. Give a text file, or - for standard input.")
    if alignments == output:
        raise ValueError(f"--output and --alignments are both {output}: give each a file of its own.")
    module = TranslationModule.from_checkpoint(ckpt_path).to(_device(device))
    assert module.network is not None
    if not module.network.has_attention:
        asked = {"alignments": alignments, "replace_unknown": replace_unknown, "coverage_penalty": coverage_penalty}
        for name in [name for name, value in asked.items() if value]:
            raise ValueError(f"--{name} needs attention, and the network in {ckpt_path} has none. Leave it out.")
    changes: dict[str, Any] = {
        "beam_size": beam_size,
        "num_best": num_best,
        "length_penalty": length_penalty,
        "coverage_penalty": coverage_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "max_length": max_length,
    }
    config = replace(module.search, **{name: value for name, value in changes.items() if value is not None})
    as_json = Path(output).suffix == ".jsonl"
    translator = Translator(
        module,
        config=config,
        replace_unknown=replace_unknown,
        align=alignments is not None or as_json,
        max_source_length=max_source_length,
        token_budget=token_budget,
    )
    with contextlib.ExitStack() as stack:
        lines, total = _input_lines(input, stack)
        out = stack.enter_context(_writable(output, "--output"))
        pairs = None if alignments is None else stack.enter_context(_writable(alignments, "--alignments"))
        bar = _progress_bar(total) if progress and sys.stderr.isatty() else None
        number = 0
        for source, found in translator.translate(lines):
            out.write(_as_json(source, found) if as_json else _as_text(number, found, num_best=num_best))
            if pairs is not None:
                pairs.write(_as_pharaoh(found) + "\n")
            number += 1
            if bar is not None:
                bar.update()
        if bar is not None:
            bar.close()
    for message in translator.messages():
        print(message, file=sys.stderr)
    print(f"Translated {number} lines" + ("." if output == STANDARD else f" to {output}."), file=sys.stderr)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used here ({str(error).splitlines()[0]}).") from error
    return device


def _input_lines(path: str, stack: contextlib.ExitStack) -> tuple[Iterator[str], int | None]:
    """The lines of a file or of standard input, and how many there are where that can be known beforehand."""
    if path == STANDARD:
        return line_stream(sys.stdin.buffer, name="standard input"), None
    with Path(path).open("rb") as file:
        total = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return line_stream(stack.enter_context(Path(path).open("rb")), name=path), total


@contextlib.contextmanager
def _writable(path: str, option: str) -> Iterator[IO[str]]:
    """A file that has its name only when it is whole; standard output as it is."""
    if path == STANDARD:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Input is UTF-8 whatever the terminal's settings are, and so is output.
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head` has; flushing once more at exit would be an error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written ({error.strerror}). Choose another folder.") from error
    try:
        with file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _as_text(number: int, found: list[Translation], *, num_best: int) -> str:
    if num_best == 1:
        return (found[0].text if found else "") + "\n"
    if not found:
        return f"{number} |||  ||| 0\n"
    return "".join(f"{number} ||| {one.text} ||| {one.score:.6g}\n" for one in found)


def _as_json(source: str, found: list[Translation]) -> str:
    hypotheses: list[dict[str, Any]] = [
        {
            "text": one.text,
            "score": one.score,
            "log_probability": one.log_probability,
            "alignment": None if one.alignment is None else [list(pair) for pair in one.alignment],
        }
        for one in found
    ]
    return json.dumps({"source": source, "hypotheses": hypotheses}, ensure_ascii=False) + "\n"


def _as_pharaoh(found: list[Translation]) -> str:
    if not found:
        return ""
    assert found[0].alignment is not None
    return " ".join(f"{source}-{target}" for source, target in found[0].alignment)


def _progress_bar(total: int | None) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="line", file=sys.stderr, smoothing=0.1)
