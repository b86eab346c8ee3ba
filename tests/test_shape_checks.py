"""The checks that other tests rely on see a wrong type or shape wherever core.nn is annotated, however often it is defined."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from core.nn.attention import Additive
from core.nn.decoders.loop_products import plain_products
from tests.shape_checks import unchecked

REFUSED = "Type-check error whilst checking the parameters"
WEIGHTS = [torch.ones(3, 2)]


def test_a_wrong_shape_is_seen() -> None:
    attention = Additive(num_hidden=3).build(query_size=2, memory_size=4)
    with pytest.raises(jaxtyping.TypeCheckError, match=REFUSED):
        attention.memory(torch.zeros(2, 5, 4), torch.tensor([[5, 1]]))
    attention.memory(torch.zeros(2, 5, 4), torch.tensor([5, 1]))
    with pytest.raises(jaxtyping.TypeCheckError, match=REFUSED):  # no more than the first time
        attention.memory(torch.zeros(2, 5, 4), torch.tensor([[5, 1]]))


def test_so_is_a_wrong_type_by_a_function_within_a_function_each_time_it_is_defined() -> None:
    for weight in (1.0, 2.0, 3.0):
        apply = plain_products([weight * WEIGHTS[0]])
        assert torch.equal(apply(torch.ones(1, 2)), torch.full((1, 3), 2 * weight)), "the body is that of another"
        with pytest.raises(jaxtyping.TypeCheckError, match=r"plain_products\.<locals>\.apply"):
            apply([1.0, 2.0])


def test_unchecked_is_what_was_defined_or_is_called_meanwhile_and_nothing_else() -> None:
    attention = Additive(num_hidden=3).build(query_size=2, memory_size=4)
    with unchecked():
        apply = plain_products(WEIGHTS)
        with pytest.raises(ValueError, match="lengths must have"):  # the module's own check
            attention.memory(torch.zeros(2, 5, 4), torch.tensor([[5, 1]]))
    with pytest.raises(jaxtyping.TypeCheckError, match="apply_linear"):  # what it calls is checked again
        apply([1.0, 2.0])
    with pytest.raises(jaxtyping.TypeCheckError, match=REFUSED):
        attention.memory(torch.zeros(2, 5, 4), torch.tensor([[5, 1]]))
    with pytest.raises(jaxtyping.TypeCheckError, match=r"plain_products\.<locals>\.apply"):
        plain_products(WEIGHTS)([1.0, 2.0])
