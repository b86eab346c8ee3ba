"""Recurrent layers that hypothesis draws, every way they can run, and their values with all gradients."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import torch
from hypothesis import strategies as st
from torch import Tensor

from core.nn import recurrent as recurrent_module
from core.nn.cells import CELL_KINDS, RecurrentState
from core.nn.recurrence.kernels import has_kernel
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.recurrent_config import MIN_KINDS

FEATURES = 3


class Recipe(NamedTuple):
    """What hypothesis draws: plain settings, so that no tensor is made inside a strategy."""

    config: RecurrentConfig
    lengths: list[int]
    extra_steps: int
    state_given: bool
    layout: str
    seed: int

    def make(self, dtype: torch.dtype = torch.float64) -> "Case":
        """Random weights well away from their start, inputs, and a state where one is given."""
        torch.manual_seed(self.seed)
        model = Recurrent(self.config, input_size=FEATURES).to(dtype).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
        num_steps = max(1, *self.lengths) + self.extra_steps
        inputs = torch.randn(len(self.lengths), num_steps, FEATURES, dtype=dtype)
        state = random_state(model, len(self.lengths)) if self.state_given else None
        return Case(model, inputs, torch.tensor(self.lengths), state, self.layout)


class Case(NamedTuple):
    model: Recurrent
    inputs: Tensor
    lengths: Tensor
    state: RecurrentState | None
    layout: str


LAYOUTS = ["many_blocks", "cheapest", "rectangle", "scan", "steps"]


@contextlib.contextmanager
def laid_out(layout: str) -> Iterator[None]:
    """Every way a layer can run, whatever this machine would choose.

    Kernels over blocks as many as possible or as is cheapest; one rectangle made without a look at the lengths, as on a
    GPU; the hand-written recurrence; plain operations over a rectangle, as in a trace. What has no kernel runs as the
    recurrence.
    """

    def choose(config: RecurrentConfig, *, like: Tensor, ragged: bool, training: bool) -> str:
        if config.kind in MIN_KINDS:
            return "parallel" if layout == "rectangle" else "scan"
        if layout in ("scan", "steps"):
            return layout
        return "fused" if has_kernel(config) else "scan"

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(recurrent_module, "choose_method", choose))
        if layout in ("rectangle", "steps"):
            stack.enter_context(mock.patch.object(recurrent_module, "may_look_at", return_value=False))
        elif layout == "many_blocks":
            stack.enter_context(mock.patch.object(Recurrent, "_block_cost", return_value=0.0))
        yield


def random_state(model: Recurrent, batch_size: int) -> RecurrentState:
    like = model.initial_state(batch_size)
    return RecurrentState(*(None if part is None else torch.randn_like(part).requires_grad_() for part in like))


@st.composite
def recipes(
    draw: st.DrawFn,
    *,
    kinds: tuple[str, ...] | list[str] = CELL_KINDS,
    min_length: int = 0,
    plain: bool = False,
    directions: tuple[bool, ...] = (False, True),
) -> Recipe:
    """`plain`: only what `torch.nn` has too."""
    kind = draw(st.sampled_from(kinds))
    num_layers = draw(st.integers(1, 3))
    reset = draw(st.sampled_from([None, "after", "before"])) if kind == "gru" and not plain else None
    layer_norm = not plain and kind in ("lstm", "gru") and reset != "before" and draw(st.booleans())
    zoneouts = st.just(0.0) if plain or kind in MIN_KINDS else st.sampled_from([0.0, 0.3])
    config = RecurrentConfig(
        kind=kind,
        hidden_size=draw(st.integers(1, 4)),
        num_layers=num_layers,
        bidirectional=draw(st.sampled_from(directions)),
        residual=not plain and num_layers > 1 and draw(st.booleans()),
        learn_initial_state=not plain and draw(st.booleans()),
        reset=reset,
        layer_norm=layer_norm,
        zoneout=draw(zoneouts),
        zoneout_cell=draw(zoneouts) if kind == "lstm" else 0.0,
    )
    return Recipe(
        config,
        lengths=draw(st.lists(st.integers(min_length, 7), min_size=1, max_size=5)),
        extra_steps=draw(st.integers(0, 2)),
        state_given=draw(st.booleans()),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**31)),
    )


Run = Callable[[Tensor], tuple[Tensor, RecurrentState]]


def values_and_gradients(run: Run, case: Case) -> dict[str, Tensor]:
    """Outputs, last state, and the gradient of a fixed mix of all of them in inputs, weights and initial state."""
    leaf = case.inputs.clone().requires_grad_()
    outputs, state = run(leaf)
    results = {"outputs": outputs, "hidden": state.hidden}
    if state.cell is not None:
        results["cell"] = state.cell
    mixed = sum(
        (value * torch.cos(torch.arange(value.numel(), dtype=value.dtype)).reshape(value.shape)).sum()
        for value in results.values()
    )
    leaves = {"inputs": leaf, **dict(case.model.named_parameters())}
    if case.state is not None:
        leaves |= {f"state.{name}": part for name, part in case.state._asdict().items() if part is not None}
    if mixed.requires_grad:
        gradients = torch.autograd.grad(mixed, list(leaves.values()), allow_unused=True, materialize_grads=True)
    else:  # nothing but empty sequences and a state of zeros
        gradients = tuple(torch.zeros_like(leaf) for leaf in leaves.values())
    return {**results, **{f"d {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}}


def ours(case: Case) -> dict[str, Tensor]:
    with laid_out(case.layout):
        return values_and_gradients(lambda inputs: case.model(inputs, case.lengths, case.state), case)


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    for name, value in got.items():
        torch.testing.assert_close(
            value, expected[name], rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
