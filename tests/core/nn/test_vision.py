"""The image encoder: one image, one set of features, whatever stands beside it and however it came in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.vision import ImageEncoder, ImageEncoderConfig, first_alike

ROOT = Path(__file__).resolve().parents[3]


def config(**settings: Any) -> ImageEncoderConfig:
    return ImageEncoderConfig(**{"backbone": "small_cnn", "weights": None, "trainable": "all", **settings})


def encoder(seed: int = 0, **settings: Any) -> ImageEncoder:
    torch.manual_seed(seed)
    return ImageEncoder(config(**settings))


def bytes_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoders() -> dict[str, ImageEncoder]:
    """In float64 and in training: one of ours, one with batch norm."""
    return {name: encoder(backbone=name).double().train() for name in ("small_cnn", "shufflenet_v2_x0_5")}


@settings(deadline=None, max_examples=15)
@given(
    name=st.sampled_from(["small_cnn", "shufflenet_v2_x0_5"]),
    num_images=st.integers(1, 5),
    height=st.integers(32, 70),
    width=st.integers(32, 70),
    seed=st.integers(0, 99),
)
def test_features_depend_on_no_other_image(
    encoders: dict[str, ImageEncoder], name: str, num_images: int, height: int, width: int, seed: int
) -> None:
    """Contract 2, in training too: batch norm never sees the batch."""
    images = bytes_of(num_images, 3, height, width, seed=seed)
    together = encoders[name](images)
    rows, columns = encoders[name].grid_shape(height, width)
    assert together.shape == (num_images, rows * columns, encoders[name].num_features)
    for index in range(num_images):
        alone = encoders[name](images[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["small_cnn", "shufflenet_v2_x0_5"])
def test_gradients_are_those_of_each_image_alone(encoders: dict[str, ImageEncoder], name: str) -> None:
    model, images = encoders[name], bytes_of(3, 3, 40, 33)
    parameters = list(model.parameters())
    together = torch.autograd.grad(model(images).square().sum(), parameters)
    alone = [torch.autograd.grad(model(image[None]).square().sum(), parameters) for image in images]
    for got, parts in zip(together, zip(*alone, strict=True), strict=True):
        expected = torch.stack(parts).sum(0)
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8 * max(1.0, expected.abs().max().item()))


def test_small_cnn_s_gradients_are_those_of_finite_differences() -> None:
    """In pixels and in weights."""
    model = encoder().double()
    images = torch.rand(2, 3, 16, 17, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (images,), fast_mode=True)
    name, weight = next((name, p) for name, p in model.named_parameters() if p.ndim == 4)

    def of_weight(weight: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(model, {name: weight}, (images.detach(),))
        return found

    assert torch.autograd.gradcheck(of_weight, (weight,), fast_mode=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_bytes_and_numbers_from_0_to_1_are_the_same_images(dtype: torch.dtype, tolerance: float) -> None:
    model, images = encoder().to(dtype), bytes_of(2, 3, 64, 64)
    got, same = model(images), model((images.double() / 255).to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got, same, rtol=tolerance, atol=tolerance * got.abs().max().item())
    exact = encoder().double()(images)
    torch.testing.assert_close(got.double(), exact, rtol=tolerance, atol=tolerance * exact.abs().max().item())


def test_the_memory_layout_of_images_is_nobody_s_business() -> None:
    model, images = encoder(), bytes_of(2, 3, 64, 48)
    expected = model(images)
    turned = images.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    for other in (images.contiguous(memory_format=torch.channels_last), turned):
        assert other.stride() != images.stride()
        assert torch.equal(model(other), expected)


def test_regions_go_row_by_row_and_pooled_is_their_mean() -> None:
    images = bytes_of(2, 3, 64, 40)
    regions = encoder()(images)
    assert encoder().grid_shape(64, 40) == (8, 5)
    # Turned filters on turned images: the same regions, column by column.
    turned = {name: weight.transpose(2, 3) for name, weight in encoder().named_parameters() if weight.ndim == 4}
    columns_first = torch.func.functional_call(encoder(), turned, (images.transpose(2, 3),))
    torch.testing.assert_close(
        columns_first.unflatten(1, (5, 8)).transpose(1, 2).flatten(1, 2), regions, rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(columns_first, regions, atol=0.1)
    pooled = encoder(features="pooled")
    assert pooled.grid_shape(64, 40) == (1, 1)
    torch.testing.assert_close(pooled(images), regions.mean(1, keepdim=True))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (50, 70), (24, 24)])
def test_a_grid_of_chosen_size_is_the_same_for_all_images(height: int, width: int) -> None:
    images = bytes_of(2, 3, height, width)
    got, grid = encoder(grid_size=4)(images), encoder()(images)
    assert encoder(grid_size=4).grid_shape(height, width) == (4, 4)
    rows, columns = encoder().grid_shape(height, width)
    assert got.shape == (2, 16, 96)
    if rows % 4 == 0 and columns % 4 == 0:
        blocks = grid.reshape(2, 4, rows // 4, 4, columns // 4, 96).mean((2, 4)).flatten(1, 2)
        torch.testing.assert_close(got, blocks)
    assert grid.amin() <= got.amin()
    assert got.amax() <= grid.amax()


def test_the_same_seed_draws_the_same_weights_and_shapes_draw_nothing() -> None:
    """Contract 3, with dropout in the network."""
    first, second = (encoder(seed=3, backbone="mobilenet_v2") for _ in range(2))
    assert first.weights_fingerprint() == second.weights_fingerprint()
    first.train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert first.grid_shape(65, 64) == (3, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.training
    assert first.backbone.training


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 64, 64), r"images must have shape \(batch, 3, height, width\), got \(3, 64, 64\)"),
        (torch.zeros(1, 64, 64, 3), r"\(batch, 3, height, width\), got \(1, 64, 64, 3\)"),
        (
            torch.zeros(1, 3, 64, 64, dtype=torch.int64),
            r"must be uint8 \(0 to 255\) or floating point .* got torch.int64",
        ),
        (
            torch.zeros(1, 3, 64, 64, dtype=torch.float64),
            "images must be torch.float32 on cpu, .* got torch.float64 on cpu",
        ),
        (torch.zeros(1, 3, 64, 64, device="meta"), "images must be torch.float32 on cpu, .* got torch.float32 on meta"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device="meta"), "images must be on cpu, .* got meta"),
        (torch.zeros(1, 3, 64, 7), "images of backbone 'small_cnn' must be at least 8 x 8 pixels, got 64 x 7"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder()(images)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "mean"}, "features must be one of grid, pooled, got 'mean'"),
        ({"grid_size": 0}, "grid_size must be at least 1, got 0"),
        ({"grid_size": 7, "features": "pooled"}, "grid_size=7 does nothing with features='pooled'"),
        ({"trainable": "layer4"}, r"trainable must be none, all, or a list .*, got 'layer4'. Write \[layer4\]"),
        ({"trainable": []}, "trainable is an empty list. Write none"),
        ({"trainable": "none"}, "'small_cnn' with weights=null and trainable=none would give the features of random"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_a_checkpoint_needs_no_file_of_weights(tmp_path: Path) -> None:
    """State dict out and in again, by a network built from the same config when the file it names is gone."""
    file = tmp_path / "weights.pth"
    torch.save(encoder(seed=1, backbone="shufflenet_v2_x0_5").backbone.state_dict(), file)
    settings = {"backbone": "shufflenet_v2_x0_5", "weights": str(file), "trainable": "none"}
    original = encoder(seed=2, **settings)
    images = bytes_of(2, 3, 64, 64)
    torch.save(original.state_dict(), tmp_path / "checkpoint.pt")
    file.unlink()
    with pytest.raises(ValueError, match="which is neither a file nor a name"):
        encoder(**settings)
    again = ImageEncoder(config(**settings), load_weights=False)
    assert again.weights_fingerprint() != original.weights_fingerprint()
    again.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert torch.equal(again(images), original(images))
    assert again.weights_fingerprint() == original.weights_fingerprint()


def test_fingerprints_are_equal_across_processes() -> None:
    """A cache that one process wrote is found by another."""
    code = (
        "import torch; from core.nn.vision import *; torch.manual_seed(0); print(ImageEncoder(ImageEncoderConfig("
        "backbone='small_cnn', weights=None, trainable='all')).weights_fingerprint())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == encoder().weights_fingerprint()
    assert len(done.stdout.strip()) == 64


def test_encoders_that_give_the_same_features_are_found() -> None:
    first, again, other = encoder(), encoder(), encoder(seed=1)
    pooled = encoder(features="pooled")
    assert first_alike([first, other, again, pooled, other]) == [0, 1, 0, 3, 1]
    with torch.no_grad():
        next(again.parameters()).add_(1e-6)
    assert first_alike([first, again]) == [0, 1]


def test_a_fingerprint_tells_weights_and_not_how_they_lie() -> None:
    model = encoder(backbone="shufflenet_v2_x0_5")
    fingerprint = model.weights_fingerprint()
    model.to(memory_format=torch.contiguous_format).eval()
    assert model.weights_fingerprint() == fingerprint
    # Another order of registration.
    (name, first), *_ = model.backbone.named_children()
    del model.backbone._modules[name]
    model.backbone._modules[name] = first
    assert next(model.backbone.named_children())[0] != name
    assert model.weights_fingerprint() == fingerprint
    found = {fingerprint, encoder(seed=1, backbone="shufflenet_v2_x0_5").weights_fingerprint()}
    tensors = [
        model.get_parameter("backbone.conv5.0.weight"),
        model.get_buffer("backbone.conv5.1.running_mean"),
        model.mean,
    ]
    for tensor in tensors:
        with torch.no_grad():
            value = tensor[:1]
            value.copy_(torch.nextafter(value, torch.full_like(value, torch.inf)))
        found.add(model.weights_fingerprint())
    assert len(found) == 5
    assert model.double().weights_fingerprint() not in found


def test_autocast_rounds_the_work_and_not_the_weights() -> None:
    model, images = encoder(), bytes_of(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(images)
    rounded.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    exact = model(images)
    assert not torch.equal(rounded.float(), exact)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.1)
