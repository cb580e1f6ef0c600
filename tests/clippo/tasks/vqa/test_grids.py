"""Grids in place of images: the cache, files of another tower, and batches in which questions share an image."""

import numpy as np
import pytest
import torch
from PIL import Image

import clippo
from clippo.processing import ClippoProcessor
from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.data import QuestionCollator, VisualQuestions
from clippo.tasks.vqa.grids import compute_grids, compute_question_tokens, open_grids

from ....tiny import tiny_model, tiny_processor

DRAW = np.random.default_rng(0)
IMAGES = [Image.fromarray(DRAW.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(5)]
ROWS = [(i, f"what is {j}?", ["yes"]) for i in range(5) for j in range(2)]


def make(**fields):
    return tiny_model(
        clippo.ClippoForVisualQuestionAnswering, num_labels=2, num_fusion_layers=1, skip_blank_patches=True, **fields
    )


def collator(model, **options):
    processor = tiny_processor(model.config)
    processor = ClippoProcessor(processor.image_processor, processor.tokenizer, "two_canvas")
    return QuestionCollator(processor, AnswerVocabulary(["yes", "no"]), **options)


@torch.no_grad()
def test_stored_grids_are_those_of_the_images():
    model = make()
    grids = compute_grids(model, tiny_processor(), IMAGES, batch_size=2, part_size=3)
    pixels = tiny_processor().image_processor(IMAGES, return_tensors="pt")["pixel_values"]
    assert grids.shape == (4, 4, 32) and len(grids) == 5 and grids[3].dtype == torch.float16
    torch.testing.assert_close(grids.values, model.get_grid_features(pixels).half(), atol=2e-3, rtol=0)
    assert torch.equal(grids.hidden()[0], grids.hidden()[4]) and not torch.equal(grids[0], grids.hidden()[0])


def test_the_cache_knows_weights_and_images(tmp_path, monkeypatch):
    model, processor = make(), tiny_processor()
    first = compute_grids(model, processor, IMAGES, tmp_path, part_size=2)
    encoded = []
    tower = type(model.base_model)
    whole = tower.get_grid_features
    monkeypatch.setattr(tower, "get_grid_features", lambda self, x: encoded.append(len(x)) or whole(self, x))

    def encoded_again(model, images=IMAGES, processor=processor):
        encoded.clear()
        grids = compute_grids(model, processor, images, tmp_path, part_size=2)
        return grids, encoded[:-1]  # the last one is the grid of a hidden image

    again, batches = encoded_again(model)
    assert torch.equal(again.values, first.values) and batches == []
    assert encoded_again(make(seed=3))[1] == [2, 2, 1]
    changed = [*IMAGES[:2], IMAGES[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT), *IMAGES[3:]]
    assert encoded_again(model, changed)[1] == [2]
    with torch.no_grad():
        model.fusion.source_embedding.add_(1)  # not a part of the tower
    assert encoded_again(model)[1] == []


def test_an_image_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match="Image 1 cannot be used, no image"):
        compute_grids(make(), tiny_processor(), [IMAGES[0], None])


@torch.no_grad()
@pytest.mark.parametrize("share", [True, False])
def test_a_batch_of_grids_answers_as_one_of_images(share):
    model = make()
    questions, collate = VisualQuestions(IMAGES, ROWS), collator(model, share_images=share)
    order = [3, 0, 1, 9, 2]
    images = collate(questions.__getitems__(order))
    questions.grids = compute_grids(model, tiny_processor(), IMAGES)
    grids = collate(questions.__getitems__(order))
    assert len(images["pixel_values"]) == len(grids["image_grid"]) == (3 if share else 5)
    assert ("image_index" in grids) == ("image_index" in images) == share
    torch.testing.assert_close(model(**grids).logits, model(**images).logits, atol=5e-3, rtol=0)
    assert model(**images).logits.std(0).min() > 1e-3


def test_files_of_another_tower(tmp_path):
    values = DRAW.normal(size=(5, 2, 3, 8)).astype(np.float16)
    np.save(tmp_path / "grids.npy", values)
    grids = open_grids(tmp_path / "grids.npy")
    assert grids.shape == (2, 3, 8) and np.array_equal(grids[4].numpy(), values[4])
    assert not grids.hidden()[2].any()
    np.save(tmp_path / "flat.npy", values[0])
    with pytest.raises(ValueError, match=r"flat.npy holds float16 \(2, 3, 8\); save float16 or float32 \(n, rows"):
        open_grids(tmp_path / "flat.npy")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"is not a file of numpy\.save"):
        open_grids(tmp_path / "text.npy")
    with pytest.raises(FileNotFoundError):
        open_grids(tmp_path / "none.npy")


@torch.no_grad()
@pytest.mark.parametrize("skip", [True, False])
def test_stored_questions_answer_as_drawn_ones(tmp_path, monkeypatch, skip):
    model = tiny_model(
        clippo.ClippoForVisualQuestionAnswering, num_labels=2, num_fusion_layers=1, skip_blank_patches=skip
    )
    texts = ["what is it?", "", "a longer question?", "what is it?"]
    tokens = compute_question_tokens(model, tiny_processor(), texts, tmp_path, batch_size=2, part_size=2)
    assert len(tokens) == 4 and torch.equal(tokens[0], tokens[3]) and tokens[0].dtype == torch.float16
    assert len(tokens[1]) == (1 if skip else 16) and torch.equal(tokens.hidden()[0], tokens[1])
    questions = VisualQuestions(IMAGES, [(i, text, ["yes"]) for i, text in enumerate(texts)])
    questions.grids = compute_grids(model, tiny_processor(), IMAGES)
    collate = collator(model)
    drawn = collate(questions.__getitems__(range(4)))
    questions.tokens = tokens
    stored = collate(questions.__getitems__(range(4)))
    assert "text_pixel_values" not in stored and stored["question_mask"].sum(1).tolist() == [
        len(t) for t in tokens.tokens
    ]
    torch.testing.assert_close(model(**stored).logits, model(**drawn).logits, atol=5e-3, rtol=0)
    monkeypatch.setattr(type(model.base_model), "forward", None)  # the second time all comes from the cache
    again = compute_question_tokens(model, tiny_processor(), texts, tmp_path, batch_size=2, part_size=2)
    assert all(torch.equal(a, b) for a, b in zip(again.tokens, tokens.tokens, strict=True))
