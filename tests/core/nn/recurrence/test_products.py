"""Products by the fast route are products."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.nn.recurrence import products
from core.nn.recurrence.products import PackedWeight, has_fast_products, linear, product, weight_gradient


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 70)] * 3),
    bias=st.booleans(),
    fast=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_are_those_of_a_linear_layer(
    sizes: tuple[int, int, int], bias: bool, fast: bool, dtype: torch.dtype
) -> None:
    rows, inner, columns = sizes
    torch.manual_seed(rows)
    inputs = torch.randn(rows, inner, dtype=dtype, requires_grad=True)
    weight = torch.randn(columns, inner, dtype=dtype, requires_grad=True)
    offset = torch.randn(columns, dtype=dtype, requires_grad=True) if bias else None
    leaves = [leaf for leaf in (inputs, weight, offset) if leaf is not None]
    grad = torch.randn(rows, columns, dtype=dtype)
    with (
        mock.patch.object(products, "_passes_self_test", return_value=fast and products._passes_self_test()),
        mock.patch.object(products, "_LEAST_WEIGHT", 0),
        mock.patch.object(products, "_LEAST_WORK", 0),
    ):
        outputs = linear(inputs, weight, offset)
        gradients = torch.autograd.grad(outputs, leaves, grad)
        with torch.no_grad():
            packed = PackedWeight(weight, offset, dtype=dtype)(inputs)
            alone = product(inputs, weight.t())
            of_weight = weight_gradient(grad, inputs)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.nn.functional.linear(*exact)
    wanted = torch.autograd.grad(expected, exact, grad.double())
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for got, want in [
        (outputs, expected),
        (packed, expected),
        (alone, expected if offset is None else expected - offset),
        *zip(gradients, wanted, strict=True),
        (of_weight, wanted[1]),
    ]:
        torch.testing.assert_close(got, want.to(dtype), rtol=tolerance, atol=tolerance)


def test_a_kernel_that_rounds_is_not_taken() -> None:
    """The self-test is what stands between a fast product in half precision and a float32 run."""

    def rounded(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.nn.functional.linear(inputs.bfloat16(), weight.bfloat16(), bias.bfloat16()).float()

    kernels = mock.Mock(_linear_pointwise=rounded, _reorder_linear_weight=lambda weight, _: weight)
    with mock.patch.object(torch.ops, "mkldnn", kernels):
        assert not products._passes_self_test.__wrapped__()
    kernels._linear_pointwise = lambda inputs, weight, bias, *_: torch.nn.functional.linear(inputs, weight, bias)
    with mock.patch.object(torch.ops, "mkldnn", kernels):
        assert products._passes_self_test.__wrapped__()
    kernels._linear_pointwise = mock.Mock(side_effect=NotImplementedError)
    with mock.patch.object(torch.ops, "mkldnn", kernels):
        assert not products._passes_self_test.__wrapped__()


@pytest.mark.timeout(60)
def test_parts_and_repetitions_of_a_matrix_are_copied_first() -> None:
    """As they lie oneDNN takes a minute; the gradient of a sum is such a tensor."""
    inputs, weight = torch.randn(4096, 512, requires_grad=True), torch.randn(3 * 512, 512, requires_grad=True)
    linear(inputs, weight[512:]).sum().backward()
    torch.testing.assert_close(weight.grad[1024], inputs.detach().sum(0), rtol=1e-3, atol=1e-2)
    wide = torch.randn(4096, 1536)
    ours = weight_gradient(wide[:, 512:1024], inputs.detach())
    torch.testing.assert_close(ours, wide[:, 512:1024].t() @ inputs.detach(), rtol=1e-3, atol=1e-2)


def test_other_precisions_take_torchs_route() -> None:
    assert not has_fast_products(torch.zeros(2, 2, dtype=torch.float64))
    assert not has_fast_products(torch.zeros(2, 2, dtype=torch.bfloat16))
    assert not has_fast_products(torch.zeros(0, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not has_fast_products(torch.zeros(2, 2))
        assert linear(torch.zeros(2, 2), torch.zeros(2, 2)).dtype == torch.bfloat16


def test_a_packed_weight_rounds_to_its_precision_and_gives_back_the_inputs() -> None:
    inputs, weight = torch.randn(3, 40), torch.randn(5, 40)
    outputs = PackedWeight(weight, dtype=torch.bfloat16)(inputs)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, inputs @ weight.t(), rtol=0.05, atol=0.1)
    assert not torch.equal(outputs, inputs @ weight.t())
    with pytest.raises(RuntimeError):
        PackedWeight(weight, dtype=torch.float32)(torch.randn(3, 41))


def test_small_products_are_not_worth_the_detour() -> None:
    with mock.patch.object(products, "_fast", side_effect=AssertionError):
        linear(torch.zeros(8, 64), torch.zeros(64, 64))
        PackedWeight(torch.zeros(64, 64), dtype=torch.float32)(torch.zeros(8, 64))
    with mock.patch.object(products, "has_fast_products", return_value=True) as asked:
        linear(torch.zeros(4096, 64), torch.zeros(64, 64))
    assert asked.called
