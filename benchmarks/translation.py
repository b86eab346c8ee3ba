"""Translation against JoeyNMT: training, greedy and beam search, padding, time to its BLEU.

    python -m benchmarks.translation --set-up ~/joeynmt             # once: makes its virtual environment there, several GB
    python -m benchmarks.translation --joeynmt-python ~/joeynmt/bin/python
    python -m benchmarks.translation --joeynmt-python ... --only time_to_bleu      # long: more than an hour

Multi30k German to English (`multi30k/` in UNROLL_DATA), 8,000 pieces, LSTM of 256 units a direction, LSTM of 512 with
Luong's attention and input feeding, 80 pairs an optimiser step, float32. Both sides train by their own command-line's loop,
each in a process of its own, in turns; for the time to BLEU at once, each on CPUs of its own. Before anything is translated
in turns both get the same weights, and must give the same loss: exits with 1 if they do not, whatever the speed.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import joeynmt
from benchmarks.harness import Result, print_results
from benchmarks.time_to_bleu import cpus_of_their_own, measure_time_to_bleu
from benchmarks.translation_rows import (
    Measured,
    MeasurementError,
    Sides,
    Sizes,
    decoding_rows,
    training_rows,
    write_rows,
)
from benchmarks.translation_task import Task, data_of, write_cut_text
from benchmarks.worker import Worker, WorkerError
from core.nn.recurrence.kernels import has_lstm_under_autocast
from data.paths import find_data

GROUPS = ("training", "decoding", "time_to_bleu")
SMALL_TASK = {
    "vocabulary_size": 400,
    "embedding_size": 16,
    "encoder_size": 16,
    "decoder_size": 32,
    "batch_size": 16,
    "max_length": 20,
}
SMALL = Sizes(block=2, pairs=3, warm_up=1, steps_before_decoding=12, sentences=32, decoding_pairs=3)


def prepare(folder: Path, *, num_threads: int, small: bool) -> Task:
    """Cut the corpus and leave the task in the folder.

    Raises:
        ValueError: the corpus is not there, or not as it should be.
    """
    corpus = find_data("multi30k")
    task = Task(folder=str(folder), corpus=str(corpus.resolve()), num_threads=num_threads)
    if small:
        task = replace(task, **SMALL_TASK)  # type: ignore[arg-type]
    data = data_of(task)
    data.prepare_data()
    write_cut_text(task, data)
    task.write()
    return task


def measure(task: Task, rival: list[str], *, sizes: Sizes, groups: tuple[str, ...]) -> Measured:
    """The rows of some groups, each printed as soon as it is there, and what was missed.

    Args:
        task: as `prepare` left it.
        rival: what starts the rival's side.
        sizes: how much is measured.
        groups: some of `GROUPS`.

    Raises:
        MeasurementError: the two sides do not compute the same.
        WorkerError: a side ended before its time.
    """
    results: list[Result] = []
    missed: list[str] = []
    has_bfloat16 = has_lstm_under_autocast(torch.bfloat16)
    if not has_bfloat16:
        print("Rows in bfloat16 are left out: this CPU has none.", file=sys.stderr)

    def add(rows: list[Result]) -> None:
        print_results(rows, header=not results)
        results.extend(rows)

    data = data_of(task)
    data.prepare_data()
    folder = Path(task.folder)

    def start(name: str, command: list[str], stack: ExitStack, *, cpus: set[int] | None = None) -> Worker:
        worker = Worker(name, command=command, log=folder / f"{name}.log", num_threads=task.num_threads, cpus=cpus)
        stack.callback(worker.close)
        return worker

    if {"training", "decoding"} & set(groups):
        with ExitStack() as stack:
            sides = Sides(
                start("ours", joeynmt.our_command(folder), stack),
                start("joeynmt", rival, stack),
                rival_name=joeynmt.NAME,
            )
            sides.check()
            half = None
            if has_bfloat16:
                half = start("ours_bf16", joeynmt.our_command(folder, precision="bf16-mixed"), stack)
            if "training" in groups:
                with ExitStack() as for_training:
                    unbucketed = start("ours_unbucketed", joeynmt.our_command(folder, bucketed=False), for_training)
                    add(training_rows(sides, unbucketed=unbucketed, half=half, sizes=sizes))
            if "decoding" in groups:
                add(decoding_rows(sides, half=half, task=task, data=data, sizes=sizes))
    if "time_to_bleu" in groups:
        replace(task, max_epochs=sizes.epochs).write()
        with ExitStack() as stack:
            its_cpus, our_cpus = cpus_of_their_own(task.num_threads)
            ours = {"": start("ours_to_bleu", joeynmt.our_command(folder), stack, cpus=our_cpus)}
            sides = Sides(ours[""], start("joeynmt_to_bleu", rival, stack, cpus=its_cpus), rival_name=joeynmt.NAME)
            sides.check()
            if has_bfloat16:
                command = joeynmt.our_command(folder, precision="bf16-mixed")
                ours[".bf16"] = start("ours_to_bleu_bf16", command, stack, cpus=our_cpus)
            found = measure_time_to_bleu(sides.rival, ours, rival_name=joeynmt.NAME, task=task, data=data, sizes=sizes)
            add(found.rows)
            missed += found.missed
    return Measured(results, missed)


def main(arguments: list[str] | None = None) -> int:
    """Set up, or measure and write the rows; 1 where the sides do not compute the same or ours does not get there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--joeynmt-python", type=Path, metavar="PATH", help="Python of an environment with JoeyNMT 2.3.0"
    )
    where.add_argument("--set-up", type=Path, metavar="FOLDER", help="make such an environment and end")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS[:2]), help="what is measured")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side (default 1)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; nothing is written")
    parser.add_argument("--output", type=Path, help="write the rows to this file instead of benchmarks/results")
    for name, unit in Sizes.units().items():
        default = getattr(Sizes(), name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", help=f"{unit} (default {default})")
    given = parser.parse_args(arguments)
    named = {name: getattr(given, name) for name in Sizes.units() if getattr(given, name) is not None}
    try:
        if given.set_up is not None:
            print(joeynmt.set_up(given.set_up.expanduser().resolve()))
            return 0
        sizes = replace(SMALL if given.small else Sizes(), **named)
        if given.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {given.threads}.")
        # Not resolved: the Python of a virtual environment is a link that must be called by its own name.
        python = joeynmt.checked(given.joeynmt_python.expanduser().absolute())
        with tempfile.TemporaryDirectory(prefix="translation_") as folder:
            task = prepare(Path(folder), num_threads=given.threads, small=given.small)
            found = measure(task, joeynmt.command(python, Path(folder)), sizes=sizes, groups=tuple(given.only))
    except ValueError as error:
        parser.error(str(error))
    except (MeasurementError, WorkerError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.output is not None or not given.small:
        print(f"written to {write_rows(found.rows, path=given.output)}")
    for sentence in found.missed:
        print(sentence, file=sys.stderr)
    return 1 if found.missed else 0


if __name__ == "__main__":
    sys.exit(main())
