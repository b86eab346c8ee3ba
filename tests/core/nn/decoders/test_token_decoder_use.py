"""Token decoders in their surroundings: beam search, export, precision, settings, bad input."""

from typing import Any

import pytest
import torch
from torch import Tensor

from core.nn.decoders.bridge import Source
from core.nn.decoders.decoder_config import ContextConfig
from core.nn.search import BeamConfig, SpecialTokens, search
from tests.core.nn.decoders.token_decoder_cases import CONTEXTS, VOCABULARY, contexts, gradients, make


@contexts
def test_the_hypotheses_of_a_beam_have_the_scores_of_teacher_forcing(context: ContextConfig) -> None:
    """Reordered, repeated and dropped hypotheses over one source each: their log-probabilities are those of the whole."""
    model, source = make(context)
    special = SpecialTokens(bos=1, eos=2, pad=0)
    config = BeamConfig(max_length=6, beam_size=3, num_best=3)
    found = search(
        model, state=model.start(source), config=config, special=special, source_lengths=source.lengths.clamp(min=1)
    )
    tokens, lengths = found.tokens.flatten(0, 1), found.lengths.flatten()
    assert (lengths > 0).all()
    inputs = torch.cat([torch.ones(9, 1, dtype=torch.int64), tokens[:, :-1]], dim=1)
    state = model.start(source).select(torch.arange(3).repeat_interleave(3))
    output = model(inputs, lengths, state)
    chosen = output.logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    total = chosen.masked_fill(torch.arange(tokens.shape[1]) >= lengths.unsqueeze(1), 0.0).sum(1)
    torch.testing.assert_close(found.log_probabilities.flatten(), total, rtol=1e-10, atol=1e-10)
    if output.attention is not None:
        torch.testing.assert_close(found.attention.flatten(0, 1), output.attention, rtol=1e-10, atol=1e-10)


@contexts
@pytest.mark.usefixtures("as_shipped")
def test_one_exported_step_runs_on_other_batches(context: ContextConfig) -> None:
    model, source = make(context)
    state = model.eval().start(source)
    batch = torch.export.Dim("batch", min=1, max=64)

    def shape_of(path: Any, leaf: Tensor | None) -> dict[int, Any] | None:
        if leaf is None:
            return None
        return {1 if "recurrent" in torch.utils._pytree.keystr(path) else 0: batch}

    shapes = torch.utils._pytree.tree_map_with_path(shape_of, state)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
            output = self.model.step(tokens, state)
            return output.logits, output.state

    step = Step().eval()
    program = torch.export.export(
        step, (torch.tensor([1, 2, 3]), state), dynamic_shapes={"tokens": {0: batch}, "state": shapes}
    )
    more = Source(
        torch.randn(5, 6, 4, dtype=torch.float64),
        torch.tensor([6, 1, 0, 3, 6]),
        torch.randn(5, 5, dtype=torch.float64),
    )
    tokens = torch.tensor([4, 3, 2, 1, 0])
    got = program.module()(tokens, model.start(more))
    torch.testing.assert_close(got, step(tokens, model.start(more)), rtol=1e-12, atol=1e-12)


@contexts
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_bfloat16_by_autocast_is_near_float32(context: ContextConfig, probability: float) -> None:
    model, source = make(context)
    model = model.float()
    source = Source(source.outputs.float(), source.lengths, source.summary.float())
    tokens, lengths = torch.randint(VOCABULARY, (3, 4)), torch.tensor([4, 0, 2])
    expected = model(tokens, lengths, model.start(source))
    exact = gradients(expected.logits.sum(), model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(tokens, lengths, model.start(source), true_probability=probability)
    assert not half.logits[2, 2:].any()
    got = gradients(half.logits.float().sum(), model)
    assert all(gradient.dtype == torch.float32 and torch.isfinite(gradient).all() for gradient in got)
    if probability == 1.0:
        torch.testing.assert_close(half.logits.float(), expected.logits, rtol=0.1, atol=0.3)
        for one, other in zip(got, exact, strict=True):
            assert (one - other).norm() <= 0.2 * other.norm() + 0.1


@pytest.mark.usefixtures("as_shipped")
def test_input_that_does_not_fit_is_refused() -> None:
    model, source = make(CONTEXTS[2])
    other, _ = make(CONTEXTS[0])
    state = model.start(source)
    tokens = torch.zeros(3, 4, dtype=torch.int64)
    lengths = torch.tensor([4, 1, 2])
    for wrong, message in (
        ({"tokens": tokens + VOCABULARY}, r"tokens must be 0 to 6 \(vocabulary_size=7\), got 7"),
        ({"tokens": tokens - 1}, "got -1"),
        ({"tokens": tokens.float()}, "tokens must be int64"),
        ({"tokens": tokens[:, :0]}, r"got torch.int64 of shape \(3, 0\)"),
        ({"tokens": tokens.to("meta")}, "tokens must be on cpu"),
        ({"lengths": lengths[:2]}, "one entry per example"),
        ({"state": other.start(source)}, "state.memory must be there"),
        ({"state": state.select(torch.tensor([0, 1]))}, "the state is one of 2 rows, got inputs of 3"),
        ({"true_probability": 1.5}, r"in \[0, 1\], got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{"tokens": tokens, "lengths": lengths, "state": state, **wrong})
    with pytest.raises(ValueError, match="the state is one of 3 rows, got inputs of 2"):
        model(tokens[:2], None, state, true_probability=0.0)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        model.generate(tokens[:, 0], state, num_steps=0)
    for call, name in ((model.step, "tokens"), (lambda *of: model.generate(*of, num_steps=2), "first")):
        for wrong in (tokens, tokens[0, 0]):
            with pytest.raises(ValueError, match=rf"{name} must have shape \(rows,\), one token a row, got"):
                call(wrong, state)
    with pytest.raises(ValueError, match=r"source.outputs must have shape \(examples, source, 4\)"):
        model.start(Source(source.outputs[..., :3], source.lengths, source.summary))
    with pytest.raises(ValueError, match=r"source.summary must have shape \(3, 5\), got \(2, 5\)"):
        model.start(Source(source.outputs, source.lengths, source.summary[:2]))


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embedding_size": 0}, "embedding_size must be at least 1"),
        ({"embedding_dropout": 1.0}, r"embedding_dropout must be in \[0, 1\)"),
        ({"embedding_size": 5, "tie_embeddings": True}, "as wide as an embedding, got 4 and embedding_size=5"),
        ({"feedback": "beam"}, "argmax, sample, got 'beam'"),
    ],
)
def test_settings_that_are_wrong_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(CONTEXTS[2], **changed)


@pytest.mark.usefixtures("as_shipped")
@contexts
@pytest.mark.parametrize("true_probability", [1.0, 0.0])
def test_a_state_that_does_not_fit_is_refused_part_by_part(context: ContextConfig, true_probability: float) -> None:
    """Of another source, in another precision, on another device: each part is named, before anything is computed."""
    model, source = make(context)
    tokens, state = torch.zeros(3, 4, dtype=torch.int64), model.start(source)
    for name in ("fed", "coverage", "context"):
        part = getattr(state, name)
        if part is None:
            continue
        for wrong, message in (
            (part.float(), r"torch\.float64 on cpu, as the weights are, got torch\.float32 on cpu"),
            (part.to("meta"), "got torch.float64 on meta"),
            (part[:, :-1], r"shape \(3, \d\), got \(3, \d\)"),
        ):
            with pytest.raises(ValueError, match=rf"state\.{name} .*{message}"):
                model(tokens, None, state._replace(**{name: wrong}), true_probability=true_probability)
    if state.memory is None:
        return
    for wrong, message in (
        (state.memory.keys.float(), r"state\.memory\.keys must be torch\.float64 on cpu, as the weights are"),
        (state.memory.keys.to("meta"), r"state\.memory\.keys .* got torch\.float64 on meta"),
        (state.memory.keys[..., :-1], r"state\.memory\.keys must have shape .* another attention"),
    ):
        changed = state._replace(memory=state.memory._replace(keys=wrong))
        with pytest.raises(ValueError, match=message):
            model(tokens, None, changed, true_probability=true_probability)
