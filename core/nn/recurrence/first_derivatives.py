"""Hand-written backward passes that have no derivative of their own."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def first_derivatives_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A `torch.autograd.Function.backward` that refuses to be differentiated.

    PyTorch's `once_differentiable` refuses only where the incoming gradient requires one itself; that of a plain sum does
    not, and the second derivative would silently lack everything that passed through here.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "This network's backward pass is written by hand and has no second derivatives: call backward or grad "
                "without create_graph=True."
            )
        return backward(ctx, *grads)

    return checked
