"""Several networks that translate as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from jaxtyping import Int
from torch import Tensor

from apps.translation.module import TranslationModule
from apps.translation.network import SPECIAL, SPECIAL_WITH_UNKNOWN, RecurrentTranslationNetwork
from core.nn.decoders.tokens import check_tokens
from core.nn.search import BeamConfig, Hypotheses, score, search
from core.nn.searching.ensemble import Ensemble, EnsembleState


class TranslationEnsemble:
    """Searches by the mean of the probabilities that its members give each next token.

    The members share their vocabularies. Source: Sutskever et al., NeurIPS 2014, section 3.6.
    """

    def __init__(self, members: Sequence[RecurrentTranslationNetwork]) -> None:
        self.members = tuple(members)
        self._decoder = Ensemble([member.decoder for member in self.members])

    @classmethod
    def of(cls, modules: Sequence[TranslationModule], *, names: Sequence[str]) -> Self:
        """The networks of modules that share their vocabularies, as one.

        Raises:
            ValueError: naming the module whose network searches nothing.
        """
        members = [module.network for module in modules if isinstance(module.network, RecurrentTranslationNetwork)]
        for name, module in zip(names, modules, strict=True):
            if module.network not in members:
                raise ValueError(
                    f"--ensemble: the network in {name} searches nothing, each of its words stands for itself. Leave it out."
                )
        return cls(members)

    @property
    def has_attention(self) -> bool:
        """Whether all members look at their source: the weights are then the mean of theirs."""
        return all(member.has_attention for member in self.members)

    @property
    def has_search(self) -> bool:
        """A word depends on those before it."""
        return True

    def translate(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        *,
        config: BeamConfig,
        allow_unknown: bool = False,
    ) -> Hypotheses:
        """See `TranslationNetwork.translate`."""
        return search(
            self._decoder,
            state=self._start(source, lengths),
            config=config,
            special=SPECIAL_WITH_UNKNOWN if allow_unknown else SPECIAL,
            source_lengths=lengths,
        )

    def score(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        given: Sequence[Sequence[int]],
        *,
        config: BeamConfig,
    ) -> Hypotheses:
        """See `TranslationNetwork.score`."""
        return score(
            self._decoder,
            state=self._start(source, lengths),
            given=given,
            config=config,
            special=SPECIAL,
            source_lengths=lengths,
        )

    def _start(self, source: Tensor, lengths: Tensor) -> EnsembleState:
        source = check_tokens(source, lengths, vocabulary=self.members[0].embedding_of("source"))
        return self._decoder.join([member.start(source, lengths) for member in self.members])
