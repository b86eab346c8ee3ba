"""The set as a whole: its parts, that it is the same everywhere, one-to-one, and rightly tagged; how it reaches the cache."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import data.demo
from data.demo import clauses, write_generated
from data.demo.clauses import MAX_WORDS, NUM_TEST, NUM_TRAIN, NUM_VALIDATION, VERSION
from data.demo.clauses_sentences import PHENOMENA, Pair
from data.paths import EMBEDDED, find_data
from tests.data.demo import generated

# Other pairs need another version, or caches would go on serving the old ones.
DIGESTS = {1: "ae3bcd0cabfba4e0"}

MONTHS = "January February March April May June July August September October November December"


def digest(sets: dict[str, list[Pair]]) -> str:
    text = "\n".join("\t".join((part, *pair)) for part, pairs in sets.items() for pair in pairs)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def word_forms(text: str) -> list[str]:
    return re.findall(r"[\w-]+'?|[^\w\s]", text)


# The parts -------------------------------------------------------------------------------------------------------------


def test_the_parts_are_large_and_share_no_sentence() -> None:
    sizes = {part: len(pairs) for part, pairs in generated.clauses().items()}
    assert sizes == {"train": NUM_TRAIN, "validation": NUM_VALIDATION, "test": NUM_TEST}
    assert NUM_TRAIN >= 20_000
    assert all(2 <= len(pair.en.split()) <= MAX_WORDS for pair in generated.pairs())


def test_a_sentence_has_one_translation_and_is_the_translation_of_one() -> None:
    """Case and marks aside: a vocabulary may lower them."""
    assert len({re.sub(r"\W+", " ", pair.en.lower()) for pair in generated.pairs()}) == len(generated.pairs())
    assert len({re.sub(r"\W+", " ", pair.fr.lower()) for pair in generated.pairs()}) == len(generated.pairs())


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_asked_has_been_taught(side: int) -> None:
    taught = {form for pair in generated.clauses()["train"] for form in word_forms(pair[side])}
    for part in ("validation", "test"):
        assert {form for pair in generated.clauses()[part] for form in word_forms(pair[side])} <= taught
    assert 300 < len({form.lower() for form in taught}) < 600


def test_the_pairs_of_a_version_never_change() -> None:
    assert digest(generated.clauses()) == DIGESTS[VERSION], "these are other pairs: raise VERSION and add their digest"


# The tags --------------------------------------------------------------------------------------------------------------

# What each shows on the surface, found without the grammar.
SURFACE = {
    "negation": lambda en, fr: re.search(r"\b(not|no|never)\b", en),
    "question": lambda en, fr: en.endswith("?"),
    "clitic": lambda en, fr: re.search(r"\b(me|us|him|her|them)\b|and \w+ \w+ it\.", en),
    "pronoun": lambda en, fr: re.search(r"\b(and|but) (he|she|it|they) ", en),
    "possession": lambda en, fr: "'s " in en,
    "date": lambda en, fr: re.search(rf"\bon ({MONTHS.replace(' ', '|')}) \d", en),
    "elision": lambda en, fr: "'" in fr,
    "contraction": lambda en, fr: re.search(r"\b(au|aux|du|près des)\b", fr),
    "future": lambda en, fr: re.search(r"\b(vais|va|allons|vont) (pas )?([a-z]+ |l'|m')?\w+(er|ir|re)\b", fr),
    "past": lambda en, fr: re.search(r"\b(ai|a|avons|ont|suis|est|sommes|sont) .*\w(é|u|i|ert)e?s?\b", fr),
}


@pytest.mark.parametrize("name", sorted(SURFACE.keys() - {"past"}))
def test_a_tag_says_what_the_sentence_shows(name: str) -> None:
    for pair in generated.pairs():
        assert bool(SURFACE[name](pair.en, pair.fr)) == (name in pair.phenomena.split(",")), pair


def test_tags_are_known_and_name_one_tense() -> None:
    for pair in generated.pairs():
        tags = pair.phenomena.split(",")
        assert tags == [name for name in PHENOMENA if name in tags], pair
        assert len({"present", "past", "future"} & set(tags)) == 1, pair
        assert "past" not in tags or SURFACE["past"](pair.en, pair.fr), pair


def test_every_phenomenon_is_taught_and_asked_often() -> None:
    for part, fewest in (("train", 500), ("test", 10)):
        counts = Counter(tag for pair in generated.clauses()[part] for tag in pair.phenomena.split(","))
        assert min(counts[name] for name in PHENOMENA) >= fewest, counts


# The cache -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNROLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UNROLL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Pair]]:
    """A few pairs of each part, so that writing takes no time."""
    few = {part: pairs[:5] for part, pairs in generated.clauses().items()}
    monkeypatch.setattr(clauses, "generate", lambda: few)
    return few


def test_the_set_is_found_like_any_file_and_reads_back_as_made(cache: Path, small: dict[str, list[Pair]]) -> None:
    import pyarrow.parquet as pq

    folder = find_data("demo/clauses")
    assert folder == cache / "demo" / f"clauses-{VERSION}"
    assert sorted(path.name for path in folder.iterdir()) == ["test.parquet", "train.parquet", "validation.parquet"]
    for part, pairs in small.items():
        table = pq.read_table(find_data(f"demo/clauses/{part}.parquet"))
        assert table.column_names == ["en", "fr", "phenomena"]
        assert [Pair(**row) for row in table.to_pylist()] == pairs
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_it_is_written_once(cache: Path, small: dict[str, list[Pair]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_data("demo/clauses")
    monkeypatch.setattr(clauses, "write", None)
    assert find_data("demo/clauses") == folder
    monkeypatch.setattr(clauses, "VERSION", VERSION + 1)
    with pytest.raises(TypeError):  # another grammar, another folder
        find_data("demo/clauses")


def test_a_folder_of_ones_own_goes_before(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (tmp_path / "data", tmp_path):
        (place / "demo" / "clauses").mkdir(parents=True)
        monkeypatch.setenv("UNROLL_DATA", str(tmp_path / "data"))
        assert find_data("demo/clauses") == place / "demo" / "clauses"
    assert not cache.exists()


def test_who_comes_second_takes_what_the_first_has_written(
    cache: Path, small: dict[str, list[Pair]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = clauses.write

    def slowly(folder: Path) -> None:
        write(folder)
        monkeypatch.setattr(clauses, "write", write)
        (find_data("demo/clauses") / "first").touch()

    monkeypatch.setattr(clauses, "write", slowly)
    folder = find_data("demo/clauses")
    assert (folder / "first").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_set_is_written_whole_or_not_at_all(
    cache: Path, small: dict[str, list[Pair]], monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    write = clauses.write

    def interrupted(folder: Path) -> None:
        write(folder)
        (folder / "test.parquet").unlink()
        raise failure

    monkeypatch.setattr(clauses, "write", interrupted)
    full = f"demo/clauses cannot be written to {cache}.*No space left.*UNROLL_CACHE"
    expected, match = (ValueError, full) if isinstance(failure, OSError) else (KeyboardInterrupt, None)
    with pytest.raises(expected, match=match):
        find_data("demo/clauses")
    assert list((cache / "demo").iterdir()) == []


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").touch()
    with pytest.raises(ValueError, match=f"cannot be written to {tmp_path}.*UNROLL_CACHE"):
        write_generated("clauses", tmp_path)


def test_a_misspelt_set_or_part_is_told_what_there_is(cache: Path, small: dict[str, list[Pair]]) -> None:
    with pytest.raises(ValueError, match=r"no file or folder 'demo/clause'.*Generated sets: demo/clauses") as raised:
        find_data("demo/clause")
    assert str(EMBEDDED / "demo" / "clause") in str(raised.value)
    with pytest.raises(ValueError, match=r"Files beside it: test\.parquet, train\.parquet, validation\.parquet"):
        find_data("demo/clauses/dev.parquet")
    with pytest.raises(ValueError, match="no file or folder 'clauses'") as raised:
        find_data("clauses")
    assert "Generated sets" not in str(raised.value)


def test_every_generated_set_has_a_module_and_a_description() -> None:
    described = (EMBEDDED / "demo" / "README.md").read_text(encoding="utf-8")
    for name in data.demo.GENERATED:
        assert not (EMBEDDED / "demo" / name).exists()  # or it would hide the generated one
        assert f"\n## {name}\n" in described


@pytest.mark.processes
def test_processes_at_once_write_the_same_set(cache: Path) -> None:
    """Whatever order their hashes give to sets of strings."""
    code = "from data.paths import find_data; print(find_data('demo/clauses'))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=EMBEDDED.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    folder = cache / "demo" / f"clauses-{VERSION}"
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert (run.returncode, out.strip()) == (0, str(folder)), err
    import pyarrow.parquet as pq

    read = {
        part: [Pair(**row) for row in pq.read_table(folder / f"{part}.parquet").to_pylist()]
        for part in generated.clauses()
    }
    assert digest(read) == digest(generated.clauses())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
