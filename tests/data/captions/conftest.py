"""Small corpora in all forms: folders of tiny pictures, and the files that say what is on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.captions.reading import CaptionCorpusConfig, Part

Said = dict[str, list[str]]

# Whatever is no line end to us stands inside a caption: separators of Unicode, quotes, bars, commas and numbers.
TRAIN: Said = {
    "b.jpg": ['A "man" sleeps , alone .', " two  men\u2028walk | talk "],
    "a#1.jpg": ["A dog#1 runs ."],
    "ü x.jpg": ["Ein Hund .", "Zwei\x85Hunde , 3 Katzen .", "Ein Hund ."],
}
VALIDATION: Said = {"v.jpg": ["A cat ."]}
TEST: Said = {"t.jpg": ["A cow .", "The cow ."], "t2.jpg": ["It's a horse ."]}
ALL: dict[Part, Said] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


def colour_of(name: str) -> tuple[int, int, int]:
    """The one colour of a picture, by which it is known again."""
    number = sum(name.encode()) * 7919
    return number % 256, number // 256 % 256, len(name)


def save_picture(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    # PNG under any ending: the content decides, and no colour is lost.
    Image.new("RGB", (5, 4), colour_of(name)).save(folder / name, "PNG")


def save_pictures(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        save_picture(folder, name)


def check_pictures(corpus: Any, names: Sequence[str]) -> None:
    """Each row loads the picture that its name says."""
    for row, name in enumerate(names):
        found = corpus.load(row)
        assert found.shape == (4, 5, 3)
        assert (found == np.array(colour_of(name))).all(), name


def write_flickr(folder: Path, parts: dict[Part, Said] = ALL, *, form: str = "token") -> None:
    lines = [] if form == "token" else ["image_name| comment_number| comment"] if form == "pipe" else []
    for said in parts.values():
        save_pictures(folder / "images", list(said))
        for name, captions in said.items():
            for number, caption in enumerate(captions):
                lines.append(f"{name}#{number}\t{caption}" if form == "token" else f"{name}| {number}| {caption}")
    (folder / "Flickr8k.token.txt").write_bytes(("\n".join(lines) + "\n").encode())
    for part, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        if part in parts:
            listed = "".join(f"{image}\n" for image in parts[part])  # type: ignore[index]
            (folder / f"Flickr_8k.{name}Images.txt").write_text(listed, encoding="utf-8")


def karpathy_image(name: str, split: str, captions: list[str], **more: Any) -> dict[str, Any]:
    sentences = [{"raw": caption, "tokens": caption.split(), "sentid": 0} for caption in captions]
    return {"filename": name, "split": split, "sentences": sentences, "sentids": [0], "imgid": 0, **more}


def write_karpathy(folder: Path, images: list[dict[str, Any]]) -> None:
    (folder / "dataset.json").write_text(json.dumps({"images": images, "dataset": "mine"}), encoding="utf-8")
    for image in images:
        save_picture(folder / "images" / image.get("filepath", ""), image["filename"])


def write_coco(file: Path, said: Said, *, first_id: int = 7) -> None:
    images = [{"id": first_id + number, "file_name": name} for number, name in enumerate(said)]
    annotations = [
        {"image_id": first_id + number, "id": 0, "caption": caption}
        for number, captions in enumerate(said.values())
        for caption in captions
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")


Refusal = Callable[..., str]


@pytest.fixture
def refusal() -> Refusal:
    """The message with which a corpus is refused."""

    def message(corpus: CaptionCorpusConfig, part: Part = "train") -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011  the caller looks at the message
            corpus.read(part)
        return str(error.value)

    return message


def holds(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"
