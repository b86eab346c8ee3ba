"""Weights that torchvision has by name, without a network: its download is replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from core.nn.backbones.torchvision_models import build_torchvision
from core.nn.vision import ImageEncoder, ImageEncoderConfig

MEAN, STD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


def config(backbone: str, **settings: Any) -> ImageEncoderConfig:
    return ImageEncoderConfig(**{"backbone": backbone, "weights": None, **settings})


@pytest.fixture
def served() -> Iterator[Callable[[Any], None]]:
    """Puts a state dict, or an error, in the place of torchvision's download."""
    with mock.patch("torchvision.models._api.load_state_dict_from_url") as download:

        def serve(what: Any) -> None:
            download.side_effect = what if isinstance(what, Exception) else lambda *_, **__: copy.deepcopy(what)

        yield serve
        download.assert_called()


def test_weights_by_name_are_torchvision_s(served: Callable[[Any], None]) -> None:
    torch.manual_seed(0)
    whole = models.squeezenet1_1(weights=None).eval()
    served(whole.state_dict())
    images = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        expected = whole.features((images - MEAN) / STD)
    for weights in ("DEFAULT", "IMAGENET1K_V1"):
        encoder = ImageEncoder(config("squeezenet1_1", weights=weights))
        torch.testing.assert_close(encoder(images), expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("error", "said"), [(URLError("no route"), "no route"), (RuntimeError("invalid hash value"), "hash")]
)
def test_weights_that_cannot_be_downloaded_are_said_to_be_so(
    served: Callable[[Any], None], error: Exception, said: str
) -> None:
    served(error)
    message = (
        rf"IMAGENET1K_V1 of backbone 'squeezenet1_1' could not be had: .*{said}.*\nWithout a network, download https:"
    )
    with pytest.raises(ValueError, match=message):
        ImageEncoder(config("squeezenet1_1", weights="DEFAULT"))


@pytest.mark.parametrize(("weights", "mean", "std"), [("IMAGENET1K_FEATURES", 0.48235, 1 / 255), (None, 0.485, 0.229)])
def test_the_normalisation_is_that_of_the_weights(weights: str | None, mean: float, std: float) -> None:
    """VGG16 has two sets of weights, with one each; files and random weights take that of the default set."""
    with mock.patch.object(nn.Linear, "reset_parameters"), mock.patch.object(nn.init, "normal_"):
        built = build_torchvision("vgg16", weights=weights, load_weights=False)
    assert (built.mean[0], built.std[0]) == pytest.approx((mean, std))


def test_weights_for_larger_images_make_a_network_for_them_before_they_are_loaded() -> None:
    """A checkpoint of it has more positions than the default network."""
    built = build_torchvision("vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1", load_weights=False)
    assert (built.image_size, built.grid_shape) == (384, (768, 24, 24))
    assert built.network.state_dict()["encoder.pos_embedding"].shape == (1, 1 + 24 * 24, 768)


def test_unknown_weights_are_refused_with_those_there_are() -> None:
    message = "'IMAGENET1K_V3', which is neither a file nor a name .*: .* IMAGENET1K_V1, DEFAULT. Give the path"
    with pytest.raises(ValueError, match=message):
        ImageEncoder(config("squeezenet1_1", weights="IMAGENET1K_V3"))
