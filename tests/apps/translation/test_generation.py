"""From hypotheses to text: alignments, unknown words, ends, and what was cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.translation.generation import Translation, as_sources, read_hypotheses, texts_of
from core.nn.search import Hypotheses
from data.text import BPE, EOS, PAD, UNK, Text, TokenArrays, Words

ENGLISH = Words(min_frequency=1).build(["I met him, today.", "the old man (again)"])
FRENCH = Words(min_frequency=1).build(["je l'ai vu, aujourd'hui.", "le vieil homme encore"])
PIECES = BPE(vocabulary_size=24).build(["banana bandana", "canal cabana", "a nab"])


def hypotheses_of(ids: list[list[int]], *, attention: Any = None, finished: bool = True) -> Hypotheses:
    """The hypotheses of one sentence, each with its end; `attention` has a row for each token of the first."""
    ended = [[*each, EOS] if finished else each for each in ids]
    lengths = torch.tensor([[len(each) for each in ended]])
    tokens = torch.full((1, len(ids), int(lengths.max())), PAD)
    for rank, each in enumerate(ended):
        tokens[0, rank, : len(each)] = torch.tensor(each)
    scores = -torch.arange(1.0, len(ids) + 1).unsqueeze(0)
    weights = None if attention is None else torch.tensor(attention).reshape(1, 1, tokens.shape[2], -1)
    return Hypotheses(tokens, lengths, torch.full(lengths.shape, finished), scores, 2 * scores, weights)


def read(source: str, ids: list[list[int]], *, texts: tuple[Text, Text] = (ENGLISH, FRENCH), **changes: Any) -> Any:
    how = {name: changes.pop(name) for name in ("attention", "finished") if name in changes}
    (found,) = read_hypotheses(
        hypotheses_of(ids, **how),
        **{
            "sources": [source],
            "num_pieces": [len(texts[0].encode([source])[0])],
            "source_text": texts[0],
            "target_text": texts[1],
            **changes,
        },
    )
    return found


def ids_of(text: Text, *pieces: str) -> list[int]:
    return [text.pieces.index(piece) for piece in pieces]


# Alignment ------------------------------------------------------------------------------------------------------------


def test_a_word_is_aligned_with_the_word_whose_pieces_it_looked_at_most() -> None:
    """Pieces are added up on both sides: no single piece of "him," is looked at as much as "met"."""
    assert ENGLISH.pieces_of_words("met him, today").tolist() == [0, 1, 1, 2]
    ids = ids_of(FRENCH, "vu", "homme") + FRENCH.encode(["vu."])[0].tolist()
    assert len(ids) == 4
    attention = [
        [0.4, 0.3, 0.3, 0.0, 0.0],  # vu: him,
        [0.6, 0.0, 0.0, 0.3, 0.1],  # homme: met
        [0.0, 0.4, 0.0, 0.6, 0.0],  # vu: today, were it not for
        [0.0, 0.5, 0.4, 0.1, 0.0],  # its full stop: him,
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
    (best,) = read("met him, today", [ids], attention=attention)
    assert best.text == "vu homme vu."
    assert best.alignment == [(1, 0), (0, 1), (1, 2)]
    np.testing.assert_allclose(best.attention, attention, rtol=1e-6)
    assert best.tokens[-1] == "<eos>"


def test_a_word_that_looked_at_the_end_alone_has_the_next_best() -> None:
    """The end of the source is no word; neither is that of the translation."""
    (best,) = read("met him", [ids_of(FRENCH, "vu")], attention=[[0.0, 0.1, 0.9], [1.0, 0.0, 0.0]])
    assert best.alignment == [(1, 0)]


def test_pieces_of_words_are_aligned_as_words() -> None:
    source, target = "bandana canal", "cabana nab"
    ids = PIECES.encode([target])[0].tolist()
    columns, word_of_row = PIECES.pieces_of_words(source), PIECES.pieces_of_words(target)
    assert columns.tolist() == word_of_row.tolist() == [0, 0, 1]
    attention = np.zeros((len(ids) + 1, len(columns) + 1), np.float32)
    for row, word in enumerate(word_of_row):
        attention[row, : len(columns)] = (columns != word) / (columns != word).sum()
    (best,) = read(source, [ids], texts=(PIECES, PIECES), attention=attention.tolist())
    assert best.text == target
    assert best.alignment == [(1, 0), (0, 1)]


@settings(deadline=None)
@given(data=st.data(), text=st.sampled_from([FRENCH, PIECES]))
def test_every_word_of_a_translation_has_one_word_of_its_source(data: st.DataObject, text: Text) -> None:
    """Whatever pieces a network strings together, and wherever it looks."""
    ids = data.draw(st.lists(st.integers(UNK, text.vocabulary_size - 1), max_size=7))
    source = "met him, today"
    weights = data.draw(
        st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=len(ids) + 1, max_size=len(ids) + 1)
    )
    (best,) = read(source, [ids], texts=(ENGLISH, text), attention=weights)
    assert best.text == text.decode(ids)
    assert [word for _, word in best.alignment] == list(range(len(best.text.split())))
    assert all(0 <= word < 3 for word, _ in best.alignment)


def test_without_attention_there_is_no_alignment() -> None:
    (best,) = read("met him", [ids_of(FRENCH, "vu")])
    assert best == Translation("vu", -1.0, -2.0, None, ["vu", "<eos>"], None)


# Unknown words --------------------------------------------------------------------------------------------------------


def looking_at(*columns: int, size: int) -> list[list[float]]:
    return [[float(place == column) for place in range(size)] for column in columns]


def test_an_unknown_word_is_replaced_by_the_word_it_looked_at() -> None:
    """As often as there is one, the text around it as it was, and a mark of the source not copied along."""
    source = "Zorba, I met Ötzi today"
    assert ENGLISH.encode([source])[0].tolist().count(UNK) == 2
    ids = [*ids_of(FRENCH, "je"), UNK, *ids_of(FRENCH, "vu"), UNK, *FRENCH.encode(["vu."])[0].tolist()[1:]]
    attention = looking_at(2, 4, 3, 0, 5, 6, size=7)
    (kept,) = read(source, [ids], attention=attention)
    assert kept.text == "je <unk> vu <unk>."
    (replaced,) = read(source, [ids], attention=attention, replace_unknown=True)
    assert replaced.text == "je Ötzi vu Zorba."
    assert replaced.alignment == kept.alignment


def test_a_word_that_only_spells_the_unknown_one_stays() -> None:
    """Between two true ones; words of a vocabulary that splits at spaces alone keep their marks."""
    spelling = Words(min_frequency=1).build(["<unk>"])
    spaces = Words(min_frequency=1, tokeniser="spaces").build(["a, b."])
    ids = [UNK, *spelling.encode(["<unk>"])[0].tolist(), UNK]
    attention = looking_at(*[1] * (len(ids) - 1), 0, 2, size=3)
    (best,) = read("a, b.", [ids], texts=(spaces, spelling), attention=attention, replace_unknown=True)
    assert best.text == "b. <unk> a,"


# Ends -----------------------------------------------------------------------------------------------------------------


def test_empty_unfinished_and_missing_hypotheses() -> None:
    """Of three that were asked for one is empty, one has a word, and the third was not found."""
    found = hypotheses_of([[], ids_of(FRENCH, "vu"), []])
    lengths = found.lengths.clone()
    lengths[0, 2] = 0
    found = found._replace(lengths=lengths, finished=lengths > 0)
    (translations,) = read_hypotheses(
        found, sources=["met"], num_pieces=[1], source_text=ENGLISH, target_text=FRENCH, replace_unknown=True
    )
    assert [(one.text, one.tokens) for one in translations] == [("", ["<eos>"]), ("vu", ["vu", "<eos>"])]
    assert texts_of(found, target_text=FRENCH) == [""]
    (cut,) = read("met", [ids_of(FRENCH, "vu", "vu")], finished=False, attention=[[1.0, 0.0]] * 2)
    assert (cut.text, cut.tokens, cut.alignment) == ("vu vu", ["vu", "vu"], [(0, 0), (0, 1)])
    (empty,) = read("met", [[]], attention=[[0.5, 0.5]])
    assert (empty.text, empty.alignment) == ("", [])


def test_only_what_was_read_of_a_sentence_is_aligned_with() -> None:
    """A sentence that was cut: attention has a column for each piece that was read and for the end, and no more."""
    source = "I met him today again"
    (best,) = read(source, [[UNK]], num_pieces=[2], attention=[[0.1, 0.2, 0.7], [0.0, 0.0, 1.0]], replace_unknown=True)
    assert (best.text, best.alignment) == ("met", [(1, 0)])


def test_sentences_become_a_padded_batch() -> None:
    source, lengths = as_sources(TokenArrays.of([[5], [6, 7, 8]]))
    assert source.tolist() == [[5, EOS, PAD, PAD], [6, 7, 8, EOS]]
    assert lengths.tolist() == [2, 4]


def test_the_best_of_each_sentence_is_its_text() -> None:
    found = hypotheses_of([ids_of(FRENCH, "le", "vieil", "homme"), ids_of(FRENCH, "je")])
    assert texts_of(found, target_text=FRENCH) == ["le vieil homme"]


@pytest.mark.parametrize("source", ["", "   "])
def test_a_source_without_a_word_is_aligned_with_nothing(source: str) -> None:
    (best,) = read(source, [ids_of(FRENCH, "vu")], attention=[[1.0], [1.0]], replace_unknown=True)
    assert (best.text, best.alignment) == ("vu", [])
