"""The command of the demo on a tiny model, with the images of the repository and with others."""

import pytest
from PIL import Image

from clippo.demo.terminal import main

from ...tiny import save_tiny


@pytest.fixture
def demo():
    """Function that runs the demo with these command line arguments."""
    return lambda *arguments: main(list(map(str, arguments)))


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    processor = {"overflow": "raise"}  # the queries must fit
    return save_tiny(folder, noise=0, processor=processor, num_hidden_layers=1, image_size=80, skip_blank_patches=True)


def test_with_our_pictures(demo, tiny_folder, tmp_path, capsys):
    demo("--model", tiny_folder, "--output", tmp_path / "sheet.png")
    output = capsys.readouterr().out
    assert "8 labels" in output and "nearest of 96 images" in output
    assert "of 12 texts, among the first 5" in output and "by chance 0.1 and 0.6" in output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1840, 1888)


def test_with_other_pictures_and_labels(demo, tiny_folder, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (30, 50), name).save(pictures / f"{name}.png")
    output = tmp_path / "sheet.png"
    demo("--model", tiny_folder, "--image_dir", pictures, "--labels", "red", "синий", "--output", output)
    printed = capsys.readouterr().out
    assert "2 nearest of 2 images" in printed and "синий" in printed and "right image" not in printed
    assert output.is_file()


def test_a_missing_checkpoint_is_one_sentence(demo, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        demo("--model", tmp_path / "none")
    assert stopped.value.code.startswith("error: There is no folder") and "\n" not in stopped.value.code


def test_a_folder_without_pictures_is_one_sentence(demo, tiny_folder, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        demo("--model", tiny_folder, "--image_dir", tmp_path)
    assert stopped.value.code.startswith("error: no images in")
