"""Requests made from the server's own description, damaged uploads and broken streams: no 5xx, no growth.

A tenth of the cases by default; all of them by ``make fuzz``.
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from stub import Stub, encoded
from test_fuzz import SHARE, images, mutated

from lithepose.server.app import create_app
from lithepose.server.config import ServeConfig

UPLOADS, STREAMS = round(2000 * SHARE), round(200 * SHARE)
APP = create_app(ServeConfig(host="0.0.0.0"), [Stub()])
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP).exclude(path="/readyz")  # not started here


@pytest.mark.filterwarnings("ignore:Skipped test cases")  # of media types that it cannot make
@SCHEMA.parametrize()
@settings(max_examples=max(5, round(100 * SHARE)), deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_of_the_description(case):
    response = case.call()
    assert response.status_code < 500
    if response.status_code >= 400 and case.method != "HEAD":
        assert response.json()["error"]["message"]


@pytest.fixture(scope="module")
def client():
    with TestClient(APP, base_url="http://127.0.0.1:8000") as client:
        yield client


def test_damaged_uploads(client):
    rng, whole, seen = np.random.default_rng(5), images(), Counter()
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n%b\r\n--x--\r\n'
    for i in range(UPLOADS):
        data, headers = whole[i % len(whole)], {}
        if i % 3 == 0:
            data, headers = form % data, {"Content-Type": "multipart/form-data; boundary=x"}
        response = client.post("/v1/poses", content=mutated(data, rng), headers=headers)
        assert response.status_code < 500
        seen[response.status_code] += 1
    assert seen[200] > UPLOADS // 50
    assert seen[415] + seen[422] + seen[400] > UPLOADS // 20


def test_broken_streams(client):
    rng, whole, seen, before = np.random.default_rng(6), images(), Counter(), threading.active_count()
    for i in range(STREAMS):
        try:
            with client.websocket_connect("ws://127.0.0.1:8000/v1/stream") as socket:
                for _ in range(int(rng.integers(0, 4))):
                    socket.send_bytes(mutated(whole[i % len(whole)], rng))
                    answer = socket.receive_json()
                    assert answer.get("error", {"status": 400})["status"] < 500
                    seen["error" if "error" in answer else "people"] += 1
                if i % 4 == 0:
                    socket.send_text("x" * int(rng.integers(0, 1000)))
                if i % 4 == 1:
                    socket.send_bytes(encoded())  # and gone before the answer
        except WebSocketDisconnect:
            seen["closed"] += 1
    assert seen["error"]
    assert seen["people"]
    assert "lithepose_streams 0.0" in client.get("/metrics").text
    assert threading.active_count() <= before + 2
