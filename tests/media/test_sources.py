from __future__ import annotations

import json
import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import cv2
import numpy as np
import pytest
from conftest import write_video

from lithepose.cli.calls.files import check_output
from lithepose.inference.estimator import _makes_way as makes_way
from lithepose.media.inputs import Input, expand, shown
from lithepose.media.sources import Failed, Frame, frames
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17
from lithepose.writers.images import ImageSink
from lithepose.writers.results import open_results
from lithepose.writers.video import VideoWriter

SIZE = (64, 48)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def levels(path) -> list[int]:
    return [round((f.image.mean() - 20) / 10) for f in frames(expand([str(path)])) if isinstance(f, Frame)]


@pytest.fixture
def folder(tmp_path):
    for name in ("b10.png", "b2.png", "a.JPG"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "sub").mkdir()
    cv2.imwrite(str(tmp_path / "sub" / "c.png"), np.zeros((4, 4, 3), np.uint8))
    return tmp_path


def test_folders_and_patterns_in_natural_order(folder):
    assert [i.source for i in expand([str(folder)])] == [str(folder / n) for n in ("a.JPG", "b2.png", "b10.png")]
    assert [i.source for i in expand([str(folder / "b*.png")])] == [str(folder / n) for n in ("b2.png", "b10.png")]
    assert len(expand([str(folder / "**" / "*.png")])) == 3


def test_kinds_of_sources(folder):
    kinds = [i.kind for i in expand(["0", "rtsp://host/stream", str(folder / "b2.png")])]
    assert kinds == ["live", "live", "image"]
    for missing in ("gone.jpg", "gone*.jpg", "sub/*.jpg"):
        with pytest.raises(FileNotFoundError, match=r"gone|sub"):
            expand([str(folder / missing)])
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty"):
        expand([str(folder / "empty")])


def test_a_file_that_vanishes_or_breaks_does_not_stop_the_others(folder):
    found = expand([str(folder)])
    (folder / "a.JPG").unlink()
    (folder / "b2.png").write_bytes(b"broken")
    first, second, third = frames(found)
    assert isinstance(first, Failed)
    assert isinstance(second, Failed)
    assert "b2.png" in str(second.error)
    assert isinstance(third, Frame)


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_a_video_comes_back_frame_by_frame(tmp_path, size):
    path = tmp_path / "clip.mp4"
    write_video(path, 12, size)
    seen = list(frames(expand([str(path)])))
    assert [f.index for f in seen] == list(range(12))
    assert np.allclose([f.time for f in seen], np.arange(12) / 10, atol=1e-3)
    assert seen[0].image.shape == (size[1] // 2 * 2, size[0] // 2 * 2, 3)
    assert levels(path) == list(range(12))


def test_a_stream_by_its_address(tmp_path):
    write_video(tmp_path / "clip.mp4", 6)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/clip.mp4"
    seen = list(frames(expand([address])))
    assert [f.index for f in seen] == list(range(6))
    times = [f.time for f in seen]
    assert times == sorted(times)
    sink = ImageSink(tmp_path / "drawn")
    for frame in seen:
        name = sink.write(frame, frame.image).name
    sink.close()
    assert name == f"127-0-0-1-{server.server_port}-clip-mp4.mp4"
    server.shutdown()
    server.server_close()
    (gone,) = frames(expand([address]))
    assert isinstance(gone, Failed)
    assert address in str(gone.error)


def test_passwords_of_streams_are_not_shown():
    (gone,) = frames(expand(["rtsp://me:secret@127.0.0.1:9/cam"]))
    assert isinstance(gone, Failed)
    assert "secret" not in gone.source + str(gone.error)
    assert "127.0.0.1:9/cam" in gone.source


@pytest.mark.parametrize(
    ("address", "as_shown"),
    [
        ("rtsp://h/user=admin&password=secret", "rtsp://h/..."),
        ("rtsp://me:se/secret@h:1/a", "rtsp://h:1/a"),
        ("http://h/a/live?token=secret", "http://h/a/live"),
        ("a=b&c.jpg", "a=b&c.jpg"),
    ],
)
def test_secrets_of_addresses(address, as_shown):
    assert shown(address) == as_shown


def test_what_exists_is_a_path_whatever_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "2024").mkdir()
    (folder / "2024" / "x.png").write_bytes((folder / "b2.png").read_bytes())
    (folder / "2024" / "._x.png").write_bytes(b"left by macOS")
    (folder / "8").write_bytes((folder / "b2.png").read_bytes())
    assert [(i.kind, i.source) for i in expand(["2024", "8", "9"])] == [
        ("image", str(Path("2024", "x.png"))),
        ("image", "8"),
        ("live", "9"),
    ]
    for path in ("C://x.jpg", "12345"):
        with pytest.raises(FileNotFoundError, match=path):
            expand([path])


def test_a_file_of_unknown_suffix_is_tried_as_both(tmp_path):
    write_video(tmp_path / "clip.mp4", 3)
    (tmp_path / "clip").write_bytes((tmp_path / "clip.mp4").read_bytes())
    assert [f.index for f in frames(expand([str(tmp_path / "clip")]))] == [0, 1, 2]
    (tmp_path / "notes").write_text("neither")
    (failed,) = frames(expand([str(tmp_path / "notes")]))
    assert isinstance(failed, Failed)
    assert "not an image" in str(failed.error)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_sound_longer_than_the_video_is_no_damage(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(10):
            image = np.full((48, 64, 3), 20 * i, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for i in range(60):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 16000, 1600 * i
            container.mux(audio.encode(samples))
        container.mux(video.encode())
        container.mux(audio.encode())
    seen = list(frames(expand([str(path)])))
    assert [type(f) for f in seen] == [Frame] * 10


def test_a_camera_that_ends_by_itself_is_named(monkeypatch):
    class Ended:
        def __init__(self, number):
            self.left = 2

        isOpened = lambda self: True  # noqa: E731, N815
        get = lambda self, _: 10.0  # noqa: E731
        release = lambda self: None  # noqa: E731

        def read(self):
            self.left -= 1
            return self.left >= 0, np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Ended)
    one, two, end = frames(expand(["0"]))
    assert (one.index, two.index) == (0, 1)
    assert isinstance(end, Failed)
    assert "ended after 2 frames" in str(end.error)


def test_a_video_that_cannot_be_finished_is_kept_as_a_failure(tmp_path, monkeypatch):
    sink, image = ImageSink(tmp_path), np.zeros((48, 64, 3), np.uint8)
    sink.write(Frame(image, "v.mp4", 0, 0.0, 10.0), image)

    def full(self):
        raise OSError("no space")

    monkeypatch.setattr(VideoWriter, "close", full)
    sink.close()
    assert "no space" in sink.failures["v.mp4"]


def test_names_that_differ_in_case_alone_are_numbered(tmp_path):
    sink, image = ImageSink(tmp_path), np.zeros((4, 4, 3), np.uint8)
    assert [sink.write(Frame(image, s), image).name for s in ("a/X.png", "b/x.png")] == ["X.png", "x-2.png"]


def test_openpose_files_of_an_earlier_run_make_way(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    nobody = Poses.empty(COCO_17, (4, 4))
    for count in (5, 2):
        file = open_results(tmp_path, "openpose")
        for i in range(count):
            file.write(Frame(image, "v.mp4", i, i / 10, 10.0), nobody)
        file.write(Frame(image, "v_other.png"), nobody)
        file.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "v_000000000000_keypoints.json",
        "v_000000000001_keypoints.json",
        "v_other_keypoints.json",
    ]


def test_coco_numbers_are_never_given_twice(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    one = Poses(np.ones((1, 17, 2), "f4"), np.ones((1, 17), "f4"), np.ones(1, "f4"), COCO_17, (4, 4))
    file = open_results(tmp_path / "r.json", "coco")
    sources = ["000002.jpg", "a.jpg", *["v.mp4"] * 4, "000003.jpg", "9.jpg", *["w.mp4"] * 5, "b.jpg"]
    for i, source in enumerate(sources):
        file.write(Frame(image, source, i if source.endswith("mp4") else None), one)
    file.close()
    ids = [r["image_id"] for r in json.loads((tmp_path / "r.json").read_text())]
    assert len(set(ids)) == len(sources)
    assert (ids[0], ids[7]) == (2, 9)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_are_lines_or_one_list_by_the_name_of_their_file(tmp_path, count):
    image = np.zeros((4, 4, 3), np.uint8)
    for name in ("r.json", "r.jsonl"):
        file = open_results(tmp_path / name)
        for i in range(count):
            file.write(Frame(image, f"{i}.png"), Poses.empty(COCO_17, (4, 4)))
        file.close()
    listed = json.loads((tmp_path / "r.json").read_text())
    assert [item["source"] for item in listed] == [f"{i}.png" for i in range(count)]
    assert listed == [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("format", ["lithepose", "csv", "coco"])
def test_a_full_disk_is_told_with_the_name_of_the_file(format):
    image = np.zeros((4, 4, 3), np.uint8)
    one = Poses(np.ones((1, 17, 2), "f4"), np.ones((1, 17), "f4"), np.ones(1, "f4"), COCO_17, (4, 4))
    file = open_results("/dev/full", format)
    for call in (lambda: file.write(Frame(image, "a.png"), one), file.close):
        with pytest.raises(OSError, match=r"/dev/full: cannot be written .*; free disk space"):
            call()


@pytest.mark.parametrize("format", ["lithepose", "coco"])
def test_what_did_not_fit_at_first_leaves_a_whole_list(tmp_path, format, monkeypatch):
    image = np.zeros((4, 4, 3), np.uint8)
    one = Poses(np.ones((1, 17, 2), "f4"), np.ones((1, 17), "f4"), np.ones(1, "f4"), COCO_17, (4, 4))
    file = open_results(tmp_path / "r.json", format)
    for i in range(3):
        with monkeypatch.context() as patch:
            if not i:
                file._open()
                patch.setattr(file, "_file", _Full(file._file))
                with pytest.raises(OSError, match=r"r\.json: cannot be written \(No space"):
                    file.write(Frame(image, f"{i}.png"), one)
                continue
            file.write(Frame(image, f"{i}.png"), one)
    file.close()
    assert len(json.loads((tmp_path / "r.json").read_text())) == 3


class _Full:
    """A file on a disk that is full: what is written stays in the buffer."""

    def __init__(self, file):
        self.file = file

    def write(self, text):
        self.file.write(text)

    def flush(self):
        raise OSError(28, "No space left on device")


def test_where_results_may_go_is_found_out_without_a_trace(tmp_path):
    kept, new, link = (tmp_path / name for name in ("kept.csv", "new.csv", "link.csv"))
    kept.write_text("earlier\n")
    link.symlink_to(tmp_path / "nowhere.csv")
    for path in (kept, new, link):
        check_output(path, "--out")
    assert kept.read_text() == "earlier\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept.csv", "link.csv"]
    os.mkfifo(tmp_path / "pipe")
    check_output(tmp_path / "pipe", "--out")
    with pytest.raises(ValueError, match="is a folder"):
        check_output(tmp_path, "--out")
    with pytest.raises(OSError, match=r"none: no such folder; create it, or choose another --json"):
        check_output(tmp_path / "none" / "x.json", "--json")


def test_a_image_too_long_for_its_format_is_named(tmp_path):
    frame = Frame(np.zeros((1, 70000, 3), np.uint8), "long.jpg")
    with pytest.raises(OSError, match=r"long\.jpg"):
        ImageSink(tmp_path).write(frame, frame.image)


def test_uneven_frame_times_are_kept(tmp_path):
    path, times = tmp_path / "uneven.mp4", [0.0, 0.1, 0.5, 0.6, 1.4]
    with VideoWriter(path, 10) as video:
        for i, time in enumerate(times):
            video.write(np.full((48, 64, 3), 20 + 10 * i, np.uint8), time)
    seen = [f for f in frames(expand([str(path)])) if isinstance(f, Frame)]
    assert np.allclose([f.time for f in seen], times, atol=1e-3)


def test_a_damaged_video_gives_what_it_has_and_is_named(tmp_path):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE)
    for i in range(40):
        writer.write(np.random.default_rng(i).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = list(frames(expand([str(path)])))
    assert isinstance(seen[-1], Failed)
    assert "cut.avi" in str(seen[-1].error)
    assert 0 < len(seen) - 1 < 40
    (tmp_path / "text.mp4").write_text("not a video")
    (failed,) = frames(expand([str(tmp_path / "text.mp4")]))
    assert isinstance(failed, Failed)
    assert "text.mp4" in str(failed.error)


def test_images_of_one_name_are_numbered_and_sources_kept(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    source = tmp_path / "x.png"
    cv2.imwrite(str(source), image)
    before = source.read_bytes()
    sink = ImageSink(tmp_path, [source])
    names = [sink.write(Frame(image, s), image).name for s in (str(source), "other/x.png", "x.tif")]
    assert names == ["x-2.png", "x-3.png", "x.jpg"]
    assert source.read_bytes() == before


def test_two_videos_become_two_files(tmp_path):
    sink = ImageSink(tmp_path)
    image = np.zeros((48, 64, 3), np.uint8)
    for source in ("a/v.mp4", "b/v.mp4"):
        for i in range(3):
            sink.write(Frame(image, source, i, i / 10, 10.0), image)
    sink.close()
    assert len(levels(tmp_path / "v.mp4")) == len(levels(tmp_path / "v-2.mp4")) == 3


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="xml"):
        open_results(tmp_path / "x.xml", "xml")


def test_a_film_at_an_address_loses_no_frames_and_a_camera_its_old_ones(tmp_path):
    write_video(tmp_path / "clip.mp4", 8)
    film = list(frames([Input(str(tmp_path / "clip.mp4"), "video")]))
    assert [f.live for f in film if isinstance(f, Frame)] == [False] * 8
    image = np.zeros((4, 4, 3), np.uint8)
    old, new = (Frame(image, "0", index, 0.1, 30.0, live=True) for index in (3, 4))
    assert makes_way((old, None), (new, None))
    assert not makes_way((old, None), (Frame(image, "1", 4, 0.1, 30.0, live=True), None))
    assert not makes_way((film[0], None), (film[1], None))
    assert not makes_way((Failed("0", OSError("gone")), None), (new, None))


@pytest.mark.parametrize(
    "address", ["http://localhost:x/p.jpg", "http://localhost:9/my image.jpg", "http://localhost:9/ü.jpg"]
)
def test_an_odd_address_is_a_failure_like_others(address):
    (failed,) = frames(expand([address]))
    assert isinstance(failed, Failed)
    assert "cannot be fetched" in str(failed.error)
    assert "ascii" not in str(failed.error)


def test_addresses_that_differ_in_the_query_alone_have_names_of_their_own():
    one, two, again = (f"rtsp://user:secret@cam/live?channel={number}" for number in (1, 2, 1))
    found = expand([one, two, again, "0"])
    assert [item.name for item in found] == ["rtsp://cam/live", "rtsp://cam/live (2)", "rtsp://cam/live", "0"]
    assert [item.source for item in found] == [one, two, again, "0"]
