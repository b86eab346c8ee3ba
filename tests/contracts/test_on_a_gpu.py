"""The contracts on a GPU: what is computed there is what the CPU computes. Skipped where there is none.

python -m pytest tests/contracts/test_on_a_gpu.py -n 8
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device

from core.training.checkpoints.files import read_checkpoint
from tests.contracts.case import Case
from tests.contracts.conftest import ROOT
from tests.contracts.test_2_invariance import _loss_and_gradient, _prepared, _variants
from tests.contracts.test_5_resume import Kill, Killed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

ON_GPU = ("--trainer.accelerator", "gpu", "--trainer.devices", "1")
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e-\d+")


@pytest.fixture(autouse=True)
def _all_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself, cuDNN rounds the factors of a convolution to 11 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize(("case", "variant"), _variants())
def test_losses_and_gradients_are_those_of_the_cpu(case: Case, variant: str, tmp_path: Path) -> None:
    module, batch = _prepared(case, tmp_path, variant)
    loss, gradient = _loss_and_gradient(module, batch)
    module.cuda()
    for extra in (0, 5):
        there = move_data_to_device(case.pad(batch, extra, torch.nan), torch.device("cuda"))
        its_loss, its_gradient = _loss_and_gradient(module, there)
        torch.testing.assert_close(its_loss.cpu(), loss, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(its_gradient.cpu(), gradient, rtol=1e-9, atol=1e-9)


def test_a_training_learns_and_predicts_what_it_does_on_the_cpu(
    case: Case, here: Callable[..., None], tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(case.config(tmp_path))
    for name, where in (("cpu", ()), ("gpu", ON_GPU)):
        here(case, "fit", "-c", str(config), "--run_dir", str(tmp_path / name), *where)
    _assert_close(tmp_path / "cpu", tmp_path / "gpu")
    assert json.loads((tmp_path / "gpu" / "metrics.json").read_text())["device"] == torch.cuda.get_device_name()
    best = tmp_path / "gpu" / "checkpoints" / "best.ckpt"
    written = []
    for device in ("cpu", "cuda"):
        before = set(tmp_path.glob("out*"))
        arguments = ["predict", "--ckpt_path", str(best), *case.predict_args(tmp_path), "--device", device]
        here(case, *arguments)
        (output,) = set(tmp_path.glob("out*")) - before
        written.append(output.read_text())
        output.unlink()
    assert NUMBER.sub("#", written[0]) == NUMBER.sub("#", written[1])
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in written]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=2e-4)


def _assert_close(folder: Path, other: Path) -> None:
    """The weights of two finished runs, and what they measured in the test."""
    one, two = (read_checkpoint(path / "checkpoints" / "last.ckpt") for path in (folder, other))
    assert one["global_step"] == two["global_step"] > 0
    _assert_same_weights(one["state_dict"], two["state_dict"])
    metrics, others = (json.loads((path / "metrics.json").read_text())["metrics"] for path in (folder, other))
    assert metrics == pytest.approx(others, rel=1e-5, abs=1e-7)


def _assert_same_weights(weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> None:
    differences = {
        name: (value.cpu() - others[name].cpu()).abs().max().item()
        for name, value in weights.items()
        if not torch.allclose(value.cpu(), others[name].cpu(), rtol=1e-6, atol=1e-8)
    }
    assert not differences


@pytest.mark.parametrize("then", ["gpu", "cpu"])
def test_a_killed_run_goes_on(case: Case, train: Callable[..., Any], tmp_path: Path, then: str) -> None:
    """On the GPU its masks of dropout too are those of the uninterrupted run; on a CPU they are others."""
    dropout = 0.3 if then == "gpu" else 0.0
    settings = {"precision": "64-true"}
    whole = train(case.make(tmp_path, dropout=dropout), tmp_path / "whole", accelerator="gpu", devices=1, **settings)
    num_steps = read_checkpoint(whole.last_path)["global_step"]
    with pytest.raises(Killed):
        train(
            case.make(tmp_path, dropout=dropout),
            tmp_path / "killed",
            callbacks=(Kill(num_steps // 2 - 1),),
            accelerator="gpu",
            devices=1,
            **settings,
        )
    torch.manual_seed(1)
    resumed = train(
        case.make(tmp_path, dropout=dropout), tmp_path / "killed", resume=True, accelerator=then, devices=1, **settings
    )
    one, two = read_checkpoint(whole.last_path), read_checkpoint(resumed.last_path)
    assert one["global_step"] == two["global_step"]
    _assert_same_weights(one["state_dict"], two["state_dict"])


def test_its_configuration_for_several_gpus_trains_tests_and_resumes(
    first_case: Case, command: Callable[..., Any], tmp_path: Path
) -> None:
    """Over as many GPUs as there are; the finished run is then taken up once more from its end."""
    config = tmp_path / "run.yaml"
    config.write_text(first_case.config(tmp_path))
    fragment = ROOT / "configs" / first_case.application / "multi_gpu.yaml"
    arguments = ["fit", "-c", str(config), "-c", str(fragment), "--run_dir", str(tmp_path / "run")]
    command(first_case, *arguments)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert all(math.isfinite(value) for value in metrics.values())
    logged = (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").read_text()
    assert "train/gpu_memory_mb" in logged
    command(first_case, *arguments, "--ckpt_path", "last")
