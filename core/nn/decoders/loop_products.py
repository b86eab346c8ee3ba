"""Matrix products inside a loop over time, with the gradient of the matrix taken once, after the loop.

A loop that multiplies by the same matrix at every step makes autograd form that matrix's gradient at every step, and
add them up: as many products and passes over memory of the matrix's size as there are steps. Here each step's
product is added to a term of its own, so that the gradient of all steps' results arrives in one piece, at the terms;
with the inputs kept from the forward pass, the matrix's gradient is one product over all steps.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.precision import is_autocast
from core.nn.recurrence.products import PackedWeight, has_fast_products, linear, product
from core.nn.recurrence.ragged import is_traced

Product = Callable[..., Tensor]
"""Takes one tensor (..., inner) for each weight and gives the sum of their products, (..., outer)."""


@runtime_checkable
class Products(Protocol):
    """How products with fixed weights are done: each for itself (`plain_products`), or in a loop (`LoopProducts`)."""

    def __call__(
        self, weights: Sequence[Tensor], *, bias: Tensor | None = None, steps: Tensor | None = None
    ) -> Product:
        """The function `x1, x2, ... -> x1 @ weights[0].mT + x2 @ weights[1].mT + ... + bias`.

        Args:
            weights: each (outer, inner), or (*batch, outer, inner) for a matrix an example.
            bias: added to every product.
            steps: (steps, ..., outer), one term a call instead of `bias`.
        """
        ...


def apply_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`inputs @ weight.T + bias` by the fast route, for inputs with any number of leading axes."""
    # oneDNN takes part of a matrix, but by a path hundreds of times slower.
    rows = inputs.reshape(-1, inputs.shape[-1]).contiguous()
    return linear(rows, weight.contiguous(), bias).reshape(*inputs.shape[:-1], weight.shape[0])


def plain_products(weights: Sequence[Tensor], *, bias: Tensor | None = None, steps: Tensor | None = None) -> Product:
    """Products by autograd's own rules; `steps` has one step."""
    term = bias if steps is None else steps[0]

    def apply(*inputs: Tensor) -> Tensor:
        total = term
        for tensor, weight in zip(inputs, weights, strict=True):
            result = apply_linear(tensor, weight) if weight.ndim == 2 else tensor @ weight.mT
            total = result if total is None else result + total
        assert total is not None, "a product needs a weight or a term"
        return total

    return apply


class LoopProducts:
    """Products in a loop of `num_steps` steps: each is called once a step. First derivatives only."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps

    def __call__(
        self, weights: Sequence[Tensor], *, bias: Tensor | None = None, steps: Tensor | None = None
    ) -> Product:
        """See `Products`."""
        if is_traced() or not torch.is_grad_enabled() or not any(weight.requires_grad for weight in weights):
            return _each_step(weights, bias=bias, steps=steps)
        weight = weights[0] if len(weights) == 1 else torch.cat(list(weights), dim=-1)
        return _LoopProduct(weight, bias=bias, steps=steps, num_steps=self._num_steps)


def _each_step(weights: Sequence[Tensor], *, bias: Tensor | None, steps: Tensor | None) -> Product:
    if steps is None:
        return plain_products(weights, bias=bias)
    remaining = iter(torch.split(steps, 1))

    def apply(*inputs: Tensor) -> Tensor:
        return plain_products(weights, steps=next(remaining))(*inputs)

    return apply


class _LoopProduct:
    def __init__(self, weight: Tensor, *, bias: Tensor | None, steps: Tensor | None, num_steps: int) -> None:
        if is_autocast(weight.device):
            # Once: autocast keeps casts of parameters only, and what is detached is none.
            weight = weight.to(torch.get_autocast_dtype(weight.device.type))
        self._weight = weight
        self._fixed = weight.detach()
        self._bias = bias
        self._steps = steps
        self._num_steps = num_steps
        self._packed = _Packed(self._fixed) if weight.ndim == 2 and has_fast_products(weight) else None
        self._step = 0
        self._inputs: list[_Kept] = []
        self._buffer: Tensor | None = None
        self._terms: Sequence[Tensor] = ()

    def __call__(self, *inputs: Tensor) -> Tensor:
        step, self._step = self._step, self._step + 1
        leading = inputs[0].shape[:-1]
        if step == 0:
            self._begin(inputs)
        if self._packed is not None and self._buffer is not None:
            flat = [part.reshape(-1, part.shape[-1]) for part in inputs]
            product: Tensor = _PackedStep.apply(self._packed, self._buffer[step], self._terms[step], *flat)
            return product.reshape(*leading, -1)
        rows = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        self._inputs.append(_Kept(rows.detach()))
        result = F.linear(rows, self._fixed) if self._fixed.ndim == 2 else rows @ self._fixed.mT
        return result + self._terms[step]

    def _begin(self, inputs: Sequence[Tensor]) -> None:
        """Make the terms and the room for inputs, whose shapes are known now."""
        like, (outer, inner) = inputs[0], self._fixed.shape[-2:]
        shape = (*like.shape[:-1], outer)
        if self._packed is not None:
            num_rows = like.shape[:-1].numel()
            # Zeros, so that steps that a loop never came to have no part in the gradient.
            self._buffer = like.new_zeros(self._num_steps, num_rows, inner)
            shape = (num_rows, outer)
        terms = self._steps
        if terms is None:
            term = self._fixed.new_zeros(()) if self._bias is None else self._bias
            terms = term.expand(self._num_steps, *shape)
        assert terms.shape[0] == self._num_steps, f"{terms.shape[0]} terms for {self._num_steps} steps"
        kept = self._inputs if self._buffer is None else self._buffer
        collected: Tensor = _CollectGradient.apply(terms, self._weight, kept)
        self._terms = collected.unbind(0)


class _CollectGradient(torch.autograd.Function):
    """The terms unchanged; backward, the gradient of the weight out of theirs and the inputs of all steps.

    `inputs` fills while the loop runs. It is not changed after it, so that backward may run more than once.
    """

    @staticmethod
    def forward(ctx: Any, terms: Tensor, weight: Tensor, inputs: "list[_Kept] | Tensor") -> Tensor:
        ctx.inputs = inputs
        ctx.num_batch_axes = weight.ndim - 2
        ctx.dtype = weight.dtype
        return terms.view_as(terms)

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        inputs = ctx.inputs if isinstance(ctx.inputs, Tensor) else torch.stack([kept.tensor for kept in ctx.inputs])
        grad_terms = grad if ctx.needs_input_grad[0] else None
        grad = grad[: len(inputs)]  # all but those of a loop that was left early
        axes = ctx.num_batch_axes
        if axes == 0:
            # Autocast rounds both factors as it did in forward.
            rows = inputs.reshape(-1, inputs.shape[-1]).to(ctx.dtype)
            # Of the two the inputs are the narrower in most loops, and a transpose is a copy.
            return grad_terms, product(rows.t(), grad.reshape(-1, grad.shape[-1]).to(ctx.dtype)).t(), None
        # (steps, *batch, queries, features) -> (*batch, steps x queries, features)
        inputs = inputs.movedim(0, axes).flatten(axes, axes + 1).to(ctx.dtype)
        grad = grad.movedim(0, axes).flatten(axes, axes + 1).to(ctx.dtype)
        return grad_terms, grad.mT @ inputs, None


class _Kept:
    """A tensor kept outside of autograd's sight, and so outside of its check that nobody has written over it."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._version = tensor._version

    @property
    def tensor(self) -> Tensor:
        if self._tensor._version != self._version:
            raise RuntimeError(
                "A tensor that a decoder's loop needs for its gradients has been modified by an inplace operation between "
                "forward and backward. Clone it before it is written to, or call backward first."
            )
        return self._tensor


class _Packed:
    """A weight laid out for the products of a loop, and its transpose for those of its backward pass."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = _Kept(weight)
        self.forward = PackedWeight(weight, dtype=weight.dtype)
        self._backward: PackedWeight | None = None

    @property
    def backward(self) -> PackedWeight:
        if self._backward is None:
            weight = self._weight.tensor
            self._backward = PackedWeight(weight.t(), dtype=weight.dtype)
        return self._backward


class _PackedStep(torch.autograd.Function):
    """`inputs` side by side, written to `rows`, times the weight, plus `term`: one operation, for each has its price."""

    @staticmethod
    def forward(ctx: Any, packed: _Packed, rows: Tensor, term: Tensor, *inputs: Tensor) -> Tensor:
        ctx.packed = packed
        ctx.sizes = [part.shape[-1] for part in inputs]
        torch.cat(inputs, dim=-1, out=rows)
        return packed.forward(rows).add_(term)

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_rows = ctx.packed.backward(grad.contiguous())
        return None, None, grad, *torch.split(grad_rows, ctx.sizes, dim=-1)


class LoopEmbedding:
    """Rows of a table looked up in a loop of `num_steps` steps, with the table's gradient made once, after it."""

    def __init__(self, table: Tensor, *, num_steps: int) -> None:
        self._table = table
        self._num_steps = num_steps
        self._plain = is_traced() or not torch.is_grad_enabled() or not table.requires_grad
        self._indices: list[Tensor] = []
        self._terms: Sequence[Tensor] = ()

    def __call__(self, indices: Tensor) -> Tensor:
        """The rows of the next step, (rows, features)."""
        if self._plain:
            return F.embedding(indices, self._table)
        found = F.embedding(indices, self._table.detach())
        step = len(self._indices)
        if step == 0:
            zeros = found.new_zeros(()).expand(self._num_steps, *found.shape)
            collected: Tensor = _CollectEmbedding.apply(zeros, self._table, self._indices)
            self._terms = collected.unbind(0)
        self._indices.append(indices)
        return found + self._terms[step]


class _CollectEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: Tensor, table: Tensor, indices: list[Tensor]) -> Tensor:
        ctx.indices = indices
        ctx.num_rows = table.shape[0]
        return terms.view_as(terms)

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        indices = torch.stack(ctx.indices)
        grad_table = torch.ops.aten.embedding_dense_backward(
            grad[: len(indices)].contiguous(), indices, ctx.num_rows, -1, False
        )
        return None, grad_table, None
