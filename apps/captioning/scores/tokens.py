"""Words of a caption, split as the reference evaluation of captions splits them.

The reference (Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015, section 3.1) runs the
Penn Treebank tokeniser of Stanford CoreNLP 3.4.1 in Java and drops punctuation. The rules here were found by asking that
program, and adjusted until no caption of Flickr8k or Multi30k was split otherwise (`scripts/caption_tokens.py` counts).
"""

from __future__ import annotations

import re

__all__ = ["caption_tokens"]

# A full stop belongs to these; what also is a word of its own only where it is capitalised.
_ABBREVIATIONS = """
    adm al ala alex apr ariz assn aug ave bldg blvd brig bros calif capt cf cie cmdr co col colo conn corp cos dec dept dr
    drs elec esq est etc feb fla fri ft ga gen gov hon inc ind intl jan jos jr jul jun kan ky lt ltd maj mar md messrs mich
    minn mo mon mont mr mrs ms mt natl neb nev nov oct okla penn pfc ph\\.d plc pres prof pvt rd rep rev sen sep sept seq sgt
    sq sr st ste sys tel tenn thu thurs tue tues univ va vs wed wis wm
"""
_CAPITALISED_ABBREVIATIONS = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"

_RUN_TOGETHER = "cannot gonna wanna gotta lemme gimme"
_WITH_APOSTROPHE = "cap'n c'mon e'er ev'ry hallowe'en li'l ma'am ne'er o'clock o'er s'mores"

# A single letter and a full stop are one ("vitamin c.") unless such a word follows, which begins a sentence.
_SENTENCE_STARTS = """
    A About According After An As At But He Her Here However If In It Last Many More Now Once One Other Our She Since So Some
    Such That The Their Then There These They This We What When While You
"""

_APOSTROPHE = "['’]"
_LETTER = r"[^\W\d_]"
_SIGN = r"[^\W_²³½¼¾]"  # a letter or a digit
_END = rf"(?!{_SIGN})"


def _any_of(words: str) -> str:
    return "|".join(sorted(words.split(), key=len, reverse=True))


# Tried in this order at each place of a text: what may swallow the beginning of another stands before it. Blanks are
# stepped over within the expression: a search that starts at one would try the whole list there in vain.
_TOKEN = re.compile(
    r"\s*("
    + "|".join(
        [
            # Most words are plain ones before a space: found first, the rest of the list costs nothing.
            rf"(?!(?:{_any_of(_RUN_TOGETHER)})\b){_LETTER}+(?!\S)",
            r"[.,](?!\S)",
            r"</?[A-Za-z!][^<>\n]*>",  # a tag
            r"&(?:lt|gt|quot|apos|nbsp|\#\d+);",
            r"https?://[^\s<>\"]*[^\s<>\".,;:!?')]",
            r"[\w.+-]*\w@\w[\w-]*(?:\.\w+)*",  # an address
            r"[#@][A-Za-z][A-Za-z0-9]*",
            # n't, and the stem it leaves; possessives and shortened verbs.
            rf"n{_APOSTROPHE}t{_END}",
            rf"{_LETTER}+(?=n{_APOSTROPHE}t{_END})",
            rf"{_APOSTROPHE}(?:s|m|d|ll|re|ve){_END}",
            # Words run together, taken apart: can|not, gon|na ...; the second half is a word by itself.
            r"(?:can(?=not)|gon(?=na)|wan(?=na)|got(?=ta)|lem(?=me)|gim(?=me))(?=(?:not|na|ta|me)(?![\w’'-]))",
            rf"{_APOSTROPHE}t(?=(?:is|was)(?:n{_APOSTROPHE}t)?{_END})",
            rf"[yj]{_APOSTROPHE}(?={_LETTER})",
            # Apostrophes that are part of a word.
            rf"{_APOSTROPHE}(?:n{_APOSTROPHE}|(?:n|em|till?|cause){_END})",
            rf"{_APOSTROPHE}\d\ds?(?![\w\"’'])",
            rf"(?:{_LETTER}+-)*(?:{_any_of(_WITH_APOSTROPHE)}){_END}".replace("'", _APOSTROPHE),
            rf"(?:[dlo]|qu){_APOSTROPHE}{_LETTER}{{2,}}",
            rf"(?-i:{_LETTER}[a-z]*{_APOSTROPHE}[A-Z][A-Za-z]+)",
            rf"(?:ol|dunkin|somethin){_APOSTROPHE}{_END}",
            # Full stops that are part of a word.
            rf"(?:{_any_of(_ABBREVIATIONS)})\.{_END}",
            rf"(?-i:{_any_of(_CAPITALISED_ABBREVIATIONS)}|{_any_of(_CAPITALISED_ABBREVIATIONS.upper())})\.{_END}",
            r"(?:nos?|ext)\.(?=\s*\d)",
            rf"[A-Za-z](?=\.\s+(?-i:{_any_of(_SENTENCE_STARTS)})\b)",
            rf"(?:[A-Za-z]\.)+{_END}",
            rf"{_SIGN}+(?:[.,]{_SIGN}+)+(?:-{_SIGN}+)+",  # 1,000-mile, and grassy,fenced-in without its blank
            rf"{_LETTER}{_SIGN}*(?:\.{_LETTER}+)+",
            r"(?-i:[A-Z]+(?:&[A-Z]+)+)",
            # Where a blank is missing: mat.,then or Whoa!The.
            rf"{_SIGN}+(?:-{_SIGN}+)*\.(?=[,;:])",
            rf"{_LETTER}{_SIGN}*(?:[!?]{_LETTER}+)+",
            r"(?-i:[A-Z]{1,2})\$",
            # Numbers: 1,000 and 3:30 are one.
            r"[-+]?\d*(?:[.,:]\d+)+",
            r"[-+]\d+",
            # Words, and what hyphens, slashes and underscores hold together.
            rf"{_SIGN}+(?:[-/_]{_SIGN}+)*",
            # Signs: a run is one where it is kept, brackets and smileys have names, the rest stands alone.
            r"[:;=]-?[()](?!\w)",
            r"[!?]+|\*+|_+|-+|~+|<<|>>",
            r"[^\s\w\U00010000-\U0010ffff]|[²³½¼¾]",  # those beyond the basic plane, as emoji, are none
        ]
    )
    + ")",
    re.IGNORECASE,
)

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SMILEYS = {eyes + nose + mouth for eyes in ":;=" for nose in ("", "-") for mouth in "()"}
_RENAMED = {
    **_BRACKETS,
    **{smiley: smiley[:-1] + _BRACKETS[smiley[-1]] for smiley in _SMILEYS},
    **{f"’{rest}": f"'{rest}" for rest in ("s", "m", "d", "ll", "re", "ve", "t")},
    "n’t": "n't",
    "&lt;": "<",
    "&gt;": ">",
    "¢": "cents",
    "£": "#",
    "€": "$",
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
}

_DROPPED = frozenset(
    [*"'\"`“”‘’«»‹›.?!,:;-–—…", "--", "---", "----", "&quot;", "&apos;", "&nbsp;"]  # longer runs of hyphens are kept
)


def caption_tokens(text: str) -> list[str]:
    """Lower-cased words and signs of a caption, without punctuation.

    Contractions are two words (do n't, dog 's), hyphens and slashes hold a word together (t-shirt, and/or), quotation
    marks, dashes and single marks of punctuation are dropped. As in the reference, brackets stay, under their names
    (-lrb-), because its list of punctuation has them in capitals; runs of ? and ! stay too.

    Known to differ: a caption that ends in a single letter and a full stop (the reference drops that full stop if the next
    caption of its file begins with a word such as "A"), two numbers with points joined by a hyphen (5.5-6.5), signs within
    a word (fi'eld), smileys of letters (:D), and untranslated markup.
    """
    return [
        token
        for found in _TOKEN.findall(text.replace("&amp;", "&"))
        if (token := _RENAMED.get(lowered := found.lower(), lowered)) not in _DROPPED
    ]
