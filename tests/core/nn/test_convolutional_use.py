"""Convolutional recurrent layers in their surroundings: settings, bad input, memory layout, precision, export, learning."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.nn.convolutional import ConvRecurrent, ConvRecurrentConfig
from core.nn.recurrence.convolutional_cells import NUM_CONV_GATES, ConvState

KINDS = list(NUM_CONV_GATES)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "lstm"}, "conv_rnn, conv_lstm, conv_gru, got 'lstm'"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4: .* Set 3 or 5"),
        ({"kernel_size": 0}, "kernel_size must be odd, got 0: .* Set 1 or 3"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_layers": 2, "dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": 0.1}, "dropout=0.1 does nothing with num_layers=1"),
        ({"residual": True}, "residual=true does nothing with num_layers=1"),
        ({"kind": "conv_gru", "peepholes": True}, "peepholes=true does nothing with kind='conv_gru'"),
        ({"norm_groups": 3}, "norm_groups must divide hidden_channels=4 .* got 3"),
        ({"norm_groups": 0}, "norm_groups must divide hidden_channels=4 .* got 0"),
    ],
)
def test_settings_that_are_wrong_or_do_nothing_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvRecurrentConfig(**{"kind": "conv_lstm", "hidden_channels": 4, **changed})


def lstm_state(**changed: Any) -> ConvState:
    parts = {"hidden": torch.zeros(1, 2, 4, 6, 7), "cell": torch.zeros(1, 2, 4, 6, 7), **changed}
    return ConvState(**parts)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": torch.zeros(2, 3, 5)}, r"\(batch, time >= 1, 5, height >= 1, width >= 1\), got \(2, 3, 5\)"),
        ({"inputs": torch.zeros(2, 3, 4, 6, 7)}, r"got \(2, 3, 4, 6, 7\).*input_channels=5"),
        ({"inputs": torch.zeros(2, 0, 5, 6, 7)}, r"got \(2, 0, 5, 6, 7\)"),
        ({"inputs": torch.zeros(2, 3, 5, 6, 0)}, r"got \(2, 3, 5, 6, 0\)"),
        ({"inputs": torch.zeros(2, 3, 5, 6, 7).double()}, r"inputs must be torch.float32 .* got torch.float64"),
        ({"inputs": torch.zeros(2, 3, 5, 6, 7, device="meta")}, "on cpu, as the weights are, got .* on meta"),
        ({"lengths": torch.tensor([1, 2, 3])}, r"lengths must have .* \(2,\), got \(3,\)"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be int64, got torch.float32"),
        ({"state": lstm_state(cell=None)}, "state of a conv_lstm has a cell state, got one without it"),
        ({"state": lstm_state(hidden=torch.zeros(1, 3, 4, 6, 7))}, r"= \(1, 2, 4, 6, 7\), got \(1, 3, 4, 6, 7\)"),
        ({"state": lstm_state(cell=torch.zeros(1, 2, 4, 7, 6))}, r"state.cell .* got \(1, 2, 4, 7, 6\)"),
        ({"state": lstm_state(hidden=torch.zeros(1, 2, 4, 6, 7).double())}, "state.hidden must be .* torch.float64"),
    ],
)
def test_input_that_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    model = ConvRecurrent(ConvRecurrentConfig(kind="conv_lstm", hidden_channels=4), input_channels=5)
    fits = {"inputs": torch.zeros(2, 3, 5, 6, 7), "lengths": torch.tensor([3, 1]), "state": lstm_state()}
    model(**fits)
    with pytest.raises(ValueError, match=message):
        model(**{**fits, **changed})


def test_what_cannot_work_is_refused() -> None:
    config = ConvRecurrentConfig(kind="conv_gru", hidden_channels=4, norm_groups=4)
    with pytest.raises(ValueError, match="input_channels must be at least 1, got 0"):
        ConvRecurrent(config, input_channels=0)
    model = ConvRecurrent(config, input_channels=5)
    with pytest.raises(ValueError, match="norm_groups=4 on maps of 1 x 1 leaves one value a group"):
        model(torch.zeros(2, 3, 5, 1, 1), None)
    with pytest.raises(ValueError, match="state of a conv_gru has no cell state, got one with it"):
        model(torch.zeros(2, 3, 5, 6, 7), None, lstm_state())


@pytest.mark.usefixtures("as_shipped")
def test_a_state_that_is_none_is_refused() -> None:
    model = ConvRecurrent(ConvRecurrentConfig(kind="conv_lstm", hidden_channels=4), input_channels=5)
    with pytest.raises(TypeError, match=r"state must be a ConvState\(hidden, cell\), got tuple"):
        model(torch.zeros(2, 3, 5, 6, 7), None, tuple(lstm_state()))


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_with_an_open_forget_gate_and_orthogonal_filters(kind: str) -> None:
    config = ConvRecurrentConfig(
        kind=kind, hidden_channels=4, norm_groups=2, peepholes=kind == "conv_lstm", num_layers=2, bidirectional=True
    )
    model = ConvRecurrent(config, input_channels=3)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        for gate in getattr(model, f"weight_hh_{suffix}").chunk(NUM_CONV_GATES[kind]):
            torch.testing.assert_close(gate.flatten(1) @ gate.flatten(1).T, torch.eye(4), rtol=1e-5, atol=1e-5)
        expected = torch.zeros(4 * NUM_CONV_GATES[kind])
        if kind == "conv_lstm":
            expected[4:8] = 1.0
            assert not getattr(model, f"peephole_{suffix}").any()
        assert torch.equal(getattr(model, f"bias_{suffix}"), expected)
        assert torch.equal(getattr(model, f"gain_{suffix}"), torch.ones_like(expected))


def as_channels_last(inputs: Tensor) -> Tensor:
    return inputs.movedim(2, -1).contiguous().movedim(-1, 2)


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 0, 3])])
@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_is_kept_and_gives_the_same_values(kind: str, lengths: Tensor | None) -> None:
    """From the inputs, as an encoder hands them over, or from the weights."""
    model = ConvRecurrent(
        ConvRecurrentConfig(kind=kind, hidden_channels=4, num_layers=2, bidirectional=True), input_channels=3
    ).double()
    inputs = torch.randn(3, 5, 3, 6, 7, dtype=torch.float64)
    outputs, state = model(inputs, lengths)
    assert outputs.is_contiguous()
    got = [model(as_channels_last(inputs), lengths)]
    model.to(memory_format=torch.channels_last)
    got += [model(inputs, lengths), model(as_channels_last(inputs), lengths)]
    for other_outputs, other_state in got:
        assert other_outputs.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close((other_outputs, other_state), (outputs, state), rtol=1e-12, atol=1e-12)


def test_dropout_takes_whole_channels_between_layers_in_training_alone() -> None:
    config = ConvRecurrentConfig(kind="conv_rnn", hidden_channels=16, num_layers=2, dropout=0.5, kernel_size=1)
    model = ConvRecurrent(config, input_channels=2)
    with torch.no_grad():
        model.weight_hh_l1.zero_()
        model.weight_ih_l1.copy_(torch.eye(16)[:, :, None, None])
    inputs = torch.randn(4, 6, 2, 5, 5)
    lengths = torch.tensor([6, 2, 1, 4])
    (first, first_state), (second, second_state) = model(inputs, lengths), model(inputs, lengths)
    # The lowest layer is before any dropout.
    assert torch.equal(first_state.hidden[0], second_state.hidden[0])
    assert not torch.equal(first, second)
    # The second layer shows the first one's outputs: a channel of a step is zero everywhere or nowhere.
    zero = (first[0] == 0).flatten(2)
    assert torch.equal(zero.all(-1), zero.any(-1))
    assert 0.2 < zero.all(-1).float().mean() < 0.8
    model.eval()
    assert torch.equal(model(inputs, lengths)[0], model(inputs, lengths)[0])


@pytest.mark.parametrize("norm_groups", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_by_autocast_is_near_float32(kind: str, norm_groups: int | None) -> None:
    torch.manual_seed(0)
    config = ConvRecurrentConfig(
        kind=kind,
        hidden_channels=8,
        num_layers=2,
        bidirectional=True,
        norm_groups=norm_groups,
        peepholes=kind == "conv_lstm",
    )
    model = ConvRecurrent(config, input_channels=3)
    inputs, lengths = torch.randn(4, 6, 3, 7, 6), torch.tensor([6, 0, 1, 4])
    outputs, state = model(inputs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, carried = model(inputs, lengths)
        model(inputs, lengths, carried)
    assert half.dtype == torch.bfloat16
    assert carried.cell is None or carried.cell.dtype == torch.float32
    torch.testing.assert_close(half.float(), outputs, rtol=0.05, atol=0.05)
    torch.testing.assert_close(carried.to(dtype=torch.float32), state, rtol=0.05, atol=0.05)
    half.float().square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_the_same_where_a_cpu_has_no_convolutions_in_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors that are rounded and then convolved in float32 against PyTorch's own, forward and backward, layout kept."""
    torch.manual_seed(0)
    model = ConvRecurrent(ConvRecurrentConfig(kind=kind, hidden_channels=8), input_channels=4)
    inputs = torch.randn(2, 4, 5, 6, 4).movedim(-1, 2)
    found = []
    for has_them in (False, True):
        monkeypatch.setattr("core.nn.recurrence.convolutional_cells.has_avx512", lambda has=has_them: has)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs, _ = model(inputs, None)
        gradients = torch.autograd.grad(outputs.float().square().sum(), list(model.parameters()))
        found.append([outputs.float(), *gradients])
        assert outputs.dtype == torch.bfloat16
        assert outputs.stride(2) == 1
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_exported_it_runs_on_other_batches(kind: str, bidirectional: bool) -> None:
    """Any batch size and lengths; the number of steps and the size of the map are fixed."""
    config = ConvRecurrentConfig(
        kind=kind, hidden_channels=2, num_layers=2, bidirectional=bidirectional, norm_groups=1, dropout=0.3
    )
    model = ConvRecurrent(config, input_channels=3).double().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        model,
        (torch.randn(3, 4, 3, 5, 6, dtype=torch.float64), torch.tensor([4, 2, 3])),
        dynamic_shapes={"inputs": {0: batch}, "lengths": {0: batch}},
    )
    inputs, lengths = torch.randn(6, 4, 3, 5, 6, dtype=torch.float64), torch.tensor([4, 1, 3, 0, 2, 4])
    torch.testing.assert_close(program.module()(inputs, lengths), model(inputs, lengths), rtol=1e-12, atol=1e-12)


def test_a_state_is_detached_selected_and_moved_whole() -> None:
    state = lstm_state(hidden=torch.randn(1, 2, 4, 6, 7, requires_grad=True), cell=torch.randn(1, 2, 4, 6, 7))
    assert not state.detach().hidden.requires_grad
    chosen = state.select(torch.tensor([1, 1, 0]))
    for part, whole in zip(chosen, state, strict=True):
        assert torch.equal(part, whole[:, [1, 1, 0]])
    assert {part.dtype for part in state.to(dtype=torch.float64)} == {torch.float64}
    assert ConvState(state.hidden).to("meta").cell is None


def moving_squares(num_clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of a 2 x 2 square that moves one position a frame, its lengths, and the way it moves (0 to 3).

    Every frame alone is as likely under each way: only the order of frames tells.
    """
    lengths = torch.randint(3, 6, (num_clips,))
    ways = torch.arange(num_clips) % 4
    clips = torch.zeros(num_clips, 5, 1, 8, 8)
    for clip, (way, length) in enumerate(zip(ways.tolist(), lengths.tolist(), strict=True)):
        y, x = torch.randint(0, 8, (2,)).tolist()
        for step in range(length):
            dy, dx = [(0, 1), (0, -1), (1, 0), (-1, 0)][way]
            rows, columns = [(y + dy * step + k) % 8 for k in (0, 1)], [(x + dx * step + k) % 8 for k in (0, 1)]
            clips[clip, step, 0, torch.tensor(rows)[:, None], torch.tensor(columns)] = 1.0
    return clips, lengths, ways


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_which_way_a_square_moves(kind: str) -> None:
    """The gated cells tell it of clips they have not seen; a simple one only learns its own by heart."""
    torch.manual_seed(0)
    clips, lengths, ways = moving_squares(32)
    model = ConvRecurrent(ConvRecurrentConfig(kind=kind, hidden_channels=8), input_channels=1)
    head = nn.Linear(8, 4)

    def scores(clips: Tensor, lengths: Tensor) -> Tensor:
        _, state = model(clips, lengths)
        return head(state.hidden[-1].mean((-2, -1)))

    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.03)
    for _ in range(120):
        loss = nn.functional.cross_entropy(scores(clips, lengths), ways)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2, f"chance is 1.39, got {loss:.2f}"
    if kind != "conv_rnn":
        clips, lengths, ways = moving_squares(200)
        accuracy = (scores(clips, lengths).argmax(1) == ways).float().mean()
        assert accuracy > 0.75, f"chance is 0.25, got {accuracy:.2f}"
