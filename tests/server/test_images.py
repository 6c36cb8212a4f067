"""Sizes by headers."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lithepose.errors import ImageError
from lithepose.server.images import image_size

IMAGE = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)


def by_pillow(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, kind, **options)
    return buffer.getvalue()


KINDS = {
    suffix: cv2.imencode(suffix, IMAGE)[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".avif")
}
KINDS |= {"GIF": by_pillow("GIF"), "lossless": by_pillow("WEBP", lossless=True), "MM": by_pillow("TIFF")}
KINDS |= {"progressive": by_pillow("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(3000))}
KINDS |= {"alpha": cv2.imencode(".webp", np.dstack([IMAGE, IMAGE[..., 0]]))[1].tobytes()}
KINDS |= {"animation": by_pillow("GIF", save_all=True, append_images=[Image.fromarray(255 - IMAGE)])}


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_decoded_image(kind):
    assert image_size(KINDS[kind]) == (53, 37)


@pytest.mark.parametrize("kind", KINDS)
def test_headers_that_are_cut_off_are_named(kind):
    for length in range(2, 24):
        with pytest.raises(ImageError, match=r"cut off|not an image|declares"):
            image_size(KINDS[kind][: length if kind != ".avif" else 2 * length])


def test_a_frame_larger_than_its_screen_counts():
    data = bytearray(KINDS["GIF"])
    data[6:10] = (1).to_bytes(2, "little") * 2  # the screen
    assert image_size(bytes(data)) == (53, 37)


@given(st.sampled_from(sorted(KINDS)), st.binary(min_size=1, max_size=12), st.integers(0, 60))
def test_damaged_headers_are_read_or_refused(kind, noise, at):
    data = bytearray(KINDS[kind])
    data[at : at + len(noise)] = noise
    try:
        width, height = image_size(bytes(data))
    except ImageError:
        return
    assert min(width, height) >= 1


def test_crafted_headers_are_refused():  # at once; walking through them all takes minutes
    crafted = [b"\xff\xd8" + b"\xff" * 4_000_000, b"\xff\xd8" + b"\xff\xe0\x00\x02" * 1_000_000]
    crafted.append(b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\x01a" * 2_000_000)
    for data in crafted:
        with pytest.raises(ImageError):
            image_size(data)


def test_the_largest_of_several_stated_sizes_counts():
    tiff = bytearray(KINDS[".tiff"])
    at = int.from_bytes(tiff[4:8], "little")
    first, count = tiff[at + 2 : at + 14], int.from_bytes(tiff[at : at + 2], "little")
    twice = (
        tiff
        + (count + 1).to_bytes(2, "little")
        + tiff[at + 2 : at + 2 + 12 * count]
        + first[:8]
        + (1).to_bytes(4, "little")
    )
    twice[4:8] = len(tiff).to_bytes(4, "little")
    assert image_size(bytes(twice)) == (53, 37)
    avif = KINDS[".avif"] + b"ispe" + bytes(4) + (9000).to_bytes(4, "big") * 2
    assert image_size(avif) == (9000, 9000)
