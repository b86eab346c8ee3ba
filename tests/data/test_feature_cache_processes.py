"""Features kept on disk, by several processes: one computes, and one that is killed has cost its last batch alone.

The processes need no torch: their encoder gives arrays. Starting them is quick.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from data.feature_cache import FeatureCache

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
NUM_ITEMS, BATCH_SIZE, SHAPE = 12, 3, (2, 5)
START = f"""
import os, pathlib, signal, sys, time
import numpy as np
from data.feature_cache import FeatureCache

folder, num_items = pathlib.Path(sys.argv[1]), {NUM_ITEMS}

def computed(rows):
    with open(folder / "log", "a") as log:
        log.write("".join(f"{{row}}\\n" for row in rows))
    return np.stack([np.full({SHAPE}, row, np.float32) for row in rows])

def opened(encode, folder=folder):
    return FeatureCache.open_or_build(
        folder, name="demo", key={{"weights": "1f"}}, identities=[f"image{{row}}" for row in range(num_items)],
        encode=encode, row_shape={SHAPE}, batch_size={BATCH_SIZE},
    )
"""
# Computes its first batch, and waits in its second until the test lets it go on.
HELD = """
def held(rows):
    deadline = time.monotonic() + 60
    if 0 not in rows:
        (folder / "held").touch()
    while 0 not in rows and not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return computed(rows)
print(opened(held).num_computed)
assert "torch" not in sys.modules
"""
EVERY_KILL = """
# In turn, a process is killed before each call that the order on the disk depends on, and another one goes on.
def killed(place, *, before):
    calls = 0
    def counted(call):
        def instead(*arguments):
            nonlocal calls
            if calls == before:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return call(*arguments)
        return instead
    for name in ("fsync", "replace", "open"):
        setattr(os, name, counted(getattr(os, name)))
    opened(computed, place)
    os._exit(0)

before = 0
while True:
    place = folder / f"killed{before}"
    (folder / "log").write_text("")
    child = os.fork()
    if child == 0:
        try:
            killed(place, before=before)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    cache = opened(computed, place)
    times = [(folder / "log").read_text().split().count(str(row)) for row in range(num_items)]
    names = sorted(path.suffix for path in (place / "features").iterdir())
    stored = np.array_equal(cache._rows()[:, 0, 0], np.arange(num_items))
    print(before, sum(times) - len(times), max(times), stored, *names)
    before += 1
"""
# As an encoder whose data loader has forked workers that are still there when the features are whole.
FORKING = """
workers = []
def forking(rows):
    workers.append(os.fork())
    if workers[-1] == 0:
        time.sleep(20)
        os._exit(0)
    return computed(rows)
try:
    print(opened(forking).drop(), opened(computed).num_computed)
finally:
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
"""


@contextmanager
def process(folder: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", START + code, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def times_computed(folder: Path) -> Counter[int]:
    return Counter(map(int, (folder / "log").read_text().split()))


def opened_here(folder: Path) -> FeatureCache:
    def refuse(rows: list[int]) -> torch.Tensor:
        raise AssertionError(f"items {rows} were computed again")

    return FeatureCache.open_or_build(
        folder,
        name="demo",
        key={"weights": "1f"},
        identities=[f"image{row}" for row in range(NUM_ITEMS)],
        encode=refuse,
        row_shape=SHAPE,
    )


def assert_right(folder: Path) -> None:
    taken = opened_here(folder).take(np.arange(NUM_ITEMS))
    assert torch.equal(taken, torch.arange(NUM_ITEMS).half()[:, None, None].expand(-1, *SHAPE))


@pytest.mark.parametrize("num_waiting", [1, 2])
def test_one_process_computes_and_the_others_wait(tmp_path: Path, num_waiting: int) -> None:
    with ExitStack() as processes:
        builder = processes.enter_context(process(tmp_path, HELD))
        wait_for(tmp_path / "held")
        others = [processes.enter_context(process(tmp_path, HELD)) for _ in range(num_waiting)]
        for other in others:
            assert other.stderr is not None
            assert "another process is computing them; waiting for it" in other.stderr.readline()
        (tmp_path / "go").touch()
        for one, expected in [(builder, NUM_ITEMS), *((other, 0) for other in others)]:
            out, rest = one.communicate(timeout=60)
            assert (one.returncode, out) == (0, f"{expected}\n"), rest
            assert "waiting" not in rest, "said once"
    assert times_computed(tmp_path) == dict.fromkeys(range(NUM_ITEMS), 1)
    assert_right(tmp_path)


def test_where_the_builder_is_killed_one_that_waits_goes_on(tmp_path: Path) -> None:
    """With the second batch: the first was on the disk when the builder was killed."""
    with process(tmp_path, HELD) as builder:
        wait_for(tmp_path / "held")
        with process(tmp_path, HELD) as one, process(tmp_path, HELD) as another:
            for waiting in (one, another):
                assert waiting.stderr is not None
                assert "waiting for it" in waiting.stderr.readline()
            builder.kill()
            builder.wait()
            (tmp_path / "go").touch()
            results = [waiting.communicate(timeout=60) for waiting in (one, another)]
            assert [one.returncode, another.returncode] == [0, 0], results
    assert sorted(int(out) for out, _ in results) == [0, NUM_ITEMS - BATCH_SIZE]
    assert any("9 computed, 3 there from an interrupted run" in rest for _, rest in results)
    assert times_computed(tmp_path) == dict.fromkeys(range(NUM_ITEMS), 1)
    assert_right(tmp_path)


def test_killed_at_any_moment_it_goes_on_after_the_last_batch(tmp_path: Path) -> None:
    """SIGKILL before every flush, every renaming and every opened folder: at most the batch it was in is lost."""
    with process(tmp_path, EVERY_KILL) as started:
        out, rest = started.communicate(timeout=120)
    assert started.returncode == 0, rest
    lines = [line.split() for line in out.splitlines()]
    num_batches = NUM_ITEMS // BATCH_SIZE
    assert len(lines) >= 2 * 1 + num_batches + 3, "creating, a flush a batch, finishing"
    for _, num_repeated, most_times, stored, *endings in lines:
        assert int(num_repeated) in (0, BATCH_SIZE)
        assert int(most_times) <= 2
        assert stored == "True"
        assert {".features", ".lock"} <= set(endings)
        assert ".part" not in endings
    assert any(int(line[1]) == BATCH_SIZE for line in lines)


def test_a_process_forked_meanwhile_keeps_nobody_from_building(tmp_path: Path) -> None:
    """It has inherited the lock of the slot, which therefore must be given back and not just closed."""
    with process(tmp_path, FORKING) as started:
        out, rest = started.communicate(timeout=15)
    assert (started.returncode, out) == (0, f"True {NUM_ITEMS}\n"), rest


def test_a_spawned_worker_opens_the_file_again(tmp_path: Path) -> None:
    with process(tmp_path, "opened(computed)") as started:
        started.communicate(timeout=60)
    content = pickle.dumps(opened_here(tmp_path))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)._rows()[[7, 2], 0, 0].tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=content, capture_output=True, check=True)
    assert done.stdout.decode() == "[7.0, 2.0]\n"
