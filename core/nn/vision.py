"""Images to features: one vector for each region of a grid over the image, or one for all of it.

What captioning attends to (Xu et al., ICML 2015, arXiv:1502.03044, section 3.1.1) and what a recurrent layer reads
from a clip, frame by frame (Donahue et al., CVPR 2015, arXiv:1411.4389).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from core.nn.backbones.build import SMALL_CNN, build_backbone
from core.nn.recurrence.precision import check_like

Features = Literal["grid", "pooled"]
Trainable = Literal["none", "all"]


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """Which network looks at the images, with which weights, and what it gives."""

    backbone: str
    """small_cnn (64 x 64 pixels, to train from scratch), efficientnet_lite0 (extra `pretrained`), or any classification
    network of torchvision by its name, as resnet50."""
    weights: str | None
    """Name of weights (DEFAULT or another of torchvision's; `pretrained` for efficientnet_lite0), or path of a file with a
    state dict; null = random."""
    features: Features = "grid"
    """grid: a vector for each region of the last grid; pooled: their mean, one vector an image."""
    grid_size: int | None = None
    """Average the grid to this many regions in height and in width, whatever the images' size; null = as it is."""
    trainable: Trainable | list[str] = "none"
    """none, all, or what the names of trained parameters start with, as [layer3, layer4]. Batch norm keeps its statistics."""

    def __post_init__(self) -> None:
        if self.features not in get_args(Features):
            raise ValueError(f"features must be one of {', '.join(get_args(Features))}, got {self.features!r}.")
        if self.grid_size is not None and self.grid_size < 1:
            raise ValueError(f"grid_size must be at least 1, got {self.grid_size}.")
        if self.grid_size is not None and self.features == "pooled":
            raise ValueError(
                f"grid_size={self.grid_size} does nothing with features='pooled', which leaves one region. Set features to "
                "grid, or remove it."
            )
        if isinstance(self.trainable, str) and self.trainable not in get_args(Trainable):
            raise ValueError(
                f"trainable must be none, all, or a list of what parameters' names start with, got {self.trainable!r}. "
                f"Write [{self.trainable}] for a list of one."
            )
        if not self.trainable:
            raise ValueError("trainable is an empty list. Write none, or name what to train, as [layer4].")
        if self.backbone == SMALL_CNN and self.weights is None and self.trainable == "none":
            raise ValueError(
                f"backbone {SMALL_CNN!r} with weights=null and trainable=none would give the features of random weights. "
                "Set trainable to all, or weights to a file."
            )


class ImageEncoder(nn.Module):
    """A backbone with its normalisation inside: images in, features out.

    Batch norm runs on its stored statistics in training too, so that an image's features depend on no other image of the
    batch, and no statistic has to be agreed between processes. Whatever has no trained parameter in it runs as in
    evaluation: without dropout or stochastic depth.

    Args:
        config: which network, weights and features.
        load_weights: whether to load the weights that `config` names; False for a network that takes its own from a
            checkpoint, which needs neither a file nor the network then.

    Raises:
        ValueError: for an unknown backbone or prefix, a missing package, or weights that cannot be had or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ImageEncoderConfig, *, load_weights: bool = True) -> None:
        super().__init__()
        self.config = config
        self._built = build_backbone(config.backbone, weights=config.weights, load_weights=load_weights)
        self.backbone = self._built.network
        # On the scale of bytes: whole numbers up to 255 are exact in every precision.
        for name, values in (("mean", self._built.mean), ("std", self._built.std)):
            on_bytes = torch.tensor([255 * value for value in values])
            self.register_buffer(name, on_bytes.view(3, 1, 1), persistent=False)
        self._choose_trained(config.trainable)
        # The CPU's convolutions are 1.2 to 1.5 times as fast on it for efficientnet_lite0.
        self.to(memory_format=torch.channels_last)
        self._grid_shapes: dict[tuple[int, int], tuple[int, int, int]] = {}
        size = self._built.image_size or self._built.min_size
        self.num_features, _, _ = self._shape_of_grid(height=size, width=size)
        """Width of a region's vector."""
        self.train()

    def forward(
        self, images: UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch regions features"]:
        """Features of RGB images, bytes from 0 to 255 or numbers from 0 to 1; regions row by row, 1 if pooled.

        Raises:
            ValueError: for another shape, precision or device, or a size that the backbone cannot read.
        """
        self._check(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._is_trained()):
            grid = self._grid(images)
            if self.config.grid_size is not None:
                grid = F.adaptive_avg_pool2d(grid, self.config.grid_size)
            regions = grid.flatten(2).transpose(1, 2)
            return regions.mean(1, keepdim=True) if self.config.features == "pooled" else regions

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """Regions in height and width of images of that size in pixels, (1, 1) if pooled.

        Raises:
            ValueError: for a size that the backbone cannot read.
        """
        self._built.check_size(self.config.backbone, height=height, width=width)
        if self.config.features == "pooled":
            return 1, 1
        if self.config.grid_size is not None:
            return self.config.grid_size, self.config.grid_size
        _, grid_height, grid_width = self._shape_of_grid(height=height, width=width)
        return grid_height, grid_width

    def weights_fingerprint(self) -> str:
        """Tells the weights of one encoder from those of another, in any process: part of the key of cached features.

        SHA-256 over the backbone's name and all parameters and buffers, the normalisation among them: names, shapes,
        precisions and bytes. `features` and `grid_size` are not in it.
        """
        digest = hashlib.sha256(self.config.backbone.encode())
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, tensor in sorted(tensors.items()):
            digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def gives_same_as(self, other: "ImageEncoder") -> bool:
        """Whether the features of every image are those of another encoder: the same weights, and the same settings."""
        return self is other or (
            self.config == other.config and self.weights_fingerprint() == other.weights_fingerprint()
        )

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Training mode for what is trained, except batch norm; the rest stays in evaluation."""
        self.training = mode
        self.backbone.train(mode and self._is_trained())
        for module in self.backbone.modules():
            frozen = not any(parameter.requires_grad for parameter in module.parameters())
            has_own = next(module.parameters(), None) is not None
            if isinstance(module, _BatchNorm) or (frozen and has_own):
                module.eval()
        return self

    def _grid(self, images: Tensor) -> Tensor:
        pixels = images * 255 if images.is_floating_point() else images.to(self.mean.dtype)
        normalised = (pixels - self.mean) / self.std
        return self._built.extract(self.backbone, normalised.contiguous(memory_format=torch.channels_last))

    def _shape_of_grid(self, *, height: int, width: int) -> tuple[int, int, int]:
        """Features, height and width of the grid of images of that size, found with one that is black."""
        if self._built.grid_shape is not None:
            return self._built.grid_shape
        if (height, width) in self._grid_shapes:
            return self._grid_shapes[height, width]
        was_training = self.training
        self.eval()  # draws no random number
        with torch.no_grad():
            image = torch.zeros(1, 3, height, width, dtype=self.mean.dtype, device=self.mean.device)
            _, num_features, grid_height, grid_width = self._grid(image).shape
        self.train(was_training)
        self._grid_shapes[height, width] = num_features, grid_height, grid_width
        return num_features, grid_height, grid_width

    def _is_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.backbone.parameters())

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (batch, 3, height, width), got {tuple(images.shape)}.")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8 (0 to 255) or floating point (0 to 1), got {images.dtype}.")
        if images.is_floating_point():
            check_like(images, name="images", like=self.mean)
        elif images.device != self.mean.device:
            raise ValueError(f"images must be on {self.mean.device}, as the weights are, got {images.device}.")
        self._built.check_size(self.config.backbone, height=images.shape[2], width=images.shape[3])

    def _choose_trained(self, trainable: Trainable | list[str]) -> None:
        names = [name for name, _ in self.backbone.named_parameters()]
        prefixes = [] if isinstance(trainable, str) else [prefix.rstrip(".") for prefix in trainable]
        for prefix in prefixes:
            if not any(_starts_with(name, prefix) for name in names):
                raise ValueError(
                    f"trainable: no parameter of backbone {self.config.backbone!r} starts with {prefix!r}. They start with "
                    f"{', '.join(_beginnings(names, near=prefix))}."
                )
        for name, parameter in self.backbone.named_parameters():
            chosen = any(_starts_with(name, prefix) for prefix in prefixes)
            parameter.requires_grad_(chosen or trainable == "all")


def _starts_with(name: str, prefix: str) -> bool:
    """Part by part: features.1 is no beginning of features.10."""
    return name == prefix or name.startswith(f"{prefix}.")


def _beginnings(names: Iterable[str], *, near: str) -> list[str]:
    """What names start with, one part deeper than what they have in common with `near`, or as deep as they differ."""
    parts = near.split(".")
    split = [name.split(".") for name in names]
    depth = max(_num_common(name, parts) for name in split)
    while True:
        kin = [name for name in split if name[:depth] == parts[:depth] or not depth]
        found = list(dict.fromkeys(".".join(name[: depth + 1]) for name in kin))
        if len(found) > 1 or all(len(name) <= depth + 1 for name in kin):
            return found
        depth, parts = depth + 1, found[0].split(".")


def _num_common(name: list[str], parts: list[str]) -> int:
    return next((i for i, (a, b) in enumerate(zip(name, parts, strict=False)) if a != b), min(len(name), len(parts)))


def first_alike(encoders: Sequence[ImageEncoder]) -> list[int]:
    """For each encoder the number of the first that gives the same features, its own where none before it does."""
    return [
        next(number for number, first in enumerate(encoders) if first.gives_same_as(encoder)) for encoder in encoders
    ]
