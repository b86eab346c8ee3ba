"""Fine-tuning: the weights of a checkpoint, everything else from the config."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor, nn

from core.training.averaging import weights_to_use
from core.training.checkpoints.files import read_checkpoint

NETWORK_PREFIX = "network."


def initialise_from(network: nn.Module, path: str | Path, *, application: str, skip: Sequence[str] = ()) -> list[str]:
    """Copy the weights of a checkpoint into `network`.

    Args:
        network: the freshly built network; changed in place, all or nothing.
        path: the checkpoint.
        application: the application that both belong to.
        skip: prefixes of parameter names that keep their fresh values (a head with other classes, say).

    Returns:
        The names that kept their fresh values because of `skip`.

    Raises:
        ValueError: where a weight is missing on either side or has another shape, naming each one.
    """
    state = weights_to_use(read_checkpoint(path, application=application))
    stored = {
        name.removeprefix(NETWORK_PREFIX): value for name, value in state.items() if name.startswith(NETWORK_PREFIX)
    }
    fresh = network.state_dict()
    unused = [prefix for prefix in skip if not any(name.startswith(prefix) for name in fresh)]
    if unused:
        raise ValueError(f"init_skip names '{unused[0]}', but no weight of the network starts so. {_names(fresh)}")
    skipped = [name for name in fresh if name.startswith(tuple(skip))] if skip else []
    problems = []
    for name in [*fresh, *(name for name in stored if name not in fresh)]:
        if skip and name.startswith(tuple(skip)):
            continue
        if name not in stored:
            problems.append(f"{name}: not in the checkpoint")
        elif name not in fresh:
            problems.append(f"{name}: not in the network")
        elif stored[name].shape != fresh[name].shape:
            problems.append(f"{name}: {tuple(stored[name].shape)} there, {tuple(fresh[name].shape)} here")
    if problems:
        raise ValueError(
            f"{path} does not fit the network of this config:\n  "
            + "\n  ".join(problems[:12])
            + (f"\n  ... and {len(problems) - 12} more" if len(problems) > 12 else "")
            + "\nUse the network settings of the checkpoint, or name what shall start afresh with --init_skip PREFIX."
        )
    network.load_state_dict({name: fresh[name] if name in skipped else stored[name] for name in fresh})
    return skipped


def check_taken_rows(
    names: Collection[str], *, path: str | Path, vocabulary: str, theirs: Sequence[str], ours: Sequence[str]
) -> None:
    """Refuse rows of one vocabulary under the numbers of another: where shapes agree by chance nothing else would.

    Args:
        names: weights that came from the checkpoint and have a row for each piece of the vocabulary.
        path: the checkpoint.
        vocabulary: which one, for the message.
        theirs: pieces of the checkpoint, in the order of their numbers.
        ours: pieces of this run.

    Raises:
        ValueError: where there are such weights, and the pieces differ.
    """
    if names and list(theirs) != list(ours):
        raise ValueError(
            f"--init_skip keeps {', '.join(names)} of {path}, but the {vocabulary} is another here: their rows belong to "
            "other pieces. Skip them too, or skip nothing, and the checkpoint's vocabulary is kept."
        )


def _names(state: dict[str, Tensor]) -> str:
    return f"Weights start with: {', '.join(sorted({name.split('.')[0] for name in state}))}."
