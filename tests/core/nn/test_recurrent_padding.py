"""What stands in the padding of a recurrent layer, and who else is in the batch, changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.nn.recurrent import Recurrent, RecurrentConfig
from tests.core.nn.recurrent_cases import FEATURES, Recipe, assert_equal, laid_out, ours, random_state, recipes


@settings(deadline=None, max_examples=60)
@given(recipe=recipes(), junk=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e300]))
def test_padding_never_reaches_an_output_or_a_gradient(recipe: Recipe, junk: float) -> None:
    """Contract 1: what stands in the padding is nobody's business."""
    case = recipe.make()
    dirty = case.inputs.clone()
    for row, length in enumerate(case.lengths.tolist()):
        dirty[row, length:] = junk
    assert_equal(ours(case._replace(inputs=dirty)), ours(case), tolerance=0.0)


@settings(deadline=None, max_examples=60)
@given(recipe=recipes(), extra=st.integers(1, 20), data=st.data())
def test_padding_order_and_company_change_nothing(recipe: Recipe, extra: int, data: st.DataObject) -> None:
    """Contract 2: more padding, another order, alone or in a batch."""
    case = recipe.make()
    batch_size, num_steps = case.inputs.shape[:2]
    with laid_out(case.layout):
        outputs, state = case.model(case.inputs, case.lengths, case.state)
        longer = nn.functional.pad(case.inputs, (0, 0, 0, extra))
        padded_outputs, padded_state = case.model(longer, case.lengths, case.state)
        torch.testing.assert_close(padded_outputs[:, :num_steps], outputs, rtol=1e-10, atol=1e-10)
        assert not padded_outputs[:, num_steps:].any()
        torch.testing.assert_close(padded_state, state, rtol=1e-10, atol=1e-10)
        order = torch.tensor(data.draw(st.permutations(range(batch_size))))
        for rows in (order, order[:1]):
            before = None if case.state is None else case.state.select(rows)
            some_outputs, some_state = case.model(case.inputs[rows], case.lengths[rows], before)
            torch.testing.assert_close(some_outputs, outputs[rows], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(some_state, state.select(rows), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", ["cheapest", "rectangle", "scan"])
def test_the_cell_state_stands_still_in_the_padding(dtype: torch.dtype, layout: str) -> None:
    """300 padding steps: a forget gate of 0.999 would show, and a gradient that leaks too."""
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=16), input_size=FEATURES).to(dtype)
    inputs = torch.randn(2, 300, FEATURES, dtype=dtype)
    before = random_state(model, 2)
    lengths = torch.tensor([300, 0])
    with laid_out(layout):
        _, state = model(inputs, lengths, before)
    assert torch.equal(state.cell[:, 1], before.cell[:, 1])
    assert torch.equal(state.hidden[:, 1], before.hidden[:, 1])
    (gradient,) = torch.autograd.grad(state.cell[:, 1].sum(), before.cell)
    assert torch.equal(gradient[:, 1], torch.ones_like(gradient[:, 1]))
    with laid_out(layout):
        _, short = model(inputs, torch.tensor([300, 4]))
        _, alone = model(inputs[1:, :4], torch.tensor([4]))
    torch.testing.assert_close(short.cell[:, 1], alone.cell[:, 0])


@pytest.mark.parametrize("layout", ["cheapest", "rectangle", "scan"])
def test_a_relu_network_does_not_explode_in_the_padding(layout: str) -> None:
    """Growing threefold a step, the state of the padding reaches infinity, and 0 x infinity is NaN in the gradient."""
    model = Recurrent(RecurrentConfig(kind="rnn_relu", hidden_size=4), input_size=FEATURES)
    with torch.no_grad():
        model.weight_hh_l0.copy_(3 * torch.eye(4))
        model.bias_hh_l0.fill_(1.0)
    inputs = torch.randn(2, 400, FEATURES)
    with laid_out(layout):
        outputs, _ = model(inputs, torch.tensor([3, 2]))
    outputs.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_batch_of_empty_sequences_passes_its_state_through() -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4, bidirectional=True), input_size=FEATURES)
    before = random_state(model, 2)
    outputs, after = model(torch.full((2, 3, FEATURES), torch.nan), torch.tensor([0, 0]), before)
    assert torch.equal(outputs, torch.zeros(2, 3, 8))
    assert torch.equal(after.hidden, before.hidden)
    assert torch.equal(after.cell, before.cell)
