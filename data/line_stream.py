"""Lines of text as they come, from a file or standard input, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO


def line_stream(binary: IO[bytes], *, name: str) -> Iterator[str]:
    r"""The lines, split at \n or \r\n and nowhere else, without their ends.

    Args:
        binary: an open file, read in binary.
        name: what messages call it.

    Raises:
        ValueError: a line is no UTF-8; the message has the line and the byte of the file.
    """
    offset = 0
    for number, raw in enumerate(binary, start=1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: byte {offset + error.start} (the first is 0) is "
                f"{raw[error.start : error.start + 1]!r}, which is no UTF-8 there. Save the file as UTF-8."
            ) from None
        offset += len(raw)
        if number == 1:
            text = text.removeprefix("\ufeff")
        yield text.removesuffix("\n").removesuffix("\r")
