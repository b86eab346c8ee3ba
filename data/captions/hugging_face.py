"""Captions in a data set of Hugging Face, which holds the pictures as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.captions.corpus import PARTS, CaptionCorpus, CaptionCorpusConfig, Part, made_corpus
from data.captions.rows import Row, caption_columns, captions_of, joined
from data.media import DatasetMedia
from data.parallel.reading import HuggingFace
from data.tables import missing_column


@dataclass(frozen=True, kw_only=True)
class HuggingFaceCaptions(CaptionCorpusConfig):
    """A data set of the Hugging Face hub, or a folder: one that `save_to_disk` wrote, or of files that `datasets` knows.

    Whether two of its splits share a picture is not checked.
    """

    name_or_folder: str
    """Name on the hub (owner/name), or a folder; a folder that exists is preferred."""
    config_name: str | None = None
    """Which of its configurations; null = its only one."""
    train: str = "train"
    """Split to train on."""
    validation: str = "validation"
    """Split to validate on."""
    test: str = "test"
    """Split to test on."""
    image_column: str = "image"
    """Column with the pictures."""
    caption_column: str | tuple[str, ...] = "caption"
    """Column with a caption or a list of them; several columns with a caption each are given as a list."""
    name_column: str | None = None
    """Column with a name or number of each picture, whose rows are then joined; null = every row is another picture."""

    def __post_init__(self) -> None:
        super().__post_init__()
        caption_columns(self.caption_column)

    def read(self, part: Part, *, cache_dir: str | None = None) -> CaptionCorpus:
        """The pictures of a split in the order of their first rows, none of them decoded.

        They are called as name_column says; without it by their paths if all have one and no two are equal, or else by the
        numbers of their rows, which count from 1.
        """
        assert part in PARTS
        split = getattr(self, part)
        splits = self._loader().load_splits(cache_dir)
        if split not in splits:
            raise ValueError(
                f"{self.name_or_folder} has no split {split!r}. There are: {', '.join(map(repr, splits))}. Name that of the "
                f"part {part!r} by data.corpus.{part}."
            )
        dataset = splits[split]
        name = f"{self.name_or_folder}, split {split!r}"
        if len(dataset) == 0:
            raise ValueError(f"{name} has columns ({', '.join(dataset.column_names)}) but no rows.")
        self._check_columns(dataset.column_names, name)
        images = self._undecoded(dataset, name)
        entries, rows = joined(self._rows(dataset, images, name))
        return made_corpus(
            entries,
            DatasetMedia(images, name=name, rows=rows),
            part=part,
            place=name,
            max_missing_share=self.max_missing_share,
        )

    def _loader(self) -> HuggingFace:
        # Of the corpora for translation: the same places, the same errors.
        return HuggingFace(name_or_folder=self.name_or_folder, config_name=self.config_name, train=self.train)

    def _check_columns(self, there: list[str], name: str) -> None:
        wanted = {
            self.image_column: "image_column",
            **dict.fromkeys(caption_columns(self.caption_column), "caption_column"),
        }
        if self.name_column is not None:
            wanted[self.name_column] = "name_column"
        for column, key in wanted.items():
            if column not in there:
                raise missing_column(column, there, where=name, key=key)

    def _undecoded(self, dataset: Any, name: str) -> Any:
        """The column of pictures as bytes and paths."""
        import datasets

        column = dataset.select_columns([self.image_column]).with_format(None)
        kind = column.features[self.image_column]
        nested = isinstance(kind, dict) and set(kind) == {"bytes", "path"}
        plain = isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string", "binary", "large_binary")
        if not (isinstance(kind, datasets.Image) or nested or plain):
            raise ValueError(
                f"{name}: column {self.image_column!r} holds {kind}, but must hold pictures: their bytes or paths. Name "
                "the right one by data.corpus.image_column."
            )
        return column.cast_column(self.image_column, datasets.Image(decode=False))

    def _rows(self, dataset: Any, images: Any, name: str) -> list[Row]:
        columns = caption_columns(self.caption_column)
        values = dataset.select_columns(list(columns)).with_format("arrow")[:]
        names = self._names(dataset, images, name)
        rows = []
        for number, (image, *texts) in enumerate(
            zip(names, *(values.column(column).to_pylist() for column in columns), strict=True), start=1
        ):
            where = f"{name}, row {number}"
            captions, has_list = captions_of(texts, columns=columns, where=where)
            rows.append(Row(image, captions, where, has_list))
        return rows

    def _names(self, dataset: Any, images: Any, name: str) -> list[str]:
        if self.name_column is not None:
            named = dataset.select_columns([self.name_column]).with_format("arrow")[:].column(0).to_pylist()
            for number, value in enumerate(named, start=1):
                if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
                    raise ValueError(
                        f"{name}, row {number}: {self.name_column!r} is {str(value)[:60]!r}, but must be a name or a number "
                        "of the picture."
                    )
            return [str(value) for value in named]
        import pyarrow.compute as pc

        paths: list[str | None] = []
        for table in images.with_format("arrow").iter(batch_size=1000):
            for chunk in table.column(0).chunks:
                paths += pc.struct_field(chunk, "path").to_pylist()
        if all(paths) and len(set(paths)) == len(paths):
            return [str(path) for path in paths]
        return [str(number) for number in range(1, len(paths) + 1)]
