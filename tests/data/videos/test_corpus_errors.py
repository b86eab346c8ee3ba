"""Whatever is wrong with a split is said with file, line and what to change; what is left out is counted (contract 8)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from data import media
from data.videos.reading import (
    HMDB51,
    PARTS,
    UCF101,
    ClassFolders,
    HuggingFaceVideos,
    Kinetics,
    SplitTable,
    VideoCorpusConfig,
)
from tests.data.videos.corpora import (
    ROWS,
    Row,
    holds,
    put,
    refusal,
    write_folders,
    write_hmdb51,
    write_kinetics,
    write_table,
    write_ucf101,
)

Capture = pytest.CaptureFixture[str]


def table(folder: Path, *lines: str, **settings: Any) -> SplitTable:
    """A table of these lines, with two good clips of each of two classes before them."""
    rows = [Row(name, f"{name}{part}", 1, part) for name in ("walk", "run") for part in ("train", "test")]  # type: ignore[arg-type]
    write_table(folder, rows)
    with (folder / "split.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return SplitTable(path=str(folder), validation_share=0, **settings)


class TestMissingClips:
    def test_a_few_are_left_out_and_named_with_their_lines(self, tmp_path: Path, capsys: Capture) -> None:
        rows = [Row(name, "s", number, "train") for name in "ab" for number in range(50)]
        write_table(tmp_path, rows)
        (tmp_path / "videos/a/s_7.mp4").unlink()
        (tmp_path / "videos/b/s_8.mp4").unlink()
        config = SplitTable(path=str(tmp_path), group_column=None, max_missing_share=0.03)
        assert len(config.read("train")) + len(config.read("validation")) == 98
        message = capsys.readouterr().err
        holds(message, "2 that are not in", "a/s_7.mp4 (line 9), b/s_8.mp4 (line 60)")

    def test_more_are_an_error(self, tmp_path: Path) -> None:
        config = table(tmp_path, "train,x,walk,gone.mp4", "train,y,walk,lost.mp4")
        message = refusal(config)
        holds(
            message,
            "2 of the 4 clips of the part 'train' are not in",
            "videos: walk/gone.mp4 (line 6), walk/lost.mp4 (line 7)",
        )
        holds(message, "max_missing_share=0.01 allows 1.0%")
        assert len(config.read("test")) == 2, "whoever only tests needs no clips to train on"

    def test_a_class_must_not_vanish(self, tmp_path: Path) -> None:
        config = table(tmp_path, max_missing_share=0.5)
        (tmp_path / "videos/run/runtrain_1.mp4").unlink()
        holds(refusal(config), "1 of 2 clips are missing", "nothing is left of the classes run")
        (tmp_path / "videos/run/runtest_1.mp4").unlink()
        assert len(config.read("test")) == 1

    def test_a_folder_in_place_of_a_clip_is_none(self, tmp_path: Path) -> None:
        config = table(tmp_path)
        (tmp_path / "videos/run/runtrain_1.mp4").unlink()
        (tmp_path / "videos/run/runtrain_1.mp4").mkdir()
        holds(refusal(config), "1 of the 2 clips", "run/runtrain_1.mp4")

    def test_an_unreadable_folder_is_said_and_not_taken_for_an_empty_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Root may read anything, so the refusal of the system is put in by hand."""
        config = table(tmp_path)
        real = os.scandir

        def scandir(folder: Path) -> Any:
            if Path(folder).name == "run":
                raise PermissionError(13, "Permission denied")
            return real(folder)

        monkeypatch.setattr(media.os, "scandir", scandir)
        holds(refusal(config), f"The folder {tmp_path}/videos/run cannot be read (Permission denied)")


class TestClasses:
    def test_an_unknown_class_names_the_nearest(self, tmp_path: Path) -> None:
        message = refusal(table(tmp_path, "train,x,wakl,a.mp4"))
        holds(message, "split.csv, line 6: the class 'wakl' is unknown", "the folders in", "Nearest: 'walk'")
        (tmp_path / "c.txt").write_text("run\nwalk\n")
        message = refusal(table(tmp_path, "train,x,wakl,a.mp4", class_file="c.txt"), "test")
        holds(message, "split.csv, line 6: the class 'wakl' is unknown", "c.txt. Nearest: 'walk'")

    @pytest.mark.parametrize("part", PARTS)
    def test_a_class_without_a_clip_to_train_on(self, part: Any, tmp_path: Path) -> None:
        put(tmp_path / "videos/walks/a.mp4")
        message = refusal(table(tmp_path, "test,x,walks,a.mp4"), part)
        holds(message, "split.csv, line 6: the class 'walks' has no clip to train on", "(nearest: 'walk')")

    def test_a_class_of_the_class_file_without_clips(self, tmp_path: Path) -> None:
        (tmp_path / "c.txt").write_text("run\nwalk\nsit\nlie\n")
        message = refusal(table(tmp_path, class_file="c.txt"))
        holds(message, "c.txt: the class 'sit' has no clip to train on, nor have 1 others (lie)")
        (tmp_path / "c.txt").write_text("run\nrun\n")
        holds(refusal(table(tmp_path, class_file="c.txt")), "c.txt: the class 'run' is there twice")

    def test_a_single_class(self, tmp_path: Path) -> None:
        write_table(tmp_path, [row for row in ROWS if row.class_name == "walk"])
        holds(refusal(SplitTable(path=str(tmp_path))), "all clips are of one class, 'walk'")


class TestSplits:
    def test_a_clip_twice(self, tmp_path: Path) -> None:
        message = refusal(table(tmp_path, "train,x,walk,walktrain_1.mp4"))
        holds(
            message, "line 6: the clip 'walk/walktrain_1.mp4' is there a second time", "split.csv, line 2. Remove one"
        )

    @pytest.mark.parametrize("part", PARTS)
    def test_a_clip_on_both_sides(self, part: Any, tmp_path: Path) -> None:
        message = refusal(table(tmp_path, "test,x,walk,walktrain_1.mp4", allow_shared_groups=True), part)
        holds(message, "split.csv, line 6", "of the part 'train', the other of 'test'", "must not have been trained on")

    @pytest.mark.parametrize("part", PARTS)
    def test_a_source_on_both_sides(self, part: Any, tmp_path: Path, capsys: Capture) -> None:
        put(tmp_path / "videos/walk/a.mp4")
        put(tmp_path / "videos/walk/b.mp4")
        lines = ("test,walktrain,walk,a.mp4", "test,walktrain,walk,b.mp4")
        message = refusal(table(tmp_path, *lines), part)
        holds(message, "split.csv, line 2", "1 of 4 sources", "'walktrain' (1 clips in train, 2 clips in test)")
        holds(message, "share people, place and light", "data.corpus.allow_shared_groups")
        assert "groups_within_class" not in message
        table(tmp_path, *lines, allow_shared_groups=True).read(part)
        holds(
            capsys.readouterr().err,
            "'walktrain' (1 clips in train, 2 clips in test)",
            "allow_shared_groups lets it pass",
        )

    def test_a_source_on_both_sides_in_different_classes(self, tmp_path: Path) -> None:
        put(tmp_path / "videos/run/a.mp4")
        lines = ("test,walktrain,run,a.mp4",)
        holds(refusal(table(tmp_path, *lines)), "data.corpus.groups_within_class")
        assert len(table(tmp_path, *lines, groups_within_class=True).read("test")) == 3

    def test_many_shared_sources_are_counted(self, tmp_path: Path) -> None:
        rows = [
            Row(name, str(row), n, part)
            for name in "ab"
            for row in range(9)
            for n, part in enumerate(("train", "test"))
        ]  # type: ignore[arg-type]
        write_table(tmp_path, rows)
        holds(refusal(SplitTable(path=str(tmp_path))), "9 of 9 sources", "and 4 more")

    def test_empty_parts(self, tmp_path: Path) -> None:
        write_table(tmp_path, [row for row in ROWS if row.part == "train"])
        config = SplitTable(path=str(tmp_path), groups_within_class=True)
        holds(refusal(config, "test"), "no clip is listed for the part 'test'", "Parts with clips: train (12 clips)")
        config = SplitTable(path=str(tmp_path), groups_within_class=True, validation_share=0)
        holds(refusal(config, "validation"), "validation_share is 0", "there is none")
        config = SplitTable(path=str(tmp_path), groups_within_class=True, validation="dev")
        holds(refusal(config), "no row has 'dev' in 'subset'")
        write_table(tmp_path, [row for row in ROWS if row.part == "test"])
        holds(refusal(SplitTable(path=str(tmp_path)), "test"), "no clip is listed for the part 'train'")

    def test_nothing_can_be_taken(self, tmp_path: Path) -> None:
        rows = [Row(name, name, number, "train") for name in "ab" for number in range(5)]
        write_table(tmp_path, rows)
        holds(refusal(SplitTable(path=str(tmp_path))), "0.1 of the 10 training clips cannot be taken without splitting")

    def test_a_share_beside_listed_clips_does_nothing(self, tmp_path: Path) -> None:
        write_table(tmp_path)
        config = SplitTable(path=str(tmp_path), groups_within_class=True, validation_share=0.2)
        holds(refusal(config), "validation_share is 0.2, but", "lists 4 clips to validate on")

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"class_column": "clas"}, ("column 'clas' is missing. There are: 'class'", "data.corpus.class_column")),
            ({"group_column": "gruop"}, ("column 'gruop' is missing. There are: 'group'", "data.corpus.group_column")),
            ({"table": "splits.csv"}, ("splits.csv does not exist", "split.csv", "data.corpus.table")),
            ({"videos": "clips"}, ("There is no folder", "videos", "data.corpus.videos")),
            ({"train": "training"}, ("line 2: 'subset' is 'train'. Known: 'training', 'validation', 'test'",)),
        ],
    )
    def test_wrong_names(self, settings: dict[str, Any], expected: tuple[str, ...], tmp_path: Path) -> None:
        holds(refusal(table(tmp_path, **settings)), *expected)

    def test_malformed_rows(self, tmp_path: Path) -> None:
        holds(refusal(table(tmp_path, "train,,walk,a.mp4")), "line 6: 'group' is '', but must say something")
        holds(refusal(table(tmp_path, "train,x,walk")), "line 6: 3 fields under a header of 4")
        (tmp_path / "split.txt").write_text("x")
        holds(refusal(table(tmp_path, table="split.txt")), "tables ending in '.txt' are not known", "CSV (.csv)")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_missing_share": 1.5}, "max_missing_share must be from 0 to 1"),
        ({"validation_share": 1.0}, "validation_share must be at least 0 and below 1"),
        ({"split_seed": -1}, "split_seed cannot be negative"),
        ({"train": "x", "test": "x"}, "must differ"),
        ({"group_column": None, "groups_within_class": True}, "group_column is null"),
    ],
)
def test_settings_of_a_table(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        SplitTable(path="x", **settings)


class TestClassFolders:
    def test_parts_or_a_share(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "flat", parts=False)
        message = refusal(ClassFolders(path=str(tmp_path / "flat")))
        holds(message, "'train'", "Folders in", "jump up, walk", "data.corpus.test_share")
        write_folders(tmp_path / "parts")
        message = refusal(ClassFolders(path=str(tmp_path / "parts"), test_share=0.2))
        holds(message, "has the folders 'train' and 'test'", "Leave test_share out")

    def test_others_are_left_out_and_said(self, tmp_path: Path, capsys: Capture) -> None:
        write_folders(tmp_path)
        put(tmp_path / "val/walk/a.mp4")
        ClassFolders(path=str(tmp_path)).read("train")
        holds(capsys.readouterr().err, "folders that are of no part are left out: val")

    def test_an_empty_class_and_a_name_without_a_source(self, tmp_path: Path) -> None:
        write_folders(tmp_path)
        holds(refusal(ClassFolders(path=str(tmp_path), group_pattern="^x(.)")), "finds nothing in the name")
        put(tmp_path / "train/sit/readme.txt")
        holds(refusal(ClassFolders(path=str(tmp_path))), "train/sit holds no video, but 1 other files", ".mp4")

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"test_share": 0.0}, "test_share must be above 0"),
            ({"group_pattern": "("}, "no regular expression"),
            ({"groups_within_class": True}, "group_pattern is null"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], expected: str) -> None:
        with pytest.raises(ValueError, match=expected):
            ClassFolders(path="x", **settings)


class TestPublishedForms:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("wakl/v_wakl_g01_c01.avi 1", ("the class 'wakl' is unknown", "classInd.txt. Nearest: 'walk'")),
            ("walk/v_walk_g01_c01.avi 2", ("the class 'walk' has the number 2 here, but 1 in",)),
            ("walk/walk.avi 1", ("'walk/walk.avi 1' is no clip",)),
            ("walk/v_walk_g97_c01.avi 1", ("is there a second time",)),
        ],
    )
    def test_lines_of_ucf101(self, line: str, expected: tuple[str, ...], tmp_path: Path) -> None:
        write_ucf101(tmp_path)
        with (tmp_path / "ucfTrainTestlist/trainlist01.txt").open("a") as file:
            file.write(f"{line}\n")
        holds(refusal(UCF101(path=str(tmp_path))), "trainlist01.txt, line 17: ", *expected)

    def test_other_files_of_ucf101(self, tmp_path: Path) -> None:
        write_ucf101(tmp_path)
        holds(refusal(UCF101(path=str(tmp_path), split=2)), "trainlist02.txt does not exist", "trainlist01.txt")
        (tmp_path / "ucfTrainTestlist/classInd.txt").write_text("1 walk\n1 jump\n")
        holds(refusal(UCF101(path=str(tmp_path))), "classInd.txt, line 2: '1 jump' is no class")
        with pytest.raises(ValueError, match="split must be at least 1"):
            UCF101(path="x", split=0)
        with pytest.raises(ValueError, match="ending must be a dot"):
            HMDB51(path="x", ending="mp4")

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("a_walk_f_nm_np1_ba_med_3.avi 3", ("is no clip with its part",)),
            ("a_walk_f_nm_np1_ba_med_3.avi", ("is no clip with its part",)),
            (
                "a_run_f_nm_np1_ba_med_3.avi 1",
                ("does not say what the clip was cut from", "source_walk_f_nm_np1_ba_med_3"),
            ),
            ("a_walk_f_nm_np1_ba_med_1.avi 2", ("of the part 'train', the other of 'test'",)),
        ],
    )
    def test_lines_of_hmdb51(self, line: str, expected: tuple[str, ...], tmp_path: Path) -> None:
        write_hmdb51(tmp_path)
        with (tmp_path / "testTrainMulti_7030_splits/walk_test_split1.txt").open("a") as file:
            file.write(f"{line}\n")
        holds(refusal(HMDB51(path=str(tmp_path))), "walk_test_split1.txt, line 14: ", *expected)

    def test_other_files_of_hmdb51(self, tmp_path: Path) -> None:
        write_hmdb51(tmp_path)
        holds(refusal(HMDB51(path=str(tmp_path), split=3)), "has no list class_test_split3.txt", "lists: 1")
        (tmp_path / "testTrainMulti_7030_splits/wall_test_split1.txt").write_text("x 1\n")
        holds(refusal(HMDB51(path=str(tmp_path))), "the class 'wall' is unknown", "Nearest: 'walk'")

    def test_kinetics(self, tmp_path: Path) -> None:
        write_kinetics(tmp_path)
        holds(
            refusal(Kinetics(path=str(tmp_path), label_column="lable")),
            "There are: 'label'",
            "data.corpus.label_column",
        )
        holds(refusal(Kinetics(path=str(tmp_path), validation="vall")), "vall.csv does not exist", "val.csv")
        (tmp_path / "annotations/test.csv").unlink()
        holds(
            refusal(Kinetics(path=str(tmp_path)), "test"), "no clip is listed for the part 'test'", "There is no file"
        )
        (tmp_path / "annotations/train.csv").write_text("label,youtube_id,time_start,time_end\nwalk,x,soon,3\n")
        holds(refusal(Kinetics(path=str(tmp_path))), "train.csv, line 2: 'time_start' is 'soon'", "whole seconds")
        (tmp_path / "annotations/train.csv").write_text("label,youtube_id,time_start,time_end\n,x,1,3\n")
        holds(refusal(Kinetics(path=str(tmp_path))), "line 2: 'label' is ''")
        with pytest.raises(ValueError, match=r"must have \{part\}"):
            Kinetics(path="x", annotations="train.csv")


class TestHuggingFace:
    def config(self, folder: Path, splits: dict[str, dict[str, list[Any]]], **settings: Any) -> VideoCorpusConfig:
        DatasetDict({split: Dataset.from_dict(rows) for split, rows in splits.items()}).save_to_disk(folder / "d")
        return HuggingFaceVideos(name_or_folder=str(folder / "d"), validation=None, **settings)

    def test_splits_columns_and_labels(self, tmp_path: Path) -> None:
        rows = {"video": [b"a", b"b"], "label": ["x", "y"], "number": [1, -1]}
        config = self.config(tmp_path, {"train": rows})
        holds(refusal(config, "test"), "'test'", "There are: 'train'", "data.corpus.test")
        path = str(tmp_path / "d")
        config = HuggingFaceVideos(name_or_folder=path)
        holds(refusal(config), "has no split 'validation'", "Set it to null to take a share of the training clips")
        config = HuggingFaceVideos(name_or_folder=path, validation=None, label_column="labels")
        holds(refusal(config), "column 'labels' is missing. There are: 'label'")
        config = HuggingFaceVideos(name_or_folder=path, validation=None, label_column="number")
        holds(refusal(config), "row 2: 'number' is '-1', which is no class")
        config = HuggingFaceVideos(name_or_folder=path, validation=None, video_column="number")
        holds(refusal(config), "column 'number' holds", "must hold clips")

    def test_a_source_on_both_sides_and_missing_clips(self, tmp_path: Path) -> None:
        train = {"video": [b"a", b"b", None], "label": ["x", "y", "y"], "film": ["1", "2", "3"]}
        test = {"video": [b"c"], "label": ["x"], "film": ["1"]}
        config = self.config(tmp_path, {"train": train, "test": test}, group_column="film", validation_share=0)
        holds(refusal(config), "split 'train', row 1", "'1' (1 clips in train, 1 clips in test)")
        config = HuggingFaceVideos(name_or_folder=str(tmp_path / "d"), validation=None, validation_share=0)
        holds(refusal(config), "1 of the 3 clips of the part 'train' are not in", "train/3 (row 3)")
