"""How long each side of the translation benchmark trains until it translates as well as the rival ever does.

Hours of training in turns would be twice as many: the rival trains on CPUs of its own, ours on others at the same time, in
float32 first and then, on a CPU that has it, in bfloat16.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from benchmarks.harness import Result
from benchmarks.translation_rows import IN_FLOAT32, Measured, Sizes, bleu_of
from benchmarks.translation_task import Task
from benchmarks.worker import Worker

if TYPE_CHECKING:
    from data.translation import TranslationData

RIVAL = "rival"
Curve = list[tuple[float, float]]
"""(minutes trained, BLEU of the test) at each score."""


def cpus_of_their_own(num_threads: int) -> tuple[set[int] | None, set[int] | None]:
    """CPUs for the rival and for ours; None for both where they would have to share."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    free = sorted(os.sched_getaffinity(0))
    if len(free) < 2 * num_threads:
        return None, None
    return set(free[:num_threads]), set(free[num_threads : 2 * num_threads])


def measure_time_to_bleu(
    rival: Worker, ours: Mapping[str, Worker], *, rival_name: str, task: Task, data: "TranslationData", sizes: Sizes
) -> Measured:
    """Minutes of training until the test is translated as well as the rival ever does.

    All train equally many epochs, ours at a constant rate, the rival with its plateau scheduler over the BLEU of the
    validation part; scoring counts on nobody's clock. The time is that of the first score, cased BLEU of the whole test by
    beam search, at or above the rival's best.

    Args:
        rival: the rival's side.
        ours: ours, by the ending of its row; they train one after the other.
        rival_name: how rows call the rival.
        task: what is translated.
        data: the corpus.
        sizes: how much is measured.

    Raises:
        WorkerError: a side ended before its time; the others are ended too.
    """

    def follow(workers: Mapping[str, Worker]) -> dict[str, Curve]:
        return {name: _curve(worker, name, task=task, data=data, sizes=sizes) for name, worker in workers.items()}

    with ThreadPoolExecutor(2) as lanes:
        futures = [lanes.submit(follow, workers) for workers in ({RIVAL: rival}, ours)]
        done, unfinished = wait(futures, return_when=FIRST_EXCEPTION)
        if unfinished:  # one has failed, and the other would go on for an hour
            for worker in (rival, *ours.values()):
                worker.process.kill()
        for future in (*done, *unfinished):  # what has failed by itself is to be told, not what was killed
            future.result()
        curves = futures[0].result() | futures[1].result()
    return compare(curves.pop(RIVAL), curves, rival_name=rival_name)


def _curve(worker: Worker, name: str, *, task: Task, data: "TranslationData", sizes: Sizes) -> Curve:
    """Train to the end, scored on the way."""
    steps_an_epoch = -(-int(worker.ask("describe")["num_pairs"]) // task.batch_size)
    steps = -(-steps_an_epoch // sizes.scores_an_epoch)
    curve: Curve = []
    while True:
        block = worker.ask("train", steps=steps)
        score = _score(worker, "test", beam_size=task.beam_size, data=data)
        curve.append(((curve[-1][0] if curve else 0.0) + block["seconds"] / 60, score))
        print(f"{worker.name}: BLEU {score:.2f} after {curve[-1][0]:.2f} min", file=sys.stderr, flush=True)
        # What the rival's scheduler goes by.
        validation = _score(worker, "validation", beam_size=1, data=data) if name == RIVAL else 0.0
        if worker.ask("validated", score=validation)["ended"] or block["ended"]:
            return curve


def _score(worker: Worker, part: str, *, beam_size: int, data: "TranslationData") -> float:
    answer = worker.ask("translate", part=part, sentences=len(data.references(part)), beam_size=beam_size)
    return bleu_of(answer, data=data, part=part)


def compare(rival: Curve, ours: Mapping[str, Curve], *, rival_name: str) -> Measured:
    """The rows of those of ours that got to the rival's best score, and a sentence of each that did not.

    Args:
        rival: its scores.
        ours: scores of ours, by the ending of its row.
        rival_name: how rows call the rival.
    """
    target = max(bleu for _, bleu in rival)
    its_time = reached(rival, target)
    assert its_time is not None
    found = Measured([], [])
    for ending, curve in ours.items():
        case, our_time = f"translation.time_to_bleu{ending}", reached(curve, target)
        if our_time is None:
            found.missed.append(
                f"{case}: {rival_name} reached BLEU {target:.2f} in {its_time:.1f} min; ours got to "
                f"{max(bleu for _, bleu in curve):.2f} in {curve[-1][0]:.1f} min. Raise --epochs."
            )
            continue
        found.rows.append(
            Result(
                case=case,
                ours=our_time,
                rival=its_time,
                rival_name=f"{rival_name}, its best BLEU {target:.1f}{IN_FLOAT32 if ending else ''}",
                unit="min",
                ratio=its_time / our_time,
                spread=0.0,
                goal=3.0,
            )
        )
    return found


def reached(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Minutes at the first score at or above the target; None where there is none."""
    return next((minutes for minutes, bleu in curve if bleu >= target), None)
