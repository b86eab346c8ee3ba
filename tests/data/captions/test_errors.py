"""Whatever is wrong with a corpus is said with file, place and what to change; what is left out is counted (contract 8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from data.captions.reading import CaptionTable, CocoCaptions, Flickr, HuggingFaceCaptions, Karpathy
from tests.data.captions.conftest import (
    Refusal,
    holds,
    karpathy_image,
    save_picture,
    save_pictures,
    write_coco,
    write_flickr,
    write_karpathy,
)

Capture = pytest.CaptureFixture[str]


def write_many(folder: Path, number: int) -> list[str]:
    names = [f"{row:03}.jpg" for row in range(number)]
    write_flickr(folder, {"train": {name: ["A cat ."] for name in names}})
    return names


class TestMissing:
    def test_a_few_missing_pictures_are_left_out_and_named(self, tmp_path: Path, capsys: Capture) -> None:
        names = write_many(tmp_path, 100)
        (tmp_path / "images/007.jpg").unlink()
        assert Flickr(path=str(tmp_path)).read("train").names == [name for name in names if name != "007.jpg"]
        holds(capsys.readouterr().err, "trainImages.txt, train: of 100 pictures", "1 that are not in", "(007.jpg)")

    def test_more_than_may_be_missing_are_an_error(self, tmp_path: Path, refusal: Refusal, capsys: Capture) -> None:
        write_many(tmp_path, 100)
        for row in range(2, 10):
            (tmp_path / f"images/{row:03}.jpg").unlink()
        message = refusal(Flickr(path=str(tmp_path)))
        holds(
            message,
            "8 of the 100 pictures of the part 'train' are not in",
            "002.jpg, 003.jpg, 004.jpg, 005.jpg, 006.jpg",
        )
        holds(message, "and 3 more", "max_missing_share=0.01 allows 1.0%")
        assert len(Flickr(path=str(tmp_path), max_missing_share=0.08).read("train")) == 92
        assert "and 3 more" in capsys.readouterr().err

    def test_a_folder_in_place_of_a_picture_is_none(self, tmp_path: Path, refusal: Refusal) -> None:
        write_many(tmp_path, 3)
        (tmp_path / "images/001.jpg").unlink()
        (tmp_path / "images/001.jpg").mkdir()
        holds(refusal(Flickr(path=str(tmp_path))), "1 of the 3 pictures", "001.jpg")

    def test_the_wrong_folder_leaves_nothing(self, tmp_path: Path, refusal: Refusal) -> None:
        write_many(tmp_path, 3)
        (tmp_path / "other").mkdir()
        message = refusal(Flickr(path=str(tmp_path), images="other", max_missing_share=1.0))
        holds(message, "left out are 3 that are not in", "Nothing is left in the part 'train'")
        message = refusal(Flickr(path=str(tmp_path), images="nowhere"))
        holds(message, "There is no folder", "nowhere with pictures", "images, other", "data.corpus.images")

    def test_pictures_without_captions_are_left_out_and_named(self, tmp_path: Path, capsys: Capture) -> None:
        write_flickr(tmp_path, {"train": {"a.jpg": ["A ."], "b.jpg": [], "c.jpg": []}})
        assert Flickr(path=str(tmp_path)).read("train").names == ["a.jpg"]
        holds(capsys.readouterr().err, "of 3 pictures, left out are 2 without a caption (b.jpg, c.jpg)")

    def test_empty_captions_are_left_out_and_counted(self, tmp_path: Path, capsys: Capture) -> None:
        write_flickr(tmp_path, {"train": {"a.jpg": ["A .", " \u3000", ""], "b.jpg": ["B ."]}})
        assert Flickr(path=str(tmp_path)).read("train").captions == [["A ."], ["B ."]]
        holds(capsys.readouterr().err, "2 empty captions are left out")

    def test_a_picture_with_none_but_empty_captions_is_an_error(self, tmp_path: Path, refusal: Refusal) -> None:
        write_flickr(tmp_path, {"train": {"a.jpg": ["A ."], "b.jpg": ["", " "]}})
        message = refusal(Flickr(path=str(tmp_path)))
        holds(message, "trainImages.txt, line 2: the picture 'b.jpg' has 2 captions, all of them empty")

    def test_nothing_captioned_is_left(self, tmp_path: Path, refusal: Refusal) -> None:
        write_flickr(tmp_path, {"train": {"b.jpg": []}, "test": {"t.jpg": ["x"]}})
        holds(refusal(Flickr(path=str(tmp_path))), "1 without a caption", "Nothing is left in the part 'train'")

    @pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
    def test_a_share_is_one(self, share: float) -> None:
        with pytest.raises(ValueError, match="max_missing_share must be from 0 to 1"):
            Flickr(path="x", max_missing_share=share)


class TestFlickr:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("a.jpg#0\tA .\na.jpg#1 B .\n", ("line 2: 'a.jpg#1 B .' is no caption", "'image.jpg#0', a tab")),
            ("a.jpg#0\tA .\n\na.jpg\tB .\n", ("line 3:",)),
            ("a.jpg#0\tA .\na.jpg|1|B\n", ("line 2:",)),
            ("a.jpg,A cat .\n", ("line 1: 'a.jpg,A cat .'", "'image.jpg| 0| caption'")),
            ("a.jpg| 0| A .\na.jpg| B .\n", ("line 2:",)),
            ("a.jpg#0\tA .\na.jpg#0\tB .\n", ("line 2: caption 0 of the picture 'a.jpg'", "the first is in line 1")),
            ("\n\n", ("holds no caption",)),
            ("", ("token.txt is empty", "data.corpus.captions")),
        ],
    )
    def test_malformed_lines(self, content: str, expected: tuple[str, ...], tmp_path: Path, refusal: Refusal) -> None:
        write_flickr(tmp_path)
        (tmp_path / "Flickr8k.token.txt").write_text(content)
        holds(refusal(Flickr(path=str(tmp_path))), "Flickr8k.token.txt", *expected)

    def test_no_utf8(self, tmp_path: Path, refusal: Refusal) -> None:
        write_flickr(tmp_path)
        (tmp_path / "Flickr8k.token.txt").write_bytes(b"a.jpg#0\tA .\na.jpg#1\tB\xe4r .\n")
        holds(refusal(Flickr(path=str(tmp_path))), "token.txt, line 2: byte 21 of the file", r"b'\xe4'")

    def test_a_picture_listed_twice(self, tmp_path: Path, refusal: Refusal) -> None:
        write_flickr(tmp_path)
        (tmp_path / "Flickr_8k.trainImages.txt").write_text("b.jpg\na#1.jpg\nb.jpg\n")
        message = refusal(Flickr(path=str(tmp_path)))
        holds(message, "trainImages.txt, line 3: the picture 'b.jpg' is there a second time", "trainImages.txt, line 1")

    @pytest.mark.parametrize("part", ["train", "validation", "test"])
    def test_a_picture_in_two_parts(self, part: Any, tmp_path: Path, refusal: Refusal) -> None:
        """Whichever part is read: a test that only runs the test part must hear of it, too."""
        write_flickr(tmp_path)
        (tmp_path / "Flickr_8k.testImages.txt").write_text("t.jpg\nb.jpg\n")
        with (tmp_path / "Flickr_8k.devImages.txt").open("a") as file:
            file.write("b.jpg\n")
        holds(refusal(Flickr(path=str(tmp_path)), part), "share 1 pictures (b.jpg)", "must not have been trained on")

    def test_missing_files_name_those_there_are(self, tmp_path: Path, refusal: Refusal) -> None:
        write_flickr(tmp_path, {"train": {"a.jpg": ["x"]}})
        holds(refusal(Flickr(path=str(tmp_path)), "test"), "testImages.txt does not exist", "trainImages.txt")
        holds(refusal(Flickr(path=str(tmp_path), captions="x.txt")), "data.corpus.captions", "Flickr8k.token.txt")
        (tmp_path / "Flickr_8k.trainImages.txt").write_text("\n")
        holds(refusal(Flickr(path=str(tmp_path))), "lists no picture")
        holds(refusal(Flickr(path=str(tmp_path / "Flickr8k.token.txt"))), "is a file. Give the folder")
        holds(refusal(Flickr(path=str(tmp_path / "nowhere"))), "There is no file or folder")


class TestKarpathy:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"split": "dev"}, ("image 2 ('b.jpg'): 'split' is 'dev'", "Known: train, restval, val, test")),
            ({"sentences": [{"tokens": ["x"]}]}, ("('b.jpg'), sentence 1: 'raw' is missing", "'tokens'")),
            ({"sentences": "x"}, ("'sentences' is \"x\", but must be a list",)),
            ({"filename": 7}, ("image 2: 'filename' is 7, but must be text",)),
            ({"filename": "a.jpg"}, ("image 2 ('a.jpg'): the picture 'a.jpg' is there a second time", "image 1")),
            ({"filename": "a.jpg", "split": "restval"}, ("share 1 pictures (a.jpg)", "split 'train'", "'restval'")),
        ],
    )
    def test_wrong_entries(
        self, change: dict[str, Any], expected: tuple[str, ...], tmp_path: Path, refusal: Refusal
    ) -> None:
        images = [karpathy_image("a.jpg", "train", ["x"]), karpathy_image("b.jpg", "train", ["x"])]
        write_karpathy(tmp_path, images)
        (tmp_path / "dataset.json").write_text(json.dumps({"images": [images[0], images[1] | change]}))
        holds(refusal(Karpathy(path=str(tmp_path))), "dataset.json, ", *expected)

    def test_what_is_no_such_file(self, tmp_path: Path, refusal: Refusal) -> None:
        save_picture(tmp_path / "images", "a.jpg")
        for content, expected in (
            ('{"images": [\n  {"filename": }]}', ("dataset.json, line 2, column 16: no JSON",)),
            ("[]", ("holds [], but must hold a JSON object",)),
            ('{"pictures": []}', ("'images' is missing", "'pictures'")),
            ('{"images": ["a.jpg"]}', ('image 1: "a.jpg" is no JSON object', "'filename', text")),
            ('{"images": []}', ("no picture is listed", "Nothing is left in the part 'train'")),
        ):
            (tmp_path / "dataset.json").write_text(content)
            holds(refusal(Karpathy(path=str(tmp_path))), *expected)

    def test_an_empty_part(self, tmp_path: Path, refusal: Refusal) -> None:
        write_karpathy(tmp_path, [karpathy_image("a.jpg", "train", ["x"])])
        holds(refusal(Karpathy(path=str(tmp_path)), "test"), "dataset.json, test: no picture is listed", "part 'test'")


class TestCoco:
    def test_wrong_entries(self, tmp_path: Path, refusal: Refusal) -> None:
        save_picture(tmp_path / "train2017", "a.jpg")
        good: list[dict[str, Any]] = [{"id": 1, "file_name": "a.jpg"}]
        said: list[dict[str, Any]] = [{"image_id": 1, "caption": "x"}]
        for images, captions, expected in (
            (
                good,
                [*said, {"image_id": 9, "caption": "x"}],
                "annotation 2: 'image_id' is 9, which none of the 1 images",
            ),
            (good, [{"image_id": 1}], "annotation 1: 'caption' is missing"),
            (good, [{"image_id": 1, "caption": None}], "'caption' is null, but must be text"),
            ([*good, {"id": 1, "file_name": "b.jpg"}], said, "image 2 ('b.jpg'): 'id' is 1, which 'a.jpg' has"),
            (
                [*good, {"id": 2, "file_name": "a.jpg"}],
                said,
                "image 2 ('a.jpg'): the picture 'a.jpg' is there a second",
            ),
            ([{"file_name": "a.jpg"}], said, "image 1: 'id' is missing"),
        ):
            (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": captions}))
            holds(refusal(CocoCaptions(path=str(tmp_path), train="a.json")), "a.json, ", expected)

    def test_parts_in_one_folder_share_no_picture_and_parts_in_two_may_share_names(
        self, tmp_path: Path, refusal: Refusal
    ) -> None:
        for name in ("one", "two"):
            write_coco(tmp_path / f"{name}.json", {"a.jpg": ["x"], f"{name}.jpg": ["y"]})
            save_pictures(tmp_path / name, ["a.jpg", "one.jpg", "two.jpg"])
        files = {"path": str(tmp_path), "train": "one.json", "validation": "two.json", "train_images": "one"}
        assert len(CocoCaptions(**files, validation_images="two").read("validation")) == 2
        message = refusal(CocoCaptions(**files, validation_images="one"), "validation")
        holds(message, "one.json and", "two.json share 1 pictures (a.jpg)")

    def test_there_is_no_test_part_unless_one_is_named(self, tmp_path: Path, refusal: Refusal) -> None:
        holds(refusal(CocoCaptions(path=str(tmp_path)), "test"), "data.corpus.test is null", "test_images")
        with pytest.raises(ValueError, match="give both, or neither"):
            CocoCaptions(path="x", test="a.json")


class TestTable:
    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("train.csv", "image,text\na.jpg,x\n", ("line 1: column 'caption' is missing", "'text'", "caption_column")),
            ("train.csv", "image,caption\na.jpg,x\n\na.jpg,x,y\n", ("line 4: 3 fields under a header of 2", "quotes")),
            ("train.csv", 'image,caption\na.jpg,"x\ny"\na.jpg,"z\nw\n', ("line 4: unexpected end of data",)),
            ("train.csv", 'image,caption\na.jpg,"x"y\n', ("line 2:", "double the quotes")),
            ("train.csv", "image,caption,caption\na.jpg,x,y\n", ("column 'caption' is there twice",)),
            ("train.csv", "image,caption\n", ("train.csv has no rows",)),
            ("train.csv", "image,caption\n ,x\n", ("line 2: 'image' is ' ', but must be the path",)),
            ("train.tsv", "image\tcaption\na.jpg\tx\n\na.jpg\tx\ty\n", ("line 4: 3 fields", "single tabs")),
            ("train.jsonl", '{"image": "a.jpg", "caption": "x"}\n{"image": }', ("line 2, column 11: no JSON",)),
            ("train.jsonl", '["a.jpg"]', ("line 1", "is no JSON object")),
            ("train.jsonl", '{"image": "a.jpg"}', ("line 1: column 'caption' is missing",)),
            ("train.jsonl", '{"image": "a.jpg", "caption": ["x", 7]}', ("line 1: 'caption' holds '7' (int)",)),
            ("train.jsonl", '{"image": 7, "caption": "x"}', ("line 1: 'image' is 7, but must be the path",)),
            ("train.jsonl", '{"image": {"bytes": ""}, "caption": "x"}', ("HuggingFaceCaptions",)),
            (
                "train.jsonl",
                '{"image": "a.jpg", "caption": ["x"]}\n{"image": "a.jpg", "caption": "y"}',
                ("line 2: the picture 'a.jpg' is there a second time", "train.jsonl, line 1", "join them"),
            ),
            ("train.parquet", "x", ("is no Parquet file",)),
            ("train.txt", "image,caption\na.jpg,x\n", ("'.txt' are not known", "CSV (.csv)")),
        ],
    )
    def test_malformed(
        self, name: str, content: str, expected: tuple[str, ...], tmp_path: Path, refusal: Refusal
    ) -> None:
        save_picture(tmp_path / "images", "a.jpg")
        (tmp_path / name).write_text(content)
        holds(refusal(CaptionTable(path=str(tmp_path), train=name)), name, *expected)

    def test_parquet_is_checked_by_its_rows(self, tmp_path: Path, refusal: Refusal) -> None:
        save_picture(tmp_path / "images", "a.jpg")
        table = CaptionTable(path=str(tmp_path), train="a.parquet")
        pq.write_table(pa.table({"image": ["a.jpg", None], "caption": ["x", "y"]}), tmp_path / "a.parquet")
        holds(refusal(table), "a.parquet, row 2: 'image' is None")
        pq.write_table(pa.table({"image": ["a.jpg"], "caption": [1.5]}), tmp_path / "a.parquet")
        holds(refusal(table), "a.parquet, row 1: 'caption' holds '1.5' (float)", "data.corpus.caption_column")
        pq.write_table(pa.table({"image": ["a.jpg"], "text": ["x"]}), tmp_path / "a.parquet")
        holds(refusal(table), "a.parquet: column 'caption' is missing")

    def test_a_picture_in_two_parts(self, tmp_path: Path, refusal: Refusal) -> None:
        save_pictures(tmp_path / "images", ["a.jpg", "b.jpg"])
        (tmp_path / "train.csv").write_text("image,caption\na.jpg,x\na.jpg,y\nb.jpg,y\n")
        (tmp_path / "test.csv").write_text("image,caption\na.jpg,x\n")
        for part in ("train", "test"):
            message = refusal(CaptionTable(path=str(tmp_path)), part)
            holds(message, "train.csv", "test.csv", "share 1 pictures (a.jpg)")
        (tmp_path / "all.csv").write_text("image,caption,split\na.jpg,x,train\na.jpg,y,test\n")
        message = refusal(CaptionTable(path=str(tmp_path), file="all.csv"), "test")
        holds(message, "all.csv, part 'train'", "all.csv, part 'test'", "share 1 pictures (a.jpg)")

    def test_unknown_splits(self, tmp_path: Path, refusal: Refusal) -> None:
        save_pictures(tmp_path / "images", ["a.jpg", "b.jpg"])
        (tmp_path / "all.csv").write_text("image,caption,fold\na.jpg,x,train\nb.jpg,y,dev\n")
        table = {"path": str(tmp_path), "file": "all.csv", "split_column": "fold"}
        message = refusal(CaptionTable(**table))
        holds(message, "all.csv, line 3: 'fold' is 'dev'", "Known: 'train', 'validation', 'test'", "data.corpus.train")
        assert CaptionTable(**table, validation="dev").read("validation").names == ["b.jpg"]
        holds(refusal(CaptionTable(**table, validation="dev"), "test"), "Nothing is left in the part 'test'")
        holds(refusal(CaptionTable(path=str(tmp_path), file="all.csv")), "column 'split' is missing", "split_column")

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"split_column": "fold"}, "without data.corpus.file each part has a table of its own"),
            ({"train": "a.csv", "test": "a.csv"}, "train, validation and test must differ"),
            ({"caption_column": ("a", "a")}, "several different ones"),
            ({"caption_column": ()}, "must name a column"),
        ],
    )
    def test_settings_that_contradict(self, config: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            CaptionTable(path="x", **config)


class TestHuggingFace:
    def test_columns_and_splits(self, tmp_path: Path, refusal: Refusal) -> None:
        rows = {"image": ["a.jpg"], "text": ["x"], "number": [1], "name": [""]}
        Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
        config: dict[str, Any] = {"name_or_folder": str(tmp_path / "saved")}
        holds(refusal(HuggingFaceCaptions(**config)), "split 'train'", "column 'caption' is missing", "caption_column")
        config |= {"caption_column": "text"}
        holds(refusal(HuggingFaceCaptions(**config), "test"), "has no split 'test'", "There are: 'train'")
        message = refusal(HuggingFaceCaptions(**config, image_column="number"))
        holds(message, "column 'number' holds", "must hold pictures", "data.corpus.image_column")
        holds(refusal(HuggingFaceCaptions(**config)), "1 of the 1 pictures of the part 'train' are not in")
        holds(refusal(HuggingFaceCaptions(**config, name_column="name")), "row 1: 'name' is ''")
        message = refusal(HuggingFaceCaptions(**config | {"caption_column": "number"}))
        holds(message, "row 1: 'number' holds '1' (int)")

    def test_what_cannot_be_loaded(self, tmp_path: Path, refusal: Refusal) -> None:
        (tmp_path / "empty").mkdir()
        holds(refusal(HuggingFaceCaptions(name_or_folder=str(tmp_path / "empty"))), "could not be loaded")
