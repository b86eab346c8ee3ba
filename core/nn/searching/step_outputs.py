"""Checks of what a decoder gives, common to all searches."""

from typing import Any

from torch import Tensor

from core.nn.step_decoder import StepOutput


def check_output(output: StepOutput[Any], *, num_rows: int, like: Tensor | None) -> None:
    """Refuse logits or attention whose shape does not fit.

    Args:
        output: of one step.
        num_rows: hypotheses that were stepped.
        like: attention of an earlier step (..., source), None where there was none or it is the first step.

    Raises:
        ValueError: saying what was expected and what was got.
    """
    logits, attention = output.logits, output.attention
    if logits.ndim != 2 or logits.shape[0] != num_rows:
        raise ValueError(
            f"the decoder must give logits of shape (rows, vocabulary) for {num_rows} rows, got {tuple(logits.shape)}."
        )
    if attention is not None and (attention.ndim != 2 or attention.shape[0] != num_rows):
        raise ValueError(
            f"the decoder must give attention of shape (rows, source) for {num_rows} rows, got {tuple(attention.shape)}."
        )
    if like is not None and (attention is None or attention.shape[-1] != like.shape[-1]):
        raise ValueError(
            f"the decoder must attend over the same {like.shape[-1]} source steps throughout, got "
            f"{'no attention' if attention is None else attention.shape[-1]}: dropping examples must not shorten the rest."
        )


def raise_broken(broken: list[bool], *, examples: Tensor, step: int) -> None:
    """Refuse NaN.

    Args:
        broken: whether the decoder gave NaN, for each example still searched.
        examples: their places in the batch.
        step: number of tokens read before.

    Raises:
        ValueError: if any is broken.
    """
    if any(broken):
        raise ValueError(
            f"the decoder's logits hold NaN or +inf, or are all -inf, after {step} tokens, for the examples "
            f"{_named(broken, examples)} of the batch: look for NaN in their inputs and in the weights."
        )


def raise_stuck(stuck: list[bool], *, examples: Tensor) -> None:
    """Refuse to return nothing.

    Args:
        stuck: whether an example was left without any permitted token, for each of `examples`.
        examples: their places in the batch.

    Raises:
        ValueError: if any is stuck.
    """
    if any(stuck):
        raise ValueError(
            f"the examples {_named(stuck, examples)} of the batch have no hypothesis: at some step every token had "
            "probability 0 or was ruled out. Check no_repeat_ngram together with min_length, forbidden tokens, and "
            "forced prefixes that the decoder itself rules out."
        )


def _named(flags: list[bool], examples: Tensor) -> str:
    places = [str(example) for example, flag in zip(examples.tolist(), flags, strict=True) if flag]
    return ", ".join(places[:10]) + (" ..." if len(places) > 10 else "")
