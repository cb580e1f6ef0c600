"""Anchors: their definition, and a tower that learns to place images and texts at them."""

import pytest
import torch
from torch.nn import functional as F
from transformers import TrainingArguments

from clippo.training.anchors import Anchors, make_anchors
from clippo.training.distillation import DistillationArguments
from clippo.training.trainer import ContrastiveTrainer

from ...tiny import tiny_model, tiny_processor

TEXTS = [["cat", "Katze"], ["dog"], ["house", "Haus", "дом"], ["sea"]]


def test_an_anchor_is_the_mean_vector_of_the_texts():
    model, tokenizer = tiny_model(), tiny_processor().tokenizer
    anchors = make_anchors(model.train(), tokenizer, TEXTS)
    assert model.training, "the mode is as before"
    for own, anchor in zip(TEXTS, anchors.vectors, strict=True):
        with torch.no_grad():
            pixels = tokenizer(own, return_tensors="pt")["text_pixel_values"]
            vectors = F.normalize(model.eval().get_text_features(text_pixel_values=pixels).pooler_output, dim=1)
        torch.testing.assert_close(anchor, F.normalize(vectors.mean(0), dim=0), atol=1e-5, rtol=0)
    assert anchors.scale == pytest.approx(model.logit_scale.exp().item())


def test_the_loss_is_the_mean_of_both_cross_entropies():
    generator = torch.Generator().manual_seed(0)
    table, images, texts = (F.normalize(torch.randn(n, 6, generator=generator), dim=1) for n in (5, 3, 6))
    numbers = torch.tensor([4, 0, 2])
    found = Anchors(table, 7.0).loss(images, texts, numbers)

    def mean(rows, labels):
        chances = (7.0 * rows @ table.T).softmax(1)
        return -chances[torch.arange(len(rows)), labels].log().mean()

    torch.testing.assert_close(found, (mean(images, numbers) + mean(texts, numbers.repeat(2))) / 2)


def test_a_concept_without_texts_is_refused():
    with pytest.raises(ValueError, match="Concept 1 of 2 has no text"):
        make_anchors(tiny_model(), tiny_processor().tokenizer, [["cat"], []])


def test_a_tower_learns_images_from_anchors_alone(tmp_path):
    """No contrastive loss: images come to the names of their concepts, and the names stay."""
    model, processor = tiny_model(), tiny_processor()
    anchors = make_anchors(model, processor.tokenizer, TEXTS)
    images = torch.rand(4, 3, *model.config.canvas_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = processor.tokenizer([own[0] for own in TEXTS], return_tensors="pt")["text_pixel_values"]
    batch = {"pixel_values": images, "text_pixel_values": pixels, "return_loss": True, "concepts": torch.arange(4)}
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, max_steps=40, learning_rate=3e-3, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    losses = DistillationArguments(0.0, anchor_weight=1.0)
    trainer = ContrastiveTrainer(
        model, arguments, train_dataset=[0] * 4, data_collator=lambda rows: dict(batch), distillation=losses
    )
    trainer.anchors = anchors
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1] < 0.5 * logged[0]
    with torch.no_grad():
        out = model.eval()(pixel_values=images, text_pixel_values=pixels)
    assert (out.text_embeds @ out.image_embeds.T).argmax(1).tolist() == [0, 1, 2, 3]
