"""Pictures of coloured shapes with five captions each: the embedded set `demo/scenes`, for image captioning.

Whether a caption is true of its picture can be decided (`scenes_truth.py`), and half of the test pictures show
combinations that training does not. `data/demo/README.md` describes the set.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data.demo.scenes_captions import Meaning, captions_of, meaning_of
from data.demo.scenes_combinations import Lot, Lots, is_unseen
from data.demo.scenes_drawing import draw
from data.demo.scenes_objects import BACKGROUNDS, Scene
from data.demo.scenes_sampling import sample_scene

VERSION = 2
"""Raised with every change of the pictures or captions, so that no cache serves those of before."""

NUM_TRAIN = 4_000
NUM_VALIDATION = 300
NUM_TEST = 400
"""Pictures; of those of the test, half show what training does not."""
SHARE_OF_ONE = 0.4
"""Of pictures that show what training does, those with one object; the others have two."""
UNSEEN_SHARE_OF_ONE = 0.2
"""Of the others, those with one object."""
CAPTIONS_FILE = "dataset.json"
IMAGES_FOLDER = "images"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Example:
    """A scene with its captions."""

    scene: Scene
    """What the picture shows."""
    captions: tuple[str, ...]
    """Five, all true."""

    @property
    def unseen(self) -> bool:
        """Whether it shows an object, or two kinds of object together, that no training picture shows."""
        return is_unseen(self.scene)


def generate() -> dict[str, list[Example]]:
    """The scenes of `train`, `validation` and `test`, the same in every process.

    No scene of two objects is told alike in two parts: their objects, relation or background differ.
    """
    generator = random.Random(_SEED)
    lots = Lots(generator)
    held_out: set[Meaning] = set()
    validation = _draw(NUM_VALIDATION, SHARE_OF_ONE, lots.one(), lots.two(), generator, held_out)
    held_out |= _meanings(validation)
    num_unseen = NUM_TEST // 2
    test = _draw(NUM_TEST - num_unseen, SHARE_OF_ONE, lots.one(), lots.two(), generator, held_out)
    test += _draw(num_unseen, UNSEEN_SHARE_OF_ONE, lots.unseen_one(), lots.unseen_two(), generator, held_out)
    held_out |= _meanings(test)
    train = _draw(NUM_TRAIN, SHARE_OF_ONE, lots.one(), lots.two(), generator, held_out)
    parts = {"train": train, "validation": validation, "test": test}
    for scenes in parts.values():
        generator.shuffle(scenes)
    return {
        part: [Example(scene=scene, captions=captions_of(scene, generator)) for scene in scenes]
        for part, scenes in parts.items()
    }


def _draw(
    num_scenes: int,
    share_of_one: float,
    ones: Iterator[Lot],
    twos: Iterator[Lot],
    generator: random.Random,
    excluded: set[Meaning],
) -> list[Scene]:
    """Scenes that show the lots in turn; none of two objects that is excluded."""
    num_ones = round(share_of_one * num_scenes)
    scenes = [sample_scene(lot, generator.choice(BACKGROUNDS), generator) for lot in islice(ones, num_ones)]
    for lot in islice(twos, num_scenes - num_ones):
        scene = sample_scene(lot, generator.choice(BACKGROUNDS), generator)
        while meaning_of(scene) in excluded:
            scene = sample_scene(lot, generator.choice(BACKGROUNDS), generator)
        scenes.append(scene)
    return scenes


def _meanings(scenes: Iterable[Scene]) -> set[Meaning]:
    return {meaning_of(scene) for scene in scenes if len(scene.objects) > 1}


def write(folder: Path) -> None:
    """Writes dataset.json, captions in the form of Karpathy's splits, and images/, the pictures that it names."""
    images: list[dict[str, Any]] = []
    (folder / IMAGES_FOLDER).mkdir()
    for part, examples in generate().items():
        for example in examples:
            entry = _entry(example, split=_SPLITS[part], number=len(images))
            # Fast over small: there is little in these pictures to compress.
            draw(example.scene).save(folder / IMAGES_FOLDER / entry["filename"], compress_level=1)
            images.append(entry)
    content = json.dumps({"images": images, "dataset": "scenes"}, separators=(",", ":"))
    (folder / CAPTIONS_FILE).write_text(content, encoding="utf-8")


def _entry(example: Example, *, split: str, number: int) -> dict[str, Any]:
    first = number * len(example.captions)
    sentences = [
        {"raw": caption, "tokens": caption.split(), "imgid": number, "sentid": first + at}
        for at, caption in enumerate(example.captions)
    ]
    return {
        "filename": f"{number:05}.png",
        "split": split,
        "imgid": number,
        "sentids": [sentence["sentid"] for sentence in sentences],
        "sentences": sentences,
        "unseen": example.unseen,
        "scene": example.scene.to_plain(),
    }
