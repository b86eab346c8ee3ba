"""Where a number stopped being finite is found, and said (notes N11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from core.nn.recurrent import Recurrent, RecurrentConfig
from core.training.checkpoints.files import read_checkpoint
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.non_finite import FiniteGuard, locate_in_backward, locate_in_forward
from tests.contracts.streaming import STREAMING


class Logarithm(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.log()


class Network(nn.Module):
    """Features, a recurrent layer, and a head; masked scores beside them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
        self.recurrent = Recurrent(RecurrentConfig(kind="rnn_relu", hidden_size=4), input_size=5)
        self.masked = Logarithm()
        self.head = nn.Linear(4, 1)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        self.masked(torch.zeros(2))  # minus infinity, as masks have it
        outputs, _ = self.recurrent(self.features(inputs), lengths)
        return self.head(outputs)


LENGTHS = torch.tensor([9, 6])


def forward(network: Network, inputs: Tensor) -> str:
    return locate_in_forward(network, lambda: network(inputs, LENGTHS).sum(), prefix="network")


def test_the_first_module_and_time_step_are_named() -> None:
    network = Network()
    inputs = torch.randn(2, 9, 3)
    hook = network.features.register_forward_hook(
        lambda *given: given[-1].index_put((torch.tensor(1), torch.tensor(4)), torch.tensor(3e38))
    )
    with torch.no_grad():
        network.recurrent.weight_ih_l0.fill_(1.0)
    assert forward(network, inputs) == (
        "First non-finite output: network.recurrent, time step 4 of example 1 of the piece (counted from 0)."
    )
    hook.remove()
    inputs[1, 2, 0] = torch.nan
    said = forward(network, inputs)
    assert said.startswith("First non-finite output: network.features.0, at [1, 2, 0] of shape (2, 9, 5)")
    assert "inputs are not finite either" in said


def test_what_stands_in_the_padding_is_not_blamed() -> None:
    network = Network()
    inputs = torch.randn(2, 9, 3)
    overflowing = network.head.register_forward_hook(lambda *given: given[-1] * 1e38 * 1e38)
    with torch.no_grad():
        network.head.bias.fill_(1.0)
        network.head.weight.zero_()
    assert forward(network, inputs).startswith("First non-finite output: network.head, at [0, 0, 0]")
    overflowing.remove()
    said = locate_in_forward(network, lambda: network(inputs, LENGTHS).sum() * torch.nan, prefix="network")
    assert "The outputs of all modules are finite" in said
    assert "does not repeat itself" in forward(network, inputs)


def test_weights_that_are_lost_already_are_named() -> None:
    network = Network()
    with torch.no_grad():
        network.head.bias.fill_(torch.nan)
    assert forward(network, torch.randn(2, 9, 3)) == "The weights are not finite themselves: network.head.bias."


class RootAtZero(nn.Module):
    """A finite value whose gradient is not."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, outputs: Tensor) -> Tensor:
        keep = torch.ones(outputs.shape[1]).index_fill(0, torch.tensor(self.step), 0.0)
        return (outputs * keep.view(1, -1, 1)).square().sum(-1).sqrt()


def test_the_way_back_is_searched_for_the_first_gradient_that_is_not_finite() -> None:
    network = Network()
    with torch.no_grad():
        for name, value in (("weight_ih_l0", 0.0), ("weight_hh_l0", 0.1), ("bias_ih_l0", 1.0)):
            getattr(network.recurrent, name).fill_(value)  # no unit is at rest
    inputs = torch.randn(2, 9, 3)
    root = RootAtZero(5)

    def loss() -> Tensor:
        outputs, _ = network.recurrent(network.features(inputs), torch.tensor([9, 9]))
        return root(outputs).sum()

    assert loss().isfinite()
    said = locate_in_backward(network, loss, prefix="network")
    assert said.startswith("First non-finite gradient on the way back: at the output of network.recurrent, time step 5")
    assert all(parameter.grad is None for parameter in network.parameters())
    finite = locate_in_backward(network, lambda: network(inputs, LENGTHS).sum(), prefix="network")
    assert "the gradient of this piece is finite" in finite
    said = locate_in_backward(
        network, lambda: network.head.bias.sum() * 0 + (network.head.bias * 0).sqrt().sum(), prefix="n"
    )
    assert said == "The gradients of all outputs are finite, those of these weights are not: n.head.bias."


def test_the_guard_searches_once_and_forgets_what_was_asked() -> None:
    guard, calls = FiniteGuard(), []

    def locate() -> str:
        calls.append(1)
        return "there"

    assert guard.finite_since()
    guard.see(torch.ones(3), locate=locate)
    assert guard.finite_since()
    guard.see(torch.tensor([1.0, torch.inf]), locate=locate)
    guard.see(torch.ones(()), locate=locate)
    guard.see(torch.tensor(torch.nan), locate=locate)
    assert calls == [1]
    assert guard.where == "there"
    assert not guard.finite_since()
    assert guard.finite_since()


# In a run -------------------------------------------------------------------------------------------------------------


def _fit(folder: Path, spoil: Any, **settings: Any) -> None:
    run = STREAMING.make(folder, dropout=0.3)
    checkpoints = RunCheckpoints(folder, config=CheckpointConfig(every_n_steps=1, every_minutes=None))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=str(folder), callbacks=[checkpoints, spoil], **settings,
    )  # fmt: skip
    trainer.fit(run.module, datamodule=run.data)


class SpoilInput(pl.Callback):
    """A measurement that is not a number, at one step of a chunk in the middle of its stream."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 5:
            row = list(batch.chunk.starts).index(False)
            batch.inputs[row, 3] = torch.nan


class SpoilGradient(pl.Callback):
    """A finite loss with a gradient that is not, which would make the weights not finite at once."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 5:
            network = pl_module.network
            network.head.register_forward_hook(lambda module, inputs, outputs: outputs + _root(inputs[0]))


def _root(outputs: Tensor) -> Tensor:
    step = torch.arange(outputs.shape[1]) == 2
    return (outputs.sum(-1, keepdim=True) * ~step.view(1, -1, 1)).square().sqrt() * 1e-3


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}], ids=["plain", "accumulated"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (SpoilInput(), r"First non-finite output: network\.recurrent, time step 3 of example \d of the piece.*, whose"),
        (SpoilGradient(), r"on the way back: at the output of network\.recurrent, time step 2"),
    ],
    ids=["input", "gradient"],
)
def test_a_run_says_where_it_diverged(spoil: pl.Callback, said: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Found with the state that the chunk began with and its dropout; no checkpoint holds what is not finite."""
    with pytest.raises(ValueError, match="no longer finite") as raised:
        _fit(tmp_path, spoil, log_every_n_steps=1000, **settings)
    assert raised.match(said)
    stored = read_checkpoint(tmp_path / "last.ckpt")
    assert stored["global_step"] == 5 // settings.get("accumulate_grad_batches", 1)
    assert all(value.isfinite().all() for value in stored["state_dict"].values())


class Again(pl.Callback):
    """Computes each piece a second time."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, float]] = []

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        before = torch.get_rng_state(), str(pl_module.training_states.state_dict())
        self.losses.append((self.first, float(pl_module._loss_again().detach())))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert str(pl_module.training_states.state_dict()) == before[1]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        self.first = float(loss.detach()) * trainer.accumulate_grad_batches


def test_a_piece_computed_again_is_the_same_piece(tmp_path: Path) -> None:
    """With its dropout and the states that its chunks began with; else the search would be of another one."""
    again = Again()
    _fit(tmp_path, again, accumulate_grad_batches=2)
    assert len(again.losses) > 20
    assert all(first == second for first, second in again.losses)


def test_on_a_gpu_the_search_waits_for_the_next_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the step must not wait for the device: what the guard knows is one flag."""

    def see(self: FiniteGuard, values: Tensor, *, locate: Any) -> None:
        finite = torch.isfinite(values.detach()).all()
        self._finite = finite if self._finite is None else self._finite & finite

    monkeypatch.setattr(FiniteGuard, "see", see)
    with pytest.raises(ValueError, match=r"First non-finite output: network\.recurrent, time step 3"):
        _fit(tmp_path, SpoilInput(), log_every_n_steps=1)
    with pytest.raises(ValueError, match="The weights are not finite themselves"):
        _fit(tmp_path, SpoilInput(), log_every_n_steps=1000)
