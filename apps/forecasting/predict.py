"""Forecasts of new data from a checkpoint alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from apps.forecasting.module import ForecastingModule, forecast_batches
from core.training.command.members import as_paths, load_members
from core.training.command.prediction import check_output, rounding, usable_device
from data.forecasting import newest_windows, series_scaling
from data.panels.panel import Panel
from data.panels.reading import PanelFileConfig, read_panel
from data.paths import cache_folder, find_data

if TYPE_CHECKING:
    import pandas as pd

WRITERS = (".csv", ".parquet")


def predict(
    ckpt_path: str,
    input: str,
    output: str,
    overwrite: bool = False,
    ensemble: list[str] | str | None = None,
    device: str = "cpu",
    precision: str | None = None,
) -> None:
    """Forecast the horizon after the end of every series of a file.

    The output has the columns unique_id, ds, mean and one a quantile (q0.1 ...), in the order of the input's series.

    Args:
        ckpt_path: the checkpoint; it holds all that is needed.
        input: CSV or Parquet file laid out as the training file was.
        output: file to write, .csv or .parquet.
        overwrite: replace the output file where it exists.
        ensemble: a further checkpoint for the same horizon, or several as [b.ckpt, c.ckpt]: each forecast and each quantile is
            the mean of theirs.
        device: where to compute, such as cpu or cuda.
        precision: bf16-mixed multiplies in bfloat16, which GPUs and newer CPUs do faster; results are rounded, and may depend a
            little on what is computed together. None: that of the checkpoint.
    """
    target = Path(output)
    if target.suffix not in WRITERS:
        raise ValueError(f"--output {output}: the ending says the format; expected one of {', '.join(WRITERS)}.")
    check_output(output, "--output", overwrite=overwrite)
    modules = _load([ckpt_path, *as_paths(ensemble)], device=device)
    module = modules[0]
    # A short input may not show its frequency; the checkpoint knows it.
    file = PanelFileConfig(**{**module.preprocessing["file"], "frequency": module.preprocessing["frequency"]})
    panel = read_panel(find_data(input), file, cache_dir=str(cache_folder()), notify=print)
    missing = int(np.isnan(panel.values).sum())
    if missing and not all(each.preprocessing["has_missing"] for each in modules):
        whose = "a checkpoint" if len(modules) > 1 else "the checkpoint"
        print(f"{missing} values of the input are missing; {whose} has never seen a gap and takes them as average.")
    with rounding(precision, *modules):
        table = _mean([forecast_table(each, panel) for each in modules])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".csv":
            table.to_csv(target, index=False)
        else:
            table.to_parquet(target, index=False)
    except OSError as error:
        raise ValueError(f"--output {output} cannot be written ({error.strerror}). Choose another folder.") from error
    print(f"Wrote {len(table)} rows ({panel.num_series} series x {module.preprocessing['horizon']} steps) to {output}.")


def _load(paths: list[str], *, device: str) -> list[ForecastingModule]:
    modules = load_members(
        ForecastingModule,
        paths,
        device=usable_device(device),
        alike=lambda made: {
            "the horizon": made["horizon"],
            "the frequency": made["frequency"],
            "how they read files": made["file"],
        },
    )
    levels = [each.head.levels for each in modules]
    for path, others in zip(paths, levels, strict=True):
        if others != levels[0]:
            raise ValueError(
                f"--ensemble: {path} and {paths[0]} forecast other quantiles, {_listed(others)} and {_listed(levels[0])}: they "
                "have no mean. Leave it out."
            )
    return modules


def _listed(levels: Sequence[float]) -> str:
    return ", ".join(f"{level:g}" for level in levels) or "none"


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Forecasts that are the mean of several, column by column: of quantiles it is again a distribution with those.

    Source: Lichtendahl, Grushka-Cockayne & Winkler, "Is It Better to Average Probabilities or Quantiles?", Management Science
    2013.
    """
    table = tables[0]
    for name in table.columns[2:]:
        table[name] = np.mean([each[name].to_numpy() for each in tables], axis=0)
    return table


def forecast_table(module: ForecastingModule, panel: Panel) -> pd.DataFrame:
    """Forecasts in the units of the file: unique_id, ds, mean and a column a quantile."""
    import pandas as pd

    horizon = module.preprocessing["horizon"]
    # Files are read to float32; the weights come back in the precision of their run.
    dtype = next(module.parameters()).dtype
    mean, scale = series_scaling(panel, module.preprocessing)
    windows = newest_windows(panel, module.preprocessing, scaling=(mean, scale))
    forecast = forecast_batches(module, [batch.in_dtype(dtype) for batch in windows])
    shown = forecast.in_file_units(torch.from_numpy(mean), torch.from_numpy(scale))
    columns: dict[str, Any] = {
        "unique_id": np.repeat(np.asarray(panel.series_ids, dtype=object), horizon),
        "ds": np.concatenate([panel.future_timestamps(i, horizon) for i in range(panel.num_series)]),
        "mean": shown.mean.flatten().numpy(),
    }
    if shown.quantiles is not None:
        for position, level in enumerate(module.head.levels):
            columns[f"q{level:g}"] = shown.quantiles[..., position].flatten().numpy()
    return pd.DataFrame(columns)
