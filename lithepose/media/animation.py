"""Animated GIF, PNG and WebP: how many images a file holds, and what they are."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from ..errors import ImageError

MAX_TOTAL = 1 << 30  # pixels of all images together: OpenCV decodes them at once
STILL = 100  # milliseconds of an image without a duration, as browsers show it


def frame_count(data: bytes) -> int:
    """Number of images in an encoded file by its structure, without decoding; 1 for everything but animations."""
    if data[:4] == b"\x89PNG":
        control = data.find(b"acTL", 0, data.find(b"IDAT") + 1)
        return max(1, int.from_bytes(data[control + 4 : control + 8], "big")) if control >= 0 else 1
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and data[20:21] and data[20] & 2:
        return max(1, sum(name == b"ANMF" for name in _riff_chunks(data)))
    if data[:4] == b"GIF8":
        return max(1, _gif_images(data))
    return 1


def _riff_chunks(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def _gif_images(data: bytes) -> int:
    """Images that begin in a GIF; one that is cut off counts."""
    count, at = 0, 13

    def behind_table(at: int, flags: int) -> int:
        return at + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)

    at = behind_table(at, data[10]) if len(data) > 10 else at
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            count += 1
            if at + 10 > len(data):
                break
            at = behind_table(at + 10, data[at + 9]) + 1
        else:
            at += 2
        while at < len(data) and data[at]:  # blocks of data, each behind its length
            at += data[at] + 1
        at += 1
    return count


def decode_animation(data: bytes) -> list[tuple[np.ndarray, float]]:
    """The images of an animation and the seconds from its start at which each is shown.

    Returns:
        (H, W, 3) BGR or (H, W, 4) BGRA uint8 images, with their times.

    Raises:
        ImageError: it cannot be decoded, or is too large.
    """
    count, first = frame_count(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if first is not None and count * first.shape[0] * first.shape[1] > MAX_TOTAL:
        size = f"{count} images of {first.shape[1]}x{first.shape[0]}"
        raise ImageError(f"animation of {size} pixels, more than can be decoded at once; convert it to MP4")
    try:
        ok, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise ImageError(f"OpenCV refuses the animation ({error.err}); convert it to MP4") from error
    if not ok or not len(animation.frames):
        raise ImageError("animation that OpenCV cannot decode; convert it to MP4")
    durations = [duration if duration > 0 else STILL for duration in np.ravel(animation.durations).tolist()]
    ends = np.cumsum(durations) / 1000
    return list(zip(animation.frames, [0.0, *ends[:-1].tolist()], strict=True))
