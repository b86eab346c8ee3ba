"""Any picture file as 8-bit RGB, or a `ValueError` that says what is wrong with it."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8

MAX_PIXELS = 89_478_485
"""Pixels a picture may have: those that fill 256 MB at 3 bytes each, which is where Pillow begins to warn."""

# Named one by one: Pillow knows others that start a program (EPS) or hold no photographs.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_ORIENTATION_TAG = 0x0112
_WHITE = 255


class ImageProblem(ValueError):  # noqa: N818  what is wrong is the picture
    """A picture cannot be read; the message has its name and the reason."""


def read_image(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture as it is meant to be looked at: 8-bit RGB, upright.

    The orientation that a camera has noted (EXIF) is applied, transparency is laid on white, 16-bit grey is scaled to 8
    bits, and of an animation it is the first frame.

    Args:
        source: a file, or the content of one.
        max_pixels: a picture with more is refused by its header alone, before memory is taken for it.
        name: what messages call it; None = the path of a file.

    Returns:
        A writable, contiguous array of its own.

    Raises:
        ImageProblem: the file is missing, empty, no picture, broken or cut off, too large, or holds numbers that have no
            known white (floating point, 32-bit integers beyond 16 bits).
    """
    if isinstance(source, bytes):
        return _decoded(io.BytesIO(source), name or "The picture", max_pixels)
    name = name or str(source)
    try:
        with open(source, "rb") as stream:
            return _decoded(stream, name, max_pixels)
    except OSError as error:
        raise ImageProblem(f"{name} cannot be read: {error.strerror or error}.") from error


def _decoded(stream: IO[bytes], name: str, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image, UnidentifiedImageError

    if not stream.read(1):
        raise ImageProblem(f"{name} is empty (0 bytes).")
    Image.init()
    formats = [kind for kind in _FORMATS if kind in Image.OPEN]
    with _QUIET_PILLOW:
        try:
            with Image.open(stream, formats=formats) as image:
                _check_size(image.size, name, max_pixels)
                image.load()
                return _upright(_pixels(image, name), _orientation(image))
        except (ImageProblem, MemoryError):
            raise
        except UnidentifiedImageError:
            raise ImageProblem(
                f"{name} is no picture, or one whose header is broken. Pictures are read from {', '.join(formats)}."
            ) from None
        except Image.DecompressionBombError as error:
            raise ImageProblem(f"{name} is too large for Pillow: {error} Scale it down.") from None
        except Exception as error:  # broken bytes take a decoder anywhere: struct.error, IndexError, SyntaxError ...
            reason = str(error).strip() or type(error).__name__
            raise ImageProblem(f"{name} is broken or cut off: {reason}.") from error


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageProblem(f"{name} is {width} x {height}: it has no pixel.")
    if width * height > max_pixels:
        raise ImageProblem(
            f"{name} is {width} x {height}, {width * height:,} pixels; up to {max_pixels:,} are read. Scale it down."
        )


def _pixels(image: Any, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels as they are stored, before they are turned."""
    from PIL import Image

    if image.mode == "F":
        raise ImageProblem(
            f"{name} holds floating-point numbers, which have no known white. Save it with 8 or 16 bits."
        )
    if image.mode.startswith("I"):
        return _scaled(np.asarray(image), image.info.get("transparency"), name)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _scaled(grey: np.ndarray, transparent: object, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """16-bit grey as 8 bits: Pillow's own conversion cuts at 255 instead, which leaves nearly all of it white."""
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 0xFFFF:
        raise ImageProblem(
            f"{name} holds integers from {low} to {high}, which have no known white. Save it with 8 or 16 bits."
        )
    scaled = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 x 255
    if isinstance(transparent, int):
        scaled[grey == transparent] = _WHITE
    return np.repeat(scaled[:, :, None], 3, axis=2)


def _orientation(image: Any) -> int:
    """The number that EXIF gives (1 = as stored); read behind `load`, for TIFF has been turned by then."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        return 1  # a note that cannot be read does not make the picture unreadable
    return value if isinstance(value, int) else 1


def _upright(pixels: UInt8[np.ndarray, "rows columns 3"], orientation: int) -> UInt8[np.ndarray, "height width 3"]:
    """Turned and mirrored as the orientations 1 to 8 of EXIF 2.3 (tag 0x0112) say; others mean nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


class _QuietPillow:
    """Keeps Pillow's warnings in while any thread is inside.

    Every thread with a `catch_warnings` of its own would not do: it is one list for the process, and who leaves last would
    put back what another had set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|data\.images)\b")
            self._num_inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._before.__exit__(None, None, None)


_QUIET_PILLOW = _QuietPillow()
