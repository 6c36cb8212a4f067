"""Videos and streams as players show them; every file is made here."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from threading import Thread

import av
import cv2
import numpy as np
import pytest

from lithepose.errors import ConfigError, VideoError
from lithepose.media.containers import is_damaged
from lithepose.media.inputs import Input, expand
from lithepose.media.sources import Failed, Frame, ReadConfig, frames
from lithepose.media.video import Video

FRAMES = 40
CODECS = {"mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "webm": "libvpx", "avi": "mjpeg", "ts": "libx264"}
CODECS |= {"flv": "flv", "wmv": "wmv2"}


def write(
    path, codec: str = "libx264", size: tuple[int, int] = (64, 48), options=None, aspect=None, images=None
) -> None:
    """A video of 10 frames a second; frame i is grey with 20 + 5 i, with noise so that it takes bytes."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for i in range(FRAMES):
            image = np.full((size[1], size[0], 3), 20 + 5 * i, np.uint8)
            image[:16, :16] = rng.integers(0, 255, (16, 16, 3))
            image = images(i) if images else image
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def read(path) -> list[Frame | Failed]:
    return list(frames(expand([str(path)])))


@pytest.mark.parametrize("suffix", CODECS)
def test_containers_are_read_whole_and_cut_ones_up_to_the_cut(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    write(path, CODECS[suffix])
    whole = read(path)
    assert [type(f) for f in whole] == [Frame] * FRAMES
    assert np.allclose([f.time for f in whole], np.arange(FRAMES) / 10, atol=2e-3)
    levels = [f.image[30:, 30:].mean() for f in whole]
    assert np.abs(np.array(levels) - (20 + 5 * np.arange(FRAMES))).max() < 6
    assert not is_damaged(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7) | 1])
    *before, end = read(path)
    assert isinstance(end, Failed)
    assert isinstance(end.error, VideoError)
    assert 0.3 * FRAMES < len(before) < FRAMES
    assert "ends early" in str(end.error)


def test_interlaced_material_has_no_combs(tmp_path):
    """A bar that moves by eight pixels a field: woven fields would alternate between two places row by row."""

    def fields(i: int) -> np.ndarray:
        image = np.full((96, 128, 3), 30, np.uint8)
        for parity in (0, 1):
            x = 4 + 8 * ((2 * i + parity) % 12)
            image[parity::2, x : x + 12] = 220
        return image

    path = tmp_path / "field.mkv"
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1:qp=1"}
    write(path, size=(128, 96), options=options, images=fields)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame, "the test needs an interlaced file"
    seen = read(path)
    assert [type(f) for f in seen] == [Frame] * FRAMES
    combs = [np.abs(np.diff(f.image[16:80, :, 0].astype(int), axis=0)).mean() for f in seen]
    woven = np.abs(np.diff(fields(3)[16:80, :, 0].astype(int), axis=0)).mean()
    assert max(combs) < woven / 4


@pytest.mark.parametrize(("aspect", "shown"), [("4/3", (85, 48)), ("1/2", (64, 96))])
def test_pixels_are_shown_square(tmp_path, aspect, shown):
    from fractions import Fraction

    path = tmp_path / "wide.mkv"
    write(path, aspect=Fraction(aspect))
    assert read(path)[0].image.shape[1::-1] == shown


def test_a_video_held_upright_is_upright(tmp_path):
    path = tmp_path / "phone.mp4"
    left_bright = np.full((48, 64, 3), 40, np.uint8)
    left_bright[:, :32] = 200
    write(path, images=lambda _: left_bright)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # matrix of the track header, version 0: turn by 90 degrees clockwise
    for place, value in enumerate((0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 48 << 16, 0, 1 << 30)):
        data[at + 4 * place : at + 4 * place + 4] = value.to_bytes(4, "big")
    path.write_bytes(data)
    image = read(path)[0].image
    assert image.shape == (64, 48, 3)
    assert image[:24].mean() > 150 > 100 > image[40:].mean()  # the left is above now


def test_times_of_raw_streams_rise(tmp_path):
    path = tmp_path / "raw.h264"
    write(path)
    times = [f.time for f in read(path)]
    assert len(times) == FRAMES
    assert all(b > a for a, b in pairwise(times))


def test_a_wrong_header_is_not_believed(tmp_path):
    path = tmp_path / "long.avi"
    write(path, "mjpeg")
    data = bytearray(path.read_bytes())
    at = data.index(b"avih") + 8 + 16  # total frames
    data[at : at + 4] = (5000).to_bytes(4, "little")
    path.write_bytes(data)
    assert [type(f) for f in read(path)] == [Frame] * FRAMES


def test_a_part_of_a_video(tmp_path):
    path = tmp_path / "clip.mp4"
    write(path, options={"g": "10"})
    some = list(frames(expand([str(path)]), ReadConfig(start=1.05, end=3.0, every=3)))
    assert [round(f.time, 3) for f in some] == pytest.approx(np.arange(1.1, 3.0, 0.3))
    for wrong in ({"every": 0}, {"start": -1}, {"start": 2, "end": 1}):
        with pytest.raises(ConfigError, match="must be"):
            ReadConfig(**wrong)


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(VideoError, match=r"text\.mp4: not a video that FFmpeg can read"):
        Video(str(tmp_path / "text.mp4"), "text.mp4")


class Camera(BaseHTTPRequestHandler):
    """An MJPEG camera that sends five frames and breaks off, or falls silent."""

    connections = count(1)
    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 120, np.uint8))[1].tobytes()

    def do_GET(self):
        number = next(self.connections)
        if "down" in self.path and number not in (1, 3):  # one to see what it is, a refusal, the stream, refusals
            return self.send_error(503)
        self.send_response(200)
        if "pic" in self.path:
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            return self.wfile.write(self.jpeg)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        head = b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.jpeg)
        for _ in range(5):
            try:
                self.wfile.write(head + self.jpeg + b"\r\n")
            except OSError:  # whoever only asked what it is has gone
                return None
            time.sleep(0.02)
        if "hang" in self.path:
            time.sleep(20)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def camera():
    Camera.connections = count(1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def first(count: int, address: str, **config: float) -> list[Frame | Failed]:
    found, stream = [], frames([Input(address, "live")], ReadConfig(**config))
    for frame in stream:
        found.append(frame)
        if len(found) == count:
            break
    stream.close()
    return found


def test_a_stream_that_breaks_off_goes_on_with_its_frame_numbers(camera, monkeypatch):
    monkeypatch.setattr("lithepose.media.sources.FIRST_PAUSE", 0.05)
    seen = first(12, f"{camera}/stream")
    assert [f.index for f in seen] == list(range(12))
    assert all(f.live for f in seen)
    times = [f.time for f in seen]
    assert times == sorted(times)


def test_a_stream_that_stays_away_is_given_up(camera, monkeypatch):
    monkeypatch.setattr("lithepose.media.sources.FIRST_PAUSE", 0.05)
    *seen, end = first(99, f"{camera}/down", reconnect=0.5)
    assert isinstance(end, Failed)
    assert "check that it exists" in str(end.error) or "ended after" in str(end.error)
    assert len(seen) >= 4
    *seen, end = first(99, f"{camera}/stream", reconnect=0)
    assert "ended after" in str(end.error) or "was interrupted" in str(end.error)


def test_a_silent_stream_is_noticed(camera, monkeypatch):
    monkeypatch.setattr("lithepose.media.video.SILENCE", 0.5)
    began = time.monotonic()
    *seen, end = first(99, f"{camera}/hang", reconnect=0)
    assert isinstance(end, Failed)
    assert len(seen) >= 4
    assert time.monotonic() - began < 10


def test_what_an_address_is_its_content_says(camera):
    (image,) = frames(expand([f"{camera}/pic"]))
    assert isinstance(image, Frame)
    assert (image.index, image.image.shape) == (None, (48, 64, 3))


def test_a_transport_stream_with_a_gap_is_reported(tmp_path):
    path = tmp_path / "clip.ts"
    write(path, "libx264")
    data = path.read_bytes()
    at = 188 * (len(data) // 188 // 2)
    path.write_bytes(data[:at] + data[at : at + 188] + data[at:])  # a packet may come twice
    assert not is_damaged(path, 256)
    path.write_bytes(data[:at] + data[at + 3 * 188 :])
    assert is_damaged(path, 256)
    assert not is_damaged(path, 300)  # of another stream
    assert isinstance(read(path)[-1], Failed)


def test_two_joined_recordings_are_whole(tmp_path):
    path = tmp_path / "clip.ts"
    write(path, "libx264")
    path.write_bytes(2 * path.read_bytes())
    assert [type(f) for f in read(path)] == [Frame] * 2 * FRAMES


def test_the_start_of_a_transport_stream_is_found(tmp_path):
    path = tmp_path / "clip.ts"
    write(path, "libx264")
    found = list(frames(expand([str(path)]), ReadConfig(start=1.0)))
    assert [type(f) for f in found] == [Frame] * (FRAMES - 10)
    assert found[0].time == pytest.approx(1.0, abs=2e-3)


def test_what_lies_behind_a_wmv_is_no_damage(tmp_path):
    path = tmp_path / "clip.wmv"
    write(path, "wmv2")
    path.write_bytes(path.read_bytes() + bytes(100))
    assert [type(f) for f in read(path)] == [Frame] * FRAMES


def test_a_trimmed_clip_is_whole(tmp_path):
    path = tmp_path / "clip.mp4"
    write(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # duration shown, and from where
    shown, start = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
    data[at : at + 8] = (shown // 2).to_bytes(4, "big") + (start + 10240).to_bytes(4, "big")
    path.write_bytes(data)
    found = read(path)
    assert [type(f) for f in found] == [Frame] * (FRAMES // 2)
    assert found[0].time == 0
