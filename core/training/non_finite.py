"""Where a number stopped being finite: the first output on the way to the loss, or the first gradient on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.nn.recurrent import Recurrent


class Search(Protocol):
    """`locate_in_forward` or `locate_in_backward`."""

    def __call__(self, network: nn.Module, loss: Callable[[], Tensor], *, prefix: str) -> str:
        """Where a number stopped being finite, in a sentence."""
        ...


class FiniteGuard:
    """Remembers whether all losses and gradients were finite, and where the first that was not came from.

    Reading a number off a GPU would make the step wait for it, so there the search has to wait for the next check.
    """

    def __init__(self) -> None:
        self._finite: Tensor | None = None
        self.where: str | None = None

    def see(self, values: Tensor, *, locate: Callable[[], str]) -> None:
        """Take note of values; on the CPU, `locate` is called at once for the first that are not finite."""
        finite = torch.isfinite(values.detach()).all()
        self._finite = finite if self._finite is None else self._finite & finite
        if self.where is None and finite.device.type == "cpu" and not bool(finite):
            self.where = locate()

    def finite_since(self) -> bool:
        """Whether all values since the last call were finite; waits for the device."""
        finite, self._finite = self._finite, None
        return finite is None or bool(finite)


def locate_in_forward(network: nn.Module, loss: Callable[[], Tensor], *, prefix: str) -> str:
    """Compute a loss that was not finite again, and say in a sentence which output was the first that is not.

    Minus infinity alone is no find: masks put it where nothing shall be seen.

    Args:
        network: the network.
        loss: computes the loss with it, exactly as before.
        prefix: the network's own name, put before those of its modules.
    """
    broken = [name for name, parameter in network.named_parameters(prefix) if not bool(parameter.isfinite().all())]
    if broken:
        return f"The weights are not finite themselves: {_some(broken)}."
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if found:
            return
        for output in _tensors(outputs):
            bad = output.isnan() | output.isposinf()
            if bool(bad.any()):
                where = _place(module, name, bad, last=False)
                doubtful = any(not bool(tensor.isfinite().all()) for tensor in _tensors(inputs))
                found.append(f"First non-finite output: {where}{', whose inputs are not finite either' * doubtful}.")
                return

    with _watching(network, look, prefix=prefix), torch.no_grad():
        value = loss()
    if found:
        return found[0]
    if bool(value.isfinite()):
        return "Computed again, the loss of this piece is finite: it comes from another process, or does not repeat itself."
    return "The outputs of all modules are finite: the loss itself overflows, or its targets are not finite."


def locate_in_backward(network: nn.Module, loss: Callable[[], Tensor], *, prefix: str) -> str:
    """The same for a finite loss with a gradient that is not: the first on the way back from the loss.

    Args:
        network: the network.
        loss: computes the loss with it, exactly as before.
        prefix: the network's own name, put before those of its modules.
    """
    found: list[str] = []

    def watch(name: str, module: nn.Module, inputs: Any, outputs: Any) -> None:
        for output in _tensors(outputs):
            if not output.requires_grad:
                continue

            def look(gradient: Tensor) -> None:
                bad = ~gradient.isfinite()
                if not found and bool(bad.any()):
                    where = _place(module, name, bad, last=True)
                    found.append(f"First non-finite gradient on the way back: at the output of {where}.")

            output.register_hook(look)  # type: ignore[no-untyped-call]

    trained = {name: weight for name, weight in network.named_parameters(prefix) if weight.requires_grad}
    with torch.enable_grad(), _watching(network, watch, prefix=prefix):
        gradients = torch.autograd.grad(loss(), list(trained.values()), allow_unused=True)
    if found:
        return found[0]
    broken = [
        name
        for name, gradient in zip(trained, gradients, strict=True)
        if gradient is not None and not bool(gradient.isfinite().all())
    ]
    if broken:
        return f"The gradients of all outputs are finite, those of these weights are not: {_some(broken)}."
    return "Computed again, the gradient of this piece is finite: it comes from another process, or from the sum of pieces."


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _place(module: nn.Module, name: str, bad: Tensor, *, last: bool) -> str:
    """The first element that is not finite, or in a recurrent layer the first (on the way back: last) time step."""
    places = bad.nonzero()
    if isinstance(module, Recurrent) and bad.ndim == 3 and bad.shape[-1] == module.output_size:
        step = int(places[:, 1].max() if last else places[:, 1].min())
        example = int(places[places[:, 1] == step][0, 0])
        return f"{name}, time step {step} of example {example} of the piece (counted from 0)"
    place = places[0].tolist()
    return f"{name}, at {place} of shape {tuple(bad.shape)}" if place else name


class _watching:  # noqa: N801  # a context manager that reads as a verb
    """Calls `look(name, module, inputs, outputs)` after each module's forward, inner modules first."""

    def __init__(self, network: nn.Module, look: Callable[[str, nn.Module, Any, Any], None], *, prefix: str) -> None:
        self._handles: list[Any] = []
        self._network, self._look, self._prefix = network, look, prefix

    def __enter__(self) -> None:
        for name, module in self._network.named_modules(prefix=self._prefix):
            self._handles.append(module.register_forward_hook(self._hook(name), with_kwargs=True))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], outputs: Any) -> None:
            self._look(name, module, (inputs, keywords), outputs)

        return hook


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
