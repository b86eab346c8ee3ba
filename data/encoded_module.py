"""What DataModules of images share: a frozen encoder sees each image once, and its features take the image's place."""

from __future__ import annotations

from typing import ClassVar, Generic, Protocol, TypeVar

from data.feature_cache import FrozenEncoder
from data.images.transforms import ImageTransform
from data.module import LoaderConfig, PlannedDataModule, PlannedDataset
from data.paths import cache_folder


class EncodedDataset(PlannedDataset, Protocol):
    """Images of a part, or the features that have taken their place."""

    def use_images(self) -> None:
        """Give images from now on."""
        ...


Examples = TypeVar("Examples", bound=EncodedDataset)


class EncodedDataModule(PlannedDataModule, Generic[Examples]):
    """Images as pixels, or as what a frozen encoder makes of them.

    Args:
        batch_size, seed, loader, token_budget: as of the base class.
        transform: how images are brought to one size, and varied in training.
        feature_cache: keep features on disk, instead of encoding images in every epoch.
        cache_dir: where they are kept; None: UNROLL_CACHE, or the user's cache folder.
    """

    image_name: ClassVar[str] = "image"
    """What messages call one."""

    def __init__(
        self,
        *,
        batch_size: int | None,
        seed: int,
        loader: LoaderConfig,
        transform: ImageTransform,
        feature_cache: bool,
        cache_dir: str | None,
        token_budget: int | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed, loader=loader, token_budget=token_budget)
        self.transform = transform
        self.feature_cache = feature_cache
        self.cache_dir = cache_dir
        self._datasets: dict[str, Examples] = {}
        self._encoder: FrozenEncoder | None = None
        self._with_features: set[str] = set()

    def use_encoder(self, encoder: FrozenEncoder | None) -> None:
        """Take features from now on where they serve as well as images, or images alone; before the loaders are made.

        Raises:
            ValueError: images are varied in training, which an encoder that never sees them again cannot notice.
        """
        self._encoder, self._with_features = None, set()
        for dataset in self._datasets.values():
            dataset.use_images()
        if encoder is None or not self.feature_cache:
            return
        if self.transform.is_random and encoder.epochs is None:
            raise ValueError(
                f"data.transform varies {self.image_name}s in training, but the encoder is frozen and its features are "
                "computed once: it would do nothing. Leave flip, crop_scale and colour_jitter out, train the encoder, or set "
                f"data.feature_cache: false, which encodes every {self.image_name} in every epoch."
            )
        self._encoder = encoder

    def _encoder_due(self, part: str) -> FrozenEncoder | None:
        """The encoder whose features a part is to take now: None where it has them, or is to do without."""
        encoder = self._encoder
        if encoder is None or part in self._with_features:
            return None
        # An encoder that thaws makes others of the same image from then on, in evaluation as well.
        if encoder.epochs is not None and not (part == "train" and encoder.epochs > 0):
            return None
        self._with_features.add(part)
        return encoder

    def _folder(self) -> str:
        return self.cache_dir or str(cache_folder())
