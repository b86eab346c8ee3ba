"""A scan says of every file what is in it or what is wrong with it, in order, on any number of processes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from data.video_io import ScanResult, VideoInfo, list_videos, read_manifest, scan, write_manifest
from data.videos import scanning
from tests.data.videos.video_files import write_audio, write_changing, write_truncated, write_video

BROKEN = {
    "changing.h264": "changes its size at frame 10",
    "cut.mp4": "is cut off",
    "empty.avi": "is empty (0 bytes).",
    "sound.mp4": "holds no video, but only audio.",
    "text.mkv": "is no video",
}
WELL = ["a/one.mp4", "a/two.mkv", "b/three.avi"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    write_video(folder / "a/one.mp4", 1)
    write_video(folder / "a/two.mkv", 12, rotation=90)
    write_video(folder / "b/three.avi", 15)
    write_changing(folder / "changing.h264", num=10)
    write_truncated(folder / "cut.mp4")
    (folder / "empty.avi").write_bytes(b"")
    write_audio(folder / "sound.mp4")
    (folder / "text.mkv").write_text("no video\n")
    (folder / "notes.txt").write_text("other\n")
    (folder / "a/.hidden.mp4").write_text("other\n")
    return folder


def test_listing(folder: Path, tmp_path: Path) -> None:
    videos, others = list_videos(folder)
    assert [video.relative_to(folder).as_posix() for video in videos] == [*WELL, *BROKEN]
    assert others == 2
    with pytest.raises(ValueError, match=r"holds no video, but 0 other files"):
        list_videos(tmp_path)
    with pytest.raises(ValueError, match="is not there"):
        list_videos(tmp_path / "none")
    with pytest.raises(ValueError, match="is a file"):
        list_videos(folder / "notes.txt")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard library does with it is to leave it out in silence."""
    write_video(tmp_path / "a.mp4", 1)
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"closed cannot be read: Permission denied"):
        list_videos(tmp_path)


def test_each_file_has_its_result(folder: Path) -> None:
    videos, _ = list_videos(folder)
    results = scan(videos, show_progress=False)
    assert [result.path for result in results] == [str(video) for video in videos]
    well, broken = results[:3], results[3:]
    assert [(result.info.num_frames, result.info.is_exact) for result in well if result.info] == [
        (1, True),
        (12, True),
        (15, True),
    ]
    assert all(result.is_usable and result.was_decoded and result.is_current() for result in well)
    assert well[0].num_bytes == (folder / "a/one.mp4").stat().st_size
    for result, (name, reason) in zip(broken, BROKEN.items(), strict=True):
        assert result.error is not None
        assert result.error.startswith(reason), name
        assert not result.is_usable
    assert broken[1].info is not None  # what its header promises


def test_without_decoding_headers_are_believed(folder: Path) -> None:
    by_name = {Path(result.path).name: result for result in scan(list_videos(folder)[0], decode=False)}
    assert not by_name["cut.mp4"].was_decoded
    assert by_name["cut.mp4"].is_usable
    assert not by_name["empty.avi"].is_usable
    assert not by_name["sound.mp4"].is_usable


def test_processes_change_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos, _ = list_videos(folder)
    assert scan(videos, num_workers=2) == scan(videos, show_progress=False)
    assert f"{len(videos)}/{len(videos)}" in capsys.readouterr().err
    assert scan([], num_workers=2) == []


def deadly(path: str, *, decode: bool) -> ScanResult:
    """Stands in for a decoder that a file kills."""
    if path == "deadly":
        os._exit(11)
    return ScanResult(path=path, info=None, error=None, was_decoded=decode, num_bytes=0, modified_ns=0)


def test_a_file_that_kills_its_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders have crashed on broken files before; hours of a scan must not go with them."""
    monkeypatch.setattr(scanning, "_examine", deadly)
    monkeypatch.setattr(scanning, "_CHUNK", 1)
    # A worker cannot import this file under the name it has here: forked ones need not.
    context = scanning.multiprocessing.get_context("fork")
    monkeypatch.setattr(scanning.multiprocessing, "get_context", lambda _: context)
    names = ["1", "2", "deadly", "3", "4", "5", "6"]
    results = scan(names, num_workers=1, show_progress=False)
    assert [result.path for result in results] == names
    assert [result.path for result in results if result.error] == ["deadly"]
    assert "ends the process that decodes it" in str(results[2].error)


def test_an_unexpected_error_is_a_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> VideoInfo:
        raise MemoryError("too large")

    monkeypatch.setattr(scanning, "probe", fail)
    (result,) = scan([folder / "a/one.mp4"], show_progress=False)
    assert result.error == "cannot be examined: MemoryError: too large"


def test_a_manifest_gives_back_what_was_written(folder: Path, tmp_path: Path) -> None:
    results = scan(list_videos(folder)[0], show_progress=False)
    odd = dataclasses.replace(results[0], path=str(folder / "a/ä \udcff \u2028\n.mp4"), info=None, error="is odd.")
    file = tmp_path / "deep" / "manifest.jsonl"
    write_manifest([*results, odd], file, folder=folder)
    assert read_manifest(file, folder=folder) == [*results, odd]
    first = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert first["path"] == "a/one.mp4"
    assert [found.name for found in file.parent.iterdir()] == ["manifest.jsonl"]
    elsewhere = read_manifest(file, folder=tmp_path)
    assert elsewhere[0].path == str(tmp_path / "a/one.mp4")
    assert not elsewhere[0].is_current()


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    (result,) = scan([write_video(tmp_path / "a.mp4", 4)], show_progress=False)
    assert result.is_current()
    os.utime(tmp_path / "a.mp4", ns=(0, 0))
    assert not result.is_current()


def test_a_manifest_that_is_none(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    with pytest.raises(ValueError, match=r"manifest\.jsonl cannot be read: No such file.*scripts\.scan_videos"):
        read_manifest(file, folder=folder)
    write_manifest(scan([folder / "a/one.mp4"], show_progress=False), file, folder=folder)
    line = file.read_text(encoding="utf-8")
    for broken, reason in [
        (line + "{", r"line 2: no JSON"),
        (line + "[]\n", r"line 2: expected an object with path, num_frames"),
        (line.replace('"fps"', '"rate"'), r"line 1: expected an object"),
        (line.replace('"num_frames": 1', '"num_frames": "1"'), r"line 1: 'num_frames' is '1', but must be int"),
        (line.replace('"is_exact": true', '"is_exact": 1'), r"line 1: 'is_exact' is 1, but must be bool"),
    ]:
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match=reason):
            read_manifest(file, folder=folder)
    with pytest.raises(ValueError, match=r"is not in .*the folder of the manifest"):
        write_manifest(scan([folder / "a/one.mp4"], show_progress=False), file, folder=tmp_path)
