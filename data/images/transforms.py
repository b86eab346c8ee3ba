"""From a picture of any size to the size that a network takes, with augmentation that is a function of its seed."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

Fit = Literal["stretch", "crop", "pad"]

# Grey: whatever normalisation follows, it is near the middle of what a network knows.
_PADDING = 127
# Aspect ratios of random crops, relative to that of the whole (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015,
# section 6).
_CROP_RATIO = (3 / 4, 4 / 3)
# Beyond this many times the target, the long side is cut before it is scaled up: a picture of 1 x 100,000 pixels would
# otherwise fill the memory.
_MAX_OVERHANG = 16
# Goes up with every change that gives other pixels: features that are cached under the old one are not found again.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """How pictures are brought to one size, and how they are varied in training.

    Scaling is bilinear with antialiasing. Colours are varied in brightness, contrast and saturation but not in hue: captions
    name colours. Mirrored pictures no longer agree with captions that say left and right.
    """

    size: int | tuple[int, int]
    """Pixels: one number for a square, or [height, width]."""
    fit: Fit = "crop"
    """stretch: the aspect ratio is given up. crop: what hangs over on two sides is cut. pad: what lacks is grey."""
    flip: bool = False
    """Training: mirror every other picture, left to right."""
    crop_scale: tuple[float, float] | None = None
    """Training: take a random part, with [least, most] of the picture's area, instead of the whole; null = the whole."""
    colour_jitter: float = 0.0
    """Training: vary brightness, contrast and saturation each by a factor within 1 - this and 1 + this; from 0 to 1."""

    def __post_init__(self) -> None:
        # Lists come from YAML and from checkpoints; tuples make equal settings equal, and hashable.
        for name in ("size", "crop_scale"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if isinstance(self.size, tuple) and len(sides) != 2:
            raise ValueError(f"data.transform.size must be one number or [height, width], got {list(sides)}.")
        if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
            raise ValueError(f"data.transform.size must be whole numbers of at least 1 pixel, got {self.size}.")
        if self.fit not in get_args(Fit):
            raise ValueError(f"data.transform.fit is {self.fit!r}. Known: {', '.join(get_args(Fit))}.")
        if not 0 <= self.colour_jitter <= 1:
            raise ValueError(f"data.transform.colour_jitter must be from 0 (none) to 1, got {self.colour_jitter}.")
        self._check_crop()

    def _check_crop(self) -> None:
        if self.crop_scale is None:
            return
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"data.transform.crop_scale must be [least, most] with 0 < least <= most <= 1, got {list(self.crop_scale)}."
            )
        if self.crop_scale[0] == 1:
            raise ValueError(
                "data.transform.crop_scale is [1, 1], the whole picture, which does nothing. Leave it out."
            )
        if self.fit == "pad":
            raise ValueError(
                "data.transform.crop_scale fills the frame in training, but data.transform.fit: pad leaves grey edges in "
                "evaluation, which the network would never have seen. Set fit to crop or stretch, or leave crop_scale out."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what comes out, pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def is_random(self) -> bool:
        """Whether training sees pictures varied: features of them cannot be cached."""
        return self.flip or self.crop_scale is not None or self.colour_jitter > 0

    @property
    def fingerprint(self) -> str:
        """Tells apart what gives other pixels in evaluation, and nothing else: two sizes, but not two augmentations."""
        height, width = self.shape
        return f"{self.fit}-{height}x{width}-{_VERSION}"

    def plain(self) -> dict[str, Any]:
        """All settings as plain data; `ImageTransform(**plain)` is the way back."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    def __call__(
        self, image: UInt8[np.ndarray, "rows columns 3"], *, seed: Sequence[int] | None
    ) -> UInt8[Tensor, "3 height width"]:
        """A picture at the size.

        Args:
            image: 8-bit RGB of any size.
            seed: None in evaluation. In training the numbers that decide the augmentation, as (seed, epoch, index): the same
                give the same, in any process and whatever has been drawn before. The state of torch's generators is as
                before after the call.

        Raises:
            ValueError: the array is no 8-bit RGB picture.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"A picture must be uint8 (height, width, 3), got {image.dtype} {image.shape}.")
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
        if seed is None or not self.is_random:
            return self._whole(pixels).contiguous()
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would seed the generators of GPUs as well.
            torch.default_generator.manual_seed(_mixed(seed))
            return self._varied(pixels).contiguous()

    def _varied(self, pixels: Tensor) -> Tensor:
        from torchvision.transforms import v2

        steps: list[torch.nn.Module] = []
        if self.crop_scale is not None:
            # Seen from the result, crops are varied alike: relative to the frame, or to the picture stretched into it.
            rows, columns = pixels.shape[1:]
            height, width = self.shape if self.fit == "crop" else (rows, columns)
            low, high = (bound * width / height for bound in _CROP_RATIO)
            # A strip of a pixel or two may have no part of that form.
            if rows * high >= 1 and columns >= low:
                steps.append(v2.RandomResizedCrop(self.shape, scale=self.crop_scale, ratio=(low, high), antialias=True))
        if not steps:
            pixels = self._whole(pixels)
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.colour_jitter:
            steps.append(v2.ColorJitter(*[self.colour_jitter] * 3))
        for step in steps:
            pixels = step(pixels)
        return pixels

    def _whole(self, pixels: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        height, width = self.shape
        if self.fit == "stretch":
            stretched: Tensor = functional.resize(pixels, [height, width], antialias=True)
            return stretched
        if self.fit == "crop":
            pixels = self._without_overhang(pixels)
        rows, columns = pixels.shape[1:]
        # In whole numbers, so that the side that decides is exact and the other never falls short of the frame.
        by_height = height * columns >= width * rows if self.fit == "crop" else height * columns <= width * rows
        sides = [height, columns * height // rows] if by_height else [rows * width // columns, width]
        sides = [max(1, side) for side in sides]
        pixels = functional.resize(pixels, sides, antialias=True)
        if self.fit == "crop":
            cropped: Tensor = functional.center_crop(pixels, [height, width])
            return cropped
        top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
        padding = [left, top, width - sides[1] - left, height - sides[0] - top]
        padded: Tensor = functional.pad(pixels, padding, fill=_PADDING)
        return padded

    def _without_overhang(self, pixels: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        height, width = self.shape
        rows, columns = pixels.shape[1:]
        longest = [
            min(rows, math.ceil(_MAX_OVERHANG * columns * height / width)),
            min(columns, math.ceil(_MAX_OVERHANG * rows * width / height)),
        ]
        if longest != [rows, columns]:
            pixels = functional.center_crop(pixels, longest)
        return pixels


def _mixed(seed: Sequence[int]) -> int:
    """One seed of several: neighbours share nothing, and (1, 23) is not (12, 3)."""
    digest = hashlib.sha256(",".join(str(int(number)) for number in seed).encode()).digest()
    return int.from_bytes(digest[:8], "big")
