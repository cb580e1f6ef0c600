"""A saved folder has a model card, and a card that exists is not overwritten."""

import pytest
import torch
import yaml
from PIL import Image
from transformers import PreTrainedModel, pipeline

from clippo import ClippoForSequenceClassification, ClippoModel, ClippoProcessor, ClippoVisionModel

from ..tiny import save_tiny, tiny_model


@pytest.mark.parametrize(
    ("model_class", "task"),
    [
        (ClippoModel, "zero-shot-image-classification"),
        (ClippoVisionModel, "image-feature-extraction"),
        (ClippoForSequenceClassification, "text-classification"),
    ],
)
def test_a_saved_folder_has_a_card_for_the_hub(tmp_path, model_class, task):
    model = tiny_model(model_class)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    front_matter = yaml.safe_load(card.split("---")[1])
    assert front_matter["library_name"] == "transformers"
    assert front_matter["pipeline_tag"] == task
    assert f'pipeline("{task}"' in card and f"{model.num_parameters():,}" in card


def test_a_card_that_exists_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    tiny_model().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("written", ["This model card has been automatically generated.", "mine, on the hub before"])
def test_pushing_keeps_our_card_unless_there_is_a_written_one(tmp_path, monkeypatch, written):
    """A push of transformers saves, replaces README.md by its own card or that of the hub, and uploads."""
    uploaded = {}

    def upload(self, working_dir, *args, **kwargs):
        uploaded["card"] = (tmp_path / "README.md").read_text(encoding="utf-8")

    monkeypatch.setattr(PreTrainedModel, "_upload_modified_files", upload)
    model = tiny_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(written, encoding="utf-8")
    model._upload_modified_files(tmp_path, "somebody/clippo", {})
    assert ("pipeline_tag" in uploaded["card"]) == ("automatically" in written)


def test_the_card_of_a_sigmoid_model_gives_its_own_scores(tmp_path):
    """The pipeline of transformers applies softmax; the two lines of the card give independent probabilities."""
    sigmoid = dict(loss_type="sigmoid", logit_bias_init_value=-10.0)
    save_tiny(tmp_path, **sigmoid)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    names = {
        "pipe": pipeline("zero-shot-image-classification", str(tmp_path)),
        "image": Image.new("RGB", (40, 30), "red"),
        "labels": ["cat", "dog", "bird"],
    }
    exec(card.split("```python")[2].split("```")[0], names)
    model, processor = ClippoModel.from_pretrained(tmp_path), ClippoProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        output = model(**processor(images=names["image"], text=names["labels"], return_tensors="pt"))
    cosines = output.image_embeds @ output.text_embeds.T
    expected = torch.sigmoid(model.logit_scale.exp() * cosines + model.logit_bias)
    torch.testing.assert_close(names["scores"].detach(), expected.detach())
    assert names["scores"].sum() < 0.5  # softmax scores would add up to 1
    tiny_model().save_pretrained(tmp_path / "softmax")
    assert "sigmoid" not in (tmp_path / "softmax" / "README.md").read_text(encoding="utf-8")


def test_the_card_of_a_model_with_experts_has_its_active_parameters(tmp_path):
    dense, model = tiny_model(), tiny_model(num_experts=8)
    model.save_pretrained(tmp_path)
    active = dense.num_parameters() + 8 * 32  # the router of one block
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"| experts | 8 in blocks 1; {active:,} active parameters |" in card
