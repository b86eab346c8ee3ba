"""Convolutional layers, attention, pooling, decoders, search and the parallel scan on a device against the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from core.nn.attention import Additive, AttentionConfig, Dot, General, MultiHead
from core.nn.convolutional import ConvRecurrent, ConvRecurrentConfig
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
    TopDown,
)
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.pooling import PoolingKind, build_pooling
from core.nn.recurrence.parallel_scan import parallel_scan
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.search import BeamConfig, GreedyConfig, SamplingConfig, SearchConfig, SpecialTokens, search
from scripts.parity import EXACT, Check, Place, Precision, Results, compare_with_itself, with_gradients

Network = TypeVar("Network", bound=nn.Module)

ALL: tuple[Precision, ...] = ("float64", "float32", "bfloat16")
SIZE, VOCABULARY = 4, 20
LENGTHS = torch.tensor([6, 0, 2, 6])


def checks(*, small: bool) -> Iterator[Check]:
    """Every network beside `Recurrent`."""
    for num_steps in (1, 2, 7) if small else (1, 2, 3, 4, 5, 8, 31, 64, 1000):
        yield Check(f"parallel scan of {num_steps} steps", *_parallel_scan(num_steps))
    for settings in _CONVOLUTIONAL[:1] if small else _CONVOLUTIONAL:
        for lengths in (LENGTHS,) if small else (LENGTHS, None):
            name = f"convolutional {settings}, {'no padding' if lengths is None else 'NaN in the padding'}"
            yield compare_with_itself(name, _convolutional(lengths, **settings), ALL)
    for attention in _ATTENTIONS:
        yield compare_with_itself(f"attention {attention}, NaN in the padding", _attention(attention), ALL)
    for kind in get_args(PoolingKind):
        yield compare_with_itself(f"pooling {kind}, NaN in the padding", _pooling(kind), ALL)
    for context in _CONTEXTS:
        yield compare_with_itself(f"decoder {context}, teacher forcing", _decoder(context, true_probability=1.0), ALL)
        yield compare_with_itself(f"decoder {context}, its own predictions", _decoder(context, true_probability=0.0))
        yield compare_with_itself(f"decoder {context}, steps", _decoder_steps(context))
    for config in _SEARCHES:
        # In float32 near-ties may fall the other way.
        yield compare_with_itself(f"search {config}", _search(config), ("float64",))
    yield compare_with_itself("noise of a seed, drawn twice, NaN in the padding", _noise)


_CONVOLUTIONAL: list[dict[str, Any]] = [
    {"kind": "conv_lstm", "peepholes": True, "norm_groups": 2, "num_layers": 2, "bidirectional": True},
    {"kind": "conv_lstm"},
    {"kind": "conv_gru", "num_layers": 2, "bidirectional": True, "residual": True},
    {"kind": "conv_gru", "norm_groups": 1},
    {"kind": "conv_rnn", "num_layers": 2, "kernel_size": 5},
]
_ATTENTIONS: list[AttentionConfig] = [
    Additive(num_hidden=3),
    Additive(num_hidden=3, coverage=True),
    Dot(),
    General(),
    MultiHead(num_heads=2, num_hidden=SIZE),
]
_CONTEXTS: list[ContextConfig] = [
    FirstStateOnly(),
    FixedContext(),
    AttentionAfter(attention=General()),
    AttentionAfter(attention=MultiHead(num_heads=2, num_hidden=SIZE), input_feeding=False),
    AttentionBefore(attention=Additive(num_hidden=3, coverage=True)),
    AttentionBetween(attention=Dot()),
    AttentionBefore(attention=Additive(num_hidden=3), gated=True),
    TopDown(attention=General()),
]
_SPECIAL = SpecialTokens(bos=1, eos=2, pad=0, forbidden=(3,))
_SEARCHES: list[SearchConfig] = [
    GreedyConfig(max_length=9),
    BeamConfig(beam_size=4, num_best=3, max_length=9, length_penalty=0.6, coverage_penalty=0.2, no_repeat_ngram=2),
    SamplingConfig(seed=5, num_samples=3, max_length=9, top_k=8, top_p=0.9),
]


class _Draws:
    """Numbers that are the same at every place: drawn on the CPU in float64, then moved."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return self.place.put(torch.randn(*shape, dtype=torch.float64, generator=self._generator))

    def leaf(self, *shape: int) -> Tensor:
        return self.normal(*shape).requires_grad_()

    def tokens(self, *shape: int) -> Tensor:
        return self.place.put(torch.randint(VOCABULARY, shape, generator=self._generator))

    def network(self, network: Network, *, scale: float = 0.5) -> Network:
        network.to(self.place.device, self.place.dtype)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(scale * self.normal(*parameter.shape))
        return network


def _parallel_scan(num_steps: int) -> tuple[Callable[[Place], Results], Callable[[], Results]]:
    """Against the recurrence it stands for, one step after the other."""

    def run(place: Place, states: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Results:
        draws = _Draws(place)
        decays = draws.normal(num_steps, 2, 3).sigmoid().requires_grad_()
        leaves = {"decays": decays, "additions": draws.leaf(num_steps, 2, 3), "first": draws.leaf(2, 3)}
        return with_gradients({"states": states(*leaves.values())}, leaves)

    def one_by_one(decays: Tensor, additions: Tensor, state: Tensor) -> Tensor:
        states = []
        for decay, addition in zip(decays, additions, strict=True):
            state = decay * state + addition
            states.append(state)
        return torch.stack(states)

    return (
        lambda place: run(place, lambda decays, additions, first: parallel_scan(decays, additions, first=first)),
        lambda: run(EXACT, one_by_one),
    )


def _fill(inputs: Tensor, lengths: Tensor | None, *, junk: float = torch.nan) -> Tensor:
    if lengths is None:
        return inputs
    valid = torch.arange(inputs.shape[1], device=inputs.device) < lengths.to(inputs.device).unsqueeze(1)
    return inputs.masked_fill(~valid.reshape(*valid.shape, *[1] * (inputs.ndim - 2)), junk)


def _convolutional(lengths: Tensor | None, **settings: Any) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        draws = _Draws(place)
        model = draws.network(
            ConvRecurrent(ConvRecurrentConfig(hidden_channels=4, **settings), input_channels=3), scale=0.2
        )
        inputs = draws.leaf(4, 6, 3, 5, 7)
        given = None if lengths is None else lengths.to(place.device)
        outputs, state = model(_fill(inputs, lengths), given)
        values = {"outputs": outputs, "hidden": state.hidden} | ({} if state.cell is None else {"cell": state.cell})
        return with_gradients(values, {"inputs": inputs, **dict(model.named_parameters())})

    return compute


def _attention(config: AttentionConfig) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        draws = _Draws(place)
        model = draws.network(config.build(query_size=SIZE, memory_size=SIZE))
        query, values = draws.leaf(4, 3, SIZE), draws.leaf(4, 6, SIZE)
        coverage = draws.normal(4, 3, 6).abs().requires_grad_() if config.has_coverage else None
        context, weights = model(query, model.memory(_fill(values, LENGTHS), LENGTHS.to(place.device)), coverage)
        leaves = {"query": query, "values": values, **dict(model.named_parameters())}
        leaves |= {} if coverage is None else {"coverage": coverage}
        return with_gradients({"context": context, "weights": weights}, leaves)

    return compute


def _pooling(kind: PoolingKind) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        draws = _Draws(place)
        model = draws.network(build_pooling(kind, num_features=SIZE, bidirectional=True))
        outputs, lengths = draws.leaf(4, 6, SIZE), LENGTHS.clamp(min=1)
        pooled = model(_fill(outputs, lengths), lengths.to(place.device))
        return with_gradients({"pooled": pooled}, {"outputs": outputs, **dict(model.named_parameters())})

    return compute


def _decoder_and_source(context: ContextConfig, place: Place) -> tuple[TokenDecoder, Source, _Draws]:
    draws = _Draws(place)
    decoder = DecoderConfig(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=SIZE, num_layers=2),
        context=context,
        readout="deep" if isinstance(context, FirstStateOnly) else "attentional",
    )
    config = TokenDecoderConfig(decoder=decoder, embedding_size=SIZE)
    shape = SourceShape(output_size=SIZE, summary_size=SIZE + 1)
    model = TokenDecoder(config, vocabulary_size=VOCABULARY, source=shape)
    draws.network(model, scale=1.0)
    outputs, summary = draws.leaf(4, 6, SIZE), draws.leaf(4, SIZE + 1)
    return model, Source(_fill(outputs, LENGTHS), LENGTHS.to(place.device), summary), draws


def _decoder(context: ContextConfig, *, true_probability: float) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        model, source, draws = _decoder_and_source(context, place)
        tokens, lengths = draws.tokens(4, 5), place.put(torch.tensor([5, 2, 0, 3]))
        output = model(tokens, lengths, model.start(source), true_probability=true_probability)
        values = {"logits": output.logits, "hidden": output.state.recurrent.hidden}
        values |= {} if output.attention is None else {"attention": output.attention}
        return with_gradients(values, {"summary": source.summary, **dict(model.named_parameters())})

    return compute


def _decoder_steps(context: ContextConfig) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        model, source, draws = _decoder_and_source(context, place)
        state, tokens = model.start(source), draws.tokens(4)
        values = {}
        for step in range(3):
            output = model.step(tokens, state)
            state, values[f"logits of step {step}"] = output.state, output.logits
        return with_gradients(values, {"summary": source.summary, **dict(model.named_parameters())})

    return compute


def _search(config: SearchConfig) -> Callable[[Place], Results]:
    def compute(place: Place) -> Results:
        model, source, _ = _decoder_and_source(AttentionAfter(attention=General()), place)
        found = search(
            model.eval(),
            state=model.start(source),
            config=config,
            special=_SPECIAL,
            source_lengths=source.lengths,
            keys=torch.arange(4, device=place.device) if isinstance(config, SamplingConfig) else None,
        )
        return {"tokens": found.tokens, "lengths": found.lengths, "scores": found.scores}

    return compute


def _noise(place: Place) -> Results:
    """Zeros and ones: whether a seed gives the same twice, and whether what stands in the padding changes it."""
    draws = _Draws(place)
    same = []
    noises: list[dict[str, Any]] = [
        {"kind": "lstm", "dropout": 0.5},
        {"kind": "lstm", "layer_norm": True, "zoneout": 0.2, "zoneout_cell": 0.3, "weight_drop": 0.3},
        {"kind": "gru", "dropout": 0.5, "locked_dropout": True, "weight_drop": 0.3},
    ]
    for settings in noises:
        config = RecurrentConfig(**{"hidden_size": 8, "num_layers": 2, "bidirectional": True, **settings})
        model, inputs = draws.network(Recurrent(config, input_size=3)).train(), draws.normal(4, 6, 3)
        runs = []
        for seed, junk in ((1, 0.0), (1, torch.nan), (2, 0.0)):
            torch.manual_seed(seed)
            outputs, _ = model(_fill(inputs, LENGTHS, junk=junk), LENGTHS.to(place.device))
            gradients = torch.autograd.grad(outputs.square().sum(), list(model.parameters()))
            assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients), "a gradient is not finite"
            runs.append(outputs)
        same += [torch.equal(runs[0], runs[1]), not torch.equal(runs[0], runs[2])]
    return {"as it should be": torch.tensor(same)}
