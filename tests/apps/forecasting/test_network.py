"""Forecasting networks against plain references, window by window, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from apps.forecasting.network import (
    DataShape,
    Direct,
    DirectNetwork,
    FeedForwardBaseline,
    FeedForwardNetwork,
    NetworkConfig,
    Segment,
    SegmentNetwork,
)
from apps.forecasting.scaling import WindowScale
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=25)

DAILY = DataShape(context=12, horizon=5, num_calendar=2, num_series=3, has_missing=True)


def make_inputs(shape: DataShape, lengths: list[int], *, seed: int = 0) -> dict[str, Tensor]:
    """Random windows of the given lengths; one value in five is missing where the shape has missing values."""
    generator = torch.Generator().manual_seed(seed)
    size, num_windows = max(lengths), len(lengths)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    known = torch.rand(num_windows, size, generator=generator) > (0.2 if shape.has_missing else -1.0)
    valid = torch.arange(size) < torch.tensor(lengths).unsqueeze(1)
    observed = known & valid
    return {
        "values": normal(num_windows, size).masked_fill(~observed, 0.0),
        "observed": observed,
        "lengths": torch.tensor(lengths),
        "calendar": normal(num_windows, size, shape.num_calendar),
        "future": normal(num_windows, shape.horizon, shape.num_calendar),
        "series": torch.randint(shape.num_series, (num_windows,), generator=generator),
    }


def one_window(inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """A window by itself and without padding."""
    alone = {name: value[row : row + 1] for name, value in inputs.items()}
    size = int(alone["lengths"])
    return {
        name: value[:, :size] if name in ("values", "observed", "calendar") else value for name, value in alone.items()
    }


def assert_same(
    network: nn.Module, inputs: dict[str, Tensor], reference: Callable[[dict[str, Tensor]], Tensor]
) -> None:
    """The batch's outputs and gradients are those of the reference, called a window at a time."""
    ours = network.forecast(**inputs)
    theirs = torch.cat([reference(one_window(inputs, row)) for row in range(len(inputs["lengths"]))])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    # What a network holds for the window's scaling has no part in `forecast`.
    parameters = [parameter for name, parameter in network.named_parameters() if not name.startswith("scaling.")]
    for actual, expected in zip(
        torch.autograd.grad((ours * weights).sum(), parameters),
        torch.autograd.grad((theirs * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


# Segment --------------------------------------------------------------------------------------------------------------


def published_segrnn(network: SegmentNetwork, window: dict[str, Tensor]) -> Tensor:
    """SegRNN as its paper has it: torch.nn.GRU over the segments, then one step of it for each future segment."""
    size, length = network.segment_size, int(window["lengths"])
    fill = -length % size
    features = [nn.functional.pad(window["values"], (fill, 0)).view(1, -1, size)]
    if network.has_missing:
        features.append(nn.functional.pad(window["observed"].double(), (fill, 0)).view(1, -1, size))
    hidden_size = network.project.in_features
    gru = nn.GRU(hidden_size, hidden_size, batch_first=True).double()
    weights = dict(network.recurrent.named_parameters())

    def run(inputs: Tensor, *state: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = torch.func.functional_call(gru, weights, (inputs, *state))
        return result

    _, state = run(network.embed(torch.cat(features, dim=-1)))
    outputs = []
    for position in network.position:
        parts = [position]
        if network.series is not None:
            parts.append(network.series[int(window["series"])])
        step, _ = run(torch.cat(parts).view(1, 1, -1), state)
        outputs.append(network.project(step[:, 0]).view(1, size, network.num_outputs))
    return torch.cat(outputs, dim=1)[:, : network.horizon]


@patient
@given(data=st.data())
def test_segment_is_the_published_segrnn(data: st.DataObject) -> None:
    """The broadcast decoder, windows shorter than the context and a horizon that segments do not divide included."""
    size = data.draw(st.integers(1, 5), label="segment_size")
    shape = DataShape(
        context=size * data.draw(st.integers(1, 4), label="segments"),
        horizon=data.draw(st.integers(1, 11), label="horizon"),
        num_calendar=data.draw(st.sampled_from([0, 2]), label="num_calendar"),
        num_series=3,
        has_missing=data.draw(st.booleans(), label="has_missing"),
    )
    lengths = data.draw(st.lists(st.integers(1, shape.context), min_size=1, max_size=4), label="lengths")
    config = Segment(
        segment_size=size, hidden_size=6, dropout=0.0, series_embedding=data.draw(st.booleans(), label="embedding")
    )
    network = config.build(shape, num_outputs=data.draw(st.integers(1, 3), label="num_outputs")).double()
    assert isinstance(network, SegmentNetwork)
    assert_same(network, make_inputs(shape, lengths), lambda window: published_segrnn(network, window))


@pytest.mark.parametrize(("context", "named"), [(30, "28 or 35"), (34, "28 or 35"), (8, "7 or 14"), (3, "7,")])
def test_a_segment_that_does_not_divide_the_context_names_the_nearest_that_do(context: int, named: str) -> None:
    with pytest.raises(ValueError, match=f"does not divide the context of {context} steps.*{named}"):
        Segment(segment_size=7).build(DAILY._replace(context=context), num_outputs=1)


# Direct ---------------------------------------------------------------------------------------------------------------


def plain_direct(network: DirectNetwork, config: Direct, window: dict[str, Tensor]) -> Tensor:
    """One unpadded window through torch.nn's layer, pooled by hand."""
    inputs = [window["values"].unsqueeze(-1), window["calendar"]]
    if network.has_missing:
        inputs.append(window["observed"].unsqueeze(-1).double())
    if network.embedding is not None:
        inputs.append(network.embedding(window["series"]).unsqueeze(1).repeat(1, window["values"].shape[1], 1))
    features = torch.cat(inputs, dim=-1)
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[config.recurrent.kind]
    layer = kind(
        features.shape[-1],
        config.recurrent.hidden_size,
        config.recurrent.num_layers,
        batch_first=True,
        bidirectional=config.recurrent.bidirectional,
    ).double()
    outputs, _ = torch.func.functional_call(layer, dict(network.recurrent.named_parameters()), (features,))
    if config.pooling == "mean":
        pooled = outputs.mean(dim=1)
    elif config.pooling == "max":
        pooled = outputs.amax(dim=1)
    elif config.pooling == "attention":
        weights = network.pooling.score(outputs).softmax(dim=1)
        pooled = (weights * outputs).sum(dim=1)
    else:
        half = config.recurrent.hidden_size
        pooled = torch.cat([outputs[:, -1, :half], outputs[:, 0, half:]], dim=-1)
    steps = network.decoder.unfold(pooled).view(1, network.decoder.horizon, -1)
    if window["future"].shape[-1]:
        steps = network.decoder.step(torch.cat([steps, window["future"]], dim=-1))
    return steps


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@settings(deadline=None, max_examples=4)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    num_calendar=st.sampled_from([0, 2]),
    series_size=st.sampled_from([0, 2]),
    has_missing=st.booleans(),
    num_outputs=st.integers(1, 3),
)
def test_direct_is_a_layer_of_torch_pooled_and_mapped(
    pooling: str,
    kind: str,
    bidirectional: bool,
    lengths: list[int],
    num_calendar: int,
    series_size: int,
    has_missing: bool,
    num_outputs: int,
) -> None:
    shape = DAILY._replace(num_calendar=num_calendar, has_missing=has_missing)
    config = Direct(
        recurrent=RecurrentConfig(kind=kind, hidden_size=4, num_layers=2, bidirectional=bidirectional),
        pooling=pooling,
        series_size=series_size,
    )
    network = config.build(shape, num_outputs=num_outputs).double()
    assert isinstance(network, DirectNetwork)
    assert_same(network, make_inputs(shape, lengths), lambda window: plain_direct(network, config, window))


# Feed-forward ---------------------------------------------------------------------------------------------------------


@patient
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), has_missing=st.booleans())
def test_the_baseline_reads_windows_that_end_at_the_same_input(lengths: list[int], has_missing: bool) -> None:
    shape = DAILY._replace(has_missing=has_missing)
    config = FeedForwardBaseline(layers=FeedForwardConfig(hidden_sizes=[8], activation="tanh"))
    network = config.build(shape, num_outputs=2).double()
    assert isinstance(network, FeedForwardNetwork)

    def reference(window: dict[str, Tensor]) -> Tensor:
        fill = shape.context - int(window["lengths"])
        inputs = [nn.functional.pad(window["values"], (fill, 0)), window["future"][:, 0]]
        if has_missing:
            inputs.append(nn.functional.pad(window["observed"].double(), (fill, 0)))
        outputs: Tensor = network.layers(torch.cat(inputs, dim=1))
        return outputs.view(1, shape.horizon, 2)

    assert_same(network, make_inputs(shape, lengths), reference)


# All of them ----------------------------------------------------------------------------------------------------------


def _direct(**settings_: object) -> Direct:
    return Direct(recurrent=RecurrentConfig(kind="lstm", hidden_size=24), **settings_)  # type: ignore[arg-type]


NETWORKS: dict[str, NetworkConfig] = {
    "direct_last": _direct(),
    "direct_mean": _direct(pooling="mean", window_scaling="mean_abs"),
    "direct_max": _direct(pooling="max", window_scaling="instance_norm"),
    "direct_attention": _direct(pooling="attention", series_size=2),
    "direct_gru": Direct(
        recurrent=RecurrentConfig(kind="gru", hidden_size=24, bidirectional=True), window_scaling="last"
    ),
    "segment": Segment(segment_size=4, hidden_size=32, dropout=0.0),
    "segment_embedding": Segment(segment_size=3, hidden_size=32, dropout=0.0, series_embedding=True),
    "feed_forward": FeedForwardBaseline(layers=FeedForwardConfig(hidden_sizes=[32]), window_scaling="none"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_learn_a_few_windows_by_heart(name: str) -> None:
    """A gradient that is cut or misplaced anywhere leaves a loss that does not fall."""
    torch.manual_seed(0)
    network = NETWORKS[name].build(DAILY, num_outputs=1)
    inputs = {
        key: value.float() if value.is_floating_point() else value
        for key, value in make_inputs(DAILY, [12, 12, 7, 5]).items()
    }
    target = torch.randn(4, DAILY.horizon)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(300):
        forecast = network(
            inputs["values"],
            observed=inputs["observed"],
            lengths=inputs["lengths"],
            calendar=inputs["calendar"],
            future_calendar=inputs["future"],
            series=inputs["series"],
        )
        loss = (network.scaling.restore(forecast.outputs, forecast.window).squeeze(-1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 2e-3:
            break
    assert losses[-1] < 2e-3, f"{losses[0]:.3f} fell to {losses[-1]:.4f} only"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    """A parameter without one is a setting that does nothing."""
    torch.manual_seed(0)
    network = NETWORKS[name].build(DAILY, num_outputs=2).double()
    inputs = make_inputs(DAILY, [12, 9, 7, 5], seed=3)
    inputs["series"] = torch.tensor([0, 1, 2, 0])
    forecast = network(
        inputs["values"],
        observed=inputs["observed"],
        lengths=inputs["lengths"],
        calendar=inputs["calendar"],
        future_calendar=inputs["future"],
        series=inputs["series"],
    )
    forecast.outputs.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


SCALINGS: list[WindowScale] = ["none", "last", "mean_abs", "standard", "instance_norm"]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("kind", ["direct", "segment", "feed_forward"])
def test_a_forecast_moves_with_its_window(scaling: WindowScale, kind: str) -> None:
    """What a scaling promises: level taken off by `last`, unit by `mean_abs`, both by `standard` and `instance_norm`."""
    torch.manual_seed(1)
    network = _config_of(kind, scaling).build(DAILY, num_outputs=2).double().eval()
    if scaling == "instance_norm":
        torch.nn.init.constant_(network.scaling.log_gain, 0.3)
        torch.nn.init.constant_(network.scaling.shift, -0.7)
    inputs = make_inputs(DAILY, [12, 8, 12, 5], seed=2)

    def forecast(values: Tensor) -> Tensor:
        result = network(
            values,
            observed=inputs["observed"],
            lengths=inputs["lengths"],
            calendar=inputs["calendar"],
            future_calendar=inputs["future"],
            series=inputs["series"],
        )
        return network.scaling.restore(result.outputs, result.window)

    before = forecast(inputs["values"])
    shifts = scaling in ("last", "standard", "instance_norm")
    scales = scaling in ("mean_abs", "standard", "instance_norm")
    for factor, constant in ((1.0, 40.0), (1e-7, 0.0), (300.0, 0.0), (1e-3, -2.0)):
        promised = (shifts or constant == 0) and (scales or factor == 1)
        after = forecast(inputs["values"] * factor + constant)
        expected = before * factor + constant
        if promised:
            torch.testing.assert_close(after, expected, rtol=1e-8, atol=1e-9 * factor + 1e-13 * abs(constant))
        else:
            assert not torch.allclose(after, expected, rtol=1e-3, atol=1e-3 * factor), (factor, constant)


def _config_of(kind: str, scaling: WindowScale) -> NetworkConfig:
    if kind == "direct":
        return Direct(recurrent=RecurrentConfig(kind="gru", hidden_size=5), window_scaling=scaling)
    if kind == "segment":
        return Segment(segment_size=4, hidden_size=6, window_scaling=scaling)
    return FeedForwardBaseline(layers=FeedForwardConfig(hidden_sizes=[6]), window_scaling=scaling)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Direct(dropout=1.0), "network.dropout must be at least 0 and below 1, got 1.0"),
        (lambda: Direct(series_size=-1), "network.series_size cannot be negative, got -1"),
        (lambda: Segment(dropout=-0.1), "network.dropout must be at least 0 and below 1, got -0.1"),
        (lambda: Segment(segment_size=0), "segment_size must be at least 1"),
        (lambda: Segment(hidden_size=33), "hidden_size even"),
        (lambda: Direct(window_scaling="minmax").build(DAILY, num_outputs=1), "window_scaling.*'minmax'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_contradict_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_shape_is_read_off_the_preprocessing() -> None:
    preprocessing = {
        "context": 7,
        "horizon": 3,
        "calendar": ["day_of_week_sin", "day_of_week_cos"],
        "series_ids": ["a", "b", "c"],
        "has_missing": False,
    }
    assert DataShape.of(preprocessing) == DataShape(7, 3, num_calendar=2, num_series=3, has_missing=False)
