"""Weights from files: whatever torchvision and users save, and nothing that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.nn.backbones.small_cnn import SmallCNN
from core.nn.backbones.weight_files import load_file


class Net(nn.Module):
    """Layers as a torchvision network has them, without its classifier `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))


class Dense(nn.Module):
    """Names as in a DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.ModuleDict({"norm1": nn.BatchNorm2d(3), "conv1": nn.Conv2d(3, 4, 1), "conv2": nn.Conv2d(4, 4, 1)})
        self.features = nn.ModuleDict({"denseblock1": nn.ModuleDict({"denselayer12": layer})})


def load(network: nn.Module, path: Path | str, **settings: Any) -> None:
    load_file(network, str(path), **{"backbone": "net", "head": ("fc",), "names": (), **settings})


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


HEAD = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}


def under(key: str) -> Any:
    return lambda weights: {key: weights, "epoch": 3}


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param(lambda weights: weights, id="bare"),
        pytest.param(lambda weights: weights | HEAD, id="with a classifier"),
        pytest.param(under("state_dict"), id="under state_dict"),
        pytest.param(under("model"), id="under model"),
        pytest.param(lambda weights: {f"module.{name}": value for name, value in weights.items()}, id="data parallel"),
        pytest.param(
            lambda weights: {"state_dict": {f"module.{name}": value for name, value in (weights | HEAD).items()}},
            id="all of it",
        ),
        pytest.param(
            lambda weights: {name: value for name, value in weights.items() if "num_batches" not in name},
            id="before PyTorch 0.4.1",
        ),
    ],
)
def test_every_form_of_a_file_gives_the_same_weights(saved: Any, tmp_path: Path) -> None:
    original, other = Net(), Net()
    original.bn1.running_mean.fill_(3.0)
    torch.save(saved(state(original)), tmp_path / "weights.pth")
    load(other, tmp_path / "weights.pth")
    for name, tensor in original.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_torchvision_s_old_names_of_densenet_are_read(tmp_path: Path) -> None:
    """Its published files have norm.1 where the network has norm1."""
    original, other = Dense(), Dense()
    old = {name.replace("norm1", "norm.1").replace("conv2", "conv.2"): value for name, value in state(original).items()}
    assert "features.denseblock1.denselayer12.norm.1.weight" in old
    torch.save(old, tmp_path / "weights.pth")
    load(other, tmp_path / "weights.pth")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in original.state_dict().items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: [w.pop("conv1.bias")], r"missing: conv1.bias\. Set backbone to the architecture"),
        (lambda w: w.update(layer2=torch.zeros(1)), r"unexpected: layer2\. Set"),
        (
            lambda w: w.update({"conv1.bias": torch.zeros(5)}),
            r"of another shape: conv1.bias \(5,\) instead of \(4,\)\. Set",
        ),
        (
            lambda w: (
                [w.pop(name) for name in list(w) if name.startswith("layer1")] + [w.update(HEAD, x=torch.ones(2))]
            ),
            r"missing: layer1.0.weight, layer1.0.bias, layer1.1.weight and 1 more; unexpected: x\. Set",
        ),
    ],
)
def test_weights_of_another_network_are_refused_and_none_is_changed(spoil: Any, message: str, tmp_path: Path) -> None:
    network, file = Net(), tmp_path / "weights.pth"
    before, weights = state(network), state(Net())
    spoil(weights)
    torch.save(weights, file)
    with pytest.raises(ValueError, match=rf"weights.pth does not hold the weights of backbone 'net'\. {message}"):
        load(network, file)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Anything:
    """An object that a pickle would run code for."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights at all", "could not be read as weights: .*\nIt must be a state dict written by torch.save"),
        (b"", "could not be read as weights: "),
        (Anything(), "could not be read as weights: .*\nIt must be a state dict"),
        ([torch.zeros(2)], "must hold a state dict, names and their tensors, got a list"),
        ({}, "must hold a state dict, names and their tensors, got an empty dict"),
        ({"conv1.weight": torch.zeros(2), "epoch": 3}, "bare or under 'state_dict'; no tensors are: epoch"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    """Nothing in it is run: tensors and plain data alone are read."""
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        load(Net(), file)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """A download that broke."""
    file = tmp_path / "weights.pth"
    torch.save(state(SmallCNN()), file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ValueError, match="could not be read as weights: "):
        load(SmallCNN(), file)


@pytest.mark.parametrize(
    ("names", "message"), [((), "it has no weights by name"), (("a", "b"), "of weights by name it has a, b. Give")]
)
def test_a_file_that_does_not_exist_is_refused(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(ValueError, match=f"neither a file nor a name of weights of backbone 'net': {message}"):
            load(Net(), path, names=names)
