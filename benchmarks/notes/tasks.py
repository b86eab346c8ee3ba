"""The tasks: sequences whose answer asks for one thing that the notes speak of, and a real series.

All are drawn from PyTorch's global generator.
"""

from __future__ import annotations

import csv
from typing import NamedTuple

import torch
from torch import Tensor

from data.paths import find_data

ALPHABET = 8
"""Symbols of the copy task; 0 is the blank, 9 asks for the copy."""
END = 1
"""Token that ends a sentence, and begins what the decoder reads; 0 is padding."""
WEATHER = ("precipitation", "temp_max", "temp_min", "wind")
TEMPERATURE = 1
"""Number of the highest temperature of the day among them."""


def adding_problem(num_examples: int, *, num_steps: int) -> tuple[Tensor, Tensor]:
    """Numbers in [0, 1), two of them marked, one in each half; the answer is the sum of the two.

    Always answering 1 has a mean squared error of 1/6. Sources: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural
    Computation 9, 1997, section 5.4; with this range and these marks Arjovsky et al., "Unitary Evolution Recurrent Neural
    Networks", ICML 2016, section 5.2.

    Returns:
        Inputs `(batch, time, 2)`, number and mark, and answers `(batch,)`.
    """
    numbers = torch.rand(num_examples, num_steps)
    half = num_steps // 2
    first = torch.randint(half, (num_examples, 1))
    second = torch.randint(half, num_steps, (num_examples, 1))
    marks = torch.zeros(num_examples, num_steps).scatter_(1, first, 1.0).scatter_(1, second, 1.0)
    return torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(1)


def copy_task(num_examples: int, *, num_symbols: int, delay: int) -> tuple[Tensor, Tensor]:
    """Symbols, `delay` steps, and then the same symbols: the first ask stands after the delay, before the copy.

    Source: Arjovsky et al. 2016, section 5.1.

    Returns:
        Inputs `(batch, num_symbols + delay + num_symbols, ALPHABET + 2)`, one of them 1 at each step, and symbols
        `(batch, num_symbols)`, 0 to ALPHABET - 1, to be given in the last `num_symbols` steps.
    """
    symbols = torch.randint(ALPHABET, (num_examples, num_symbols))
    tokens = torch.zeros(num_examples, 2 * num_symbols + delay, dtype=torch.int64)
    tokens[:, :num_symbols] = symbols + 1
    tokens[:, num_symbols + delay - 1] = ALPHABET + 1
    return torch.nn.functional.one_hot(tokens, ALPHABET + 2).float(), symbols


class Weather(NamedTuple):
    """Daily weather in Seattle up to the end of a test year, standardised over the years before it."""

    values: Tensor
    """`(days, 4)`."""
    degrees: float
    """Degrees C of one unit of the temperature."""
    first_test_day: int
    """The first day of the test year."""

    def windows(self, *, num_days: int, test: bool) -> Tensor:
        """All windows of so many days whose last day lies in the test year, or before it: `(windows, days, 4)`."""
        windows = self.values.unfold(0, num_days, 1).transpose(1, 2)
        split = self.first_test_day - num_days + 1
        return windows[split:] if test else windows[:split]


def read_weather(*, test_year: int) -> Weather:
    """The embedded series, 2012 to 2015 (data/demo/README.md)."""
    with find_data("demo/seattle_weather.csv").open(encoding="utf-8", newline="") as file:
        days = [day for day in csv.DictReader(file) if int(day["date"][:4]) <= test_year]
    first_test_day = next(number for number, day in enumerate(days) if int(day["date"][:4]) == test_year)
    values = torch.tensor([[float(day[name]) for name in WEATHER] for day in days])
    before = values[:first_test_day]
    deviation = before.std(0)
    return Weather((values - before.mean(0)) / deviation, float(deviation[TEMPERATURE]), first_test_day)


def cascade(num_examples: int, *, num_steps: int, num_stages: int) -> tuple[Tensor, Tensor]:
    """Stages that read one another: each keeps a fading sum of the stage below and passes on its sine.

    s_k(t) = 0.7 s_k(t-1) + u_(k-1)(t),  u_k(t) = sin(2 s_k(t)),  u_0 the input.

    Returns:
        Inputs `(batch, time, 1)`, normal, and the last stage's u `(batch, time, 1)`.
    """
    inputs = torch.randn(num_examples, num_steps)
    signal = inputs
    for _ in range(num_stages):
        level = torch.zeros(num_examples)
        passed = []
        for step in range(num_steps):
            level = 0.7 * level + signal[:, step]
            passed.append(torch.sin(2 * level))
        signal = torch.stack(passed, dim=1)
    return inputs.unsqueeze(-1), signal.unsqueeze(-1)


def waves(num_examples: int, *, num_steps: int, noise: float) -> Tensor:
    """Sums of two sines, periods 10 to 40 steps, seen through noise of that deviation: `(batch, time, 1)`."""
    step = torch.arange(num_steps)
    total = torch.zeros(num_examples, num_steps)
    for _ in range(2):
        period = 10 + 30 * torch.rand(num_examples, 1)
        phase = 2 * torch.pi * torch.rand(num_examples, 1)
        total += torch.sin(2 * torch.pi * step / period + phase)
    return (0.5 * total + noise * torch.randn_like(total)).unsqueeze(-1)


class Held(NamedTuple):
    """Streams in which a value must be held from a mark to the next."""

    inputs: Tensor
    """`(batch, time, 2)`: a value in [-1, 1) at every step, 1 where it is the one to hold."""
    target: Tensor
    """`(batch, time, 1)`: the value at the last mark."""
    age: Tensor
    """Steps since that mark, int64 `(batch, time)`."""


def held_values(num_examples: int, *, num_steps: int, shortest: int, longest: int) -> Held:
    """A mark at the first step, and then again after `shortest` to `longest` steps, drawn evenly."""
    values = 2 * torch.rand(num_examples, num_steps) - 1
    gaps = torch.randint(shortest, longest + 1, (num_examples, num_steps // shortest + 1))
    starts = torch.cat([torch.zeros(num_examples, 1, dtype=torch.int64), gaps.cumsum(1)], dim=1)
    step = torch.arange(num_steps)
    current = torch.searchsorted(starts, step.expand(num_examples, -1).contiguous(), right=True) - 1
    marked_at = starts.gather(1, current)
    age = step - marked_at
    inputs = torch.stack([values, (age == 0).float()], dim=-1)
    return Held(inputs, values.gather(1, marked_at).unsqueeze(-1), age)


def marked_value(num_examples: int, *, shortest: int, longest: int, place: str) -> tuple[Tensor, Tensor, Tensor]:
    """Ragged sequences of values in [-1, 1); the answer is the one that is marked.

    Args:
        num_examples: sequences.
        shortest: steps of the shortest.
        longest: steps of the longest.
        place: where the mark stands, at the `end` (the last step) or `anywhere`.

    Returns:
        Inputs `(batch, time, 2)`, NaN in the padding, lengths and answers `(batch,)`.
    """
    lengths = torch.randint(shortest, longest + 1, (num_examples,))
    values = 2 * torch.rand(num_examples, longest) - 1
    marked = lengths - 1 if place == "end" else (torch.rand(num_examples) * lengths).long()
    marks = torch.zeros_like(values).scatter_(1, marked.unsqueeze(1), 1.0)
    inputs = torch.stack([values, marks], dim=-1)
    inputs[torch.arange(longest) >= lengths.unsqueeze(1)] = torch.nan
    return inputs, lengths, values.gather(1, marked.unsqueeze(1)).squeeze(1)


def two_lengths(num_examples: int, *, short: int, long: int, cue: float) -> tuple[Tensor, Tensor, Tensor]:
    """Short sequences whose target is 1 at every step and long ones whose target is -1, told apart by a faint cue.

    The input is the target times `cue` in normal noise, so that only many steps together tell which it is; what is
    answered before that depends on what weighs more in the cost.

    Returns:
        Inputs `(batch, long, 1)`, lengths `(batch,)` and targets `(batch, long)`.
    """
    is_short = torch.rand(num_examples) < 0.5
    lengths = torch.where(is_short, short, long)
    target = torch.where(is_short, 1.0, -1.0).unsqueeze(1).expand(-1, long)
    inputs = cue * target + torch.randn(num_examples, long)
    return inputs.unsqueeze(-1), lengths, target


class Sentences(NamedTuple):
    """Pairs of sentences of an invented language and its translation."""

    source: Tensor
    """int64 `(batch, time)`."""
    source_lengths: Tensor
    given: Tensor
    """What the decoder reads: END, then the translation."""
    wanted: Tensor
    """What it should say: the translation, then END."""
    target_lengths: Tensor


def sentences(num_examples: int, *, shortest: int, longest: int, num_words: int) -> Sentences:
    """Word for word from another dictionary, and in the opposite order; words are numbers from 2 on.

    Args:
        num_examples: pairs.
        shortest: words of the shortest sentence.
        longest: words of the longest.
        num_words: words of the language; the dictionary is fixed.
    """
    lengths = torch.randint(shortest, longest + 1, (num_examples,))
    source = torch.randint(num_words, (num_examples, longest))
    # 7 has no divisor in common with the sizes used, so that every word has a translation of its own.
    translated = (7 * source + 3) % num_words
    step = torch.arange(longest)
    mirrored = (lengths.unsqueeze(1) - 1 - step).clamp(min=0)
    inside = step < lengths.unsqueeze(1)
    words = torch.where(inside, translated.gather(1, mirrored) + 2, END)
    end = torch.full((num_examples, 1), END)
    # Beyond its own end a row of `words` holds END: the first is wanted, the rest is padding.
    return Sentences(
        torch.where(inside, source + 2, 0), lengths, torch.cat([end, words], 1), torch.cat([words, end], 1), lengths + 1
    )
