"""Curves of a run from its log."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from core.training.watching.learning_curves import Panel, plot_learning_curves, read_epochs

HEADER = "epoch,step,train/loss,val/bleu_lc,val/loss"
PANELS: list[Panel] = [("loss", ("train/loss", "val/loss")), ("BLEU", ("val/bleu_lc",))]


def num_colours(path: Path) -> int:
    image = matplotlib.image.imread(path)[..., :3]
    return len({tuple(colour) for colour in image.reshape(-1, 3).round(2).tolist()})


def test_the_log_of_a_resumed_run_is_in_several_files(tmp_path: Path) -> None:
    for version, rows in (
        ("version_0", "0,6,2.5,,\n0,6,,10,2\n1,9,9.0,,\n"),
        ("version_1", "1,13,1.5,,\n1,13,,20,1\n"),
    ):
        folder = tmp_path / "csv" / version
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"{HEADER}\n{rows}")
    epochs = read_epochs(tmp_path)
    assert [epochs[epoch]["train/loss"] for epoch in (0, 1)] == [2.5, 1.5]
    assert [epochs[epoch]["val/bleu_lc"] for epoch in (0, 1)] == [10, 20]


@pytest.mark.filterwarnings("error")
def test_learning_curves_need_a_log_but_no_validation(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "curves.png"
    assert not plot_learning_curves(tmp_path, path, panels=PANELS)
    assert not path.exists()
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("epoch,step,train/loss\n0,6,2.5\n")
    assert plot_learning_curves(tmp_path, path, panels=PANELS)
    assert num_colours(path) > 20
