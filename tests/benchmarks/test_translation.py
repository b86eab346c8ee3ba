"""The translation benchmark at a tiny size, without JoeyNMT: what is timed, that both sides get the same, what is refused."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apps.translation.network import RecurrentTranslationNetwork, TextShape
from benchmarks import joeynmt, translation
from benchmarks.harness import Result
from benchmarks.joeynmt_weights import as_joeynmt
from benchmarks.time_to_bleu import measure_time_to_bleu
from benchmarks.translation_process import network_of, tie
from benchmarks.translation_rows import (
    MeasurementError,
    Sides,
    Sizes,
    check_loss,
    decoding_rows,
    row,
    training_rows,
    write_rows,
)
from benchmarks.translation_task import VOCABULARY_FILE, Task, data_of, write_cut_text
from benchmarks.worker import Answer, Worker, WorkerError
from data.batching import Piece

GERMAN = ["ein", "Mann", "Hund", "sieht", "läuft", "das", "rote", "Haus"]
ENGLISH = ["a", "man", "dog", "sees", "runs", "the", "red", "house"]


def write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, number in (("train", 60), ("val", 9), ("test_2016_flickr", 20)):
        rows = [generator.integers(0, len(GERMAN), generator.integers(1, 9)) for _ in range(number)]
        for code, words in (("de", GERMAN), ("en", ENGLISH)):
            lines = (" ".join(words[index] for index in indices) for indices in rows)
            (folder / f"{part}.{code}").write_text("".join(f"{line}.\n" for line in lines), encoding="utf-8")


def prepared(folder: Path) -> Task:
    write_corpus(folder / "data" / "multi30k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLL_DATA", str(folder / "data"))
        task = replace(translation.prepare(folder, num_threads=1, small=True), max_epochs=6)
    task.write()
    return task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return prepared(tmp_path)


@pytest.fixture
def running(task: Task) -> Iterator[Sides]:
    """Ours, and ours once more in the place of the rival."""
    workers = [
        Worker(
            name, command=joeynmt.our_command(Path(task.folder)), log=Path(task.folder, f"{name}.log"), num_threads=1
        )
        for name in ("ours", "second")
    ]
    yield Sides(*workers, "ours again")
    for worker in workers:
        worker.close()


@pytest.fixture
def half(task: Task) -> Iterator[Worker]:
    """Ours in mixed precision."""
    command = joeynmt.our_command(Path(task.folder), precision="bf16-mixed")
    worker = Worker("half", command=command, log=Path(task.folder, "half.log"), num_threads=1)
    yield worker
    worker.close()


@pytest.mark.processes
def test_the_rows_of_a_whole_measurement(
    task: Task, running: Sides, half: Worker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours against itself: every row is there, and both end where there is no more to train."""
    sizes = Sizes(
        block=2, pairs=3, warm_up=1, steps_before_decoding=2, sentences=20, decoding_pairs=3, scores_an_epoch=1
    )
    data = data_of(task)
    data.prepare_data()
    running.check()

    rows = {one.case: one for one in training_rows(running, unbucketed=running.rival, half=half, sizes=sizes)}
    names = [case.removeprefix("translation.") for case in rows]
    assert names == ["train", "train.unbucketed", "train.padded", "padding_waste", "train.bf16"]
    assert rows["translation.train.bf16"].ours > 0
    assert rows["translation.train.padded"].ours > rows["translation.train"].ours > 0
    assert rows["translation.padding_waste"].ours == pytest.approx(100 * data.plan("train").padding_waste())

    capsys.readouterr()
    decoding = decoding_rows(running, half=half, task=task, data=data, sizes=sizes)
    names = [one.case.removeprefix("translation.") for one in decoding]
    assert names == ["greedy", "greedy.bf16", "beam", "beam.bf16"]
    assert ["float32" in one.rival_name for one in decoding] == [False, True, False, True]
    assert all(one.goal == 4.0 and one.ours > 0 for one in decoding)
    # The second has trained for longer, and has the weights of the first one now.
    assert capsys.readouterr().err.count("ours: 20 of 20 translations are the same") == 2

    found = measure_time_to_bleu(
        running.rival, {"": running.ours, ".bf16": half}, rival_name="ours again", task=task, data=data, sizes=sizes
    )
    for one in found.rows:
        assert (one.case[:24], one.unit, one.goal) == ("translation.time_to_bleu", "min", 3.0)
        assert one.ratio == pytest.approx(one.rival / one.ours)
    assert len(found.rows) + len(found.missed) == 2
    assert running.ours.ask("train", steps=5)["steps"] == 0  # what is asked for after the end is still answered
    with pytest.raises(WorkerError, match=r"(?s)ours ended with status 1 when asked to dance\. Its log ends:.*'dance'"):
        running.ours.ask("dance")
    running.rival.close()
    assert running.rival.process.returncode == 0


def test_bfloat16_is_left_out_where_the_cpu_has_none() -> None:
    worker = mock.Mock(spec=Worker)
    counts = dict.fromkeys(("target_tokens", "padded_target_tokens", "tokens", "padded_tokens"), 9)
    worker.ask.return_value = {**counts, "tokens": 6, "seconds": 2.0, "cpu_seconds": 1.0, "padding_waste": 0.05}
    rows = training_rows(Sides(worker, worker, "itself"), unbucketed=worker, half=None, sizes=Sizes(pairs=3))
    assert [one.case for one in rows][-1] == "translation.padding_waste"
    assert all(one.ratio == 1.0 for one in rows[:3])


def test_without_buckets_batches_are_drawn_at_random(task: Task) -> None:
    """As many batches of as many pairs, but sentences of any length meet."""
    plans = []
    for bucketed in (True, False):
        data = data_of(task, bucketed=bucketed)
        data.prepare_data()
        lengths = data.dataset("train").lengths
        batches = data.plan("train").batches(0)
        assert sorted(np.concatenate(batches).tolist()) == list(range(60))
        plans.append(
            (sorted(map(len, batches)), sum(len(batch) * lengths[batch].max(axis=0).sum() for batch in batches))
        )
    assert plans[0][0] == plans[1][0]
    assert plans[0][1] < 0.9 * plans[1][1]


def tied_network(task: Task, size: int) -> tuple[RecurrentTranslationNetwork, int]:
    torch.manual_seed(0)
    network = network_of(task).build(TextShape(size, size, True, 100)).double()
    assert isinstance(network, RecurrentTranslationNetwork)
    return network, tie(network)


def joeynmt_loss(weights: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
    """JoeyNMT's recurrent model in formulas, from its own names: sentences one by one, no padding anywhere."""
    total = torch.zeros((), dtype=torch.float64)
    encoder_size = weights["encoder.rnn.weight_hh_l0"].shape[1]
    encoder = nn.LSTM(
        weights["src_embed.lut.weight"].shape[1], encoder_size, bidirectional=True, batch_first=True
    ).double()
    encoder.load_state_dict(
        {name.removeprefix("encoder.rnn."): w for name, w in weights.items() if "encoder.rnn" in name}
    )
    gates = [weights[f"decoder.rnn.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    number = torch.tensor([1, 2, 3, 0])  # its numbers of our padding, begin, end and unknown

    def renumbered(tokens: torch.Tensor) -> torch.Tensor:
        return torch.where(tokens < 4, number[tokens.clamp(max=3)], tokens)

    for source, num_source, target, labels, num_target in zip(
        batch.source, batch.source_lengths, batch.target, batch.labels, batch.target_lengths, strict=True
    ):
        values, (last, _) = encoder(F.embedding(renumbered(source[None, :num_source]), weights["src_embed.lut.weight"]))
        bridge = weights["decoder.bridge_layer.weight"] @ torch.cat([last[0, 0], last[1, 0]])
        first = torch.tanh(bridge + weights["decoder.bridge_layer.bias"])[None]
        state, attentional = (first, first), torch.zeros_like(first)
        keys = values[0] @ weights["decoder.attention.key_layer.weight"].T
        for token, label in zip(renumbered(target[:num_target]), renumbered(labels[:num_target]), strict=True):
            inputs = torch.cat([weights["trg_embed.lut.weight"][token][None], attentional], dim=1)
            state = torch.lstm_cell(inputs, state, *gates)
            context = (state[0] @ keys.T).softmax(-1) @ values[0]
            joined = torch.cat([state[0], context], dim=1) @ weights["decoder.att_vector_layer.weight"].T
            attentional = torch.tanh(joined + weights["decoder.att_vector_layer.bias"])
            logits = attentional @ weights["decoder.output_layer.weight"].T
            total = total - logits.log_softmax(-1)[0, label]
    return total


def test_both_sides_compute_the_same(task: Task) -> None:
    """What is held against each other is one function of one set of weights, trained as it is."""
    data = data_of(task)
    data.setup("validate")
    network, num_free = tied_network(replace(task, dropout=0.0), data.source_text.vocabulary_size)
    batch = data.dataset("validation").batch(Piece(0, np.arange(6)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        network.loss(batch, mean="token").sum.backward()
        optimizer.step()
    weights = as_joeynmt(network.state_dict())
    assert num_free == sum(weight.numel() for weight in weights.values())
    torch.testing.assert_close(joeynmt_loss(weights, batch), network.loss(batch, mean="token").sum)


def test_an_untied_network_is_not_handed_over(task: Task) -> None:
    network, _ = tied_network(task, 60)
    weights = network.state_dict()
    as_joeynmt(weights)
    for name, message in (
        ("decoder.bridge.dense.weight", "hidden and cell"),
        ("decoder.bridge.dense.bias", "hidden and cell"),
        ("output.bias", "no bias"),
    ):
        changed = {**weights, f"model.decoder.{name}": weights[f"model.decoder.{name}"].clone()}
        changed[f"model.decoder.{name}"][0] += 1
        with pytest.raises(AssertionError, match=message):
            as_joeynmt(changed)


def test_the_rival_reads_our_tokens(task: Task) -> None:
    """Looked up in the vocabulary's file behind its own special tokens, the cut text is what our network reads."""
    data = data_of(task)
    data.prepare_data()
    pieces = Path(task.folder, VOCABULARY_FILE).read_text(encoding="utf-8").splitlines()
    number = {piece: place for place, piece in enumerate(["<unk>", "<pad>", "<s>", "</s>", *pieces])}
    assert len(number) == data.source_text.vocabulary_size
    for part, name in (("train", "train"), ("test", "test")):
        for code, lines in (("de", data.sources(part)), ("en", data.references(part))):
            cut = Path(task.folder, f"{name}.{code}").read_text(encoding="utf-8").splitlines()
            assert [[number[piece] for piece in line.split(" ")] for line in cut] == [
                ids.tolist() for ids in data.source_text.encode(lines)
            ]


def test_pieces_that_are_special_to_the_rival_are_refused(task: Task) -> None:
    data = data_of(task)
    data.prepare_data()
    data.source_text.pieces[10] = "<s>"
    with pytest.raises(
        ValueError, match=r"has the pieces <s>, which the rival takes for special tokens\. Take them out"
    ):
        write_cut_text(task, data)


def test_ratios_are_above_one_where_ours_is_better() -> None:
    more = row("c", [6.0, 8.0, 9.0], [3.0, 2.0, 3.0], unit="tokens/s", rival_name="r")
    assert (more.ours, more.rival, more.ratio) == (8.0, 3.0, 3.0)
    less = row("c", [5.0] * 3, [20.0, 25.0, 15.0], unit="%", rival_name="r", more_is_better=False)
    assert less.ratio == 4.0
    assert less.spread == pytest.approx(2.0)


def test_rows_that_were_not_measured_are_kept(tmp_path: Path) -> None:
    def result(case: str, ratio: float) -> Result:
        return Result(case=case, ours=1, rival=1, rival_name="r", unit="u", ratio=ratio, spread=0, goal=None)

    path = tmp_path / "rows.json"
    write_rows([result("a", 1.0), result("b", 2.0)], path=path)
    write_rows([result("c", 4.0), result("b", 3.0)], path=path)
    assert [(one["case"], one["ratio"]) for one in json.loads(path.read_text())] == [("a", 1.0), ("b", 3.0), ("c", 4.0)]


class Scripted(Worker):
    """Answers what it was given."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers

    def ask(self, request: str, **arguments: Any) -> Answer:
        return self.answers[request]


def test_another_task_is_refused() -> None:
    ours = {"num_weights": 10, "vocabulary_size": 5, "num_pairs": 7}
    sides = Sides(Scripted(describe=ours), Scripted(describe={**ours, "num_weights": 11}), "theirs")
    with pytest.raises(MeasurementError, match="Ours has 10 weights that are free, theirs 11: not the same task"):
        sides.check()


@pytest.mark.parametrize("other", [{"loss": 100.1}, {"target_tokens": 41}, {"loss": float("nan")}])
def test_another_loss_of_the_same_weights_is_refused(other: Answer) -> None:
    ours = {"loss": 100.0, "target_tokens": 40}
    check_loss(Sides(Scripted(loss=ours), Scripted(loss={**ours, "loss": 100.001}), "theirs"))
    with pytest.raises(MeasurementError, match=r"With the same weights, ours has a loss of 100\.0000 over 40 tokens"):
        check_loss(Sides(Scripted(loss=ours), Scripted(loss={**ours, **other}), "theirs"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "2"], r"--pairs must be at least 3, got 2"),
        (["--block", "0"], r"--block must be at least 1, got 0"),
        (["--threads", "0"], r"--threads must be at least 1, got 0"),
        ([], r"--joeynmt-python \S+nowhere does not exist.*--set-up FOLDER"),
        (["--joeynmt-python", sys.executable], r"cannot import JoeyNMT \(ModuleNotFoundError.*--set-up FOLDER"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        translation.main(["--joeynmt-python", str(tmp_path / "nowhere"), *arguments])
    assert raised.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said


def test_without_the_corpus_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNROLL_DATA", str(tmp_path))
    monkeypatch.setattr(joeynmt, "_fault", lambda python: None)
    with pytest.raises(SystemExit) as raised:
        translation.main(["--joeynmt-python", sys.executable])
    assert raised.value.code == 2
    assert "There is no file or folder 'multi30k'" in capsys.readouterr().err


def stub_python(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_installation_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(folder: Path, **settings: Any) -> None:
        stub_python(folder / "bin" / "python", "echo No space left >&2; exit 7")

    monkeypatch.setattr(joeynmt.venv, "create", create)
    with pytest.raises(
        ValueError, match=r"(?s)pip could not install JoeyNMT 2\.3\.0 \(status 7\).*No space left.*call again"
    ):
        joeynmt.set_up(tmp_path / "environment")


def test_an_environment_that_is_complete_is_taken_as_it_is(tmp_path: Path) -> None:
    python = stub_python(tmp_path / "bin" / "python", f"echo 2.3.0 {torch.__version__}")
    assert joeynmt.set_up(tmp_path) == python


@pytest.mark.parametrize(("name", "found"), [("joeynmt", "2.2.1 {torch}"), ("torch", "2.3.0 1.0.0")])
def test_another_version_is_refused(name: str, found: str, tmp_path: Path) -> None:
    python = stub_python(tmp_path / "python", f"echo {found.format(torch=torch.__version__)}")
    with pytest.raises(ValueError, match=rf"has {name} \d"):
        joeynmt.checked(python)


@pytest.mark.processes
@pytest.mark.skipif("JOEYNMT_PYTHON" not in os.environ, reason="JOEYNMT_PYTHON names no environment with JoeyNMT")
def test_against_the_real_rival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights give the same loss and the same translations there."""
    write_corpus(tmp_path / "multi30k")
    monkeypatch.setenv("UNROLL_DATA", str(tmp_path))
    output = tmp_path / "rows.json"
    arguments = ["--joeynmt-python", os.environ["JOEYNMT_PYTHON"], "--small", "--output", str(output), "--only"]
    assert translation.main([*arguments, "training", "decoding", "--sentences", "20"]) == 0
    assert len(json.loads(output.read_text())) >= 6
    # Who gets where with so little to learn is chance.
    translation.main([*arguments, "time_to_bleu", "--epochs", "2"])
    assert capsys.readouterr().err.count("joeynmt_to_bleu: BLEU") == 4
