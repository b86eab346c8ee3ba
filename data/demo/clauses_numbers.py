"""Numbers and dates in words, English (British) and French (the traditional spelling)."""

from __future__ import annotations

LARGEST_NUMBER = 999


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_EN_UNITS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_EN_TENS = _words("- - twenty thirty forty fifty sixty seventy eighty ninety")
_FR_UNITS = _words(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf"
)
_FR_TENS = _words("- - vingt trente quarante cinquante soixante")

MONTHS = (
    ("January", "janvier", 31),
    ("February", "février", 29),
    ("March", "mars", 31),
    ("April", "avril", 30),
    ("May", "mai", 31),
    ("June", "juin", 30),
    ("July", "juillet", 31),
    ("August", "août", 31),
    ("September", "septembre", 30),
    ("October", "octobre", 31),
    ("November", "novembre", 30),
    ("December", "décembre", 31),
)
"""English name, French name, most days."""


def english_number(number: int) -> str:
    """A whole number from 0 to 999 in words: two hundred and eighty-one.

    Raises:
        ValueError: The number is outside that range.
    """
    _check(number)
    hundreds, rest = divmod(number, 100)
    if hundreds:
        head = f"{_EN_UNITS[hundreds]} hundred"
        return f"{head} and {english_number(rest)}" if rest else head
    if rest < 20:
        return _EN_UNITS[rest]
    tens, unit = divmod(rest, 10)
    return _EN_TENS[tens] + (f"-{_EN_UNITS[unit]}" if unit else "")


def french_number(number: int, *, feminine: bool = False) -> str:
    """A whole number from 0 to 999 in words: deux cent quatre-vingt-un, before a feminine noun quatre-vingt-une.

    Raises:
        ValueError: The number is outside that range.
    """
    _check(number)
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _french_below_hundred(rest, feminine=feminine)
    head = "cent" if hundreds == 1 else f"{_FR_UNITS[hundreds]} cent"
    if rest:
        return f"{head} {_french_below_hundred(rest, feminine=feminine)}"
    # cent and quatre-vingt take their plural only where nothing follows.
    return head if hundreds == 1 else f"{head}s"


def _french_below_hundred(number: int, *, feminine: bool) -> str:
    one = "une" if feminine else "un"
    if number == 1:
        return one
    if number < 20:
        return _FR_UNITS[number]
    if number >= 80:
        rest = number - 80
        return "quatre-vingts" if not rest else f"quatre-vingt-{one if rest == 1 else _FR_UNITS[rest]}"
    # From 70 on the tens of 60 are counted further: soixante-douze is 60 + 12.
    tens = min(number // 10, 6)
    rest = number - 10 * tens
    if not rest:
        return _FR_TENS[tens]
    if rest in (1, 11):
        return f"{_FR_TENS[tens]} et {one if rest == 1 else _FR_UNITS[rest]}"
    return f"{_FR_TENS[tens]}-{_FR_UNITS[rest]}"


def date_words(day: int, month: int) -> tuple[str, str]:
    """A day of a month, 1 to 12, in English and French: ("on May 1", "le premier mai")."""
    english, french, _ = MONTHS[month - 1]
    return f"on {english} {day}", f"le {'premier' if day == 1 else day} {french}"


def _check(number: int) -> None:
    if not 0 <= number <= LARGEST_NUMBER:
        raise ValueError(f"Numbers from 0 to {LARGEST_NUMBER} can be put in words, got {number}.")
