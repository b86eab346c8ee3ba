"""A backbone by its name."""

import difflib

from core.nn.backbones.backbone import Backbone
from core.nn.backbones.efficientnet_lite import NAME as EFFICIENTNET_LITE
from core.nn.backbones.efficientnet_lite import build_efficientnet_lite
from core.nn.backbones.small_cnn import build_small_cnn
from core.nn.backbones.torchvision_models import build_torchvision, torchvision_names

SMALL_CNN = "small_cnn"


def build_backbone(name: str, *, weights: str | None, load_weights: bool) -> Backbone:
    """The backbone of that name.

    Args:
        name: small_cnn, efficientnet_lite0, or a classification network of torchvision.
        weights: None for random ones, a name of weights that it has, or the path of a file.
        load_weights: whether to load them; without, the network is the same but random.

    Raises:
        ValueError: for an unknown name, a missing package, or weights that cannot be had or do not fit.
    """
    if name == SMALL_CNN:
        return build_small_cnn(weights=weights, load_weights=load_weights)
    if name == EFFICIENTNET_LITE:
        return build_efficientnet_lite(weights=weights, load_weights=load_weights)
    known = [SMALL_CNN, EFFICIENTNET_LITE, *torchvision_names()]
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(known)}."
        raise ValueError(
            f"backbone must be small_cnn, efficientnet_lite0 or a classification network of torchvision, got {name!r}. {hint}"
        )
    return build_torchvision(name, weights=weights, load_weights=load_weights)
