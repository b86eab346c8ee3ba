"""Translations of new text from a checkpoint alone, in constant memory and in the order of the input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.translation.ensemble import TranslationEnsemble
from apps.translation.module import TranslationModule
from apps.translation.network import TranslationNetwork
from apps.translation.predict_files import (
    HeatMaps,
    as_json,
    as_pharaoh,
    as_text,
    input_lines,
    paired_lines,
)
from apps.translation.translator import LINES_AT_ONCE, Translator
from core.training.command.members import as_paths, load_members
from core.training.command.prediction import STANDARD, check_output, progress_bar, rounding, usable_device, writable


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
    patience: float | None = None,
    target: str | None = None,
    replace_unknown: bool = False,
    alignments: str | None = None,
    heat_maps: str | None = None,
    num_heat_maps: int = 20,
    max_source_length: int = 1000,
    token_budget: int = 4096,
    lines_at_once: int | None = None,
    ensemble: list[str] | str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> None:
    """Translate text, a sentence a line, in the order of the input; an empty line stays an empty line.

    Plain output has a translation a line. With num_best > 1, or with a target, it has "line ||| translation ||| score" for
    each, lines counted from 0. A file that ends in .jsonl gets an object a line: source and hypotheses with text, score,
    log_probability and alignment.

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
        patience: a sentence is done at beam_size x patience ended hypotheses; .inf: once no other can win. None: as the
            checkpoint's test.
        target: file of translations, a line each: nothing is searched, these are scored, aligned and drawn.
        replace_unknown: put the source word that attention looked at most where the unknown word comes out (for Words).
        alignments: file for source-target pairs of words, a line a sentence, from 0 (Pharaoh format); needs attention.
        heat_maps: folder for pictures of where attention looked, a file a line; needs attention.
        num_heat_maps: lines that are drawn at most.
        max_source_length: pieces of a sentence that are read; the rest is cut off, and the lines are named.
        token_budget: padded source pieces a batch; memory and speed, not results.
        lines_at_once: lines that are read before they are translated. None: 4096, or 1 from a terminal.
        ensemble: a further checkpoint with the same vocabulary, or several as [b.ckpt, c.ckpt]: the probability of each next
            piece is the mean over all of them.
        device: where to compute, such as cpu or cuda.
        precision: bf16-mixed multiplies in bfloat16, which GPUs and newer CPUs do faster; results are rounded, and may depend a
            little on what is computed together. None: that of the checkpoint.
        progress: show a progress bar on standard error, where that is a terminal.
        overwrite: replace output files where they exist.
    """
    is_typed = input == STANDARD and sys.stdin.isatty()
    lines_at_once = lines_at_once if lines_at_once is not None else 1 if is_typed else LINES_AT_ONCE
    for name, value in (
        ("num_best", num_best),
        ("num_heat_maps", num_heat_maps),
        ("max_source_length", max_source_length),
        ("token_budget", token_budget),
        ("lines_at_once", lines_at_once),
    ):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    _check_files(
        {"input": input, "target": target},
        {"output": output, "alignments": alignments, "heat_maps": heat_maps},
        overwrite=overwrite,
    )
    others = as_paths(ensemble)
    modules = load_members(
        TranslationModule,
        [ckpt_path, *others],
        device=usable_device(device),
        alike=lambda made: {
            # One vocabulary of both languages serves both directions.
            "their languages": dict(made["languages"]),
            "the vocabulary of the source": made["source_text"]["fingerprint"],
            "the vocabulary of the target": made["target_text"] and made["target_text"]["fingerprint"],
        },
    )
    module = modules[0]
    joined = TranslationEnsemble.of(modules, names=[ckpt_path, *others]) if others else None
    penalties = {"length_penalty": length_penalty, "coverage_penalty": coverage_penalty}
    limits = {"beam_size": beam_size, "no_repeat_ngram": no_repeat_ngram, "patience": patience}
    options = {**limits, "num_best": num_best if num_best > 1 else None}
    _check_options(
        joined or module.network,
        needs_attention={
            "alignments": alignments,
            "heat_maps": heat_maps,
            "replace_unknown": replace_unknown,
            "coverage_penalty": coverage_penalty,
        },
        needs_search={**options, "length_penalty": length_penalty},
        searches={**options, "max_length": max_length, "replace_unknown": replace_unknown or None},
        whose="a member of the ensemble" if others else f"the network in {ckpt_path}",
        target=target,
    )
    changes = {**penalties, **limits, "max_length": max_length, "num_best": num_best}
    config = replace(module.search, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    is_json = Path(output).suffix == ".jsonl"
    translator = Translator(
        module,
        config=config,
        replace_unknown=replace_unknown,
        align=alignments is not None or is_json,
        max_source_length=max_source_length,
        token_budget=token_budget,
        lines_at_once=lines_at_once,
        ensemble=joined,
    )
    maps = None
    if heat_maps is not None:
        maps = HeatMaps(Path(heat_maps), most=num_heat_maps, source_text=module.texts[0])
    with contextlib.ExitStack() as stack:
        lines, total = input_lines(input, stack)
        found_of = translator.translate(lines)
        if target is not None:
            targets, _ = input_lines(target, stack)
            found_of = translator.score(paired_lines(lines, targets, names=(input, target)))
        stack.enter_context(rounding(precision, *modules))
        out = stack.enter_context(writable(output, "--output"))
        pairs = None if alignments is None else stack.enter_context(writable(alignments, "--alignments"))
        count = stack.enter_context(progress_bar(total, unit="line", shown=progress and not is_typed))
        number = 0
        for source, found in found_of:
            if is_json:
                out.write(as_json(source, found))
            else:
                out.write(as_text(number, found, with_scores=num_best > 1 or target is not None))
            if output == STANDARD:
                out.flush()  # whoever waits for it need not wait for more
            if pairs is not None:
                pairs.write(as_pharaoh(found) + "\n")
            number += 1
            if maps is not None:
                maps.add(number, source, found)
            count()
    for message in translator.messages() + ([] if maps is None else maps.messages()):
        print(message, file=sys.stderr)
    done = "Translated" if target is None else "Scored"
    print(f"{done} {number} lines" + ("." if output == STANDARD else f" to {output}."), file=sys.stderr)


def _check_files(inputs: Mapping[str, str | None], outputs: Mapping[str, str | None], *, overwrite: bool) -> None:
    maps = outputs["heat_maps"]
    if maps is not None and any(part.exists() and not part.is_dir() for part in (Path(maps), *Path(maps).parents)):
        raise ValueError(f"--heat_maps {maps} is, or lies in, a file: name a folder.")
    for name, path in outputs.items():
        if path is not None and name != "heat_maps":
            check_output(path, f"--{name}", overwrite=overwrite)
    if maps is not None and not overwrite and Path(maps).exists() and any(Path(maps).iterdir()):
        raise ValueError(f"--heat_maps {maps} exists. Choose another name, or replace it with --overwrite true.")
    for name, path in inputs.items():
        if path is not None and path != STANDARD and not Path(path).is_file():
            raise ValueError(f"--{name} {path}: there is no such file. Give a text file, or - for standard input.")
    if inputs["target"] is not None and inputs["target"] == inputs["input"]:
        raise ValueError(
            f"--input and --target are both {inputs['input']}: give the translations in a file of their own."
        )
    used = [(name, path) for name, path in outputs.items() if path is not None]
    for place, (name, path) in enumerate(used):
        for other, same in used[:place]:
            if path == same:
                raise ValueError(f"--{other} and --{name} are both {path}: give each a file of its own.")


def _check_options(
    network: TranslationNetwork | TranslationEnsemble | None,
    *,
    needs_attention: Mapping[str, Any],
    needs_search: Mapping[str, Any],
    searches: Mapping[str, Any],
    whose: str,
    target: str | None,
) -> None:
    """Refuse what would do nothing."""
    assert network is not None
    if not network.has_attention:
        for name in [name for name, value in needs_attention.items() if value]:
            raise ValueError(f"--{name} needs attention, and {whose} has none. Leave it out.")
    if not network.has_search:
        for name in [name for name, value in needs_search.items() if value is not None]:
            raise ValueError(f"--{name} does nothing for {whose}: each of its words stands for itself. Leave it out.")
    if target is not None:
        for name in [name for name, value in searches.items() if value is not None]:
            raise ValueError(f"--{name} does nothing with --target: nothing is searched. Leave it out.")
