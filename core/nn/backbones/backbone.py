"""What every backbone gives and says about itself."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

Grid = Float[Tensor, "batch features grid_height grid_width"]
Channels = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network without its classifier, and what has to be known to use it."""

    network: nn.Module
    """Holds the weights, under the names that a file of the whole network has."""
    extract: Callable[[nn.Module, Tensor], Grid]
    """Normalised images (batch, 3, height, width) through the network."""
    mean: Channels
    """Mean of red, green and blue that the weights expect to be taken off, on a scale from 0 to 1."""
    std: Channels
    """What they are divided by then."""
    min_size: int
    """Smallest height and width in pixels."""
    image_size: int | None = None
    """The only height and width in pixels; None = any from `min_size` on."""
    grid_shape: tuple[int, int, int] | None = None
    """Features, height and width of the grid, where there is one grid and it is known; None = whatever `extract` gives."""

    def check_size(self, name: str, *, height: int, width: int) -> None:
        """Refuse images that the network called `name` cannot read.

        Raises:
            ValueError: saying which size it needs.
        """
        if self.image_size is not None and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"images of backbone {name!r} must be {self.image_size} x {self.image_size} pixels, got {height} x {width}: "
                "its weights are made for that size. Resize the images to it, or choose another backbone."
            )
        if min(height, width) < self.min_size:
            raise ValueError(
                f"images of backbone {name!r} must be at least {self.min_size} x {self.min_size} pixels, got "
                f"{height} x {width}. Make them larger, or choose another backbone."
            )
