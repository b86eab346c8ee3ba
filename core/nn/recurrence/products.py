"""Matrix products by the fastest exact route this CPU has.

PyTorch sends a float32 product to the BLAS it was built with and keeps oneDNN for the fused cells. On some CPUs oneDNN's
product is up to twice as fast, most of all where few rows meet a large weight, as in every step of a recurrence: a
weight laid out once for many products (`PackedWeight`) is then not read in the wrong order each time. The arithmetic is
float32 throughout. Which route is taken is decided once a process, by the kind of CPU and a check of values, never by a
clock: the same machine gives the same bits again.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.ragged import is_traced

# oneDNN looks its kernel up at every call, some 20 microseconds: a smaller weight, or product, is done sooner without it.
_LEAST_WEIGHT = 1 << 19
_LEAST_WORK = 1 << 24

# Float32 rounding of a product of 64 terms near 1 stays far below this; bfloat16 rounding is far above.
_SELF_TEST_TOLERANCE = 1e-5


class PackedWeight:
    """A weight laid out for many products `inputs @ weight.T + bias`, without a gradient of its own.

    For the hand-written backward passes of `core.nn.recurrence.scan`, which make the gradients of weights in one product each.
    Products are rounded to `dtype` (bfloat16 under autocast) and returned in the inputs' precision.
    """

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, "out"] | None = None, *, dtype: torch.dtype
    ) -> None:
        self._dtype = dtype
        self._bias = None if bias is None else bias.to(dtype)
        weight = weight.to(dtype)
        self._fast = weight.numel() >= _LEAST_WEIGHT and has_fast_products(weight)
        # The number of rows is a hint for the layout only: a recurrence has as many as there are sequences still running.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 32) if self._fast else weight

    def __call__(self, inputs: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """The product with each row."""
        if self._fast:
            return _fast(inputs, self._weight, self._bias)
        return F.linear(inputs.to(self._dtype), self._weight, self._bias).to(inputs.dtype)


def linear(
    inputs: Float[Tensor, "rows in"], weight: Float[Tensor, "out in"], bias: Float[Tensor, "out"] | None = None
) -> Float[Tensor, "rows out"]:
    """`torch.nn.functional.linear` by the fast route, forward and backward."""
    if is_traced() or inputs.numel() * weight.shape[0] < _LEAST_WORK or not has_fast_products(inputs):
        return F.linear(inputs, weight, bias)
    result: Tensor = _FastLinear.apply(inputs, weight, bias)
    return result


def product(
    left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"], *, dtype: torch.dtype | None = None
) -> Float[Tensor, "rows columns"]:
    """`left @ right` by the fast route, rounded to `dtype` on the way; without a gradient, for use in a backward pass."""
    if dtype is not None and dtype != left.dtype:
        return (left.to(dtype) @ right.to(dtype)).to(left.dtype)
    if left.numel() * right.shape[1] >= _LEAST_WORK and has_fast_products(left) and has_avx512():
        return _fast(left, right.t(), None)
    return left @ right


def weight_gradient(
    grads: Float[Tensor, "rows out"], inputs: Float[Tensor, "rows in"], *, dtype: torch.dtype | None = None
) -> Float[Tensor, "out in"]:
    """`grads.T @ inputs`, the gradient of a weight that met each row of `inputs`; see `product`."""
    # Transposed, because oneDNN reads the right side as it lies and copies the left one: the inputs are the smaller.
    return product(inputs.t(), grads, dtype=dtype).t()


def add_weight_gradient(
    total: Float[Tensor, "in out"],
    grads: Float[Tensor, "rows out"],
    inputs: Float[Tensor, "rows in"],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Add `inputs.T @ grads` to `total`, a weight's transposed gradient that is made in several pieces."""
    if (dtype is None or dtype == grads.dtype == total.dtype) and not has_avx512():
        total.addmm_(inputs.t(), grads)
    else:
        total += product(inputs.t(), grads, dtype=dtype)


def _fast(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`inputs @ weight.T + bias` by oneDNN."""
    # Part of a matrix, or one row expanded to many, takes a path hundreds of times slower.
    if not weight.is_mkldnn:
        weight = _whole(weight)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(_whole(inputs), weight, bias, "none", [], "")
    return result


def _whole(matrix: Tensor) -> Tensor:
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


class _FastLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _fast(inputs, weight, bias)

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        wants_inputs, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            product(grad, weight) if wants_inputs else None,
            weight_gradient(grad, inputs) if wants_weight else None,
            grad.sum(0) if wants_bias else None,
        )


def has_fast_products(like: Tensor) -> bool:
    """Whether products of tensors like this one take oneDNN's route: float32 on a CPU whose oneDNN passes the check."""
    return (
        like.device.type == "cpu"
        and like.dtype == torch.float32
        and like.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and _passes_self_test()
    )


@cache
def has_avx512() -> bool:
    """Whether this CPU's products are made with AVX-512: what is fastest was measured with it and with AVX2.

    By the kind of CPU and never by a clock, so that a run gives the same bits again. With AVX-512, MKL leaves many CPUs half
    idle and oneDNN does not. With AVX2 both are equally fast, but oneDNN's products need twice as long where the left side lies
    transposed, as for every gradient of a weight.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _passes_self_test() -> bool:
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(5, 64, generator=generator), torch.randn(48, 64, generator=generator)
    bias = torch.randn(48, generator=generator)
    exact = F.linear(inputs.double(), weight.double(), bias.double())
    with torch.autocast("cpu", enabled=False), torch.no_grad():
        try:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, 32)
            results = [
                torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], ""),
                torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], ""),
                torch.ops.mkldnn._linear_pointwise(inputs.t().contiguous().t(), weight, bias, "none", [], ""),
            ]
        except (RuntimeError, NotImplementedError):  # built without these kernels: PyTorch's own products serve
            return False
    return all(bool(((result - exact).abs().max() / exact.abs().max()) < _SELF_TEST_TOLERANCE) for result in results)
