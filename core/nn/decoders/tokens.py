"""Tokens as networks take them: numbers of words in a vocabulary, and the vectors that stand for them."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from core.nn.lengths import check_lengths, valid_steps
from core.nn.recurrence.ragged import may_look_at


def new_embedding(vocabulary_size: int, *, embedding_size: int) -> nn.Embedding:
    """A table of vectors of length about 1, so that as a table of scores (tied) it begins with logits near 1.

    Raises:
        ValueError: if a size is less than 1.
    """
    if vocabulary_size < 1 or embedding_size < 1:
        raise ValueError(
            f"vocabulary_size and embedding_size must be at least 1, got {vocabulary_size} and {embedding_size}."
        )
    embedding = nn.Embedding(vocabulary_size, embedding_size)
    nn.init.normal_(embedding.weight, std=embedding_size**-0.5)
    return embedding


def check_tokens(
    tokens: Int[Tensor, "rows time"], lengths: Int[Tensor, "rows"] | None, *, vocabulary: nn.Embedding
) -> Int[Tensor, "rows time"]:
    """The tokens, with 0 in the padding, where anything may stand.

    Raises:
        ValueError: if shape, dtype or device do not fit, or, on CPU, a token is not in the vocabulary.
    """
    if tokens.dtype != torch.int64 or tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(
            f"tokens must be int64 of shape (rows, time >= 1), got {tokens.dtype} of shape {tuple(tokens.shape)}."
        )
    if tokens.device != vocabulary.weight.device:
        raise ValueError(f"tokens must be on {vocabulary.weight.device}, as the weights are, got {tokens.device}.")
    if lengths is not None:
        check_lengths(lengths, of=tokens)
        tokens = tokens.masked_fill(~valid_steps(lengths, tokens.shape[1]), 0)
    # On a GPU the embedding itself refuses it; reading values here would stall.
    if may_look_at(tokens) and tokens.numel():
        low, high = (int(bound) for bound in torch.aminmax(tokens))
        if low < 0 or high >= vocabulary.num_embeddings:
            raise ValueError(
                f"tokens must be 0 to {vocabulary.num_embeddings - 1} (vocabulary_size={vocabulary.num_embeddings}), "
                f"got {low if low < 0 else high}. Encode the text with the vocabulary that the network was built for."
            )
    return tokens
