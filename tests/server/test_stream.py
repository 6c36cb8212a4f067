"""Streams of frames, with a stub in the model's place."""

import threading
import time

import pytest
from starlette.websockets import WebSocketDisconnect
from stub import Stub, encoded, start  # noqa: F401

from lithepose.server import stream as module


def test_people_keep_their_ids(start):
    with start().websocket_connect("ws://127.0.0.1:8000/v1/stream") as socket:
        for number in range(3):
            socket.send_bytes(encoded(suffix=".jpg"))
            answer = socket.receive_json()
            assert answer["frame"] == number
            assert answer["dropped"] == 0
            assert answer["milliseconds"] >= 0
            assert answer["people"][0]["id"] == 1


def test_every_stream_has_ids_of_its_own(start):
    client = start()
    for _ in range(2):
        with client.websocket_connect("ws://127.0.0.1:8000/v1/stream?smooth=1") as socket:
            socket.send_bytes(encoded())
            assert socket.receive_json()["people"][0]["id"] == 1


def test_the_newest_frame_wins(start):
    model = Stub()
    model.gate.clear()
    with start(model).websocket_connect("ws://127.0.0.1:8000/v1/stream") as socket:
        for value in (10, 20, 30, 40):
            socket.send_bytes(encoded((value,) * 3))
            time.sleep(0.1)
        model.gate.set()
        first, second = socket.receive_json(), socket.receive_json()
    assert (first["frame"], first["dropped"]) == (0, 0)
    assert (second["frame"], second["dropped"]) == (3, 2)
    assert second["people"][0]["joints"]["nose"][0] == 40


@pytest.mark.parametrize(
    ("frame", "status"),
    [(b"", 422), (b"hello", 415), (encoded()[:60], 422), ("text", 400), (encoded(size=(300, 300)), 413)],
)
def test_a_bad_frame_is_answered_and_the_stream_goes_on(start, frame, status):
    with start(max_pixels=50_000).websocket_connect("ws://127.0.0.1:8000/v1/stream") as socket:
        socket.send_text(frame) if isinstance(frame, str) else socket.send_bytes(frame)
        assert socket.receive_json()["error"]["status"] == status
        socket.send_bytes(encoded())
        assert len(socket.receive_json()["people"]) == 1


def test_thresholds(start):
    client = start()
    with client.websocket_connect("ws://127.0.0.1:8000/v1/stream?threshold=0.6") as socket:
        socket.send_bytes(encoded())
        assert socket.receive_json()["people"][0]["joints"]["nose"][2] == 0.6
    for wrong in ("x", "2", "nan"):
        with client.websocket_connect(f"ws://127.0.0.1:8000/v1/stream?threshold={wrong}") as socket:
            assert "threshold" in socket.receive_json()["error"]["message"]


def test_who_may_open_a_stream(start):
    with start().websocket_connect(
        "ws://127.0.0.1:8000/v1/stream", headers={"Origin": "http://127.0.0.1:8000"}
    ) as socket:
        socket.send_bytes(encoded())
        assert socket.receive_json()["people"]
    with (
        pytest.raises(WebSocketDisconnect),
        start().websocket_connect("ws://127.0.0.1:8000/v1/stream", headers={"Origin": "http://evil"}),
    ):
        pass
    client = start(token="a-token-of-the-server")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://127.0.0.1:8000/v1/stream"):
        pass
    with client.websocket_connect(
        "ws://127.0.0.1:8000/v1/stream", subprotocols=["bearer.a-token-of-the-server"]
    ) as socket:
        socket.send_bytes(encoded())
        assert socket.receive_json()["people"]


def test_a_quiet_stream_is_closed(start, monkeypatch):
    monkeypatch.setattr(module, "QUIET", 0.2)
    client = start()
    with client.websocket_connect("ws://127.0.0.1:8000/v1/stream") as socket, pytest.raises(WebSocketDisconnect):
        socket.receive_json()
    assert "lithepose_streams 0.0" in client.get("/metrics").text


def test_clients_that_go_away_leave_nothing_behind(start):
    model = Stub()
    client = start(model)
    before = threading.active_count()
    for _ in range(20):
        with client.websocket_connect("ws://127.0.0.1:8000/v1/stream") as socket:
            socket.send_bytes(encoded())
    deadline = time.monotonic() + 5
    while "lithepose_streams 0.0" not in client.get("/metrics").text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "lithepose_streams 0.0" in client.get("/metrics").text
    assert threading.active_count() < before + 15, "a thread a client; those of the server's pools stay"
    assert client.post("/v1/poses", content=encoded()).status_code == 200
