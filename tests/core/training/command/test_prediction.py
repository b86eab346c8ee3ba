"""What is told while files are predicted, and what of those that cannot be read."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from core.training.command.prediction import check_output, progress_bar, rounding, told_problems


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_is_no_output(tmp_path: Path, overwrite: bool) -> None:
    """And a file that is there is replaced only if asked for."""
    with pytest.raises(ValueError, match=r"--output .* is a folder\. Name a file in it\."):
        check_output(str(tmp_path), "--output", overwrite=overwrite)
    there = tmp_path / "there.txt"
    there.touch()
    with contextlib.nullcontext() if overwrite else pytest.raises(ValueError, match=r"there\.txt exists\. Choose"):
        check_output(str(there), "--output", overwrite=overwrite)
    check_output("-", "--output", overwrite=overwrite)
    check_output(str(tmp_path / "new.txt"), "--output", overwrite=overwrite)


class Screen(io.StringIO):
    """Standard error that may be a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, True), (True, False), (False, True)])
def test_a_bar_moves_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, shown: bool) -> None:
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bar(3, unit="line", shown=shown) as count:
        for _ in range(3):
            count()
    assert ("3/3" in screen.getvalue()) == (is_terminal and shown)
    assert bool(screen.getvalue()) == (is_terminal and shown)


def test_a_bar_ends_its_line_where_something_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the message would stand behind it."""
    screen = Screen(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)

    def goes_wrong() -> None:
        with progress_bar(3, unit="line", shown=True) as count:
            count()
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        goes_wrong()
    assert screen.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("number", "listed", "said"),
    [
        (0, 0, ""),
        (2, 2, " 2 could not be read and are skipped."),
        (21, 20, " 21 could not be read and are skipped. The first 20 are listed above."),
    ],
)
def test_problems_are_named_and_counted(
    number: int, listed: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told_problems([f"file {place} is broken" for place in range(number)]) == said
    assert capsys.readouterr().err.splitlines() == [f"file {place} is broken" for place in range(listed)]


def test_predictions_are_rounded_where_it_is_asked_for() -> None:
    """Autocast leaves float64 alone, so that such weights become float32."""
    module = pl.LightningModule()
    module.layer = torch.nn.Linear(3, 2).double()
    with rounding(None, module):
        assert module.layer(torch.zeros(1, 3, dtype=torch.float64)).dtype == torch.float64
    with rounding("bf16-mixed", module):
        assert module.layer(torch.zeros(1, 3)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"--precision must be bf16-mixed, or left out .*, got fp16\."):
        rounding("fp16", module)
