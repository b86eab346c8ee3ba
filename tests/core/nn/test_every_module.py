"""What every public network of `core.nn` must do, whatever it computes (`tests/core/nn/modules.py` lists them)."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.contracts.processes import in_processes
from tests.core.nn.modules import CASES, Case, loss, results
from tests.shape_checks import unchecked

NUM_PROCESSES = 2
BY_NAME = {case.name: case for case in CASES}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def has_weights(case: Case) -> bool:
    return any(True for _ in case.build().parameters())


WEIGHTED = [case for case in CASES if has_weights(case)]


def test_every_name_is_there_once() -> None:
    assert len(BY_NAME) == len(CASES)


def test_every_network_of_core_nn_is_in_the_list() -> None:
    """A network that is added to `core.nn` and not to the list would be tested by nobody here."""
    import importlib
    import pkgutil

    import core.nn

    built = {type(module) for case in CASES for module in case.build().modules()}
    for info in pkgutil.iter_modules(core.nn.__path__, prefix="core.nn."):
        for name, found in vars(importlib.import_module(info.name)).items():
            if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == info.name:
                is_base = any(other is not found and issubclass(other, found) for other in built)
                assert found in built or is_base or name.startswith("_"), f"{info.name}.{name}"


@every_case
def test_bfloat16_by_autocast_gives_finite_values_and_gradients(case: Case) -> None:
    """In training, noise and all; with NaN in the padding."""
    model, inputs = case.make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs)
        total = loss(output)
    for result in results(output):
        assert not result.is_floating_point() or bool(torch.isfinite(result).all())
    if not list(model.parameters()):
        return
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("case", WEIGHTED, ids=lambda case: case.name)
def test_a_state_dict_carries_everything(case: Case) -> None:
    """Through a file that holds tensors alone, into a network of other weights: the same to the bit."""
    model, inputs = case.make(seed=0)
    other, _ = case.make(seed=1)
    model.eval()
    other.eval()
    expected = results(model(**inputs))
    assert not all(torch.equal(a, b) for a, b in zip(results(other(**inputs)), expected, strict=True))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for got, wanted in zip(results(other(**inputs)), expected, strict=True):
        assert torch.equal(got, wanted)
    assert set(model.state_dict()) >= {name for name, _ in model.named_parameters()}


@every_case
def test_on_the_meta_device_it_gives_shapes_and_precisions(case: Case) -> None:
    """Where nothing is computed: no value may be read, and none is needed."""
    model, inputs = case.make()
    expected = [(result.shape, result.dtype) for result in results(model(**inputs))]
    on_meta = {name: tensor.to("meta") for name, tensor in inputs.items()}
    output = results(case.build().to("meta")(**on_meta))
    assert all(result.device.type == "meta" for result in output)
    assert [(result.shape, result.dtype) for result in output] == expected


# Take any tensor, and give back what they were given: without weights there is nothing to fit.
ANY_PRECISION = ("pooling last", "pooling mean", "pooling max", "pooling last in two directions", "locked dropout")
BATCH_ALONE = (
    "feed-forward",
    "locked dropout",
    "placewise words",
    "image encoder",
)  # one input: as many examples as there are


def wrong_inputs(case: Case, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One input spoiled in every way that does not fit."""
    spoiled = {"on another device": tensor.to("meta"), "with an axis more": tensor.unsqueeze(-1)}
    if not case.name.startswith(BATCH_ALONE):
        spoiled["of fewer examples"] = tensor[:-1]
    if not tensor.is_floating_point():
        spoiled |= {"float": tensor.float(), "int32": tensor.int()}
    elif case.name not in ANY_PRECISION:
        spoiled["float64"] = tensor.double()
    return spoiled


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("case", [case for case in CASES if case.name != "locked dropout"], ids=lambda case: case.name)
def test_an_input_that_does_not_fit_is_refused_saying_what_was_got(case: Case) -> None:
    """A user's mistake ends in a ValueError of ours, never in a message from inside a kernel, nor in a result."""
    model, inputs = case.make()
    for name, tensor in inputs.items():
        for how, wrong in wrong_inputs(case, name, tensor).items():
            error = refusal(model, {**inputs, name: wrong})
            assert isinstance(error, ValueError), f"{name} {how}: {error!r}"
            assert ", got " in str(error), f"{name} {how}: {error}"


def refusal(model: nn.Module, inputs: dict[str, Tensor]) -> Exception | None:
    try:
        model(**inputs)
    except Exception as error:
        return error
    return None


# One of each family: those of single networks are exported in all their variants where these are tested.
EXPORTED = [
    case
    for case in CASES
    if case.name.startswith(
        ("attention", "pooling", "feed-forward", "locked dropout", "one to many", "encoder", "image encoder")
    )
    or case.name in ("token decoder FirstStateOnly()", "vector decoder FixedContext()")
]


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("case", EXPORTED, ids=lambda case: case.name)
def test_exported_it_runs_on_other_batches(case: Case) -> None:
    """Any batch size, lengths and padding; the number of steps is fixed."""
    model, inputs = case.make(torch.float64)
    model.eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    inner = {name: tensor.nan_to_num(0.0) if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
    program = torch.export.export(model, (), kwargs=inner, dynamic_shapes={name: {0: batch} for name in inner})
    _, others = case.make(torch.float64, seed=1)
    chosen = torch.tensor([2, 0, 1, 3, 3, 0])
    others = {name: tensor[chosen] for name, tensor in others.items()}
    for got, wanted in zip(results(program.module()(**others)), results(model(**others)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def train_in_parallel(folder: Path) -> None:
    """One process of two: gradients of every network, averaged by DDP, in evaluation and in training."""
    rank = int(os.environ["LOCAL_RANK"])
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_PROCESSES
    )
    gradients = {}
    for case in WEIGHTED:
        model, inputs = case.make(torch.float64)
        share = {name: tensor[rank::NUM_PROCESSES] for name, tensor in inputs.items()}
        parallel = DistributedDataParallel(model, find_unused_parameters=False, broadcast_buffers=False)
        for mode in ("eval", "train"):
            parallel.train(mode == "train")
            parallel.zero_grad(set_to_none=True)
            # Twice: an unused parameter is found out by the second forward.
            for _ in range(2):
                parallel.zero_grad(set_to_none=True)
                # The processes' mean of this is the sum over all examples.
                (NUM_PROCESSES * loss(parallel(**share))).backward()
            gradients[case.name, mode] = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save(gradients, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_two_processes_make_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """A real DDP step of every network, in which one process has nothing but empty sequences where these are allowed.

    No parameter may be left without a gradient: `find_unused_parameters` stays off.
    """
    with unchecked():  # forms are checked where the whole batch is computed
        assert in_processes(NUM_PROCESSES, lambda: train_in_parallel(tmp_path)) == [0] * NUM_PROCESSES
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(NUM_PROCESSES))
    for case in WEIGHTED:
        for mode in ("eval", "train"):
            got, same = first[case.name, mode], second[case.name, mode]
            for name, gradient in got.items():
                assert gradient is not None, f"{case.name}: no gradient in {name}"
                assert torch.equal(gradient, same[name]), f"{case.name}: {name} differs between processes"
            if mode == "train" and not case.training:
                continue
            expected = whole_batch(case, mode)
            for name, gradient in got.items():
                torch.testing.assert_close(
                    gradient,
                    expected[name],
                    rtol=1e-10,
                    atol=1e-10,
                    msg=lambda text, where=f"{case.name}, {mode}, {name}": f"{where}: {text}",
                )


def whole_batch(case: Case, mode: str) -> dict[str, Any]:
    model, inputs = case.make(torch.float64)
    model.train(mode == "train")
    loss(model(**inputs)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}
