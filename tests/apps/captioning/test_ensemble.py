"""Several checkpoints that describe images together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.captioning.ensemble import CaptioningEnsemble
from apps.captioning.module import CaptioningModule
from apps.captioning.network import SPECIAL, RecurrentCaptioningNetwork
from apps.captioning.predict import predict
from core.nn.search import BeamConfig
from tests.contracts.applications.captioning import CAPTIONING, write_corpus
from tests.contracts.trained import trained


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def top_down(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another decoder and another encoder, for the same words."""
    return trained(CAPTIONING, tmp_path_factory.mktemp("top_down"), variant="top_down")


def test_a_network_and_its_copy_say_what_it_says_alone(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    images, copied = write_corpus(folder) / "images", shutil.copy(checkpoint, tmp_path / "copy.ckpt")
    options: dict[str, Any] = {"num_best": 2, "beam_size": 3, "progress": False}
    predict(str(checkpoint), str(images), str(tmp_path / "alone.jsonl"), **options)
    maps = {"attention_maps": str(tmp_path / "maps"), "num_attention_maps": 1}
    predict(str(checkpoint), str(images), str(tmp_path / "both.jsonl"), ensemble=[str(copied)], **options, **maps)
    for one, other in zip(lines_of(tmp_path / "alone.jsonl"), lines_of(tmp_path / "both.jsonl"), strict=True):
        assert one["caption"] == other["caption"]
        assert other["log_probability"] == pytest.approx(one["log_probability"], rel=1e-4)
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_each_next_word_has_the_mean_of_the_members_probabilities(
    checkpoint: Path, top_down: Path, folder: Path
) -> None:
    modules = [CaptioningModule.from_checkpoint(path).double() for path in (checkpoint, top_down)]
    ensemble = CaptioningEnsemble.of(modules, names=["a", "b"])
    height, width = modules[0].preprocessing["image_size"]
    images = torch.randint(256, (3, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    search = BeamConfig(beam_size=3, max_length=5, length_penalty=0.0)
    found = ensemble.caption(ensemble.encode(images), config=search)
    for row in range(3):
        tokens = found.tokens[row, 0, : found.lengths[row, 0]].tolist()
        captions = torch.tensor([[SPECIAL.bos, *tokens[:-1]]])
        chances = []
        for module in modules:
            assert isinstance(module.network, RecurrentCaptioningNetwork)
            scores = module.network(module.network.encode(images[row : row + 1]), captions)
            chances.append(scores.log_softmax(-1)[0, range(len(tokens)), tokens].exp())
        expected = (sum(chances) / 2).log().sum()
        assert float(found.log_probabilities[row, 0]) == pytest.approx(float(expected.detach()), rel=1e-6)
    given = [tokens[0] for tokens in found.token_lists()]
    scored = ensemble.score(ensemble.encode(images), given, config=search)
    assert scored.log_probabilities[found.finished[:, 0]].flatten().tolist() == pytest.approx(
        found.log_probabilities[found.finished].tolist(), rel=1e-6
    )


def test_what_cannot_describe_together_is_refused(
    checkpoint: Path, pooled_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    images, output = write_corpus(folder) / "images", tmp_path / "out.jsonl"
    smaller = torch.load(checkpoint, weights_only=False)
    smaller["unroll"]["preprocessing"]["transform"]["size"] = 8
    torch.save(smaller, tmp_path / "smaller.ckpt")
    for other, message in (
        (checkpoint, "is given twice"),
        (pooled_checkpoint, "searches nothing"),
        (tmp_path / "smaller.ckpt", "differ in the size of images"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(str(checkpoint), str(images), str(output), ensemble=str(other))
        assert not output.exists()
