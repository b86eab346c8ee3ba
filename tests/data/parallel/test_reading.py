"""Every form of a corpus gives the same pairs, as they were written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.parallel.reading import CorpusConfig, HuggingFace, ParallelText, Place, Table, TextFiles
from data.paths import find_data

# Whatever is no line end to us stands inside a sentence, quotes and separators of Unicode included.
SOURCE = ['A "man" sleeps.', " two  men\u2028walk ", "Three\x85dogs, 3 cats.", "It's \u00a0late."]
TARGET = ["Ein „Mann“ schläft.", "zwei Männer\x0bgehen", "Drei Hunde, 3 Katzen.", '"Es ist spät.']


def write_files(folder: Path, part: str, *, end: str = "\n", last: str = "\n", mark: str = "") -> None:
    for language, lines in (("en", SOURCE), ("de", TARGET)):
        (folder / f"{part}.{language}").write_bytes((mark + end.join(lines) + last).encode())


def write_tsv(folder: Path) -> None:
    rows = [
        "id\tde\ten",
        *(f"{number}\t{de}\t{en}" for number, (en, de) in enumerate(zip(SOURCE, TARGET, strict=True))),
    ]
    (folder / "train.tsv").write_bytes("\n".join(rows).encode())


def write_json(folder: Path, *, nested: bool) -> None:
    rows = [{"en": en, "de": de} for en, de in zip(SOURCE, TARGET, strict=True)]
    lines = [json.dumps({"translation": row} if nested else row) for row in rows]
    (folder / "train.jsonl").write_text("\n\n".join(lines) + "\n\n")


def write_parquet(folder: Path, *, nested: bool) -> None:
    rows = [{"en": en, "de": de} for en, de in zip(SOURCE, TARGET, strict=True)]
    table = pa.table({"translation": rows}) if nested else pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "train.parquet")


def write_saved(folder: Path, *, several: bool) -> None:
    dataset = Dataset.from_dict({"en": ["x", *SOURCE], "de": ["y", *TARGET]}).select(range(1, len(SOURCE) + 1))
    (DatasetDict({"train": dataset}) if several else dataset).save_to_disk(folder)


@pytest.mark.parametrize(
    "form",
    [
        "files",
        "crlf",
        "no last newline",
        "mark",
        "tsv",
        "json",
        "nested json",
        "parquet",
        "nested parquet",
        "saved",
        "saved splits",
        "folder of files",
    ],
)
def test_every_form_gives_the_same_pairs(form: str, tmp_path: Path) -> None:
    path = str(tmp_path)
    corpus: CorpusConfig = TextFiles(path=path)
    match form:
        case "files":
            write_files(tmp_path, "train")
        case "crlf":
            write_files(tmp_path, "train", end="\r\n", last="\r\n")
        case "no last newline":
            write_files(tmp_path, "train", last="")
        case "mark":
            write_files(tmp_path, "train", mark="\ufeff")
        case "tsv":
            write_tsv(tmp_path)
            corpus = Table(path=path)
        case "json" | "nested json":
            write_json(tmp_path, nested=form == "nested json")
            corpus = Table(path=path, train="train.jsonl")
        case "parquet" | "nested parquet":
            write_parquet(tmp_path, nested=form == "nested parquet")
            corpus = Table(path=path, train="train.parquet")
        case "saved" | "saved splits":
            write_saved(tmp_path, several=form == "saved splits")
            corpus = HuggingFace(name_or_folder=path)
        case "folder of files":
            write_parquet(tmp_path, nested=False)
            corpus = HuggingFace(name_or_folder=path)
    cache_dir = str(tmp_path.parent / f"{tmp_path.name}_cache")
    pairs = corpus.read("train", source="en", target="de", cache_dir=cache_dir)
    assert pairs.source == SOURCE
    assert pairs.target == TARGET
    turned = corpus.read("train", source="de", target="en", cache_dir=cache_dir)
    assert (turned.source, turned.target) == (TARGET, SOURCE)
    assert turned.fingerprint != pairs.fingerprint
    assert pairs.fingerprint == ParallelText(SOURCE, TARGET, Place(("elsewhere",), "row")).fingerprint


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sides=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=9),
            st.text("ab\r", max_size=5),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_only_newlines_split_lines(sides: list[tuple[str, str]], tmp_path: Path) -> None:
    source, target = ([side[place] for side in sides] for place in (0, 1))
    if source == target:
        return
    for language, lines in (("en", source), ("de", target)):
        # A final newline always; otherwise a last empty line would be none.
        (tmp_path / f"train.{language}").write_bytes("".join(f"{line}\n" for line in lines).encode())
    if not "".join(source).strip("\ufeff") or not target:
        return
    pairs = TextFiles(path=str(tmp_path)).read("train", source="en", target="de")
    assert pairs.source == [line.removesuffix("\r") for line in _without_mark(source)]
    assert pairs.target == [line.removesuffix("\r") for line in target]


def _without_mark(lines: list[str]) -> list[str]:
    return [lines[0].removeprefix("\ufeff"), *lines[1:]]


def test_parts_and_columns_go_by_the_names_given(tmp_path: Path) -> None:
    write_files(tmp_path, "dev")
    assert TextFiles(path=str(tmp_path), validation="dev").read("validation", source="en", target="de").source == SOURCE
    rows = [{"text": {"src": en, "trg": de}, "en": "no", "de": "nein"} for en, de in zip(SOURCE, TARGET, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        table = Table(path=str(tmp_path), test=name, source_column="text.src", target_column="text.trg")
        pairs = table.read("test", source="en", target="de")
        assert (pairs.source, pairs.target) == (SOURCE, TARGET)


def test_a_missing_text_is_an_empty_one(tmp_path: Path) -> None:
    rows = [{"en": "a", "de": "b"}, {"en": None, "de": "c"}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name, where in (("a.jsonl", "a.jsonl, line 3"), ("a.parquet", "a.parquet, row 2")):
        pairs = Table(path=str(tmp_path), train=name).read("train", source="en", target="de")
        assert pairs.source == ["a", ""]
        assert pairs.without_words().tolist() == [1]
        assert pairs.place.of([1]).endswith(where)


def test_places_name_a_handful() -> None:
    place = Place(("a.en", "a.de"), "line")
    assert place.of([4]) == "a.en and a.de, line 5"
    assert place.of([0, 1]) == "a.en and a.de, lines 1 and 2"
    assert place.of(range(6)) == "a.en and a.de, lines 1, 2, 3, 4, 5 and 6"
    assert place.of(range(10)) == "a.en and a.de, lines 1, 2, 3, 4, 5 and 5 more"
    assert Place(("a.jsonl",), "line", numbers=[3, 7]).of([1]) == "a.jsonl, line 7"


def test_fingerprints_tell_where_sentences_end() -> None:
    def fingerprint(source: list[str], target: list[str]) -> str:
        return ParallelText(source, target, Place(("a",), "row")).fingerprint

    different = {
        fingerprint(["ab", "c"], ["x", "y"]),
        fingerprint(["a", "bc"], ["x", "y"]),
        fingerprint(["ab", "c"], ["xy", ""]),
        fingerprint(["ab\nc", ""], ["x", "y"]),
    }
    assert len(different) == 4


def test_multi30k_is_read_in_well_under_a_second() -> None:
    try:
        find_data("multi30k")
    except ValueError:
        pytest.skip("multi30k is not in UNROLL_DATA")
    start = time.perf_counter()
    pairs = TextFiles(path="multi30k").read("train", source="en", target="de")
    assert len(pairs) == 29_000
    assert pairs.fingerprint
    assert time.perf_counter() - start < 1
