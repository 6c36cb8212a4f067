"""The server as a process of its own, with the real model."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

import lithepose
from lithepose.inference.models import prefers_openvino

SAMPLE = (Path(lithepose.__file__).parent / "samples" / "astronaut.jpg").read_bytes()


@pytest.fixture
def serve():
    """Starts servers; gives their process and address."""
    started = []

    def make(*arguments, code="import sys; from lithepose.cli import main; sys.exit(main())"):
        command = [sys.executable, "-c", code, "serve", "--port", "0", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        started.append(process)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serves at" in line:
                break
        else:
            raise AssertionError(lines)
        return process, line.split()[-1]

    yield make
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def chosen() -> str:
    """The runtime that a process of its own chooses; in tests, auto is ONNX Runtime."""
    return "openvino" if prefers_openvino() else "onnx"


def post(address, data=SAMPLE, path="/v1/poses", **headers):
    request = urllib.request.Request(address + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_images_streams_and_a_stop_under_load(serve):
    process, address = serve()
    status, answer = post(address)
    assert status == 200
    assert answer["people"] == lithepose.load(runtime=chosen())(SAMPLE).to_dict()["people"]
    with connect(address.replace("http", "ws") + "/v1/stream") as stream:
        for _ in range(2):
            stream.send(SAMPLE)
            assert json.loads(stream.recv(timeout=20))["people"][0]["id"] == 1

    answers, refused = [], []

    def load():
        while True:
            try:
                answers.append(post(address)[0])
            except (urllib.error.URLError, ConnectionError) as error:
                refused.append(error)
                return

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(answers) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    for thread in threads:
        thread.join(timeout=20)
    assert set(answers) <= {200, 429, 503}
    # Who was not connected is refused; no accepted request goes without an answer.
    assert all("refused" in str(error).lower() or "reset" in str(error).lower() for error in refused), refused


def test_slow_and_broken_clients_are_cut_off_and_the_server_goes_on(serve):
    code = (
        "import sys; from lithepose.server import guard; guard.HEADER_SECONDS = 0.5;"
        "from lithepose.cli import main; sys.exit(main())"
    )
    _, address = serve("--seconds", "1", code=code)
    host, port = address.removeprefix("http://").split(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=10) as slow:  # headers that do not end
        slow.sendall(b"POST /v1/poses HTTP/1.1\r\n")
        assert slow.recv(100) == b""
    with socket.create_connection((host, int(port)), timeout=10) as slow:  # a body that does not come
        slow.sendall(f"POST /v1/poses HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\nabc".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 10
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=10) as closed:
            closed.sendall(f"POST /v1/poses HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\nabc".encode())
    with socket.create_connection((host, int(port)), timeout=10) as broken:
        broken.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert broken.recv(100).startswith(b"HTTP/1.1 400")
    assert post(address)[0] == 200


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "70000"], "port 70000"),
        (["--workers", "0"], "workers 0"),
        (["--token-file", "missing.txt"], "missing.txt"),
        (["--origin", "example.org"], "https://example.org"),
        (["--model", "nothing"], "nothing"),
        (["--host", "192.0.2.1", "--port", "0"], "192.0.2.1"),
    ],
)
def test_calls_that_cannot_be_carried_out(arguments, reason, capsys):
    from lithepose.cli import main

    assert main(["serve", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_tokens(tmp_path, capsys):
    from lithepose.cli import main

    for text in ("", "short", "with spaces and more", "ümlauts-in-a-token"):
        (tmp_path / "token").write_text(text, encoding="utf-8")
        assert main(["serve", "--token-file", str(tmp_path / "token")]) == 2
        assert "16 or more" in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys):
    from lithepose.cli import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert str(port) in capsys.readouterr().err


def test_the_example_client(serve, tmp_path):
    _, address = serve()
    (tmp_path / "a.jpg").write_bytes(SAMPLE)
    client = Path(__file__).parents[2] / "examples" / "client.py"
    command = [sys.executable, str(client), str(tmp_path / "a.jpg"), "--address", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "a.jpg 0." in done.stdout
    (tmp_path / "b.jpg").write_bytes(b"no image")
    command[2] = str(tmp_path / "b.jpg")
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
    assert "not an image" in failed.stderr
