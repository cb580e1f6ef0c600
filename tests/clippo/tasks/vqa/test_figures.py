"""`draw_answers` writes the model's answer and its probability below a canvas."""

import numpy as np
import pytest
import torch

from clippo import ClippoConfig, ClippoForVisualQuestionAnswering, ClippoProcessor
from clippo.tasks.vqa import figures as questions
from clippo.tasks.vqa.figures import CORRECT, LAYOUTS, WRONG, draw_answers, draw_layouts

ANSWERS = {0: "yes", 1: "no", 2: "red"}


def model(problem_type):
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=[64, 48])
    config = ClippoConfig(**size, id2label=ANSWERS, problem_type=problem_type)
    return ClippoForVisualQuestionAnswering(config).eval()


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_answers_are_those_of_the_model(monkeypatch, problem_type):
    columns = []
    monkeypatch.setattr(questions, "_columns", lambda given: columns.extend(given))
    vqa, processor = model(problem_type), ClippoProcessor.from_size([64, 48])
    picture = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    pixels = processor(images=[picture] * 2, questions=["red?", "no?"], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = vqa(pixel_values=pixels).logits
    best = [ANSWERS[i] for i in logits.argmax(-1).tolist()]
    draw_answers(vqa, pixels, [[best[0], "other"], ["other", "another", "other"]])
    (_, (first, right)), (_, (second, wrong)) = columns
    shares = logits.softmax(-1) if problem_type.startswith("single") else logits.sigmoid()
    assert first[0] == f"{best[0]} {float(shares[0].max()):.0%}" and right == ("right", CORRECT)
    assert second[0].startswith(best[1]) and wrong == ("wrong: another, other", WRONG)
    assert all(panels[0].size == (48 * 4, 64 * 4) for panels, _ in columns)  # 288 / 64 pixels, a whole multiple


def test_layouts_show_what_the_model_would_read():
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    sheet = draw_layouts(ClippoProcessor.from_size(64), picture, "a?")
    assert sheet.width == 24 + len(LAYOUTS) * (24 + 256)
