"""The web demo: its answers are those of the library, in Python and in a real browser, without any other server."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

import clippo
from clippo.cli import main
from clippo.demo.answers import Answers
from clippo.demo.spaces import TEMPLATES, write_space
from clippo.evaluation.encoder import Encoder
from clippo.visualization.inputs import CHECKOUT, read_images

from ...tiny import save_tiny
from ..browser_fixture import browser  # noqa: F401 - fixture

MODEL, PICTURES = CHECKOUT / "checkpoints" / "clippo-emoji", CHECKOUT / "docs" / "pictures"


@pytest.fixture(scope="module")
def images():
    return {name: image for name, image in read_images(PICTURES).items() if name[0] in "acdr"}


@pytest.fixture(scope="module")
def answers(images):
    return Answers(MODEL, images)


def test_names_are_probabilities_of_the_pipeline(answers, images):
    classify, labels = pipeline("zero-shot-image-classification", str(MODEL)), ["cat", "Hund", "ракета"]
    rows = classify(images["cat"], candidate_labels=labels, hypothesis_template="{}")
    found = answers.names(images["cat"], "cat\n\n Hund \nракета\ncat", "{}")
    assert found == pytest.approx({row["label"]: row["score"] for row in rows}, abs=1e-4)
    assert max(found, key=found.get) == "cat"


def test_search_is_that_of_the_encoder(answers, images):
    encoder = Encoder(clippo.ClippoModel.from_pretrained(MODEL), clippo.ClippoProcessor.from_pretrained(MODEL))
    scores = encoder.texts(["Regenbogen"]) @ encoder.images(images.values()).vectors.T
    best = np.argsort(-scores[0].numpy())[:3]
    found = answers.search("Regenbogen", None, count=3)
    assert [note.split(",")[0] for _, note in found] == [list(images)[i] for i in best]
    assert answers.search("ignored", images["dog"])[0][1] == "dog, 1.00"


def test_the_canvas_is_the_tensor(answers):
    drawn, note = answers.canvas("hello" * 30)
    canvas = answers.processor.tokenizer("hello" * 30, return_tensors="np")["text_pixel_values"][0, 0]
    zoom = drawn.width // canvas.shape[1]
    assert np.array_equal(np.asarray(drawn)[::zoom, ::zoom], canvas)
    assert "characters do not fit and are not read" in note
    assert answers.heat(Image.new("RGB", (9, 9)), "cat").width > 500


def test_heads_have_their_own_tabs(tmp_path, photos):
    labels = dict(id2label={0: "yes", 1: "no"}, label2id={"yes": 0, "no": 1})
    vqa = Answers(save_tiny(tmp_path / "vqa", clippo.ClippoForVisualQuestionAnswering, **labels), {})
    found = vqa.answer(photos[0], "is it red?")
    assert set(found) == {"yes", "no"} and sum(found.values()) == pytest.approx(1, abs=1e-3)
    drawn, _ = vqa.canvas("is it red?", photos[0])
    assert drawn.mode == "RGB" and drawn.width == drawn.height == 512
    writer = save_tiny(tmp_path / "writer", clippo.ClippoForConditionalGeneration, num_decoder_layers=1)
    assert isinstance(Answers(writer, {}).write(photos[0], "caption en"), str)
    other = save_tiny(tmp_path / "other", clippo.ClippoForSequenceClassification)
    with pytest.raises(ValueError, match="holds a ClippoForSequenceClassification; the demo shows"):
        Answers(other, {})


ERRORS = [
    (lambda answers: answers.names(None, "a\nb", "{}"), "Give a picture first"),
    (lambda answers: answers.names(Image.new("RGB", (9, 9)), "a", "{}"), "at least two labels"),
    (lambda answers: answers.names(Image.new("RGB", (9, 9)), "a\nb", "x"), "has no place for the label"),
    (lambda answers: answers.search(" ", None), "Write words or give a picture"),
    (lambda answers: answers.heat(Image.new("RGB", (9, 9)), ""), "Write a text"),
    (lambda answers: Answers(MODEL, {}).search("cat", None), "start the demo with --image_dir"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_mistakes_are_told(answers, call, message):
    with pytest.raises(ValueError, match=message):
        call(answers)


def test_the_command_names_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="error: no images in"):
        main(["demo", "web", "--image_dir", str(tmp_path)])
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match=r"error: The web demo needs Gradio: pip install 'clippo\[demo\]'"):
        main(["demo", "web"])


@pytest.fixture
def page(images):
    """Address of the served page."""
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    from clippo.demo.web import build_app, serve

    app = build_app(MODEL, images)
    yield serve(app, port=None, wait=False)
    app.close()


def test_the_page_in_a_browser(page, browser, images):  # noqa: F811
    tab = browser.new_page()
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page)
    tab.set_input_files("#named input[type=file]", PICTURES / "cat.webp")
    tab.wait_for_selector("#named img", timeout=60_000)
    tab.click("#name")
    tab.wait_for_function("document.querySelector('#names').innerText.includes('cat')", timeout=60_000)
    tab.get_by_role("tab", name="Search").click()
    tab.fill("#query textarea, #query input", "Regenbogen")
    tab.click("#search")
    tab.wait_for_function("document.querySelector('#found').innerText.includes('rainbow')", timeout=60_000)
    tab.get_by_role("tab", name="What the model reads").click()
    tab.click("#draw")
    tab.wait_for_selector("#canvas img", timeout=60_000)
    tab.get_by_role("tab", name="Where it looks").click()
    tab.click("#heat")  # without a picture
    tab.wait_for_function("document.body.innerText.includes('Give a picture first')", timeout=60_000)
    assert [url for url in asked if not url.startswith((page, "data:", "blob:"))] == []


def test_a_space_runs_from_its_folder(tmp_path):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    folder = write_space(MODEL, PICTURES, tmp_path / "space")
    code = "import clippo, clippo.demo.web, clippo.tasks; print(clippo.__file__, clippo.modeling_clippo.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == [f"{folder}/clippo/__init__.py", f"{folder}/clippo/modeling_clippo/__init__.py"]
    assert (folder / "model" / "config.json").is_file() and len(list((folder / "pictures").glob("*.webp"))) > 70
    with pytest.raises(FileExistsError, match="exists already"):
        write_space(MODEL, None, folder)


def test_the_space_installs_what_the_package_needs():
    wanted = (CHECKOUT / "setup.py").read_text(encoding="utf-8")
    for line in (TEMPLATES / "requirements.txt").read_text(encoding="utf-8").split():
        assert f'"{line}"' in wanted, line
    assert "sdk: gradio" in (Path(TEMPLATES) / "README.md").read_text(encoding="utf-8")
