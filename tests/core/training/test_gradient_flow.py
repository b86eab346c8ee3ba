"""The watch over the gradient: it measures what is trained, and changes nothing of it (notes N11)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger

from apps.forecasting.__main__ import FORECASTING as COMMAND
from core.nn.gradient_flow import decades_lost, hidden_gradient_norms
from core.training.checkpoints.files import read_checkpoint
from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.cli import main
from core.training.gradient_flow import PICTURE, TABLE, GradientFlow, Measurement, read_table, write_table
from tests.contracts.cases import FORECASTING, Case
from tests.contracts.streaming import STREAMING
from tests.shape_checks import unchecked

CASES = [FORECASTING, STREAMING]


@pytest.fixture(autouse=True)
def _as_shipped() -> Iterator[None]:
    """Without the checks of shape annotations; tests/core/nn makes them."""
    with unchecked():
        yield


class Metrics(DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.seen.setdefault(step or 0, {}).update(metrics)


class Kill(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise InterruptedError


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Any]:
    def _fit(
        case: Case, name: str, *callbacks: pl.Callback, resume: bool = False, run: Any = None, **settings: Any
    ) -> Any:
        run = run or case.make(tmp_path, dropout=0.3)
        checkpoints = RunCheckpoints(tmp_path / name, config=CheckpointConfig(every_n_steps=1, every_minutes=None))
        trainer = pl.Trainer(
            **{
                "accelerator": "cpu",
                "max_epochs": 1,
                "logger": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "default_root_dir": str(tmp_path / name),
                **settings,
            },
            callbacks=[checkpoints, *callbacks],
        )
        trainer.fit(run.module, datamodule=run.data, ckpt_path=str(checkpoints.last_path) if resume else None)
        return run

    return _fit


@pytest.mark.filterwarnings("ignore:Vanishing gradient")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.application)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_is_watched_is_the_same_run(
    case: Case, fit: Callable[..., Any], tmp_path: Path, accumulate: int
) -> None:
    """Dropout's generator, gradients, carried states: bit for bit."""
    fit(case, "plain", accumulate_grad_batches=accumulate)
    fit(case, "watched", GradientFlow(every_n_steps=1), accumulate_grad_batches=accumulate)
    one, other = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("plain", "watched"))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    assert {measured.step for measured in read_table(tmp_path / "watched" / TABLE)} == set(range(one["global_step"]))


@pytest.mark.filterwarnings("ignore:Vanishing gradient")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.application)
def test_a_resumed_run_has_the_table_of_the_whole_one(case: Case, fit: Callable[..., Any], tmp_path: Path) -> None:
    fit(case, "whole", GradientFlow(every_n_steps=2))
    with pytest.raises(InterruptedError):
        fit(case, "killed", GradientFlow(every_n_steps=2), Kill(4))
    # The step that was interrupted has been measured, and will be again.
    assert {measured.step for measured in read_table(tmp_path / "killed" / TABLE)} == {0, 2, 4}
    fit(case, "killed", GradientFlow(every_n_steps=2), resume=True)
    assert (tmp_path / "killed" / TABLE).read_bytes() == (tmp_path / "whole" / TABLE).read_bytes()
    assert (tmp_path / "killed" / PICTURE).read_bytes()[:4] == b"\x89PNG"
    fit(case, "killed", GradientFlow(every_n_steps=10**6))  # a new run in the same folder starts its table anew
    assert {measured.step for measured in read_table(tmp_path / "killed" / TABLE)} == {0}


def test_what_is_measured_is_the_gradient_of_the_loss(fit: Callable[..., Any], tmp_path: Path) -> None:
    """The streaming network's first batch, measured by hand."""
    seen: list[Any] = []

    class First(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if not seen:
                state = {name: value.clone() for name, value in pl_module.network.state_dict().items()}
                seen.extend([batch, state])

    run = fit(STREAMING, "run", First(), GradientFlow(every_n_steps=10**6), precision="64-true")
    batch, state = seen
    network = run.module.network
    network.load_state_dict(state)
    valid = torch.arange(batch.inputs.shape[1]) < batch.chunk.lengths.unsqueeze(1)
    assert all(batch.chunk.starts)

    def loss(outputs: torch.Tensor, _: Any) -> torch.Tensor:
        return ((network.head(outputs) - batch.target).square().squeeze(-1) * valid).sum()

    expected = hidden_gradient_norms(network.recurrent, batch.inputs, batch.chunk.lengths, loss=loss)
    measured = read_table(tmp_path / "run" / TABLE)
    assert [one.layer for one in measured] == ["recurrent.l0", "recurrent.l1"]
    for one, norms in zip(measured, expected, strict=True):
        torch.testing.assert_close(torch.tensor(one.norms, dtype=norms.dtype), norms, rtol=1e-6, atol=0)


def test_weights_gradients_are_those_of_the_step_before_clipping(fit: Callable[..., Any]) -> None:
    """Of sum / count over all pieces, as the optimiser would see them without clipping."""
    logged: dict[float, dict[int, dict[str, float]]] = {}
    for clip in (1e9, 1e-3):
        metrics, left = Metrics(), {}

        class Left(pl.Callback):
            def __init__(self, left: dict[int, dict[str, float]]) -> None:
                self.left = left

            def on_train_batch_end(self, trainer: Any, pl_module: Any, _: Any, batch: Any, batch_idx: int) -> None:
                named = pl_module.named_parameters()
                if batch_idx % 2:
                    self.left[trainer.global_step] = {name: float(p.grad.norm()) for name, p in named}

        fit(
            STREAMING, f"run{clip}", Left(left), GradientFlow(every_n_steps=3), logger=metrics, precision="64-true",
            accumulate_grad_batches=2, limit_train_batches=12, log_every_n_steps=100, gradient_clip_val=clip,
        )  # fmt: skip
        prefix = "gradient_norm/"
        logged[clip] = {
            step: {name.removeprefix(prefix): value for name, value in seen.items() if name.startswith(prefix)}
            for step, seen in metrics.seen.items()
        }
        logged[clip] = {step: norms for step, norms in logged[clip].items() if norms}
        assert sorted(logged[clip]) == [1, 4]
        for step, norms in logged[clip].items():
            assert norms.keys() == left[step].keys()
            ratios = [left[step][name] / norm for name, norm in norms.items() if norm]
            assert len(ratios) > 8
            assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-4)
            assert ratios[0] == pytest.approx(1.0, rel=1e-9) if clip > 1 else ratios[0] < 0.1
    assert logged[1e9][1] == logged[1e-3][1]


def test_a_network_that_forgets_is_told_so_once(fit: Callable[..., Any]) -> None:
    """Thresholds are the user's; a resumed run does not repeat itself."""
    callback = GradientFlow(every_n_steps=2, vanishing_decades=1e-3, exploding_decades=1e-3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(FORECASTING, "run", callback)
        fit(FORECASTING, "run", GradientFlow(vanishing_decades=1e-3, exploding_decades=1e-3), resume=True, max_epochs=1)
    said = [str(one.message) for one in caught if "gradient in" in str(one.message)]
    layers = {one.layer for one in callback.measurements}
    assert len(layers) == 4  # two layers, two directions
    assert len(said) == len(layers)
    assert all(any(f"{layer} (step 0)" in message for message in said) for layer in layers)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (7.0, r"Vanishing gradient in x \(step 3\).*10\^7\.0"),
        (float("inf"), "vanishes altogether"),
        (-4.0, r"Exploding.*10\^4\.0"),
    ],
)
def test_what_it_says(lost: float, said: str) -> None:
    callback = GradientFlow()
    with pytest.warns(UserWarning, match=said):
        callback._judge("x", lost, step=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback._judge("x", lost, step=4)
        GradientFlow()._judge("x", 5.9, step=0)
        GradientFlow()._judge("x", -2.9, step=0)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    measurements = [
        Measurement(0, "a.l0", [1.0, float("nan")]),
        Measurement(0, "a.l0_reverse", [2e-30, 3.0]),
        Measurement(7, "a.l0", [0.0]),
    ]
    write_table(tmp_path / TABLE, measurements)
    assert str(read_table(tmp_path / TABLE)) == str(measurements)
    (tmp_path / TABLE).write_text("step,layer,time,norm\n0,a,0,1.0\n0,a,one\n")
    with pytest.raises(ValueError, match=r"gradient_flow.csv, line 3: expected step,layer,time,norm, got 0,a,one"):
        read_table(tmp_path / TABLE)
    (tmp_path / TABLE).write_text("a,b\n")
    with pytest.raises(ValueError, match="line 1"):
        read_table(tmp_path / TABLE)


@pytest.mark.parametrize("name", ["every_n_steps", "vanishing_decades", "exploding_decades"])
def test_settings_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        GradientFlow(**{name: 0})


@pytest.mark.filterwarnings("ignore:Vanishing gradient")
def test_it_is_switched_on_from_a_config(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also with the baseline after the run, whose network is not recurrent."""
    config = tmp_path / "run.yaml"
    flow = "  callbacks: [{class_path: core.training.gradient_flow.GradientFlow, init_args: {every_n_steps: 5}}]\n"
    config.write_text(FORECASTING.config(tmp_path) + flow)
    main(
        COMMAND,
        [
            "fit",
            "-c",
            str(config),
            "--run_dir",
            str(tmp_path / "run"),
            "--baseline.enabled=true",
            "--trainer.max_epochs=1",
        ],
    )
    measured = read_table(tmp_path / "run" / TABLE)
    assert {one.layer for one in measured} == {"recurrent.l0"}
    assert all(decades_lost(torch.tensor(one.norms)) != 0 for one in measured)
    assert (tmp_path / "run" / PICTURE).is_file()
    assert not (tmp_path / "run" / "baseline" / TABLE).exists()
    (written,) = (tmp_path / "run" / "csv").glob("*/metrics.csv")
    header = written.read_text().splitlines()[0].split(",")
    assert "gradient_flow/recurrent.l0" in header
    assert "gradient_norm/network.recurrent.weight_hh_l0" in header
    (of_baseline,) = (tmp_path / "run" / "baseline" / "csv").glob("*/metrics.csv")
    assert "gradient_norm/" in of_baseline.read_text().splitlines()[0]
