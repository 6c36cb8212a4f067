"""Animated GIF, PNG and WebP: the number of images in a file, and their decoding."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from ..errors import ImageError

MAX_TOTAL = 1 << 30  # pixels of all images together: OpenCV decodes them at once
ANIMATED = b"acTL", b"fcTL", b"fdAT"  # chunks of a PNG
IEND = bytes(4) + b"IEND" + zlib.crc32(b"IEND").to_bytes(4, "big")
STILL = 100  # milliseconds of an image without a duration, as in browsers


def frame_count(data: bytes) -> int:
    """Number of images in an encoded file by its structure, without decoding; 1 for everything but animations."""
    if data[:4] == b"\x89PNG":
        return max(1, _png_images(data))
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and data[20:21] and data[20] & 2:
        return max(1, sum(name == b"ANMF" for name in _riff_chunks(data)))
    if data[:4] == b"GIF8":
        return max(1, _gif_images(data))
    return 1


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Names of a PNG's chunks, their bytes from the length on, and whether their check sum is right."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        whole = data[at:end]
        yield whole[4:8], whole, zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big")
        at = end


def _png_images(data: bytes) -> int:
    """Number of images as stated, if the first one belongs to the animation; otherwise 0, for a still image."""
    stated, controls = 0, False
    for name, whole, right in _png_chunks(data):
        if name == b"acTL" and right:
            stated = int.from_bytes(whole[8:12], "big")
        controls = controls or (name == b"fcTL" and right)
        if name == b"IDAT":
            return stated if controls else 0
    return 0


def still_png(data: bytes) -> bytes:
    """A PNG without its animation chunks: OpenCV crashes if they are damaged."""
    kept = list[bytes]()
    for name, whole, _ in _png_chunks(data):
        if name == b"IEND" or (kept and name != b"IDAT" and kept[-1][4:8] == b"IDAT"):
            break
        if name not in ANIMATED:
            kept.append(whole)
    else:
        rest = data[8 + sum(len(whole) for _, whole, _ in _png_chunks(data)) :]
        return data[:8] + b"".join(kept) + (b"" if rest[4:8] in ANIMATED else rest)  # an image that is cut off
    return data[:8] + b"".join(kept) + IEND


def _whole_png(data: bytes) -> bytes:
    """The images of an animated PNG before the first damage, as a complete file.

    Raises:
        ImageError: the first of them is damaged.
    """
    head, frames, width, height = list[bytes](), list[list[bytes]](), 0, 0
    plays = bytes(4)
    for name, whole, right in _png_chunks(data):
        if name == b"IEND" or not right:
            break
        if name == b"IHDR":
            width, height = (int.from_bytes(whole[8 + 4 * i : 12 + 4 * i], "big") for i in range(2))
        if name == b"acTL":
            plays = whole[12:16]
        elif name == b"fcTL":
            w, h, left, top = (int.from_bytes(whole[12 + 4 * i : 16 + 4 * i], "big") for i in range(4))
            unfinished = bool(frames) and len(frames[-1]) == 1
            if unfinished or len(whole) != 38 or not (0 < w <= width - left and 0 < h <= height - top):
                break
            frames.append([whole])
        elif name in (b"IDAT", b"fdAT"):
            if not frames or (name == b"IDAT") != (len(frames) == 1):
                break
            frames[-1].append(whole)
        elif not frames:
            head.append(whole)
    frames = [frame for frame in frames if len(frame) > 1]
    if not frames:
        raise ImageError("the first image of the animation is damaged; export it again")
    control = b"acTL" + len(frames).to_bytes(4, "big") + plays
    control = (8).to_bytes(4, "big") + control + zlib.crc32(control).to_bytes(4, "big")
    return data[:8] + b"".join([*head, control, *(chunk for frame in frames for chunk in frame)]) + IEND


def _riff_chunks(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def _gif_images(data: bytes) -> int:
    """Number of images that begin in a GIF, including one that is cut off."""
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
        while at < len(data) and data[at]:  # blocks of data, each after its length
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
    count = frame_count(data)
    data = _whole_png(data) if data[:4] == b"\x89PNG" else data
    first = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if first is not None and count * first.shape[0] * first.shape[1] > MAX_TOTAL:
        size = f"{count} images of {first.shape[1]}x{first.shape[0]}"
        raise ImageError(f"the animation has {size} pixels, more than can be decoded at once; convert it to MP4")
    try:
        ok, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot decode the animation ({error.err}); convert it to MP4") from error
    if not ok or not len(animation.frames):
        raise ImageError("OpenCV cannot decode the animation; convert it to MP4")
    durations = [duration if duration > 0 else STILL for duration in np.ravel(animation.durations).tolist()]
    ends = np.cumsum(durations) / 1000
    return list(zip(animation.frames, [0.0, *ends[:-1].tolist()], strict=True))
