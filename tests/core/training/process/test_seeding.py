"""What a step draws follows from its position, as `torch.manual_seed` would have it."""

from __future__ import annotations

import pytest
import torch

from core.training.process.seeding import seed_from, seed_step


@pytest.mark.parametrize("position", [(0, 0, 0), (3, 1, 2), (10_000, 0, 7)])
def test_a_step_draws_what_torch_would_draw_from_its_seed(position: tuple[int, int, int]) -> None:
    epoch, batch, piece = position
    seed_step(5, epoch=epoch, batch=batch, piece=piece)
    drawn = torch.rand(4), torch.randint(9, (4,))
    torch.manual_seed(seed_from("step", 5, epoch, batch, piece, 0))
    assert all(map(torch.equal, drawn, (torch.rand(4), torch.randint(9, (4,)))))


def test_gpus_that_are_used_are_seeded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch, "manual_seed", seen.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    seed_step(1, epoch=0, batch=0, piece=0)
    assert seen == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seed_step(1, epoch=0, batch=0, piece=0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    seed_step(2, epoch=0, batch=0, piece=0)
    assert seen == [seed_from("step", seed, 0, 0, 0, 0) for seed in (1, 2)]
