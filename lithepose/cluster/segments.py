"""Videos in parts: where a video may be cut, and the people of one part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from ..errors import VideoError
from ..media.sources import Frame
from ..media.video import Video
from ..poses import Poses
from .work import WHOLE, Segment

INDEXED = ("mp4", "matroska")  # containers with exact seeking


def cut(path: str, seconds: float, every: int) -> list[Segment]:
    """Parts of a video that begin at key frames, or at most ``every - 1`` frames after one.

    The number of the first frame of each part is a multiple of ``every``. The person detector always runs on such a
    frame, so the people of a part do not depend on earlier parts. A video stays whole if its container has no index, if
    frames have no times, or if it needs a filter with a memory, as interlaced video does.

    Args:
        path: path of the file.
        seconds: least duration of a part.
        every: frames between two detections.
    """
    try:
        with av.open(path, metadata_errors="replace") as container:
            stream: Any = container.streams.video[0]
            if not any(name in container.format.name for name in INDEXED):
                return [WHOLE]
            first = next(container.decode(stream), None)
            if first is None or first.interlaced_frame:
                return [WHOLE]
            container.seek(0)
            packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
            base, origin = stream.time_base, stream.start_time or 0
    except (FFmpegError, OSError, IndexError, ValueError):
        return [WHOLE]  # reading it whole reports what is wrong
    if any(packet.pts is None for packet in packets):
        return [WHOLE]
    shown = sorted(packet.pts for packet in packets)
    keys = sorted(packet.pts for packet in packets if packet.is_keyframe)
    if not shown or len(set(shown)) < len(shown) or shown[0] != origin:
        return [WHOLE]
    number, starts, before = {pts: i for i, pts in enumerate(shown)}, [0], shown[0]
    for key in keys:
        at = -(-number[key] // every) * every
        if at < len(shown) and at > starts[-1] and (key - before) * base >= seconds:
            starts.append(at)
            before = key
    ends = [*starts[1:], len(shown)]
    times = [float(shown[at] * base) - float(origin * base) if at else 0.0 for at in starts]
    return [Segment(*part) for part in zip(starts, ends, times, strict=True)]


class UncutError(Exception):
    """A part does not hold the frames that its container listed, so the video must be read in one piece."""


def frames_of_segment(path: str, name: str, segment: Segment) -> Iterator[Frame]:
    """The frames of a part, numbered as in the video.

    Args:
        path: path of the file.
        name: name of the video in results.
        segment: the part.

    Raises:
        VideoError: a whole video cannot be read further.
        UncutError: a part has other frames than planned, or cannot be read.
    """
    index = segment.first
    try:
        with Video(path, name, segment.start) as video:
            for image, seconds in video:
                if index == segment.end:
                    if not video.intact:
                        raise UncutError
                    return
                yield Frame(image, name, index, seconds, video.rate)
                index += 1
    except VideoError as error:
        if segment == WHOLE:
            raise
        raise UncutError from error
    if segment.end is not None and index != segment.end:
        raise UncutError


FIELDS = ("index", "time", "rate", "size", "people", "xy", "score", "person_score", "box")
CHUNK = 500  # frames that are written, and read again, at once


def save(file: Any, found: Iterator[tuple[Frame, Poses]]) -> None:
    """Write the people of frames in full precision, as arrays one after the other.

    Args:
        file: open for writing bytes.
        found: frames and their people; all with boxes, or all without.
    """
    for chunk in _batched(found):
        frames, poses = [frame for frame, _ in chunk], [people for _, people in chunk]
        joints = len(poses[0].skeleton)
        boxes = [people.box if people.box is not None else np.full((len(people), 4), np.nan) for people in poses]
        arrays = {
            "index": np.array([frame.index for frame in frames], np.int64),
            "time": np.array([frame.time for frame in frames], np.float64),
            "rate": np.array([frame.rate or 0.0 for frame in frames], np.float64),
            "size": np.array([people.size for people in poses], np.int64),
            "people": np.array([len(people) for people in poses], np.int64),
            "xy": np.concatenate([people.xy for people in poses]).reshape(-1, joints, 2),
            "score": np.concatenate([people.score for people in poses]).reshape(-1, joints),
            "person_score": np.concatenate([people.person_score for people in poses]),
            "box": np.concatenate(boxes).reshape(-1, 4),
        }
        for field in FIELDS:
            np.save(file, arrays[field], allow_pickle=False)


def _batched(items: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, CHUNK)):
        yield chunk


def saved(file: Any, name: str, make: Callable[..., Poses]) -> Iterator[tuple[Frame, Poses]]:
    """Read what :func:`save` wrote; the frames have no images.

    Args:
        file: open for reading bytes.
        name: name of the video.
        make: makes Poses from xy, score, person_score, size (width, height) and box.
    """
    nothing = np.zeros((0, 0, 3), np.uint8)
    while True:
        try:
            arrays = {field: np.load(file, allow_pickle=False) for field in FIELDS}
        except EOFError:
            return
        ends = np.cumsum(arrays["people"]).tolist()
        for i, (end, count) in enumerate(zip(ends, arrays["people"].tolist(), strict=True)):
            xy, score, person_score, box = (
                arrays[field][end - count : end] for field in ("xy", "score", "person_score", "box")
            )
            width, height = arrays["size"][i].tolist()
            frame = Frame(nothing, name, int(arrays["index"][i]), float(arrays["time"][i]), float(arrays["rate"][i]))
            yield frame, make(xy, score, person_score, (width, height), None if np.isnan(box).any() else box)
