"""Which precision and device a network's inputs must have."""

import torch
from torch import Tensor


def is_autocast(device: torch.device) -> bool:
    """Whether autocast is on for this kind of device; never for one that has none, such as `meta` (shapes alone)."""
    # Asked of a device without autocast, PyTorch raises.
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def product_dtype(tensor: Tensor) -> torch.dtype:
    """The precision in which this tensor is multiplied: its own, or autocast's, which leaves float64 alone."""
    if not is_autocast(tensor.device) or tensor.dtype == torch.float64:
        return tensor.dtype
    return torch.get_autocast_dtype(tensor.device.type)


def check_like(tensor: Tensor, *, name: str, like: Tensor, like_name: str = "the weights are") -> None:
    """Refuse a tensor on another device than `like`, or in another precision; under autocast any but float64 will do.

    Args:
        tensor: what is checked.
        name: what the message calls it.
        like: what it has to fit.
        like_name: what the message calls that.

    Raises:
        ValueError: saying what was expected and what was got.
    """
    rounds = is_autocast(like.device) and tensor.is_floating_point() and tensor.dtype != torch.float64
    if tensor.device != like.device or (tensor.dtype != like.dtype and not rounds):
        raise ValueError(
            f"{name} must be {like.dtype} on {like.device}, as {like_name}, got {tensor.dtype} on {tensor.device}."
        )
