"""Table, captions and pictures of a tested network beside its baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from apps.captioning.baseline import PooledBaseline
from apps.captioning.captioner import Captioner
from apps.captioning.module import CaptioningModule
from apps.captioning.plots import Described, plot_attention, plot_contact_sheet
from core.training.command.finished_run import FinishedRun, format_table, write_whole
from core.training.optimisation import OptimizerConfig
from core.training.watching.learning_curves import Panel, plot_learning_curves
from data.captioning import CaptioningData

SHOWN_METRICS = ("bleu4", "rouge_l", "cider_d", "true", "loss")
NAMES = {"ours": "recurrent network", "feed_forward": "feed-forward network"}
CURVES: list[Panel] = [
    ("loss, nats a word", ("train/loss", "val/loss")),
    ("CIDEr-D", ("val/cider_d",)),
]
NUM_SHOWN = 12
NUM_ATTENTION_MAPS = 3
CAPTIONS_FILE = "test_captions.jsonl"


def feed_forward_baseline(module: CaptioningModule) -> CaptioningModule:
    """The FNN (notes N1) on the same images with the loss of `module`, untrained."""
    encoder = module.network_config.image_encoder
    if encoder.weights is not None:
        encoder = replace(encoder, trainable="none")  # what it has is what a frozen encoder gives
    return CaptioningModule(
        network=PooledBaseline(encoder=encoder),
        loss_mean=module.loss_mean,
        label_smoothing=module.label_smoothing,
        search=module.validation_search,
        validation_search=module.validation_search,
        # Its own: what suits a recurrent network is no guide here.
        optimizer=OptimizerConfig(lr=1e-3),
        seed=module.seed,
    )


def report(run: FinishedRun) -> None:
    """Print the table; write every test caption; draw a contact sheet, attention and learning curves."""
    shown_metrics = [name for name in SHOWN_METRICS if name in run.metrics]
    print("\n" + format_table(run.forecasters(), shown_metrics, names=NAMES) + "\n")
    data, module = run.data, run.module
    assert isinstance(data, CaptioningData)
    corpus, truth = data.captions("test"), data.truth("test")
    captions = {"ours": module.captions}
    if isinstance(run.baseline, CaptioningModule):
        captions["feed_forward"] = run.baseline.captions
    folder = Path(run.run_dir)
    lines = []
    tested = list(module.captions)  # fewer than there are, and any of them, under trainer.limit_test_batches
    for row in tested:
        said = {who: of_images[row] for who, of_images in captions.items()}
        found = {"image": corpus.names[row], **said, "references": corpus.captions[row]}
        if truth is not None:
            found["true"] = truth(row, module.captions[row])
        lines.append(json.dumps(found, ensure_ascii=False))
    write_whole(folder / CAPTIONS_FILE, "\n".join(lines) + "\n")
    pictures, dataset = folder / "plots", data.dataset("test")
    # Evenly through the test part, the same ones in every run.
    chosen = [tested[number * len(tested) // NUM_SHOWN] for number in range(min(NUM_SHOWN, len(tested)))]
    images = [dataset.image(row) for row in chosen]
    sheet = [
        Described(
            image,
            module.captions[row],
            corpus.captions[row],
            None if truth is None else truth(row, module.captions[row]),
        )
        for row, image in zip(chosen, images, strict=True)
    ]
    plot_contact_sheet(sheet, pictures / "contact_sheet.png", title="Test images: generated and reference captions")
    if module.network.has_attention:
        captioner = Captioner(module, config=module.search)
        described = captioner.describe_images(torch.stack(images[:NUM_ATTENTION_MAPS]))
        for number, (image, found_captions) in enumerate(zip(images, described, strict=False), start=1):
            plot_attention(image, found_captions[0], pictures / f"attention_{number}.png")
    plot_learning_curves(folder, pictures / "learning_curves.png", panels=CURVES)
    print(f"Table, captions, pictures and checkpoints: {run.run_dir}")
