"""Flickr8k and Flickr30k as they are handed out: a file of captions, a list of pictures a part, a folder of pictures.

Hodosh et al., "Framing Image Description as a Ranking Task", JAIR 47, 2013; Young et al., "From Image Descriptions to
Visual Denotations", TACL 2, 2014.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from data.captions.corpus import (
    PARTS,
    CaptionCorpus,
    CaptionCorpusConfig,
    Entry,
    Part,
    check_apart,
    check_unique,
    made_corpus,
)
from data.corpora import corpus_folder, existing_file, folder_below
from data.media import MediaFiles
from data.module import notify
from data.parallel.files import read_lines

_TOKEN = re.compile(r"(?P<name>.+)#(?P<number>\d+)\t(?P<caption>.*)")
# The second bar is missing in a line of the file that is handed out (2199200615.jpg, number 4).
_PIPE = re.compile(r"(?P<name>[^|]+?)\s*\|\s*(?P<number>\d+)\s*(?P<bar>\|?)\s*(?P<caption>.*)")
_HEADER = re.compile(r"[^|]*\|\s*comment_number\s*\|.*")


@dataclass(frozen=True, kw_only=True)
class Flickr(CaptionCorpusConfig):
    """Flickr8k, Flickr30k and corpora of the same form.

    A line of the captions is `image.jpg#0`, a tab and the caption, or `image.jpg| 0| caption`, with or without a header. A line
    of a list is the name of a picture, with or without the .jpg.
    """

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    captions: str = "Flickr8k.token.txt"
    """File with all captions."""
    images: str = "images"
    """Folder with all pictures."""
    train: str = "Flickr_8k.trainImages.txt"
    """File that lists the pictures to train on."""
    validation: str = "Flickr_8k.devImages.txt"
    """File that lists those to validate on."""
    test: str = "Flickr_8k.testImages.txt"
    """File that lists those to test on."""

    def read(self, part: Part, *, cache_dir: str | None = None) -> CaptionCorpus:
        """The pictures that the part's list names, in its order; captions in the order of their numbers."""
        assert part in PARTS
        folder = corpus_folder(self.path)
        file = existing_file(folder, self.captions, key="captions")
        captions = _read_captions(file)
        listed = {part: _read_list(existing_file(folder, getattr(self, part), key=part), captions)}
        for other in PARTS:  # one may do without a part, as long as nothing asks for it
            other_file = folder / getattr(self, other)
            if other != part and other_file.is_file() and other_file.stat().st_size:
                listed[other] = _read_list(other_file, captions)
        check_apart([(str(folder / getattr(self, each)), list(names)) for each, names in listed.items()])
        in_none = len(set(captions) - set().union(*listed.values()))
        if part == "train" and in_none:
            notify(f"{file}: {in_none} pictures with captions are in no list of a part, and not used.")
        entries = [Entry(name, captions.get(name, []), where) for name, where in listed[part].items()]
        return made_corpus(
            entries,
            MediaFiles(
                folder_below(folder, self.images, of="pictures", key="images"), [entry.name for entry in entries]
            ),
            part=part,
            place=str(folder / getattr(self, part)),
            max_missing_share=self.max_missing_share,
        )


def _read_list(file: Path, captions: dict[str, list[str]]) -> dict[str, str]:
    """The names in a list as the captions have them, with their places."""
    names = []
    for number, line in enumerate(read_lines(file), start=1):
        name = line.strip()
        if not name:
            continue
        if name not in captions and f"{name}.jpg" in captions:
            name = f"{name}.jpg"
        names.append((name, f"{file}, line {number}"))
    if not names:
        raise ValueError(f"{file} lists no picture. It must hold the name of one a line.")
    check_unique(names, advice="Remove one of the lines.")
    return dict(names)


def _read_captions(file: Path) -> dict[str, list[str]]:
    """The captions of each picture, by their numbers."""
    numbered: dict[str, dict[int, tuple[str, int]]] = {}
    form, num_without_bar = None, 0
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        if form is None:
            form = _TOKEN if _TOKEN.fullmatch(line) else _PIPE
            if form is _PIPE and _HEADER.fullmatch(line):
                continue
        found = form.fullmatch(line)
        if found is None:
            expected = (
                "'image.jpg#0', a tab and the caption"
                if form is _TOKEN
                else "'image.jpg#0', a tab and the caption, or 'image.jpg| 0| caption'"
            )
            raise ValueError(f"{file}, line {number}: {line[:60]!r} is no caption. A line must be {expected}.")
        num_without_bar += form is _PIPE and not found["bar"]
        of_image = numbered.setdefault(found["name"], {})
        place = int(found["number"])
        if place in of_image:
            raise ValueError(
                f"{file}, line {number}: caption {place} of the picture {found['name']!r} is there a second time; the first is "
                f"in line {of_image[place][1]}. Number the captions of a picture, or remove one."
            )
        of_image[place] = found["caption"], number
    if not numbered:
        raise ValueError(f"{file} holds no caption. A line must be 'image.jpg#0', a tab and the caption.")
    if num_without_bar:
        notify(f"{file}: {num_without_bar} lines lack the bar before the caption; it is read all the same.")
    return {name: [of_image[place][0] for place in sorted(of_image)] for name, of_image in numbered.items()}
