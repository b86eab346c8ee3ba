"""What is taken out of a part for validation: whole sources, about the same share of every class, by the seed alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.videos.carving import carved

Clips = list[tuple[str, str]]


@st.composite
def clips_within_classes(draw: st.DrawFn) -> Clips:
    """Class and source of each clip; no source has clips of two classes."""
    sizes = draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=6))
    clips = [
        (f"c{number}", f"{number}/{source}")
        for number, of_class in enumerate(sizes)
        for source, size in enumerate(of_class)
        for _ in range(size)
    ]
    return draw(st.permutations(clips))


anywhere = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 15).map(str)), min_size=1, max_size=80
)  # a source may have clips of several classes
shares = st.floats(0.01, 0.5)
seeds = st.integers(0, 2**32)


def mask_of(clips: Clips, share: float, seed: int) -> np.ndarray:
    return carved([name for name, _ in clips], [source for _, source in clips], share=share, seed=seed)


@given(clips=st.one_of(clips_within_classes(), anywhere), share=st.floats(0.01, 0.99), seed=seeds)
def test_no_source_is_split_and_no_class_emptied(clips: Clips, share: float, seed: int) -> None:
    mask = mask_of(clips, share, seed)
    sides: dict[str, set[bool]] = {}
    for (_, source), taken in zip(clips, mask, strict=True):
        sides.setdefault(source, set()).add(bool(taken))
    assert all(len(of_source) == 1 for of_source in sides.values())
    assert {name for (name, _), taken in zip(clips, mask, strict=True) if not taken} == {name for name, _ in clips}


@given(clips=clips_within_classes(), share=shares, seed=seeds)
def test_each_class_gives_its_share_to_within_one_source(clips: Clips, share: float, seed: int) -> None:
    """As near as whole sources can be brought: half a source by rounding, half for what another class had too much."""
    mask = mask_of(clips, share, seed)
    sizes = Counter(name for name, _ in clips)
    taken = Counter(name for (name, _), is_taken in zip(clips, mask, strict=True) if is_taken)
    sources = Counter(clips)
    for name, size in sizes.items():
        largest = max(number for (of_class, _), number in sources.items() if of_class == name)
        if len({source for of_class, source in clips if of_class == name}) > 1:
            assert abs(taken[name] - share * size) <= largest + 1e-6
        else:
            assert taken[name] == 0


@given(num_classes=st.integers(1, 40), num_clips=st.integers(2, 12), share=shares, seed=seeds)
def test_the_whole_has_the_share_though_no_class_could_have_it(
    num_classes: int, num_clips: int, share: float, seed: int
) -> None:
    """Ten classes of four clips and a share of a tenth: four clips, not none."""
    clips = [(f"c{row % num_classes}", str(row)) for row in range(num_classes * num_clips)]
    assert abs(mask_of(clips, share, seed).sum() - share * len(clips)) <= 1


@given(clips=st.one_of(clips_within_classes(), anywhere), share=shares, seed=seeds, order=st.randoms())
def test_it_follows_from_clips_and_seed_alone(clips: Clips, share: float, seed: int, order: object) -> None:
    places = list(range(len(clips)))
    order.shuffle(places)  # type: ignore[attr-defined]
    mask = mask_of(clips, share, seed)
    shuffled = mask_of([clips[place] for place in places], share, seed)
    assert (mask[places] == shuffled).all()


def test_seeds_differ_and_every_source_comes_up() -> None:
    clips = [("a" if row % 2 else "b", str(row // 3)) for row in range(120)]
    masks = [mask_of(clips, 0.1, seed) for seed in range(120)]
    assert len({mask.tobytes() for mask in masks}) > 100
    assert (np.mean(masks, axis=0) > 0.02).all()


@settings(deadline=None)
@given(seed=seeds)
def test_sources_over_classes_stay_near_the_share(seed: int) -> None:
    """Films with clips of several classes: none can be had class by class, and yet each class comes near."""
    generator = np.random.default_rng(seed)
    clips = [(f"c{generator.integers(8)}", str(generator.integers(100))) for _ in range(600)]
    mask = mask_of(clips, 0.2, seed)
    sizes = Counter(name for name, _ in clips)
    taken = Counter(name for (name, _), is_taken in zip(clips, mask, strict=True) if is_taken)
    assert mask.mean() == pytest.approx(0.2, abs=0.05)
    for name, size in sizes.items():
        assert taken[name] / size == pytest.approx(0.2, abs=0.1)
