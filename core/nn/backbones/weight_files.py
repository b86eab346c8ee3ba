"""Weights from local files, as torchvision, PyTorch's examples and users save them."""

import pickle
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

_NUM_SHOWN = 3
_NESTED = ("state_dict", "model")
# Batch norm counts batches since PyTorch 0.4.1; older files lack the count, which nothing here reads.
_NOT_NEEDED = "num_batches_tracked"
# torchvision's files of DenseNet have the names of a time when a module's name could hold a dot.
_OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load_file(network: nn.Module, path: str, *, backbone: str, head: Collection[str], names: Collection[str]) -> None:
    """Fill a network with the weights of a file, which may hold its classifier too.

    Args:
        network: is filled in place.
        path: a state dict saved by `torch.save`, bare or under "state_dict" or "model"; names may begin with "module.".
        backbone: what errors call the network.
        head: first parts of names that belong to the classifier, which the network has not: they may differ or lack.
        names: weights that the backbone has by name, for the error of a file that does not exist.

    Raises:
        ValueError: The file is missing, holds no weights, or those of another architecture.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        known = f"of weights by name it has {', '.join(names)}" if names else "it has no weights by name"
        raise ValueError(
            f"weights is {path!r}, which is neither a file nor a name of weights of backbone {backbone!r}: {known}. Give the "
            "path of a file, or null for random weights."
        )
    found = _read(file)
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_NOT_NEEDED)}
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name.split(".")[0] not in head and not name.endswith(_NOT_NEEDED)]
    unexpected = [name for name in extra if name not in wanted]
    misshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if missing or unexpected or misshaped:
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        raise ValueError(
            f"{file} does not hold the weights of backbone {backbone!r}. "
            f"{'; '.join(f'{kind}: {_some(those)}' for kind, those in kinds if those)}. Set backbone to the architecture "
            "that the file was trained with, or weights to a file of this one."
        )
    known_counts = {name for name in network.state_dict() if name.endswith(_NOT_NEEDED)} & found.keys()
    network.load_state_dict({name: found[name] for name in [*wanted, *known_counts]}, strict=False)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{file} could not be read as weights: {reason}\nIt must be a state dict written by "
            "torch.save(network.state_dict(), file), with tensors alone in it."
        ) from error
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} must hold a state dict, names and their tensors, got {_kind(content)}.")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{file} must hold names and their tensors, bare or under 'state_dict'; no tensors are: {_some(others)}."
        )
    return {_OLD_DENSENET.sub(r"\1\2", str(name).removeprefix("module.")): value for name, value in content.items()}


def _kind(content: object) -> str:
    return f"an empty {type(content).__name__}" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _NUM_SHOWN
    return ", ".join(listed[:_NUM_SHOWN]) + (f" and {more} more" if more > 0 else "")
