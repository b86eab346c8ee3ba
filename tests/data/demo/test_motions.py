"""The set as a whole: what tells the classes and what cannot, its parts, and what reaches the cache."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data.demo import motions
from data.demo.motions import NUM_SOURCES, NUM_TAKES, STAYS, VERSION, Frames, Take, generate
from data.demo.motions_drawing import SHAPES
from data.demo.motions_orders import LAPS, MOTIONS, PLACES, STARTS, Visit, visits_of
from data.paths import EMBEDDED, find_data

# Another set needs another version, or caches would go on serving the old one.
DIGESTS = {1: "446eb0bb4fb65672"}

SETS = generate()
TAKES = [take for takes in SETS.values() for take in takes]
SOME = TAKES[::17]


def plain(take: Take) -> dict[str, Any]:
    return {
        "source": asdict(take.source),
        "number": take.number,
        "start": take.start,
        "stays": [[*visit, *shakes] for visit, shakes in take.stays.items()],
    }


def moves(motion: str, start: int) -> list[tuple[int, int]]:
    """From which place to which, in their order."""
    return list(pairwise(visit.place for visit in visits_of(motion, start=start)))


def bag(frames: Frames) -> list[bytes]:
    return sorted(frame.tobytes() for frame in frames)


# Only the order tells the classes --------------------------------------------------------------------------------------


def test_there_are_nine_classes_with_words_for_names() -> None:
    assert len(MOTIONS) == len(LAPS) ** 2 == 9
    assert set(MOTIONS) >= {"clockwise_twice", "crosswise_then_anticlockwise"}
    assert len(set(MOTIONS.values())) == len(MOTIONS)


@pytest.mark.parametrize("start", STARTS)
def test_every_class_has_the_same_visits_and_the_same_first_and_last_one(start: int) -> None:
    orders = {motion: visits_of(motion, start=start) for motion in MOTIONS}
    for visits in orders.values():
        assert set(visits) == set(orders["clockwise_twice"])
        assert len(visits) == len(set(visits)) == 2 * len(PLACES) + 1
        assert (visits[0], visits[4], visits[-1]) == (Visit(0, start), Visit(1, start), Visit(2, start))
        # Else two visits would look like one long one.
        assert all(one.place != next_one.place for one, next_one in pairwise(visits))
    assert len({tuple(visits) for visits in orders.values()}) == len(MOTIONS)


def test_clips_of_a_take_have_the_same_frames_first_and_last_frame_and_differ() -> None:
    """Whatever sees no order, and whatever sees only an end, is right on one of the nine clips of a take."""
    for take in SOME:
        clips = take.clips()
        assert list(clips) == list(MOTIONS)
        first = clips["clockwise_twice"]
        for frames in clips.values():
            assert len(frames) == take.num_frames
            assert bag(frames) == bag(first)
            assert (frames[0] == first[0]).all()
            assert (frames[-1] == first[-1]).all()
        assert len({np.stack(frames).tobytes() for frames in clips.values()}) == len(MOTIONS)


@pytest.mark.parametrize("start", STARTS)
def test_moves_without_their_order_leave_two_classes_to_choose_from_but_for_equal_laps(start: int) -> None:
    bags = {motion: Counter(moves(motion, start)) for motion in MOTIONS}
    for one, other in combinations(MOTIONS, 2):
        assert (bags[one] == bags[other]) == (MOTIONS[one] == MOTIONS[other][::-1])
    # So a bag is right on three classes and on one of each of three pairs.
    assert len({frozenset(each.items()) for each in bags.values()}) == 6


def test_no_move_belongs_to_one_class() -> None:
    for start in STARTS:
        classes: dict[tuple[int, int], set[str]] = {}
        for motion in MOTIONS:
            for move in moves(motion, start):
                classes.setdefault(move, set()).add(motion)
        assert min(map(len, classes.values())) >= 5
    anywhere: dict[tuple[int, int], set[str]] = {}
    for motion in MOTIONS:
        for move in {move for start in STARTS for move in moves(motion, start)}:
            anywhere.setdefault(move, set()).add(motion)
    assert min(map(len, anywhere.values())) >= 5


def test_the_first_moves_of_both_laps_tell_the_class() -> None:
    for start in STARTS:
        told = {(moves(motion, start)[0], moves(motion, start)[len(PLACES)]) for motion in MOTIONS}
        assert len(told) == len(MOTIONS)


def test_clockwise_is_clockwise_on_the_screen() -> None:
    """By the sprite in the pixels: y points down, so clockwise turns from right to down."""
    take = TAKES[0]
    frames = np.stack(take.clips()["clockwise_then_anticlockwise"]).astype(int)
    _, y, x = np.nonzero(abs(frames - np.median(frames, axis=0)).sum(-1) > 150)
    middle = np.array([x.mean(), y.mean()])
    turns = []
    for one, other in pairwise(frames):
        ends = []
        for frame in (one, other):
            down, across = np.nonzero(abs(frame - np.median(frames, axis=0)).sum(-1) > 150)
            ends.append(np.array([across.mean(), down.mean()]) - middle)
        turn = float(np.cross(*[np.append(end, 0) for end in ends])[2])
        if abs(turn) > 100:  # else it stays
            turns.append(turn > 0)
    assert turns == [True] * 4 + [False] * 4


# The parts -------------------------------------------------------------------------------------------------------------


def test_parts_have_their_sizes_and_share_no_source() -> None:
    assert {part: len(takes) for part, takes in SETS.items()} == {
        part: number * NUM_TAKES for part, number in NUM_SOURCES.items()
    }
    groups = [{take.source.name for take in takes} for takes in SETS.values()]
    assert len(set().union(*groups)) == sum(map(len, groups)) == sum(NUM_SOURCES.values())
    looks = {json.dumps({**asdict(take.source), "name": ""}) for take in TAKES}
    assert len(looks) == sum(NUM_SOURCES.values())


def test_every_source_starts_as_often_at_each_place() -> None:
    for name in {take.source.name for take in TAKES}:
        starts = Counter(take.start for take in TAKES if take.source.name == name)
        assert starts == dict.fromkeys(STARTS, NUM_TAKES // len(STARTS))


def test_lengths_vary_and_both_stays_are_frequent_at_each_visit() -> None:
    lengths = [take.num_frames for take in TAKES]
    assert 8 <= min(lengths) < 11
    assert 15 < max(lengths) <= 24
    for visit in visits_of("clockwise_twice", start=STARTS[0]):
        stays = Counter(len(take.stays[visit]) for take in TAKES if visit in take.stays)
        assert set(stays) == set(STAYS)
        assert min(stays.values()) > 0.3 * stays.total()


def test_what_the_test_shows_is_taught() -> None:
    for part, takes in SETS.items():
        assert {take.source.shape for take in takes} == set(SHAPES) or part == "validation"


def test_the_clips_of_a_version_never_change() -> None:
    content = json.dumps({part: [plain(take) for take in takes] for part, takes in SETS.items()}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    assert digest == DIGESTS[VERSION], "this is another set: raise VERSION and add its digest"


# The cache -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNROLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UNROLL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Take]]:
    """Two takes of each part, so that writing takes no time."""
    few = {part: takes[2:4] for part, takes in SETS.items()}
    monkeypatch.setattr(motions, "generate", lambda: few)
    return few


def decode(path: Path) -> tuple[Frames, float]:
    """All frames and their rate."""
    import av

    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert stream.type == "video"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return frames, float(container.streams.video[0].average_rate or 0)


def error(decoded: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> NDArray[np.float64]:
    return abs(decoded.astype(float) - drawn)


def test_what_is_written_is_jhmdbs_layout_and_whole(cache: Path, small: dict[str, list[Take]]) -> None:
    folder = find_data("demo/motions")
    assert folder == cache / "demo" / f"motions-{VERSION}"
    with (folder / "split1.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["class", "file", "group", "subset"]
    expected = {
        (motion, take.file(motion), take.source.name, part)
        for part, takes in small.items()
        for take in takes
        for motion in MOTIONS
    }
    assert {tuple(row.values()) for row in rows} == expected
    assert len(rows) == len(expected) == len({row["file"] for row in rows}) == 3 * 2 * 9
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {f"videos/{row['class']}/{row['file']}" for row in rows} | {"split1.csv"}
    counts = Counter((row["class"], row["subset"]) for row in rows)
    assert len(counts) == 3 * 9
    assert set(counts.values()) == {2}


def test_files_decode_to_what_was_drawn_and_bear_no_trace_of_the_order(
    cache: Path, small: dict[str, list[Take]]
) -> None:
    """Were a frame coded by its difference from the one before, a faint shadow of that one could be seen in it."""
    videos = find_data("demo/motions") / "videos"
    for take in (takes[0] for takes in small.values()):
        sizes, bags = set(), set()
        for motion, drawn in take.clips().items():
            path = videos / motion / take.file(motion)
            frames, rate = decode(path)
            assert rate == motions.FRAME_RATE
            assert np.stack(frames).shape == (take.num_frames, 64, 64, 3)
            lost = error(np.stack(frames), np.stack(drawn))
            assert lost.mean() < 4
            # Beside other frames: it is the right one at each step.
            assert lost.mean(axis=(1, 2, 3)).max() < 6
            sizes.add(path.stat().st_size)
            bags.add(tuple(bag(frames)))
        assert len(sizes) == len(bags) == 1


def test_without_h264_it_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    drawn = TAKES[0].clips()["crosswise_twice"]
    motions.encode(tmp_path / "clip.mp4", drawn)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    frames, _ = decode(tmp_path / "clip.mp4")
    assert error(np.stack(frames), np.stack(drawn)).mean() < 4


@pytest.mark.processes
def test_processes_draw_the_same(tmp_path: Path) -> None:
    """Whatever order their hashes give to sets of strings."""
    code = (
        "import hashlib; from data.demo.motions import generate; takes = generate()['test'];"
        "print(hashlib.sha256(b''.join(f.tobytes() for t in takes[:3] for c in t.clips().values() for f in c)).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=EMBEDDED.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    drawn = b"".join(frame.tobytes() for take in SETS["test"][:3] for clip in take.clips().values() for frame in clip)
    assert {run.stdout.strip() for run in runs} == {hashlib.sha256(drawn).hexdigest()}
