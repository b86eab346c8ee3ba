"""Which part of an image encoder is trained, and what the rest does meanwhile."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from core.nn.vision import ImageEncoder, ImageEncoderConfig


def encoder(trainable: Any, *, backbone: str = "resnet18") -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(ImageEncoderConfig(backbone=backbone, weights=None, trainable=trainable))


def trained(model: ImageEncoder) -> set[str]:
    return {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}


IMAGES = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def num_saved(model: ImageEncoder) -> tuple[int, Tensor]:
    """How many tensors a forward keeps for its backward, and what it gives."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        output = model(IMAGES)
    return len(saved), output


def test_what_is_not_trained_builds_no_graph_and_gets_no_gradient() -> None:
    """Gradients of the trained part are those of a network that is trained as a whole."""
    whole, part, none = encoder("all"), encoder(["layer4.1", "layer3"]), encoder("none")
    assert trained(whole) == {name for name, _ in whole.backbone.named_parameters()}
    assert trained(part) == {name for name in trained(whole) if name.startswith(("layer4.1.", "layer3."))}
    assert trained(none) == set()
    (num_whole, expected), (num_part, got), (num_none, same) = (num_saved(model) for model in (whole, part, none))
    assert num_whole > num_part > num_none == 0
    assert not same.requires_grad
    assert torch.equal(got, expected)
    assert torch.equal(same, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    of_whole = {name: parameter.grad for name, parameter in whole.backbone.named_parameters()}
    for name, parameter in part.backbone.named_parameters():
        if name in trained(part):
            torch.testing.assert_close(parameter.grad, of_whole[name])
        else:
            assert parameter.grad is None, name


def test_a_part_s_name_ends_where_a_dot_stands() -> None:
    """features.1 does not train features.10 to features.18; a trailing dot changes nothing."""
    for prefix in ("features.1", "features.1."):
        names = trained(encoder([prefix], backbone="mobilenet_v2"))
        assert names
        assert all(name.startswith("features.1.") for name in names)
    assert trained(encoder(["features.1.conv.1.weight"], backbone="mobilenet_v2")) == {"features.1.conv.1.weight"}


@pytest.mark.parametrize(
    ("backbone", "prefix", "message"),
    [
        ("resnet18", "layer5", "'layer5'. They start with conv1, bn1, layer1, layer2, layer3, layer4."),
        ("resnet18", "layer4.2", "'layer4.2'. They start with layer4.0, layer4.1."),
        ("resnet18", "fc", "'fc'. They start with conv1, bn1, "),  # the classifier is not there
        ("squeezenet1_1", "layer4", "'layer4'. They start with features.0, features.3, features.4, "),
        ("squeezenet1_1", "features.1", "'features.1'. They start with features.0, features.3, "),
        ("small_cnn", "layers.0.weight.x", "'layers.0.weight.x'. They start with layers.0.weight."),
    ],
)
def test_a_name_that_starts_nothing_is_refused_with_those_that_do(backbone: str, prefix: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"trainable: no parameter of backbone '{backbone}' starts with {message}"):
        encoder([prefix], backbone=backbone)


@pytest.mark.parametrize("trainable", ["none", "all", ["layer4"]])
def test_batch_norm_keeps_its_statistics(trainable: Any) -> None:
    """In training, after any change of mode."""
    model = encoder(trainable)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for mode in (True, False, True):
        model.train(mode)
        assert model.training == mode
        assert not any(module.training for module in model.modules() if isinstance(module, _BatchNorm))
        model(IMAGES)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_what_is_frozen_is_neither_dropped_nor_skipped() -> None:
    """Dropout of MobileNet's blocks and stochastic depth of EfficientNet's are noise that nothing is trained against."""
    model = encoder(["features.7"], backbone="efficientnet_b0").train()
    depths = {
        name: module.training for name, module in model.backbone.named_modules() if name.endswith("stochastic_depth")
    }
    assert {
        name.split(".")[1] for name, training in depths.items() if training
    } == set()  # one block, without a shortcut
    assert len(depths) > 5
    model = encoder(["features.6"], backbone="efficientnet_b0").train()
    depths = {
        name: module.training for name, module in model.backbone.named_modules() if name.endswith("stochastic_depth")
    }
    assert {name.split(".")[1] for name, training in depths.items() if training} == {"6"}
    frozen = encoder("none", backbone="efficientnet_b0").train()
    assert not any(module.training for module in frozen.backbone.modules())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = frozen(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, frozen.eval()(IMAGES))


def test_what_is_trained_is_dropped_in_training_alone() -> None:
    model = encoder("all", backbone="efficientnet_b0")
    assert not torch.equal(model.train()(IMAGES), model(IMAGES))
    assert torch.equal(model.eval()(IMAGES), model(IMAGES))


def test_weights_that_are_unfrozen_later_are_trained() -> None:
    """As a callback does at some epoch."""
    model = encoder("none", backbone="squeezenet1_1")
    assert not model(IMAGES).requires_grad
    model.requires_grad_(True).train()
    model(IMAGES).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("backbone", ["small_cnn", "efficientnet_b0"])
def test_a_copy_is_a_network_of_its_own(backbone: str) -> None:
    """What averaged weights and ensembles are made from."""
    model = encoder("all", backbone=backbone).eval()
    other = copy.deepcopy(model)
    expected = model(IMAGES)
    assert torch.equal(other(IMAGES), expected)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(IMAGES).any()
    assert torch.equal(model(IMAGES), expected)


def test_small_cnn_learns_to_tell_images_apart() -> None:
    """From scratch, in a few steps: where in the image a square stands."""
    generator = torch.Generator().manual_seed(0)
    model = encoder("all", backbone="small_cnn")
    head = torch.nn.Linear(96, 4)
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=3e-3)
    images = torch.randint(60, (32, 3, 32, 32), dtype=torch.uint8, generator=generator)
    kinds = torch.arange(32) % 4
    for image, kind in zip(images, kinds.tolist(), strict=True):
        image[kind % 3, 4 : 4 + 6 * (1 + kind // 3), 4:28] = 220
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(head(model(images).mean(1)), kinds)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3
