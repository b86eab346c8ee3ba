"""COCO captions as they are handed out (Chen et al., "Microsoft COCO Captions", arXiv 1504.00325, 2015)."""

from __future__ import annotations

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
from data.captions.files import field, read_json
from data.corpora import corpus_folder, existing_file, folder_below
from data.media import MediaFiles


@dataclass(frozen=True, kw_only=True)
class CocoCaptions(CaptionCorpusConfig):
    """A file of captions and a folder of pictures a part.

    The captions of COCO's own test pictures are not public: name a part of the others for `test`, or take `Karpathy`.
    """

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    train: str = "annotations/captions_train2017.json"
    """File with the captions to train on."""
    validation: str = "annotations/captions_val2017.json"
    """File with those to validate on."""
    test: str | None = None
    """File with those to test on; null = there is none."""
    train_images: str = "train2017"
    """Folder with the pictures to train on."""
    validation_images: str = "val2017"
    """Folder with those to validate on."""
    test_images: str | None = None
    """Folder with those to test on; given together with test."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.test is None) != (self.test_images is None):
            raise ValueError(
                f"data.corpus.test is {self.test!r} and test_images {self.test_images!r}: give both, or neither."
            )

    def read(self, part: Part, *, cache_dir: str | None = None) -> CaptionCorpus:
        """The pictures in the order of the file's `images`, captions in that of its `annotations`."""
        assert part in PARTS
        folder = corpus_folder(self.path)
        name, images = self._named(part)
        if name is None or images is None:
            raise ValueError(
                f"There is no part {part!r}: data.corpus.{part} is null. Name its file by {part}, and the folder of its "
                f"pictures by {part}_images."
            )
        file = existing_file(folder, name, key=part)
        entries = _read(file)
        self._check_apart(part, folder, [entry.name for entry in entries])
        return made_corpus(
            entries,
            MediaFiles(
                folder_below(folder, images, of="pictures", key=f"{part}_images"), [entry.name for entry in entries]
            ),
            part=part,
            place=str(file),
            max_missing_share=self.max_missing_share,
        )

    def _named(self, part: Part) -> tuple[str | None, str | None]:
        """File and folder of a part."""
        return getattr(self, part), getattr(self, f"{part}_images")

    def _check_apart(self, part: Part, folder: Path, names: list[str]) -> None:
        """Parts with folders of their own share no picture; those with a common folder may."""
        name, images = self._named(part)
        found = [(str(folder / str(name)), names)]
        for other in PARTS:
            other_name, other_images = self._named(other)
            if other != part and other_images == images and other_name and (folder / other_name).is_file():
                found.append((str(folder / other_name), [entry.name for entry in _read(folder / other_name)]))
        check_apart(found)


def _read(file: Path) -> list[Entry]:
    content = read_json(file)
    entries: dict[str | int, Entry] = {}
    for number, image in enumerate(field(content, "images", list, where=str(file)), start=1):
        where = f"{file}, image {number}"
        name = field(image, "file_name", str, where=where)
        identity = field(image, "id", int, str, where=where)
        if identity in entries:
            raise ValueError(
                f"{where} ({name!r}): 'id' is {identity}, which {entries[identity].name!r} has already. Each needs its own."
            )
        entries[identity] = Entry(name, [], f"{where} ({name!r})")
    check_unique([(entry.name, entry.where) for entry in entries.values()], advice="Remove one of them.")
    for number, annotation in enumerate(field(content, "annotations", list, where=str(file)), start=1):
        where = f"{file}, annotation {number}"
        identity = field(annotation, "image_id", int, str, where=where)
        if identity not in entries:
            raise ValueError(f"{where}: 'image_id' is {identity!r}, which none of the {len(entries)} images has.")
        entries[identity].captions.append(field(annotation, "caption", str, where=where))
    return list(entries.values())
