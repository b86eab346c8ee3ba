"""Several checkpoints that predict together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from core.training.module import ApplicationModule

Module = TypeVar("Module", bound=ApplicationModule)


def as_paths(given: str | Sequence[str] | None) -> list[str]:
    """What --ensemble names: one checkpoint, or a list of them."""
    return [given] if isinstance(given, str) else list(given or ())


def load_members(
    kind: type[Module],
    paths: Sequence[str],
    *,
    device: torch.device,
    alike: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> list[Module]:
    """The module of each checkpoint, on the device.

    Args:
        kind: the application's module.
        paths: checkpoints; of several none twice.
        device: where to compute.
        alike: picks from the preprocessing of a checkpoint what must be the same in all of them, each under the name that the
            message has for it.

    Raises:
        ValueError: naming the checkpoint that cannot be read, is given twice, or does not fit the first.
    """
    modules: list[Module] = []
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ValueError(f"--ensemble: {path} is given twice. Give each checkpoint once.")
        module = kind.from_checkpoint(path).to(device)
        if modules:
            expected, found = (alike(each.preprocessing) for each in (modules[0], module))
            other = [name for name in expected if expected[name] != found[name]]
            if other:
                raise ValueError(
                    f"--ensemble: {path} and {paths[0]} differ in {' and '.join(other)}, and cannot predict together. Train "
                    "them on the same data with the same data settings."
                )
        modules.append(module)
    return modules
