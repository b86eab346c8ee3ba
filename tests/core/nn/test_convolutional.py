"""Convolutional recurrent layers against the papers' equations in a plain loop, the cells without maps, and themselves."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.nn import convolutional as convolutional_module
from core.nn.cells import CellWeights, gru_step, lstm_step, rnn_step
from core.nn.convolutional import ConvRecurrent, ConvRecurrentConfig
from core.nn.recurrence.convolutional_cells import NUM_CONV_GATES, ConvState
from tests.shape_checks import unchecked

CHANNELS = 2
KINDS = list(NUM_CONV_GATES)
LAYOUTS = [f"{rows}, {inputs}" for rows in ("leaving", "rectangle") for inputs in ("a step", "at once")]


class Recipe(NamedTuple):
    """What hypothesis draws: plain settings, so that no tensor is made inside a strategy."""

    config: ConvRecurrentConfig
    lengths: list[int]
    extra_steps: int
    size: tuple[int, int]
    state_given: bool
    channels_last: bool
    layout: str
    seed: int

    def make(self) -> "Case":
        """Random weights well away from their start, inputs, and a state where one is given."""
        torch.manual_seed(self.seed)
        model = ConvRecurrent(self.config, input_channels=CHANNELS).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
        num_steps = max(1, *self.lengths) + self.extra_steps
        inputs = torch.randn(len(self.lengths), num_steps, CHANNELS, *self.size, dtype=torch.float64)
        if self.channels_last:
            inputs = inputs.movedim(2, -1).contiguous().movedim(-1, 2)
        state = random_state(model, inputs) if self.state_given else None
        return Case(model, inputs, torch.tensor(self.lengths), state, self.layout)


class Case(NamedTuple):
    model: ConvRecurrent
    inputs: Tensor
    lengths: Tensor
    state: ConvState | None
    layout: str


@contextlib.contextmanager
def laid_out(layout: str) -> Iterator[None]:
    """Rows that leave as they end or one rectangle (as on a GPU); inputs convolved a step at a time or all at once."""
    rows, _, inputs = layout.partition(", ")
    with (
        mock.patch.object(convolutional_module, "may_look_at", return_value=rows == "leaving"),
        mock.patch.object(convolutional_module, "_projects_at_once", return_value=inputs == "at once"),
    ):
        yield


def zero_state(model: ConvRecurrent, inputs: Tensor) -> ConvState:
    return model.initial_state(inputs.shape[0], height=inputs.shape[3], width=inputs.shape[4])


def random_state(model: ConvRecurrent, inputs: Tensor) -> ConvState:
    parts = zero_state(model, inputs)
    return ConvState(*(None if part is None else torch.randn_like(part).requires_grad_() for part in parts))


@st.composite
def recipes(draw: st.DrawFn, *, directions: tuple[bool, ...] = (False, True)) -> Recipe:
    kind = draw(st.sampled_from(KINDS))
    num_layers = draw(st.integers(1, 2))
    hidden_channels = draw(st.integers(1, 4))
    divisors = [groups for groups in range(1, hidden_channels + 1) if hidden_channels % groups == 0]
    config = ConvRecurrentConfig(
        kind=kind,
        hidden_channels=hidden_channels,
        kernel_size=draw(st.sampled_from([1, 3, 5])),
        num_layers=num_layers,
        bidirectional=draw(st.sampled_from(directions)),
        residual=num_layers > 1 and draw(st.booleans()),
        peepholes=kind == "conv_lstm" and draw(st.booleans()),
        norm_groups=draw(st.sampled_from([None, *divisors])),
    )
    return Recipe(
        config,
        lengths=draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)),
        extra_steps=draw(st.integers(0, 2)),
        size=(draw(st.integers(1, 4)), draw(st.integers(2, 5))),
        state_given=draw(st.booleans()),
        channels_last=draw(st.booleans()),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**31)),
    )


Run = Callable[[Tensor], tuple[Tensor, ConvState]]


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


def convolve(image: Tensor, weight: Tensor) -> Tensor:
    """The definition: at each position, each tap of the filter times what lies there; zeros outside the map."""
    reach = weight.shape[-1] // 2
    height, width = image.shape[1:]
    wide = nn.functional.pad(image, (reach, reach, reach, reach))
    return sum(
        torch.einsum("oc,chw->ohw", weight[:, :, y, x], wide[:, y : y + height, x : x + width])
        for y in range(weight.shape[-1])
        for x in range(weight.shape[-1])
    )


class Equations:
    """One layer in one direction for one image, one gate at a time, in the papers' own letters."""

    def __init__(self, model: ConvRecurrent, suffix: str) -> None:
        self.groups = model.config.norm_groups
        self.num_gates = NUM_CONV_GATES[model.config.kind]
        self.kind = model.config.kind
        self.parameters = {
            name: getattr(model, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias", "gain", "peephole")
        }

    def gate(self, number: int, x: Tensor, h: Tensor) -> Tensor:
        """W_x * x + W_h * h + b of one gate, or its group norm."""
        cut = {
            name: None if whole is None or name == "peephole" else whole.chunk(self.num_gates)[number]
            for name, whole in self.parameters.items()
        }
        total = convolve(x, cut["weight_ih"]) + convolve(h, cut["weight_hh"])
        if self.groups is not None:
            groups = total.reshape(self.groups, -1)
            groups = groups - groups.mean(1, keepdim=True)
            groups = groups / (groups.square().mean(1, keepdim=True) + 1e-5).sqrt()
            total = groups.reshape(total.shape) * cut["gain"].reshape(-1, 1, 1)
        return total + cut["bias"].reshape(-1, 1, 1)

    def step(self, x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.kind == "conv_rnn":
            return torch.tanh(self.gate(0, x, h)), None
        if self.kind == "conv_gru":
            r, z = torch.sigmoid(self.gate(0, x, h)), torch.sigmoid(self.gate(1, x, h))
            candidate = torch.tanh(self.gate(2, x, r * h))
            return z * h + (1 - z) * candidate, None
        sees = torch.zeros(3, h.shape[0], 1, 1, dtype=h.dtype)
        if self.parameters["peephole"] is not None:
            sees = self.parameters["peephole"].reshape(sees.shape)
        i = torch.sigmoid(self.gate(0, x, h) + sees[0] * c)
        f = torch.sigmoid(self.gate(1, x, h) + sees[1] * c)
        c = f * c + i * torch.tanh(self.gate(2, x, h))
        o = torch.sigmoid(self.gate(3, x, h) + sees[2] * c)
        return o * torch.tanh(c), c


def loop(case: Case, inputs: Tensor) -> tuple[Tensor, ConvState]:
    """One sequence, one direction, one step at a time."""
    config = case.model.config
    before = case.state or zero_state(case.model, inputs)
    rows, hiddens, cells = [], [], []
    for row, length in enumerate(case.lengths.tolist()):
        sequence = list(inputs[row, :length])
        row_hidden, row_cell = [], []
        for layer in range(config.num_layers):
            directions = []
            for direction, suffix in enumerate(("", "_reverse")[: config.num_directions]):
                equations = Equations(case.model, f"l{layer}{suffix}")
                index = layer * config.num_directions + direction
                hidden = before.hidden[index, row]
                cell = None if before.cell is None else before.cell[index, row]
                outputs = []
                for step in reversed(sequence) if direction else sequence:
                    hidden, cell = equations.step(step, hidden, cell)
                    outputs.append(hidden)
                row_hidden.append(hidden)
                row_cell.append(cell)
                directions.append(outputs[::-1] if direction else outputs)
            outputs = [torch.cat(parts) for parts in zip(*directions, strict=True)]
            if config.residual and layer > 0:
                outputs = [output + below for output, below in zip(outputs, sequence, strict=True)]
            sequence = outputs
        padding = inputs.new_zeros(inputs.shape[1] - length, config.output_channels, *inputs.shape[3:])
        rows.append(torch.cat([torch.stack(sequence), padding]) if sequence else padding)
        hiddens.append(torch.stack(row_hidden))
        if config.kind == "conv_lstm":
            cells.append(torch.stack(row_cell))
    cell = torch.stack(cells, dim=1) if cells else None
    return torch.stack(rows), ConvState(torch.stack(hiddens, dim=1), cell)


@settings(deadline=None, max_examples=60)
@given(recipe=recipes())
def test_every_configuration_is_the_equations_in_a_loop(recipe: Recipe) -> None:
    """Lengths 0 and 1, states given or zero, every layout of batch and memory: values and all gradients."""
    case = recipe.make()
    assert_equal(ours(case), values_and_gradients(lambda inputs: loop(case, inputs), case))


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_one_position_is_the_cell_without_maps(kind: str) -> None:
    """Where there is nothing to convolve over, it is the recurrent network of notes N3, N12 and N13."""
    torch.manual_seed(0)
    model = ConvRecurrent(ConvRecurrentConfig(kind=kind, hidden_channels=4, kernel_size=1), input_channels=3).double()
    inputs = torch.randn(5, 7, 3, dtype=torch.float64)
    outputs, state = model(inputs[..., None, None], None)
    weights = CellWeights(
        model.weight_ih_l0.flatten(1), model.weight_hh_l0.flatten(1), model.bias_l0, torch.zeros_like(model.bias_l0)
    )
    hidden = cell = inputs.new_zeros(5, 4)
    for step in range(7):
        if kind == "conv_lstm":
            hidden, cell = lstm_step(inputs[:, step], hidden=hidden, cell=cell, weights=weights)
        elif kind == "conv_gru":
            hidden = gru_step(inputs[:, step], hidden=hidden, weights=weights, reset="before")
        else:
            hidden = rnn_step(inputs[:, step], hidden=hidden, weights=weights)
        torch.testing.assert_close(outputs[:, step, :, 0, 0], hidden, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.hidden[0, ..., 0, 0], hidden, rtol=1e-12, atol=1e-12)
    if kind == "conv_lstm":
        torch.testing.assert_close(state.cell[0, ..., 0, 0], cell, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(), junk=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e300]))
def test_padding_never_reaches_an_output_or_a_gradient(recipe: Recipe, junk: float) -> None:
    """Contract 1: what stands in the padding is nobody's business."""
    case = recipe.make()
    dirty = case.inputs.clone()
    for row, length in enumerate(case.lengths.tolist()):
        dirty[row, length:] = junk
    assert_equal(ours(case._replace(inputs=dirty)), ours(case), tolerance=0.0)


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(), extra=st.integers(1, 9), data=st.data())
def test_padding_order_and_company_change_nothing(recipe: Recipe, extra: int, data: st.DataObject) -> None:
    """Contract 2: more padding, another order, alone or in a batch."""
    case = recipe.make()
    batch_size, num_steps = case.inputs.shape[:2]
    with laid_out(case.layout):
        outputs, state = case.model(case.inputs, case.lengths, case.state)
        longer = torch.cat(
            [case.inputs, torch.full_like(case.inputs[:, :1], torch.nan).expand(-1, extra, -1, -1, -1)], 1
        )
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


@settings(deadline=None, max_examples=25)
@given(recipe=recipes(directions=(False,)), cut=st.integers(1, 5))
def test_a_carried_state_continues_the_sequence(recipe: Recipe, cut: int) -> None:
    """Two chunks with the state handed over are the whole (notes N6); rows that ended in the first pass through."""
    case = recipe._replace(extra_steps=recipe.extra_steps + 1).make()
    cut = min(cut, case.inputs.shape[1] - 1)
    with laid_out(case.layout):
        outputs, state = case.model(case.inputs, case.lengths, case.state)
        first, carried = case.model(case.inputs[:, :cut], case.lengths.clamp(max=cut), case.state)
        second, last = case.model(case.inputs[:, cut:], (case.lengths - cut).clamp(min=0), carried)
    torch.testing.assert_close(torch.cat([first, second], dim=1), outputs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(last, state, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", ["leaving, a step", "rectangle, at once"])
def test_an_empty_sequence_passes_its_state_through_bit_for_bit(layout: str) -> None:
    model = ConvRecurrent(
        ConvRecurrentConfig(kind="conv_lstm", hidden_channels=2, bidirectional=True), input_channels=2
    )
    for lengths in (torch.tensor([0, 0]), torch.tensor([0, 3])):
        inputs = torch.full((2, 3, 2, 4, 4), torch.nan)
        inputs[1, : lengths[1]] = 1.0
        before = random_state(model, inputs)
        with laid_out(layout):
            outputs, after = model(inputs, lengths, before)
        assert not outputs[0].any()
        assert torch.equal(after.hidden[:, 0], before.hidden[:, 0])
        assert torch.equal(after.cell[:, 0], before.cell[:, 0])


def test_more_lengths_than_cuts_leave_padding_between_them() -> None:
    """A plan has at most 32 blocks: beyond, rows that leave and rows that stand still come together."""
    model = ConvRecurrent(
        ConvRecurrentConfig(kind="conv_lstm", hidden_channels=2, bidirectional=True), input_channels=1
    )
    model.double()
    inputs = torch.randn(80, 79, 1, 2, 2, dtype=torch.float64)
    lengths = torch.randperm(80)
    results = []
    for layout in LAYOUTS:
        with laid_out(layout):
            results.append(model(inputs, lengths))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-10)


def test_inputs_are_convolved_at_once_where_that_is_faster_and_no_size_may_be_read() -> None:
    """One convolution over all steps; too large for the cache, one a step, and the gates of all are never held."""
    model = ConvRecurrent(ConvRecurrentConfig(kind="conv_rnn", hidden_channels=8), input_channels=1)
    real = convolutional_module.project_maps
    for size, num_calls in ((16, 1), (192, 8)):
        with mock.patch.object(convolutional_module, "project_maps", side_effect=real) as project, torch.no_grad():
            model(torch.randn(1, 8, 1, size, size), None)
        assert project.call_count == num_calls
    with (
        mock.patch.object(convolutional_module, "may_look_at", return_value=False),
        mock.patch.object(convolutional_module, "project_maps", side_effect=real) as project,
        torch.no_grad(),
    ):
        model(torch.randn(1, 8, 1, 192, 192), None)
    assert project.call_count == 1


def test_a_batch_of_no_sequences_has_no_outputs() -> None:
    model = ConvRecurrent(
        ConvRecurrentConfig(kind="conv_lstm", hidden_channels=2, bidirectional=True), input_channels=1
    )
    outputs, state = model(torch.zeros(0, 3, 1, 4, 5), torch.zeros(0, dtype=torch.int64))
    assert outputs.shape == (0, 3, 4, 4, 5)
    assert state.hidden.shape == state.cell.shape == (2, 0, 2, 4, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_lengths_are_full_lengths(layout: str) -> None:
    model = ConvRecurrent(ConvRecurrentConfig(kind="conv_gru", hidden_channels=3, bidirectional=True), input_channels=2)
    inputs = torch.randn(3, 4, 2, 5, 4)
    with laid_out(layout):
        torch.testing.assert_close(model(inputs, None), model(inputs, torch.full((3,), 4)), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [("conv_rnn", {}), ("conv_lstm", {"peepholes": True}), ("conv_gru", {}), ("conv_gru", {"norm_groups": 1})],
)
def test_gradients_are_those_of_finite_differences(kind: str, changed: dict[str, object]) -> None:
    config = ConvRecurrentConfig(kind=kind, hidden_channels=2, bidirectional=True, **changed)
    model = ConvRecurrent(config, input_channels=1).double()
    inputs = torch.randn(3, 3, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    parts = tuple(part for part in random_state(model, inputs) if part is not None)

    def run(inputs: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        outputs, state = model(inputs, torch.tensor([2, 3, 0]), ConvState(*parts))
        return outputs, *(part for part in state if part is not None)

    run(inputs, *parts)
    with unchecked():  # the hundreds of calls that follow are of the same shapes
        assert torch.autograd.gradcheck(run, (inputs, *parts))
