"""Reading of images.

Coordinates: the centre of the top left pixel is (0, 0), as everywhere in this package. A resize by s therefore maps
x to (x + 0.5) * s - 0.5.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ..arrays import Shaped, UInt8
from ..errors import ConfigError, ImageError, OutputError
from .animation import frame_count, still_png

LOG = logging.getLogger(__name__)
MAX_PIXELS = 1 << 28  # 268 megapixels: above this, decoding alone takes gigabytes


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image file as (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    For an animation, it reads the first image and logs a warning that the others are left out.

    Raises:
        ImageError: the file is missing, empty, not an image, cut off or too large.
    """
    data = read_file(path)
    with named_errors(path):
        image = decode_image(data)
    if (count := frame_count(data)) > 1:
        LOG.warning("%s: animation of %d images; only the first is read; use stream() to read all", path, count)
    return image


def read_file(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def named_errors(path: str | Path) -> Iterator[None]:
    """Put the name of a file before the message of an :class:`ImageError`."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", *JXL)
TIFF = (b"II*\0", b"MM\0*")
BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")  # of images in MP4's container


def looks_like_image(start: bytes) -> bool:
    """Whether a file's first 32 bytes are those of an image, whatever it is called."""
    return (
        start.startswith(SIGNATURES)
        or (start[:2] == b"BM" and start[6:10] == bytes(4))
        or (start[:2] in (b"P5", b"P6") and start[2:3].isspace())
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:12] in BRANDS)
    )


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an encoded image to (H, W, 3) uint8 RGB; grey, alpha, 16-bit and CMYK are converted.

    Transparent parts are laid over white; for an animation, the first image is taken. A JPEG that is damaged in the
    middle is decoded as far as libjpeg can, as in image viewers.
    """
    if not data:
        raise ImageError("the file is empty; check that the copy is complete")
    jpeg = data[:2] == b"\xff\xd8"
    if jpeg and _ends_early(data):
        raise ImageError("the JPEG file ends early; copy it again")
    if data.startswith(JXL):
        return _decode_jxl(data)
    buffer = np.frombuffer(still_png(data) if data[:4] == b"\x89PNG" and b"acTL" in data else data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
        if image is not None and not jpeg:
            # OpenCV turns an image by its EXIF orientation, but not when it is asked to keep the alpha channel.
            raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
                if data[:4] in TIFF and raw.dtype == np.uint8:  # libtiff has multiplied the colours by alpha
                    raw = _undo_alpha(raw)
                turned = turn(raw, _orientation(data))
                if turned.shape[:2] == image.shape[:2]:
                    image = cv2.cvtColor(turned, cv2.COLOR_BGRA2RGBA)
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot decode it ({error.err}); shrink or convert it") from error
    if image is None and data[4:8] == b"ftyp":
        return _decode_heif(data)
    if image is None:
        raise ImageError("not an image that OpenCV can decode; convert it to JPEG or PNG")
    return as_rgb(image)


def _undo_alpha(image: np.ndarray) -> np.ndarray:
    """Undo the multiplication of colours by alpha; (H, W, 4) uint8."""
    alpha = image[..., 3:].astype(np.uint16)
    colours = (image[..., :3].astype(np.uint16) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 255).astype(np.uint8), image[..., 3:]], 2)


def _decode_jxl(data: bytes) -> np.ndarray:
    """Decode JPEG XL."""
    try:
        import pillow_jxl  # noqa: F401  # pyright: ignore[reportMissingImports]
        from PIL import Image
    except ImportError as error:
        raise ImageError("JPEG XL files need pillow-jxl-plugin: pip install 'lithepose[jxl]'") from error
    try:
        return as_rgb(Image.open(io.BytesIO(data)))
    except ImageError:
        raise
    except Exception as error:  # libjxl's own errors
        raise ImageError(f"libjxl cannot decode the JPEG XL file ({error}); convert it to JPEG") from error


def _decode_heif(data: bytes) -> np.ndarray:
    """Decode HEIC and HEIF, as phones write them, upright."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImageError("HEIC and HEIF files need pillow-heif: pip install 'lithepose[heif]'") from error
    try:
        return as_rgb(np.asarray(pillow_heif.open_heif(data, convert_hdr_to_8bit=True)))
    except Exception as error:  # libheif's own errors
        raise ImageError(f"libheif cannot decode the HEIF file ({error}); convert it to JPEG") from error


def _ends_early(data: bytes) -> bool:
    """Whether a JPEG has no end marker after its first scan; thumbnails before it have their own."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:  # fill bytes and markers without a length
            at += 1 if marker == 0xFF else 2
        elif marker == 0xDA:
            break
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return b"\xff\xd9" not in data[at:]


def _orientation(data: bytes) -> int:
    """EXIF orientation (1 to 8) of a PNG or WebP; 1 if there is none."""
    at = data.find(b"eXIf" if data[:4] == b"\x89PNG" else b"EXIF")
    if at < 0 or data[:4] not in (b"\x89PNG", b"RIFF"):
        return 1
    exif = data[at + (4 if data[:4] == b"\x89PNG" else 8) :]
    exif = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"

    def number(where: int, size: int) -> int:
        return int.from_bytes(exif[where : where + size], order)

    first = number(4, 4)
    for entry in range(first + 2, first + 2 + 12 * min(number(first, 2), 64), 12):
        if number(entry, 2) == 0x0112:
            return number(entry + 8, 2)
    return 1


def turn(image: Shaped[np.ndarray, "h w *c"], orientation: int) -> Shaped[np.ndarray, "h2 w2 *c"]:
    """Turn an image upright by its EXIF orientation (1 to 8); other values change nothing."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def as_rgb(image: object) -> UInt8[np.ndarray, "h w 3"]:
    """Convert an array or PIL image to (H, W, 3) uint8 RGB.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA array of uint8, uint16, bool, or floats in [0, 1]; a
            torch tensor of these shapes or (3, H, W); or a PIL image of any mode, which is turned upright as its EXIF
            orientation says. A uint16 image with all values below 4096 is read as 12 bits.

    Raises:
        ImageError: another shape or type, or more than 268 megapixels.
    """
    if hasattr(image, "convert"):
        array = _from_pil(image)
    elif hasattr(image, "detach"):
        array = _from_tensor(image)
    else:
        array = np.asarray(image)
    if array.ndim == 0:
        kind = type(image).__name__
        raise ImageError(f"{kind} is not an image; pass a path, an (H, W, 3) uint8 RGB array or a PIL image")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(f"array of shape {array.shape} is not an image; expected (H, W), (H, W, 3) or (H, W, 4)")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ImageError(
            f"image has {array.shape[1]}x{array.shape[0]} pixels, more than the limit of 268 million; shrink it"
        )
    array = _as_uint8(array)
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint16)
        array = ((array[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


def _from_pil(image: Any) -> np.ndarray:
    """A PIL image (recognised by its method, as PIL is no dependency), read as its file would be."""
    mode = getattr(image, "mode", "RGB")
    if mode.startswith("I;16"):
        array = np.asarray(image).astype(np.uint16)
    elif "A" in mode or "a" in mode or "transparency" in getattr(image, "info", {}):
        array = np.asarray(image.convert("RGBA"))
    else:
        array = np.asarray(image.convert("RGB"))
    return turn(array, image.getexif().get(0x0112, 1) if hasattr(image, "getexif") else 1)


def _from_tensor(image: Any) -> np.ndarray:
    """A torch tensor (recognised by its method), channels last."""
    array = image.detach().cpu().numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    return array


def _as_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> (4 if array.max() < 1 << 12 else 8)).astype(np.uint8)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(np.min(array)), float(np.max(array))
        if not (low >= 0.0 and high <= 1.0):  # a NaN fails here too
            raise ImageError(f"float image with values from {low:g} to {high:g}; scale it to 0..1 or use uint8")
        return (array * 255 + 0.5).astype(np.uint8)
    raise ImageError(f"image of type {array.dtype} is not supported; use uint8, uint16, bool or floats in 0..1")


def encode_image(suffix: str, image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB, or (H, W, 4) RGBA, -> the bytes of an image file.

    Raises:
        ConfigError: images with this suffix cannot be written.
        OutputError: the format cannot hold the image.
    """
    if not cv2.haveImageWriter(f"image{suffix}"):
        raise ConfigError(f"{suffix or 'no suffix'}: cannot write this kind of image; use .jpg or .png")
    size = f"{image.shape[1]}x{image.shape[0]}"
    refusal = OutputError(f"a {suffix} file cannot contain a colour image of {size} pixels; use .png")
    try:
        swapped = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        ok, data = cv2.imencode(suffix, cv2.cvtColor(image, swapped))
    except cv2.error as error:
        raise refusal from error
    if not ok:
        raise refusal
    return data.tobytes()


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB, by the suffix of ``path``.

    Raises:
        ConfigError: the suffix is not that of an image.
        OutputError: the format cannot hold it; no such folder, no room, no permission.
    """
    try:
        path.write_bytes(encode_image(path.suffix, image))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OutputError as error:
        raise OutputError(f"{path}: {error}") from error
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"{path}: cannot be written ({why}); free disk space, or choose another path") from error
