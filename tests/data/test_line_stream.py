"""Lines as they come: split like files of sentences, one at a time, and refused with their place."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.line_stream import line_stream


@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))),
    ending=st.sampled_from("nr"),
)
def test_lines_come_back(lines: list[str], ending: str) -> None:
    """Line separators of Unicode among them, which are no line ends here."""
    ending = {"n": "\n", "r": "\r\n"}[ending]
    text = "".join(f"{line}{ending}" for line in lines)
    expected = [lines[0].removeprefix("\ufeff"), *lines[1:]] if lines else []
    assert list(line_stream(io.BytesIO(text.encode()), name="it")) == expected


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"a\rb\r\nc\r", ["a\rb", "c"]),
    ],
)
def test_ends_and_byte_order_marks(raw: bytes, lines: list[str]) -> None:
    assert list(line_stream(io.BytesIO(raw), name="it")) == lines


def test_a_line_is_read_when_it_is_asked_for() -> None:
    """Constant memory: what lies behind the line is neither read nor judged yet."""
    binary = io.BytesIO("é\n".encode() + b"\xff\n" + b"c\n")
    lines = line_stream(binary, name="standard input")
    assert next(lines) == "é"
    assert binary.tell() == 3
    with pytest.raises(ValueError, match=r"standard input, line 2: byte 3 .* is b'\\xff', .* Save the file as UTF-8"):
        next(lines)


def test_the_byte_is_that_of_the_file() -> None:
    with pytest.raises(ValueError, match=r"in\.txt, line 3: byte 7 \(the first is 0\) is b'\\xe9'"):
        list(line_stream(io.BytesIO(b"ab\n\r\nde\xe9 f\n"), name="in.txt"))
