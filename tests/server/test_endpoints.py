"""Requests and their answers, with a stub in the model's place."""

import json
import threading
import time

import cv2
import numpy as np
import pytest
from stub import Stub, encoded, start  # noqa: F401

from lithepose.poses import Poses
from lithepose.server.guard import HEADERS


def message(response):
    """The message of an error, which every error has."""
    content = response.json()["error"]
    assert content["status"] == response.status_code
    return content["message"]


def test_people_of_an_image(start):
    response = start().post("/v1/poses", content=encoded((90, 60, 30)))
    assert response.status_code == 200
    poses = Poses.from_dict(response.json())
    assert poses.size == (64, 48)
    assert np.allclose(poses.xy[0, 0], 60)


def test_the_threshold_is_used_and_checked(start):
    client = start()
    answer = client.post("/v1/poses?threshold=0.7", content=encoded()).json()
    assert answer["people"][0]["joints"]["nose"][2] == 0.7
    for wrong in ("0", "1", "x", "nan"):
        assert "threshold" in message(client.post(f"/v1/poses?threshold={wrong}", content=encoded()))


@pytest.mark.parametrize(
    ("query", "accept", "format"),
    [
        ("", None, "lithepose"),
        ("", "application/json", "lithepose"),
        ("", "text/html, */*", "lithepose"),
        ("", "application/vnd.coco+json", "coco"),
        ("", "application/vnd.openpose+json;q=0.9", "openpose"),
        ("?format=coco", "application/json", "coco"),
        ("?format=openpose", None, "openpose"),
    ],
)
def test_formats(start, query, accept, format):
    headers = {"Accept": accept} if accept else {}
    answer = start().post(f"/v1/poses{query}", content=encoded(), headers=headers).json()
    if format == "coco":
        assert answer[0]["image_id"] == 1
        assert len(answer[0]["keypoints"]) == 51
    elif format == "openpose":
        assert len(answer["people"][0]["pose_keypoints_2d"]) == 54
    else:
        assert answer["people"][0]["score"] == 0.5


def test_formats_that_there_are_not(start):
    client = start()
    assert "coco" in message(client.post("/v1/poses?format=xml", content=encoded()))
    refused = client.post("/v1/poses", content=encoded(), headers={"Accept": "text/html"})
    assert refused.status_code == 406
    assert "application/json" in message(refused)


def test_a_form_of_several_images_keeps_the_good_ones(start):
    files = [
        ("files", ("a.png", encoded((9, 9, 9)))),
        ("files", ("b.txt", b"hello")),
        ("files", ("red", encoded((255, 0, 0)))),
    ]
    answer = start().post("/v1/poses", files=files, data={"note": "not a file"}).json()
    assert [(r["image"], r["name"]) for r in answer["results"]] == [(1, "a.png")]
    assert [(e["name"], e["status"]) for e in answer["errors"]] == [("b.txt", 415), ("red", 422)]
    coco = start().post("/v1/poses?format=coco", files=[files[0], ("files", ("c.png", encoded()))]).json()
    assert [(a["image_id"], a["file_name"]) for a in coco["annotations"]] == [(1, "a.png"), (2, "c.png")]


def test_a_drawing_comes_back(start):
    client = start()
    jpeg = client.post("/v1/draw", content=encoded(size=(200, 150)))
    assert jpeg.headers["content-type"] == "image/jpeg"
    drawn = cv2.imdecode(np.frombuffer(jpeg.content, np.uint8), 1)
    assert drawn.shape == (150, 200, 3)
    assert np.ptp(drawn) > 50
    png = client.post("/v1/draw", content=encoded(), headers={"Accept": "image/png"})
    assert png.content.startswith(b"\x89PNG")
    two = [("files", ("a.png", encoded())), ("files", ("b.png", encoded()))]
    assert "send only one" in message(client.post("/v1/draw", files=two))


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 400, "empty"),
        (b"hello", 415, "JPEG, PNG"),
        (encoded()[:20], 415, "cut off"),
        (encoded()[:60], 422, "cannot be used"),
        (encoded(suffix=".jpg")[:500], 422, "ends early"),
        (encoded((255, 0, 0)), 422, "too red"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "JPEG, PNG"),
    ],
)
def test_bodies_that_are_no_image(start, content, status, reason):
    refused = start().post("/v1/poses", content=content)
    assert refused.status_code == status
    assert reason in message(refused)


def test_what_the_model_fails_at_is_not_told_to_the_client(start):
    refused = start().post("/v1/poses", content=encoded((0, 0, 255)))
    assert refused.status_code == 500
    assert "secret" not in message(refused)


def test_limits(start):
    client = start(max_bytes=4000, max_pixels=5000, max_images=2)
    assert "4,000 bytes" in message(client.post("/v1/poses", content=bytes(4001)))
    chunks = client.post("/v1/poses", content=iter([bytes(3000), bytes(3000)]))  # without a stated length
    assert chunks.status_code == 413
    large = client.post("/v1/poses", content=encoded(size=(100, 51)))
    assert large.status_code == 413
    assert "100x51" in message(large)
    three = [("files", (f"{i}.png", encoded())) for i in range(3)]
    assert "at most 2" in message(client.post("/v1/poses", files=three))


def test_a_bomb_is_refused_by_its_header(start):
    bomb = bytearray(encoded())
    bomb[16:24] = (10_000).to_bytes(4, "big") * 2  # its content is still that of a small image
    refused = start().post("/v1/poses", content=bytes(bomb))
    assert refused.status_code == 413
    assert "10000x10000" in message(refused)


@pytest.mark.parametrize(
    "content",
    [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nabc", b"garbage"],
)
def test_forms_that_cannot_be_read(start, content):
    refused = start().post("/v1/poses", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert refused.status_code == 400
    assert "form" in message(refused)


def test_a_form_without_a_boundary_is_refused(start):
    refused = start().post("/v1/poses", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert refused.status_code == 400


def test_a_full_queue_sends_clients_away(start):
    model = Stub()
    model.gate.clear()
    client = start(model, waiting=2)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/v1/poses", content=encoded()))) for _ in range(6)
    ]
    threads[0].start()
    assert model.begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 10
    while len([a for a in answers if a.status_code == 429]) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    model.gate.set()
    for thread in threads:
        thread.join()
    busy = [answer for answer in answers if answer.status_code == 429]
    assert len(busy) == 3  # one is run, two wait
    assert all(answer.headers["retry-after"] == "1" for answer in busy)
    assert [a.status_code for a in answers if a not in busy] == [200] * 3


def test_waiting_images_are_run_together(start):
    model = Stub()
    model.gate.clear()
    client = start(model)
    threads = [threading.Thread(target=lambda: client.post("/v1/poses", content=encoded())) for _ in range(6)]
    threads[0].start()
    assert model.begun.wait(10)  # else the others might be taken together with the first
    for thread in threads[1:]:
        thread.start()
    workers, deadline = client.app.state.workers, time.monotonic() + 10
    while workers.waiting < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    model.gate.set()
    for thread in threads:
        thread.join()
    assert model.calls == [1, 5]


def test_a_worker_that_takes_too_long_is_not_waited_for(start):
    model = Stub()
    model.gate.clear()
    client = start(model, seconds=0.2)
    refused = client.post("/v1/poses", content=encoded())
    model.gate.set()
    assert refused.status_code == 503
    assert refused.headers["retry-after"]


def test_a_token_is_asked_for(start):
    client = start(token="a-token-of-the-server")
    for path in ("/v1/models", "/metrics"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer a-token-of-the-server"}).status_code == 200
    assert client.post("/v1/poses", content=encoded()).headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/models", headers={"Authorization": b"Bearer \xff"}).status_code == 401
    for path in ("/", "/healthz", "/readyz", "/openapi.json", "/static/app.js"):
        assert client.get(path).status_code == 200


def test_pages_of_other_servers_are_kept_out(start):
    refused = start().get("/v1/models", headers={"Host": "elsewhere.example"})
    assert refused.status_code == 421
    message(refused)
    assert start(host="0.0.0.0").get("/v1/models", headers={"Host": "elsewhere.example"}).status_code == 200
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in start().options("/v1/poses", headers=asks).headers
    client = start(origins=("https://page.example",))
    assert client.options("/v1/poses", headers=asks).headers["access-control-allow-origin"] == "https://page.example"


def test_every_answer_carries_the_security_headers(start):
    client = start()
    for response in (client.get("/"), client.get("/none"), client.post("/v1/poses", content=b"x")):
        assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_other_addresses_and_methods(start):
    client = start()
    assert "openapi.json" in message(client.get("/nothing"))
    assert "GET" in message(client.get("/v1/poses"))
    assert client.get("/static/../app.py").status_code == 404


def test_models_and_metrics(start):
    client = start()
    loaded = client.get("/v1/models").json()["loaded"]
    assert loaded["joints"][0] == "nose"
    assert [0, 1] in loaded["edges"]
    client.post("/v1/poses", content=encoded())
    text = client.get("/metrics").text
    assert 'lithepose_requests_total{path="/v1/poses",status="200"} 1.0' in text
    assert "lithepose_people_total 1.0" in text


def test_the_description_has_examples_and_is_whole(start):
    description = start().get("/openapi.json").json()
    poses = description["paths"]["/v1/poses"]["post"]
    assert {"image/png", "multipart/form-data"} <= poses["requestBody"]["content"].keys()
    assert "429" in poses["responses"]
    example = poses["responses"]["200"]["content"]["application/json"]["example"]
    assert Poses.from_dict(json.loads(json.dumps(example))).joints[0] == "nose"


def test_nothing_is_written_to_a_disk(start, monkeypatch):
    import tempfile

    def refuse(*_, **__):
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "_mkstemp_inner", refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    files = [("files", ("a.png", encoded(np.random.default_rng(0).integers(0, 255, 3).tolist(), size=(2000, 1500))))]
    assert start().post("/v1/poses", files=files).status_code == 200
