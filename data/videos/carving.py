"""Takes some clips out of a part: whole sources, about the same share of every class, by a seed alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

# Random orders tried for the sources of a class; the one that comes nearest to the share wins.
_NUM_TRIES = 32


def carved(class_names: Sequence[str], sources: Sequence[str], *, share: float, seed: int) -> Bool[np.ndarray, "clips"]:
    """Which clips to take.

    Classes are gone through in random order. Of each, sources are taken in random order as long as that brings their
    number of clips nearer to the share; what a class has too much or too few is made good in the next one, so that classes
    too small for a clip of their own are not all left out. Last, sources with clips of several classes are taken or given
    back as long as that brings all of these nearer to the share. No class is emptied. Where sources lie within one class, a
    class is therefore no further from its share than its largest source has clips (half by rounding, half handed on).

    Args:
        class_names: of each clip.
        sources: what each was cut from; clips of one source stay together.
        share: of the clips, above 0 and below 1.
        seed: what is taken follows from it and from the clips, in whatever order they are.

    Returns:
        Bool of shape (clips,), True for what is taken; all clips of a source are alike.
    """
    assert len(class_names) == len(sources)
    assert 0 < share < 1
    clips: dict[str, Counter[str]] = {}
    for source, class_name in zip(sources, class_names, strict=True):
        clips.setdefault(source, Counter())[class_name] += 1
    plan = _Plan(clips, share)
    generator = np.random.default_rng(seed)
    carry = 0.0
    names = sorted(plan.sizes)
    for place in generator.permutation(len(names)):
        carry = plan.decide(names[place], carry, generator)
    plan.even_out()
    return np.array([source in plan.taken for source in sources], np.bool_)


class _Plan:
    """What has been taken, and what is still to be decided."""

    def __init__(self, clips: dict[str, Counter[str]], share: float) -> None:
        self.clips = clips
        self.share = share
        self.sizes: Counter[str] = Counter()
        self.of_class: dict[str, list[str]] = {}
        for source in sorted(clips):
            self.sizes.update(clips[source])
            for class_name in clips[source]:
                self.of_class.setdefault(class_name, []).append(source)
        self.had: Counter[str] = Counter()
        self.taken: set[str] = set()
        self.decided: set[str] = set()

    def decide(self, class_name: str, carry: float, generator: np.random.Generator) -> float:
        """Decides on the sources of a class that no earlier class has decided on; what is left over for the next one."""
        undecided = [source for source in self.of_class[class_name] if source not in self.decided]
        self.decided.update(undecided)
        # A class can make good no more than half a source of another one, or it would be far from the share itself.
        most = max(self.clips[source][class_name] for source in self.of_class[class_name]) / 2
        target = self.share * self.sizes[class_name] + min(max(carry, -most), most)
        best: tuple[float, set[str], Counter[str]] | None = None
        for _ in range(_NUM_TRIES):
            order = [undecided[place] for place in generator.permutation(len(undecided))]
            taken, had = self._filled(order, class_name, target)
            error = abs(target - had[class_name])
            if best is None or error < best[0] - 1e-9:
                best = error, taken, had
            if error <= abs(target - round(target)) + 1e-9:  # no number of clips is nearer
                break
        assert best is not None
        _, taken, self.had = best
        self.taken |= taken
        return target - self.had[class_name]

    def _filled(self, order: Sequence[str], class_name: str, target: float) -> tuple[set[str], Counter[str]]:
        """The sources taken in this order, and the clips that each class has given then."""
        taken: set[str] = set()
        had = self.had.copy()
        for source in order:
            clips = self.clips[source]
            if any(had[name] + number >= self.sizes[name] for name, number in clips.items()):
                continue
            wanted = {name: target if name == class_name else self.share * self.sizes[name] for name in clips}
            if self._gain(clips, had, wanted, 1) > 1e-9:
                taken.add(source)
                had.update(clips)
        return taken, had

    def even_out(self) -> None:
        """Takes or gives back sources with clips of several classes as long as that brings the classes nearer to the share.

        `decide` looked at them with one class in mind. It ends, for what it makes smaller each time has finitely many values.
        """
        shared = sorted(source for source, clips in self.clips.items() if len(clips) > 1)
        changed = True
        while changed:
            changed = False
            for source in shared:
                clips, sign = self.clips[source], -1 if source in self.taken else 1
                if any(self.had[name] + sign * number >= self.sizes[name] for name, number in clips.items()):
                    continue
                wanted = {name: self.share * self.sizes[name] for name in clips}
                if self._gain(clips, self.had, wanted, sign) > 1e-9:
                    self.taken ^= {source}
                    for name, number in clips.items():
                        self.had[name] += sign * number
                    changed = True

    def _gain(self, clips: Counter[str], had: Counter[str], wanted: dict[str, float], sign: int) -> float:
        """How much nearer the classes of a source come to what is wanted of them when it is taken (1) or given back (-1)."""
        gain = 0.0
        for name, number in clips.items():
            before, after = wanted[name] - had[name], wanted[name] - had[name] - sign * number
            # Squares over what a class should give: a clip too many weighs more in a small class.
            gain += (before**2 - after**2) / (self.share * self.sizes[name])
        return gain
