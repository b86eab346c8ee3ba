"""What is asked of both sides of the translation benchmark, and the rows that come of it."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import harness
from benchmarks.harness import Result, write_results
from benchmarks.translation_task import Task
from benchmarks.worker import Answer, Worker

if TYPE_CHECKING:
    from data.translation import TranslationData

# Sums of thousands of float32 products in another order.
TOLERANCE = 1e-4
# Share of the batch plan's steps that may be padding.
WASTE_GOAL = 0.08
# Of the rival where ours multiplies in bfloat16.
IN_FLOAT32 = " in float32, as it has no other on CPU"


class Measured(NamedTuple):
    """What came of a measurement."""

    rows: list[Result]
    missed: list[str]
    """A sentence of each row that there is not, because ours did not get there."""


class MeasurementError(RuntimeError):
    """What was measured cannot be held against each other."""


def _size(default: int, counts: str) -> int:
    size: int = field(default=default, metadata={"counts": counts})
    return size


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured; as they stand, the sizes of the published table."""

    block: int = _size(10, "optimiser steps of a side before the other's turn")
    pairs: int = _size(9, "turns of each side in training")
    warm_up: int = _size(5, "unmeasured steps of each side before the first turn")
    steps_before_decoding: int = _size(1100, "steps that ours has trained when both sides translate with its weights")
    sentences: int = _size(480, "sentences of the test translated at each turn")
    decoding_pairs: int = _size(5, "turns of each side in translating")
    epochs: int = _size(6, "epochs that both sides train for the time to BLEU")
    scores_an_epoch: int = _size(2, "BLEU figures of each side in an epoch")

    def __post_init__(self) -> None:
        for name in self.units():
            least = 3 if name.endswith("pairs") else 1
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}.")

    @classmethod
    def units(cls) -> dict[str, str]:
        """What each size counts."""
        return {one.name: one.metadata["counts"] for one in fields(cls)}


@dataclass(frozen=True)
class Sides:
    """The two processes."""

    ours: Worker
    """Ours, with batches of like length."""
    rival: Worker
    """The rival's."""
    rival_name: str
    """How its rows call it."""

    def check(self) -> None:
        """Hold the two networks and corpora against each other.

        Raises:
            MeasurementError: they differ in size.
        """
        ours, rival = self.ours.ask("describe"), self.rival.ask("describe")
        for name, what in (
            ("num_weights", "weights that are free"),
            ("vocabulary_size", "pieces"),
            ("num_pairs", "pairs to train on"),
        ):
            if ours[name] != rival[name]:
                raise MeasurementError(
                    f"Ours has {ours[name]} {what}, {self.rival_name} {rival[name]}: not the same task."
                )
        print(
            f"both sides: {ours['num_weights']:,} weights, {ours['vocabulary_size']:,} pieces, {ours['num_pairs']:,} pairs",
            file=sys.stderr,
        )


def row(
    case: str,
    ours: Sequence[float],
    rival: Sequence[float],
    *,
    unit: str,
    rival_name: str,
    goal: float | None = None,
    more_is_better: bool = True,
) -> Result:
    """A row from the figures of both sides, turn by turn."""
    ratios = [
        our_figure / its_figure if more_is_better else its_figure / our_figure
        for our_figure, its_figure in zip(ours, rival, strict=True)
    ]
    first, _, third = statistics.quantiles(ratios, n=4)
    return Result(
        case=case,
        ours=statistics.median(ours),
        rival=statistics.median(rival),
        rival_name=rival_name,
        unit=unit,
        ratio=statistics.median(ratios),
        spread=third - first,
        goal=goal,
    )


def training_rows(sides: Sides, *, unbucketed: Worker, half: Worker | None, sizes: Sizes) -> list[Result]:
    """Target tokens a second in training, what of it is due to the batch plan, and the padding.

    Args:
        sides: ours and the rival.
        unbucketed: ours, with batches drawn at random.
        half: ours in mixed precision with bfloat16; None where the CPU has none.
        sizes: how much is measured.
    """
    workers = {"ours": sides.ours, "rival": sides.rival, "unbucketed": unbucketed}
    if half is not None:
        workers["bf16"] = half
    for worker in workers.values():
        worker.ask("train", steps=sizes.warm_up)
    blocks: dict[str, list[Answer]] = {name: [] for name in workers}
    for turn in range(sizes.pairs):
        # Each goes first in half of the turns.
        for name in list(workers)[:: 1 if turn % 2 == 0 else -1]:
            blocks[name].append(workers[name].ask("train", steps=sizes.block))

    def rates(name: str, count: str = "target_tokens") -> list[float]:
        return [block[count] / block["seconds"] for block in blocks[name]]

    def waste(block: Answer) -> float:
        return 1 - float(block["tokens"]) / float(block["padded_tokens"])

    for name in [name for name in workers if name != "rival"]:
        print(
            f"training, {name}: {_by_processor_time(blocks[name], blocks['rival'], 'target_tokens')}", file=sys.stderr
        )
    ours, its = sides.ours.ask("describe")["padding_waste"], [waste(block) for block in blocks["rival"]]
    rival = sides.rival_name
    rows = [
        row("translation.train", rates("ours"), rates("rival"), unit="tokens/s", rival_name=rival, goal=3.0),
        row("translation.train.unbucketed", rates("unbucketed"), rates("rival"), unit="tokens/s", rival_name=rival),
        row(
            "translation.train.padded",
            rates("ours", "padded_target_tokens"),
            rates("rival", "padded_target_tokens"),
            unit="tokens/s",
            rival_name=f"{rival}, padding counted",
        ),
        row(
            "translation.padding_waste",
            [100 * ours] * len(its),
            [100 * share for share in its],
            unit="%",
            rival_name=rival,
            goal=round(statistics.median(its) / WASTE_GOAL, 2),
            more_is_better=False,
        ),
    ]
    if half is not None:
        name = f"{rival}{IN_FLOAT32}"
        rows.append(
            row("translation.train.bf16", rates("bf16"), rates("rival"), unit="tokens/s", rival_name=name, goal=3.0)
        )
    return rows


def _by_processor_time(ours: Sequence[Answer], rival: Sequence[Answer], count: str) -> str:
    """The ratio on a machine that is busy with other work, where one thread a side is measured."""
    rates = [sum(one[count] for one in side) / sum(one["cpu_seconds"] for one in side) for side in (ours, rival)]
    return f"ratio by processor time {rates[0] / rates[1]:.2f}"


def decoding_rows(
    sides: Sides, *, half: Worker | None, task: Task, data: "TranslationData", sizes: Sizes
) -> list[Result]:
    """Sentences a second in greedy and beam search, both sides with the same trained weights.

    Args:
        sides: ours and the rival.
        half: ours in mixed precision with bfloat16; None where the CPU has none.
        task: what is translated.
        data: the corpus.
        sizes: how much is measured.

    Raises:
        MeasurementError: the same weights do not give the same loss.
    """
    trained = sides.ours.ask("train", steps=sizes.steps_before_decoding)
    print(f"ours has trained {trained['steps']} further steps before it translates", file=sys.stderr)
    path = str(Path(task.folder, "weights.pt"))
    sides.ours.ask("save", path=path)
    sides.rival.ask("load", path=path)
    check_loss(sides)
    workers = {"ours": sides.ours, "rival": sides.rival}
    if half is not None:
        half.ask("load", path=path)
        workers["bf16"] = half
    rows = []
    for case, beam_size in (("translation.greedy", 1), ("translation.beam", task.beam_size)):
        answers: dict[str, list[Answer]] = {name: [] for name in workers}
        for turn in range(-1, sizes.decoding_pairs):
            for name in list(workers)[:: 1 if turn % 2 == 0 else -1]:
                # The first turn warms up.
                number = task.batch_size if turn < 0 else sizes.sentences
                answer = workers[name].ask("translate", part="test", sentences=number, beam_size=beam_size)
                if turn >= 0:
                    answers[name].append({**answer, "sentences": len(answer["texts"])})
        rival = answers.pop("rival")
        for name, ours in answers.items():
            print(
                f"{case}, {name}: {_agreement(ours[-1], rival[-1], data=data)}; "
                f"{_by_processor_time(ours, rival, 'sentences')}",
                file=sys.stderr,
            )
            rows.append(
                row(
                    case if name == "ours" else f"{case}.{name}",
                    *([one["sentences"] / one["seconds"] for one in side] for side in (ours, rival)),
                    unit="sent./s",
                    rival_name=f"{sides.rival_name}, batch {task.batch_size}" + ("" if name == "ours" else IN_FLOAT32),
                    goal=4.0,
                )
            )
    return rows


def check_loss(sides: Sides) -> None:
    """Both sides give the same loss for the same pairs.

    Raises:
        MeasurementError: they do not.
    """
    ours, rival = sides.ours.ask("loss"), sides.rival.ask("loss")
    error = abs(ours["loss"] - rival["loss"]) / abs(rival["loss"])
    if ours["target_tokens"] != rival["target_tokens"] or not error <= TOLERANCE:
        raise MeasurementError(
            f"With the same weights, ours has a loss of {ours['loss']:.4f} over {ours['target_tokens']} tokens, "
            f"{sides.rival_name} {rival['loss']:.4f} over {rival['target_tokens']} (tolerance {TOLERANCE:.0e}, relative): the "
            "two do not compute the same."
        )


def _agreement(ours: Answer, rival: Answer, *, data: "TranslationData") -> str:
    """How alike the translations are: whether both did the same work."""
    equal = sum(one == other for one, other in zip(ours["texts"], rival["texts"], strict=True))
    number = len(ours["texts"])
    return (
        f"{equal} of {number} translations are the same; tokens a sentence {ours['tokens'] / number:.2f} (ours), "
        f"{rival['tokens'] / number:.2f}; BLEU {bleu_of(ours, data=data, part='test'):.2f} (ours), "
        f"{bleu_of(rival, data=data, part='test'):.2f}"
    )


def bleu_of(answer: Answer, *, data: "TranslationData", part: str) -> float:
    """Cased BLEU of what was translated, of the first sentences of a part."""
    from apps.translation.metrics import translation_metrics

    texts = answer["texts"]
    return translation_metrics(texts, data.references(part)[: len(texts)])["bleu_cased"]


def write_rows(results: Sequence[Result], *, path: Path | None = None) -> Path:
    """Write the rows, and keep those of the file that were not measured this time."""
    path = path or harness.RESULTS / "translation.json"
    kept = [Result(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
    merged = {result.case: result for result in (*kept, *results)}
    return write_results(list(merged.values()), name="translation", path=path)
