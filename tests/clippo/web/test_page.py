"""The page in a real browser gives the answers of Python: search, labels, a cut text, no network, a narrow screen."""

import http.server
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import clippo
from clippo.evaluation.encoder import Encoder
from clippo.integrations.onnx_encoder import OnnxEncoder
from clippo.visualization.inputs import CHECKOUT, read_images
from clippo.web.build import build_web, find_runtime
from clippo.web.command import main

from ..browser_fixture import browser  # noqa: F401 - fixture

MODEL, PICTURES = CHECKOUT / "checkpoints" / "clippo-emoji", CHECKOUT / "docs" / "pictures"
QUERIES = ["dog", "Regenbogen", "飛行機", "клубника", "शेर", "로켓"]


def runtime() -> Path:
    """onnxruntime-web of the working directory or of the checkout."""
    for folder in (Path("node_modules"), CHECKOUT / "node_modules"):
        if folder.is_dir():
            return find_runtime(folder)
    pytest.skip("onnxruntime-web is not installed (npm install onnxruntime-web)")


@pytest.fixture(scope="module")
def page_files(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("page")
    images = {name.replace("_", " "): image for name, image in read_images(PICTURES).items()}
    build_web(MODEL, images, folder, runtime())
    return folder


@pytest.fixture
def address(page_files):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(page_files))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def open_page(context, address):
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready=true] #results li", timeout=120_000)
    return page


def answer(page, text: str) -> list[str]:
    """Names of the pictures that the page shows for a text, the nearest first."""
    page.evaluate("delete document.getElementById('query').dataset.milliseconds")
    page.fill("#query", text)
    page.wait_for_selector("#query[data-milliseconds]", timeout=60_000)
    return page.locator("#results .name").all_inner_texts()


def test_the_page_ranks_as_python_does(address, browser):  # noqa: F811
    images = {name.replace("_", " "): image for name, image in read_images(PICTURES).items()}
    encoder = Encoder(clippo.ClippoModel.from_pretrained(MODEL), clippo.ClippoProcessor.from_pretrained(MODEL))
    scores = (encoder.texts(QUERIES) @ encoder.images(images.values()).vectors.T).numpy()
    page = open_page(browser.new_context(), address)
    for query, row in zip(QUERIES, scores, strict=True):
        shown, names = answer(page, query), list(images)
        assert row[names.index(shown[0])] > row.max() - 0.05, query
        best = sorted(row)[-len(shown)]
        assert all(row[names.index(name)] > best - 0.05 for name in shown)  # int8 weights
        printed = np.array([float(text) for text in page.locator("#results .score").all_inner_texts()])
        np.testing.assert_allclose(printed, [row[names.index(name)] for name in shown], atol=0.05)


def test_a_dropped_picture_is_named(address, browser):  # noqa: F811
    page = open_page(browser.new_context(), address)
    page.set_input_files("#picture", PICTURES / "cat.webp")
    page.wait_for_function("document.getElementById('status').textContent.includes('labels compared')", timeout=60_000)
    assert page.locator("#results .name").first.inner_text() == "cat"
    page.set_input_files("#picture", {"name": "no.png", "mimeType": "image/png", "buffer": b"no image"})
    page.wait_for_function("document.getElementById('status').textContent.includes('no.png is not an image')")


def test_without_a_network_on_a_phone_by_keyboard(address, browser):  # noqa: F811
    context = browser.new_context(viewport={"width": 360, "height": 720})
    page = open_page(context, address)
    page.evaluate("navigator.serviceWorker.ready")
    page.wait_for_timeout(500)  # the worker takes the page over after `ready`
    context.set_offline(True)
    page.reload()
    page.wait_for_selector("body[data-ready=true] #results li", timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.focus("#query")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first example
    page.wait_for_function("document.querySelector('#results .name').textContent === 'rainbow'", timeout=60_000)
    assert "characters do not fit" in (answer(page, "x" * 300) and page.inner_text("#cut"))


def test_what_a_visitor_lacks_is_one_sentence(address, browser):  # noqa: F811
    context = browser.new_context(service_workers="block")
    old = context.new_page()
    old.add_init_script("WebAssembly.validate = () => false")
    old.goto(address)
    old.wait_for_function("document.getElementById('status').textContent.includes('has no WebAssembly SIMD')")
    page = context.new_page()
    page.route("**/glyphs-rest.bin.gz", lambda route: route.fulfill(status=404))
    page.goto(address)
    page.wait_for_selector("body[data-ready=true] #results li", timeout=120_000)
    page.fill("#query", "飛行機")  # its glyphs are in the second file
    page.wait_for_function("document.getElementById('status').textContent.includes('cannot be fetched (404)')")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `npm install onnxruntime-web`"):
        find_runtime(tmp_path)
    with pytest.raises(SystemExit, match="error: no images in"):
        main(["--image_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="There are no pictures to search"):
        build_web(MODEL, {}, tmp_path)


def test_the_encoder_of_the_same_files(page_files):
    """The files of the page are those of an ordinary export."""
    assert (page_files / "text_model.onnx.gz").stat().st_size < 7e6
    with pytest.raises(ValueError, match="precision='int4' is not known"):
        OnnxEncoder(page_files, precision="int4")
