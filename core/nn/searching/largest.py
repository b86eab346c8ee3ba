"""The largest values of long rows, with ties in a fixed order."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# Maxima of shorter blocks, or of blocks that are no power of two, take 5 to 10 times as long on a CPU.
_SMALLEST_BLOCK = 32


def largest(
    values: Float[Tensor, "rows columns"], num: int
) -> tuple[Float[Tensor, "rows num"], Int[Tensor, "rows num"]]:
    """The `num` largest values of each row, descending, and their columns; of equal ones the lower column first.

    `torch.topk` leaves ties to chance (another batch, another answer) and reads long rows slowly. The columns are cut in
    blocks, and only the `num` blocks with the largest maxima are searched: outside of them nothing can be among the
    largest, for each of the `num` blocks holds a value that goes first. No value may be NaN.

    Raises:
        ValueError: if a row has fewer than `num` columns.
    """
    num_rows, num_columns = values.shape
    if not 1 <= num <= num_columns:
        raise ValueError(f"num must be between 1 and the number of columns, {num_columns}, got {num}.")
    # About as many blocks as there are columns to search in the end.
    block_size = max(_SMALLEST_BLOCK, 2 ** round(math.log2(num_columns / num) / 2))
    if num_columns < 2 * num * block_size:
        return _first_in_order(values, num)
    num_blocks = num_columns // block_size
    rest = num_blocks * block_size
    blocks = values[:, :rest].reshape(num_rows, num_blocks, block_size)
    # Ascending, so that the order of what is gathered is the order of the columns.
    chosen = _first_in_order(blocks.amax(-1), num)[1].sort(dim=-1).values
    gathered = blocks.gather(1, chosen.unsqueeze(-1).expand(num_rows, num, block_size)).flatten(1)
    found, places = _first_in_order(torch.cat([gathered, values[:, rest:]], dim=1), num)
    # The last, shorter block is always searched; it stands behind the chosen ones.
    starts = F.pad(chosen * block_size, (0, 1), value=rest)
    block = (places // block_size).clamp(max=num)
    return found, starts.gather(1, block) + places - block * block_size


def _first_in_order(values: Tensor, num: int) -> tuple[Tensor, Tensor]:
    if values.dtype != torch.float32:
        ordered = values.sort(dim=-1, descending=True, stable=True)
        return ordered.values[:, :num], ordered.indices[:, :num]
    # Value and column in one integer: no two are equal, so the order of topk is fixed, and it is faster than a sort.
    bits = (values + 0.0).view(torch.int32)  # -0.0 and 0.0 are equal
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    places = torch.arange(values.shape[1] - 1, -1, -1, device=values.device)
    keys = (ascending.long() << 32) | places
    columns = values.shape[1] - 1 - (keys.topk(num, dim=-1).values & 0xFFFFFFFF)
    return values.gather(1, columns), columns
