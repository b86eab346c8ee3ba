"""Whether a caption is true of a scene of the `scenes` set.

True is a caption that (1) is of the grammar, letter by letter; (2) mentions exactly the objects there are, each once and
with its size, colour and shape; (3) of two, says rightly where one lies from the other; and (4) names no other background
than there is. The grammar leaves nothing of this out but the background, which a caption of two objects may omit, so a
caption cannot be true by saying little.
"""

from __future__ import annotations

from collections import Counter

from data.demo.scenes_captions import Meaning, meaning_of, parse, turned
from data.demo.scenes_objects import Description, Scene


def is_true(caption: str, scene: Scene) -> bool:
    """Whether it is; `check` says why not."""
    return not check(caption, scene)


def check(caption: str, scene: Scene) -> list[str]:
    """Why a caption is not true of a scene: a sentence for each reason; empty where it is true."""
    said = parse(caption)
    if said is None:
        return [f"It is no sentence of the grammar: {caption!r}."]
    reasons = _check_objects(said, scene)
    # What lies where is no question between objects that are not there.
    if not reasons and said.relation is not None:
        seen = meaning_of(scene) if said.objects == scene.descriptions else turned(meaning_of(scene))
        if said.relation != seen.relation:
            first, second = said.objects
            reasons.append(f"The {first} is {seen.relation}, not {said.relation}, as seen from the {second}.")
    if said.background not in (None, scene.background):
        reasons.append(f"The background is {scene.background}, not {said.background}.")
    return reasons


def _check_objects(said: Meaning, scene: Scene) -> list[str]:
    if len(said.objects) != len(scene.objects):
        return [f"It mentions {len(said.objects)} and there are {len(scene.objects)} objects."]
    wrong = Counter(said.objects) - Counter(scene.descriptions)
    left = list((Counter(scene.descriptions) - Counter(said.objects)).elements())
    reasons = []
    for mentioned in wrong.elements():
        if mentioned in scene.descriptions:
            reasons.append(f"The {mentioned} is mentioned twice, and a {left.pop()} not at all.")
            continue
        nearest = max(left, key=lambda there: _num_alike(there, mentioned))
        left.remove(nearest)
        reasons.append(f"There is no {mentioned}; there is a {nearest}.")
    return reasons


def _num_alike(one: Description, other: Description) -> int:
    return sum(mine == yours for mine, yours in zip(one, other, strict=True))
