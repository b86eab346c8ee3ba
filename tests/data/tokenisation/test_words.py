"""Words against torchtext, and the way back from words to text."""

from __future__ import annotations

import ssl
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.text import SPECIALS, Normalisation, Words, WordText
from data.tokenisation.vectors import read_vectors
from data.tokenisation.words import JOINER
from tests.data.test_text import LINES

patient = settings(deadline=None, max_examples=60)


@patient
@given(
    lines=st.lists(
        st.lists(st.sampled_from(["aa", "b,", "C", "ä.", "(", "d'e"]), max_size=6).map(" ".join), min_size=1, max_size=6
    ),
    min_frequency=st.integers(1, 3),
    max_size=st.sampled_from([None, 1, 3]),
)
def test_the_vocabulary_is_torchtexts(lines: list[str], min_frequency: int, max_size: int | None) -> None:
    from torchtext.vocab import Vocab

    counts = Counter(word for line in lines for word in line.split())
    theirs = Vocab(counts, max_size=max_size, min_freq=min_frequency, specials=list(SPECIALS))
    config = Words(max_size=max_size, min_frequency=min_frequency, tokeniser="spaces")
    if len(theirs.itos) == len(SPECIALS):
        with pytest.raises(ValueError, match="Lower min_frequency"):
            config.build(lines)
        return
    ours = config.build(lines)
    assert ours.pieces == theirs.itos
    for line in lines:
        assert ours.encode([line])[0].tolist() == [theirs[word] for word in line.split()]


@patient
@given(st.lists(st.text("aB.,!?'()\"; 1", max_size=12), min_size=1, max_size=5))
def test_basic_english_is_torchtexts(lines: list[str]) -> None:
    from torchtext.data.utils import get_tokenizer

    theirs = get_tokenizer("basic_english")
    if not any(theirs(line) for line in lines):
        return
    text = Words(min_frequency=1, tokeniser="basic_english").build(lines)
    for line in lines:
        assert text.tokens(text.encode([line])[0]) == theirs(line)


def test_basic_english_looks_like_text_again() -> None:
    line = "the girl's dog (a big one) doesn't climb, does it?"
    text = Words(min_frequency=1, tokeniser="basic_english").build([line])
    assert text.decode(text.encode([line])[0]) == line


@patient
@given(st.lists(st.text("aäß1_.,!?'()„“-€½\u0301", min_size=1, max_size=10), min_size=1, max_size=6))
def test_punctuation_goes_back_to_where_it_was(words: list[str]) -> None:
    line = Normalisation()(" ".join(words))
    text = Words(min_frequency=1).build([line])
    ids = text.encode([line])[0]
    assert text.decode(ids) == line
    for token in text.tokens(ids):
        letters = token.strip(JOINER)
        assert len(letters) == 1 or not any(unicodedata.category(letter)[0] in "PS" for letter in letters)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A man 's dog runs .", "A man s dog runs"),
        ('"Two" boys, in t-shirts!', "Two boys in t-shirts"),
        ("don't -- (stop) ...", "don't stop"),
        (" & ! ", ""),
        ("été: 3.5 km", "été 3.5 km"),
    ],
)
def test_unpunctuated_words_have_no_mark_at_either_end(line: str, words: str) -> None:
    """Captions are compared without marks, but a hyphen or an apostrophe inside a word is part of it."""
    text = Words(min_frequency=1, tokeniser="unpunctuated").build([line, "another"])
    assert text.decode(text.encode([line])[0]) == words


def test_marks_are_words_of_their_own() -> None:
    text = Words(min_frequency=1).build(LINES)
    assert text.tokens(text.encode(["Ein Brett, mit (in pink)!"])[0]) == [
        "Ein",
        "Brett",
        f"{JOINER},",
        "mit",
        f"({JOINER}",
        "in",
        "pink",
        f"{JOINER})",
        f"{JOINER}!",
    ]


class TestVectors:
    FILE = "brett 1 2 3\nEin 4 5 6\nein 7 8 9\nfremd 0 0 1\n"

    def text(self) -> WordText:
        return Words(min_frequency=1).build(["Ein Brett, ein Unbekanntes"])

    def test_rows_are_those_of_the_vocabulary(self, tmp_path: Path) -> None:
        file = tmp_path / "v.vec"
        text = self.text()
        for content in (self.FILE, "4 3\n" + self.FILE):  # with a header and without
            file.write_text(content)
            vectors = read_vectors(file, pieces=text.pieces, cache_dir=str(tmp_path / "cache"))
            assert vectors.values.dtype == torch.float32
            assert vectors.values.shape == (text.vocabulary_size, vectors.width) == (8 + 1, 3)
            by_word = dict(zip(text.pieces, vectors.values.tolist(), strict=True))
            assert by_word["Ein"] == [4, 5, 6]
            assert by_word["ein"] == [7, 8, 9]
            assert by_word["Brett"] == [1, 2, 3]  # from its lower case
            assert by_word["Unbekanntes"] == by_word["<pad>"] == [0, 0, 0]
            found = dict(zip(text.pieces, vectors.found.tolist(), strict=True))
            assert [word for word, known in found.items() if known] == [
                word for word in text.pieces if any(by_word[word])
            ]
            assert vectors.share_found == pytest.approx(3 / 5)

    def test_a_file_that_has_changed_is_read_again(self, tmp_path: Path) -> None:
        file, text = tmp_path / "v.vec", self.text()
        for number in (1, 2):
            file.write_text(f"Ein {number} 0 0\nein 0 {number} 0\n" + "x 0 0 0\n" * number)
            vectors = read_vectors(file, pieces=text.pieces, cache_dir=str(tmp_path / "cache"))
            assert vectors.values.max() == number

    def test_reading_leaves_the_process_as_it_was(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Torchtext switches off the checking of certificates for everyone, and draws a progress bar."""
        file = tmp_path / "v.vec"
        file.write_text(self.FILE)
        before = ssl._create_default_https_context
        read_vectors(file, pieces=self.text().pieces, cache_dir=str(tmp_path / "cache"))
        assert ssl._create_default_https_context is before
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("Ein 1 2 3\nein 1 2\n", "v.vec, line 2: 2 numbers, but 3 on the lines before"),
            ("Ein 1 2 3\nein 1 x 3\n", "v.vec, line 2: '1 x 3' ... are not all numbers"),
            ("", "v.vec has no word vectors"),
            ("Ein\nein\n", "v.vec has no word vectors"),
            ("the 1 2 3\nof 1 2 3\n", "for none of the 5 words of the vocabulary .in the file: the, of"),
            ("Ein 1 nan 3\nein 1 2 3\n", "the vector of 'Ein' is not finite"),
        ],
    )
    def test_a_malformed_file_is_refused_by_line(self, tmp_path: Path, content: str, message: str) -> None:
        file = tmp_path / "v.vec"
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_vectors(file, pieces=self.text().pieces, cache_dir=str(tmp_path / "cache"))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda folder: folder, "is no file"),
            (lambda folder: folder / "missing.vec", "There is no file or folder"),
        ],
    )
    def test_what_is_no_file_is_refused(self, tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_vectors(make(tmp_path), pieces=self.text().pieces, cache_dir=str(tmp_path))
