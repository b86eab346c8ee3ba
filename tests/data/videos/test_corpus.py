"""Every form of a corpus of clips gives the same clips, classes and sources, whichever part is asked for."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, Video

from data.videos.reading import (
    HMDB51,
    PARTS,
    UCF101,
    ClassFolders,
    HuggingFaceVideos,
    Kinetics,
    SplitTable,
    VideoCorpus,
)
from tests.data.videos.corpora import (
    CLASSES,
    FORMS,
    ROWS,
    put,
    write_folders,
    write_hmdb51,
    write_kinetics,
    write_table,
    written,
)


def content(corpus: VideoCorpus, row: int) -> str:
    source = corpus.source(row)
    return source.decode() if isinstance(source, bytes) else source.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
class TestEveryForm:
    def test_the_parts_are_those_that_were_written(self, form: str, tmp_path: Path) -> None:
        config = written(form, tmp_path / "corpus")
        parts = {part: config.read(part, cache_dir=str(tmp_path / "cache")) for part in PARTS}
        listed = {part: sum(row.part == part for row in ROWS) for part in PARTS}
        if form in ("ucf101", "hmdb51"):  # no list of clips to validate on: 0.3 of those to train on
            assert len(parts["validation"]) == 4
            assert len(parts["train"]) == listed["train"] + listed["validation"] - 4
        else:
            assert {part: len(corpus) for part, corpus in parts.items()} == listed
        assert len(parts["test"]) == listed["test"]
        assert len({corpus.class_names for corpus in parts.values()}) == 1
        names = [clip.name for corpus in parts.values() for clip in corpus.clips]
        assert len(set(names)) == len(names) == len(ROWS)

    def test_clips_have_their_classes_and_sources(self, form: str, tmp_path: Path) -> None:
        config = written(form, tmp_path / "corpus")
        for part in PARTS:
            corpus = config.read(part, cache_dir=str(tmp_path / "cache"))
            assert corpus.counts.sum() == len(corpus)
            for row in range(len(corpus)):
                clip = corpus[row]
                class_name = corpus.class_names[clip.label]
                file = Path(corpus.called(row))
                assert content(corpus, row) == Path(clip.name).name
                if form != "hugging_face":
                    assert file == corpus.source(row)
                    assert clip.group is not None
                if form not in ("kinetics",):
                    assert file.parent.name.rstrip(")") == class_name

    def test_classes_are_in_a_fixed_order(self, form: str, tmp_path: Path) -> None:
        """By name, or as a class file says: UCF101's numbers here run the other way."""
        config = written(form, tmp_path / "corpus")
        names = config.read("test", cache_dir=str(tmp_path / "cache")).class_names
        assert names == {"ucf101": ("walk", "jumpup"), "hmdb51": ("jump_up", "walk")}.get(form, CLASSES)

    def test_it_can_be_pickled_and_moved(self, form: str, tmp_path: Path) -> None:
        config = written(form, tmp_path / "corpus")
        corpus = config.read("train", cache_dir=str(tmp_path / "cache"))
        again = pickle.loads(pickle.dumps(corpus))
        assert again.fingerprint == corpus.fingerprint
        assert [again.identity(row) for row in range(len(again))] == [
            corpus.identity(row) for row in range(len(corpus))
        ]
        (tmp_path / "elsewhere").mkdir()
        moved = written(form, tmp_path / "elsewhere/corpus").read("train", cache_dir=str(tmp_path / "cache"))
        assert moved.fingerprint == corpus.fingerprint
        assert moved.fingerprint != config.read("test", cache_dir=str(tmp_path / "cache")).fingerprint

    def test_an_identity_changes_with_the_file(self, form: str, tmp_path: Path) -> None:
        corpus = written(form, tmp_path / "corpus").read("train", cache_dir=str(tmp_path / "cache"))
        before = [corpus.identity(row) for row in range(len(corpus))]
        assert len(set(before)) == len(before)
        file = corpus.source(0)
        assert isinstance(file, Path)
        os.utime(file, ns=(1, 1))
        assert corpus.identity(0) != before[0]
        assert corpus.identity(1) == before[1]
        file.unlink()
        with pytest.raises(ValueError, match="cannot be read"):
            corpus.identity(0)


class TestSplitTable:
    @pytest.mark.parametrize(
        "write",
        [
            lambda folder: write_table(folder, name="split.csv"),
            lambda folder: (folder / "split.csv").write_text((folder / "split.csv").read_text() + "\n\n"),
        ],
    )
    def test_columns_and_subsets_have_other_names(self, write: Callable[[Path], Any], tmp_path: Path) -> None:
        write_table(tmp_path)
        write(tmp_path)
        text = (tmp_path / "split.csv").read_text(encoding="utf-8")
        text = text.replace("subset,group,class,file", "kind,film,action,clip").replace("validation,", "dev,")
        (tmp_path / "clips.csv").write_text(text, encoding="utf-8")
        config = SplitTable(
            path=str(tmp_path), table="clips.csv", subset_column="kind", group_column="film", class_column="action",
            file_column="clip", validation="dev", groups_within_class=True,
        )  # fmt: skip
        plain = SplitTable(path=str(tmp_path), groups_within_class=True)
        assert [config.read(part).clips for part in PARTS] == [plain.read(part).clips for part in PARTS]

    def test_whole_paths_and_no_groups(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lines = ["class,file,subset", *(f"{name},deep/{name}{row}.mp4,train" for name in "ba" for row in range(10))]
        for name in "ab":
            for row in range(10):
                put(tmp_path / f"deep/{name}{row}.mp4")
        (tmp_path / "split.csv").write_text("\n".join(lines))
        config = SplitTable(path=str(tmp_path), videos=".", class_folders=False, group_column=None)
        assert len(config.read("train")) == 18
        assert [clip.group for clip in config.read("validation").clips] == [None, None]
        assert "Of 20 training clips nothing says what they were cut from" in capsys.readouterr().err

    def test_a_class_file_gives_the_order(self, tmp_path: Path) -> None:
        write_table(tmp_path)
        (tmp_path / "classes.txt").write_text("walk\njump up\n")
        corpus = SplitTable(path=str(tmp_path), class_file="classes.txt", groups_within_class=True).read("test")
        assert corpus.class_names == ("walk", "jump up")
        assert [corpus.class_names[clip.label] for clip in corpus.clips] == [
            Path(clip.name).parts[0] for clip in corpus.clips
        ]

    def test_the_published_split_of_jhmdb(self, capsys: pytest.CaptureFixture[str]) -> None:
        folder = Path(os.environ.get("UNROLL_DATA", ""), "jhmdb")
        if not os.environ.get("UNROLL_DATA") or not (folder / "split1.csv").is_file():
            pytest.skip("JHMDB is not in UNROLL_DATA")
        config = SplitTable(path=str(folder), table="split1.csv", groups_within_class=True)
        parts = {part: config.read(part) for part in PARTS}
        assert [len(parts[part]) for part in PARTS] == [604, 67, 257]
        assert len(dataclasses.replace(config, validation_share=0).read("train")) == 671
        assert len(parts["train"].class_names) == 21
        assert parts["validation"].counts.min() >= 2
        groups = [{clip.group for clip in parts[part].clips} for part in PARTS]
        assert not groups[0] & groups[1]
        assert not (groups[0] | groups[1]) & groups[2]
        with pytest.raises(ValueError, match="25 of 335 sources have clips in more than one part"):
            SplitTable(path=str(folder), table="split1.csv").read("train")


class TestValidation:
    def test_it_is_carved_by_source_and_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_table(tmp_path, [row for row in ROWS if row.part != "validation"])
        config = SplitTable(path=str(tmp_path), validation_share=0.34, groups_within_class=True)
        train, validation = config.read("train"), config.read("validation")
        assert (len(train), len(validation)) == (8, 4)
        assert not {clip.group for clip in train.clips} & {clip.group for clip in validation.clips}
        message = capsys.readouterr().err
        assert "8 of 12 training clips; the others are taken to validate on" in message
        assert (
            "4 of 12 training clips (33.3%; all clips of 2 of 6 sources, validation_share 0.34, split_seed 0)"
            in message
        )
        assert config.read("train").clips == train.clips

    def test_seeds_take_other_clips_and_the_test_part_stays(self, tmp_path: Path) -> None:
        write_table(tmp_path, [row for row in ROWS if row.part != "validation"])
        config = SplitTable(path=str(tmp_path), validation_share=0.34, groups_within_class=True)
        made = [dataclasses.replace(config, split_seed=seed) for seed in range(9)]
        assert len({config.read("validation").fingerprint for config in made}) > 2
        assert len({config.read("test").fingerprint for config in made}) == 1

    def test_a_missing_clip_changes_no_part_of_another(self, tmp_path: Path) -> None:
        """Two copies of a set, one with a hole, must not test on what the other trains on."""
        write_table(tmp_path, [row for row in ROWS if row.part != "validation"])
        config = SplitTable(path=str(tmp_path), validation_share=0.34, groups_within_class=True, max_missing_share=0.5)
        before = {part: [clip.name for clip in config.read(part).clips] for part in PARTS}
        gone = before["train"][0]
        (tmp_path / "videos" / gone).unlink()
        after = {part: [clip.name for clip in config.read(part).clips] for part in PARTS}
        assert after == {**before, "train": before["train"][1:]}

    def test_zero_is_the_test_part(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_table(tmp_path, [row for row in ROWS if row.part != "validation"])
        config = SplitTable(path=str(tmp_path), validation_share=0, groups_within_class=True)
        assert len(config.read("train")) == 12
        assert capsys.readouterr().err == ""
        assert config.read("validation").clips == config.read("test").clips
        assert "validation is on the test part" in capsys.readouterr().err


class TestOtherForms:
    def test_folders_are_split_where_there_are_no_parts(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_folders(tmp_path, parts=False)
        put(tmp_path / "walk/notes.txt")
        config = ClassFolders(
            path=str(tmp_path), test_share=0.34, validation_share=0.25, group_pattern="^(.+)_", groups_within_class=True
        )
        parts = {part: config.read(part) for part in PARTS}
        assert [len(parts[part]) for part in PARTS] == [12, 4, 8]
        groups = [{clip.group for clip in corpus.clips} for corpus in parts.values()]
        assert sum(map(len, groups)) == len(set().union(*groups)) == 12
        message = capsys.readouterr().err
        assert "8 of 24 clips (33.3%; test_share 0.34" in message
        assert "1 files that are no videos" in message

    def test_converted_clips_have_another_ending(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_hmdb51(tmp_path, ending=".mp4")
        corpus = HMDB51(path=str(tmp_path), ending=".mp4", validation_share=0.0).read("train")
        assert {Path(clip.name).suffix for clip in corpus.clips} == {".mp4"}
        assert "2 clips are in neither part of split 1, and not used" in capsys.readouterr().err
        assert UCF101(path="x", ending=".mp4").ending == ".mp4"

    @pytest.mark.parametrize("layout", ["flat", "class", "underscored"])
    def test_kinetics_lies_in_folders_of_classes_or_not(self, layout: str, tmp_path: Path) -> None:
        write_kinetics(tmp_path, layout=layout)
        for part in PARTS:
            corpus = Kinetics(path=str(tmp_path)).read(part)
            assert all(content(corpus, row) == Path(corpus[row].name).name for row in range(len(corpus)))
        assert corpus[0].group == "-w_e"

    def test_kinetics_without_a_validation_part(self, tmp_path: Path) -> None:
        write_kinetics(tmp_path)
        (tmp_path / "annotations/test.csv").unlink()
        config = Kinetics(path=str(tmp_path), validation=None, test="val", validation_share=0.34)
        assert [len(config.read(part)) for part in PARTS] == [8, 4, 4]

    @pytest.mark.parametrize("kind", ["bytes", "numbers", "names"])
    def test_hugging_face_holds_bytes_and_any_labels(self, kind: str, tmp_path: Path) -> None:
        label = (
            ClassLabel(names=["walk", "jump"]) if kind == "bytes" else Value("int64" if kind == "numbers" else "string")
        )
        values: list[Any] = {"bytes": [0, 1], "numbers": [2, 10], "names": ["walk", "jump"]}[kind]
        features = Features({"clip": Video(), "kind": label, "film": Value("string")})
        splits = {
            split: Dataset.from_dict(
                {
                    "clip": [{"bytes": f"{split}{row}".encode(), "path": f"{row}.mp4"} for row in range(4)],
                    "kind": values * 2,
                    "film": [f"{split}{row // 2}" for row in range(4)],
                },
                features=features,
            )
            for split in ("train", "test")
        }
        DatasetDict(splits).save_to_disk(tmp_path / "d")
        config = HuggingFaceVideos(
            name_or_folder=str(tmp_path / "d"), video_column="clip", label_column="kind", group_column="film",
            validation=None, validation_share=0.5,
        )  # fmt: skip
        corpus = config.read("test")
        names = {"bytes": ("walk", "jump"), "numbers": ("2", "10"), "names": ("jump", "walk")}[kind]
        assert corpus.class_names == names
        assert (
            [corpus.class_names[clip.label] for clip in corpus.clips] == [names[0], names[1]] * 2
            if kind != "names"
            else True
        )
        assert [corpus.source(row) for row in range(4)] == [f"test{row}".encode() for row in range(4)]
        assert [clip.name for clip in corpus.clips] == [f"test/{row}.mp4" for row in range(4)]
        assert "row 2 (1.mp4)" in corpus.called(1)
        assert len({corpus.identity(row) for row in range(4)}) == 4
        train, validation = config.read("train"), config.read("validation")
        assert (len(train), len(validation)) == (2, 2)
        assert {clip.group for clip in train.clips} ^ {clip.group for clip in validation.clips} == {"train0", "train1"}
