"""Every classification network of torchvision gives the grid that its own classifier reads."""

from __future__ import annotations

import contextlib
import copy
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from core.nn.backbones.torchvision_models import family_of, torchvision_names
from core.nn.vision import ImageEncoder, ImageEncoderConfig

# The module whose input is the grid, or the mean over it; a small member of each family.
READS_GRID = {
    "alexnet": "avgpool",
    "convnext_tiny": "avgpool",
    "efficientnet_b0": "avgpool",
    "googlenet": "avgpool",
    "inception_v3": "avgpool",
    "maxvit_t": "classifier",
    "mobilenet_v3_small": "avgpool",
    "regnet_x_400mf": "avgpool",
    "resnet18": "avgpool",
    "squeezenet1_1": "classifier",
    "swin_t": "avgpool",
    "vgg11": "avgpool",
}
READS_MEAN = {
    "densenet121": "classifier",
    "mnasnet0_5": "classifier",
    "mobilenet_v2": "classifier",
    "shufflenet_v2_x0_5": "fc",
}
SWEPT = [*READS_GRID, *READS_MEAN, "vit_b_32"]
FIXED_SIZE = {"maxvit_t": 224, "vit_b_32": 224}
MIN_SIZES = {"alexnet": 63, "inception_v3": 75}
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


def config(backbone: str, **settings: Any) -> ImageEncoderConfig:
    return ImageEncoderConfig(**{"backbone": backbone, "weights": None, **settings})


def with_whole(name: str) -> tuple[ImageEncoder, Any]:
    """An encoder of random weights, and torchvision's network that it was cut from."""
    wholes: list[Any] = []
    builder = models.get_model_builder(name)

    def build(*arguments: Any, **settings: Any) -> nn.Module:
        whole: nn.Module = builder(*arguments, **settings)
        wholes.append(copy.deepcopy(whole) if name == "maxvit_t" else whole)  # whose classifier is deleted
        return whole

    # Asked for its family, a builder answers by its annotations.
    build.__annotations__ = dict(builder.__annotations__)
    with mock.patch.object(models, "get_model_builder", return_value=build), contextlib.ExitStack() as stack:
        if name in ("alexnet", "vgg11"):
            # Most of the time would go into a hundred million weights of the classifier, which nothing reads here.
            stack.enter_context(mock.patch.object(nn.Linear, "reset_parameters"))
            stack.enter_context(mock.patch.object(nn.init, "normal_", new=lambda tensor, *_: tensor))
        encoder = ImageEncoder(config(name))
    (whole,) = wholes
    return encoder, whole.eval()


class Reached(Exception):
    """Ends a run at a module; carries its input."""


def what_reads(whole: nn.Module, module: str, images: Tensor) -> Tensor:
    """The input of a module when images go through the network."""

    def stop(_: nn.Module, arguments: tuple[Tensor]) -> None:
        raise Reached(*arguments)

    with (
        pytest.raises(Reached) as reached,
        whole.get_submodule(module).register_forward_pre_hook(stop),
        torch.no_grad(),
    ):
        whole(images)
    found: Tensor = reached.value.args[0]
    return found


@pytest.mark.parametrize("name", SWEPT)
def test_the_grid_is_what_the_classifier_reads(name: str) -> None:
    """Against the whole network on images normalised as torchvision says, at the smallest size; one less is refused."""
    torch.manual_seed(0)
    encoder, whole = with_whole(name)
    size = FIXED_SIZE.get(name) or MIN_SIZES.get(name, 32)
    height, width = (size, size) if name in FIXED_SIZE else (size, size + 37)
    images = torch.randint(256, (1, 3, height, width), dtype=torch.uint8)
    normalised = (images / 255 - IMAGENET[0]) / IMAGENET[1]
    if name in ("googlenet", "inception_v3"):
        whole.transform_input = True  # as with pretrained weights
    got = encoder(images)
    assert got.shape[-1] == encoder.num_features
    rows, columns = encoder.grid_shape(height, width)
    assert got.shape == (1, rows * columns, encoder.num_features)
    if name in READS_MEAN:
        expected = what_reads(whole, READS_MEAN[name], normalised)
        got = got.mean(1)
    elif name in READS_GRID:
        grid = what_reads(whole, READS_GRID[name], normalised)
        assert grid.shape[2:] == (rows, columns)
        expected = grid.flatten(2).transpose(1, 2)
    else:
        classified = what_reads(whole, "heads", normalised)
        assert classified.shape == (1, encoder.num_features)
        with torch.no_grad():
            tokens = whole.encoder(torch.cat([whole.class_token, whole._process_input(normalised)], dim=1))
        torch.testing.assert_close(tokens[:, 0], classified)
        expected = tokens[:, 1:]
    scale = expected.abs().max().item()
    assert scale > 0
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * scale)
    message = f"must be {size} x {size} pixels" if name in FIXED_SIZE else f"must be at least {size} x {size} pixels"
    for refuse in (lambda: encoder(images[..., 1:, :]), lambda: encoder.grid_shape(height - 1, width)):
        with pytest.raises(ValueError, match=f"images of backbone '{name}' {message}, got {height - 1} x {width}"):
            refuse()


def test_every_name_of_torchvision_is_of_a_known_family_and_every_family_is_swept() -> None:
    """A network that a later torchvision adds shows here, not at a user's."""
    names = torchvision_names()
    assert {"resnet50", "vit_l_16", "maxvit_t"} < set(names)
    families = {family_of(name) for name in names}
    assert {family_of(name) for name in SWEPT} == families


def test_a_family_that_is_not_known_is_refused_with_those_that_are() -> None:
    class NewNet(nn.Module):
        pass

    def build() -> NewNet:
        raise AssertionError

    build.__annotations__["return"] = NewNet
    with (
        mock.patch.object(models, "get_model_builder", return_value=build),
        pytest.raises(ValueError, match=r"'new_net' is a NewNet of torchvision, whose .* ResNet,"),
    ):
        family_of("new_net")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ResNet51", "got 'ResNet51'. Did you mean 'resnet50' or "),
        ("xyzzy", "got 'xyzzy'. Known: small_cnn, efficientnet_lite0, alexnet, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageEncoder(config(name))
