"""Which pictures a path means: one, all in a folder, or those that a text file lists."""

from __future__ import annotations

import os
from pathlib import Path

from data.module import notify
from data.parallel.files import read_lines
from data.paths import find_data

IMAGE_ENDINGS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2", ".avif"]
)
_START = 4096


def list_images(path: str | Path) -> list[Path]:
    """The pictures that a path means; none of them is opened.

    - A picture: itself.
    - A folder: all in it and in its folders, by their endings, in the order of their paths. Hidden files are no pictures.
    - A text file: a path a line, in its order, beside the text file or else in the working directory. Blank lines are none.

    Raises:
        ValueError: there is no such path, no picture in the folder, or a line names a file that does not exist.
    """
    path = find_data(path)
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() in IMAGE_ENDINGS or not _is_text(path):
        return [path]
    return _in_list(path)


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(
        (Path(parent) / name for parent, _, names in os.walk(folder) for name in names), key=lambda file: file.parts
    )
    images = [file for file in files if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")]
    others = len(files) - len(images)
    if not images:
        raise ValueError(
            f"{folder} holds no picture, but {others} other files. Pictures are told by their endings: "
            f"{', '.join(sorted(IMAGE_ENDINGS))}."
        )
    if others:
        notify(f"{folder}: {len(images)} pictures; {others} other files are left out.")
    return images


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_START)
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # A character that the reading has cut in two does not make it another kind of file.
        return error.reason == "unexpected end of data" and len(start) == _START and b"\0" not in start
    return b"\0" not in start


def _in_list(file: Path) -> list[Path]:
    images = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        named = Path(line).expanduser()
        places = [named] if named.is_absolute() else [file.parent / named, Path.cwd() / named]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(
                f"{file}, line {number}: there is no file {line!r}. Looked at: {', '.join(map(str, places))}. The file must "
                "hold the path of a picture a line."
            )
        images.append(found)
    if not images:
        raise ValueError(f"{file} names no picture. It must hold the path of a picture a line.")
    return images
