"""Results on real data that anyone can make again: fits an experiment with several seeds and records what came out.

    python -m scripts.results forecasting etth1_96 --seeds 1 2 3
    python -m scripts.results captioning flickr8k_scst --after flickr8k --seeds 1    # each from what the same seed learnt there
    python -m scripts.results translation multi30k_en_de --accelerator gpu           # wherever its config would train it

writes results/<application>/<experiment>.json: command, commit, seeds, one value a seed of every metric, the baselines,
duration, machine and versions. A seed whose run is complete is not run again; an interrupted one is resumed. Seeds may
be run in processes of their own, on one machine or on several that share the folder of runs: whoever names them all last
writes the record of all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

from core.training.command.finished_run import METRICS_FILE, write_whole
from scripts import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = "result.json"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "datasets", "numpy")


def main() -> None:
    """Run the seeds and write the record."""
    parser = argparse.ArgumentParser(prog="python -m scripts.results", description=__doc__.splitlines()[0])
    parser.add_argument("application")
    parser.add_argument("experiment", help="name of a config of the application, without .yaml")
    parser.add_argument(
        "--after", metavar="EXPERIMENT", help="start from the best weights that each seed had in this one"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), help="where to train (default: as the config says)")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="folder of the runs themselves")
    arguments = parser.parse_args()
    configs = Path("configs") / arguments.application
    for experiment in filter(None, (arguments.experiment, arguments.after)):
        if not (ROOT / configs / f"{experiment}.yaml").is_file():
            known = ", ".join(sorted(path.stem for path in (ROOT / configs).glob("*.yaml")))
            parser.error(f"there is no {configs / experiment}.yaml; known experiments: {known or 'none'}")
    config = configs / f"{arguments.experiment}.yaml"
    commit = provenance.commit()
    folder = arguments.runs / arguments.application
    runs = []
    for seed in arguments.seeds:
        before = folder / arguments.after / f"seed{seed}" if arguments.after else None
        runs.append(
            _run(
                arguments.application,
                config,
                seed=seed,
                folder=folder / arguments.experiment / f"seed{seed}",
                before=before,
                accelerator=arguments.accelerator,
                commit=commit,
            )
        )
    record = {
        "command": f"python -m scripts.results {arguments.application} {arguments.experiment} "
        + (f"--after {arguments.after} " if arguments.after else "")
        + f"--seeds {' '.join(map(str, arguments.seeds))}"
        + (f" --accelerator {arguments.accelerator}" if arguments.accelerator else ""),
        "commit": sorted({run["commit"] for run in runs}),
        "seeds": arguments.seeds,
        "metrics": {name: [run["metrics"][name] for run in runs] for name in runs[0]["metrics"]},
        "baselines": {
            who: {
                name: mean(run["baselines"][who][name] for run in runs)
                for name, value in values.items()
                if value is not None
            }
            for who, values in runs[0]["baselines"].items()
        },
        # How metrics were computed, where more than one way is usual.
        **{name: runs[0][name] for name in ("signatures",) if name in runs[0]},
        "parameters": runs[0]["parameters"],
        "duration_s": round(sum(run["duration_s"] for run in runs), 1),
        "data_wait_share": max(run["data_wait_share"] for run in runs),
        "machine": " and ".join(sorted({run["machine"] for run in runs})),
        "versions": {
            name: " and ".join(sorted({run["versions"][name] for run in runs})) for name in runs[0]["versions"]
        },
    }
    path = ROOT / "results" / arguments.application / f"{arguments.experiment}.json"
    write_whole(path, json.dumps(record, indent=2) + "\n")
    print(f"Wrote {path.relative_to(ROOT)}")


def _run(
    application: str,
    config: Path,
    *,
    seed: int,
    folder: Path,
    before: Path | None,
    accelerator: str | None,
    commit: str,
) -> dict[str, Any]:
    """Fit one seed, from fresh weights or the best ones of the run `before`, unless that is done already."""
    done = ROOT / folder / RESULT_FILE
    start_from = None if before is None else before / "checkpoints" / "best.ckpt"
    fingerprint = _fingerprint(config, before)
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text())
        if found["config"] != fingerprint:
            origin = f" or after another {before}" if before else ""
            sys.exit(f"{done} was made with another {config}{origin}. Remove {folder} to make it again.")
        return found
    command = [sys.executable, "-m", f"apps.{application}", "fit", "-c", str(config)]
    command += ["--seed_everything", str(seed), "--run_dir", str(folder)]
    if accelerator is not None:
        # One device a seed, whatever a machine has.
        command += ["--trainer.accelerator", accelerator, "--trainer.devices", "1"]
    if (ROOT / folder / "checkpoints" / "last.ckpt").is_file():
        command += ["--ckpt_path", "last"]
    elif start_from is not None:
        command += ["--init_from", str(start_from)]
    start = time.monotonic()
    # Those of an earlier run say nothing of one that has ended before its own.
    (ROOT / folder / METRICS_FILE).unlink(missing_ok=True)
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status != 0 or not (ROOT / folder / METRICS_FILE).is_file():
        print(
            f"error: the run in {folder} has not come to its end (status {status}); what it said stands above. The same "
            "command goes on from its last checkpoint.",
            file=sys.stderr,
        )
        sys.exit(status if status > 0 else 1)
    result: dict[str, Any] = json.loads((ROOT / folder / METRICS_FILE).read_text())
    # A resumed run knows the seconds of training before the interruption; start-up and test are of this call.
    seconds = max(time.monotonic() - start, result["fit_seconds"])
    device, machine = result["device"], provenance.machine()
    result |= {
        "duration_s": seconds,
        "commit": commit,
        "config": fingerprint,
        "machine": machine if device == "cpu" else f"{device}; {machine}",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    write_whole(done, json.dumps(result, indent=2) + "\n")
    return result


def _fingerprint(config: Path, before: Path | None) -> str:
    """Of what a run is made from: its config and, where it has one, the run that it starts from."""
    digest = hashlib.sha256((ROOT / config).read_bytes())
    if before is not None:
        done = ROOT / before / RESULT_FILE
        if not done.is_file():
            sys.exit(f"There is no {done}: run that experiment first, with the same seed and --runs.")
        made = json.loads(done.read_text())
        digest.update(f"{made['config']} {made['commit']}".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
