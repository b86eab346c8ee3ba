"""What the processes of a run know together."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed
from torch import Tensor

Value = TypeVar("Value")


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of the tensors of all processes, on each of them; a collective call.

    One exchange: Lightning's own reduction waits for all processes before it, which is a second one, at every step.
    """
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def leave_process_group() -> None:
    """Leave the others, at the end of a command that all of them have come through; nothing of a group may be under way.

    The group has threads that release what they have exchanged a moment after the exchange is over. Where Python has begun to
    end by then, they abort a process that has done its work (https://github.com/pytorch/pytorch/pull/179291).
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def gather_over_processes(value: Value) -> list[Value]:
    """The values of all processes, by rank; a collective call, for plain data and tensors on the CPU."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    everywhere: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, value)
    return everywhere
