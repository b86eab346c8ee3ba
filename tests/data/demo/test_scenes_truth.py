"""Captions and their truth: references are true, what differs in one word that matters is false, and the rest too."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.demo.scenes_captions import FRAMES, NUM_CAPTIONS, Frame, Meaning, captions_of, meaning_of, parse, turned
from data.demo.scenes_objects import BACKGROUNDS, COLOURS, OPPOSITE, SHAPES, SIZES, Description, Scene, SceneObject
from data.demo.scenes_truth import check, is_true
from tests.data.demo import generated

descriptions = st.builds(Description, st.sampled_from(SIZES), st.sampled_from(COLOURS), st.sampled_from(SHAPES))
frames = st.sampled_from([(number, frame) for number, some in FRAMES.items() for frame in some])


def thing(words: str, x: float, y: float) -> SceneObject:
    size, colour, shape = words.split()
    return SceneObject(size=size, colour=colour, shape=shape, x=x, y=y, radius=6.0, angle=0.0, rgb=(1, 2, 3))


def scene(*objects: SceneObject, background: str = "black") -> Scene:
    return Scene(background=background, background_rgb=(9, 9, 9), objects=objects)


TWO = scene(thing("small red circle", 15, 30), thing("large blue bar", 45, 33))
ONE = scene(thing("small red circle", 15, 30), background="grey")


# The grammar -----------------------------------------------------------------------------------------------------------


@given(case=frames, first=descriptions, second=descriptions, data=st.data())
def test_what_is_written_is_read_back(
    case: tuple[int, Frame], first: Description, second: Description, data: st.DataObject
) -> None:
    """Also nonsense of two equal objects: a network may well say it, and it must be read to be refused."""
    number, frame = case
    meaning = Meaning(
        objects=(first, second)[:number],
        relation=data.draw(st.sampled_from(sorted(OPPOSITE))) if number == 2 else None,
        background=data.draw(st.sampled_from(BACKGROUNDS)),
    )
    caption = frame.write(meaning, random.Random(data.draw(st.integers(0, 2**32))))
    assert parse(caption) == (meaning if "{ground}" in frame.template else replace(meaning, background=None))
    # One frame for a caption, so one meaning.
    assert sum(each.read(caption) is not None for some in FRAMES.values() for each in some) == 1
    assert 6 <= len(caption.split()) <= 14
    assert re.fullmatch("[a-z ]+", caption)


def test_the_captions_of_a_scene_are_five_of_different_frames_and_true() -> None:
    """All of them: were some false, a share of true captions would have no ceiling of 1."""
    for example in generated.examples():
        assert len(set(example.captions)) == NUM_CAPTIONS
        for caption in example.captions:
            assert check(caption, example.scene) == [], (caption, example.scene)


def test_captions_vary_in_what_comes_first() -> None:
    for example in generated.examples():
        first = [parse(caption).objects[0] for caption in example.captions]  # type: ignore[union-attr]
        expected = 4 if len(example.scene.objects) == 2 else 5
        assert first.count(example.scene.descriptions[0]) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a small red circle",
        "a red circle on black",
        "a small red circle on a black",
        "a small red circle on blue",
        "a small red circle on black background",
        "an small red circle on black",
        "a small red circle  on black",
        " a small red circle on black",
        "a small red circle on black ",
        "a small red circle on black.",
        "A small red circle on black",
        "a small red circle on black\n",
        "a red small circle on black",
        "a small red red circle on black",
        "a small red circle left a large blue bar",
        "a small red circle to left of a large blue bar",
        "a small red circle is left of",
        "a small red circle with a large blue bar right of",
        "a small red circle with a large blue bar",
        "a small red circle left of a large blue bar left of a small red circle",
        "there is a small red circle is left of a large blue bar",
    ],
)
def test_what_is_nearly_a_sentence_is_none(caption: str) -> None:
    assert parse(caption) is None
    for each in (ONE, TWO):
        (reason,) = check(caption, each)
        assert "no sentence of the grammar" in reason


# Truth -----------------------------------------------------------------------------------------------------------------

MATTERS = {
    **{word: ["large", "big"] for word in ("small", "little")},
    **{word: ["small", "little"] for word in ("large", "big")},
    **{colour: [other for other in COLOURS if other != colour] for colour in COLOURS},
    **{shape: [other for other in (*SHAPES, "disc") if other != shape] for shape in SHAPES if shape != "circle"},
    "circle": [shape for shape in SHAPES if shape != "circle"],
    "disc": [shape for shape in SHAPES if shape != "circle"],
    "left": ["right"],
    "right": ["left"],
    **{word: ["below", "under"] for word in ("above", "over")},
    **{word: ["above", "over"] for word in ("below", "under")},
    "black": ["grey"],
    "grey": ["black"],
}
"""Word -> what makes a true caption false in its place."""


def test_a_caption_with_one_wrong_word_is_false() -> None:
    """Every word that says something, in every test caption, with every other word of its sort."""
    num_changed = 0
    for example in generated.scenes()["test"]:
        for caption in example.captions:
            words = caption.split()
            for at, word in enumerate(words):
                for wrong in MATTERS.get(word, []):
                    changed = " ".join([*words[:at], wrong, *words[at + 1 :]])
                    assert not is_true(changed, example.scene), (changed, example.scene)
                    num_changed += 1
    assert num_changed > 40_000


def test_two_objects_do_not_change_places_or_attributes() -> None:
    """The errors that a network without a sense of place makes: all words right, in the wrong place."""
    generator = random.Random(0)
    for example in generated.scenes()["test"]:
        meaning = meaning_of(example.scene)
        if meaning.relation is None:
            continue
        for frame in FRAMES[2]:
            assert is_true(frame.write(meaning, generator), example.scene)
            assert is_true(frame.write(turned(meaning), generator), example.scene)
            swapped = replace(meaning, objects=meaning.objects[::-1])
            assert not is_true(frame.write(swapped, generator), example.scene)
            (one, other), relation = meaning.objects, meaning.relation
            for crossed in (
                (one._replace(colour=other.colour), other._replace(colour=one.colour)),
                (one._replace(shape=other.shape), other._replace(shape=one.shape)),
                (one._replace(size=other.size), other._replace(size=one.size)),
                (one, one),
                (other, other),
            ):
                # Colours crossed between two circles are the objects themselves, changed over.
                if crossed != meaning.objects:
                    told = replace(meaning, objects=crossed, relation=relation)
                    assert not is_true(frame.write(told, generator), example.scene)


def test_relations_across_the_axis_are_false() -> None:
    for relation, phrase in itertools.product(("left", "above"), ("above", "below", "left of", "right of")):
        lower = thing("large blue bar", 15, 50) if relation == "above" else TWO.objects[1]
        caption = f"a small red circle {phrase} a large blue bar"
        assert is_true(caption, scene(TWO.objects[0], lower)) == phrase.startswith(relation)


def test_captions_of_other_scenes_are_false_but_for_a_few() -> None:
    """A constant caption is worth nothing; chance is the 1 in 140 of scenes of one object, and rarer for two."""
    generator = random.Random(0)
    captions = [example.captions for example in generated.examples()]
    truths = [
        is_true(generator.choice(captions[generator.randrange(len(captions))]), example.scene)
        for example in generated.examples()
        for _ in range(3)
    ]
    assert 0 < sum(truths) < 0.01 * len(truths)


@pytest.mark.parametrize(
    ("caption", "shown", "reasons"),
    [
        ("a small red disc left of a big blue bar", TWO, []),
        ("a big blue bar with a little red circle to its left on black", TWO, ["no sentence of the grammar"]),
        ("a big blue bar is to the right of a little red circle", TWO, []),
        ("a small red circle on grey", ONE, []),
        ("a small red circle on black", ONE, ["background is grey, not black"]),
        ("a small red circle on black", TWO, ["mentions 1 and there are 2"]),
        ("a small red circle left of a large blue bar", ONE, ["mentions 2 and there are 1"]),
        ("a large red circle on grey", ONE, ["There is no large red circle; there is a small red circle"]),
        (
            "a small red circle above a large blue bar",
            TWO,
            ["The small red circle is left, not above, as seen from the large blue bar"],
        ),
        (
            "a large blue bar left of a small red circle on grey",
            TWO,
            ["The large blue bar is right, not left, as seen from the small red circle", "is black, not grey"],
        ),
        (
            "a small red circle left of a small red circle",
            TWO,
            ["The small red circle is mentioned twice, and a large blue bar not at all"],
        ),
        (
            "a small blue bar left of a large red circle",
            TWO,
            [
                "no small blue bar; there is a large blue bar",
                "no large red circle; there is a small red circle",
            ],
        ),
        (
            "a small green ring left of a small green ring",
            TWO,
            ["no small green ring; there is a small red circle", "no small green ring; there is a large blue bar"],
        ),
    ],
)
def test_reasons_name_what_is_wrong(caption: str, shown: Scene, reasons: list[str]) -> None:
    found = check(caption, shown)
    assert len(found) == len(reasons), found
    for reason, part in zip(found, reasons, strict=True):
        assert part in reason
    assert is_true(caption, shown) == (not reasons)


def test_captions_are_a_function_of_scene_and_seed() -> None:
    assert captions_of(TWO, random.Random(3)) == captions_of(TWO, random.Random(3))
    assert captions_of(TWO, random.Random(3)) != captions_of(TWO, random.Random(4))


# Scenes that could not be told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([], "one or two objects, got 0"),
        ([thing("small red circle", 10, 10), thing("small red circle", 50, 10)], "both are a small red circle"),
        ([thing("small red circle", 50, 10), thing("small red ring", 10, 10)], "comes first, got one that is right"),
        ([thing("small red circle", 10, 10), thing("small red ring", 29, 10)], "20 pixels apart or more"),
        ([thing("small red circle", 10, 10), thing("small red ring", 40, 18)], "at most 0.25 of that"),
    ],
)
def test_a_scene_that_no_caption_tells_is_refused(objects: list[SceneObject], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(*objects)


def test_plain_descriptions_are_checked() -> None:
    plain = TWO.to_plain()
    assert Scene.from_plain(plain) == TWO
    with pytest.raises(ValueError, match="background_rgb and objects: 'background' is missing"):
        Scene.from_plain({key: value for key, value in plain.items() if key != "background"})
    for change, message in (
        ({"shape": "star"}, "A shape is one of circle, .*got 'star'"),
        ({"colour": "pink"}, "A colour is one of red, .*got 'pink'"),
        ({"weight": 1}, "An object of a scene has the keys size, .*weight"),
    ):
        with pytest.raises(ValueError, match=message):
            Scene.from_plain({**plain, "objects": [{**plain["objects"][0], **change}]})
