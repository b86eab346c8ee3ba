"""Number words against tables written out, and by what holds for all of them."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.demo.clauses_numbers import LARGEST_NUMBER, MONTHS, date_words, english_number, french_number

FRENCH = """
zéro | un | deux | trois | quatre | cinq | six | sept | huit | neuf
dix | onze | douze | treize | quatorze | quinze | seize | dix-sept | dix-huit | dix-neuf
vingt | vingt et un | vingt-deux | vingt-trois | vingt-quatre | vingt-cinq | vingt-six | vingt-sept | vingt-huit | vingt-neuf
trente | trente et un | trente-deux | trente-trois | trente-quatre | trente-cinq | trente-six | trente-sept | trente-huit | \
trente-neuf
quarante | quarante et un | quarante-deux | quarante-trois | quarante-quatre | quarante-cinq | quarante-six | quarante-sept \
| quarante-huit | quarante-neuf
cinquante | cinquante et un | cinquante-deux | cinquante-trois | cinquante-quatre | cinquante-cinq | cinquante-six | \
cinquante-sept | cinquante-huit | cinquante-neuf
soixante | soixante et un | soixante-deux | soixante-trois | soixante-quatre | soixante-cinq | soixante-six | soixante-sept \
| soixante-huit | soixante-neuf
soixante-dix | soixante et onze | soixante-douze | soixante-treize | soixante-quatorze | soixante-quinze | soixante-seize | \
soixante-dix-sept | soixante-dix-huit | soixante-dix-neuf
quatre-vingts | quatre-vingt-un | quatre-vingt-deux | quatre-vingt-trois | quatre-vingt-quatre | quatre-vingt-cinq | \
quatre-vingt-six | quatre-vingt-sept | quatre-vingt-huit | quatre-vingt-neuf
quatre-vingt-dix | quatre-vingt-onze | quatre-vingt-douze | quatre-vingt-treize | quatre-vingt-quatorze | \
quatre-vingt-quinze | quatre-vingt-seize | quatre-vingt-dix-sept | quatre-vingt-dix-huit | quatre-vingt-dix-neuf
cent
"""


def test_french_from_0_to_100_is_what_the_table_says() -> None:
    table = [name.strip() for line in FRENCH.strip().splitlines() for name in line.split("|")]
    assert [french_number(number) for number in range(101)] == table


@pytest.mark.parametrize(
    ("number", "french", "english"),
    [
        (101, "cent un", "one hundred and one"),
        (121, "cent vingt et un", "one hundred and twenty-one"),
        (171, "cent soixante et onze", "one hundred and seventy-one"),
        (180, "cent quatre-vingts", "one hundred and eighty"),
        (200, "deux cents", "two hundred"),
        (205, "deux cent cinq", "two hundred and five"),
        (281, "deux cent quatre-vingt-un", "two hundred and eighty-one"),
        (316, "trois cent seize", "three hundred and sixteen"),
        (500, "cinq cents", "five hundred"),
        (880, "huit cent quatre-vingts", "eight hundred and eighty"),
        (999, "neuf cent quatre-vingt-dix-neuf", "nine hundred and ninety-nine"),
    ],
)
def test_some_hundreds(number: int, french: str, english: str) -> None:
    assert (french_number(number), english_number(number)) == (french, english)


def test_english_from_0_to_100_has_its_regular_parts() -> None:
    first = "zero one two three four five six seven eight nine ten eleven twelve"
    irregular = first.split()
    assert [english_number(number) for number in range(13)] == irregular
    teens = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
    assert [english_number(number) for number in range(13, 20)] == teens
    for tens, name in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    ):
        assert [english_number(10 * tens + unit) for unit in range(10)] == [
            name,
            *(f"{name}-{unit}" for unit in irregular[1:10]),
        ]
    assert english_number(100) == "one hundred"


@given(number=st.integers(1, LARGEST_NUMBER))
def test_the_feminine_differs_in_a_last_one_alone(number: int) -> None:
    masculine, feminine = french_number(number), french_number(number, feminine=True)
    last_is_one = number % 10 == 1 and number % 100 not in (11, 71, 91)
    assert feminine == (f"{masculine}e" if last_is_one else masculine)


def test_every_number_has_words_of_its_own() -> None:
    for words in (french_number, english_number):
        assert len({words(number) for number in range(LARGEST_NUMBER + 1)}) == LARGEST_NUMBER + 1


@pytest.mark.parametrize("words", [french_number, english_number])
@pytest.mark.parametrize("number", [-1, LARGEST_NUMBER + 1])
def test_a_number_without_words_is_refused(words: Callable[[int], str], number: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to {LARGEST_NUMBER}.*got {number}"):
        words(number)


def test_months_are_those_of_a_leap_year_and_begin_with_the_first() -> None:
    for month, (english, french, days) in enumerate(MONTHS, start=1):
        last = datetime.date(2024, month, days)
        assert english == last.strftime("%B")
        assert (last + datetime.timedelta(days=1)).day == 1
        assert date_words(1, month) == (f"on {english} 1", f"le premier {french}")
        assert date_words(days, month) == (f"on {english} {days}", f"le {days} {french}")
