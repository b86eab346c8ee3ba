"""Several checkpoints that translate together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.translation.ensemble import TranslationEnsemble
from apps.translation.module import TranslationModule
from apps.translation.network import SPECIAL, RecurrentTranslationNetwork
from apps.translation.predict import predict
from core.nn.search import BeamConfig
from data.text import EOS
from tests.apps.translation.conftest import MakeModule

pytestmark = pytest.mark.usefixtures("as_shipped")

BEAM = BeamConfig(beam_size=3, max_length=6, num_best=3, length_penalty=0.0)
SOURCE, LENGTHS = torch.tensor([[5, 6, 7, EOS], [8, EOS, 0, 0]]), torch.tensor([4, 2])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> str:
    return str(shutil.copy(checkpoint, tmp_path / "copy.ckpt"))


def test_a_network_and_its_copy_say_what_it_says_alone(
    checkpoint: Path, copied: str, source: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone.jsonl", tmp_path / "together.jsonl"
    options: dict[str, Any] = {"num_best": 2, "beam_size": 3, "progress": False}
    predict(str(checkpoint), str(source), str(alone), **options)
    predict(str(checkpoint), str(source), str(together), ensemble=copied, **options)
    for one, other in zip(lines_of(alone), lines_of(together), strict=True):
        assert [each["text"] for each in one["hypotheses"]] == [each["text"] for each in other["hypotheses"]]
        assert [each["alignment"] for each in one["hypotheses"]] == [each["alignment"] for each in other["hypotheses"]]
        scores = [each["score"] for each in one["hypotheses"]]
        assert [each["score"] for each in other["hypotheses"]] == pytest.approx(scores, rel=1e-5)


@pytest.fixture
def modules(make_module: MakeModule) -> list[TranslationModule]:
    """With attention and without it, and with other weights."""
    modules = [make_module("after"), make_module("fixed")]
    with torch.no_grad():
        for parameter in modules[1].parameters():
            parameter.mul_(-0.7)
    return modules


def log_probability(modules: list[TranslationModule], example: int, tokens: list[int]) -> float:
    """Of a translation, each token with the mean of what every network gives it by teacher forcing."""
    length = LENGTHS[example : example + 1]
    chances = []
    for module in modules:
        assert isinstance(module.network, RecurrentTranslationNetwork)
        inputs = torch.tensor([[SPECIAL.bos, *tokens[:-1]]])
        output = module.network(
            SOURCE[example : example + 1, : int(length)], length, inputs, torch.tensor([len(tokens)])
        )
        chances.append(output.logits.detach().log_softmax(-1)[0, range(len(tokens)), tokens].exp())
    return float(torch.stack(chances).mean(0).log().sum())


def test_each_next_piece_has_the_mean_of_the_members_probabilities(modules: list[TranslationModule]) -> None:
    """Of what search found, and of what is given; the order of members does not matter."""
    ensemble = TranslationEnsemble.of(modules, names=["a", "b"])
    found = ensemble.translate(SOURCE, LENGTHS, config=BEAM)
    again = TranslationEnsemble.of(modules[::-1], names=["b", "a"]).translate(SOURCE, LENGTHS, config=BEAM)
    torch.testing.assert_close(found.scores, again.scores)
    for example in range(2):
        for rank in range(3):
            tokens = found.tokens[example, rank, : found.lengths[example, rank]].tolist()
            expected = log_probability(modules, example, tokens)
            assert float(found.log_probabilities[example, rank]) == pytest.approx(expected, rel=1e-9)
    given = [[5, 7, 9], [6]]
    scored = ensemble.score(SOURCE, LENGTHS, given, config=BEAM).log_probabilities.flatten().tolist()
    assert scored == pytest.approx([log_probability(modules, row, [*given[row], EOS]) for row in range(2)], rel=1e-9)
    assert not ensemble.has_attention
    assert found.attention is None


def test_what_cannot_translate_together_is_refused(
    checkpoint: Path, checkpoint_without_attention: Path, bag_of_words: Path, copied: str, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt"

    def refused(message: str, *others: object, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            predict(str(checkpoint), str(source), str(output), ensemble=[str(one) for one in others], **options)
        assert not output.exists()

    refused("is given twice", copied, checkpoint)
    copied_bag = shutil.copy(bag_of_words, tmp_path / "bag.ckpt")
    with pytest.raises(ValueError, match="searches nothing"):
        predict(str(bag_of_words), str(source), str(output), ensemble=str(copied_bag))
    refused("nothing.ckpt", "nothing.ckpt")
    refused("a member of the ensemble has none", checkpoint_without_attention, alignments=str(tmp_path / "pairs.txt"))
    other = torch.load(copied, weights_only=False)
    other["unroll"]["preprocessing"]["source_text"]["fingerprint"] = "another"
    torch.save(other, tmp_path / "other.ckpt")
    refused("differ in the vocabulary of the source,", tmp_path / "other.ckpt")
    back = torch.load(copied, weights_only=False)
    back["unroll"]["preprocessing"]["languages"] = {"source": "es", "target": "en"}
    torch.save(back, tmp_path / "back.ckpt")
    refused("differ in their languages,", tmp_path / "back.ckpt")
