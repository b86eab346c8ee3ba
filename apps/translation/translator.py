"""A trained network over a stream of raw lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from apps.translation.ensemble import TranslationEnsemble
from apps.translation.generation import Translation, as_sources, read_hypotheses
from apps.translation.module import TranslationModule
from core.nn.search import BeamConfig
from core.training.process.allocator import give_back_freed_memory
from data.batching import BatchPlan
from data.text import TokenArrays

# Enough that batches of like length can be made, few enough that nothing of them is felt in memory.
LINES_AT_ONCE = 4096


class Translator:
    """Translates a stream of lines some thousand at a time, in batches of like length, and gives them back in order.

    Args:
        module: a trained module, in evaluation mode.
        config: the search.
        replace_unknown: see `read_hypotheses`.
        align: see `read_hypotheses`.
        max_source_length: pieces of a sentence that are read.
        token_budget: padded source pieces a batch.
        lines_at_once: lines that are read before they are translated.
        ensemble: what translates in the place of the module's network.
    """

    def __init__(
        self,
        module: TranslationModule,
        *,
        config: BeamConfig,
        replace_unknown: bool = False,
        align: bool = True,
        max_source_length: int = 1000,
        token_budget: int = 4096,
        lines_at_once: int = LINES_AT_ONCE,
        ensemble: TranslationEnsemble | None = None,
    ) -> None:
        self.module = module
        self.ensemble = ensemble
        self.config = config
        self.replace_unknown = replace_unknown
        self.align = align
        self.lines_at_once = lines_at_once
        self.max_source_length = max_source_length
        # A sentence alone must fit, with its end.
        self.token_budget = max(token_budget, max_source_length + 1)
        self.cut: list[int] = []
        """Lines that were longer than `max_source_length`, counted from 1."""
        self.unfinished: list[int] = []
        """Lines whose best translation was cut at the most pieces that one may have, counted from 1."""

    def translate(self, lines: Iterable[str]) -> Iterator[tuple[str, list[Translation]]]:
        """Each line with its translations, best first; none for a line of white space."""
        lines = iter(lines)
        start = 1
        while some := list(islice(lines, self.lines_at_once)):
            yield from zip(some, self._found(some, start=start), strict=True)
            start += len(some)

    def score(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[Translation]]]:
        """Each first line with the second as its translation, scored and aligned; none for a line of white space."""
        pairs = iter(pairs)
        start = 1
        while some := list(islice(pairs, self.lines_at_once)):
            lines, given = [source for source, _ in some], [target for _, target in some]
            yield from zip(lines, self._found(lines, start=start, given=given), strict=True)
            start += len(some)

    @torch.no_grad()
    def _found(self, lines: list[str], *, start: int, given: list[str] | None = None) -> list[list[Translation]]:
        source_text, target_text = self.module.texts
        network = self.ensemble or self.module.network
        assert network is not None
        found: list[list[Translation]] = [[] for _ in lines]
        encoded = source_text.encode_flat(lines)
        rows = np.flatnonzero(encoded.lengths)
        if not len(rows):
            return found
        self.cut += (start + np.flatnonzero(encoded.lengths > self.max_source_length)).tolist()
        sentences = _cut(encoded.take(rows), self.max_source_length)
        plan = BatchPlan(
            len(rows), token_budget=self.token_budget, lengths=sentences.lengths + 1, shuffle=False, seed=0
        )
        device = next(self.module.parameters()).device
        targets = None if given is None else target_text.encode(given)
        for batch in plan.batches(0):
            some = sentences.take(batch)
            source, lengths = as_sources(some)
            source, lengths = source.to(device), lengths.to(device)
            chosen = rows[batch].tolist()
            if targets is None:
                hypotheses = network.translate(source, lengths, config=self.config, allow_unknown=self.replace_unknown)
            else:
                hypotheses = network.score(
                    source, lengths, [targets[row].tolist() for row in chosen], config=self.config
                )
            translations = read_hypotheses(
                hypotheses,
                sources=[lines[row] for row in chosen],
                num_pieces=some.lengths.tolist(),
                source_text=source_text,
                target_text=target_text,
                replace_unknown=self.replace_unknown,
                align=self.align,
            )
            for row, best in zip(chosen, translations, strict=True):
                found[row] = best
        self.unfinished += [start + row for row, best in enumerate(found) if best and not best[0].is_finished]
        # Batches of all shapes leave holes: without this a long document takes more and more.
        give_back_freed_memory()
        return found

    def messages(self) -> list[str]:
        """What the user should know of the input."""
        messages = []
        if self.cut:
            messages.append(
                f"Longer than max_source_length={self.max_source_length} pieces and cut there: {_listed(self.cut)}. Split "
                "them into sentences, or raise --max_source_length."
            )
        if self.unfinished:
            longest = f"max_length={self.config.max_length} pieces"
            if self.config.max_length_ratio is not None:
                longest += (
                    f" or {self.config.max_length_ratio:g} times the pieces of the source and "
                    f"{self.config.max_length_offset}"
                )
            messages.append(
                f"Translations that had not ended after {longest}, and stop there: {_listed(self.unfinished)}. Split the "
                "lines into sentences, or raise --max_length where that is the reason."
            )
        return messages


def _listed(lines: list[int]) -> str:
    some = ", ".join(map(str, lines[:5])) + (" ..." if len(lines) > 5 else "")
    return f"{len(lines)} of the lines ({some})"


def _cut(sentences: TokenArrays, longest: int) -> TokenArrays:
    if not (sentences.lengths > longest).any():
        return sentences
    return TokenArrays.of(sentences[row][:longest].tolist() for row in range(len(sentences)))
