"""Losses against a teacher's vectors: their definitions, and a tower that learns given vectors with them."""

import pytest
import torch
from torch.nn import functional as F
from transformers import TrainingArguments

from clippo.training.distillation import DistillationArguments, distillation_loss, soft_target_loss
from clippo.training.trainer import ContrastiveTrainer

from ...tiny import tiny_model


def unit(rows, width, seed):
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_soft_targets_are_the_divergence_of_the_similarities():
    vectors, texts, temperature = unit(5, 8, 0), unit(5, 8, 1), 0.1
    wanted = (vectors @ vectors.T / temperature).softmax(1)
    found = (texts @ vectors.T / temperature).softmax(1)
    expected = (wanted * (wanted / found).log()).sum(1).mean()
    torch.testing.assert_close(soft_target_loss(vectors, texts, temperature), expected)
    torch.testing.assert_close(soft_target_loss(vectors, vectors, temperature), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_weights_of_the_sum():
    vectors, texts, contrastive = unit(5, 8, 0), unit(5, 8, 1), torch.tensor(2.0)
    arguments = DistillationArguments(0.5, soft_target_weight=2.0, soft_target_temperature=0.2, cosine_weight=3.0)
    cosine = 1 - F.cosine_similarity(vectors, texts).mean()
    expected = 0.5 * 2.0 + 2.0 * soft_target_loss(vectors, texts, 0.2) + 3.0 * cosine
    torch.testing.assert_close(distillation_loss(arguments, contrastive, vectors, texts), expected)
    assert distillation_loss(DistillationArguments(), contrastive, vectors, texts) is not None
    assert not DistillationArguments().changes_the_loss
    assert DistillationArguments(anchor_weight=1.0).changes_the_loss
    assert "anchor_weight" not in DistillationArguments(0.5).settings(), "an older run with these weights is resumed"
    assert DistillationArguments(0.5, anchor_weight=2.0).settings()["anchor_weight"] == 2.0


def test_only_texts_have_a_gradient():
    vectors, texts = unit(4, 8, 0).requires_grad_(), unit(4, 8, 1).requires_grad_()
    soft_target_loss(vectors, texts, 0.1).backward()
    assert vectors.grad is None and texts.grad.abs().sum() > 0


def test_impossible_weights_are_refused():
    with pytest.raises(ValueError, match="leave nothing to learn"):
        DistillationArguments(0.0)
    with pytest.raises(ValueError, match="must be positive"):
        DistillationArguments(soft_target_temperature=0.0)


def test_a_tower_learns_given_vectors(tmp_path):
    """With soft targets and cosine alone, texts come near to their vectors."""
    torch.manual_seed(0)
    model = tiny_model(image_tower="teacher", project_images=False)
    canvases = (torch.rand(8, 1, *model.config.canvas_size) > 0.7) * torch.tensor(-1.0)
    vectors = unit(8, model.config.projection_dim, 0)
    batch = {"image_embeds": vectors, "text_pixel_values": canvases, "return_loss": True}

    def cosine():
        with torch.no_grad():
            return model.eval()(**batch).text_embeds.mul(vectors).sum(1).mean().item()

    before = cosine()
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=30,
        learning_rate=3e-3,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
    )
    losses = DistillationArguments(0.0, soft_target_weight=1.0, cosine_weight=1.0)
    trainer = ContrastiveTrainer(
        model, arguments, train_dataset=[0] * 8, data_collator=lambda rows: dict(batch), distillation=losses
    )
    trainer.train()
    assert cosine() > before + 0.3
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1] < 0.7 * logged[0]
