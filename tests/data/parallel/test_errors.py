"""Every way a corpus can be wrong is said with the file, the line and what to change (contract 8)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from data.parallel.files import first_extra_line
from data.parallel.reading import CorpusConfig, HuggingFace, Table, TextFiles

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Writes files, reads the training part and returns the message of its refusal."""

    def read(files: dict[str, str | bytes], corpus: type[CorpusConfig] = TextFiles, **config: Any) -> str:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return message_of(corpus(**{"path": str(tmp_path), **config}))

    return read


def message_of(corpus: CorpusConfig, part: str = "train", **languages: str) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the caller looks at the message
        corpus.read(part, **{"source": "en", "target": "de", **languages})
    return str(error.value)


def holds(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


class TestFiles:
    def test_no_utf8_is_said_with_line_and_byte(self, refused: Refused) -> None:
        message = refused({"train.en": "a\nb\n", "train.de": b"a\nb\xe4 c\n"})
        holds(message, "train.de, line 2: byte 3 of the file", r"b'\xe4'", "Save the file as UTF-8")
        message = refused({"train.en": b"\xef\xbb\xbfa\xff", "train.de": "b"})
        holds(message, "train.en, line 1: byte 4 of the file", r"b'\xff'")

    @pytest.mark.parametrize("content", ["", "\ufeff"])
    def test_an_empty_file(self, refused: Refused, content: str) -> None:
        holds(refused({"train.en": "a\n", "train.de": content}), "train.de is empty", "a sentence a line")

    def test_a_language_without_a_file_names_those_there_are(self, refused: Refused) -> None:
        message = refused({"train.en": "a\n", "train.fr": "b\n", "val.de": "c\n"})
        holds(message, "train.de does not exist", "in: en, fr.", "data.source and data.target")

    def test_a_part_without_a_file_names_those_there_are(self, refused: Refused, tmp_path: Path) -> None:
        refused({"test_2016.en": "a\n", "test_2016.de": "", "train.en": "a\n", "val.en": "x"})
        message = message_of(TextFiles(path=str(tmp_path)), "test")
        holds(message, "test.en does not exist", "there are: test_2016, train, val", "data.corpus.test")

    def test_a_folder_without_the_language_names_its_files(self, refused: Refused) -> None:
        holds(refused({"corpus.txt": "a"}), "train.en does not exist", "Files in", "corpus.txt", "called part.language")

    def test_a_file_is_no_folder(self, refused: Refused, tmp_path: Path) -> None:
        holds(refused({"train.en": "a"}, path=str(tmp_path / "train.en")), "is a file. Give the folder")

    def test_a_missing_folder(self, refused: Refused, tmp_path: Path) -> None:
        holds(refused({}, path=str(tmp_path / "nowhere")), "There is no file or folder")

    def test_source_and_target_must_differ(self, refused: Refused) -> None:
        message = refused({"train.en": "a\nb\n", "train.de": "a\nb\n"})
        holds(message, "train.en and", "the same in all 2 pairs", "data.source and data.target")


class TestNumbersOfLines:
    @staticmethod
    def sentences(count: int) -> tuple[list[str], list[str]]:
        generator = random.Random(0)
        source, target = [], []
        for _ in range(count):
            words = generator.randint(3, 20)
            number = f" {generator.randint(1, 99)}" if generator.random() < 0.2 else ""
            mark = generator.choice(".....?!")
            source.append(" ".join("abcdefgh"[: generator.randint(2, 8)] for _ in range(words)) + number + mark)
            target.append(" ".join("uvwxyzäö"[: generator.randint(2, 8)] for _ in range(words)) + number + mark)
        return source, target

    @pytest.mark.parametrize("row", [10, 100, 180])
    @pytest.mark.parametrize("extra", [1, 3])
    def test_a_line_too_many_is_found_nearly_where_it_is(self, row: int, extra: int) -> None:
        source, target = self.sentences(200)
        longer = [*source[:row], *["something else that has no partner at all, 5 times"] * extra, *source[row:]]
        found = first_extra_line(longer, target)
        assert found is not None
        assert abs(found - row) <= 3

    def test_lines_too_many_at_an_end(self) -> None:
        source, target = self.sentences(100)
        assert first_extra_line(source, target[:90]) == 90
        assert first_extra_line(source, target[10:]) in range(4)

    def test_where_nothing_fits_no_line_is_named(self) -> None:
        named = 0
        for seed in range(40):
            source, target = self.sentences(60)
            random.Random(seed).shuffle(source)
            named += first_extra_line(source, target[: 60 - seed % 4 - 1]) is not None
        assert named <= 2
        assert first_extra_line(["same."] * 23, ["same."] * 20) is None

    def test_the_message_has_both_numbers_and_the_guess(self, refused: Refused) -> None:
        source, target = self.sentences(100)
        longer = [*target[:40], "Zeile ohne Partner, die 7 Mal da steht", *target[40:]]
        message = refused({"train.en": "\n".join(source) + "\n", "train.de": "\n".join(longer) + "\n"})
        holds(message, "train.en has 100 lines, but", "train.de has 101", "A guess", "may have no partner", " beside ")

    def test_a_file_that_ends_early(self, refused: Refused) -> None:
        source, target = self.sentences(100)
        message = refused({"train.en": "\n".join(source), "train.de": "\n".join(target[:80])})
        holds(message, "has 100 lines", "has 80", "line 81 of", "train.en on may be too many")

    def test_what_cannot_be_told_is_not_guessed(self, refused: Refused) -> None:
        message = refused({"train.en": "a\n" * 5, "train.de": "b\n" * 4})
        holds(message, "has 5 lines", "has 4", "cannot be told")
        assert "guess" not in message

    def test_what_others_take_for_line_ends_is_named(self, refused: Refused) -> None:
        message = refused({"train.en": "a\u2028b\x85c\n", "train.de": "a\nb\nc\n"})
        holds(message, "train.en holds 2 characters", "U+0085, U+2028")


class TestTables:
    def test_an_unknown_ending_names_the_known_ones(self, refused: Refused) -> None:
        message = refused({"train.csv": "en,de\na,b\n"}, Table, train="train.csv")
        holds(message, "'.csv'", "TSV (.tsv)", "JSON lines (.jsonl)", "Parquet (.parquet)")

    def test_a_missing_part_names_the_tables_there_are(self, refused: Refused) -> None:
        message = refused({"a.tsv": "x", "b.parquet": "x", "c.txt": "x"}, Table)
        holds(message, "train.tsv does not exist", "a.tsv, b.parquet.", "data.corpus.train")

    @pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.parquet"])
    def test_a_missing_column_names_the_nearest_first(self, refused: Refused, tmp_path: Path, name: str) -> None:
        rows = [{"id": "1", "en": "a", "de_DE": "b"}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        files: dict[str, str | bytes] = {
            "a.tsv": "id\ten\tde_DE\n1\ta\tb\n",
            "a.jsonl": '{"id":"1","en":"a","de_DE":"b"}',
        }
        message = refused(files, Table, train=name)
        holds(
            message, name, "column 'de' is missing", "There are: 'de_DE'", "data.corpus.source_column and target_column"
        )

    def test_a_named_column_is_not_looked_for_elsewhere(self, refused: Refused) -> None:
        files: dict[str, str | bytes] = {"a.jsonl": '{"translation": {"en": "a", "de": "b"}}'}
        message = refused(files, Table, train="a.jsonl", source_column="en", target_column="de")
        holds(message, "column 'en' is missing", "'translation.en'")

    def test_json_is_checked_line_by_line(self, refused: Refused) -> None:
        good = '{"en": "a", "de": "b"}\n'
        for line, what in (
            ('{"en": "a", "de": }', ("a.jsonl, line 3, column 19: no JSON", "one JSON object")),
            ('["a", "b"]', ("a.jsonl, line 3", "is no JSON object")),
            ('{"en": "a"}', ("a.jsonl, line 3: column 'de' is missing",)),
            ('{"en": "a", "de": 7}', ("a.jsonl, line 3: 'de' is 7, but must be text",)),
        ):
            holds(refused({"a.jsonl": good + "\n" + line}, Table, train="a.jsonl"), *what)
        nested = '{"translation": {"en": "a", "de": "b"}}\n{"translation": {"en": "a"}}'
        message = refused({"a.jsonl": nested}, Table, train="a.jsonl")
        holds(message, "line 2: column 'translation.de' is missing")

    def test_tsv_is_checked_line_by_line(self, refused: Refused) -> None:
        message = refused({"train.tsv": "en\tde\na\tb\n\na\tb\tc\n"}, Table)
        holds(message, "train.tsv, line 4: 3 fields under a header of 2", "single tabs")

    def test_no_rows(self, refused: Refused, tmp_path: Path) -> None:
        holds(refused({"train.tsv": "en\tde\n"}, Table), "has a header (en, de) but no rows")
        holds(refused({"a.jsonl": "\n\n"}, Table, train="a.jsonl"), "a.jsonl has no rows")
        pq.write_table(
            pa.table({"en": pa.array([], pa.string()), "de": pa.array([], pa.string())}), tmp_path / "a.parquet"
        )
        holds(refused({}, Table, train="a.parquet"), "has columns (en, de) but no rows")

    def test_what_is_no_parquet(self, refused: Refused) -> None:
        holds(refused({"a.parquet": "en,de"}, Table, train="a.parquet"), "is no Parquet file")

    @pytest.mark.parametrize("where", ["pages", "footer"])
    def test_a_damaged_parquet(self, tmp_path: Path, where: str) -> None:
        """Whichever of Arrow's two errors it is."""
        file = tmp_path / "train.parquet"
        pq.write_table(pa.table({"en": ["a b"] * 50, "de": ["c d"] * 50}), file)
        content = bytearray(file.read_bytes())
        start = 4 if where == "pages" else len(content) - 40
        content[start : start + 24] = b"\xff" * 24
        file.write_bytes(bytes(content))
        holds(message_of(Table(path=str(tmp_path), train="train.parquet")), "train.parquet", "is no Parquet file")

    def test_half_a_character(self, refused: Refused) -> None:
        rows = '{"en": "a", "de": "b"}\n{"en": "c \\ud83d", "de": "d"}\n'
        holds(
            refused({"train.jsonl": rows}, Table, train="train.jsonl"),
            "train.jsonl, line 2",
            r"\ud83d is half of a character",
        )

    def test_a_column_that_is_there_twice(self, refused: Refused) -> None:
        holds(refused({"train.tsv": "en\tde\ten\na\tb\tc\n"}, Table), "line 1", "'en' is there twice")

    def test_columns_must_hold_text(self, refused: Refused, tmp_path: Path) -> None:
        pq.write_table(pa.table({"en": [1, 2], "de": ["a", "b"]}), tmp_path / "a.parquet")
        holds(refused({}, Table, train="a.parquet"), "column 'en' holds int64, but must hold text", "source_column")


class TestHuggingFace:
    def test_a_missing_split_names_those_there_are(self, tmp_path: Path) -> None:
        Dataset.from_dict({"en": ["a"], "de": ["b"]}).save_to_disk(tmp_path / "saved")
        message = message_of(HuggingFace(name_or_folder=str(tmp_path / "saved")), "validation")
        holds(message, "has no split 'validation'", "There are: 'train'", "data.corpus.validation")

    def test_a_missing_column_names_those_there_are(self, tmp_path: Path) -> None:
        Dataset.from_dict({"english": ["a"], "de": ["b"]}).save_to_disk(tmp_path / "saved")
        message = message_of(HuggingFace(name_or_folder=str(tmp_path / "saved")))
        holds(message, "split 'train'", "column 'en' is missing", "'english'")

    def test_a_saved_one_has_no_configurations(self, tmp_path: Path) -> None:
        Dataset.from_dict({"en": ["a"], "de": ["b"]}).save_to_disk(tmp_path / "saved")
        message = message_of(HuggingFace(name_or_folder=str(tmp_path / "saved"), config_name="de-en"))
        holds(message, "config_name is 'de-en'", "Leave config_name out")

    def test_a_folder_that_cannot_be_loaded(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        message = message_of(HuggingFace(name_or_folder=str(tmp_path / "empty")))
        holds(message, "The folder", "could not be loaded", "data.corpus.name_or_folder")

    def test_a_name_that_cannot_be_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_network(*arguments: Any, **settings: Any) -> None:
            raise ConnectionError("no network")

        monkeypatch.setattr("datasets.load_dataset", no_network)
        message = message_of(HuggingFace(name_or_folder="nobody/nothing"))
        holds(message, "'nobody/nothing'", "no folder here", "no network", "config_name")
