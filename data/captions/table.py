"""Captions in a table of one's own, beside a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.captions.corpus import PARTS, CaptionCorpus, CaptionCorpusConfig, Part, check_apart, made_corpus
from data.captions.rows import Row, caption_columns, captions_of, joined
from data.corpora import corpus_folder, existing_file, folder_below
from data.media import MediaFiles
from data.tables import read_columns


@dataclass(frozen=True, kw_only=True)
class CaptionTable(CaptionCorpusConfig):
    """A folder with pictures and CSV, TSV, JSON-lines or Parquet files: a caption a row, or all captions of a picture.

    Either a file a part, or one `file` whose `split_column` says which part a row is of.
    """

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    images: str = "images"
    """Folder with all pictures, which the column of pictures counts from; "." = the folder itself."""
    image_column: str = "image"
    """Column with the path of a row's picture."""
    caption_column: str | tuple[str, ...] = "caption"
    """Column with a caption or a list of them; several columns with a caption each are given as a list."""
    file: str | None = None
    """Table with the rows of all parts; null = each part has a table of its own."""
    split_column: str | None = None
    """Column of `file` with the part of a row; null = "split"."""
    train: str | None = None
    """Table to train on, null = "train.csv"; with `file`: what the split column says of its rows, null = "train"."""
    validation: str | None = None
    """The same for the validation part; null = "validation.csv" or "validation"."""
    test: str | None = None
    """The same for the test part; null = "test.csv" or "test"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        caption_columns(self.caption_column)
        if self.split_column is not None and self.file is None:
            raise ValueError(
                f"data.corpus.split_column is {self.split_column!r}, but without data.corpus.file each part has a table of its "
                "own and no column is asked. Name the table of all parts by file, or leave split_column out."
            )
        names = [self._name(part) for part in PARTS]
        if len(set(names)) < len(names):
            raise ValueError(f"data.corpus.train, validation and test must differ, got {', '.join(map(repr, names))}.")

    def read(self, part: Part, *, cache_dir: str | None = None) -> CaptionCorpus:
        """The pictures of a part in the order of their first rows."""
        assert part in PARTS
        folder = corpus_folder(self.path)
        name = self._name(part) if self.file is None else self.file
        file = existing_file(folder, name, key=part if self.file is None else "file")
        rows = self._of_one_part(folder, file, part) if self.file is None else self._of_split(file, part)
        entries, _ = joined(rows)
        return made_corpus(
            entries,
            MediaFiles(
                folder_below(folder, self.images, of="pictures", key="images"), [entry.name for entry in entries]
            ),
            part=part,
            place=str(file),
            max_missing_share=self.max_missing_share,
        )

    def _name(self, part: Part) -> str:
        named: str | None = getattr(self, part)
        return named or (part if self.file else f"{part}.csv")

    def _columns(self) -> dict[str, str]:
        return {
            self.image_column: "image_column",
            **dict.fromkeys(caption_columns(self.caption_column), "caption_column"),
        }

    def _row(self, where: str, values: list[Any]) -> Row:
        captions, has_list = captions_of(values[1:], columns=caption_columns(self.caption_column), where=where)
        return Row(_image_name(values[0], self.image_column, where), captions, where, has_list)

    def _of_one_part(self, folder: Path, file: Path, part: Part) -> list[Row]:
        rows = [self._row(where, values) for where, values in read_columns(file, self._columns())]
        named = [(str(file), [row.name for row in rows])]
        for other in PARTS:  # one may do without a part, as long as nothing asks for it
            other_file = folder / self._name(other)
            if other != part and other_file.is_file() and other_file.stat().st_size:
                read = read_columns(other_file, {self.image_column: "image_column"})
                named.append((str(other_file), [_image_name(image, self.image_column, at) for at, (image,) in read]))
        check_apart(named)
        return rows

    def _of_split(self, file: Path, part: Part) -> list[Row]:
        column = self.split_column or "split"
        values_of = {self._name(each): each for each in PARTS}
        rows: dict[Part, list[Row]] = {each: [] for each in PARTS}
        for where, (split, *values) in read_columns(file, {column: "split_column", **self._columns()}):
            if split not in values_of:
                raise ValueError(
                    f"{where}: {column!r} is {split!r}. Known: {', '.join(map(repr, values_of))}. Name what the file calls its "
                    "parts by data.corpus.train, validation and test."
                )
            rows[values_of[split]].append(self._row(where, values))
        check_apart([(f"{file}, part {each!r},", [row.name for row in of_part]) for each, of_part in rows.items()])
        return rows[part]


def _image_name(value: Any, column: str, where: str) -> str:
    if isinstance(value, dict):
        raise ValueError(
            f"{where}: {column!r} holds the picture itself, not the path of one. Read such tables by the class "
            "HuggingFaceCaptions, with the folder they lie in."
        )
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {column!r} is {value!r}, but must be the path of a picture.")
    return value
