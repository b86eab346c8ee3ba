"""Small corpora of clips in all forms. Listing opens no clip, so the files hold their own names and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from data.videos.reading import (
    HMDB51,
    UCF101,
    ClassFolders,
    HuggingFaceVideos,
    Kinetics,
    Part,
    SplitTable,
    VideoCorpusConfig,
)


class Row(NamedTuple):
    class_name: str
    source: str
    number: int
    part: Part


CLASSES = ("jump up", "walk")
PARTS_OF = {"train": ("a", "b", "c"), "validation": ("d",), "test": ("e", "ü f")}
ROWS = [
    Row(class_name, source, number, part)  # type: ignore[arg-type]
    for class_name in reversed(CLASSES)
    for part, sources in PARTS_OF.items()
    for source in sources
    for number in range(1, 3)
]


def put(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(file.name, encoding="utf-8")


def write_table(folder: Path, rows: Iterable[Row] = ROWS, *, name: str = "split.csv") -> None:
    lines = ["subset,group,class,file"]
    for row in rows:
        file = f"{row.source}_{row.number}.mp4"
        lines.append(f'{row.part},{row.source},"{row.class_name}",{file}')
        put(folder / "videos" / row.class_name / file)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_folders(folder: Path, rows: Iterable[Row] = ROWS, *, parts: bool = True) -> None:
    for row in rows:
        below = Path(row.part, row.class_name) if parts else Path(row.class_name)
        put(folder / below / f"{row.source}_{row.number}.mp4")


def write_ucf101(folder: Path, rows: Iterable[Row] = ROWS) -> None:
    lists: dict[str, list[str]] = {"train": [], "test": []}
    classes = sorted({row.class_name for row in rows}, reverse=True)
    for row in rows:
        name = row.class_name.replace(" ", "")
        path = f"{name}/v_{name}_g{ord(row.source[0]):02}_c{row.number:02}.avi"
        put(folder / "UCF-101" / path)
        place = classes.index(row.class_name) + 1
        lists["test" if row.part == "test" else "train"].append(path if row.part == "test" else f"{path} {place}")
    (folder / "ucfTrainTestlist").mkdir()
    for part, lines in lists.items():
        (folder / f"ucfTrainTestlist/{part}list01.txt").write_text("\r\n".join(lines) + "\r\n")
    named = [f"{place} {name.replace(' ', '')}" for place, name in enumerate(classes, start=1)]
    (folder / "ucfTrainTestlist/classInd.txt").write_text("\n".join(named) + "\n")


def write_hmdb51(folder: Path, rows: Iterable[Row] = ROWS, *, ending: str = ".avi") -> None:
    lists: dict[str, list[str]] = {}
    for row in rows:
        class_name = row.class_name.replace(" ", "_")
        stem = f"{row.source}_{class_name}_f_nm_np1_ba_med_{row.number}"
        put(folder / "videos" / class_name / f"{stem}{ending}")
        lists.setdefault(class_name, []).append(f"{stem}.avi {2 if row.part == 'test' else 1} ")
    (folder / "testTrainMulti_7030_splits").mkdir()
    for class_name, lines in lists.items():
        unused = f"unused_{class_name}_f_cm_np2_fr_goo_0.avi 0 "
        file = folder / f"testTrainMulti_7030_splits/{class_name}_test_split1.txt"
        file.write_text("\n".join([unused, *lines]) + "\n", encoding="utf-8")


def write_kinetics(folder: Path, rows: Iterable[Row] = ROWS, *, layout: str = "flat") -> None:
    names = {"train": "train", "validation": "val", "test": "test"}
    lines: dict[str, list[str]] = {
        name: ["label,youtube_id,time_start,time_end,split,is_cc"] for name in names.values()
    }
    for row in rows:
        part = names[row.part]
        video = f"-{row.class_name[0]}_{row.source}"
        lines[part].append(f"{row.class_name},{video},{row.number * 10},{row.number * 10 + 10},{part},0")
        below = {"flat": "", "class": row.class_name, "underscored": row.class_name.replace(" ", "_")}[layout]
        put(folder / part / below / f"{video}_{row.number * 10:06}_{row.number * 10 + 10:06}.mp4")
    (folder / "annotations").mkdir()
    for part, text in lines.items():
        (folder / f"annotations/{part}.csv").write_text("\n".join(text) + "\n", encoding="utf-8")


def written(form: str, folder: Path) -> VideoCorpusConfig:
    """The corpus in some form."""
    path = str(folder)
    match form:
        case "table":
            write_table(folder)
            return SplitTable(path=path, groups_within_class=True)
        case "folders":
            write_folders(folder)
            return ClassFolders(path=path, group_pattern="^(.+)_", groups_within_class=True)
        case "ucf101":
            write_ucf101(folder)
            return UCF101(path=path, validation_share=0.3)
        case "hmdb51":
            write_hmdb51(folder)
            return HMDB51(path=path, validation_share=0.3)
        case "kinetics":
            write_kinetics(folder)
            return Kinetics(path=path)
        case _:
            write_folders(folder)
            return HuggingFaceVideos(name_or_folder=path)


FORMS = ("table", "folders", "ucf101", "hmdb51", "kinetics", "hugging_face")


def refusal(corpus: VideoCorpusConfig, part: Part = "train") -> str:
    """The message with which a corpus is refused."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  the caller looks at the message
        corpus.read(part)
    return str(error.value)


def holds(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"
