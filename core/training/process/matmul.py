"""Float32 matrix products on CPU by oneDNN instead of the BLAS that PyTorch was built with: a setting of the process."""

from typing import Any

import torch
from torch import Tensor

# Its parts are made at run time, out of a type checker's sight.
_ONEDNN: Any = torch.backends.mkldnn
# Float32 rounding of these products stays below a hundredth of it, bfloat16 rounding is a hundred times above.
_TOLERANCE = 2e-5


def use_onednn_matmul() -> None:
    """Send float32 matrix products through oneDNN, if they stay float32 there.

    On some CPUs that is up to twice as fast. PyTorch has one switch for it, which also allows oneDNN to round to
    bfloat16: CPUs without matrix units for that (AMX) keep float32. So the products are checked against float64, and
    where they are rounded the switch is put back and the setting refused.

    Raises:
        ValueError: where oneDNN rounds, or is not there.
    """
    if not _ONEDNN.is_available():
        raise ValueError(
            "onednn_matmul: true needs a PyTorch built with oneDNN; this one has none. Remove the setting."
        )
    before = _ONEDNN.matmul.fp32_precision
    _ONEDNN.matmul.fp32_precision = "bf16"
    error = matmul_error()
    if not error < _TOLERANCE:
        _ONEDNN.matmul.fp32_precision = before
        raise ValueError(
            f"onednn_matmul: true would round matrix products on this CPU (relative error {error:.1e}, float32 stays below "
            f"{_TOLERANCE:.0e}). Remove the setting, or set trainer.precision: bf16-mixed if rounding is wanted."
        )


def uses_onednn_matmul() -> bool:
    """Whether the switch is set."""
    return bool(_ONEDNN.matmul.fp32_precision == "bf16")


def matmul_error() -> float:
    """Largest error of float32 products of several shapes, relative to the largest value of each."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    # Single rows, small and large products, transposed or not, and batches take different kernels.
    for rows, inner, columns in ((1, 64, 48), (32, 512, 256), (200, 300, 100)):
        left = torch.randn(rows, inner, generator=generator)
        right = torch.randn(inner, columns, generator=generator)
        pairs: list[tuple[Tensor, Tensor]] = [
            (left, right),
            (left, right.t().contiguous().t()),
            (left.t().contiguous().t(), right),
            (left.expand(3, -1, -1).contiguous(), right.expand(3, -1, -1).contiguous()),
        ]
        for first, second in pairs:
            exact = first.double() @ second.double()
            worst = max(worst, float(((first @ second) - exact).abs().max() / exact.abs().max()))
    return worst
