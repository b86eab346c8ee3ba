"""Captions are split as the reference's Java tokeniser splits them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.captioning.scores import caption_tokens

patient = settings(deadline=None, max_examples=60)

# Made by pycocoevalcap 1.2 (Stanford CoreNLP 3.4.1), tokens joined by blanks.
REFERENCE = [
    ("A dog doesn't chase the neighbour's cat , it can't .", "a dog does n't chase the neighbour 's cat it ca n't"),
    (
        "The players' coach said \"I'm tired\" at 3:30 p.m. on 12/05/2010 .",
        "the players coach said i 'm tired at 3:30 p.m. on 12/05/2010",
    ),
    (
        "Two kids (both in red) on a [blue] {big} slide .",
        "two kids -lrb- both in red -rrb- on a -lsb- blue -rsb- -lcb- big -rcb- slide",
    ),
    (
        "A twenty-five-year-old man and/or his half-brother's t-shirt",
        "a twenty-five-year-old man and/or his half-brother 's t-shirt",
    ),
    (
        "1,000 runners pay $5 & run the 10-mile race #7 for AT&T ...",
        "1,000 runners pay $ 5 & run the 10-mile race # 7 for at&t",
    ),
    ("A man -- or a boy - jumps ; he is happy : very !", "a man or a boy jumps he is happy very"),
    ("What ?! A cat !! Really ?", "what ?! a cat !! really"),
    ("They cannot swim and they're gonna wanna try", "they can not swim and they 're gon na wan na try"),
    (
        "Mr. Smith and Dr. Lee of St. Bernard st. sell coffee etc.",
        "mr. smith and dr. lee of st. bernard st. sell coffee etc.",
    ),
    ("The O'Neal family at ten o'clock in the '80s , ma'am", "the o'neal family at ten o'clock in the '80s ma'am"),
    (
        "He said ''hello'' and `bye' and “good” ‘night’ … it’s late – very — late",
        "he said hello and bye and good night it 's late very late",
    ),
    ("Rock 'n' roll on the 4x4 , 50% off at 1/2-inch", "rock 'n' roll on the 4x4 50 % off at 1/2-inch"),
    ("The man 's dog is n't here .", "the man 's dog is n't here"),
    ("A dog runs.A cat sits.", "a dog runs.a cat sits"),
    (
        "naïve café owner visits www.example.com or mails me@example.com",
        "naïve café owner visits www.example.com or mails me@example.com",
    ),
    ("'Tis the season for jack-o-lanterns , y'all", "'t is the season for jack-o-lanterns y' all"),
    ("Wait...what ? a*b = c + d @home ~ x_y", "wait what a * b = c + d @home ~ x_y"),
    ("Shelf c. The sign says vitamin C. is here", "shelf c the sign says vitamin c. is here"),
    ("&quot;Fish &amp; chips&quot; for £5 or €6", "fish & chips for # 5 or $ 6"),
    ("", ""),
    (" .", ""),
]


@pytest.mark.parametrize(("caption", "tokens"), REFERENCE)
def test_tokens_are_those_of_the_reference(caption: str, tokens: str) -> None:
    assert caption_tokens(caption) == tokens.split()


@patient
@given(st.lists(st.sampled_from(["a", "dog", "Ball", "t-shirt", "jumps", "and/or", "12"]), max_size=8), st.data())
def test_spaces_and_marks_of_punctuation_between_words_leave_no_trace(words: list[str], data: st.DataObject) -> None:
    """Flickr8k sets marks apart by blanks, COCO does not: both must score alike."""
    apart = data.draw(st.lists(st.sampled_from([" ", "  ", " , ", ", ", " . ", "; "]), min_size=9, max_size=9))
    text = "".join(f"{word}{mark}" for word, mark in zip(words, apart, strict=False))
    assert caption_tokens(text) == [word.lower() for word in words]


@patient
@given(st.text(max_size=60))
def test_any_text_has_tokens(text: str) -> None:
    """A network may print anything: tokens are never empty and hold no blank, so joining them by blanks loses nothing."""
    tokens = caption_tokens(text)
    assert all(tokens)
    if "<" not in text:  # a tag is one token, blanks and all
        assert " ".join(tokens).split() == tokens


def test_a_long_run_of_anything_takes_no_time() -> None:
    """Patterns with two ways to read a run of signs would take hours for it."""
    for sign in ("a", "a.", "a-", "a'", "n't", "1,", "'", "(", "&", "<", "a@", "a.b-", "A$"):
        assert caption_tokens(sign * 1_000 + "!") is not None
