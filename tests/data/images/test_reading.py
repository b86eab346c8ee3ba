"""Every kind of picture comes out as upright 8-bit RGB, and every broken one as an error that names it."""

from __future__ import annotations

import io
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data.images.reading import MAX_PIXELS, ImageProblem, read_image

RED, WHITE = [255, 0, 0], [255, 255, 255]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), kind=st.sampled_from(["PNG", "BMP", "TIFF", "PPM", "WEBP"]))
def test_what_is_stored_without_loss_is_read_without_loss(height: int, width: int, kind: str) -> None:
    """Height and width must not be swapped, nor red and blue; a single pixel is a picture."""
    pixels = noise(height, width, seed=height * 41 + width)
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read_image(encoded(Image.fromarray(pixels), kind, **options))
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)


def test_a_file_and_its_bytes_are_the_same_and_the_array_is_ones_own(tmp_path: Path) -> None:
    """Torch warns of arrays that cannot be written to, and does not take negative strides."""
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(Image.fromarray(noise(9, 7)), "JPEG"))
    found = read_image(file)
    assert np.array_equal(found, read_image(file.read_bytes()))
    assert found.shape == (9, 7, 3)
    assert found.flags.writeable
    assert found.flags.c_contiguous


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_upright(orientation: int, kind: str) -> None:
    """All eight orientations of EXIF agree with Pillow's own; TIFF, which Pillow turns itself, is not turned twice."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.kron(noise(2, 3), np.ones((8, 8, 1), np.uint8)))
    content = encoded(stored, kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(read_image(content), expected)
    assert expected.shape == ((24, 16, 3) if orientation in (5, 6, 7, 8) else (16, 24, 3))


@pytest.mark.parametrize("exif", [b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b"garbage!!garbage"])
def test_an_orientation_that_cannot_be_read_leaves_the_picture_as_stored(exif: bytes) -> None:
    """One of these makes Pillow warn, the other makes it raise."""
    pixels = noise(4, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(encoded(Image.fromarray(pixels), "PNG", exif=exif)), pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_cut(kind: str) -> None:
    """Pillow's own conversion is white from 256 of 65,535 on."""
    values = np.array([[0, 128, 129, 257, 32768], [256 * 128, 65534, 65535, 65406, 1]], np.uint16)
    found = read_image(encoded(Image.fromarray(values), kind))
    assert np.array_equal(found[:, :, 0], np.rint(values / 257))
    assert np.array_equal(found[:, :, 0], found[:, :, 1])
    assert np.array_equal(found[:, :, 0], found[:, :, 2])


def test_16_bit_grey_of_a_pgm_and_with_a_transparent_value() -> None:
    values = np.array([[0, 257, 65535]], ">u2")
    assert read_image(b"P5 3 1 65535\n" + values.tobytes())[0, :, 0].tolist() == [0, 1, 255]
    content = encoded(Image.fromarray(values.astype(np.uint16)), "PNG", transparency=257)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode.startswith("I")  # or the test would not be of 16 bits
    assert read_image(content)[0, :, 0].tolist() == [0, 255, 255]


def test_numbers_without_a_known_white_are_refused() -> None:
    with pytest.raises(ImageProblem, match=r"x\.tif holds floating-point numbers.*8 or 16 bits"):
        read_image(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), name="x.tif")
    with pytest.raises(ImageProblem, match=r"holds integers from -3 to 70000"):
        read_image(encoded(Image.fromarray(np.array([[-3, 70000]], np.int32)), "TIFF"))


def test_grey_and_two_valued_pictures() -> None:
    grey = noise(3, 4, 1)[:, :, 0]
    assert np.array_equal(read_image(encoded(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, axis=2))
    two = Image.fromarray(grey > 127)
    assert np.array_equal(read_image(encoded(two, "PNG"))[:, :, 1], np.where(grey > 127, 255, 0))


def palette(*, transparent: int | None, kind: str) -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return encoded(image, kind, **({} if transparent is None else {"transparency": transparent}))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_with_and_without_a_transparent_colour(kind: str) -> None:
    assert read_image(palette(transparent=None, kind=kind))[0].tolist() == [RED, [0, 255, 0], [0, 0, 255]]
    assert read_image(palette(transparent=1, kind=kind))[0].tolist() == [RED, WHITE, [0, 0, 255]]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0)), ("LA", (100,))])
def test_transparency_is_laid_on_white(mode: str, colour: tuple[int, ...]) -> None:
    """What is thrown away without it is often black, or whatever an editor has left there."""
    image = Image.new(mode, (3, 1))
    for column, alpha in enumerate((0, 51, 255)):
        image.putpixel((column, 0), (*colour, alpha))
    found = read_image(encoded(image, "PNG")).astype(float)
    expected = [[255 - alpha / 255 * (255 - value) for value in (colour * 3)[:3]] for alpha in (0, 51, 255)]
    assert np.abs(found[0] - expected).max() <= 1


def test_cmyk_and_its_inverted_form() -> None:
    """Adobe's JPEG files hold CMYK inverted: a reader that does not know gives a negative."""
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for content in (encoded(cmyk, "JPEG", quality=100), encoded(cmyk, "TIFF")):
        with Image.open(io.BytesIO(content)) as image:
            assert image.mode == "CMYK"
        assert np.abs(read_image(content).astype(int) - RED).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (found == RED).all()


class TestRefusals:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
    def test_every_cut_is_an_error_and_no_other_kind_of_one(self, kind: str) -> None:
        """Downloads break off anywhere: in the header, in the pixels, one byte before the end."""
        whole = encoded(Image.fromarray(noise(24, 24)), kind)
        for cut in [*range(1, min(len(whole), 400), 3), *range(400, len(whole), 97)]:
            try:
                found = read_image(whole[:cut], name="some.file")
            except ImageProblem as problem:
                assert str(problem).startswith("some.file ")  # noqa: PT017  most cuts raise, the last may not
            else:
                # What is missing then is not of the pixels.
                assert np.array_equal(found, read_image(whole)), cut
                assert cut > len(whole) / 2

    @settings(max_examples=150, deadline=None)
    @given(kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF"]), data=st.data())
    def test_whatever_bytes_are_broken_nothing_else_leaks(self, kind: str, data: st.DataObject) -> None:
        """Decoders meet broken bytes with errors of any kind, and with warnings; pytest would fail on neither."""
        content = bytearray(encoded(Image.fromarray(noise(12, 12)), kind))
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = read_image(bytes(content))
            except ImageProblem:
                pass
            else:
                assert found.shape[2] == 3
        assert not caught

    def test_what_is_no_picture(self, tmp_path: Path) -> None:
        for name, content, reason in (
            ("empty.jpg", b"", r"is empty \(0 bytes\)"),
            ("text.jpg", b"<html>404</html>", "is no picture.*JPEG, PNG"),
            ("program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is no picture"),
        ):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ImageProblem, match=rf"{name} {reason}"):
                read_image(tmp_path / name)
        with pytest.raises(ImageProblem, match=r"nowhere\.jpg cannot be read: No such file"):
            read_image(tmp_path / "nowhere.jpg")
        with pytest.raises(ImageProblem, match="cannot be read: Is a directory"):
            read_image(tmp_path)

    def test_too_many_pixels_are_refused_by_the_header(self, tmp_path: Path) -> None:
        """A few bytes can claim gigabytes; none of these has the pixels that it claims."""
        assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS
        for width, height in ((10_000, 10_000), (20_000, 20_000), (60_000, 60_000)):
            file = tmp_path / f"{width}.ppm"
            file.write_bytes(b"P6 %d %d 255\n" % (width, height))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(ImageProblem, match=rf"{width}\.ppm is .*Scale it down"):
                    read_image(file)
        small = encoded(Image.fromarray(noise(10, 11)), "PNG")
        assert read_image(small, max_pixels=110).shape == (10, 11, 3)
        with pytest.raises(ImageProblem, match="is 11 x 10, 110 pixels; up to 109 are read"):
            read_image(small, max_pixels=109)
        assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS

    def test_a_problem_survives_the_way_out_of_a_worker(self) -> None:
        """Loaders make an exception of another process again from its message alone."""
        problem = ImageProblem("a.jpg is empty.")
        assert str(pickle.loads(pickle.dumps(problem))) == str(type(problem)("a.jpg is empty.")) == "a.jpg is empty."


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    """Each with a `catch_warnings` of its own, the last one out would put back what another had set."""
    content = encoded(Image.fromarray(noise(64, 64)), "PNG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(content) for _ in range(30)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
