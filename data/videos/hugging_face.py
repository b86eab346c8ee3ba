"""Clips in a data set of Hugging Face: files that a folder holds, or bytes in its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.media import DatasetMedia
from data.parallel.reading import HuggingFace
from data.tables import missing_column
from data.videos.checks import PARTS, Entry, Part
from data.videos.corpus import Listed, Listing, VideoCorpusConfig


@dataclass(frozen=True, kw_only=True)
class HuggingFaceVideos(VideoCorpusConfig):
    """A data set of the Hugging Face hub, or a folder: of clips in a folder a class, of Parquet, or as `save_to_disk` wrote it.

    `datasets` decodes nothing. Whether two splits share a clip is not checked where rows hold bytes.
    """

    name_or_folder: str
    """Name on the hub (owner/name), or a folder; a folder that exists is preferred."""
    config_name: str | None = None
    """Which of its configurations; null = its only one."""
    train: str = "train"
    """Split to train on."""
    validation: str | None = "validation"
    """Split to validate on; null = take a share of the training clips."""
    test: str = "test"
    """Split to test on."""
    video_column: str = "video"
    """Column with the clips: their bytes or paths."""
    label_column: str = "label"
    """Column with a clip's class: a number or a name."""
    group_column: str | None = None
    """Column with what a clip was cut from; null = not known, every clip counts as a source."""

    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """The clips in the order of the rows; classes in the data set's own order, or that of their numbers or names."""
        splits = self._loader().load_splits(cache_dir)
        parts: dict[Part, Listed] = {}
        advice: dict[Part, str] = {}
        orders: dict[str, tuple[str, ...] | None] = {}
        for part in PARTS:
            split: str | None = getattr(self, part)
            if split is None:
                continue
            if split not in splits:
                there = f"{self.name_or_folder} has no split {split!r}. There are: {', '.join(map(repr, splits))}."
                how = " Set it to null to take a share of the training clips." if part == "validation" else ""
                advice[part] = f"{there} Name that of the part {part!r} by data.corpus.{part}.{how}"
                if part != "test":  # one may do without it, as long as nothing asks for it
                    raise ValueError(advice[part])
                continue
            name = f"{self.name_or_folder}, split {split!r}"
            parts[part], orders[name] = self._listed(splits[split], name, split)
        first, order = next(iter(orders.items()))
        other = next((name for name in orders if orders[name] != order), None)
        if other is not None and None not in orders.values():
            raise ValueError(
                f"{first} and {other} have other classes, or the same in another order: {order} and {orders[other]}. The "
                "number of a class must mean the same in all splits: write the data set anew with the same ClassLabel."
            )
        numeric = {entry.class_name for listed in parts.values() for entry in listed.entries}
        if order is None and all(name.isdecimal() for name in numeric):
            order = tuple(sorted(numeric, key=int))
        return Listing(parts, class_names=order, class_place=first, advice=advice)

    def _loader(self) -> HuggingFace:
        # Of the corpora for translation: the same places, the same errors.
        return HuggingFace(name_or_folder=self.name_or_folder, config_name=self.config_name, train=self.train)

    def _listed(self, dataset: Any, name: str, split: str) -> tuple[Listed, tuple[str, ...] | None]:
        wanted = {self.video_column: "video_column", self.label_column: "label_column"}
        if self.group_column is not None:
            wanted[self.group_column] = "group_column"
        for column, key in wanted.items():
            if column not in dataset.column_names:
                raise missing_column(column, dataset.column_names, where=name, key=key)
        videos = DatasetMedia(self._undecoded(dataset, name), name=name)
        labels, order = self._labels(dataset, name)
        groups = self._groups(dataset, name)
        names = self._names(videos, split)
        entries = [
            Entry(clip, label, group, f"{name}, row {number}")
            for number, (clip, label, group) in enumerate(zip(names, labels, groups, strict=True), start=1)
        ]
        return Listed(entries, videos, name), order

    def _undecoded(self, dataset: Any, name: str) -> Any:
        """The column of clips as bytes and paths."""
        import datasets

        column = dataset.select_columns([self.video_column]).with_format(None)
        kind = column.features[self.video_column]
        nested = isinstance(kind, dict) and set(kind) == {"bytes", "path"}
        plain = isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string", "binary", "large_binary")
        if not (isinstance(kind, datasets.Video) or nested or plain):
            raise ValueError(
                f"{name}: column {self.video_column!r} holds {kind}, but must hold clips: their bytes or paths. Name the right "
                "one by data.corpus.video_column."
            )
        return column.cast_column(self.video_column, datasets.Video(decode=False))

    def _labels(self, dataset: Any, name: str) -> tuple[list[str], tuple[str, ...] | None]:
        """The class of each clip, and all classes in their order if the data set knows them."""
        import datasets

        kind = dataset.features[self.label_column]
        order = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None
        labels = []
        for number, value in enumerate(_values(dataset, self.label_column), start=1):
            right = isinstance(value, int | str) and not isinstance(value, bool) and value != ""
            if not right or (isinstance(value, int) and (value < 0 or (order is not None and value >= len(order)))):
                raise ValueError(
                    f"{name}, row {number}: {self.label_column!r} is {str(value)[:60]!r}, which is no class. It must be a name "
                    "or a number from 0; splits without labels cannot be used. Name the column of classes by "
                    "data.corpus.label_column."
                )
            labels.append(str(value) if order is None else order[value])
        return labels, order

    def _groups(self, dataset: Any, name: str) -> list[str | None]:
        if self.group_column is None:
            return [None] * len(dataset)
        groups: list[str | None] = []
        for number, value in enumerate(_values(dataset, self.group_column), start=1):
            if not isinstance(value, int | str) or value == "":
                raise ValueError(
                    f"{name}, row {number}: {self.group_column!r} is {str(value)[:60]!r}, but must be a name or a number of "
                    "what the clip was cut from."
                )
            groups.append(str(value))
        return groups

    def _names(self, videos: DatasetMedia, split: str) -> list[str]:
        """Paths of files, within the folder if they are in it; of bytes the split and the path or the row."""
        folder = Path(self.name_or_folder).expanduser().absolute()
        paths = videos.paths()
        called = [path for path, has_bytes in paths if has_bytes and path]
        by_path = len(called) == len(set(called)) == sum(has_bytes for _, has_bytes in paths)
        names = []
        for number, (path, has_bytes) in enumerate(paths, start=1):
            if path and not has_bytes:
                file = Path(path)
                names.append((file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix())
            else:
                names.append(f"{split}/{path if by_path else number}")
        return names


def _values(dataset: Any, column: str) -> list[Any]:
    values: list[Any] = dataset.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    return values
