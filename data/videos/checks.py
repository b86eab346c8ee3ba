"""What is wrong with a split of clips, said with file, line and what to change."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from data.corpora import some
from data.module import notify

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

_MAX_GROUPS = 5


@dataclass(frozen=True)
class Entry:
    """What a corpus says of one clip."""

    name: str
    class_name: str
    group: str | None
    """What it was cut from; clips of one source have equal groups, and no others have. None = not known."""
    where: str
    """Its place, for messages: "split1.csv, line 3"."""


Entries = Mapping[Part, Sequence[Entry]]


def check_clips(parts: Entries) -> None:
    """Raises ValueError where a clip is listed twice, in one part or in two: what is tested would have been trained on."""
    seen: dict[str, tuple[str, Entry]] = {}
    for part, entries in parts.items():
        for entry in entries:
            if entry.name in seen:
                other, first = seen[entry.name]
                raise ValueError(
                    f"{entry.where}: the clip {entry.name!r} is there a second time; the first is {first.where}. "
                    + (
                        "Remove one of them."
                        if other == part
                        else f"One is of the part {other!r}, the other of {part!r}: what is evaluated must not have been "
                        "trained on. Leave it in one of them."
                    )
                )
            seen[entry.name] = part, entry


def check_classes(parts: Entries, class_names: tuple[str, ...] | None, *, place: str) -> tuple[str, ...]:
    """The classes in their order.

    Args:
        parts: the clips of each part.
        class_names: all there are; None = those of the clips, sorted.
        place: what says so, for messages.

    Raises:
        ValueError: a clip has an unknown class, a class has no clip to train on, or there is only one.
    """
    if class_names is not None:
        known = set(class_names)
        for entries in parts.values():
            for entry in entries:
                if entry.class_name not in known:
                    raise unknown_class(entry.class_name, class_names, where=entry.where, place=place)
    trained = {entry.class_name for entry in parts["train"]}
    first = {entry.class_name: entry.where for entries in reversed(list(parts.values())) for entry in entries}
    names = tuple(sorted(first)) if class_names is None else class_names
    missing = [name for name in names if name not in trained]
    if missing:
        nearest = difflib.get_close_matches(missing[0], sorted(trained), n=3)
        raise ValueError(
            f"{first.get(missing[0], place)}: the class {missing[0]!r} has no clip to train on"
            + (f", nor have {len(missing) - 1} others ({some(missing[1:])})" if missing[1:] else "")
            + ". No network can learn it. Add clips of it to the training part, take it out of the split, or correct its name"
            + (f" (nearest: {', '.join(map(repr, nearest))})." if nearest else ".")
        )
    if len(names) == 1:
        raise ValueError(
            f"{place}: all clips are of one class, {names[0]!r}. There is nothing to tell apart: list at least two."
        )
    return names


def unknown_class(name: str, known: Collection[str], *, where: str, place: str) -> ValueError:
    """What to raise for a class that there is not: the nearest names are in the message."""
    nearest = difflib.get_close_matches(name, sorted(known), n=3)
    there = f"Nearest: {', '.join(map(repr, nearest))}" if nearest else f"There are: {some(sorted(known)) or 'none'}"
    return ValueError(
        f"{where}: the class {name!r} is unknown; the classes are those of {place}. {there}. Correct one of them."
    )


def check_groups(parts: Entries, *, allowed: bool) -> None:
    """Refuses a split that puts clips of one source into two parts.

    Args:
        parts: the clips of each part.
        allowed: say it instead, and go on.

    Raises:
        ValueError: there is such a source, and it is not allowed.
    """
    counts: dict[str, dict[str, int]] = {}
    classes: dict[str, Counter[str]] = {}
    for part, entries in parts.items():
        for entry in entries:
            if entry.group is not None:
                of_group = counts.setdefault(entry.group, {})
                of_group[part] = of_group.get(part, 0) + 1
                classes.setdefault(entry.group, Counter())[f"{part} {entry.class_name}"] += 1
    shared = {group: of_group for group, of_group in counts.items() if len(of_group) > 1}
    if not shared:
        return
    named = "; ".join(
        f"{group!r} ({', '.join(f'{number} clips in {part}' for part, number in shared[group].items())})"
        for group in list(shared)[:_MAX_GROUPS]
    )
    more = f" and {len(shared) - _MAX_GROUPS} more" if len(shared) > _MAX_GROUPS else ""
    first = next(entry for entries in parts.values() for entry in entries if entry.group in shared)
    found = f"{len(shared)} of {len(counts)} sources have clips in more than one part: {named}{more}"
    if allowed:
        notify(f"{first.where}: {found}. allow_shared_groups lets it pass; scores are better than on new sources.")
        return
    raise ValueError(
        f"{first.where}, and elsewhere: {found}. Clips of one source share people, place and light, so a network that "
        "remembers those scores better than it would on anything new. Split by sources, or set "
        f"data.corpus.allow_shared_groups to true to take the split as it is.{_class_hint(classes, shared)}"
    )


def _class_hint(classes: Mapping[str, Counter[str]], shared: Collection[str]) -> str:
    """Where no class shares a source with itself: the groups may be numbers that begin anew in every class."""
    for group in shared:
        names = [key.split(" ", 1)[1] for key in classes[group]]
        if len(set(names)) < len(names):
            return ""
    return (
        " No source has clips of the same class in two parts: if the split keeps sources apart class by class, or groups are "
        "numbers that begin anew in every class, and the form has the setting, data.corpus.groups_within_class says so."
    )
