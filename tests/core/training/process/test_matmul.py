"""The matrix-product switch is set where products stay float32 and refused where they are rounded."""

from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from core.training.process import matmul
from core.training.process.matmul import matmul_error, use_onednn_matmul


@pytest.fixture(autouse=True)
def _switch_put_back() -> Iterator[None]:
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def test_where_products_stay_float32_they_go_through_onednn() -> None:
    with mock.patch.object(matmul, "matmul_error", return_value=1e-6):
        use_onednn_matmul()
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"


def test_where_products_are_rounded_the_setting_is_refused_and_undone() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    with (
        mock.patch.object(matmul, "matmul_error", return_value=4e-3),
        pytest.raises(ValueError, match=r"would round matrix products on this CPU \(relative error 4.0e-03"),
    ):
        use_onednn_matmul()
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_torch_without_onednn_is_told_so() -> None:
    with (
        mock.patch.object(torch.backends.mkldnn, "is_available", return_value=False),
        pytest.raises(ValueError, match="needs a PyTorch built with oneDNN"),
    ):
        use_onednn_matmul()


def test_the_self_test_tells_float32_from_bfloat16() -> None:
    assert matmul_error() < matmul._TOLERANCE
    real = torch.Tensor.__matmul__

    def rounded(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return real(left, right) if left.dtype == torch.float64 else real(left.bfloat16(), right.bfloat16()).float()

    with mock.patch.object(torch.Tensor, "__matmul__", rounded):
        assert matmul_error() > 10 * matmul._TOLERANCE
