"""Each command writes its figure; an error is one sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clippo.visualization.command import main

from ...tiny import save_tiny

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"), noise=0, num_hidden_layers=1, image_size=80)


@pytest.fixture
def visualize(folder, tmp_path):
    """Function that runs the command and returns the figure that it wrote."""

    def run(command, *arguments):
        common = ["--model", folder, "--output", tmp_path / "out.png"]
        main([command, *map(str, [*arguments, *common])])
        return Image.open(tmp_path / "out.png")

    return run


def test_heatmap(visualize, capsys):
    image = ROOT / "docs" / "pictures" / "cat.webp"
    assert visualize("heatmap", "--image", image, "--texts", "cat").width > 900
    printed = capsys.readouterr().out
    assert "cosine" in printed and "Grad-CAM, relevance of the letters" in printed and "\n  t" in printed


def test_matrix_and_neighbours_of_the_pictures_of_the_repository(visualize):
    pytest.importorskip("matplotlib")
    assert visualize("matrix", "--count", 5).width > 500
    sheet = visualize("neighbours", "--texts", "cat", "犬", "--count", 96)
    assert sheet.height > 400
    framed = (np.asarray(sheet.convert("RGB")) == (245, 159, 0)).all(-1)
    assert framed.any() and not framed[sheet.height // 2 + 20 :].any()  # cat.webp is right for "cat"; "犬" has no file


def test_questions_in_all_layouts_and_their_answers(visualize, tmp_path):
    image = ROOT / "docs" / "pictures" / "cat.webp"
    assert visualize("layouts", "--image", image, "--texts", "a cat?", "--image_size", 96).width > 5 * 240

    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(), question=datasets.Value("string"), answer=datasets.Value("string")
    )
    rows = {"image": [str(image)] * 4, "question": ["a cat?"] * 4, "answer": ["yes"] * 4}
    datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "questions.parquet"))
    options = ["--questions", tmp_path / "questions.parquet"]
    # A new head that answers "LABEL_0" or "LABEL_1" is wrong every time.
    assert visualize("answers", *options, "--count", 3, "--wrong", 3).width > 3 * 240
    assert visualize("answers", *options, "--count", 3, "--wrong", 2).width < 3 * 240
    with pytest.raises(SystemExit, match=r"error: No question of .* is answered as asked for \(--count 3, --wrong 0\)"):
        visualize("answers", *options, "--count", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["heatmap", "--texts", "cat"], "error: heatmap needs one --image and one text in --texts"),
        (["matrix", "--texts", "cat", "--count", "2"], "error: matrix pairs texts and images by order: 1 texts, 2"),
        (["layouts", "--texts", "a cat?"], "error: layouts needs one --image and one text in --texts"),
        (["answers"], "error: answers needs --questions: a parquet file"),
        (
            ["answers", "--questions", "x.parquet", "--count", "3", "--wrong", "5"],
            "error: --wrong 5 must lie between 0 and --count 3",
        ),
        (["dance"], "error: 'dance' is not a figure"),
    ],
)
def test_errors_are_one_sentence(visualize, arguments, message):
    with pytest.raises(SystemExit, match=message):
        visualize(*arguments)
