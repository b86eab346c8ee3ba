"""The set as a whole: its parts, what is held out, that it is the same everywhere, and what reaches the cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.demo import scenes
from data.demo.scenes import NUM_TEST, NUM_TRAIN, NUM_VALIDATION, VERSION, Example
from data.demo.scenes_captions import meaning_of
from data.demo.scenes_combinations import HELD_OUT, HELD_OUT_PAIRS, KIND_PAIRS, TAUGHT
from data.demo.scenes_objects import COLOURS, SHAPES, SIZES, Scene
from data.paths import EMBEDDED, find_data
from tests.data.demo import generated

# Another set needs another version, or caches would go on serving the old one.
DIGESTS = {1: "14871789673bc187", 2: "a61b3abf3dbec884"}


def digest(sets: dict[str, list[Example]]) -> str:
    plain = {part: [[each.scene.to_plain(), each.captions] for each in examples] for part, examples in sets.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def kinds(scene: Scene) -> frozenset[tuple[str, str]]:
    return frozenset((each.colour, each.shape) for each in scene.objects)


# The parts -------------------------------------------------------------------------------------------------------------


def test_the_parts_have_their_sizes_and_half_of_the_test_is_unseen() -> None:
    assert {part: len(examples) for part, examples in generated.scenes().items()} == {
        "train": NUM_TRAIN,
        "validation": NUM_VALIDATION,
        "test": NUM_TEST,
    }
    unseen = {part: sum(each.unseen for each in examples) for part, examples in generated.scenes().items()}
    assert unseen == {"train": 0, "validation": 0, "test": NUM_TEST // 2}


def test_no_two_scenes_are_equal_and_no_two_objects_are_told_alike_in_two_parts() -> None:
    assert len({each.scene for each in generated.examples()}) == len(generated.examples())
    told = [
        {meaning_of(each.scene) for each in examples if len(each.scene.objects) == 2}
        for examples in generated.scenes().values()
    ]
    assert len(set().union(*told)) == sum(map(len, told))


def test_every_caption_word_of_the_test_is_taught_and_there_are_few() -> None:
    words = {
        part: {word for each in examples for caption in each.captions for word in caption.split()}
        for part, examples in generated.scenes().items()
    }
    assert words["test"] <= words["train"]
    assert words["validation"] <= words["train"]
    assert len(words["train"]) < 60


def test_the_scenes_of_a_version_never_change() -> None:
    assert digest(generated.scenes()) == DIGESTS[VERSION], "this is another set: raise VERSION and add its digest"


# What is held out ------------------------------------------------------------------------------------------------------


def test_held_out_combinations_are_absent_from_training_and_all_others_present() -> None:
    """Found in the scenes alone: else `unseen` would only be a word, or hold by chance of pairs that are not held out."""
    objects = Counter(
        (each.size, each.colour, each.shape) for one in generated.scenes()["train"] for each in one.scene.objects
    )
    pairs = Counter(kinds(each.scene) for each in generated.scenes()["train"] if len(each.scene.objects) == 2)
    assert len(objects) == len(SIZES) * len(COLOURS) * len(SHAPES) - len(HELD_OUT)
    assert objects.keys().isdisjoint(tuple(each) for each in HELD_OUT)
    assert len(pairs) == len(KIND_PAIRS) - len(HELD_OUT_PAIRS)
    assert pairs.keys().isdisjoint(map(frozenset, HELD_OUT_PAIRS))
    assert min(objects.values()) >= 40
    assert min(pairs.values()) >= 4


def test_unseen_is_what_training_lacks() -> None:
    seen_objects = {each for one in generated.scenes()["train"] for each in one.scene.descriptions}
    seen_kinds = {kinds(each.scene) for each in generated.scenes()["train"]}
    for example in generated.examples():
        new_object = not set(example.scene.descriptions) <= seen_objects
        assert example.unseen == (new_object or kinds(example.scene) not in seen_kinds), example


def test_a_held_out_object_is_new_only_as_a_whole() -> None:
    """Its kind is taught in the other size, its size in other colours and shapes: who generalises can be right."""
    for each in HELD_OUT:
        assert any(known.kind == each.kind for known in TAUGHT)
        assert sum(known.size == each.size and known.colour == each.colour for known in TAUGHT) >= 3
        assert sum(known.size == each.size and known.shape == each.shape for known in TAUGHT) >= 3


def test_the_test_asks_all_that_is_held_out_and_in_every_way() -> None:
    unseen = [each.scene for each in generated.scenes()["test"] if each.unseen]
    held_out = [scene for scene in unseen if not set(HELD_OUT).isdisjoint(scene.descriptions)]
    assert {each for scene in held_out for each in scene.descriptions} >= set(HELD_OUT)
    assert Counter(len(scene.objects) for scene in held_out) == {1: 40, 2: 40}
    assert {kinds(scene) for scene in unseen} >= set(map(frozenset, HELD_OUT_PAIRS))


def test_no_attribute_or_relation_is_rare() -> None:
    for examples in generated.scenes().values():
        counts = Counter(
            word
            for each in examples
            for word in (each.scene.background, each.scene.relation, *sum(each.scene.descriptions, ()))
            if word is not None
        )
        for words in (SIZES, COLOURS, SHAPES, ("left", "above")):
            share = [counts[word] / sum(counts[other] for other in words) for word in words]
            assert min(share) > 0.6 / len(words), dict(zip(words, share, strict=True))


# The cache -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNROLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UNROLL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Example]]:
    """A few scenes of each part, so that writing takes no time."""
    few = {part: examples[:8] for part, examples in generated.scenes().items()}
    monkeypatch.setattr(scenes, "generate", lambda: few)
    return few


def test_what_is_written_is_karpathys_form_and_reads_back_as_made(cache: Path, small: dict[str, list[Example]]) -> None:
    from PIL import Image

    folder = find_data("demo/scenes")
    assert folder == cache / "demo" / f"scenes-{VERSION}"
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert content["dataset"] == "scenes"
    examples = [
        ("val" if part == "validation" else part, each)
        for part, part_examples in small.items()
        for each in part_examples
    ]
    assert len(content["images"]) == len(examples)
    for number, (entry, (split, example)) in enumerate(zip(content["images"], examples, strict=True)):
        assert (entry["imgid"], entry["split"], entry["unseen"]) == (number, split, example.unseen)
        assert [sentence["raw"] for sentence in entry["sentences"]] == list(example.captions)
        assert all(" ".join(sentence["tokens"]) == sentence["raw"] for sentence in entry["sentences"])
        assert [sentence["sentid"] for sentence in entry["sentences"]] == entry["sentids"]
        assert {sentence["imgid"] for sentence in entry["sentences"]} == {number}
        assert Scene.from_plain(entry["scene"]) == example.scene
        with Image.open(folder / "images" / entry["filename"]) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")
            assert picture.tobytes() == scenes.draw(example.scene).tobytes()
    sentids = [sentid for entry in content["images"] for sentid in entry["sentids"]]
    assert sentids == list(range(len(sentids)))
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == [entry["filename"] for entry in content["images"]]


@pytest.mark.processes
def test_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Whatever order their hashes give to sets of strings."""
    code = (
        "import sys; from pathlib import Path; from data.demo import scenes; made = scenes.generate();"
        "scenes.generate = lambda: {part: examples[:60] for part, examples in made.items()};"
        "scenes.write(Path(sys.argv[1]))"
    )
    folders = [tmp_path / seed for seed in ("1", "2")]
    for folder in folders:
        folder.mkdir()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            cwd=EMBEDDED.parent,
            env={**os.environ, "PYTHONHASHSEED": folder.name},
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    for run in runs:
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert first == second
    assert len(first) == 3 * 60 + 1
    for entry, example in zip(
        json.loads(first[Path("dataset.json")])["images"], generated.scenes()["train"][:60], strict=False
    ):
        assert Scene.from_plain(entry["scene"]) == example.scene
