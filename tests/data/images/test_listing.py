"""What a path means to predict: a picture, a folder, or a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.images.listing import list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/er/c.jpeg", "deep/d.gif", "notes.txt", "._b.jpg", "e.jpg.part"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\xff\xd8\xff\x00")
    return tmp_path / "in"


def names(images: list[Path], folder: Path) -> list[str]:
    return [str(image.relative_to(folder)) for image in images]


def test_a_folder_is_all_pictures_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sorted, for predictions stand in the order of the input; macOS's `._` files are no pictures, whatever their endings."""
    assert names(list_images(folder), folder) == ["a.PNG", "b.jpg", "deep/d.gif", "deep/er/c.jpeg"]
    assert "4 pictures; 3 other files are left out" in capsys.readouterr().err


def test_a_picture_is_itself_with_any_ending(folder: Path) -> None:
    (folder / "photo").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "nul").write_bytes(b"GIF89a\0\0")
    for name in ("b.jpg", "photo", "nul"):
        assert list_images(folder / name) == [folder / name]


def test_a_list_gives_its_pictures_in_its_order(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the list, in the working directory, or absolute; a picture listed twice is predicted twice."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "ü b.jpg").write_bytes(b"x")
    monkeypatch.chdir(other)
    lines = ["deep/d.gif", "", "ü b.jpg", str(folder / "a.PNG"), "deep/d.gif"]
    (folder / "list.txt").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    expected = [folder / "deep/d.gif", other / "ü b.jpg", folder / "a.PNG", folder / "deep/d.gif"]
    assert list_images(folder / "list.txt") == expected


def test_a_long_list_is_text_wherever_its_beginning_is_cut(folder: Path) -> None:
    for shift in range(3):
        (folder / "€€.jpg").write_bytes(b"x")
        (folder / "list").write_text("\n" * shift + "€€.jpg\n" * 2000, encoding="utf-8")
        assert len(list_images(folder / "list")) == 2000


def test_refusals(folder: Path) -> None:
    (folder / "list.txt").write_text("b.jpg\ngone.jpg\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2: there is no file 'gone\.jpg'.*a picture a line"):
        list_images(folder / "list.txt")
    (folder / "blank.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"blank\.txt names no picture"):
        list_images(folder / "blank.txt")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"texts holds no picture, but 1 other files.*\.jpg"):
        list_images(folder / "texts")
    with pytest.raises(ValueError, match="There is no file or folder"):
        list_images(folder / "nowhere")
