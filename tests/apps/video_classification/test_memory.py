"""What a training step holds in memory at most, as clips get longer."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from apps.video_classification.network import ClipShape, NetworkConfig
from apps.video_classification.recurrent import ConvRecurrentClassifier, RecurrentClassifier
from core.nn.convolutional import ConvRecurrentConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.vision import ImageEncoderConfig

ENCODER = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")
VECTORS = RecurrentClassifier(encoder=ENCODER, frame_size=8, recurrent=RecurrentConfig(kind="gru", hidden_size=8))
MAPS = ConvRecurrentClassifier(
    encoder=ENCODER, map_channels=4, conv_recurrent=ConvRecurrentConfig(kind="conv_gru", hidden_channels=4)
)
NETWORKS = pytest.mark.parametrize("network", [VECTORS, MAPS], ids=["vectors", "maps"])


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes of tensors that were alive at once, of those made within; the same on every machine."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        self.most = max(self.most, self._now)
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive.add(key)
            self._now += storage.nbytes()
            weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


def growth(network: NetworkConfig, *, frames_at_once: int | None) -> float:
    """Bytes that a frame adds to a training step at most, relative to those of its features."""
    found = []
    for num_frames in (16, 48):
        torch.manual_seed(0)
        changed = type(network)(**{**vars(network), "frames_at_once": frames_at_once})
        model = changed.build(ClipShape(num_classes=3, image_size=(64, 64)), load_weights=True)
        images = torch.randint(256, (num_frames, 3, 64, 64), dtype=torch.uint8)
        with Peak() as peak:
            features = model.encode(images, train=True)
            model(features.unsqueeze(0), torch.tensor([num_frames])).sum().backward()
        found.append((peak.most, features.nbytes))
    (less, features_less), (more, features_more) = found
    return float((more - less) / (features_more - features_less))


@NETWORKS
def test_with_frames_at_once_a_longer_clip_takes_its_features_and_no_activations_of_the_encoder(
    network: NetworkConfig,
) -> None:
    """Features as they are, without padding, and their gradients; how deep the encoder is makes no difference."""
    assert growth(network, frames_at_once=4) < 5
    assert growth(network, frames_at_once=None) > 12
