"""A small network of ours that trains from scratch on a CPU."""

from torch import Tensor, nn

from core.nn.backbones.backbone import Backbone
from core.nn.backbones.weight_files import load_file

_LAYERS = ((16, 5, 2), (32, 3, 2), (64, 3, 2), (96, 3, 1))
"""Features, side of the kernel and stride of each convolution."""


class SmallCNN(nn.Module):
    """Three convolutions of stride 2 and one of stride 1, each with SiLU; 64 x 64 pixels give 8 x 8 x 96.

    With SiLU, x sigmoid(x) (Hendrycks & Gimpel, arXiv:1606.08415; Elfwing et al., Neural Networks 107, 2018), it learned the
    shapes of `demo/scenes` in fewer steps than with ReLU. Nothing is normalised in between: a scale taken over the image would
    let what a small object gives depend on how much else there is, and four layers with He's initial weights train without.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel_size, stride in _LAYERS:
            layer = nn.Conv2d(channels, width, kernel_size=kernel_size, stride=stride, padding=kernel_size // 2)
            # Keeps the scale through a ReLU (He et al., ICCV 2015, eq. 10), and SiLU is near one.
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.SiLU(inplace=True)]
            channels = width
        self.layers = nn.Sequential(*layers)

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
    # Dark grounds, as of generated pictures, are near 0, and what stands out from them is not.
    quarter = (0.25, 0.25, 0.25)
    return Backbone(network=network, extract=_run, mean=quarter, std=quarter, min_size=8)


def _run(network: nn.Module, images: Tensor) -> Tensor:
    grid: Tensor = network(images)
    return grid
