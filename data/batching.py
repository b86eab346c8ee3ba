"""The batch plan: which examples make up each optimiser step, decided before anyone knows who will compute it.

A *global batch* is what one optimiser step sees, over all processes and accumulated pieces. The plan follows from
(seed, epoch) alone, so the same run on one process, on eight, or resumed in the middle of an epoch sees the same global
batches. Only then is each batch cut: the examples at positions p, p + P, p + 2P, ... make piece p of P = processes x
accumulation. Pieces may differ by one example, which is harmless because every loss is a sum and a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

Indices = npt.NDArray[np.int64]

# Batches are formed inside pools of this many batches: long enough that a pool holds many neighbours in length, short
# enough that an epoch is still well mixed.
POOL_BATCHES = 64


@dataclass(frozen=True)
class Piece:
    """What one process computes at once: a part of one global batch.

    Attributes:
        epoch: the epoch, which with the index determines every random augmentation of an example.
        indices: the examples, `int64 (batch,)`, at least one.
        weight: 1.0, or 0.0 for a filler example of a process that has nothing left: it keeps the processes in step and
            stands outside loss, metrics and predictions.
    """

    epoch: int
    indices: Indices
    weight: float = 1.0


class BatchPlan:
    """The global batches of every epoch, as a function of (seed, epoch) alone.

    Args:
        num_examples: size of the data set.
        batch_size: examples a global batch. Exactly one of `batch_size` and `token_budget` is given.
        token_budget: padded steps a global batch (its longest example times its size), which keeps memory and time a
            step even when lengths vary widely. Of pairs, the longer side counts: the longest side of all pairs in the
            batch, times their number.
        lengths: valid steps of each example, `(num_examples,)`, or of the source and target of each pair,
            `(num_examples, 2)`; batches then hold neighbours in length, of pairs in both sides.
        lengths_in: the lengths in an epoch, for data whose augmentation changes them; neighbours are then sought among
            these, and a token budget is counted in `lengths`, so that every epoch has as many batches.
        shuffle: draw a new order each epoch; without it batches are consecutive examples in the data set's own order.
        seed: seed of the order.

    Raises:
        ValueError: for a setting that contradicts another, or an example that no batch can hold.
    """

    def __init__(
        self,
        num_examples: int,
        *,
        batch_size: int | None = None,
        token_budget: int | None = None,
        lengths: npt.ArrayLike | None = None,
        lengths_in: Callable[[int], Indices] | None = None,
        shuffle: bool,
        seed: int,
    ) -> None:
        if num_examples < 1:
            raise ValueError(f"A batch plan needs at least one example, got {num_examples}.")
        if (batch_size is None) == (token_budget is None):
            raise ValueError(f"Give either batch_size or token_budget, got {batch_size} and {token_budget}.")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.token_budget = token_budget
        self.shuffle = shuffle
        self.seed = seed
        self.lengths = None if lengths is None else self._checked_lengths(lengths)
        self._lengths_in = lengths_in
        self._cuts = self._token_cuts() if token_budget is not None else None

    def _checked_lengths(self, lengths: npt.ArrayLike) -> Indices:
        checked = np.asarray(lengths, dtype=np.int64)
        if checked.shape not in ((self.num_examples,), (self.num_examples, 1), (self.num_examples, 2)):
            raise ValueError(
                f"Expected one length for each of {self.num_examples} examples, or one for each of its two sides, "
                f"got shape {checked.shape}."
            )
        if checked.min() < 0:
            example = np.unravel_index(checked.argmin(), checked.shape)[0]
            raise ValueError(f"Lengths cannot be negative, got {checked.min()} for example {example}.")
        return checked

    def lengths_in(self, epoch: int) -> Indices | None:
        """Valid steps of each example in an epoch; None where none were given."""
        if self._lengths_in is None:
            return self.lengths
        return self._checked_lengths(self._lengths_in(epoch))

    @staticmethod
    def _order(sides: Indices, *, pools: Indices | None = None) -> Indices:
        """Positions of examples with these lengths, sorted by them inside their pools, equal ones as they come.

        Pairs are sorted by their longer side. Those alike in it go from a longer target to a longer source, and back at
        the next length, so that neighbours are close in both sides all the way. Sorting by one side and then the other
        wastes half as much again.
        """
        sides = sides.reshape(len(sides), -1)
        longest = sides.max(axis=1)
        turn = 1 - 2 * (longest % 2)
        by_length = (turn * (sides[:, 0] - sides[:, -1]), longest)
        return np.lexsort(by_length if pools is None else (*by_length, pools))

    def _token_cuts(self) -> Indices:
        """Where the examples, sorted by length, are cut.

        It depends on the lengths alone: every epoch has as many batches as every other, which schedulers, progress
        bars and resumption count on.
        """
        if self.lengths is None:
            raise ValueError("A token budget needs the lengths of the examples.")
        assert self.token_budget is not None
        steps = np.maximum(self.lengths.reshape(self.num_examples, -1).max(axis=1), 1)
        longest = int(steps.argmax())
        if steps[longest] > self.token_budget:
            raise ValueError(
                f"Example {longest} has {steps[longest]} steps, more than the token budget of "
                f"{self.token_budget} padded steps a batch. Raise token_budget or filter long examples."
            )
        ordered = np.sort(steps)
        cuts = [0]
        while cuts[-1] < self.num_examples:
            # No batch holds more examples than the budget has steps.
            ahead = ordered[cuts[-1] : cuts[-1] + self.token_budget]
            # Sorted ascending, so the last example taken is the longest: take while count x longest fits the budget.
            fits = np.arange(1, len(ahead) + 1) * ahead <= self.token_budget
            cuts.append(cuts[-1] + (int(fits.argmin()) if not fits.all() else len(fits)))
        return np.asarray(cuts, dtype=np.int64)

    @property
    def num_batches(self) -> int:
        """Global batches an epoch, the same in every epoch."""
        if self._cuts is not None:
            return len(self._cuts) - 1
        assert self.batch_size is not None
        return -(-self.num_examples // self.batch_size)

    def batches(self, epoch: int) -> list[Indices]:
        """The global batches of one epoch, in order: every example exactly once."""
        # A tuple of integers, not their sum: (seed 1, epoch 2) and (seed 2, epoch 1) are different streams.
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch))))
        order = generator.permutation(self.num_examples) if self.shuffle else np.arange(self.num_examples)
        if self._cuts is not None:
            lengths = self.lengths_in(epoch)
            assert lengths is not None
            order = order[self._order(lengths[order])]
            cuts = self._cuts[1:-1]
        else:
            assert self.batch_size is not None
            if self.lengths is not None and self.shuffle:
                lengths = self.lengths_in(epoch)
                assert lengths is not None
                pools = np.arange(self.num_examples) // (POOL_BATCHES * self.batch_size)
                order = order[self._order(lengths[order], pools=pools)]
            cuts = np.arange(self.batch_size, self.num_examples, self.batch_size)
        batches = np.split(order, cuts)
        if self.shuffle and self.lengths is not None:
            batches = [batches[position] for position in generator.permutation(len(batches))]
        return batches

    def padding_waste(self, epoch: int = 0) -> float:
        """Share of the padded steps of one epoch, over all sides, that are padding, 0 to 1."""
        lengths = self.lengths_in(epoch)
        if lengths is None:
            return 0.0
        padded = sum(len(batch) * int(lengths[batch].max(axis=0).sum()) for batch in self.batches(epoch))
        return 1.0 - float(lengths.sum()) / max(padded, 1)


class PieceSampler(Sampler[Piece]):
    """Deals one process its pieces of a plan; what a `DataLoader` takes as `batch_sampler`.

    Args:
        plan: the global batches.
        num_ranks: processes.
        rank: this process.
        accumulation: pieces that each process computes for one optimiser step.
    """

    def __init__(self, plan: BatchPlan, *, num_ranks: int = 1, rank: int = 0, accumulation: int = 1) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"Expected a rank from 0 to {num_ranks - 1}, got {rank}.")
        if accumulation < 1:
            raise ValueError(f"accumulation must be at least 1, got {accumulation}.")
        self.plan = plan
        self.num_ranks = num_ranks
        self.rank = rank
        self.accumulation = accumulation
        self.epoch = 0
        self._start = (0, 0)

    @property
    def sampler(self) -> PieceSampler:
        """Itself: Lightning announces a new epoch to `dataloader.batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration deals."""
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Let the iteration over `epoch` begin with global batch `batch`: those before it are done."""
        if not 0 <= batch <= self.plan.num_batches:
            raise ValueError(
                f"The run stopped after {batch} batches of epoch {epoch}, but with this data and batch size an epoch "
                f"has {self.plan.num_batches}. Resume with the data and the batch size of the interrupted run."
            )
        self.epoch = epoch
        self._start = (epoch, batch)

    def __len__(self) -> int:
        """Pieces a whole epoch, the same on every process and wherever the iteration starts."""
        return self.plan.num_batches * self.accumulation

    def __iter__(self) -> Iterator[Piece]:
        first = self._start[1] if self._start[0] == self.epoch else 0
        num_pieces = self.num_ranks * self.accumulation
        epoch = self.epoch
        for batch in self.plan.batches(epoch)[first:]:
            for step in range(self.accumulation):
                indices = batch[step * self.num_ranks + self.rank :: num_pieces]
                if len(indices):
                    yield Piece(epoch, indices)
                else:
                    yield Piece(epoch, batch[:1], weight=0.0)
