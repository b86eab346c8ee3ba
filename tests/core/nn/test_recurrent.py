"""Recurrent layers over ragged batches against the cells in a plain loop, packed `torch.nn`, and themselves."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from core.nn import recurrent as recurrent_module
from core.nn.cells import (
    CELL_KINDS,
    CellWeights,
    InputWeights,
    NormWeights,
    RecurrentState,
    gru_step,
    lstm_step,
    min_gru_step,
    min_lstm_step,
    rnn_step,
)
from core.nn.recurrence.kernels import has_kernel
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.recurrent_config import MIN_KINDS

FEATURES = 3
TORCH_KINDS = ["rnn_tanh", "rnn_relu", "lstm", "gru"]


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


def one_step(
    case: Case, name: str, inputs: Tensor, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The definition of a step, zoneout in evaluation included; `name` is a layer and direction."""
    config = case.model.config
    parameters = dict(case.model.named_parameters())

    def read(kind: type, fields: tuple[str, ...]) -> NamedTuple:
        return kind(*(parameters[f"{field}_{name}"] for field in fields))

    new_cell = None
    if config.kind in MIN_KINDS:
        step = {"min_gru": min_gru_step, "min_lstm": min_lstm_step}[config.kind]
        return step(inputs, hidden=hidden, weights=read(InputWeights, InputWeights._fields)), None
    weights = read(CellWeights, CellWeights._fields)
    norm = None
    if config.layer_norm:
        norm = read(NormWeights, NormWeights._fields if config.kind == "lstm" else NormWeights._fields[:2])
    if config.kind == "lstm":
        new, new_cell = lstm_step(inputs, hidden=hidden, cell=cell, weights=weights, norm=norm)
        new_cell = config.zoneout_cell * cell + (1 - config.zoneout_cell) * new_cell
    elif config.kind == "gru":
        new = gru_step(inputs, hidden=hidden, weights=weights, reset=config.reset or "after", norm=norm)
    else:
        new = rnn_step(inputs, hidden=hidden, weights=weights, activation=config.kind.removeprefix("rnn_"))
    return config.zoneout * hidden + (1 - config.zoneout) * new, new_cell


def loop(case: Case, inputs: Tensor) -> tuple[Tensor, RecurrentState]:
    """The definition: one sequence, one direction, one step at a time."""
    config = case.model.config
    state = case.state or case.model.initial_state(inputs.shape[0])
    rows, hiddens, cells = [], [], []
    for row, length in enumerate(case.lengths.tolist()):
        sequence = list(inputs[row, :length])
        row_hidden, row_cell = [], []
        for layer in range(config.num_layers):
            directions = []
            for direction, suffix in enumerate(("", "_reverse")[: config.num_directions]):
                index = layer * config.num_directions + direction
                hidden = state.hidden[index, row : row + 1]
                cell = None if state.cell is None else state.cell[index, row : row + 1]
                outputs = []
                for step in reversed(sequence) if direction else sequence:
                    hidden, cell = one_step(case, f"l{layer}{suffix}", step.unsqueeze(0), hidden, cell)
                    outputs.append(hidden[0])
                row_hidden.append(hidden[0])
                row_cell.append(cell)
                directions.append(outputs[::-1] if direction else outputs)
            outputs = [torch.cat(parts) for parts in zip(*directions, strict=True)]
            if config.residual and layer > 0:
                outputs = [output + below for output, below in zip(outputs, sequence, strict=True)]
            sequence = outputs
        padding = inputs.new_zeros(inputs.shape[1] - length, config.output_size)
        rows.append(torch.cat([torch.stack(sequence), padding]) if sequence else padding)
        hiddens.append(torch.stack(row_hidden))
        if config.kind == "lstm":
            cells.append(torch.cat(row_cell))
    cell = torch.stack(cells, dim=1) if cells else None
    return torch.stack(rows), RecurrentState(torch.stack(hiddens, dim=1), cell)


@settings(deadline=None, max_examples=250)
@given(recipe=recipes())
def test_every_configuration_is_the_cells_in_a_loop(recipe: Recipe) -> None:
    """Lengths 0 and 1, initial states given, learned or zero, in every layout: values and all gradients."""
    case = recipe.make()
    assert_equal(ours(case), values_and_gradients(lambda inputs: loop(case, inputs), case))


def torch_layer(model: Recurrent) -> nn.RNNBase:
    config = model.config
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(config.kind, nn.RNN)
    extra = {"nonlinearity": config.kind.removeprefix("rnn_")} if kind is nn.RNN else {}
    layer = kind(
        model.input_size,
        config.hidden_size,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        batch_first=True,
        **extra,
    )
    layer.to(model.weight_hh_l0.dtype).load_state_dict(model.state_dict())
    return layer


def packed(case: Case) -> dict[str, Tensor]:
    """`torch.nn` over a packed sequence, with gradients under our names."""
    layer = torch_layer(case.model)

    def run(inputs: Tensor) -> tuple[Tensor, RecurrentState]:
        state = None if case.state is None else case.state.hidden if case.state.cell is None else tuple(case.state)
        sequence = pack_padded_sequence(inputs, case.lengths, batch_first=True, enforce_sorted=False)
        outputs, last = layer(sequence, state)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
        return outputs, RecurrentState(*last) if isinstance(last, tuple) else RecurrentState(last)

    return values_and_gradients(run, case._replace(model=layer))


@settings(deadline=None, max_examples=60)
@given(recipe=recipes(kinds=TORCH_KINDS, min_length=1, plain=True))
def test_equal_to_packed_sequences(recipe: Recipe) -> None:
    case = recipe.make()
    assert_equal(ours(case), packed(case))


@settings(deadline=None, max_examples=15)
@given(recipe=recipes(kinds=TORCH_KINDS, min_length=1, plain=True))
def test_equal_to_packed_sequences_in_the_fused_kernel(recipe: Recipe) -> None:
    """Float32 takes other paths than float64: oneDNN's LSTM, its flag column included, and oneDNN's products."""
    case = recipe.make(torch.float32)
    assert_equal(ours(case), packed(case), tolerance=2e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TORCH_KINDS)
def test_equal_to_packed_sequences_at_size(kind: str, layout: str) -> None:
    torch.manual_seed(0)
    config = RecurrentConfig(kind=kind, hidden_size=32, num_layers=2, bidirectional=True)
    lengths = torch.randint(1, 25, (12,))
    case = Case(Recurrent(config, input_size=20), torch.randn(12, 24, 20), lengths, None, layout)
    assert_equal(ours(case), packed(case), tolerance=1e-3)


@pytest.mark.parametrize("full", [None, "lengths"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", TORCH_KINDS)
def test_without_padding_it_is_torchs_layer(
    kind: str, bidirectional: bool, dtype: torch.dtype, full: str | None
) -> None:
    """With a `torch.nn` state dict loaded: names, shapes and order are the same. A fused LSTM is so bit for bit."""
    config = RecurrentConfig(kind=kind, hidden_size=5, num_layers=2, bidirectional=bidirectional)
    model = Recurrent(config, input_size=FEATURES).to(dtype)
    layer = torch_layer(model)
    assert list(model.state_dict()) == list(layer.state_dict())
    inputs = torch.randn(4, 6, FEATURES, dtype=dtype)
    outputs, state = model(inputs, None if full is None else torch.full((4,), 6))
    expected, last = layer(inputs)
    tolerance = 0.0 if kind == "lstm" and dtype == torch.float32 else 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=tolerance)
    for got, wanted in zip(state, last if kind == "lstm" else (last, None), strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


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


@settings(deadline=None, max_examples=40)
@given(recipe=recipes(directions=(False,)), cut=st.integers(1, 6))
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


@pytest.mark.parametrize(
    "changed",
    [
        *({"kind": kind} for kind in CELL_KINDS),
        {"kind": "gru", "reset": "before"},
        {"kind": "gru", "layer_norm": True, "zoneout": 0.2},
        {"kind": "lstm", "layer_norm": True, "zoneout": 0.2, "zoneout_cell": 0.4},
        {"kind": "rnn_relu", "zoneout": 0.2},
    ],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(changed: dict[str, Any]) -> None:
    """Inputs, first state and every weight; in training, with the same masks at every call."""
    config = RecurrentConfig(**{"hidden_size": 2, "bidirectional": True, **changed})
    model = Recurrent(config, input_size=2).double()
    inputs = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    before = random_state(model, 3)
    parts = tuple(part for part in before if part is not None)
    weights = dict(model.named_parameters())

    def run(inputs: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        state = RecurrentState(*tensors[: len(parts)])
        given = dict(zip(weights, tensors[len(parts) :], strict=True))
        outputs, after = torch.func.functional_call(model, given, (inputs, torch.tensor([2, 4, 1]), state))
        return outputs, *(part for part in after if part is not None)

    with laid_out("scan"):
        assert torch.autograd.gradcheck(run, (inputs, *parts, *weights.values()))


def test_dropout_acts_between_layers_in_training_alone() -> None:
    config = RecurrentConfig(kind="gru", hidden_size=32, num_layers=2, dropout=0.5)
    model = Recurrent(config, input_size=FEATURES)
    inputs = torch.randn(4, 9, FEATURES)
    for lengths in (None, torch.tensor([9, 4, 1, 6])):
        model.train()
        (first, first_state), (second, second_state) = model(inputs, lengths), model(inputs, lengths)
        assert not torch.equal(first, second)
        # The lowest layer is before any dropout.
        assert torch.equal(first_state.hidden[0], second_state.hidden[0])
        model.eval()
        assert torch.equal(model(inputs, lengths)[0], model(inputs, lengths)[0])


def test_a_batch_of_empty_sequences_passes_its_state_through() -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4, bidirectional=True), input_size=FEATURES)
    before = random_state(model, 2)
    outputs, after = model(torch.full((2, 3, FEATURES), torch.nan), torch.tensor([0, 0]), before)
    assert torch.equal(outputs, torch.zeros(2, 3, 8))
    assert torch.equal(after.hidden, before.hidden)
    assert torch.equal(after.cell, before.cell)
