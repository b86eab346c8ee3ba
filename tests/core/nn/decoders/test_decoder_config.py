"""Settings of decoders and bridges that are wrong or do nothing, and recurrent layers of every further kind."""

from typing import Any

import pytest
import torch

from core.nn.attention import Additive, Dot, General
from core.nn.decoders.bridge import Bridge, Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
)
from core.nn.recurrent import RecurrentConfig

LSTM = RecurrentConfig(kind="lstm", hidden_size=4)
SHAPE = SourceShape(output_size=4, summary_size=5, recurrent=LSTM)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recurrent": RecurrentConfig(kind="gru", hidden_size=4, bidirectional=True)}, "bidirectional must be false"),
        ({"context": FirstStateOnly(), "bridge": "zero", "readout": "state"}, "leaves the decoder nothing"),
        ({"context": FirstStateOnly()}, "FirstStateOnly has none"),
        ({"readout": "state"}, "AttentionAfter does nothing with readout='state'"),
        ({"readout": "deep"}, "feeds the attentional vector, got readout='deep'"),
        ({"context": AttentionBetween(attention=Dot())}, "layers above the first, got num_layers=1"),
        ({"readout": "wide"}, "state, attentional, deep, got 'wide'"),
        ({"bridge": "long"}, "zero, copy, dense, got 'long'"),
        ({"context": FixedContext(), "readout": "state", "readout_size": 3}, "readout_size=3 does nothing"),
        ({"readout_size": 0}, "readout_size must be at least 1, got 0"),
        ({"readout_dropout": 1.0}, r"readout_dropout must be in \[0, 1\), got 1.0"),
        (
            {"recurrent": RecurrentConfig(kind="lstm", hidden_size=4, weight_drop=0.1)},
            "weight_drop of recurrent would be drawn anew",
        ),
    ],
)
def test_settings_that_are_wrong_or_do_nothing_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**{"recurrent": LSTM, "context": AttentionAfter(attention=General()), **changed})


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("kind", "decoder", "shape", "message"),
    [
        ("long", LSTM, SHAPE, "zero, copy, dense, got 'long'"),
        ("copy", LSTM, SHAPE._replace(recurrent=None), "needs a recurrent encoder"),
        (
            "copy",
            LSTM,
            SHAPE._replace(recurrent=RecurrentConfig(kind="gru", hidden_size=4)),
            r"encoder has 1 layers of 4 \(gru\), the decoder 1 of 4 \(lstm\)",
        ),
        (
            "copy",
            LSTM,
            SHAPE._replace(recurrent=RecurrentConfig(kind="lstm", hidden_size=4, bidirectional=True)),
            "encoder has 1 layers of 8",
        ),
        (
            "dense",
            RecurrentConfig(kind="lstm", hidden_size=4, learn_initial_state=True),
            SHAPE,
            "learn_initial_state=true does nothing with bridge 'dense'",
        ),
    ],
)
def test_bridges_that_cannot_be_are_refused(
    kind: Any, decoder: RecurrentConfig, shape: SourceShape, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Bridge(kind, decoder=decoder, source=shape)


@pytest.mark.usefixtures("as_shipped")
def test_input_that_does_not_fit_is_refused() -> None:
    config = DecoderConfig(recurrent=LSTM, context=AttentionBefore(attention=Additive(num_hidden=2)), bridge="copy")
    with pytest.raises(ValueError, match="input_size must be at least 1, got 0"):
        Decoder(config, input_size=0, source=SHAPE)
    decoder = Decoder(config, input_size=3, source=SHAPE)
    source = Source(torch.zeros(2, 3, 4), torch.tensor([3, 1]), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"source\.state, got None"):
        decoder.start(source)
    last = decoder.layers.initial_state(2)
    for wrong, message in (
        (decoder.layers.initial_state(3), r"source\.state\.hidden must have shape .* = \(1, 2, 4\), got \(1, 3, 4\)"),
        (last._replace(cell=last.hidden[..., :3]), r"source\.state\.cell must have shape .* got \(1, 2, 3\)"),
        (last._replace(cell=None), "the state of a lstm has a cell state, got one without it"),
        (last.to(dtype=torch.float64), r"source\.state\.hidden must be torch\.float32 on cpu, .* got torch\.float64"),
        (last.to("meta"), r"source\.state\.hidden .* got torch\.float32 on meta"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder.start(source._replace(state=wrong))
    state = decoder.start(source._replace(state=last))
    for inputs, message in (
        (torch.zeros(2, 4, 2), r"inputs must have shape \(rows, time >= 1, 3\), got \(2, 4, 2\)"),
        (torch.zeros(2, 0, 3), r"got \(2, 0, 3\)"),
        (torch.zeros(2, 4, 3).double(), "inputs must be torch.float32 on cpu.*got torch.float64"),
        (torch.zeros(3, 4, 3), "the state is one of 2 rows, got inputs of 3"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder(inputs, None, state)
    with pytest.raises(ValueError, match=r"state\.coverage must be None for this decoder"):
        decoder(torch.zeros(2, 4, 3), None, state._replace(coverage=torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="got 3 rows for 2 examples"):
        decoder(torch.zeros(3, 4, 3), None, state.select(torch.tensor([0, 0, 1])))


FURTHER: list[dict[str, Any]] = [
    {"kind": "min_gru"},
    {"kind": "min_lstm"},
    {"kind": "lstm", "layer_norm": True},
    {"kind": "gru", "layer_norm": True},
    {"kind": "lstm", "zoneout": 0.2, "zoneout_cell": 0.1},
    {"kind": "lstm", "weight_drop": 0.3},
    {"kind": "gru", "dropout": 0.2, "locked_dropout": True},
]


@pytest.mark.parametrize("settings", FURTHER, ids=repr)
@pytest.mark.parametrize(
    "context",
    [
        AttentionAfter(attention=General(), input_feeding=False),
        AttentionAfter(attention=General()),
        AttentionBefore(attention=Dot()),
        AttentionBetween(attention=Dot()),
    ],
    ids=repr,
)
def test_every_further_kind_of_layer_gives_step_by_step_what_it_gives_whole(
    settings: dict[str, Any], context: Any
) -> None:
    """In evaluation; noise that is drawn once a sequence is refused where training goes step by step."""
    torch.manual_seed(0)
    recurrent = RecurrentConfig(hidden_size=4, num_layers=2, **settings)
    once = "weight_drop" in settings or "locked_dropout" in settings
    stepped = isinstance(context, AttentionBefore) or getattr(context, "input_feeding", False)
    if once and stepped:
        with pytest.raises(ValueError, match="would be drawn anew at every step"):
            DecoderConfig(recurrent=recurrent, context=context)
        return
    decoder = Decoder(DecoderConfig(recurrent=recurrent, context=context), input_size=3, source=SHAPE).double()
    source = Source(
        torch.randn(2, 3, 4, dtype=torch.float64), torch.tensor([3, 1]), torch.randn(2, 5, dtype=torch.float64)
    )
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    decoder(inputs, torch.tensor([5, 2]), decoder.start(source)).features.sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.layers.parameters())
    if once:
        with pytest.raises(ValueError, match="Train with teacher forcing alone"):
            decoder.loop(decoder.start(source), num_steps=5)
    decoder.eval()
    whole = decoder(inputs, torch.tensor([5, 2]), decoder.start(source))
    state = decoder.start(source)
    for step in range(5):
        features, _, state = decoder.step(inputs[:, step], state)
        torch.testing.assert_close(features[0], whole.features[0, step], rtol=1e-10, atol=1e-10)
        if step < 2:
            torch.testing.assert_close(features[1], whole.features[1, step], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state.recurrent.hidden[:, 0], whole.state.recurrent.hidden[:, 0], rtol=1e-10, atol=1e-10)
