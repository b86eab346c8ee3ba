"""What a finished run of captioning leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import pytest

from apps.captioning.module import CaptioningModule
from apps.captioning.report import report
from apps.captioning.scores import caption_metrics
from core.training.command.finished_run import FinishedRun
from data.captioning import CaptioningData
from data.captions.reading import Karpathy
from data.images.transforms import ImageTransform
from data.text import Words
from tests.contracts.applications.captioning import CAPTIONING, IMAGES


def num_colours(path: Path) -> int:
    image = matplotlib.image.imread(path)[..., :3]
    return len({tuple(colour) for colour in image.reshape(-1, 3).round(2).tolist()})


@pytest.mark.parametrize("variant", ["attend", "tell"])
def test_a_report_has_captions_and_pictures(variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = CAPTIONING.make(tmp_path, variant=variant)
    data, module = run.data, run.module
    assert isinstance(data, CaptioningData)
    assert isinstance(module, CaptioningModule)
    data.setup("test")
    module.build(data.preprocessing())
    references = data.references("test")
    captions = [some[0] for some in references]
    module.captions = dict(enumerate(captions))
    metrics = caption_metrics(captions, references)
    report(FinishedRun(module, data, tmp_path / "run", metrics))
    assert "cider_d" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "run" / "test_captions.jsonl").read_text().splitlines()]
    assert len(lines) == IMAGES["test"]
    assert [line["references"] for line in lines] == references
    assert [line["ours"] for line in lines] == captions
    pictures = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
    attention = {"attention_1.png", "attention_2.png", "attention_3.png"}
    assert pictures == {"contact_sheet.png"} | (attention if variant == "attend" else set())
    for name in pictures:
        assert num_colours(tmp_path / "run" / "plots" / name) > 20, name


def test_each_caption_stands_beside_its_own_image(tmp_path: Path) -> None:
    """Under trainer.limit_test_batches any of the images are tested, not the first ones alone."""
    run = CAPTIONING.make(tmp_path, variant="tell")
    assert isinstance(run.data, CaptioningData)
    assert isinstance(run.module, CaptioningModule)
    run.data.setup("test")
    run.module.build(run.data.preprocessing())
    tested, references = (1, 3), run.data.references("test")
    run.module.captions = {row: references[row][0] for row in tested}
    metrics = caption_metrics(list(run.module.captions.values()), [references[row] for row in tested])
    report(FinishedRun(run.module, run.data, tmp_path / "run", metrics))
    lines = [json.loads(line) for line in (tmp_path / "run" / "test_captions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [run.data.captions("test").names[row] for row in tested]
    assert [line["references"] for line in lines] == [references[row] for row in tested]
    assert [line["ours"] for line in lines] == [references[row][0] for row in tested]


def test_captions_of_scenes_are_checked(tmp_path: Path) -> None:
    """The share of captions that are true, counted over the test part."""
    data = CaptioningData(
        Karpathy(path="demo/scenes"),
        text=Words(min_frequency=1, tokeniser="unpunctuated"),
        transform=ImageTransform(size=64, fit="stretch"),
        batch_size=8,
    )
    data.setup("test")
    module = CAPTIONING.make(tmp_path).module
    assert isinstance(module, CaptioningModule)
    module.trainer = type("Trainer", (), {"datamodule": data})()  # type: ignore[assignment]
    references = data.references("test")
    rows = {row: references[row][row % 5] for row in range(40)}
    assert module.metrics_of_rows(rows, part="test")["true"] == 1.0
    wrong = {**rows, 3: "a dog", 8: ""}
    assert module.metrics_of_rows(wrong, part="test")["true"] == 38 / 40
