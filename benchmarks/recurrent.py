"""The recurrent core against its rivals, forward and backward: `python -m benchmarks.recurrent`.

Layers: float32, 512 inputs and units, 128 steps, batch 32, ragged lengths spread evenly over 32 to 128. Decoders: batch
64, 30 source and target steps, 512 units, inputs of 256. Search: beam 5, 64 sentences of 5 to 30 steps, vocabulary
10,000. Before timing, outputs and all gradients are compared: exits with 1 if they differ, whatever the speed.

A row that ends in `.flag` is the same with all float32 products of the process sent through oneDNN (`onednn_matmul`),
the rival's too; the other rows run without that switch. A CPU on which the products would be rounded has no such rows.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import layers
from benchmarks.beam import beam
from benchmarks.case import SMALL, Case, Sizes, flagged, onednn_refused
from benchmarks.decoder import attention_decoder
from benchmarks.harness import Result, print_results, time_pair, write_results
from core.nn.cells import CellKind
from core.nn.recurrent_config import RecurrentConfig
from core.training.process.allocator import keep_freed_memory


def _layer(kind: CellKind, *, bidirectional: bool = False, ragged: bool = False) -> Callable[[Sizes], Case]:
    def build(sizes: Sizes) -> Case:
        config = RecurrentConfig(kind=kind, hidden_size=sizes.hidden, bidirectional=bidirectional)
        return layers.torch_layer(config, sizes, ragged=ragged)

    return build


CASES: dict[str, tuple[Callable[[Sizes], Case], float]] = {
    "lstm.dense": (_layer("lstm"), 0.97),
    "lstm.ragged": (_layer("lstm", ragged=True), 3.5),
    "bilstm.ragged": (_layer("lstm", bidirectional=True, ragged=True), 3.0),
    "gru.dense": (_layer("gru"), 1.9),
    "gru.ragged": (_layer("gru", ragged=True), 2.2),
    "bigru.ragged": (_layer("gru", bidirectional=True, ragged=True), 2.2),
    "lstm.regularised": (layers.regularised_lstm, 0.9),
    "lstm.layernorm": (layers.normalised_lstm, 2.0),
    "decoder.luong": (partial(attention_decoder, additive=False), 3.4),
    "decoder.bahdanau": (partial(attention_decoder, additive=True), 3.0),
    "core.beam": (beam, 6.0),
    "mingru": (layers.minimal_gru, 3.0),
}
"""Name, how it is built, and the ratio aimed at."""

# Rows whose time goes into products that the switch changes on the rival's side.
FLAGGED = ("gru.dense", "gru.ragged", "bigru.ragged", "lstm.layernorm", "decoder.luong", "decoder.bahdanau", "mingru")


def main(arguments: list[str] | None = None) -> int:
    """Compare, time, write the results; 1 on a difference in values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*CASES, *(f"{name}.flag" for name in FLAGGED)]
    parser.add_argument("--pairs", type=int, default=15, help="timed runs of each side (default 15)")
    parser.add_argument("--only", nargs="*", default=[], metavar="CASE", help="run these cases and write nothing")
    parser.add_argument("--device", default="cpu", help="where both sides run (default cpu)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; nothing is written")
    parser.add_argument("--output", type=Path, help="write the results to this file instead of benchmarks/results")
    given = parser.parse_args(arguments)
    if unknown := set(given.only) - set(names):
        parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(names)}")
    on_cpu = torch.device(given.device).type == "cpu"
    if on_cpu:
        keep_freed_memory()
    sizes = replace(SMALL if given.small else Sizes(), device=given.device)
    refused = onednn_refused() if on_cpu else None
    if refused is not None and any(name.endswith(".flag") for name in given.only):
        parser.error(f"this machine has no rows that end in .flag: {refused}")
    if refused is not None and not given.only:
        print(f"The rows that end in .flag are left out: {refused}", file=sys.stderr)
    results: list[Result] = []
    different = False
    for name in given.only or (names if on_cpu and refused is None else list(CASES)):
        build, goal = CASES[name.removesuffix(".flag")]
        case = build(sizes)
        with_flag = flagged if name.endswith(".flag") else lambda function: function
        for difference in with_flag(case.differences)():
            print(f"{name}: {difference}", file=sys.stderr)
            different = True
        results.append(
            time_pair(
                with_flag(case.ours),
                rival=with_flag(case.rival),
                case=name,
                rival_name=case.rival_name + (", with the switch" if with_flag is flagged else ""),
                goal=None if with_flag is flagged else goal,
                num_pairs=given.pairs,
                synchronise=None if on_cpu else torch.cuda.synchronize,
            )
        )
        print_results(results[-1:], header=len(results) == 1)
    if given.output is not None or not (given.only or given.small):
        print(f"written to {write_results(results, name='recurrent', path=given.output)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
