"""What hand-written passes must not do: drop second derivatives, miss a change in place, let padding or rounding in."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from core.nn import recurrent as recurrent_module
from core.nn.attention import Additive, General
from core.nn.cells import RecurrentState
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import AttentionAfter, AttentionBefore, ContextConfig, DecoderConfig
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.recurrent import Recurrent, RecurrentConfig


@pytest.mark.parametrize("loss", ["sum", "square"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "gru", "hidden_size": 64},
        {"kind": "lstm", "hidden_size": 8, "layer_norm": True},
        {"kind": "rnn_sigmoid", "hidden_size": 8},
        {"kind": "min_gru", "hidden_size": 8},
    ],
    ids=str,
)
def test_a_second_derivative_is_refused_and_not_silently_incomplete(settings: dict[str, Any], loss: str) -> None:
    """A sum's gradient requires no gradient itself, and PyTorch's own check would not see it."""
    model = Recurrent(RecurrentConfig(**settings), input_size=3)
    inputs = torch.randn(2, 5, 3, requires_grad=True)
    outputs, _ = model(inputs, None)
    value = outputs.sum() if loss == "sum" else outputs.square().sum()
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(value, inputs, create_graph=True)


def test_small_gates_forget_under_autocast_in_the_parallel_scan() -> None:
    """1 - 0.0015 is 1 in bfloat16: the state would only ever grow."""
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(kind="min_gru", hidden_size=16), input_size=4)
    with torch.no_grad():
        model.bias_ih_l0[:16] = -6.5
        model.bias_ih_l0[16:] = 1.0
    inputs = torch.randn(2, 4000, 4)
    exact, _ = model.double()(inputs.double(), None)
    model.float()
    with (
        mock.patch.object(recurrent_module, "choose_method", return_value="parallel"),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        outputs, _ = model(inputs, None)
    assert (outputs.double() - exact).norm() <= 0.02 * exact.norm()


@pytest.mark.parametrize("settings", [{}, {"zoneout": 0.2}], ids=str)
@pytest.mark.parametrize("method", ["scan", "steps"])
def test_a_growing_state_in_the_padding_reaches_no_gradient(method: str, settings: dict[str, float]) -> None:
    """The ReLU network's state would be infinite by the last padded step, and 0 times infinity is no number."""
    model = Recurrent(RecurrentConfig(kind="rnn_relu", hidden_size=8, **settings), input_size=3)
    with torch.no_grad():
        model.weight_hh_l0.mul_(4)
    before = RecurrentState(torch.ones(1, 2, 8))
    for lengths in (torch.tensor([0, 0]), torch.tensor([3, 2])):
        model.zero_grad()
        with (
            mock.patch.object(recurrent_module, "choose_method", return_value=method),
            mock.patch.object(recurrent_module, "may_look_at", return_value=False),
        ):
            outputs, state = model(torch.randn(2, 300, 3), lengths, before)
        (outputs.sum() + state.hidden.sum()).backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def decoder(context: ContextConfig, *, kind: str = "gru", dtype: torch.dtype = torch.float32) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        recurrent=RecurrentConfig(kind=kind, hidden_size=6), context=context, bridge="zero", readout="attentional"
    )
    return Decoder(config, input_size=4, source=SourceShape(output_size=5, summary_size=5)).to(dtype)


def start(model: Decoder) -> CarriedState:
    dtype = model.readout.linear.weight.dtype
    return model.start(Source(torch.randn(2, 7, 5, dtype=dtype), torch.tensor([7, 3]), torch.zeros(2, 5, dtype=dtype)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "context", [AttentionAfter(attention=General()), AttentionBefore(attention=Additive(num_hidden=6))]
)
def test_a_weight_or_state_changed_before_backward_is_noticed(context: ContextConfig, dtype: torch.dtype) -> None:
    model = decoder(context, dtype=dtype)
    inputs = torch.randn(2, 3, 4, dtype=dtype)
    outputs = model(inputs, None, start(model)).features
    with torch.no_grad():
        model.readout.linear.weight.mul_(1.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()
    state = start(model)
    weights = list(model.parameters())
    before = model(inputs, None, state).features.sum()
    expected = torch.autograd.grad(before, weights, allow_unused=True, retain_graph=True)
    outputs = model(inputs, None, state).features
    with torch.no_grad():
        state.recurrent.hidden.add_(1)
    # Where the state was copied the change does no harm; elsewhere it is refused.
    refused = None
    try:
        gradients = torch.autograd.grad(outputs.sum(), weights, allow_unused=True)
    except RuntimeError as error:
        refused = str(error)
    if refused is None:
        torch.testing.assert_close(gradients, expected)
    else:
        assert "modified by an inplace operation" in refused


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    "context", [AttentionAfter(attention=General()), AttentionBefore(attention=Additive(num_hidden=6))]
)
@pytest.mark.parametrize(
    ("recurrent", "message"),
    [
        (
            RecurrentState(torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)),
            "state of a gru has no cell state, got one with it",
        ),
        (RecurrentState(torch.zeros(2, 2, 6)), r"state.recurrent.hidden .* = \(1, 2, 6\), got \(2, 2, 6\)"),
        (RecurrentState(torch.zeros(1, 2, 5)), r"= \(1, 2, 6\), got \(1, 2, 5\)"),
        (RecurrentState(torch.zeros(1, 2, 6).double()), "must be torch.float32 .* got torch.float64"),
    ],
)
def test_a_decoder_refuses_the_state_of_another_cell(
    context: ContextConfig, recurrent: RecurrentState, message: str
) -> None:
    model = decoder(context)
    state = start(model)._replace(recurrent=recurrent)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(2, 3, 4), None, state)
    with pytest.raises(ValueError, match=message):
        model.step(torch.zeros(2, 4), state)


def test_a_forward_pass_computed_again_draws_the_same_dropout() -> None:
    """Reentrant checkpointing records no gradients the first time; the layout in which masks are drawn must not notice."""
    torch.manual_seed(0)
    config = RecurrentConfig(kind="gru", hidden_size=128, num_layers=2, dropout=0.5)
    model = Recurrent(config, input_size=3)
    inputs, lengths = torch.randn(4, 6, 3, requires_grad=True), torch.tensor([6, 5, 2, 1])

    def run(inputs: Tensor) -> Tensor:
        return model(inputs, lengths)[0]

    gradients = []
    for again in (False, True):
        torch.manual_seed(1)
        outputs = checkpoint(run, inputs, use_reentrant=True) if again else run(inputs)
        gradients.append(torch.autograd.grad(outputs.square().sum(), inputs)[0] if not again else None)
        if again:
            model.zero_grad()
            inputs.grad = None
            outputs.square().sum().backward()
            gradients[-1] = inputs.grad
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_cudnn_is_given_whole_states(kind: str) -> None:
    """It refuses an expanded one, such as a learned first state of a dense batch."""

    class Called(Exception):
        """Carries what the kernel was given."""

    def kernel(inputs: Any, state: Any, *arguments: Any) -> None:
        raise Called(*(state if isinstance(state, list) else [state]))

    with FakeTensorMode(), torch.device("cuda"):
        model = Recurrent(RecurrentConfig(kind=kind, hidden_size=4, learn_initial_state=True), input_size=3)
        with mock.patch.object(torch, kind, kernel), pytest.raises(Called) as called:
            model(torch.zeros(3, 5, 3), None)
    assert all(part.is_contiguous() for part in called.value.args)


def test_networks_in_half_precision_as_a_whole_run_and_keep_their_precision() -> None:
    for settings in ({"kind": "gru"}, {"kind": "lstm", "layer_norm": True, "zoneout_cell": 0.5}, {"kind": "min_lstm"}):
        config = RecurrentConfig(**{"hidden_size": 64, "num_layers": 2, **settings})
        model = Recurrent(config, input_size=3).bfloat16().eval()
        inputs, lengths = torch.randn(4, 9, 3), torch.tensor([9, 0, 1, 6])
        outputs, state = model(inputs.bfloat16(), lengths)
        assert outputs.dtype == state.hidden.dtype == torch.bfloat16
        outputs.float().sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        expected, _ = model.float()(inputs.bfloat16().float(), lengths)
        assert (outputs - expected).norm() <= 0.02 * expected.norm()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        assert Recurrent(RecurrentConfig(kind="gru", hidden_size=4), input_size=3).weight_hh_l0.dtype == torch.bfloat16
    finally:
        torch.set_default_dtype(before)


def test_an_empty_batch_has_empty_outputs() -> None:
    for settings in ({}, {"num_layers": 2, "residual": True}):
        model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4, **settings), input_size=3)
        outputs, state = model(torch.zeros(0, 5, 3), None)
        assert outputs.shape == (0, 5, 4)
        assert state.hidden.shape[1] == 0
