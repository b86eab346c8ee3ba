"""What a run leaves behind: translations that can be read again, and pictures with something in them."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import pytest

from apps.translation.metrics import translation_metrics
from apps.translation.plots import plot_bleu_by_length
from apps.translation.report import feed_forward_baseline, report
from core.training.command.finished_run import FinishedRun
from core.training.watching.figures import COLOURS
from tests.apps.translation.conftest import MakeModule
from tests.contracts.applications.translation import TRANSLATION

pytestmark = pytest.mark.usefixtures("as_shipped")

HEADER = "epoch,step,train/loss,val/bleu_lc,val/loss"


def finished(folder: Path, run_dir: Path, make_module: MakeModule, *, variant: str, baseline: bool) -> FinishedRun:
    """A run on the contracts' corpus whose translations are the references, word by word in the opposite order."""
    data = TRANSLATION.make(folder, variant=variant).data
    data.setup("test")
    references = data.references("test")
    run = FinishedRun(make_module(variant), data, run_dir, {"bleu_lc": 12.5, "loss": 1.5})
    reversed_words = [" ".join(reversed(reference.split())) for reference in references]
    run.module.translations = dict(enumerate(reversed_words))
    if baseline:
        run.baseline = feed_forward_baseline(run.module)
        run.baseline.translations = dict.fromkeys(range(len(references)), "\u2028la casa")
        run.baseline_metrics = {"bleu_lc": 3.0}
    return run


def colours_in(path: Path) -> int:
    image = matplotlib.image.imread(path)[..., :3]
    return len({tuple(colour) for colour in image.reshape(-1, 3).round(2).tolist()})


@pytest.mark.parametrize(("variant", "baseline"), [("after", True), ("fixed", False)])
def test_a_report_has_translations_and_pictures(
    folder: Path,
    tmp_path: Path,
    make_module: MakeModule,
    capsys: pytest.CaptureFixture[str],
    variant: str,
    baseline: bool,
) -> None:
    log = tmp_path / "csv" / "version_0" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text(f"{HEADER}\n0,6,2.5,,\n0,6,,10.5,2.25\n1,13,1.5,,\n1,13,,20.5,1.25\n")
    run = finished(folder, tmp_path, make_module, variant=variant, baseline=baseline)
    report(run)
    said = capsys.readouterr().out
    assert "recurrent network" in said
    assert "12.5" in said
    assert ("feed-forward network" in said) == baseline
    rows = [json.loads(line) for line in (tmp_path / "test_translations.jsonl").read_text().split("\n")[:-1]]
    assert [row["source"] for row in rows] == run.data.sources("test")
    assert [row["reference"] for row in rows] == run.data.references("test")
    assert [row["ours"] for row in rows] == list(run.module.translations.values())
    assert {row.get("feed_forward") for row in rows} == ({"\u2028la casa"} if baseline else {None})
    # A network that attends to nothing has no heat map.
    pictures = {"bleu_by_length.png", "learning_curves.png"} | ({"attention.png"} if variant == "after" else set())
    assert {path.name for path in (tmp_path / "plots").iterdir()} == pictures
    for name in pictures:
        assert colours_in(tmp_path / "plots" / name) > 20, name


def test_each_translation_stands_beside_its_own_sentence(folder: Path, tmp_path: Path, make_module: MakeModule) -> None:
    """Under trainer.limit_test_batches any of them are tested: of a token budget, the shortest."""
    run = finished(folder, tmp_path, make_module, variant="after", baseline=True)
    assert run.baseline is not None
    tested = (1, 4, 5)
    for module in (run.module, run.baseline):
        module.translations = {row: f"translation {row}" for row in tested}
    (tmp_path / "csv" / "version_0").mkdir(parents=True)
    (tmp_path / "csv" / "version_0" / "metrics.csv").write_text(f"{HEADER}\n0,6,2.5,,\n0,6,,10.5,2.25\n")
    report(run)
    rows = [json.loads(line) for line in (tmp_path / "test_translations.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == [run.data.sources("test")[row] for row in tested]
    assert [row["reference"] for row in rows] == [run.data.references("test")[row] for row in tested]
    assert (
        [row["ours"] for row in rows] == [row["feed_forward"] for row in rows] == [f"translation {n}" for n in tested]
    )


def test_the_baseline_shares_what_makes_it_comparable(make_module: MakeModule) -> None:
    module = make_module("after")
    baseline = feed_forward_baseline(module)
    assert (baseline.loss_mean, baseline.label_smoothing, baseline.seed) == ("token", 0.1, 3)
    assert baseline.search == baseline.validation_search == module.validation_search


def test_bars_are_as_high_as_the_bleu(tmp_path: Path) -> None:
    def pixels(*bleu: float) -> list[int]:
        path = tmp_path / "bars.png"
        bins = [("1-5", 4, 100.0), ("> 5", 2, 50.0)]
        plot_bleu_by_length({"a": bins, "b": [("1-5", 4, bleu[0]), ("> 5", 2, bleu[1])]}, path, title="demo")
        image = matplotlib.image.imread(path)[..., :3]
        wanted = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in COLOURS[:2]]
        return [int((abs(image - colour).max(axis=-1) < 0.08).sum()) for colour in wanted]

    (first, low), (again, high) = pixels(10.0, 20.0), pixels(30.0, 60.0)
    assert abs(first - again) < 200
    assert high > 2.5 * low > 500


def test_measured_and_reported_translations_are_the_same(folder: Path, make_module: MakeModule) -> None:
    """Metrics are of the rows in their order, whatever order they came in."""
    data = TRANSLATION.make(folder, variant="after").data
    data.setup("test")
    module = make_module("after")
    module.trainer = type("Trainer", (), {"datamodule": data})()  # type: ignore[assignment]
    references = data.references("test")
    rows = {row: references[row] if row else "la" for row in (2, 0, 5)}
    found = module.metrics_of_rows(dict(sorted(rows.items())), part="test")
    assert module.translations == {row: rows[row] for row in (0, 2, 5)}
    assert found == translation_metrics(list(module.translations.values()), [references[row] for row in (0, 2, 5)])
