"""Forecasting over whole series in chunks, against running the whole history of every step (notes N6)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apps.forecasting.__main__ import FORECASTING
from apps.forecasting.heads import Quantiles
from apps.forecasting.module import ForecastingModule
from apps.forecasting.network import Direct, Segment
from apps.forecasting.stream_network import Stream, StreamNetwork
from core.nn.losses import SummedLoss
from core.nn.recurrent import RecurrentConfig
from core.training.checkpoints.files import read_checkpoint
from core.training.cli import main
from data.batching import Piece, PieceSampler
from data.forecasting import ForecastingData
from data.panels.panel import Panel
from data.series.forecast_streams import StreamBatch, StreamConfig, StreamDataset
from data.series.forecast_windows import ForecastBatch, ScaledPanel, WindowDataset
from data.series.windows import WindowIndex, fit_standard_scaling
from data.streams import ChunkConfig, StreamPlan

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=20)
CLOSE = {"rtol": 1e-10, "atol": 1e-12}
# A series without a known value has no mean.
pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
CALENDAR = ["day_of_week_sin", "day_of_week_cos"]

MakePanel = Callable[..., Panel]
Preprocessing = Callable[..., dict[str, Any]]


class Setting:
    """A panel to be read in chunks and in windows, and a module for both."""

    def __init__(
        self,
        panel: Panel,
        preprocessing: dict[str, Any],
        *,
        chunk_size: int,
        shift: int | None = None,
        horizon: int = 2,
        network: Stream | None = None,
        calendar: bool = True,
    ) -> None:
        self.train_ends = panel.lengths - 1  # the last row of each series is no part of the training
        self.panel = panel
        mean, scale = fit_standard_scaling(panel, self.train_ends, notify=lambda _: None)
        names = CALENDAR if calendar else []
        self.scaled = ScaledPanel.of(panel, mean=mean, scale=scale, calendar=names)
        self.streams = StreamDataset(
            self.scaled, self.train_ends, horizon=horizon, config=ChunkConfig(chunk_size=chunk_size, shift=shift)
        )
        self.horizon = horizon
        self.module = ForecastingModule(
            network=network or Stream(recurrent=RecurrentConfig(kind="lstm", hidden_size=4), series_size=2),
            head=Quantiles([0.2, 0.5]),
        )
        self.module.build(
            {**preprocessing, "horizon": horizon, "context": 1000, "calendar": names, "has_missing": True}
        )
        self.module.double()

    @property
    def network(self) -> StreamNetwork:
        assert isinstance(self.module.network, StreamNetwork)
        return self.module.network

    def batches(self, *, batch_size: int = 2, num_pieces: int = 1) -> Iterator[StreamBatch]:
        """One epoch as training sees it, the pieces of a batch one after the other."""
        plan = StreamPlan(self.streams.chunks, batch_size=batch_size, shuffle=True, seed=0)
        for piece in PieceSampler(plan, accumulation=num_pieces):
            yield in_double(self.streams.batch(piece))

    def windows(self) -> ForecastBatch:
        """Every step of the training part with its whole history."""
        bounds = np.stack([np.zeros_like(self.train_ends), self.train_ends], axis=1)
        index = WindowIndex(bounds, series_ids=self.panel.series_ids, context=1000, min_context=1, horizon=self.horizon)
        dataset = WindowDataset(self.scaled, index, season=None)
        return dataset.batch(Piece(0, np.arange(len(dataset)))).in_dtype(torch.float64)


def in_double(batch: StreamBatch) -> StreamBatch:
    return batch._replace(values=batch.values.double(), calendar=batch.calendar.double(), weight=batch.weight.double())


@st.composite
def cuts(draw: st.DrawFn) -> dict[str, Any]:
    """How series of up to 30 steps are cut and dealt."""
    chunk_size = draw(st.integers(1, 12))
    return {
        "lengths": draw(st.lists(st.integers(1, 30), min_size=1, max_size=5).filter(lambda sizes: max(sizes) > 4)),
        "chunk_size": chunk_size,
        "shift": draw(st.integers(1, chunk_size)),
        "horizon": draw(st.integers(1, 3)),
        "calendar": draw(st.booleans()),
        "batch_size": draw(st.integers(1, 4)),
        "num_pieces": draw(st.integers(1, 3)),
    }


@pytest.fixture(scope="module")
def make(make_panel: MakePanel, preprocessing_of: Preprocessing) -> Callable[..., Setting]:
    def _make(lengths: list[int], *, missing: float = 0.2, **changes: Any) -> Setting:
        panel = make_panel(lengths, missing=missing)
        return Setting(panel, preprocessing_of(panel), **changes)

    return _make


def gradients(module: ForecastingModule) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def total(losses: list[SummedLoss]) -> SummedLoss:
    return SummedLoss(*(sum(part) for part in zip(*losses, strict=True)))  # type: ignore[arg-type]


# What is computed -----------------------------------------------------------------------------------------------------


@patient
@given(cut=cuts())
def test_a_step_forecasts_what_its_whole_history_does(make: Callable[..., Setting], cut: dict[str, Any]) -> None:
    """However series are cut, chunks overlap and streams are dealt: the state that is carried is that of the whole past."""
    batch_size, num_pieces = cut.pop("batch_size"), cut.pop("num_pieces")
    setting = make(**cut)
    network, module, chunks = setting.network, setting.module, setting.streams.chunks
    seen: dict[tuple[int, int], list[Tensor]] = {}
    with torch.no_grad():
        for batch in setting.batches(batch_size=batch_size, num_pieces=num_pieces):
            outputs = network.forecast_steps(batch, states=module.training_states)
            for row in batch.weight.nonzero().flatten().tolist():
                series = int(batch.series[row])
                earlier = chunks.first[setting.streams.series.tolist().index(series)]
                start = (int(batch.example[row]) - earlier) * cut["shift"]
                for step in range(batch.num_skipped, int(batch.lengths[row])):
                    seen.setdefault((series, start + step), []).append(outputs[row, step - batch.num_skipped])
        windows = setting.windows()
        expected = module(windows).outputs
    places = [(int(series), int(length) - 1) for series, length in zip(windows.series, windows.lengths, strict=True)]
    assert seen.keys() == set(places)
    for place, forecast in zip(places, expected, strict=True):
        for ours in seen[place]:
            torch.testing.assert_close(ours, forecast, **CLOSE)


@pytest.mark.parametrize("mean", ["token", "sequence"])
@patient
@given(cut=cuts())
def test_every_step_counts_once(make: Callable[..., Setting], mean: Any, cut: dict[str, Any]) -> None:
    """The loss of an epoch without a step of the optimiser is that of all windows with all their history."""
    batch_size, num_pieces = cut.pop("batch_size"), cut.pop("num_pieces")
    setting = make(**cut)
    setting.module.loss_mean = mean
    with torch.no_grad():
        batches = setting.batches(batch_size=batch_size, num_pieces=num_pieces)
        ours = total([setting.module.training_loss(batch) for batch in batches])
        whole = setting.module.training_loss(setting.windows())
    assert float(ours.count) == float(whole.count)
    torch.testing.assert_close(ours.sum, whole.sum, **CLOSE)
    assert not len(setting.module.training_states), "every series has ended"


@pytest.mark.parametrize("kind", ["lstm", "gru", "min_gru"])
def test_a_chunk_that_covers_its_series_is_full_backpropagation(make: Callable[..., Setting], kind: Any) -> None:
    """Against each window with its whole history, whose gradients add up; a shorter chunk gives another gradient."""
    network = Stream(recurrent=RecurrentConfig(kind=kind, hidden_size=4, num_layers=2, learn_initial_state=True))
    found = {}
    for name, chunk_size in (("whole", 40), ("cut", 6)):
        setting = make([21, 30, 9], chunk_size=chunk_size, network=network)
        total([setting.module.training_loss(batch) for batch in setting.batches(batch_size=3)]).sum.backward()
        found[name] = gradients(setting.module)
        setting.module.zero_grad()
        setting.module.training_loss(setting.windows()).sum.backward()
        expected = gradients(setting.module)
    for ours, full in zip(found["whole"], expected, strict=True):
        torch.testing.assert_close(ours, full, **CLOSE)
    assert any(not torch.allclose(ours, full, rtol=1e-3) for ours, full in zip(found["cut"], expected, strict=True))


@pytest.mark.parametrize(("chunk_size", "shift"), [(5, 5), (5, 2), (7, 1), (1, 1)])
def test_the_gradient_reaches_back_exactly_the_chunk(make: Callable[..., Setting], chunk_size: int, shift: int) -> None:
    """From the loss of the last step of each chunk to the value of every step there is, those before it included."""
    setting = make([24], missing=0.0, chunk_size=chunk_size, shift=shift, calendar=False)
    series = torch.from_numpy(setting.scaled.values).double().requires_grad_()
    for number, batch in enumerate(setting.batches()):
        first, length = number * shift, int(batch.lengths)
        linked = batch._replace(values=series[None, first : first + length + setting.horizon])
        outputs = setting.network.forecast_steps(linked, states=setting.module.training_states)
        (gradient,) = torch.autograd.grad(outputs[0, -1].sum(), series)
        reached = gradient.nonzero().flatten().tolist()
        assert reached == list(range(first, first + length)), number
        assert length == chunk_size or first + length == 21
    assert number > 1


def test_what_stands_in_the_padding_and_beside_a_row_is_nobodys_business(make: Callable[..., Setting]) -> None:
    """Contracts 1 and 2, in a batch in the middle of the streams: every row alone, and with junk behind it."""
    setting = make([30, 19, 25, 28], chunk_size=6, shift=4)
    module = setting.module
    checked = 0
    for batch in setting.batches(batch_size=4):
        before = module.training_states.snapshot()
        module.zero_grad()
        loss = module.training_loss(batch)
        loss.sum.backward()
        whole, size = gradients(module), batch.values.shape[1]
        for junk in (torch.nan, torch.inf, 1e6):
            padding = torch.arange(size + 3) >= (batch.lengths + setting.horizon).unsqueeze(1)
            pad = torch.nn.functional.pad
            junked = batch._replace(
                values=pad(batch.values, (0, 3)).masked_fill(padding, junk),
                observed=pad(batch.observed, (0, 3)) | padding,
                calendar=pad(batch.calendar, (0, 0, 0, 3)).masked_fill(padding.unsqueeze(-1), junk),
            )
            with module.training_states.preserved(at=before):
                module.zero_grad()
                again = module.training_loss(junked)
                again.sum.backward()
            torch.testing.assert_close(again, loss, **CLOSE)
            torch.testing.assert_close(gradients(module), whole, **CLOSE)
        module.zero_grad()
        alone = []
        for row, example in enumerate(batch.example.numpy()):
            with module.training_states.preserved(at=before):
                alone.append(module.training_loss(in_double(setting.streams.batch(Piece(0, np.array([example]))))))
            alone[-1].sum.backward()
            checked += not batch.chunk.starts[row]
        torch.testing.assert_close(total(alone), loss, **CLOSE)
        torch.testing.assert_close(gradients(module), whole, **CLOSE)
    assert checked > 8


def test_a_filler_counts_nothing_and_moves_nothing(make: Callable[..., Setting]) -> None:
    setting = make([30, 19], chunk_size=6)
    states = setting.module.training_states
    loss = setting.module.training_loss(in_double(setting.streams.batch(Piece(0, np.array([0]), weight=0.0))))
    assert loss.sum.item() == loss.count.item() == 0
    assert not len(states)


def test_windows_and_whole_series_share_their_weights(make: Callable[..., Setting]) -> None:
    """Over a window the network is `Direct` with the last output: either may be fine-tuned from the other."""
    recurrent = RecurrentConfig(kind="gru", hidden_size=4)
    setting = make([30, 19], chunk_size=6, network=Stream(recurrent=recurrent, series_size=2))
    module = ForecastingModule(
        network=Direct(recurrent=recurrent, series_size=2, window_scaling="none"), head=setting.module.head
    )
    module.build(setting.module.preprocessing)
    module.double().load_state_dict(setting.module.state_dict())
    windows = setting.windows()
    torch.testing.assert_close(module(windows).outputs, setting.module(windows).outputs, rtol=0, atol=0)


def test_series_too_short_for_a_step_are_left_out_and_named(make: Callable[..., Setting]) -> None:
    setting = make([3, 30, 2, 4], chunk_size=6, horizon=2)
    assert setting.streams.left_out == ["series 0", "series 2"]
    assert setting.streams.series.tolist() == [1, 3]
    assert {int(series) for batch in setting.batches() for series in batch.series} == {1, 3}
    with pytest.raises(ValueError, match=r"horizon of 4 after it.*'series 1'.*has 4 rows"):
        make([3, 5, 2], chunk_size=6, horizon=4)


# What fits together ---------------------------------------------------------------------------------------------------


def _data(**changes: Any) -> ForecastingData:
    return ForecastingData("demo/seattle_weather.csv", context=20, horizon=2, **changes)


@pytest.mark.parametrize(
    ("network", "stream", "said"),
    [
        (Stream(), StreamConfig(), r"model.network is Stream.*data.stream.chunk_size"),
        (Direct(), StreamConfig(chunk_size=5), r"data.stream.chunk_size.*model.network is Direct.*Choose Stream"),
        (Segment(), StreamConfig(chunk_size=5), r"data.stream.chunk_size.*model.network is Segment"),
    ],
)
def test_network_and_data_must_fit(network: Any, stream: StreamConfig, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ForecastingModule(network=network).choose_examples(_data(stream=stream))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Any]:
    """`command("fit", ...)` on a file of two long series and one that has no window of the context."""
    generator = np.random.default_rng(0)
    lines = ["unique_id,ds,y"]
    for name, length in (("a", 120), ("b", 130), ("young", 24)):
        dates = np.datetime64("2024-01-01") + np.arange(length)
        lines += [
            f"{name},{date},{value:.4f}" for date, value in zip(dates, generator.normal(size=length), strict=True)
        ]
    (tmp_path / "panel.csv").write_text("\n".join(lines) + "\n")

    def _command(subcommand: str, *more: str, network: str = "Stream") -> None:
        settings = [
            "--data.path", str(tmp_path / "panel.csv"), "--data.context", "20", "--data.horizon", "2", "--data.season_length",
            "7", "--data.cache_dir", str(tmp_path / "cache"), "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
            "--trainer.logger", "false", "--model.network", network, "--model.network.recurrent",
            '{"kind": "gru", "hidden_size": 4}',
        ]  # fmt: skip
        main(FORECASTING, [subcommand, *([] if subcommand == "predict" else settings), *more])

    return _command


def test_from_the_command_line(command: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Train over whole series, the baseline on their windows; test; predict; go on with windows from its weights."""
    run, best = tmp_path / "run", tmp_path / "run" / "checkpoints" / "best.ckpt"
    stream = ("--data.stream.chunk_size", "16", "--data.stream.shift", "8")
    command("fit", "--run_dir", str(run), *stream)
    said = capfd.readouterr().err
    # 16 of its 24 rows train it: no window of 20 + 2 steps, of which the baseline is told, but 14 steps of a stream.
    assert said.count("train: 1 of 3 series left out, too short for a window of 20 + 2 steps: young") == 1
    written = json.loads((run / "metrics.json").read_text())
    assert np.isfinite([written["metrics"]["mae"], written["baselines"]["feed_forward"]["mae"]]).all()
    # Steps of each series: 84 - 2, 91 - 2 and 16 - 2; side by side, a chunk of 16 and then one every 8.
    assert written["steps"] == 1 + -(-(89 - 16) // 8)
    command("test", "--run_dir", str(run), *stream)
    tested = json.loads((run / "test_metrics.json").read_text())
    assert tested["metrics"] == pytest.approx(written["metrics"])
    assert tested["baselines"]["feed_forward"] == pytest.approx(written["baselines"]["feed_forward"])
    output = tmp_path / "next.csv"
    command("predict", "--ckpt_path", str(best), "--input", str(tmp_path / "panel.csv"), "--output", str(output))
    assert len(output.read_text().splitlines()) == 1 + 3 * 2
    windows = tmp_path / "windows"
    command(
        "fit", "--run_dir", str(windows), "--init_from", str(best), "--baseline.enabled", "false", "--trainer.max_steps", "1",
        "--model.network.window_scaling", "none", "--model.optimizer.lr", "1e-30", network="Direct",
    )  # fmt: skip
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, windows))
    assert all(torch.allclose(value, theirs[name]) for name, value in ours.items())


def test_a_network_and_data_that_do_not_fit_end_with_one_message(
    command: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for network, more in (("Stream", ()), ("Direct", ("--data.stream.chunk_size", "16"))):
        with pytest.raises(SystemExit) as raised:
            command("fit", "--run_dir", str(tmp_path / "run"), *more, network=network)
        assert raised.value.code == 2
        message = capfd.readouterr().err
        assert "Traceback" not in message
        assert f"model.network is {network}" in message
        assert "data.stream.chunk_size" in message
    assert not any((tmp_path / "run").rglob("*"))


@pytest.mark.parametrize(
    ("make_config", "said"),
    [
        (lambda: StreamConfig(chunk_size=0), r"data.stream.chunk_size must be at least 1 step, got 0"),
        (lambda: StreamConfig(chunk_size=5, shift=6), r"data.stream.shift must be from 1 to chunk_size \(5\), got 6"),
        (lambda: StreamConfig(chunk_size=5, shift=0), r"data.stream.shift must be from 1 to chunk_size \(5\), got 0"),
        (lambda: StreamConfig(shift=6), r"data.stream.shift is 6, but without data.stream.chunk_size.*do nothing"),
        (
            lambda: _data(stream=StreamConfig(chunk_size=5), stride=2),
            r"data.stride is 2.*do nothing.*data.stream.shift",
        ),
        (lambda: Stream(window_scaling="last"), r"window_scaling is 'last'.*whole series.*data.scaling: standard"),
        (lambda: Stream(window_scaling="standard"), r"window_scaling is 'standard'"),
        (
            lambda: Stream(recurrent=RecurrentConfig(kind="gru", hidden_size=4, bidirectional=True)),
            r"recurrent.bidirectional is true.*Set it to false",
        ),
        (lambda: Stream(series_size=-1), r"series_size cannot be negative, got -1"),
        (lambda: Stream(dropout=1.0), r"network.dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_settings(make_config: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_config()


def test_a_network_has_its_own_window_scaling_unless_told() -> None:
    """Also after another one on the same command line, whose defaults would else be kept."""
    assert [config.scaling for config in (Direct(), Segment(), Stream())] == ["standard", "last", "none"]
    assert Segment(window_scaling="mean_abs").scaling == "mean_abs"
    assert Stream(window_scaling="none").scaling == "none"
