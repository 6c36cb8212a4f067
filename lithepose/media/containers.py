"""Checks whether a media file is complete, by the structure of its container instead of its header."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675  # elements of Matroska
MATROSKA = {EBML, SEGMENT, CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770}
MATROSKA |= {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xEC, 0xBF, 0x5854, 0xAF}  # in clusters
FLV_TAGS = {8, 9, 18}
TS_PACKET, M2TS_PACKET = 188, 192
TS_SYNC = 0x47


def is_damaged(path: str | Path, stream: int | None = None) -> bool:
    """Whether a file was cut off, or lost or gained bytes between its parts.

    Checks MP4 and MOV, Matroska and WebM, AVI, ASF and WMV, FLV, and MPEG transport streams; others do not state their
    end. The content of parts is not checked.

    Args:
        path: path of the file.
        stream: for an MPEG transport stream, the number of the packets that must be complete; others may have gaps.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(512)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_end(file, size) > size
        if start[:4] == EBML.to_bytes(4, "big"):
            return not _is_whole_matroska(file, size)
        if start[:4] == b"RIFF":
            return not _is_whole_riff(file, size)
        if start[:3] == b"FLV":
            return not _is_whole_flv(file, size)
        if ASF_FILE_PROPERTIES in start:
            return not _is_whole_asf(file, size, start)
        for packet, sync in ((TS_PACKET, 0), (M2TS_PACKET, 4)):
            if len(start) > sync + packet and start[sync] == start[sync + packet] == TS_SYNC:
                file.seek(0)
                return size % packet != 0 or not _is_whole_ts(file, packet, sync, stream)
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 or MOV ends."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isalnum():  # to the end of the file, or no box
            return size
        at += length
    return at


def _is_whole_matroska(file: BinaryIO, size: int) -> bool:
    """Whether known elements follow one another to the end, also inside segments and clusters."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        width = 9 - head[0].bit_length()
        element = int.from_bytes(head[:width], "big")
        if element not in MATROSKA:
            return False
        length, begin = _ebml_size(head, width)
        if element in (SEGMENT, CLUSTER):
            if length and at + begin + length > size:
                return False
            length = 0
        at += begin + length
    return at == size


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length and the position after it; 0 for "unknown"."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return 0, at + 1
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), at + width


def _is_whole_riff(file: BinaryIO, size: int) -> bool:
    """Whether chunks follow one another to the end of an AVI, or to zeros after it, also inside lists."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head == bytes(8):
            return not file.read(1 << 20).strip(b"\0")
        if not head[:4].isascii() or not head[:4].decode().isprintable():
            return False
        if head[:4] in (b"RIFF", b"LIST"):
            if at + 8 + length > size:
                return False
            at += 12
        else:
            at += 8 + length + length % 2
    return at <= size + 1  # the last byte of padding may be missing


def _is_whole_flv(file: BinaryIO, size: int) -> bool:
    """Whether tags follow one another to the end, each followed by its length."""
    at, before = 9, 0
    while at < size:
        file.seek(at)
        head = file.read(15)
        if int.from_bytes(head[:4], "big") != before:
            return False
        if len(head) == 4:
            return True
        if len(head) < 15 or head[4] & 0x1F not in FLV_TAGS:
            return False
        before = 11 + int.from_bytes(head[5:8], "big")
        at += 4 + before
    return at == size  # without the last length


def _is_whole_asf(file: BinaryIO, size: int, start: bytes) -> bool:
    """Whether objects follow one another to the stated end."""
    at = start.index(ASF_FILE_PROPERTIES)
    stated, flags = (int.from_bytes(start[at + offset : at + offset + 8], "little") for offset in (40, 88))
    if flags & 1 or not stated:  # written as a broadcast: its sizes are not known
        return True
    at = 0
    while at + 24 <= stated <= size:
        file.seek(at)
        length = int.from_bytes(file.read(24)[16:], "little")
        if length < 24:
            return False
        at += length
    return at == stated  # data after the end does not count


def _is_whole_ts(file: BinaryIO, packet: int, sync: int, stream: int | None) -> bool:
    """Whether every packet begins correctly, and the counters of a stream's packets have no gap.

    A gap is allowed if a discontinuity is announced, or if the packet after the gap begins a key frame, as where two
    recordings were joined.
    """
    last, announced = -1, False
    while block := file.read(packet * 8192):
        packets = np.frombuffer(block, np.uint8).reshape(-1, packet)[:, sync:]
        if (packets[:, 0] != TS_SYNC).any():
            return False
        own = packets[((packets[:, 1].astype(np.int16) & 0x1F) << 8 | packets[:, 2]) == stream]
        carries = (own[:, 3] & 0x10) > 0
        jumps = ((own[:, 3] & 0x20) > 0) & (own[:, 4] > 0) & ((own[:, 5] & 0x80) > 0)
        announcements = np.cumsum(np.concatenate([[announced], jumps]))[1:]  # packets without content announce it too
        if not carries.any():
            announced = announced or bool(jumps.any())
            continue
        count, announcements = (own[:, 3] & 0x0F).astype(np.int16)[carries], announcements[carries]
        before = np.concatenate([[last if last >= 0 else (count[0] - 1) % 16], count[:-1]])
        free = np.diff(np.concatenate([[0], announcements])) > 0
        begins = ((own[:, 1] & 0x40) > 0) & ((own[:, 3] & 0x20) > 0) & (own[:, 4] > 0) & ((own[:, 5] & 0x40) > 0)
        free |= begins[carries]
        if (~free & (count != (before + 1) % 16) & (count != before)).any():  # a packet may come twice
            return False
        last, announced = int(count[-1]), bool(jumps[np.flatnonzero(carries)[-1] + 1 :].any())
    return True
