"""Translations are a sentence's own: alone or in a batch, in any order, few or many at a time (contract 2)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.translation.generation import Translation, as_sources
from apps.translation.module import TranslationModule
from apps.translation.network import RecurrentTranslationNetwork
from apps.translation.translator import Translator
from core.nn.search import BeamConfig
from data.text import EOS, UNK, TokenArrays
from tests.apps.translation.conftest import MakeModule
from tests.contracts.applications.translation import CONTEXTS

pytestmark = pytest.mark.usefixtures("as_shipped")

BEAM = BeamConfig(
    beam_size=3,
    num_best=2,
    max_length=10,
    max_length_ratio=2.0,
    max_length_offset=1,
    length_penalty=0.8,
    no_repeat_ngram=3,
)


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[str]:
    """Sentences of many lengths, shuffled, with empty lines between them."""
    lines = (folder / "corpus" / "train.en").read_text(encoding="utf-8").splitlines()[:11]
    lines += [f"{first} {second}" for first, second in zip(lines[:4], lines[4:8], strict=True)]
    lines += ["", " \t ", "", "\u2028"]
    random.Random(0).shuffle(lines)
    return lines


@pytest.mark.parametrize(
    ("variant", "beam_size"), [*((variant, 3) for variant in CONTEXTS), ("after", 1), ("bag_of_words", 1)]
)
def test_neither_batch_nor_order_nor_padding_changes_a_translation(
    make_module: MakeModule, lines: list[str], variant: str, beam_size: int
) -> None:
    """Batches of 1, 7 and all, sorted and not, and with junk behind every sentence: identical tokens in float64."""
    module = make_module(variant)
    config = replace(BEAM, beam_size=beam_size, num_best=1, coverage_penalty=0.2 * (variant == "after"))
    sentences = [tokens.tolist() for tokens in module.texts[0].encode(lines) if len(tokens)]
    assert module.network is not None

    def translate(order: np.ndarray, *, size: int, extra: int = 0) -> dict[int, tuple[list[int], float]]:
        found = {}
        for start in range(0, len(order), size):
            rows = order[start : start + size].tolist()
            source, lengths = as_sources(TokenArrays.of(sentences[row] for row in rows))
            source = torch.nn.functional.pad(source, (0, extra), value=-1)
            hypotheses = module.network.translate(source, lengths, config=config)
            for row, best, score in zip(rows, hypotheses.token_lists(), hypotheses.scores[:, 0].tolist(), strict=True):
                found[row] = best[0], score
        return found

    given = np.arange(len(sentences))
    by_length = np.argsort([len(sentence) for sentence in sentences])
    expected = translate(given, size=1)
    assert len({len(tokens) for tokens, _ in expected.values()}) > 3
    assert len({str(tokens) for tokens, _ in expected.values()}) > 5
    for order, size, extra in (
        (given, 7, 0),
        (by_length, 7, 3),
        (by_length[::-1], len(given), 0),
        (given, len(given), 5),
    ):
        found = translate(order, size=size, extra=extra)
        assert found.keys() == expected.keys()
        for row, (tokens, score) in expected.items():
            assert found[row][0] == tokens
            assert found[row][1] == pytest.approx(score, rel=1e-10)


@pytest.fixture(scope="module")
def module(make_module: MakeModule) -> TranslationModule:
    return make_module("after")


@pytest.fixture(scope="module")
def expected(module: TranslationModule, lines: list[str], as_shipped: None) -> list[tuple[str, list[Translation]]]:
    """Sentence by sentence."""
    return [pair for line in lines for pair in Translator(module, config=BEAM).translate([line])]


def assert_same(found: list[tuple[str, list[Translation]]], expected: list[tuple[str, list[Translation]]]) -> None:
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert [(one.text, one.alignment) for one in ours] == [(one.text, one.alignment) for one in theirs]
        assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], rel=1e-10)


@pytest.mark.parametrize(("lines_at_once", "token_budget"), [(1, 100), (7, 1), (7, 40), (4096, 100_000)])
def test_lines_come_back_in_order_however_they_are_cut(
    module: TranslationModule,
    lines: list[str],
    expected: list[tuple[str, list[Translation]]],
    lines_at_once: int,
    token_budget: int,
) -> None:
    translator = Translator(
        module, config=BEAM, token_budget=token_budget, max_source_length=20, lines_at_once=lines_at_once
    )
    assert_same(list(translator.translate(lines)), expected)
    assert not translator.cut


def test_a_line_without_a_word_has_no_translation(expected: list[tuple[str, list[Translation]]]) -> None:
    for line, found in expected:
        assert len(found) == (2 if line.strip() else 0), line


def test_a_stream_is_read_as_it_is_translated(module: TranslationModule, lines: list[str]) -> None:
    """A document of any length takes the memory of some lines of it."""
    read: list[str] = []

    def stream() -> Iterator[str]:
        for line in lines:
            read.append(line)
            yield line

    translated = Translator(module, config=BEAM, lines_at_once=5).translate(stream())
    assert read == []
    for number in range(1, 13):
        next(translated)
        assert len(read) == -(-number // 5) * 5


def test_long_lines_are_cut_and_said(module: TranslationModule) -> None:
    """The rest of a line changes nothing; lines are counted over all that are read at once."""
    translator = Translator(module, config=BEAM, max_source_length=3, lines_at_once=2)
    lines = ["the red house", "the red house now", "", "the red house and never now now", "now"]
    found = [pair[1] for pair in translator.translate(lines)]
    assert_same([("", each) for each in (found[1], found[3])], [("", found[0])] * 2)
    assert found[4][0].text
    message = translator.messages()[0]
    assert message.startswith("Longer than max_source_length=3 pieces and cut there: 2 of the lines (2, 4). Split")
    translator = Translator(module, config=BEAM, max_source_length=1)
    list(translator.translate(["now and"] * 7))
    assert "7 of the lines (1, 2, 3, 4, 5 ...)" in translator.messages()[0]


def test_unknown_words_are_replaced_by_words_of_the_source(make_module: MakeModule) -> None:
    """Only then may the search choose the unknown word."""
    module = make_module("after")
    assert isinstance(module.network, RecurrentTranslationNetwork)
    with torch.no_grad():
        module.network.decoder.output.bias[UNK] += 10.0
    line = "the Ouagadougou horse"
    lines = [" ".join([line] * number) for number in (1, 2, 3)]
    plain = [found[0].text for _, found in Translator(module, config=BEAM).translate(lines)]
    replaced = [found[0].text for _, found in Translator(module, config=BEAM, replace_unknown=True).translate(lines)]
    assert not any("<unk>" in text for text in plain + replaced)
    assert any(word in text.split() for text in replaced for word in line.split())
    assert not any(word in text.split() for text in plain for word in line.split())


@pytest.mark.parametrize("variant", ["after", "bag_of_words"])
def test_a_translation_is_worth_what_the_search_that_found_it_said(
    make_module: MakeModule, lines: list[str], variant: str
) -> None:
    """Scored as given, some at a time: the same score, log-probability, alignment and attention."""
    module = make_module(variant)
    network, text = module.network, module.texts[1]
    output = network.decoder.output if isinstance(network, RecurrentTranslationNetwork) else network.words.output
    with torch.no_grad():
        output.bias[EOS] += 8.0
    config = replace(BEAM, beam_size=3 if variant == "after" else 1, num_best=1, coverage_penalty=0.0)
    found = [best for _, best in Translator(module, config=config).translate(lines)]
    # What is given as text has an end, and is split as all text is.
    ended = [
        row
        for row, best in enumerate(found)
        if best and [*text.tokens(text.encode([best[0].text])[0].tolist()), "<eos>"] == best[0].tokens
    ]
    assert len(ended) > 3
    pairs = [(lines[row], found[row][0].text) for row in ended]
    scored = [best for _, best in Translator(module, config=config, lines_at_once=3).score(iter(pairs))]
    assert_same([("", best) for best in scored], [("", found[row]) for row in ended])
    assert [best for _, best in Translator(module, config=config).score([("", "word"), (" ", "")])] == [[], []]


def test_what_had_not_ended_is_told(make_module: MakeModule) -> None:
    """Line by line, empty ones counted; a translation that ended at the last piece it may have is whole."""
    module = make_module("after")
    source = ["the house", "", "the house of the girl", "a"]
    long = BeamConfig(beam_size=1, max_length=30)
    whole = Translator(module, config=long)
    ends = [best[0].tokens[-1:] == ["</s>"] if best else None for _, best in whole.translate(source)]
    assert whole.unfinished == [number for number, ended in enumerate(ends, start=1) if ended is False]
    cut = Translator(module, config=replace(long, max_length=2), lines_at_once=2)
    found = [best for _, best in cut.translate(source)]
    assert cut.unfinished == [number for number, best in enumerate(found, start=1) if best and not best[0].is_finished]
    assert cut.unfinished
    (message,) = cut.messages()
    assert "had not ended after max_length=2 pieces, and stop there" in message
    assert f"{len(cut.unfinished)} of the lines ({', '.join(map(str, cut.unfinished))})" in message
