"""What a model can be called with."""

import pickle
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lithepose
from lithepose.errors import ConfigError, ImageError
from lithepose.media.image import as_rgb

SAMPLE = Path(lithepose.__file__).parent / "samples" / "astronaut.jpg"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def model() -> Any:
    return lithepose.load(threads=1)


def pixels() -> np.ndarray:
    return np.array(Image.open(SAMPLE).convert("RGB"))


INPUTS: dict[str, Callable[[], Any]] = {
    "path": lambda: str(SAMPLE),
    "bytes": SAMPLE.read_bytes,
    "open file": lambda: BytesIO(SAMPLE.read_bytes()),
    "array": pixels,
    "tensor (3, H, W)": lambda: torch.from_numpy(pixels()).permute(2, 0, 1),
    "tensor (H, W, 3)": lambda: torch.from_numpy(pixels()),
    "PIL image": lambda: Image.open(SAMPLE),
}


@pytest.fixture(scope="module")
def expected(model: Any) -> np.ndarray:
    return model(SAMPLE).xy


@pytest.mark.parametrize("name", INPUTS)
def test_one_image(model: Any, expected: np.ndarray, name: str) -> None:
    np.testing.assert_allclose(model(INPUTS[name]()).xy, expected, atol=0.5)


@pytest.mark.parametrize("make", [list, tuple, np.stack])
def test_several_images(model: Any, expected: np.ndarray, make: Callable[[Any], Any]) -> None:
    found = model(make([pixels(), pixels()]))
    assert len(found) == 2
    for poses in found:
        np.testing.assert_allclose(poses.xy, expected, atol=0.5)


def test_address(model: Any, expected: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(SAMPLE.read_bytes())  # known by its content, not by a suffix
    (tmp_path / "page").write_text("<html>no</html>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        np.testing.assert_allclose(model(f"{address}/photo").xy, expected, atol=0.5)
        with pytest.raises(ImageError, match="page: not an image"):
            model(f"{address}/page")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (None, "NoneType is not an image"),
        ({"image": 1}, "dict is not an image"),
        (b"GIF89a", "can decode"),
        ([SAMPLE, b""], "image 1 of 2: the file is empty"),
        (np.zeros((2, 3, 4, 5, 6), np.uint8), "shape"),
    ],
)
def test_what_is_no_image(model: Any, bad: Any, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        model(bad)


def test_file_opened_as_text(model: Any) -> None:
    with open(SAMPLE, encoding="utf-8") as file, pytest.raises(ImageError, match="opened in text mode"):
        model(file)


def test_twelve_bits(model: Any) -> None:
    deep = pixels().astype(np.uint16) << 4
    assert np.array_equal(as_rgb(deep), pixels())


def test_models_pickle(model: Any, expected: np.ndarray) -> None:
    copy = pickle.loads(pickle.dumps(model.with_config(peak=0.2)))
    assert copy.predictor.config.peak == 0.2
    np.testing.assert_array_equal(copy(SAMPLE).xy, model.with_config(peak=0.2)(SAMPLE).xy)


def test_unreadable_images_of_a_list(model: Any, expected: np.ndarray, tmp_path: Path, caplog: Any) -> None:
    missing = tmp_path / "missing.jpg"
    with pytest.raises(ImageError, match=r"image 1 of 3: .*missing\.jpg"):
        model([SAMPLE, missing, SAMPLE])
    assert not caplog.records
    first, second, third = model([SAMPLE, missing, SAMPLE], on_error="skip")
    assert second is None
    assert not caplog.records
    assert np.array_equal(first.xy, third.xy, equal_nan=True)
    assert model([missing], on_error="warn") == [None]
    assert "image 0 of 1" in caplog.text
    with pytest.raises(ConfigError, match="on_error='ignore'; choose one of raise, skip, warn"):
        model([missing], on_error="ignore")


def test_unreadable_sources_of_a_stream(model: Any, tmp_path: Path, caplog: Any) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    assert len(list(model.stream([broken, SAMPLE], on_error="warn"))) == 1
    assert "broken.jpg" in caplog.text
