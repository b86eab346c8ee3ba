"""What every kind of text handling promises: text comes back, and a vocabulary is plain data."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.text import BOS, BPE, EOS, PAD, SPECIALS, UNK, Normalisation, Text, TextConfig, Unigram, Words, load_text

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    "Zwei junge weiße Männer sind im Freien.",
    "Ein Mädchen in einem Karateanzug bricht ein Brett, mit einem Tritt!",
    "A little girl (in pink) climbing into a wooden playhouse.",
    "The girl's dog doesn't climb; 2 men look at it: 'nice'.",
    "Männer, Männer und Mädchen laufen - läuft er?",
] * 3
CONFIGS: list[TextConfig] = [
    BPE(vocabulary_size=120),
    Unigram(vocabulary_size=90),
    Words(min_frequency=1),
    Words(min_frequency=1, tokeniser="spaces"),
]
TEXTS = [config.build(LINES) for config in CONFIGS]
texts = st.sampled_from(TEXTS)
alphabet = sorted({character for line in LINES for character in line} - {" "})
known_words = st.sampled_from(sorted({word for line in LINES for word in line.split()}))
# Of known characters, and of any.
lines_of_text = st.one_of(
    st.lists(known_words, max_size=8).map(" ".join),
    st.lists(st.text(alphabet, min_size=1, max_size=9), max_size=6).map(" ".join),
    st.text(max_size=30),
)
patient = settings(deadline=None, max_examples=60)


def name_of(text: Any) -> str:
    return (
        f"{text.kind}-{getattr(text, 'tokeniser', '')}"
        if isinstance(text, Text) and text.kind == "Words"
        else text.kind
    )


@patient
@given(text=texts, words=st.lists(known_words, max_size=12), space=st.sampled_from([" ", "  ", "\t", "\u00a0", "\n"]))
def test_known_words_come_back_with_one_space_between_them(text: Text, words: list[str], space: str) -> None:
    (ids,) = text.encode([space + space.join(words) + space])
    assert text.decode(ids) == " ".join(words)
    assert not {PAD, BOS, EOS, UNK} & set(ids.tolist())


@patient
@given(text=st.sampled_from(TEXTS[:2]), words=st.lists(st.text(alphabet, min_size=1, max_size=9), max_size=8))
def test_subwords_bring_any_text_of_known_characters_back(text: Text, words: list[str]) -> None:
    line = Normalisation()(" ".join(words))
    assert text.decode(text.encode([line])[0]) == line


@patient
@given(text=texts, lines=st.lists(lines_of_text, max_size=6))
def test_a_line_is_encoded_alike_alone_and_among_others(text: Text, lines: list[str]) -> None:
    flat = text.encode_flat(lines)
    assert len(flat) == len(lines)
    for index, line in enumerate(lines):
        (alone,) = text.encode([line])
        assert alone.dtype == np.int32
        assert flat[index].tolist() == alone.tolist()
        assert not {PAD, BOS, EOS} & set(alone.tolist())


@patient
@given(text=texts, line=lines_of_text)
def test_each_piece_belongs_to_a_word_of_the_raw_line(text: Text, line: str) -> None:
    """Pharaoh alignments count what stands between white space, before normalisation."""
    (ids,) = text.encode([line])
    numbers = text.pieces_of_words(line)
    assert len(numbers) == len(ids)
    assert (np.diff(numbers) >= 0).all()
    for number, word in enumerate(line.split()):
        assert text.encode([word])[0].tolist() == ids[numbers == number].tolist()


@pytest.mark.parametrize("text", TEXTS, ids=name_of)
def test_special_tokens_have_the_same_numbers_everywhere(text: Text) -> None:
    assert text.tokens([0, 1, 2, 3]) == list(SPECIALS) == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert text.vocabulary_size == len(text.pieces)
    (ids,) = text.encode(["Ein Brett"])
    framed = [BOS, *ids.tolist(), EOS, PAD, PAD]
    assert text.decode(framed) == text.decode(torch.tensor(framed)) == text.decode(ids)
    assert "<unk>" in text.decode([*ids.tolist(), UNK])


@pytest.mark.parametrize("text", TEXTS, ids=name_of)
def test_text_that_spells_a_special_token_is_text(text: Text) -> None:
    for special in SPECIALS:
        (ids,) = text.encode([f"{special} ein {special}"])
        assert not {PAD, BOS, EOS} & set(ids.tolist())
    (config,) = [config for config, built in zip(CONFIGS, TEXTS, strict=True) if built is text]
    trained_on_it = config.build([*LINES, *["<pad> <eos> <pad>"] * 20])
    (ids,) = trained_on_it.encode(["<pad> <eos>"])
    assert not {PAD, BOS, EOS} & set(ids.tolist())


@pytest.mark.parametrize("text", TEXTS, ids=name_of)
def test_a_vocabulary_passes_through_a_checkpoint(text: Text) -> None:
    file = BytesIO()
    torch.save(text.to_plain(), file)
    file.seek(0)
    loaded = load_text(torch.load(file, weights_only=True))
    assert type(loaded) is type(text)
    assert loaded.fingerprint == text.fingerprint
    assert loaded.pieces == text.pieces
    assert loaded.normalisation == text.normalisation
    for line in [*LINES, "Ungesehenes € Wörterbuch"]:
        assert loaded.encode([line])[0].tolist() == text.encode([line])[0].tolist()
        assert loaded.decode(loaded.encode([line])[0]) == text.decode(text.encode([line])[0])


def test_a_fingerprint_tells_vocabularies_apart() -> None:
    others = [
        BPE(vocabulary_size=110).build(LINES),
        BPE(vocabulary_size=120, normalisation=Normalisation(lowercase=True)).build(LINES),
        BPE(vocabulary_size=120).build(LINES[1:]),
        Words(min_frequency=1, tokeniser="basic_english").build(LINES),
    ]
    fingerprints = [text.fingerprint for text in TEXTS + others]
    assert len(set(fingerprints)) == len(fingerprints)
    plain = TEXTS[0].to_plain()
    plain["pieces"] = [plain["pieces"][1], plain["pieces"][0], *plain["pieces"][2:]]
    with pytest.raises(ValueError, match="it has been changed since"):
        load_text(plain)
    with pytest.raises(ValueError, match=r"Unknown kind of text 'Bytes'\. Known: BPE, Unigram, Words"):
        load_text({"class": "Bytes"})


def test_the_same_lines_give_the_same_vocabulary_in_every_process() -> None:
    """Hash tables are seeded anew in every process, and must not decide which of two pieces comes first."""
    code = (
        "from tests.data.test_text import CONFIGS, LINES\n"
        "print(*[config.build(LINES).fingerprint for config in CONFIGS])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [text.fingerprint for text in TEXTS]


class TestNormalisation:
    def test_forms(self) -> None:
        composed, decomposed = "Männer", "Ma\u0308nner"
        assert Normalisation()(decomposed) == composed
        assert Normalisation(unicode="none")(decomposed) == decomposed
        assert Normalisation()("ﬁne ½") == "ﬁne ½"
        assert Normalisation(unicode="nfkc")("ﬁne Ｈ²") == "fine H2"
        assert Normalisation(unicode="nfkc", lowercase=True)("ﬁne ℌ Ä") == "fine h ä"

    @patient
    @given(st.text(max_size=20), st.sampled_from(["nfc", "nfkc", "none"]), st.booleans())
    def test_doing_it_twice_changes_nothing(self, line: str, form: Any, lowercase: bool) -> None:
        normalisation = Normalisation(unicode=form, lowercase=lowercase)
        once = normalisation(line)
        assert normalisation(once) == once
        assert once.split(" ") == normalisation.words(line) or not once

    def test_what_looks_like_the_mark_of_a_space_is_one(self) -> None:
        assert Normalisation()("a▁b ▁ c") == "a b c"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalisation(unicode="nfd"), r"normalisation\.unicode is 'nfd'\. Known: nfc, nfkc, none"),  # type: ignore[arg-type]
        (lambda: BPE(vocabulary_size=4), "vocabulary_size must be above 4, the number of special tokens, got 4"),
        (lambda: Unigram(vocabulary_size=0), "vocabulary_size must be above 4"),
        (lambda: BPE(dropout=1.0), "probability below 1, got 1"),
        (lambda: BPE(dropout=-0.1), "probability below 1, got -0.1"),
        (lambda: BPE(vocabulary_size=30).build(LINES), "different characters.*Raise vocabulary_size to"),
        (lambda: Unigram(vocabulary_size=30).build(LINES), "different characters.*lowercase: true"),
        (lambda: BPE().build([" ", ""]), "from 2 lines without a word"),
        (lambda: Unigram().build([" "]), "from 1 lines without a word"),
        (lambda: Words().build(["jedes Wort einmal"]), "None of the 3 different words .* min_frequency=2 times"),
        (lambda: Words(min_frequency=0), "min_frequency must be at least 1, got 0"),
        (lambda: Words(max_size=0), "max_size must be at least 1 word, or null for no limit, got 0"),
        (
            lambda: Words(tokeniser="moses"),
            "tokeniser is 'moses'. Known: punctuation, spaces, unpunctuated, basic_english",
        ),  # type: ignore[arg-type]
        (lambda: TEXTS[0].decode([5, 5000]), "Token 5000 is outside the vocabulary, whose numbers run from 0 to"),
        (lambda: TEXTS[0].tokens([-1]), "Token -1 is outside"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
