"""The tasks of the experiments of docs/notes.md are what they say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.notes import tasks
from benchmarks.notes.catalogue import EXPERIMENTS


@given(num_steps=st.integers(2, 30), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_adding_problem_marks_one_number_in_each_half(num_steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, answers = tasks.adding_problem(5, num_steps=num_steps)
    numbers, marks = inputs.unbind(-1)
    half = num_steps // 2
    assert torch.equal(marks[:, :half].sum(1), torch.ones(5))
    assert torch.equal(marks[:, half:].sum(1), torch.ones(5))
    torch.testing.assert_close(answers, numbers[marks == 1].reshape(5, 2).sum(1))
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_always_answering_one_has_the_error_that_the_picture_compares_with() -> None:
    torch.manual_seed(0)
    _, answers = tasks.adding_problem(200_000, num_steps=2)
    assert float((answers - 1).square().mean()) == pytest.approx(1 / 6, rel=0.01)


@given(num_symbols=st.integers(1, 6), delay=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_copy_task_shows_symbols_then_blanks_then_asks(num_symbols: int, delay: int, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, symbols = tasks.copy_task(4, num_symbols=num_symbols, delay=delay)
    assert torch.equal(inputs.sum(-1), torch.ones(4, 2 * num_symbols + delay))
    shown = inputs.argmax(-1)
    assert torch.equal(shown[:, :num_symbols], symbols + 1)
    asked = (shown == tasks.ALPHABET + 1).nonzero()[:, 1]
    # Right before the first step in which a symbol is wanted.
    assert (asked == num_symbols + delay - 1).all()
    assert len(asked) == 4
    rest = shown[:, num_symbols:]
    assert ((rest == 0) | (rest == tasks.ALPHABET + 1)).all()


@pytest.mark.parametrize("test_year", [2014, 2015])
def test_weather_is_learnt_from_the_years_before_alone(test_year: int) -> None:
    weather = tasks.read_weather(test_year=test_year)
    assert len(weather.values) == {2014: 1096, 2015: 1461}[test_year]
    assert weather.first_test_day == {2014: 731, 2015: 1096}[test_year]
    train, unseen = (weather.windows(num_days=5, test=test) for test in (False, True))
    before = weather.values[: weather.first_test_day]
    assert torch.equal(train[0], before[:5])
    assert torch.equal(train[-1], before[-5:])
    assert len(train) + len(unseen) == len(weather.values) - 4
    assert torch.equal(unseen[0, -1], weather.values[weather.first_test_day])
    assert len(unseen) == 365
    torch.testing.assert_close(before.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(before.std(0), torch.ones(4))


@given(num_stages=st.integers(1, 4), cut=st.integers(1, 7), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_cascade_is_causal_and_each_stage_reads_the_one_below(num_stages: int, cut: int, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, answers = tasks.cascade(2, num_steps=8, num_stages=num_stages)
    signal = inputs[0, :, 0].tolist()
    for _ in range(num_stages):
        # s(t) written out, not as the recurrence.
        levels = [sum(0.7 ** (t - s) * signal[s] for s in range(t + 1)) for t in range(8)]
        signal = [math.sin(2 * level) for level in levels]
    torch.testing.assert_close(answers[0, :, 0], torch.tensor(signal), atol=1e-4, rtol=1e-4)


def test_waves_are_two_sines_of_the_periods_named() -> None:
    torch.manual_seed(0)
    series = tasks.waves(50, num_steps=400, noise=0.0).squeeze(-1)
    assert float(series.abs().max()) <= 1.0
    spectrum = torch.fft.rfft(series * torch.hann_window(400)).abs().square()
    inside = spectrum[:, 400 // 40 - 2 : 400 // 10 + 3].sum(1)
    assert float((inside / spectrum.sum(1)).min()) > 0.99
    torch.manual_seed(0)
    noisy = tasks.waves(50, num_steps=400, noise=0.1).squeeze(-1)
    assert float((noisy - series).std()) == pytest.approx(0.1, rel=0.05)


@given(shortest=st.integers(1, 5), more=st.integers(0, 4), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_held_values_are_those_of_the_last_mark(shortest: int, more: int, seed: int) -> None:
    torch.manual_seed(seed)
    held = tasks.held_values(3, num_steps=23, shortest=shortest, longest=shortest + more)
    for row in range(3):
        marks = held.inputs[row, :, 1].nonzero().squeeze(1).tolist()
        assert marks[0] == 0
        gaps = [after - before for before, after in zip(marks, [*marks[1:], None], strict=True) if after is not None]
        assert all(shortest <= gap <= shortest + more for gap in gaps)
        for step in range(23):
            last = max(mark for mark in marks if mark <= step)
            assert held.target[row, step, 0] == held.inputs[row, last, 0]
            assert held.age[row, step] == step - last


@given(place=st.sampled_from(["end", "anywhere"]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_marked_value_is_inside_its_sequence(place: str, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, lengths, answers = tasks.marked_value(6, shortest=1, longest=9, place=place)
    for row, length in enumerate(lengths.tolist()):
        values, marks = inputs[row, :length].unbind(-1)
        (marked,) = marks.nonzero().squeeze(1).tolist()
        assert answers[row] == values[marked]
        assert place == "anywhere" or marked == length - 1
        assert inputs[row, length:].isnan().all()


def test_two_lengths_are_told_apart_by_many_steps_only() -> None:
    torch.manual_seed(0)
    inputs, lengths, target = tasks.two_lengths(20_000, short=4, long=9, cue=0.3)
    assert set(lengths.tolist()) == {4, 9}
    assert torch.equal(target[:, 0] == 1, lengths == 4)
    assert float(inputs[lengths == 4].mean()) == pytest.approx(0.3, abs=0.02)
    assert float(inputs[lengths == 9].mean()) == pytest.approx(-0.3, abs=0.02)
    assert float(inputs.squeeze(-1)[:, 0].std()) == pytest.approx(math.hypot(1, 0.3), rel=0.02)


@given(num_words=st.sampled_from([3, 4, 20]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_sentences_are_translated_word_for_word_in_the_opposite_order(num_words: int, seed: int) -> None:
    torch.manual_seed(seed)
    pairs = tasks.sentences(5, shortest=1, longest=6, num_words=num_words)
    for row, length in enumerate(pairs.source_lengths.tolist()):
        words = (pairs.source[row, :length] - 2).tolist()
        assert min(words) >= 0
        expected = [(7 * word + 3) % num_words + 2 for word in reversed(words)]
        assert pairs.wanted[row, : length + 1].tolist() == [*expected, tasks.END]
        assert pairs.given[row, : length + 1].tolist() == [tasks.END, *expected]
        assert not pairs.source[row, length:].any()
        assert pairs.target_lengths[row] == length + 1


@pytest.mark.parametrize("part", ["settings", "tiny"])
def test_every_word_has_a_translation_of_its_own(part: str) -> None:
    num_words = getattr(EXPERIMENTS["sentences"], part)["num_words"]
    assert len({(7 * word + 3) % num_words for word in range(num_words)}) == num_words
