"""Model surgery: more channels for a model of text."""

import pytest
import torch

import clippo
from clippo.surgery import freeze_others, grow, inflate_patch_embedding
from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.finetune import VqaModelArguments, build_vqa_model

from ..tiny import tiny_model


def test_inflate_patch_embedding_reads_text_as_before(tiny_config):
    torch.manual_seed(0)
    model = clippo.ClippoModel(tiny_config(num_channels=1)).eval()
    texts = clippo.ClippoProcessor.from_size(model.config.image_size)(text=["a", "red shape"], return_tensors="pt")
    with torch.no_grad():
        before = model.get_text_features(**texts).pooler_output
        inflate_patch_embedding(model)
        torch.testing.assert_close(model.get_text_features(**texts).pooler_output, before, rtol=0, atol=5e-6)
    assert model.config.num_channels == 3
    with pytest.raises(ValueError, match="reads 3 channels already"):
        inflate_patch_embedding(model)


def test_a_model_of_text_answers_about_colours(tiny_config, tmp_path):
    config = tiny_config(num_channels=1)
    clippo.ClippoModel(config).save_pretrained(tmp_path)
    clippo.ClippoProcessor.from_size(config.image_size).save_pretrained(tmp_path)
    model, _ = build_vqa_model(VqaModelArguments(init_from=str(tmp_path)), AnswerVocabulary(["yes", "no"]))
    height, width = config.canvas_size
    red, blue = torch.zeros(2, 1, 3, height, width).unbind()
    red[:, 0], blue[:, 2] = 1, 1
    with torch.no_grad():
        model.vision_model.embeddings.patch_embedding.weight[:, 0] *= 2  # what training may do
        assert not torch.equal(model(pixel_values=red).logits, model(pixel_values=blue).logits)
    model.save_pretrained(tmp_path / "saved")
    assert clippo.ClippoForVisualQuestionAnswering.from_pretrained(tmp_path / "saved").config.num_channels == 3


def test_only_named_parameters_have_a_gradient():
    model = grow(tiny_model(), num_modality_layers=1, modality_norms=True)
    freeze_others(model, r"\.image\.")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(".image." in name for name in trained)
    images, texts = torch.rand(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) > 0.7) * -1.0
    model.train()(pixel_values=images, text_pixel_values=texts, return_loss=True).loss.backward()
    graded = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert graded <= trained and any("self_attn" in name for name in graded)
    with pytest.raises(ValueError, match="No parameter has 'nothing' in its name; names are logit_scale"):
        freeze_others(model, "nothing")
