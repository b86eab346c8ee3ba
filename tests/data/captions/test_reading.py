"""Every form of a corpus gives the same pictures and captions, as they were written."""

from __future__ import annotations

import csv
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.captions.reading import (
    PARTS,
    CaptionCorpus,
    CaptionCorpusConfig,
    CaptionTable,
    CocoCaptions,
    Flickr,
    HuggingFaceCaptions,
    ImageProblem,
    Karpathy,
    Part,
)
from data.paths import find_data
from tests.data.captions.conftest import (
    ALL,
    TRAIN,
    Said,
    check_pictures,
    karpathy_image,
    save_pictures,
    write_coco,
    write_flickr,
    write_karpathy,
)

KARPATHY: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}


def written(form: str, folder: Path) -> CaptionCorpusConfig:
    """The corpus of conftest in some form."""
    path = str(folder)
    match form:
        case "token":
            write_flickr(folder)
            return Flickr(path=path)
        case "pipe":
            write_flickr(folder, form="pipe")
            return Flickr(path=path)
        case "karpathy":
            write_karpathy(
                folder,
                [
                    karpathy_image(name, KARPATHY[part], captions)
                    for part, said in ALL.items()
                    for name, captions in said.items()
                ],
            )
            return Karpathy(path=path)
        case "coco":
            for part, said in ALL.items():
                write_coco(folder / "annotations" / f"{part}.json", said)
                save_pictures(folder / part, list(said))
            files: dict[str, Any] = {part: f"annotations/{part}.json" for part in PARTS}
            return CocoCaptions(path=path, **files, **{f"{part}_images": part for part in PARTS})
        case "saved" | "saved files" | "saved names":
            return HuggingFaceCaptions(name_or_folder=path, **write_saved(folder, form))
    return write_tables(folder, form)


def write_saved(folder: Path, form: str) -> dict[str, str]:
    kept = folder.parent / "pictures"
    splits = {}
    for part, said in ALL.items():
        save_pictures(kept, list(said))
        files = [kept / name for name in said]
        rows: dict[str, list[Any]] = {"image": [str(file) for file in files], "caption": list(said.values())}
        kinds = {"image": ImageFeature(), "caption": List(Value("string"))}
        if form != "saved files":
            rows["image"] = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        if form == "saved names":
            rows = {
                "image": [image for image, of in zip(rows["image"], said.values(), strict=True) for _ in of],
                "caption": [caption for of in said.values() for caption in of],
                "file": [name for name, of in said.items() for _ in of],
            }
            kinds = {"image": ImageFeature(), "caption": Value("string"), "file": Value("string")}
        splits[part] = Dataset.from_dict(rows, features=Features(kinds))
    DatasetDict(splits).save_to_disk(folder)
    return {"name_column": "file"} if form == "saved names" else {}


def write_tables(folder: Path, form: str) -> CaptionTable:
    """As csv (a caption a row), jsonl list (a row a picture) or csv one file (all parts in one)."""
    ending, _, how = form.partition(" ")
    tables: dict[str, list[dict[str, Any]]] = {}
    for part, said in ALL.items():
        save_pictures(folder / "images", list(said))
        for name, captions in said.items():
            several = how == "list"
            for caption in [captions] if several else captions:
                row = {"caption": caption, "split": part, "image": name}
                tables.setdefault("all" if how == "one file" else part, []).append(row)
    for name, rows in tables.items():
        file = folder / f"{name}.{ending}"
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
        elif ending == "jsonl":
            file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        elif ending == "tsv":
            lines = ["\t".join(row) for row in [list(rows[0]), *(list(row.values()) for row in rows)]]
            file.write_bytes("\n".join(lines).encode())
        else:
            with file.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(rows[0])
                writer.writerows(row.values() for row in rows)
    if how == "one file":
        return CaptionTable(path=str(folder), file=f"all.{ending}")
    return CaptionTable(path=str(folder), **{part: f"{part}.{ending}" for part in PARTS})


FORMS = [
    *("token", "pipe", "karpathy", "coco", "saved", "saved files", "saved names"),
    *("csv", "csv one file", "tsv", "jsonl", "jsonl list", "parquet", "parquet list", "parquet one file"),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    config = written(form, folder)
    capsys.readouterr()
    for part, said in ALL.items():
        corpus = config.read(part, cache_dir=str(tmp_path / "cache"))
        # The bar form has white space before a caption, which therefore cannot begin with one.
        expected = [[text.lstrip() if form == "pipe" else text for text in captions] for captions in said.values()]
        assert corpus.captions == expected
        # Data sets that refer to files keep their whole paths.
        found = [Path(name).name for name in corpus.names] if form == "saved files" else corpus.names
        assert found == list(said)
        assert corpus.extras is None
        assert len(corpus) == len(said)
        check_pictures(corpus, list(said))
        check_pictures(pickle.loads(pickle.dumps(corpus)), list(said))
    assert capsys.readouterr().err == ""


words = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(captions=st.lists(words.filter(str.strip), min_size=1, max_size=4))
def test_captions_are_read_as_they_are_written(captions: list[str], tmp_path: Path) -> None:
    """Tabs, bars, quotes and whatever else: nothing is normalised, stripped or taken for a separator."""
    for form in ("token", "karpathy", "coco", "csv", "jsonl"):
        folder = tmp_path / form
        folder.mkdir(exist_ok=True)
        said: Said = {"a.jpg": captions}
        config: CaptionCorpusConfig
        if form == "token":
            write_flickr(folder, {"train": said})
            config = Flickr(path=str(folder))
        elif form == "karpathy":
            write_karpathy(folder, [karpathy_image("a.jpg", "train", captions)])
            config = Karpathy(path=str(folder))
        elif form == "coco":
            write_coco(folder / "a.json", said)
            save_pictures(folder / "train2017", ["a.jpg"])
            config = CocoCaptions(path=str(folder), train="a.json")
        else:
            save_pictures(folder / "images", ["a.jpg"])
            if form == "csv":
                with (folder / "train.csv").open("w", encoding="utf-8", newline="") as stream:
                    csv.writer(stream).writerows([["image", "caption"], *(["a.jpg", text] for text in captions)])
            else:
                (folder / "train.jsonl").write_text(json.dumps({"image": "a.jpg", "caption": captions}))
            config = CaptionTable(path=str(folder), train=f"train.{form}")
        assert config.read("train").captions == [captions]


class TestFlickr:
    def test_captions_stand_in_the_order_of_their_numbers_and_pictures_in_that_of_the_list(
        self, tmp_path: Path
    ) -> None:
        write_flickr(tmp_path)
        lines = ["b.jpg#1\tsecond", "ü x.jpg#0\tother", "b.jpg#0\tfirst"]
        (tmp_path / "Flickr8k.token.txt").write_text("\n".join(lines), encoding="utf-8")
        (tmp_path / "Flickr_8k.trainImages.txt").write_text("ü x.jpg\r\nb.jpg\r\n", encoding="utf-8")
        corpus = Flickr(path=str(tmp_path)).read("train")
        assert corpus.names == ["ü x.jpg", "b.jpg"]
        assert corpus.captions == [["other"], ["first", "second"]]

    def test_lists_without_endings(self, tmp_path: Path) -> None:
        """Flickr30k's lists name its pictures without .jpg."""
        write_flickr(tmp_path)
        (tmp_path / "Flickr_8k.trainImages.txt").write_text("b\na#1\n")
        corpus = Flickr(path=str(tmp_path)).read("train")
        assert corpus.names == ["b.jpg", "a#1.jpg"]
        check_pictures(corpus, corpus.names)

    def test_the_line_of_flickr30k_that_lacks_a_bar(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_flickr(tmp_path, {"train": {"b.jpg": ["x"]}})
        (tmp_path / "Flickr8k.token.txt").write_text("b.jpg| 0| A cat .\nb.jpg| 1   A dog runs .\n")
        assert Flickr(path=str(tmp_path)).read("train").captions == [["A cat .", "A dog runs ."]]
        assert "1 lines lack the bar" in capsys.readouterr().err

    def test_parts_can_do_without_each_other(self, tmp_path: Path) -> None:
        write_flickr(tmp_path, {"test": ALL["test"]})
        assert Flickr(path=str(tmp_path)).read("test").names == list(ALL["test"])

    def test_pictures_in_no_list_are_counted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_flickr(tmp_path)
        with (tmp_path / "Flickr8k.token.txt").open("a") as file:
            file.write("odd.jpg.1#0\tA cat .\n")
        Flickr(path=str(tmp_path)).read("validation")
        assert capsys.readouterr().err == ""
        Flickr(path=str(tmp_path)).read("train")
        assert "1 pictures with captions are in no list" in capsys.readouterr().err


class TestKarpathy:
    def test_restval_is_for_training(self, tmp_path: Path) -> None:
        """113,287 pictures of COCO to train on, as papers do, are 82,783 and restval."""
        splits = {"r.jpg": "restval", "a.jpg": "train", "v.jpg": "val", "s.jpg": "restval", "t.jpg": "test"}
        write_karpathy(tmp_path, [karpathy_image(name, split, [name]) for name, split in splits.items()])
        assert Karpathy(path=str(tmp_path)).read("train").names == ["a.jpg", "r.jpg", "s.jpg"]
        assert Karpathy(path=str(tmp_path), restval=False).read("train").names == ["a.jpg"]
        assert Karpathy(path=str(tmp_path)).read("validation").names == ["v.jpg"]

    def test_folders_in_the_folder(self, tmp_path: Path) -> None:
        images = [karpathy_image("a.jpg", "train", ["x"], filepath=folder) for folder in ("train2014", "val2014")]
        write_karpathy(tmp_path, images)
        assert Karpathy(path=str(tmp_path)).read("train").names == ["train2014/a.jpg", "val2014/a.jpg"]

    def test_whatever_else_it_says_is_kept(self, tmp_path: Path) -> None:
        images = [
            karpathy_image("a.jpg", "train", ["x"], scene={"objects": [1, 2]}, unseen=True),
            karpathy_image("gone.jpg", "train", ["x"], scene="none"),
            karpathy_image("b.jpg", "train", ["x"]),
        ]
        write_karpathy(tmp_path, images)
        (tmp_path / "images" / "gone.jpg").unlink()
        corpus = Karpathy(path=str(tmp_path), max_missing_share=0.5).read("train")
        assert corpus.names == ["a.jpg", "b.jpg"]
        assert corpus.extras == [{"scene": {"objects": [1, 2]}, "unseen": True}, {}]


class TestHuggingFace:
    def test_several_columns_of_captions(self, tmp_path: Path) -> None:
        save_pictures(tmp_path / "p", ["a.png"])
        rows = {"image": [str(tmp_path / "p/a.png")], "caption_0": ["A ."], "caption_1": ["B ."]}
        Dataset.from_dict(rows, features=Features(
            {"image": ImageFeature(), "caption_0": Value("string"), "caption_1": Value("string")}
        )).save_to_disk(tmp_path / "saved")  # fmt: skip
        config = HuggingFaceCaptions(name_or_folder=str(tmp_path / "saved"), caption_column=("caption_0", "caption_1"))
        assert config.read("train").captions == [["A .", "B ."]]

    @pytest.mark.parametrize("kind", ["bytes", "paths", "struct"])
    def test_columns_that_do_not_say_they_hold_pictures(self, kind: str, tmp_path: Path) -> None:
        """Parquet written by anything but `datasets`."""
        save_pictures(tmp_path / "p", ["a.png", "bb.png"])
        files = [tmp_path / "p/a.png", tmp_path / "p/bb.png"]
        values: dict[str, list[Any]] = {
            "bytes": [file.read_bytes() for file in files],
            "paths": [str(file) for file in files],
            "struct": [{"bytes": file.read_bytes(), "path": None} for file in files],
        }
        (tmp_path / "d").mkdir()
        pq.write_table(pa.table({"image": values[kind], "caption": ["A .", "B ."]}), tmp_path / "d/train.parquet")
        config = HuggingFaceCaptions(name_or_folder=str(tmp_path / "d"))
        corpus = config.read("train", cache_dir=str(tmp_path / "cache"))
        check_pictures(corpus, ["a.png", "bb.png"])
        assert corpus.names == (values["paths"] if kind == "paths" else ["1", "2"])

    def test_a_folder_of_pictures_with_metadata(self, tmp_path: Path) -> None:
        """The form that the hub recommends: file_name and further columns in metadata.jsonl."""
        save_pictures(tmp_path / "d/train", ["a.png", "bb.png"])
        rows = [{"file_name": name, "text": f"on {name}"} for name in ("bb.png", "a.png")]
        (tmp_path / "d/train/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        config = HuggingFaceCaptions(name_or_folder=str(tmp_path / "d"), caption_column="text")
        corpus = config.read("train", cache_dir=str(tmp_path / "cache"))
        names = [Path(name).name for name in corpus.names]
        assert sorted(names) == ["a.png", "bb.png"]
        assert corpus.captions == [[f"on {name}"] for name in names]
        check_pictures(corpus, names)

    def test_nothing_is_decoded_until_it_is_asked_for(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Rows without a picture are left out unseen; one with broken bytes is found when it is read."""
        images = [{"bytes": b"broken", "path": "a.jpg"}, {"bytes": None, "path": "gone.jpg"}, None]
        (tmp_path / "d").mkdir()
        pq.write_table(pa.table({"image": images, "caption": ["x"] * 3}), tmp_path / "d/train.parquet")
        config = HuggingFaceCaptions(name_or_folder=str(tmp_path / "d"), max_missing_share=0.9)
        corpus = config.read("train", cache_dir=str(tmp_path / "cache"))
        assert corpus.names == ["1"]
        assert "2 that are not in" in capsys.readouterr().err
        with pytest.raises(ImageProblem, match=r"split 'train', row 1 \(a\.jpg\) is no picture"):
            corpus.load(0)


class TestIdentity:
    def test_of_a_file_it_changes_with_the_file_and_not_with_the_place(self, tmp_path: Path) -> None:
        """Keys of a cache: a copied corpus is the same one, a changed picture is another."""
        write_flickr(tmp_path / "one")
        before = Flickr(path=str(tmp_path / "one")).read("train")
        identities = [before.identity(row) for row in range(len(before))]
        assert len(set(identities)) == len(identities)
        (tmp_path / "one").rename(tmp_path / "two")
        after = Flickr(path=str(tmp_path / "two")).read("train")
        assert [after.identity(row) for row in range(len(after))] == identities
        os.utime(tmp_path / "two/images/b.jpg", (1, 1))
        assert after.identity(0) != identities[0]
        assert after.identity(1) == identities[1]

    def test_of_bytes_it_is_their_hash(self, tmp_path: Path) -> None:
        corpora = []
        for name in ("one", "two"):
            (tmp_path / name / "c").mkdir(parents=True)
            corpora.append(written("saved", tmp_path / name / "c").read("train"))
        found = [[corpus.identity(row) for row in range(3)] for corpus in corpora]
        assert found[0] == found[1]
        assert len(set(found[0])) == 3

    def test_a_file_that_is_gone_or_broken_is_named(self, tmp_path: Path) -> None:
        write_flickr(tmp_path)
        corpus = Flickr(path=str(tmp_path)).read("train")
        (tmp_path / "images/b.jpg").write_bytes(b"\xff\xd8\xff\xe0broken")
        with pytest.raises(ImageProblem, match=r"images/b\.jpg is "):
            corpus.load(0)
        (tmp_path / "images/b.jpg").unlink()
        for read in (corpus.load, corpus.identity):
            with pytest.raises(ValueError, match=r"images/b\.jpg cannot be read: No such file"):
                read(0)


def test_the_fingerprint_is_of_names_and_captions(tmp_path: Path) -> None:
    def fingerprint(said: Said) -> str:
        write_flickr(tmp_path, {"train": said})
        return Flickr(path=str(tmp_path)).read("train").fingerprint

    said: Said = {"a.jpg": ["x y", "z"], "b.jpg": ["z"]}
    assert fingerprint(said) == fingerprint(dict(said))
    others: list[Said] = [
        {"a.jpg": ["x y"], "b.jpg": ["z", "z"]},
        {"a.jpg": ["x", "y z"], "b.jpg": ["z"]},
        {"b.jpg": ["z"], "a.jpg": ["x y", "z"]},
        {"c.jpg": ["x y", "z"], "b.jpg": ["z"]},
    ]
    assert len({fingerprint(said), *map(fingerprint, others)}) == 5


def test_train_is_what_conftest_says() -> None:
    """The forms above test little if the captions are harmless."""
    text = "".join(caption for captions in TRAIN.values() for caption in captions)
    assert all(mark in text for mark in '"|,#\u2028\x85')


class TestRealData:
    @pytest.fixture
    def flickr8k(self) -> Flickr:
        try:
            find_data("flickr8k")
        except ValueError as missing:
            pytest.skip(f"needs flickr8k under UNROLL_DATA: {missing}")
        return Flickr(path="flickr8k")

    @pytest.mark.parametrize(("part", "number"), [("train", 6000), ("validation", 1000), ("test", 1000)])
    def test_flickr8k(self, flickr8k: Flickr, part: Part, number: int) -> None:
        """The official parts: five captions a picture."""
        corpus: CaptionCorpus = flickr8k.read(part)
        assert len(corpus) == number
        assert {len(captions) for captions in corpus.captions} == {5}
        rows = np.linspace(0, number - 1, 5).astype(int).tolist()
        assert all(corpus.load(row).ndim == 3 for row in rows)
