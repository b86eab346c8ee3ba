"""How frames are turned and mirrored before they are looked at, by the display matrix of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a picture down: exchange its axes, then reverse its rows, its columns, or both."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @classmethod
    def of(cls, frame: Any) -> Turn:
        """What the display matrix of an `av.VideoFrame` says, to the nearest quarter; without one, nothing.

        The matrix takes a point (x, y) of the stored picture to (a x + c y, b x + d y) (ISO 14496-12, 6.2.2; y goes down).
        """
        from av.sidedata.sidedata import Type

        found = frame.side_data.get(Type.DISPLAYMATRIX)
        if found is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(rows_reversed=d < 0, columns_reversed=a < 0)
        return cls(transposed=True, rows_reversed=b < 0, columns_reversed=c < 0)

    @property
    def rotation(self) -> int:
        """Degrees counterclockwise: 0, 90, 180 or 270; of a mirrored picture, those before mirroring it left to right."""
        if self.transposed:
            return 90 if self.rows_reversed else 270
        return 180 if self.rows_reversed else 0

    def upright(self, pixels: UInt8[np.ndarray, "rows columns 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """The picture turned; contiguous."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.rows_reversed:
            pixels = pixels[::-1]
        if self.columns_reversed:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)
