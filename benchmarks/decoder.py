"""Attention decoders against the loop that tutorials write, forward and backward: `python -m benchmarks.decoder`.

Batch 64, 30 source and 30 target steps, 512 units, inputs of 256, float32, teacher forcing. The rival is the usual
loop: `nn.LSTMCell` over the input concatenated with the last attentional vector (or the context), and an attention that
projects the source with `nn.Linear` where it uses it, at every step. Before timing, outputs and all gradients are
compared: exits with 1 if they differ, whatever the speed.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.harness import Result, print_results, time_pair, write_results
from core.nn.attention import Additive, General
from core.nn.bridge import Source, SourceShape
from core.nn.decoder import Decoder
from core.nn.decoder_config import AttentionAfter, AttentionBefore, ContextConfig, DecoderConfig
from core.nn.recurrent import RecurrentConfig
from core.training.allocator import keep_freed_memory

BATCH_SIZE = 64
NUM_STEPS = 30
SIZE = 512
INPUT_SIZE = 256
# Sums of thousands of float32 products in another order.
TOLERANCE = 1e-4

Step = Callable[[], dict[str, Tensor]]


class Case(NamedTuple):
    """What is timed against what."""

    case: str
    ours: Step
    rival: Step
    rival_name: str
    goal: float


class LoopDecoder(nn.Module):
    """The rival: everything in the loop. Luong's general score with input feeding, or Bahdanau's additive one."""

    def __init__(self, *, additive: bool) -> None:
        super().__init__()
        self.additive = additive
        self.cell = nn.LSTMCell(INPUT_SIZE + SIZE, SIZE)
        self.key = nn.Linear(SIZE, SIZE, bias=additive)
        if additive:
            self.query = nn.Linear(SIZE, SIZE, bias=False)
            self.score = nn.Linear(SIZE, 1, bias=False)
        self.readout = nn.Linear(2 * SIZE, SIZE)

    def attend(self, query: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """The context of a query (batch, hidden)."""
        keys = self.key(source)
        if self.additive:
            scores = self.score(torch.tanh(self.query(query).unsqueeze(1) + keys)).squeeze(-1)
        else:
            scores = torch.bmm(keys, query.unsqueeze(-1)).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
        return torch.bmm(weights.unsqueeze(1), source).squeeze(1)

    def forward(self, inputs: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Attentional vectors of all steps."""
        hidden = cell = fed = inputs.new_zeros(len(inputs), SIZE)
        outputs = []
        for step in range(inputs.shape[1]):
            if self.additive:
                context = self.attend(hidden, source, mask)
                hidden, cell = self.cell(torch.cat([inputs[:, step], context], dim=-1), (hidden, cell))
            else:
                hidden, cell = self.cell(torch.cat([inputs[:, step], fed], dim=-1), (hidden, cell))
                context = self.attend(hidden, source, mask)
            fed = torch.tanh(self.readout(torch.cat([context, hidden], dim=-1)))
            outputs.append(fed)
        return torch.stack(outputs, dim=1)


def cases() -> list[Case]:
    """The cases, ours and the rival's over the same data and weights."""
    contexts: list[tuple[str, ContextConfig, str, float]] = [
        ("decoder.luong", AttentionAfter(attention=General()), "LSTMCell loop, input feeding", 3.4),
        ("decoder.bahdanau", AttentionBefore(attention=Additive(num_hidden=SIZE)), "LSTMCell loop, additive", 3.0),
    ]
    found = []
    for case, context, rival_name, goal in contexts:
        torch.manual_seed(0)
        recurrent = RecurrentConfig(kind="lstm", hidden_size=SIZE)
        ours = Decoder(
            DecoderConfig(recurrent=recurrent, context=context, bridge="zero"),
            input_size=INPUT_SIZE,
            source=SourceShape(output_size=SIZE, summary_size=SIZE),
        )
        rival = LoopDecoder(additive=isinstance(context, AttentionBefore))
        rival.load_state_dict({_rival_name(name): tensor for name, tensor in ours.state_dict().items()})
        found.append(Case(case, *_steps(ours, rival), rival_name, goal))
    return found


def _steps(ours: Decoder, rival: LoopDecoder) -> tuple[Step, Step]:
    inputs = torch.randn(BATCH_SIZE, NUM_STEPS, INPUT_SIZE)
    source = torch.randn(BATCH_SIZE, NUM_STEPS, SIZE)
    weight = torch.randn(BATCH_SIZE, NUM_STEPS, SIZE)
    lengths = torch.linspace(NUM_STEPS // 2, NUM_STEPS, BATCH_SIZE).round().long()[torch.randperm(BATCH_SIZE)]
    mask = torch.arange(NUM_STEPS) < lengths.unsqueeze(1)
    summary = torch.zeros(BATCH_SIZE, SIZE)

    def run_ours(inputs: Tensor, source: Tensor) -> Tensor:
        features: Tensor = ours(inputs, None, ours.start(Source(source, lengths, summary))).features
        return features

    def run_rival(inputs: Tensor, source: Tensor) -> Tensor:
        features: Tensor = rival(inputs, source, mask)
        return features

    our_step = _step(ours, run_ours, inputs=inputs, source=source, weight=weight, rename=_rival_name)
    return our_step, _step(rival, run_rival, inputs=inputs, source=source, weight=weight, rename=str)


def _step(
    module: nn.Module,
    run: Callable[[Tensor, Tensor], Tensor],
    *,
    inputs: Tensor,
    source: Tensor,
    weight: Tensor,
    rename: Callable[[str], str],
) -> Step:
    """A training step without the optimiser: outputs, their weighted sum, gradients in inputs, source and weights."""

    def step() -> dict[str, Tensor]:
        module.zero_grad(set_to_none=True)
        input_leaf, source_leaf = inputs.detach().requires_grad_(), source.detach().requires_grad_()
        outputs = run(input_leaf, source_leaf)
        torch.autograd.backward(outputs, weight)
        results = {"outputs": outputs.detach()}
        leaves = {"inputs": input_leaf, "source": source_leaf}
        leaves |= {rename(name): parameter for name, parameter in module.named_parameters()}
        for name, leaf in leaves.items():
            assert leaf.grad is not None, f"no gradient in {name}"
            results[name] = leaf.grad
        return results

    return step


def _rival_name(name: str) -> str:
    """The rival's name of a parameter of ours."""
    for ours, rival in (("layers.first.", "cell."), ("_l0", ""), ("attention.", ""), ("readout.linear", "readout")):
        name = name.replace(ours, rival)
    return name


def differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """What differs by more than the tolerance, relative to the largest value."""
    found = []
    for name, value in theirs.items():
        error = float((ours[name] - value).abs().max() / value.abs().max())
        if not error <= TOLERANCE:
            found.append(f"{name} differs by {error:.1e} of its largest value (tolerance {TOLERANCE:.0e})")
    return found


def main() -> int:
    """Compare, time, write `benchmarks/results/decoder.json`; 1 on a difference in values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="timed runs of each side (default 15)")
    parser.add_argument("--only", nargs="*", default=[], metavar="CASE", help="run these cases and write nothing")
    arguments = parser.parse_args()
    keep_freed_memory()
    chosen = cases()
    if unknown := set(arguments.only) - {case.case for case in chosen}:
        parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(case.case for case in chosen)}")
    results: list[Result] = []
    different = False
    for case in chosen:
        if arguments.only and case.case not in arguments.only:
            continue
        for difference in differences(case.ours(), case.rival()):
            print(f"{case.case}: {difference}", file=sys.stderr)
            different = True
        results.append(
            time_pair(
                case.ours,
                rival=case.rival,
                case=case.case,
                rival_name=case.rival_name,
                goal=case.goal,
                num_pairs=arguments.pairs,
            )
        )
    print_results(results)
    if not arguments.only:
        print(f"written to {write_results(results, name='decoder')}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
