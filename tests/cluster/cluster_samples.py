"""What the tests of a cluster share: small images, a video with key frames, results of `predict` to compare with."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from lithepose.cli import main
from lithepose.writers.resume import read_results

ENGINE = ("--runtime", "onnx")


@pytest.fixture
def people(tmp_path, monkeypatch, astronaut) -> Path:
    """A folder of small images, below the current folder."""
    monkeypatch.chdir(tmp_path)
    return images_of(astronaut, tmp_path / "images")


def images_of(astronaut: np.ndarray, folder: Path) -> Path:
    """Five small images and a file that is none."""
    folder.mkdir()
    for i in range(6):
        window = astronaut[10 * i : 400, 8 * i : 500]
        cv2.imwrite(str(folder / f"{i}.jpg"), cv2.resize(window, (160, 128), interpolation=cv2.INTER_AREA)[..., ::-1])
    (folder / "3.jpg").write_bytes(b"no image")
    return folder


def tar_of(folder: Path, path: Path) -> Path:
    """A WebDataset of a folder's images, with texts beside them."""
    with tarfile.open(path, "w") as tar:
        for image in sorted(folder.glob("*.jpg")):
            tar.add(image, image.name)
            text = tarfile.TarInfo(f"{image.stem}.json")
            text.size = 2
            tar.addfile(text, io.BytesIO(b"{}"))
    return path


def video_of(astronaut: np.ndarray, path: Path, frames: int = 40) -> Path:
    """Two people who slide past each other and out of the image; key frames every 12 frames, and frames in between
    that need later ones."""
    person = cv2.resize(astronaut[:, 90:400], (95, 155))
    ground = np.random.default_rng(0).integers(60, 120, (9, 16, 3)).astype(np.uint8)
    ground = cv2.resize(ground, (320, 180))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "12", "bf": "2", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for t in range(frames):
            frame = ground.copy()
            for x, turn in ((-60 + 8 * t, 1), (250 - 9 * t, -1)):
                left, right = max(x, 0), min(x + 95, 320)
                if right > left:
                    frame[20:175, left:right] = person[:, ::turn][:, left - x : right - x]
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def predicted(*arguments: str) -> list[tuple]:
    """Rows of `predict`."""
    main(["predict", *arguments, "--json", "reference.jsonl", "--threads", "1", "--overwrite", "-q", *ENGINE])
    return rows(Path("reference.jsonl"))


def rows(path: Path) -> list[tuple]:
    """(source, frame, time, people) of a result, sorted."""
    found = [(p.source, p.index, p.time, str(poses.to_dict())) for p, poses in read_results(path)]
    return sorted(found, key=lambda row: (row[0], row[1] or 0))
