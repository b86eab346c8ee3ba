"""How raw text is evened out before it is split into pieces."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

# Stands for the space before a word in pieces of it, so that pieces alone say where words begin. What looks like it in a
# text is taken for a space.
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
FORMS = ("nfc", "nfkc", "none")


@dataclass(frozen=True)
class Normalisation:
    """What happens to a line before it is split; runs of white space always count as one space."""

    unicode: Literal["nfc", "nfkc", "none"] = "nfc"
    """nfc: one code point where several make up the same letter; nfkc: also full-width forms, ligatures and superscripts to
    plain ones, which changes what decoded text looks like; none: as it is."""
    lowercase: bool = False
    """Turn everything to lower case, which decoded text will then be in."""

    def __post_init__(self) -> None:
        if self.unicode not in FORMS:
            raise ValueError(f"normalisation.unicode is {self.unicode!r}. Known: {', '.join(FORMS)}.")

    def words(self, line: str) -> list[str]:
        """The words of a line, evened out: what stands between white space."""
        line = self._composed(line)
        if self.lowercase:
            # Lower case can undo a composition, and a compatibility form has its lower case only after its own.
            line = self._composed(line.lower())
        return line.replace(SPACE_MARK, " ").split()

    def __call__(self, line: str) -> str:
        """The line, evened out: its words with one space between them."""
        return " ".join(self.words(line))

    def _composed(self, line: str) -> str:
        if self.unicode == "nfc":
            return unicodedata.normalize("NFC", line)
        if self.unicode == "nfkc":
            return unicodedata.normalize("NFKC", line)
        return line


COMPOSED = Normalisation()
