"""Table, translations and pictures of a tested network beside its baseline."""

from __future__ import annotations

import json
from pathlib import Path

from apps.translation.baseline import BagOfWordsBaseline
from apps.translation.metrics import bleu_by_length
from apps.translation.module import TranslationModule
from apps.translation.plots import plot_attention, plot_bleu_by_length
from apps.translation.translator import Translator
from core.training.command.finished_run import FinishedRun, format_table, write_whole
from core.training.optimisation import OptimizerConfig
from core.training.watching.learning_curves import Panel, plot_learning_curves
from data.translation import TranslationData

SHOWN_METRICS = ("bleu_lc", "bleu_cased", "chrf", "exact_match", "loss")
NAMES = {"ours": "recurrent network", "feed_forward": "feed-forward network"}
LENGTH_EDGES = (5, 10, 15, 20, 25)  # words of the source
NUM_HEAT_MAPS = 2
CURVES: list[Panel] = [
    ("loss, nats a token", ("train/loss", "val/loss")),
    ("BLEU, lower-cased", ("val/bleu_lc",)),
]
TRANSLATIONS_FILE = "test_translations.jsonl"


def feed_forward_baseline(module: TranslationModule) -> TranslationModule:
    """The FNN (notes N1) with the loss of `module`, untrained."""
    return TranslationModule(
        network=BagOfWordsBaseline(),
        loss_mean=module.loss_mean,
        label_smoothing=module.label_smoothing,
        search=module.validation_search,
        validation_search=module.validation_search,
        # Its own: what suits a recurrent network is no guide here.
        optimizer=OptimizerConfig(lr=1e-3),
        seed=module.seed,
    )


def report(run: FinishedRun) -> None:
    """Print the table; write every test translation, and draw attention, BLEU by length and learning curves."""
    print("\n" + format_table(run.forecasters(), SHOWN_METRICS, names=NAMES) + "\n")
    data, module = run.data, run.module
    assert isinstance(data, TranslationData)
    tested = list(module.translations)  # fewer than there are, and any of them, under trainer.limit_test_batches
    sources, references = ([side[row] for row in tested] for side in (data.sources("test"), data.references("test")))
    translations = {"ours": list(module.translations.values())}
    if isinstance(run.baseline, TranslationModule):
        translations["feed_forward"] = [run.baseline.translations[row] for row in tested]
    folder = Path(run.run_dir)
    table = zip(sources, references, *translations.values(), strict=True)
    lines = [
        json.dumps(dict(zip(("source", "reference", *translations), row, strict=True)), ensure_ascii=False)
        for row in table
    ]
    write_whole(folder / TRANSLATIONS_FILE, "\n".join(lines) + "\n")
    pictures = folder / "plots"
    lengths = [len(source.split()) for source in sources]
    curves = {
        NAMES[who]: bleu_by_length(texts, references, lengths=lengths, edges=LENGTH_EDGES)
        for who, texts in translations.items()
    }
    plot_bleu_by_length(curves, pictures / "bleu_by_length.png", title="BLEU by length of the source")
    shown = _longest_readable(sources)
    found = Translator(module.eval(), config=module.search).translate([sources[row] for row in shown])
    maps = [
        (sources[row], best[0])
        for row, (_, best) in zip(shown, found, strict=True)
        if best and best[0].attention is not None
    ]
    if maps:
        plot_attention(maps, pictures / "attention.png", source_text=module.texts[0])
    plot_learning_curves(folder, pictures / "learning_curves.png", panels=CURVES)
    print(f"Table, translations, pictures and checkpoints: {run.run_dir}")


def _longest_readable(sources: list[str], *, most_words: int = 14) -> list[int]:
    """A few sentences that fill a heat map and can still be read, the longest first."""
    fitting = [row for row, source in enumerate(sources) if len(source.split()) <= most_words]
    return sorted(fitting, key=lambda row: (-len(sources[row].split()), row))[:NUM_HEAT_MAPS]
