"""Recurrent layers against `torch.nn`, forward and backward: `python -m benchmarks.recurrent`.

Dense batches against the module itself, ragged ones against packed sequences, float32, 512 inputs and units, 128 steps,
batch 32, ragged lengths spread evenly over 32..128. Before timing, outputs and all gradients are compared: exits with 1
if they differ, whatever the speed.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.harness import Result, print_results, time_pair, write_results
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.training.allocator import keep_freed_memory

SIZE = 512
NUM_STEPS = 128
BATCH_SIZE = 32
# Sums of thousands of float32 products in another order.
TOLERANCE = 1e-4

Step = Callable[[], dict[str, Tensor]]


def forward_and_backward(layer: nn.Module, run: Callable[[Tensor], Tensor], *, inputs: Tensor, weight: Tensor) -> Step:
    """A training step without the optimiser: outputs, their weighted sum, gradients in inputs and weights."""

    def step() -> dict[str, Tensor]:
        layer.zero_grad(set_to_none=True)
        leaf = inputs.detach().requires_grad_()
        outputs = run(leaf)
        torch.autograd.backward(outputs, weight)
        results = {"outputs": outputs.detach()}
        for name, tensor in (("inputs", leaf), *layer.named_parameters()):
            assert tensor.grad is not None, f"no gradient in {name}"
            results[name] = tensor.grad
        return results

    return step


def steps(kind: Literal["lstm", "gru"], *, bidirectional: bool, ragged: bool) -> tuple[Step, Step]:
    """Ours and the rival's step over the same data and weights."""
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(kind=kind, hidden_size=SIZE, bidirectional=bidirectional), input_size=SIZE)
    rival = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](SIZE, SIZE, bidirectional=bidirectional, batch_first=True)
    rival.load_state_dict(model.state_dict())
    inputs = torch.randn(BATCH_SIZE, NUM_STEPS, SIZE)
    weight = torch.randn(BATCH_SIZE, NUM_STEPS, model.output_size)
    if not ragged:
        ours = forward_and_backward(model, lambda leaf: model(leaf, None)[0], inputs=inputs, weight=weight)
        return ours, forward_and_backward(rival, lambda leaf: rival(leaf)[0], inputs=inputs, weight=weight)
    # Evenly over the range and then shuffled: a drawn batch may have a tenth more or fewer steps than the average one.
    lengths = torch.linspace(NUM_STEPS // 4, NUM_STEPS, BATCH_SIZE).round().long()[torch.randperm(BATCH_SIZE)]

    def packed(leaf: Tensor) -> Tensor:
        sequence = pack_padded_sequence(leaf, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(rival(sequence)[0], batch_first=True, total_length=NUM_STEPS)[0]

    ours = forward_and_backward(model, lambda leaf: model(leaf, lengths)[0], inputs=inputs, weight=weight)
    return ours, forward_and_backward(rival, packed, inputs=inputs, weight=weight)


def differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """What differs by more than the tolerance, relative to the largest value."""
    found = []
    for name, value in ours.items():
        error = float((value - theirs[name]).abs().max() / theirs[name].abs().max())
        if not error <= TOLERANCE:
            found.append(f"{name} differs by {error:.1e} of its largest value (tolerance {TOLERANCE:.0e})")
    return found


CASES: list[tuple[str, Literal["lstm", "gru"], bool, bool, float | None]] = [
    ("lstm.dense", "lstm", False, False, 1.0),
    ("lstm.ragged", "lstm", False, True, 2.5),
    ("bilstm.ragged", "lstm", True, True, 3.0),
    ("gru.dense", "gru", False, False, None),
    ("gru.ragged", "gru", False, True, None),
    ("bigru.ragged", "gru", True, True, None),
]


def main() -> int:
    """Compare, time, write `benchmarks/results/recurrent.json`; 1 on a difference in values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="timed runs of each side (default 15)")
    parser.add_argument("--only", nargs="*", default=[], metavar="CASE", help="run these cases and write nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - {case for case, *_ in CASES}:
        parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(case for case, *_ in CASES)}")
    keep_freed_memory()
    results: list[Result] = []
    different = False
    for case, kind, bidirectional, ragged, goal in CASES:
        if arguments.only and case not in arguments.only:
            continue
        ours, rival = steps(kind, bidirectional=bidirectional, ragged=ragged)
        for difference in differences(ours(), rival()):
            print(f"{case}: {difference}", file=sys.stderr)
            different = True
        rival_name = f"torch.nn.{kind.upper()}" + (", packed" if ragged else "")
        results.append(
            time_pair(ours, rival=rival, case=case, rival_name=rival_name, goal=goal, num_pairs=arguments.pairs)
        )
    print_results(results)
    if not arguments.only:
        print(f"written to {write_results(results, name='recurrent')}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
