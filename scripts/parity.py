"""Values and gradients on a device held against float64 on the CPU, case by case."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Results = dict[str, Tensor]
Precision = Literal["float64", "float32", "bfloat16"]

TOLERANCES: dict[Precision, float] = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 0.1}
"""Largest difference, relative to the largest value of a tensor where that is above 1.

bfloat16 is autocast over float32; of its gradients only that they are finite is asked.
"""


class Place(NamedTuple):
    """Where a case is computed, and how."""

    device: torch.device
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and inputs."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def put(self, tensor: Tensor) -> Tensor:
        """A tensor as it goes in; whole numbers stay whole."""
        return tensor.to(self.device, self.dtype) if tensor.is_floating_point() else tensor.to(self.device)


EXACT = Place(torch.device("cpu"), "float64")


class Check(NamedTuple):
    """One case."""

    name: str
    compute: Callable[[Place], Results]
    """Values and gradients there."""
    expected: Callable[[], Results]
    """The same on the CPU in float64, by name."""
    precisions: tuple[Precision, ...] = ("float64", "float32")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one case in one precision."""

    name: str
    precision: Precision
    passed: bool
    error: float | None
    """Largest relative difference; None where there was none to measure."""
    tolerance: float
    message: str
    """What went wrong, or the tensor that differs most."""
    seconds: float


def compare_with_itself(
    name: str, compute: Callable[[Place], Results], precisions: tuple[Precision, ...] = ("float64", "float32")
) -> Check:
    """A case whose reference is the same code on the CPU in float64."""
    return Check(name, compute, lambda: compute(EXACT), precisions)


def with_gradients(values: Results, leaves: Mapping[str, Tensor]) -> Results:
    """The values, and the gradients in `leaves` of a fixed mix of all of them, which no symmetry makes vanish."""
    mixed = torch.zeros((), dtype=torch.float64)
    for value in values.values():
        # Drawn up on the CPU: no device computes cosines alike.
        weight = torch.cos(torch.arange(value.numel(), dtype=torch.float64)).reshape(value.shape)
        mixed = mixed.to(value.device) + (value.double() * weight.to(value.device)).sum()
    gradients = torch.autograd.grad(mixed, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {
        **{name: value.detach() for name, value in values.items()},
        **{f"gradient of {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)},
    }


def run(checks: Iterable[Check], device: torch.device, *, report: Callable[[Outcome], None]) -> list[Outcome]:
    """Every case in every one of its precisions; a case that raises has failed, and the others go on."""
    outcomes = []
    for check in checks:
        expected: Results | None = None
        for precision in check.precisions:
            start = time.monotonic()
            error, message = None, ""
            try:
                expected = check.expected() if expected is None else expected
                error, message = _difference(_computed(check, Place(device, precision)), expected, precision=precision)
            except Exception as problem:  # whatever it is, it belongs in the report, under this case's name
                message = f"{type(problem).__name__}: {problem}"
            tolerance = TOLERANCES[precision]
            outcome = Outcome(
                name=check.name,
                precision=precision,
                passed=error is not None and error <= tolerance,
                error=error,
                tolerance=tolerance,
                message=message,
                seconds=round(time.monotonic() - start, 3),
            )
            report(outcome)
            outcomes.append(outcome)
    return outcomes


def _computed(check: Check, place: Place) -> Results:
    if place.precision != "bfloat16":
        return check.compute(place)
    with torch.autocast(place.device.type, dtype=torch.bfloat16):
        return check.compute(place)


def _difference(got: Results, expected: Results, *, precision: Precision) -> tuple[float, str]:
    """The largest difference, and the tensor that has it."""
    if got.keys() != expected.keys():
        raise ValueError(f"expected {sorted(expected)}, got {sorted(got)}.")
    worst, where = 0.0, ""
    for name, value in got.items():
        wanted = expected[name]
        if value.shape != wanted.shape:
            raise ValueError(f"{name} should have shape {tuple(wanted.shape)}, got {tuple(value.shape)}.")
        if value.numel() == 0:
            continue
        if precision == "bfloat16" and name.startswith("gradient"):
            error = 0.0 if bool(torch.isfinite(value).all()) else float("inf")
        elif value.is_floating_point():
            scale = max(1.0, float(wanted.abs().max()))
            error = float((value.double().cpu() - wanted).abs().max()) / scale
        else:
            error = 0.0 if torch.equal(value.cpu(), wanted) else float("inf")
        # Written so that NaN is the worst of all.
        if not error <= worst:
            worst, where = (float("inf") if math.isnan(error) else error), name
    return worst, where
