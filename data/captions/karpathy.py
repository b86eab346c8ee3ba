"""The one-file form of Flickr8k, Flickr30k and COCO with the parts that most papers report on.

Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", CVPR 2015, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from data.captions.files import field, read_json
from data.corpora import corpus_folder, existing_file, folder_below
from data.media import MediaFiles

_SPLITS: dict[str, Part] = {"train": "train", "restval": "train", "val": "validation", "test": "test"}
_READ = {"filename", "filepath", "split", "sentences", "sentids", "imgid"}


@dataclass(frozen=True, kw_only=True)
class Karpathy(CaptionCorpusConfig):
    """A dataset.json with all pictures, their captions and splits, and a folder of pictures."""

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    file: str = "dataset.json"
    """The file in it."""
    images: str = "images"
    """Folder with all pictures; where the file gives a filepath, that is a folder in it."""
    restval: bool = True
    """Train on the split restval, too: the pictures of COCO's validation set that no evaluation uses."""

    def read(self, part: Part, *, cache_dir: str | None = None) -> CaptionCorpus:
        """The pictures of a part in the file's order; what the file says of them besides captions is in `extras`."""
        assert part in PARTS
        folder = corpus_folder(self.path)
        file = existing_file(folder, self.file, key="file")
        entries: dict[str, list[Entry]] = {split: [] for split in _SPLITS}
        for number, image in enumerate(field(read_json(file), "images", list, where=str(file)), start=1):
            split, entry = _entry(image, where=f"{file}, image {number}")
            entries[split].append(entry)
        check_apart([(f"{file}, split {split!r},", [entry.name for entry in of]) for split, of in entries.items()])
        splits = [
            split for split, of_part in _SPLITS.items() if of_part == part and (self.restval or split != "restval")
        ]
        chosen = [entry for split in _SPLITS if split in splits for entry in entries[split]]
        check_unique([(entry.name, entry.where) for entry in chosen], advice="Join their sentences, or remove one.")
        return made_corpus(
            chosen,
            MediaFiles(
                folder_below(folder, self.images, of="pictures", key="images"), [entry.name for entry in chosen]
            ),
            part=part,
            place=str(file),
            max_missing_share=self.max_missing_share,
        )


def _entry(image: Any, *, where: str) -> tuple[str, Entry]:
    """The split that one of `images` is in, and the picture."""
    name = field(image, "filename", str, where=where)
    where = f"{where} ({name!r})"
    if image.get("filepath"):
        name = f"{field(image, 'filepath', str, where=where)}/{name}"
    split = field(image, "split", str, where=where)
    if split not in _SPLITS:
        raise ValueError(f"{where}: 'split' is {split!r}. Known: {', '.join(_SPLITS)}.")
    captions = [
        field(sentence, "raw", str, where=f"{where}, sentence {number}")
        for number, sentence in enumerate(field(image, "sentences", list, where=where), start=1)
    ]
    extras = {key: value for key, value in image.items() if key not in _READ}
    return split, Entry(name, captions, where, extras)
