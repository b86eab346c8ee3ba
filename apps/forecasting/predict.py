"""Forecasts of new data from a checkpoint alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from apps.forecasting.module import ForecastingModule, forecast_batches
from core.training.command.prediction import rounding, usable_device
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
        device: where to compute, such as cpu or cuda.
        precision: bf16-mixed multiplies in bfloat16, which GPUs and newer CPUs do faster; results are rounded, and may depend a
            little on what is computed together. None: that of the checkpoint.
    """
    target = Path(output)
    if target.suffix not in WRITERS:
        raise ValueError(f"--output {output}: the ending says the format; expected one of {', '.join(WRITERS)}.")
    if target.exists() and not overwrite:
        raise ValueError(f"--output {output} exists. Choose another name, or replace it with --overwrite true.")
    module = ForecastingModule.from_checkpoint(ckpt_path).to(usable_device(device))
    # A short input may not show its frequency; the checkpoint knows it.
    file = PanelFileConfig(**{**module.preprocessing["file"], "frequency": module.preprocessing["frequency"]})
    panel = read_panel(find_data(input), file, cache_dir=str(cache_folder()), notify=print)
    missing = int(np.isnan(panel.values).sum())
    if missing and not module.preprocessing["has_missing"]:
        print(
            f"{missing} values of the input are missing; the checkpoint has never seen a gap and takes them as average."
        )
    with rounding(precision, module):
        table = forecast_table(module, panel)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".csv":
            table.to_csv(target, index=False)
        else:
            table.to_parquet(target, index=False)
    except OSError as error:
        raise ValueError(f"--output {output} cannot be written ({error.strerror}). Choose another folder.") from error
    print(f"Wrote {len(table)} rows ({panel.num_series} series x {module.preprocessing['horizon']} steps) to {output}.")


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
