from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lithepose.drawing import draw
from lithepose.errors import ImageError
from lithepose.geometry import GREY, from_cells, letterbox, to_cells
from lithepose.media.animation import decode_animation, frame_count
from lithepose.media.image import as_rgb, decode_image, read_image, turn
from lithepose.media.inputs import expand
from lithepose.media.sources import Failed, ReadConfig, frames
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17

side = st.integers(1, 700)


@settings(max_examples=60)
@given(width=side, height=side, size=st.sampled_from([64, 200, 256, 384]), data=st.data())
def test_fit_and_back_is_the_identity(width, height, size, data):
    image = np.zeros((height, width, 3), np.uint8)
    pixels, back = letterbox(image, size, 64)
    assert pixels.shape[0] % 64 == pixels.shape[1] % 64 == 0
    assert max(pixels.shape) < size + 64
    xy = np.array([data.draw(st.floats(-0.5, width - 0.5)), data.draw(st.floats(-0.5, height - 0.5))])
    assert np.abs(back.to_image(back.to_input(xy)) - xy).max() < 1e-6
    cells = to_cells(back.to_input(xy), 8)
    assert np.abs(back.to_image(from_cells(cells, 8)) - xy).max() < 1e-6
    assert (cells >= -0.5 - 1e-6).all()
    assert (cells <= np.array(pixels.shape[1::-1]) / 8 - 0.5 + 1e-6).all()


@settings(max_examples=30)
@given(width=st.integers(100, 500), height=st.integers(100, 500), x=st.floats(0.2, 0.8), y=st.floats(0.2, 0.8))
def test_fit_says_where_a_mark_went(width, height, x, y):
    """The map back agrees with what the resize really did: a blob's centre is found again within half a pixel."""
    centre = np.array([x * width, y * height])
    dx, dy = np.arange(width) - centre[0], np.arange(height) - centre[1]
    blob = np.exp(-(dx[None] ** 2 + dy[:, None] ** 2) / (2 * 12.0**2)) * 255
    pixels, back = letterbox(np.repeat(blob[..., None], 3, 2).astype(np.uint8), 256, 64)
    w, h = round(width * back.scale_x), round(height * back.scale_y)
    weight = pixels[:h, :w, 0].astype(float) ** 2
    rows, columns = np.mgrid[:h, :w]
    found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    assert np.abs(back.to_image(found) - centre).max() < 0.5
    assert (pixels[h:] == GREY).all()
    assert (pixels[:, w:] == GREY).all()


def encode(array: np.ndarray, suffix: str) -> bytes:
    ok, data = cv2.imencode(suffix, array)
    assert ok
    return data.tobytes()


def test_kinds_of_images_become_rgb():
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[..., 0] = 200
    assert (decode_image(encode(rgb[..., ::-1], ".png")) == rgb).all()
    grey = decode_image(encode(rgb[..., 0], ".png"))
    assert grey.shape == (4, 6, 3)
    assert (grey == 200).all()
    deep = decode_image(encode(np.full((4, 6), 200 * 257, np.uint16), ".png"))
    assert deep.dtype == np.uint8
    assert (deep == 200).all()
    clear = np.dstack([rgb[..., ::-1], np.zeros((4, 6), np.uint8)])
    assert (decode_image(encode(clear, ".png")) == 255).all(), "what is transparent lies over white"
    tiny = decode_image(encode(rgb[:1, :1], ".png"))
    assert tiny.shape == (1, 1, 3)


def test_cmyk_jpeg(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("RGB", (32, 32), (200, 30, 30)).convert("CMYK").save(path, quality=95)
    red, green, blue = read_image(path).reshape(-1, 3).mean(0)
    assert red > 150
    assert max(green, blue) < 90


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.zeros((24, 48, 3), np.uint8)
    upright[:12, :24] = 255  # white in the upper left quarter
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"turned{suffix}"
        Image.fromarray(np.ascontiguousarray(undo[orientation](upright))).save(path, exif=exif)
        image = read_image(path)
        assert image.shape == upright.shape
        assert np.abs(image.astype(int) - upright).mean() < 8


def test_arrays_of_every_kind():
    floats = np.linspace(0, 1, 12).reshape(3, 4)
    assert as_rgb(floats).shape == (3, 4, 3)
    assert as_rgb(floats)[2, 3, 0] == 255
    assert (as_rgb(np.ones((2, 2), bool)) == 255).all()
    assert as_rgb(np.zeros((2, 2, 4), np.uint8)).tolist() == np.full((2, 2, 3), 255).tolist()
    assert (as_rgb(Image.new("L", (5, 4), 7)) == 7).all()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 2, 5), np.uint8), "shape"),
        (np.zeros((0, 2, 3), np.uint8), "shape"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.full((2, 2), 3.5), "3.5"),
        (np.full((2, 2), np.nan), "nan"),
        ("text", "str is not an image"),
        (np.broadcast_to(np.uint8(0), (20000, 20000, 3)), "20000x20000"),
    ],
)
def test_what_is_no_image_is_refused(array, says):
    with pytest.raises(ImageError, match=says):
        as_rgb(array)


def test_broken_files_are_named(tmp_path):
    good = encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), ".jpg")
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 90000, 90000, 8, 2, 0, 0, 0) + b"\0" * 64
    cases = {"empty.jpg": b"", "text.png": b"no image", "cut.jpg": good[: len(good) // 2], "huge.png": huge}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_transparency_turns_with_the_image(tmp_path, orientation, suffix):
    """Upright: red, with the upper left quarter transparent; stored in each of EXIF's orientations."""
    upright = np.zeros((8, 12, 4), np.uint8)
    upright[..., 0] = upright[..., 3] = 255
    upright[:4, :6, 3] = 0
    # What a viewer does to the stored image, undone: 6 and 8 undo each other.
    stored = turn(upright, {6: 8, 8: 6}.get(orientation, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    read = read_image(path)
    assert read.shape == (8, 12, 3)
    assert (read[:4, :6] == 255).all()
    assert (read[4:] == (255, 0, 0)).all()
    assert (as_rgb(Image.open(path)) == read).all()


def test_pil_images_of_any_mode(tmp_path):
    deep = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.abs(as_rgb(Image.open(tmp_path / "deep.png")).astype(int) - read_image(tmp_path / "deep.png")).max() <= 1
    clear = Image.new("RGBA", (3, 3), (0, 0, 0, 0))
    assert (as_rgb(clear) == 255).all()


def test_a_jpeg_may_have_more_behind_it_but_must_have_its_end(tmp_path):
    sample = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    thumbnail = tmp_path / "small.jpg"
    sample.resize((16, 16)).save(thumbnail)
    exif = b"Exif\0\0" + thumbnail.read_bytes()  # its end marker is not the image's
    sample.save(tmp_path / "image.jpg", exif=exif)
    data = (tmp_path / "image.jpg").read_bytes()
    expected = decode_image(data)
    assert (decode_image(data + bytes(2 * len(data))) == expected).all()
    with pytest.raises(ImageError, match="ends early"):
        decode_image(data[: len(data) // 2])


def test_heic_is_read_upright(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    image = np.full((48, 64, 3), 40, np.uint8)
    image[:, :32] = 210
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    heif.from_pillow(Image.fromarray(image)).save(tmp_path / "phone.heic", exif=exif.tobytes())
    shown = read_image(tmp_path / "phone.heic")
    assert shown.shape == (64, 48, 3)
    assert shown[:24].mean() > 150 > 100 > shown[40:].mean()
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"phone\.heic: .*lithepose\[heif\]"):
        read_image(tmp_path / "phone.heic")


def test_images_that_cannot_be_written_to_are_drawn_on_a_copy(astronaut):
    people = Poses(np.full((1, 17, 2), 100, np.float32), np.ones((1, 17)), np.ones(1), COCO_17, (512, 512))
    locked = astronaut.copy()
    locked.flags.writeable = False
    assert (draw(locked, people, copy=False) != locked).any()
    assert draw(locked.copy(), people, copy=False).shape == locked.shape


def encoded(kind, images, **options):
    """An animation as a file's bytes."""
    buffer = io.BytesIO()
    images[0].save(buffer, kind, save_all=True, append_images=images[1:], loop=0, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_animation_is_read_image_by_image(tmp_path, kind, options, caplog):
    images = [Image.fromarray(np.full((40, 60, 3), level, np.uint8)) for level in (0, 100, 200, 250)]
    path = tmp_path / f"moves.{kind.lower()}"
    path.write_bytes(encoded(kind, images, duration=[100, 200, 50, 100], **options))
    read = list(frames(expand([str(path)])))
    assert [int(frame.image[0, 0, 0]) for frame in read] == [0, 100, 200, 250]
    assert [frame.index for frame in read] == [0, 1, 2, 3]
    assert np.allclose([frame.time for frame in read], [0, 0.1, 0.3, 0.35])
    assert [frame.time for frame in frames(expand([str(path)]), ReadConfig(start=0.1, every=2))] == [0.1, 0.35]
    assert read_image(path)[0, 0, 0] == 0
    assert "animation of 4 images; only the first is read" in caplog.text


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_single_image_is_no_animation(tmp_path, kind):
    path = tmp_path / f"still.{kind.lower()}"
    path.write_bytes(encoded(kind, [Image.fromarray(np.full((40, 60, 3), 100, np.uint8))]))
    (frame,) = frames(expand([str(path)]))
    assert frame.index is None


def test_a_cut_off_animation_gives_what_it_has_and_is_named(tmp_path):
    images = [
        Image.fromarray(np.random.default_rng(level).integers(0, 255, (40, 60, 3), np.uint8)) for level in range(4)
    ]
    data = encoded("GIF", images, duration=100)
    path = tmp_path / "cut.gif"
    path.write_bytes(data[: int(len(data) * 0.85)])
    *read, failed = frames(expand([str(path)]))
    assert isinstance(failed, Failed)
    assert "cut.gif" in str(failed.error)
    assert len(read) in (0, 3)


def test_a_half_transparent_tiff_is_laid_over_white_once():
    image = np.dstack([np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 128, np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "TIFF")
    assert np.abs(decode_image(buffer.getvalue()).astype(int) - round((200 * 128 + 255 * 127) / 255)).max() <= 1


def test_jpeg_xl(tmp_path, monkeypatch):
    pillow_jxl = pytest.importorskip("pillow_jxl")
    image = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JXL", lossless=True)
    assert np.array_equal(decode_image(buffer.getvalue()), image)
    with pytest.raises(ImageError, match="libjxl cannot decode the JPEG XL file"):
        decode_image(buffer.getvalue()[:30])
    monkeypatch.setitem(sys.modules, pillow_jxl.__name__, None)
    with pytest.raises(ImageError, match=r"lithepose\[jxl\]"):
        decode_image(buffer.getvalue())


def apng(tmp_path, count=4):
    images = [Image.fromarray(np.full((24, 32, 3), 40 * i, np.uint8)) for i in range(1, count + 1)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], duration=100)
    return (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("damage", ["first control", "rectangle", "second control"])
def test_a_damaged_animated_png_does_not_end_the_process(tmp_path, damage):
    data = bytearray(apng(tmp_path))
    at = data.index(b"fcTL") if damage == "first control" else data.index(b"fcTL", data.index(b"IDAT"))
    if damage == "rectangle":
        data[at + 8 : at + 12] = (9000).to_bytes(4, "big")  # wider than the image
        data[at + 30 : at + 34] = zlib.crc32(data[at : at + 30]).to_bytes(4, "big")
    else:
        data[at] ^= 0x10
    path = tmp_path / "b.png"
    path.write_bytes(data)
    code = (
        "import sys; from lithepose.media.inputs import expand; from lithepose.media.sources import frames;"
        "print(*(type(f).__name__ for f in frames(expand(sys.argv[1:]))))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == (["Frame"] if damage == "first control" else ["Frame", "Failed"])
    assert decode_image(bytes(data)).shape == (24, 32, 3)


def test_an_animated_png_is_read_whole_and_its_still_is_the_first_image(tmp_path):
    data = apng(tmp_path)
    assert frame_count(data) == 4
    assert [image[0, 0, 0] for image, _ in decode_animation(data)] == [40, 80, 120, 160]
    assert (decode_image(data) == 40).all()
    cut = data[: int(len(data) * 0.8)]
    assert 1 <= len(decode_animation(cut)) < 4
