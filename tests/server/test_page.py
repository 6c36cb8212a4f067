"""The page in Chromium: images, the camera, a phone, and what accessibility asks for."""

import json
import os
import shutil
from pathlib import Path

import pytest
from test_process import chosen, serve  # noqa: F401

import lithepose

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SAMPLES = Path(lithepose.__file__).parent / "samples"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture
def browser_page(serve):
    """Opens the page of a fresh server; what it logs as an error, and a request elsewhere, fails the test."""
    errors, asked = [], []
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)

        def make(*arguments):
            _, address = serve(*arguments)
            page = browser.new_context(accept_downloads=True).new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            errors.extend(url for url in asked if not _own(url, address))
            return page, asked

        yield make
        browser.close()
    assert not errors


@pytest.fixture
def page(browser_page):
    """A page of a server with the usual options."""
    page, asked = browser_page()
    yield page
    assert len({url.split("/")[2] for url in asked if url.startswith(("http", "ws"))}) == 1


def _own(url, address):
    return url.startswith((address, address.replace("http", "ws"), "blob:", "data:"))


def pixels(page):
    """A number that changes with the canvas."""
    return page.evaluate(
        "() => { const c = document.getElementById('canvas');"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => (a * 31 + b) | 0, 0); }"
    )


def downloaded(page, button):
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def open_samples(page, *names):
    page.set_input_files("#files", [str(SAMPLES / name) for name in names])
    page.wait_for_function("() => !document.getElementById('save-json').disabled", timeout=20000)


def test_an_image_is_drawn_and_saved(page):
    before = pixels(page)
    open_samples(page, "astronaut.jpg")
    drawn = pixels(page)
    assert drawn != before
    assert page.text_content("#people") == "1"
    (found,) = json.loads(downloaded(page, "#save-json"))
    assert found["people"] == lithepose.load(runtime=chosen())(SAMPLES / "astronaut.jpg").to_dict()["people"]
    rows = downloaded(page, "#save-csv").decode().splitlines()
    assert rows[0].startswith("source,frame,time,person")
    assert rows[1].startswith("astronaut.jpg,,,0,")
    assert downloaded(page, "#save-png").startswith(b"\x89PNG")
    page.select_option("#colour", "person")
    assert pixels(page) != drawn


def test_the_threshold_runs_the_images_again(page):
    open_samples(page, "astronaut.jpg", "camera.jpg")
    page.wait_for_function("() => document.getElementById('status').textContent === '2 images'", timeout=20000)
    first = len(downloaded(page, "#save-csv").splitlines())
    page.evaluate(
        "() => { const t = document.getElementById('threshold'); t.value = 0.8; t.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_timeout(500)
    page.wait_for_function("() => document.getElementById('status').textContent === '2 images'", timeout=20000)
    assert len(downloaded(page, "#save-csv").splitlines()) < first


def test_a_dropped_file_is_opened(page):
    data = list((SAMPLES / "camera.jpg").read_bytes())
    page.evaluate(
        "(bytes) => { const moved = new DataTransfer();"
        " moved.items.add(new File([new Uint8Array(bytes)], 'camera.jpg', { type: 'image/jpeg' }));"
        " const drop = new DragEvent('drop', { dataTransfer: moved, bubbles: true });"
        " document.getElementById('stage').dispatchEvent(drop); }",
        data,
    )
    page.wait_for_function("() => document.getElementById('people').textContent === '1'", timeout=20000)


def test_what_is_no_image_is_named(page, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page.set_input_files("#files", str(tmp_path / "broken.jpg"))
    page.wait_for_selector("#status.wrong", timeout=20000)
    assert "broken.jpg" in page.text_content("#status")


def test_the_camera(page):
    page.focus("#camera")
    page.keyboard.press("Enter")
    page.wait_for_function("() => Number(document.getElementById('rate').textContent) > 0", timeout=20000)
    before = pixels(page)
    page.wait_for_timeout(500)
    assert pixels(page) != before
    page.click("#stop")
    page.wait_for_function("() => document.getElementById('status').textContent.includes('frames')", timeout=20000)
    assert page.is_disabled("#stop")


def test_on_a_phone_nothing_is_cut_off(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark")
    open_samples(page, "astronaut.jpg")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(20, 23, 28)"
    if folder := os.environ.get("LITHEPOSE_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/phone.png", full_page=True)


def test_everything_can_be_reached_and_has_a_name(page):
    names = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select')].map((e) =>"
        " (e.labels?.[0]?.textContent || e.textContent || e.getAttribute('aria-label') || '').trim())"
    )
    assert names
    assert all(names)
    reached = set()
    page.focus("body")
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id"))
    usable = page.evaluate("() => [...document.querySelectorAll('button:enabled, input, select')].map((e) => e.id)")
    assert set(usable) <= reached


def test_accessibility_has_no_serious_findings(page):
    open_samples(page, "astronaut.jpg")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert not [
            (v["id"], v["impact"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")
        ]


RUNTIME = os.environ.get("LITHEPOSE_BROWSER_RUNTIME")


@pytest.mark.skipif(not RUNTIME, reason="LITHEPOSE_BROWSER_RUNTIME names no folder of onnxruntime-web")
def test_the_model_runs_in_the_browser_alone(browser_page):
    page, asked = browser_page("--browser-runtime", str(RUNTIME))
    page.select_option("#where", "browser")
    open_samples(page, "astronaut.jpg", "camera.jpg")
    page.wait_for_function("() => document.getElementById('status').textContent === '2 images'", timeout=60000)
    assert not [url for url in asked if "/v1/poses" in url or "/v1/stream" in url]
    found = json.loads(downloaded(page, "#save-json"))
    model = lithepose.load(runtime="onnx")
    for result, name in zip(found, ("astronaut.jpg", "camera.jpg"), strict=True):
        expected = model(SAMPLES / name).to_dict()["people"]
        assert len(result["people"]) == len(expected)
        for person, other in zip(result["people"], expected, strict=True):
            distances = [
                ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5
                for a, b in zip(person["joints"].values(), other["joints"].values(), strict=True)
                if a and b
            ]
            assert len(distances) >= 8
            assert sorted(distances)[len(distances) // 2] < 5  # the canvas resizes in its own way
