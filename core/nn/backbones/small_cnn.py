"""A small network of ours that trains from scratch on a CPU."""

from torch import Tensor, nn

from core.nn.backbones.backbone import Backbone
from core.nn.backbones.weight_files import load_file

_WIDTHS = (24, 48, 96)
_NUM_GROUPS = 8


class SmallCNN(nn.Module):
    """Three convolutions of stride 2 and one of stride 1, each with group norm and ReLU; 64 x 64 pixels give 8 x 8 x 96.

    Group norm (Wu & He, ECCV 2018, arXiv:1803.08494) reads one image alone: an image's features depend on no other.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, stride in (*((width, 2) for width in _WIDTHS), (_WIDTHS[-1], 1)):
            layers.append(nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False))
            layers.append(nn.GroupNorm(_NUM_GROUPS, width))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                # Keeps the scale through a ReLU (He et al., ICCV 2015, eq. 10).
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, height, width) -> (batch, 96, height / 8, width / 8), rounded up."""
        grid: Tensor = self.layers(images)
        return grid


def build_small_cnn(*, weights: str | None, load_weights: bool) -> Backbone:
    """The network, random or with the weights of a file.

    Raises:
        ValueError: for a file that is missing or does not fit.
    """
    network = SmallCNN()
    if weights is not None and load_weights:
        load_file(network, weights, backbone="small_cnn", head=(), names=())
    half = (0.5, 0.5, 0.5)
    return Backbone(network=network, extract=_run, mean=half, std=half, min_size=8)


def _run(network: nn.Module, images: Tensor) -> Tensor:
    grid: Tensor = network(images)
    return grid
