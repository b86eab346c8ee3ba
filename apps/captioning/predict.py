"""Captions of image files from a checkpoint alone, in the order of the files."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.captioning.captioner import IMAGES_AT_ONCE, Caption, Captioner
from apps.captioning.ensemble import CaptioningEnsemble
from apps.captioning.module import CaptioningModule
from apps.captioning.network import CaptioningNetwork
from core.training.command.members import as_paths, load_members
from core.training.command.prediction import (
    STANDARD,
    check_output,
    progress_bar,
    rounding,
    told_problems,
    usable_device,
    writable,
)
from data.images.listing import list_images
from data.images.transforms import ImageTransform


def predict(
    ckpt_path: str,
    input: str,
    output: str = STANDARD,
    beam_size: int | None = None,
    num_best: int = 1,
    length_penalty: float | None = None,
    no_repeat_ngram: int | None = None,
    max_length: int | None = None,
    patience: float | None = None,
    attention_maps: str | None = None,
    num_attention_maps: int = 20,
    images_at_once: int = IMAGES_AT_ONCE,
    ensemble: list[str] | str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> None:
    """Describe images: one JSON object a line, in the order of the files.

    Each has the file, the best caption with its score, and, with num_best > 1, all hypotheses. A file that cannot be read is
    skipped; such files are counted and listed at the end.

    Args:
        ckpt_path: the checkpoint; it holds all that is needed.
        input: an image, a folder of images (and its subfolders), or a text file with the path of an image a line.
        output: file to write, or - for standard output.
        beam_size: width of the beam; 1 is greedy. None: as the checkpoint's test.
        num_best: captions of each image, at most beam_size.
        length_penalty: alpha of Wu et al. 2016, eq. 14; more favours longer captions. None: as the checkpoint's test.
        no_repeat_ngram: no run of this many words occurs twice in a caption. None: as the checkpoint's test.
        max_length: words a caption has at most, its end included. None: as the checkpoint's test.
        patience: an image is done at beam_size x patience ended hypotheses; .inf: once no other can win. None: as the
            checkpoint's test.
        attention_maps: folder for pictures of where attention looked, word by word, one for each hypothesis of an image.
        num_attention_maps: images that are drawn at most.
        images_at_once: images in memory together; memory and speed, not results.
        ensemble: a further checkpoint with the same vocabulary, or several as [b.ckpt, c.ckpt]: the probability of each next
            word is the mean over all of them.
        device: where to compute, such as cpu or cuda.
        precision: bf16-mixed multiplies in bfloat16, which GPUs and newer CPUs do faster; results are rounded, and may depend a
            little on what is computed together. None: that of the checkpoint.
        progress: show a progress bar on standard error, where that is a terminal.
        overwrite: replace output files where they exist.
    """
    for name, value in (
        ("num_best", num_best),
        ("num_attention_maps", num_attention_maps),
        ("images_at_once", images_at_once),
    ):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    _check_outputs(output, attention_maps, overwrite=overwrite)
    paths = list_images(input)
    others = as_paths(ensemble)
    modules = load_members(
        CaptioningModule,
        [ckpt_path, *others],
        device=usable_device(device),
        alike=lambda made: {
            "their vocabulary": made["text"]["fingerprint"],
            "the size of images": ImageTransform(**made["transform"]).fingerprint,
        },
    )
    module = modules[0]
    joined = CaptioningEnsemble.of(modules, names=[ckpt_path, *others]) if others else None
    limits = {
        "beam_size": beam_size,
        "length_penalty": length_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "patience": patience,
        "num_best": num_best if num_best > 1 else None,
    }
    _check_options(
        joined or module.network,
        limits,
        attention_maps=attention_maps,
        whose="a member of the ensemble" if others else f"the network in {ckpt_path}",
    )
    changes = {**limits, "max_length": max_length}
    config = replace(module.search, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    captioner = Captioner(module, config=config, images_at_once=images_at_once, ensemble=joined)
    number = num_drawn = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(rounding(precision, *modules))
        out = stack.enter_context(writable(output, "--output"))
        count = stack.enter_context(progress_bar(len(paths), unit="image", shown=progress))
        for path, captions in captioner.describe(paths):
            out.write(_as_json(path, captions, all_of_them=num_best > 1))
            if output == STANDARD:
                out.flush()  # whoever waits for it need not wait for more
            number += 1
            if attention_maps is not None and num_drawn < num_attention_maps:
                _draw(captioner, path, captions, Path(attention_maps), number=number)
                num_drawn += 1
            count()
    skipped = told_problems(captioner.problems)
    drawn = "" if attention_maps is None else f" Drew {num_drawn} of them in {attention_maps}."
    where = "" if output == STANDARD else f" to {output}"
    print(f"Described {number} of {len(paths)} images{where}.{skipped}{drawn}", file=sys.stderr)
    if not number:
        raise ValueError(f"--input {input}: none of its {len(paths)} images can be read.")


def _as_json(path: Path, captions: list[Caption], *, all_of_them: bool) -> str:
    best = captions[0]
    found: dict[str, Any] = {
        "image": str(path),
        "caption": best.text,
        "score": best.score,
        "log_probability": best.log_probability,
    }
    if all_of_them:
        found["hypotheses"] = [
            {"caption": one.text, "score": one.score, "log_probability": one.log_probability} for one in captions
        ]
    return json.dumps(found, ensure_ascii=False) + "\n"


def _draw(captioner: Captioner, path: Path, captions: list[Caption], folder: Path, *, number: int) -> None:
    from apps.captioning.plots import plot_attention
    from data.images.reading import read_image

    image = captioner.transform(read_image(path), seed=None)
    for rank, caption in enumerate(captions, start=1):
        of_rank = "" if len(captions) == 1 else f"_{rank}"
        plot_attention(image, caption, folder / f"{number:04}_{path.stem}{of_rank}.png")


def _check_outputs(output: str, attention_maps: str | None, *, overwrite: bool) -> None:
    check_output(output, "--output", overwrite=overwrite)
    if attention_maps is None:
        return
    folder = Path(attention_maps)
    if any(part.exists() and not part.is_dir() for part in (folder, *folder.parents)):
        raise ValueError(f"--attention_maps {attention_maps} is, or lies in, a file: name a folder.")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ValueError(
            f"--attention_maps {attention_maps} exists. Choose another name, or replace it with --overwrite true."
        )


def _check_options(
    network: CaptioningNetwork | CaptioningEnsemble | None,
    limits: Mapping[str, Any],
    *,
    attention_maps: str | None,
    whose: str,
) -> None:
    """Refuse what would do nothing."""
    assert network is not None
    if attention_maps is not None and not network.has_attention:
        raise ValueError(f"--attention_maps needs attention, and {whose} has none. Leave it out.")
    if not network.has_search:
        for name in [name for name, value in limits.items() if value is not None]:
            raise ValueError(f"--{name} does nothing for {whose}: each of its words stands for itself. Leave it out.")
