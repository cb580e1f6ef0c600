"""Colours follow the relevance, letters get the mean over their boxes, and the figure has both sides."""

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel, AutoProcessor

import clippo  # noqa: F401 - registers the Auto classes
from clippo.visualization.heatmaps import character_relevance, explain, overlay


def test_heat_lies_where_the_relevance_is():
    picture = overlay(np.full((32, 32, 1), 255, dtype=np.uint8), np.array([[0.0, 2.0], [1.0, 0.0]]), side=64)
    assert picture.size == (64, 64)
    assert picture.getpixel((5, 5)) == (255, 255, 255)  # none
    assert picture.getpixel((60, 5)) == (165, 0, 38)  # most
    assert picture.getpixel((5, 60)) == (253, 174, 97)  # half
    overlay(np.zeros((32, 32, 3), dtype=np.uint8), np.zeros((2, 2)))  # nothing is relevant: no division by zero
    with pytest.raises(ValueError, match="3x3 does not divide a canvas of 32x32"):
        overlay(np.zeros((32, 32, 1), dtype=np.uint8), np.zeros((3, 3)))


def test_letters_get_the_mean_over_their_boxes():
    relevance = np.array([[1.0, 0.0], [0.5, 0.5]])
    boxes = np.array([[0, 0, 16, 16], [8, 0, 24, 16], [16, 0, 24, 16], [4, 16, 30, 32], [0, 0, 0, 0]])
    np.testing.assert_allclose(character_relevance(relevance, boxes, 16), [1, 0.5, 0, 0.5, 0])


def test_explain_shows_both_sides_and_every_letter(tiny_folder):
    model, processor = AutoModel.from_pretrained(tiny_folder), AutoProcessor.from_pretrained(tiny_folder)
    sheet, found = explain(model, processor, Image.new("RGB", (20, 30), "red"), "犬ab")
    assert set(found) == {"cosine", "rollout", "grad-cam"} and -1 <= found["cosine"] <= 1
    assert [letter for letter, _ in found["rollout"]] == ["犬", "a", "b"]
    assert max(value for _, value in found["rollout"]) == pytest.approx(1)
    one, _ = explain(model, processor, Image.new("RGB", (20, 30), "red"), "犬ab", ["rollout"])
    assert one.width == sheet.width and one.height < sheet.height
    _, cut = explain(model, processor, Image.new("RGB", (20, 30), "red"), "w" * 100, ["rollout"])
    assert len(cut["rollout"]) < 100  # what is not on the canvas has no relevance
    with pytest.raises(ValueError, match="methods are of rollout, grad-cam; got shap"):
        explain(model, processor, Image.new("RGB", (20, 30)), "a", ["shap"])
