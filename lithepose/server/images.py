"""Sizes of encoded images from their headers, to refuse too large images before they are decoded."""

from __future__ import annotations

from ..errors import ImageError

# Markers of a JPEG that hold its size; C4, C8 and CC in this range do not.
SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEGMENTS = 1000  # most segments of a header: a crafted one could take seconds to read
KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) as the header states them.

    Raises:
        ImageError: not an image of a known kind, or a header that is cut off.
    """
    try:
        size = _size(data)
    except (IndexError, ValueError) as error:
        raise ImageError("the header of the image is cut off; send the complete file") from error
    if size is None:
        raise ImageError(f"not an image of a supported type; send {KINDS}")
    if min(size) < 1:
        raise ImageError(f"the header declares an image of {size[0]}x{size[1]} pixels; export it again")
    return size


def _size(data: bytes) -> tuple[int, int] | None:
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _number(data, 16, 4, "big"), _number(data, 20, 4, "big")
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data)
    if data[:2] == b"BM":
        return _number(data, 18, 4), abs(int.from_bytes(_part(data, 22, 4), "little", signed=True))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data)
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return _avif(data)
    return None


def _part(data: bytes, at: int, length: int) -> bytes:
    if len(data) < at + length:
        raise IndexError("cut off")
    return data[at : at + length]


def _number(data: bytes, at: int, length: int, order: str = "little") -> int:
    return int.from_bytes(_part(data, at, length), "big" if order == "big" else "little")


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(SEGMENTS):
        if _number(data, at, 1) != 0xFF:
            raise ValueError("no marker")
        at = len(data) - len(data[at:].lstrip(b"\xff")) - 1  # after the padding
        marker = _number(data, at + 1, 1)
        if marker in SIZES:
            return _number(data, at + 7, 2, "big"), _number(data, at + 5, 2, "big")
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a length
            at += 2
        else:
            at += 2 + max(2, _number(data, at + 2, 2, "big"))
    raise ValueError("too many segments")


def _gif(data: bytes) -> tuple[int, int]:
    """The size of the screen, or of a larger first frame, since decoders allocate memory for it."""
    width, height = _number(data, 6, 2), _number(data, 8, 2)
    flags = _number(data, 10, 1)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = 0
    while _number(data, at, 1) == 0x21:  # extensions
        at += 2
        while (length := _number(data, at, 1)) and blocks < SEGMENTS:
            at, blocks = at + 1 + length, blocks + 1
        at, blocks = at + 1, blocks + 1
        if blocks >= SEGMENTS:
            raise ValueError("too many blocks")
    if _number(data, at, 1) == 0x2C:
        left, top, w, h = (_number(data, at + 1 + 2 * i, 2) for i in range(4))
        width, height = max(width, left + w), max(height, top + h)
    return width, height


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = _part(data, 12, 4)
    if kind == b"VP8 ":
        return _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF
    if kind == b"VP8L":
        bits = _number(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _number(data, 24, 3) + 1, _number(data, 27, 3) + 1
    return None


def _avif(data: bytes) -> tuple[int, int]:
    """The largest of its stated sizes: it may hold several images."""
    sizes = list[tuple[int, int]]()
    at = data.find(b"ispe")
    while at >= 0 and len(sizes) < SEGMENTS:
        sizes.append((_number(data, at + 8, 4, "big"), _number(data, at + 12, 4, "big")))
        at = data.find(b"ispe", at + 4)
    if not sizes:
        raise ValueError("no size")
    return max(sizes, key=lambda size: size[0] * size[1])


def _tiff(data: bytes) -> tuple[int, int]:
    order = "little" if data[:2] == b"II" else "big"
    at = _number(data, 4, 4, order)
    found = {}
    for entry in range(_number(data, at, 2, order)):
        place = at + 2 + 12 * entry
        tag, kind = _number(data, place, 2, order), _number(data, place + 2, 2, order)
        if tag in (256, 257):
            found.setdefault(tag, _number(data, place + 8, 2 if kind == 3 else 4, order))  # the first counts
    if len(found) < 2:
        raise ValueError("no size")
    return found[256], found[257]
