"""Window scaling: its own inverse, and defined by what is observed alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from apps.forecasting.scaling import WindowScale, WindowScaling

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=60)

KINDS: list[WindowScale] = ["none", "mean_abs", "standard", "last", "instance_norm"]
kinds = st.sampled_from(KINDS)
JUNK = [math.nan, math.inf, -math.inf, 1e30]


def make_scaling(kind: WindowScale) -> WindowScaling:
    """With an affine map that does something."""
    scaling = WindowScaling(kind).double()
    if kind == "instance_norm":
        torch.nn.init.constant_(scaling.log_gain, 0.4)
        torch.nn.init.constant_(scaling.shift, -1.5)
    return scaling


@st.composite
def windows(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Values, observed and lengths; values from the very small to the large, some windows with nothing observed."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 9)))
    unit = 10.0 ** draw(st.integers(-6, 6))
    elements = st.floats(-100, 100, allow_subnormal=False, width=32)
    # Without a fill every element is drawn by itself: partly missing windows are the rule, not the exception.
    values = draw(hnp.arrays(np.float64, shape, elements=elements, fill=st.nothing()))
    observed = draw(hnp.arrays(np.bool_, shape, fill=st.nothing()))
    lengths = draw(hnp.arrays(np.int64, shape[:1], elements=st.integers(1, shape[1])))
    return torch.from_numpy(values * unit), torch.from_numpy(observed), torch.from_numpy(lengths)


def present(observed: Tensor, lengths: Tensor) -> Tensor:
    return observed & (torch.arange(observed.shape[1]) < lengths.unsqueeze(1))


@patient
@given(case=windows(), kind=kinds)
def test_restoring_a_scaled_window_gives_the_window(case: tuple[Tensor, Tensor, Tensor], kind: WindowScale) -> None:
    values, observed, lengths = case
    scaling = make_scaling(kind)
    window = scaling(values, observed, lengths)
    restored = scaling.restore(scaling.undo_affine(window.values.unsqueeze(-1)), window).squeeze(-1)
    seen = present(observed, lengths)
    unit = float(values.abs().max())
    torch.testing.assert_close(restored[seen], values[seen], rtol=1e-9, atol=1e-12 * unit)
    assert (window.values[~seen] == 0).all()
    assert (window.scale > 0).all()


@patient
@given(case=windows(), kind=kinds, junk=st.sampled_from(JUNK))
def test_what_stands_behind_a_missing_value_never_matters(
    case: tuple[Tensor, Tensor, Tensor], kind: WindowScale, junk: float
) -> None:
    values, observed, lengths = case
    scaling = make_scaling(kind)
    clean = scaling(values, observed, lengths)
    dirty = scaling(values.masked_fill(~present(observed, lengths), junk), observed, lengths)
    for ours, theirs in zip(dirty, clean, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@patient
@given(case=windows())
def test_a_window_is_scaled_by_itself(case: tuple[Tensor, Tensor, Tensor], kind: WindowScale) -> None:
    """Against numpy on the observed values of one window at a time."""
    values, observed, lengths = case
    window = make_scaling(kind)(values, observed, lengths)
    for row, seen in enumerate(present(observed, lengths)):
        known = values[row][seen].numpy()
        location, scale = 0.0, 1.0
        if len(known) and kind == "mean_abs":
            scale = float(np.abs(known).mean()) or 1.0
        elif len(known) and kind == "last":
            location = float(known[-1])
        elif len(known) and kind in ("standard", "instance_norm"):
            location, scale = float(known.mean()), float(known.std())
            if scale < 2e-5 * np.abs(known).max():
                continue  # at the edge of what counts as rounding; the next test has it
        assert float(window.location[row]) == pytest.approx(
            location, rel=1e-9, abs=1e-12 * float(values[row].abs().max())
        )
        assert float(window.scale[row]) == pytest.approx(scale or 1.0, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["standard", "instance_norm"])
@pytest.mark.parametrize("level", [0.1, 1.0, -3.3e5, 7e-9, 0.0])
def test_rounding_is_no_spread(kind: WindowScale, level: float, dtype: torch.dtype) -> None:
    """The mean of a constant is off by a rounding error; divided by itself it would look like a signal."""
    context = torch.full((1, 97), level, dtype=dtype)
    window = WindowScaling(kind).to(dtype)(context, torch.ones(1, 97, dtype=torch.bool), torch.tensor([97]))
    assert float(window.scale) == 1.0
    assert window.values.abs().max() <= 1e-5 * abs(level)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["constant", "zero", "single", "all missing", "two", "large"])
def test_values_and_gradients_are_finite(kind: WindowScale, name: str) -> None:
    context = {
        "constant": torch.full((1, 6), 5.0),
        "zero": torch.zeros(1, 6),
        "single": torch.tensor([[3.0]]),
        "all missing": torch.full((1, 6), torch.nan),
        "two": torch.tensor([[1.0, 1.0 + 1e-7]]),
        "large": torch.tensor([[1e15, -1e15, 2e15]]),
    }[name].requires_grad_()
    observed = torch.full(context.shape, name != "all missing")
    scaling = make_scaling(kind).float()
    window = scaling(context, observed, torch.tensor([context.shape[1]]))
    restored = scaling.restore(scaling.undo_affine(window.values.unsqueeze(-1) + 0.5), window)
    assert restored.isfinite().all()
    inputs = [context, *scaling.parameters()]
    gradients = torch.autograd.grad(restored.sum() + window.values.sum(), inputs, allow_unused=True)
    for gradient in gradients:
        assert gradient is None or gradient.isfinite().all()


@patient
@given(case=windows(), kind=kinds)
def test_the_target_is_in_the_units_of_the_window(case: tuple[Tensor, Tensor, Tensor], kind: WindowScale) -> None:
    """Scaled and restored it is itself: the loss is measured where the network's undone outputs live."""
    values, observed, lengths = case
    scaling = make_scaling(kind)
    window = scaling(values, observed, lengths)
    target = torch.randn(len(values), 3, dtype=torch.float64) * values.abs().max().clamp(min=1e-6)
    restored = scaling.restore(scaling.scale_target(target, window).unsqueeze(-1), window).squeeze(-1)
    torch.testing.assert_close(restored, target, rtol=1e-9, atol=1e-12 * float(values.abs().max()))


@patient
@given(outputs=hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(-10, 10)))
def test_the_affine_map_is_undone_in_order(outputs: np.ndarray) -> None:
    """Quantiles that ascend still do: the learned gain is positive whatever it learns."""
    scaling = make_scaling("instance_norm")
    ascending = torch.from_numpy(np.sort(outputs, axis=-1))
    torch.nn.init.constant_(scaling.log_gain, -3.0)
    undone = scaling.undo_affine(ascending)
    assert (undone.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(undone * math.exp(-3.0) - 1.5, ascending)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of none, mean_abs, standard, last, instance_norm, got 'z_score'"):
        WindowScaling("z_score")  # type: ignore[arg-type]
