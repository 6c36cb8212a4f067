from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import lithepose
from lithepose.cli import main
from lithepose.media.inputs import expand
from lithepose.media.sources import Frame, frames
from lithepose.writers.images import write_image
from lithepose.writers.video import VideoWriter

SAMPLES = Path(lithepose.__file__).parent / "samples"
links = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets only administrators make links")


@pytest.fixture
def record(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    return Path(shutil.copy(SAMPLES / "astronaut.jpg", tmp_path / "images" / "a.jpg"))


@links
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("looked_at", ["the image", "the link"])
def test_a_image_is_not_written_over_through_a_link(record, tmp_path, link, looked_at):
    out = tmp_path / "out"
    out.mkdir()
    link(record, out / "a.jpg")
    before = record.read_bytes()
    source = record if looked_at == "the image" else out / "a.jpg"
    assert main(["predict", str(source), "--out", str(out), "--size", "128"]) == 0
    assert record.read_bytes() == before
    assert (out / "a-2.jpg").exists()


def test_images_without_boxes_are_not_written_over(record, tmp_path):
    (tmp_path / "other").mkdir()
    other = shutil.copy(SAMPLES / "camera.jpg", tmp_path / "other" / "a.jpg")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({str(other): []}))
    before = record.read_bytes()
    call = [
        "predict",
        str(record),
        str(other),
        "--model",
        "split_stream",
        "--boxes",
        str(boxes),
        "--out",
        record.parent,
    ]
    assert main(list(map(str, call))) == 1
    assert record.read_bytes() == before


def test_a_format_without_colours_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"x\.pbm: a \.pbm file cannot contain a colour image of 8x6 pixels"):
        write_image(tmp_path / "x.pbm", np.zeros((6, 8, 3), np.uint8))


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names there")
def test_videos_named_by_the_time_of_day(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter("12:30:05.mp4", 25.0) as video:
        for shade in range(5):
            video.write(np.full((32, 32, 3), 40 * shade, np.uint8))
    found = list(frames(expand(["12:30:05.mp4"])))
    assert [frame.index for frame in found if isinstance(frame, Frame)] == list(range(5))
    assert len(found) == 5


def test_an_unknown_code_in_a_title_does_not_matter(tmp_path):
    path = tmp_path / "old.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 32))
    for shade in range(5):
        writer.write(np.full((32, 32, 3), 40 * shade, np.uint8))
    writer.release()
    data = path.read_bytes()
    at = data.index(b"movi") - 8  # a list of what the film is about, before the frames
    title = b"INAM" + (8).to_bytes(4, "little") + b"M\xfc\xe9ller\0"
    told = b"LIST" + (len(title) + 4).to_bytes(4, "little") + b"INFO" + title
    size = int.from_bytes(data[4:8], "little") + len(told)
    path.write_bytes(data[:4] + size.to_bytes(4, "little") + data[8:at] + told + data[at:])
    found = list(frames(expand([str(path)])))
    assert [isinstance(frame, Frame) for frame in found] == [True] * 5
