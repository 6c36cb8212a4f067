"""Damaged images, videos and annotations: never a crash, a hang or a silent loss.

A tenth of the cases by default; all of them by ``make fuzz``.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_video import CODECS, FRAMES, write

from lithepose.data.coco import KeypointSet
from lithepose.errors import LitheposeError
from lithepose.media.image import decode_image
from lithepose.media.inputs import expand
from lithepose.media.sources import Failed, Frame, frames

SHARE = float(os.environ.get("LITHEPOSE_FUZZ", "0.1"))
IMAGES, VIDEOS, ANNOTATIONS = (round(SHARE * full) for full in (1000, 200, 200))

# Damages without a trace: an edit list that shows less of a MOV, the end of a stream of whole packets.
UNMARKED = {"mov", "ts"}
TIMEOUT = 600  # seconds of one test, after which it hangs


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Ends the process with a traceback."""
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three damages: bytes changed, a block zeroed, removed, doubled, or everything after some place cut off."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(1, len(changed))))
        length = int(rng.integers(1, max(2, len(changed) // 8)))
        kind = rng.integers(0, 6)
        if kind == 0:
            for place in rng.integers(0, max(1, len(changed)), min(8, len(changed))):
                changed[place] = int(rng.integers(0, 256))
        elif kind == 1:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            del changed[at:]
        elif changed:
            changed[at % min(64, len(changed))] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def images() -> list[bytes]:
    """One of every kind."""
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 4), np.uint8)
    encoded = [
        cv2.imencode(suffix, picture[..., :channels])[1].tobytes()
        for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm", ".jp2", ".avif")
        for channels in ((3, 4) if suffix in (".png", ".webp", ".tiff") else (3,))
    ]
    for kind, options in (("JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}), ("GIF", {}), ("PNG", {"bits": 2})):
        buffer = io.BytesIO()
        Image.fromarray(picture[..., :3]).save(buffer, kind, **options)
        encoded.append(buffer.getvalue())
    return encoded


def test_images() -> None:
    rng, whole, seen = np.random.default_rng(1), images(), Counter[str]()
    for i in range(IMAGES):
        try:
            image = decode_image(mutated(whole[i % len(whole)], rng))
        except LitheposeError:
            seen["refused"] += 1
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            seen["read"] += 1
    assert min(seen["read"], seen["refused"]) > IMAGES // 20


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations(tmp_path: Path, kind: str) -> None:
    rng, seen, count, buffer = np.random.default_rng(4), Counter[str](), 6, io.BytesIO()
    first, *others = (Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)) for _ in range(count))
    first.save(buffer, kind, save_all=True, append_images=others, duration=100)
    path = tmp_path / f"clip.{kind.lower()}"
    for _ in range(-(-IMAGES // 10)):
        path.write_bytes(mutated(buffer.getvalue(), rng))
        read = list(frames(expand([str(path)])))
        failed = sum(isinstance(item, Failed) for item in read)
        times = [item.time for item in read if isinstance(item, Frame) and item.time is not None]
        assert times == sorted(times)
        assert failed <= 1
        assert read
        seen["failed" if failed else "read"] += 1
        seen["short"] += not failed and len(read) < count
    assert seen["failed"]
    # A changed byte can make two images of one, or one the last; that is what the file then says.
    assert seen["short"] <= seen["failed"]


@pytest.mark.parametrize("suffix", CODECS)
def test_videos(tmp_path: Path, suffix: str) -> None:
    path, rng, seen = tmp_path / f"clip.{suffix}", np.random.default_rng(2), Counter[str]()
    write(path, CODECS[suffix])
    data = path.read_bytes()
    for _ in range(-(-VIDEOS // len(CODECS))):
        path.write_bytes(mutated(data, rng))
        read = list(frames(expand([str(path)])))
        failed = [item for item in read if isinstance(item, Failed)]
        shown = [item for item in read if not isinstance(item, Failed)]
        times = [frame.time for frame in shown]
        assert times == sorted(times)
        assert len(failed) <= 1
        assert len(shown) >= FRAMES or failed or suffix in UNMARKED, f"{FRAMES - len(shown)} frames lost in silence"
        seen["failed" if failed else "read"] += 1
    assert seen["failed"]


def annotations() -> dict:
    joints = [f"joint {i}" for i in range(17)]
    person = {
        "category_id": 1,
        "keypoints": [10, 10, 2] * 17,
        "bbox": [1, 2, 30, 40],
        "area": 1200,
    }
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(4)],
        "annotations": [{"id": i, "image_id": i % 4, "iscrowd": 0, **person} for i in range(8)],
        "categories": [{"id": 1, "name": "person", "keypoints": joints, "skeleton": [[1, 2]]}],
    }


def changed_values(data: dict, rng: np.random.Generator) -> bytes:
    """Well-formed json whose values or keys are not what they should be."""
    others = [None, -1, 0, 1e300, "x", "", [], {}, [1], True, float("nan"), 2**70]
    parts = [data, *data["images"], *data["annotations"], *data["categories"]]
    for _ in range(rng.integers(1, 4)):
        part = parts[rng.integers(0, len(parts))]
        key = list(part)[rng.integers(0, len(part))] if part else ""
        if rng.integers(0, 3) == 0:
            part.pop(key, None)
        else:
            part[key] = others[rng.integers(0, len(others))]
    return json.dumps(data).encode()


def test_annotations(tmp_path: Path) -> None:
    rng, seen = np.random.default_rng(3), Counter[str]()
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.zeros((48, 64, 3), np.uint8))
    path = tmp_path / "people.json"
    for i in range(ANNOTATIONS):
        path.write_bytes(
            mutated(json.dumps(annotations()).encode(), rng) if i % 2 else changed_values(annotations(), rng)
        )
        try:
            people = KeypointSet.open(path, "", images=(tmp_path,))
        except LitheposeError as error:
            seen["refused" if "people.json" in str(error) else "refused without a name"] += 1
        else:
            for person in (person for record in people.records for person in record.people):
                assert np.isfinite([*person["keypoints"], *person["bbox"], person["area"]]).all()
            seen["read"] += 1
    assert min(seen["read"], seen["refused"]) > ANNOTATIONS // 20
    assert not seen["refused without a name"]
