"""Products in a loop against the same products by autograd's own rules."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.nn.decoders.loop_products import LoopEmbedding, LoopProducts, Products, plain_products
from core.nn.decoders.lstm_update import lstm_update


class Recipe(NamedTuple):
    num_steps: int
    num_rows: int
    widths: list[int]
    term: str
    batched: bool
    seed: int

    def run(self, products: Products | None, dtype: torch.dtype, *, last: int = 0) -> list[Tensor]:
        """A recurrence h = tanh(x W1 + h W2 + term) of all steps but the `last`, and its gradients."""
        torch.manual_seed(self.seed)
        make = lambda *shape: torch.randn(*shape, dtype=dtype).requires_grad_()  # noqa: E731
        batch = (2,) if self.batched else ()
        size = 3
        weights = [make(*batch, size, width) for width in [*self.widths, size]]
        inputs = [make(self.num_steps, *batch, self.num_rows, width) for width in self.widths]
        steps = make(self.num_steps, *batch, self.num_rows, size) if self.term == "steps" else None
        bias = make(size) if self.term == "bias" else None
        hidden = make(*batch, self.num_rows, size)
        leaves = [*weights, *inputs, hidden, *(leaf for leaf in (steps, bias) if leaf is not None)]
        step_of = None if products is None else products(weights, bias=bias, steps=steps)
        for step in range(self.num_steps - last):
            given_now = [part[step] for part in inputs]
            if step_of is None:
                term = bias if steps is None else steps[step]
                alone = plain_products(weights, bias=term)
                hidden = torch.tanh(alone(*given_now, hidden))
            else:
                hidden = torch.tanh(step_of(*given_now, hidden))
        return [hidden, *torch.autograd.grad(hidden.sum(), leaves)]


recipes = st.builds(
    Recipe,
    num_steps=st.integers(2, 5),
    num_rows=st.integers(1, 4),
    widths=st.lists(st.integers(1, 4), max_size=2),
    term=st.sampled_from(["none", "bias", "steps"]),
    batched=st.booleans(),
    seed=st.integers(0, 2**31),
)


@settings(deadline=None, max_examples=60)
@given(recipe=recipes, last=st.integers(0, 1))
def test_values_and_gradients_are_those_of_each_step_for_itself(recipe: Recipe, last: int) -> None:
    """Float64, and float32 with its packed weights; also where a loop is left before its last step."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-4)):
        expected = recipe.run(None, dtype, last=last)
        got = recipe.run(LoopProducts(recipe.num_steps), dtype, last=last)
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_without_gradients_nothing_is_kept() -> None:
    weight = torch.randn(3, 4, requires_grad=True)
    with torch.no_grad():
        apply = LoopProducts(2)([weight], steps=torch.arange(2.0).reshape(2, 1, 1))
        inputs = torch.randn(5, 4)
        first, second = apply(inputs), apply(inputs)
    torch.testing.assert_close(second, first + 1)
    torch.testing.assert_close(first, inputs @ weight.T)


@pytest.mark.parametrize("num_called", [3, 2])
def test_a_table_looked_up_in_a_loop_has_the_gradient_of_all_its_rows(num_called: int) -> None:
    """Rows read more than once, and one that is never read."""
    table = nn.Embedding(5, 2).double()
    indices = torch.tensor([[1, 1, 3], [0, 1, 4], [4, 4, 4]])
    weight = torch.randn(3, 3, 2, dtype=torch.float64)
    look_up = LoopEmbedding(table.weight, num_steps=3)
    rows = torch.stack([look_up(row) for row in indices[:num_called]])
    expected = table(indices[:num_called])
    assert torch.equal(rows, expected)
    (got,) = torch.autograd.grad((rows * weight[:num_called]).sum(), table.weight)
    (wanted,) = torch.autograd.grad((expected * weight[:num_called]).sum(), table.weight)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_the_fused_update_of_an_lstm_has_the_gradients_of_finite_differences() -> None:
    gates = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    cell = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lstm_update, (gates, cell))
    with torch.no_grad():
        plain = lstm_update(gates, cell)
    torch.testing.assert_close(lstm_update(gates, cell), plain, rtol=1e-12, atol=1e-12)
