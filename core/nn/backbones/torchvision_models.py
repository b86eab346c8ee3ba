"""Every classification network of torchvision as a backbone: where in it the last grid of features stands."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any, get_type_hints

from torch import Tensor, fx, nn

from core.nn.backbones.backbone import Backbone, Channels
from core.nn.backbones.weight_files import load_file

# By class: the last node before the classifier's pooling.
_NODES = {
    "AlexNet": "features",
    "ConvNeXt": "features",
    "DenseNet": "relu",
    "EfficientNet": "features",
    "GoogLeNet": "inception5b",
    "Inception3": "Mixed_7c",
    "MaxVit": "blocks",
    "MNASNet": "layers",
    "MobileNetV2": "features",
    "MobileNetV3": "features",
    "RegNet": "trunk_output",
    "ResNet": "layer4",
    "ShuffleNetV2": "conv5",
    "SqueezeNet": "features",
    "SwinTransformer": "permute",
    "VGG": "features",
    "VisionTransformer": "encoder",
}
# Below these a pooling has nothing left to read.
_MIN_SIZES = {"AlexNet": 63, "Inception3": 75}
_MAXVIT_SIZE = 224


def torchvision_names() -> list[str]:
    """Names of all classification networks of the installed torchvision."""
    from torchvision import models

    return [str(name) for name in models.list_models(module=models)]


def family_of(name: str) -> str:
    """The class that torchvision builds under this name.

    Raises:
        ValueError: for one that is not known here.
    """
    from torchvision import models

    family = str(get_type_hints(models.get_model_builder(name))["return"].__name__)
    if family not in _NODES:
        raise ValueError(
            f"backbone {name!r} is a {family} of torchvision, whose grid of features is not known here. Known are those of "
            f"{', '.join(_NODES)}."
        )
    return family


def build_torchvision(name: str, *, weights: str | None, load_weights: bool) -> Backbone:
    """The network of that name, random, with torchvision's weights, or with those of a file.

    Args:
        name: one of `torchvision_names()`.
        weights: None, a name of weights that torchvision has for it (`DEFAULT` is its best), or the path of a file.
        load_weights: whether to load them; without, the network is the same but random.

    Raises:
        ValueError: The weights are unknown, could not be downloaded, or do not fit.
    """
    from torchvision import models

    family = family_of(name)
    known = dict(models.get_model_weights(name).__members__)
    named = known.get(weights) if weights is not None else None
    if named is not None and load_weights:
        whole = _downloaded(name, named)
    else:
        whole = models.get_model_builder(name)(weights=None, **_settings(family, named))
    head = {key.split(".")[0] for key in whole.state_dict()}
    network, extract = _cut(whole, family)
    head -= {key.split(".")[0] for key in network.state_dict()}
    if weights is not None and named is None and load_weights:
        load_file(network, weights, backbone=name, head=head, names=list(known))
    mean, std = _normalisation(family, named or known["DEFAULT"])
    image_size, grid_shape = _fixed(whole, family)
    return Backbone(
        network=network,
        extract=extract,
        mean=mean,
        std=std,
        min_size=_MIN_SIZES.get(family, 32),
        image_size=image_size,
        grid_shape=grid_shape,
    )


def _fixed(whole: Any, family: str) -> tuple[int | None, tuple[int, int, int] | None]:
    if family == "VisionTransformer":
        side = whole.image_size // whole.patch_size
        return whole.image_size, (whole.hidden_dim, side, side)
    return (_MAXVIT_SIZE if family == "MaxVit" else None), None


def _downloaded(name: str, weights: Any) -> nn.Module:
    from torchvision import models

    try:
        whole: nn.Module = models.get_model_builder(name)(weights=weights)
    except (OSError, RuntimeError) as error:  # the network, the disk, or a file that was cut off
        raise ValueError(
            f"weights {weights.name} of backbone {name!r} could not be had: {error}\nWithout a network, download "
            f"{weights.url} elsewhere and give the file's path as weights."
        ) from error
    return whole


def _settings(family: str, weights: Any) -> dict[str, Any]:
    """What torchvision builds differently with weights, so that a network without them takes theirs later."""
    if family == "VisionTransformer" and weights is not None:
        return {"image_size": weights.meta["min_size"][0]}
    if family in ("GoogLeNet", "Inception3"):
        # PyTorch's own initialisation; torchvision's takes seconds, and warns.
        return {"init_weights": False}
    return {}


def _cut(whole: Any, family: str) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    from torchvision.models.feature_extraction import create_feature_extractor

    if family == "MaxVit":
        # Traced, its tables of relative positions would become constants without a name.
        del whole.classifier
        return whole, _maxvit_grid
    if family in ("GoogLeNet", "Inception3"):
        whole.transform_input = False  # part of our normalisation
    traced = create_feature_extractor(whole, {_NODES[family]: "grid"}, suppress_diff_warning=True).eval()
    # Of torchvision's two graphs that for evaluation, which is also right in training: every dropout of a rate above 0 and
    # stochastic depth are modules in it. A copy of torchvision's own module would begin in training mode, batch norm too.
    network = fx.GraphModule(traced, traced.graph, class_name=family)
    return network, _token_grid if family == "VisionTransformer" else _node_grid


def _normalisation(family: str, weights: Any) -> tuple[Channels, Channels]:
    if family in ("GoogLeNet", "Inception3"):
        # Ported from TensorFlow: torchvision undoes the usual normalisation inside to get this one.
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    preset = weights.transforms()
    return _channels(preset.mean), _channels(preset.std)


def _channels(values: Sequence[float]) -> Channels:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _node_grid(network: nn.Module, images: Tensor) -> Tensor:
    grid: Tensor = network(images)["grid"]
    return grid


def _token_grid(network: nn.Module, images: Tensor) -> Tensor:
    # The class token comes first; the patches follow row by row.
    patches = _node_grid(network, images)[:, 1:].transpose(1, 2)
    side = isqrt(patches.shape[-1])
    return patches.reshape(*patches.shape[:2], side, side)


def _maxvit_grid(network: Any, images: Tensor) -> Tensor:
    grid: Tensor = network.stem(images)
    for block in network.blocks:
        grid = block(grid)
    return grid
