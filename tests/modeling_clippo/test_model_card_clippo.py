"""A saved folder explains itself, without overwriting what its owner wrote."""

import pytest
import yaml
from transformers import PreTrainedModel

from clippo import ClippoForSequenceClassification, ClippoModel, ClippoVisionModel

from ..tiny import tiny_model


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
    """transformers pushes in three steps: save, put its own or the hub's card over README.md, upload."""
    uploaded = {}

    def upload(self, working_dir, *args, **kwargs):
        uploaded["card"] = (tmp_path / "README.md").read_text(encoding="utf-8")

    monkeypatch.setattr(PreTrainedModel, "_upload_modified_files", upload)
    model = tiny_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(written, encoding="utf-8")
    model._upload_modified_files(tmp_path, "somebody/clippo", {})
    assert ("pipeline_tag" in uploaded["card"]) == ("automatically" in written)
