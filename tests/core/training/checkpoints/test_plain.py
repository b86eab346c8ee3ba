"""Config dataclasses to plain data and back, over every class that ships."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.forecasting.heads import HeadConfig, Point, Quantiles
from apps.forecasting.network import Direct, FeedForwardBaseline, NetworkConfig, Segment
from apps.forecasting.scaling import WindowScale
from apps.forecasting.stream_network import Stream
from core.nn.cells import CELL_KINDS
from core.nn.feed_forward import FeedForwardActivation, FeedForwardConfig
from core.nn.pooling import PoolingKind
from core.nn.recurrent import RecurrentConfig
from core.training.baseline import BaselineConfig
from core.training.checkpoints.plain import differences, from_plain, to_plain
from core.training.checkpoints.saving import CheckpointConfig
from core.training.optimisation import Constant, Cosine, Exponential, InverseSquareRoot, OptimizerConfig, ScheduleConfig

# Type checks at run time sample a list's items by `random`, which Hypothesis takes for a strategy that does.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=60)

shares = st.floats(0, 0.99)
sizes = st.integers(1, 300)
scalings = st.sampled_from(get_args(WindowScale))
recurrent = st.one_of(
    st.builds(
        RecurrentConfig,
        kind=st.sampled_from(CELL_KINDS),
        hidden_size=sizes,
        num_layers=st.integers(2, 4),
        bidirectional=st.booleans(),
        dropout=shares,
        residual=st.booleans(),
        learn_initial_state=st.booleans(),
    ),
    st.builds(
        RecurrentConfig, kind=st.just("gru"), hidden_size=sizes, reset=st.sampled_from([None, "after", "before"])
    ),
)
layers = st.builds(
    FeedForwardConfig,
    hidden_sizes=st.lists(sizes, min_size=1, max_size=3),
    activation=st.sampled_from(get_args(FeedForwardActivation)),
    dropout=shares,
    layer_norm=st.booleans(),
)
CONFIGS: dict[type, tuple[type, st.SearchStrategy[Any]]] = {
    Direct: (
        NetworkConfig,
        st.builds(
            Direct,
            recurrent=recurrent,
            pooling=st.sampled_from(get_args(PoolingKind)),
            dropout=shares,
            series_size=st.integers(0, 9),
            window_scaling=scalings,
        ),
    ),
    Segment: (
        NetworkConfig,
        st.builds(
            Segment,
            segment_size=sizes,
            hidden_size=sizes.map(lambda half: 2 * half),
            dropout=shares,
            window_scaling=scalings,
            series_embedding=st.booleans(),
        ),
    ),
    Stream: (
        NetworkConfig,
        st.builds(
            Stream,
            recurrent=st.builds(RecurrentConfig, kind=st.sampled_from(CELL_KINDS), hidden_size=sizes),
            dropout=shares,
            series_size=st.integers(0, 9),
            window_scaling=st.none() | st.just("none"),
        ),
    ),
    FeedForwardBaseline: (NetworkConfig, st.builds(FeedForwardBaseline, layers=layers, window_scaling=scalings)),
    Point: (
        HeadConfig,
        st.one_of(
            st.builds(Point, loss=st.sampled_from(["mse", "mae", "huber"])),
            st.builds(Point, loss=st.just("huber"), delta=st.floats(0.01, 10)),
        ),
    ),
    Quantiles: (
        HeadConfig,
        st.builds(Quantiles, quantiles=st.sets(st.floats(0.01, 0.99)).map(lambda levels: sorted({0.5, *levels}))),
    ),
    Constant: (ScheduleConfig, st.builds(Constant)),
    Exponential: (
        ScheduleConfig,
        st.builds(Exponential, constant_epochs=st.integers(0, 9), decay=st.floats(0.01, 1)),
    ),
    InverseSquareRoot: (ScheduleConfig, st.builds(InverseSquareRoot, warmup_steps=st.integers(1, 9999))),
    Cosine: (ScheduleConfig, st.builds(Cosine, warmup_share=shares, floor=st.floats(0, 1))),
    OptimizerConfig: (
        OptimizerConfig,
        st.builds(
            OptimizerConfig, name=st.sampled_from(["adamw", "sgd"]), lr=st.floats(1e-6, 1), weight_decay=st.floats(0, 1)
        ),
    ),
    RecurrentConfig: (RecurrentConfig, recurrent),
    FeedForwardConfig: (FeedForwardConfig, layers),
    CheckpointConfig: (
        CheckpointConfig,
        st.builds(
            CheckpointConfig,
            every_n_steps=st.none() | sizes,
            every_n_epochs=sizes,
            every_minutes=st.none() | st.floats(0.1, 60),
            monitor=st.sampled_from(["val/loss", "val/mae"]),
            mode=st.sampled_from(["min", "max"]),
        ),
    ),
    BaselineConfig: (BaselineConfig, st.builds(BaselineConfig, max_epochs=st.none() | sizes)),
}


def concrete(base: type) -> set[type]:
    found = set() if inspect.isabstract(base) else {base}
    return found.union(*(concrete(subclass) for subclass in base.__subclasses__()))


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
@patient
@given(data=st.data())
def test_every_config_comes_back_as_it_was(cls: type, data: st.DataObject) -> None:
    """Through a file that is read with `weights_only`, as a checkpoint is."""
    base, strategy = CONFIGS[cls]
    config = data.draw(strategy)
    plain = to_plain(config)
    assert_plain(plain)
    assert plain["class"] == cls.__name__
    assert set(plain) == {"class", *(each.name for each in dataclasses.fields(cls))}
    back = from_plain(base, plain)
    assert type(back) is cls
    assert back == config
    assert differences(plain, to_plain(back)) == []


def assert_plain(value: Any) -> None:
    assert type(value) in (type(None), bool, int, float, str, list, dict)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_plain(item)


@pytest.mark.parametrize("base", [NetworkConfig, HeadConfig, ScheduleConfig])
def test_no_shipped_config_is_left_out_here(base: type) -> None:
    shipped = {cls for cls in concrete(base) if cls.__module__.split(".")[0] in ("apps", "core")}
    assert shipped == {cls for cls, (of, _) in CONFIGS.items() if of is base}


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
@patient
@given(data=st.data())
def test_a_change_of_any_one_field_is_named(cls: type, data: st.DataObject) -> None:
    _, strategy = CONFIGS[cls]
    before, after = to_plain(data.draw(strategy)), to_plain(data.draw(strategy))
    lines = differences(before, after)
    for key in before:
        changed = before[key] != after[key]
        assert any(line.startswith((f"{key}:", f"{key}.")) for line in lines) == changed, key


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"RecurrentConfig has no setting 'hiden_size'\. Did you mean 'hidden_size'\?"):
        from_plain(RecurrentConfig, {"kind": "gru", "hiden_size": 3})
    nested = to_plain(Direct())
    nested["recurrent"]["biderectional"] = True
    with pytest.raises(
        ValueError, match=r"RecurrentConfig has no setting 'biderectional'\. Did you mean 'bidirectional'?"
    ):
        from_plain(NetworkConfig, nested)
    with pytest.raises(ValueError, match=r"^OptimizerConfig has no setting 'xyz'\.$"):
        from_plain(OptimizerConfig, {"xyz": 1})
    # The base itself is no choice.
    with pytest.raises(
        ValueError,
        match=r"Unknown NetworkConfig 'Transformer'\. Known: Direct, FeedForwardBaseline, Segment, Stream\.$",
    ):
        from_plain(NetworkConfig, {"class": "Transformer"})
    with pytest.raises(ValueError, match="Unknown ScheduleConfig 'ScheduleConfig'"):
        from_plain(ScheduleConfig, {})


def test_a_value_that_no_longer_passes_is_refused_by_its_own_message() -> None:
    with pytest.raises(ValueError, match=r"network\.dropout must be at least 0"):
        from_plain(NetworkConfig, {"class": "Direct", "dropout": 2.0})


@dataclass
class _Outer:
    items: list[Any] = field(default_factory=list)
    names: dict[int, Any] = field(default_factory=dict)
    pair: tuple[int, int] = (1, 2)


def test_containers_are_walked() -> None:
    tensor = torch.ones(2)
    plain = to_plain(_Outer(items=[Constant(), {"a": tensor}], names={3: None}))
    assert plain == {
        "class": "_Outer",
        "items": [{"class": "Constant"}, {"a": tensor}],
        "names": {"3": None},
        "pair": [1, 2],
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.float32, Constant, {"a": [b"bytes"]}])
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="Expected plain data"):
        to_plain(value)


def test_differences_say_where_and_what() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "gone": 1, "tensor": torch.tensor([1.0, 2.0]), "same": "x"}
    now = {"a": {"b": 2, "c": [1, 3]}, "new": 2, "tensor": torch.tensor([1.0, 3.0]), "same": "x"}
    assert differences(before, now) == [
        "a.b: 1, now 2",
        "a.c: [1, 2], now [1, 3]",
        "gone: 1, now absent",
        "tensor: other values",
        "new: absent, now 2",
    ]
    (line,) = differences({"a": "x" * 200}, {"a": "y"})
    assert len(line) < 90


@patient
@given(values=st.lists(st.floats(allow_nan=True) | st.just(float("nan")), max_size=5))
def test_nothing_differs_from_itself(values: list[float]) -> None:
    """A series without a seasonal error has NaN there: a run over it must still be resumed."""
    before = {"tensor": torch.tensor(values, dtype=torch.float64), "number": values[0] if values else 0}
    now = {"tensor": before["tensor"].clone(), "number": float(str(before["number"]))}
    assert differences(before, now) == []


def test_tensors_differ_by_shape_and_by_where_they_are_nan() -> None:
    nan = float("nan")
    for other in (torch.tensor([1.0, 2.0]), torch.tensor([nan, 1.0]), torch.tensor([1.0]), torch.tensor([[1.0, nan]])):
        assert differences({"a": torch.tensor([1.0, nan])}, {"a": other}) == ["a: other values"]
