"""`clippo export` keeps heads: a folder is loaded as the class that its config names."""

import json

import pytest
import torch

import clippo
from clippo.conversion.command import main_export

from ...tiny import save_tiny


@pytest.mark.parametrize(
    "name",
    [
        "ClippoForImageClassification",
        "ClippoForSequenceClassification",
        "ClippoForVisualQuestionAnswering",
        "ClippoModel",
        "ClippoVisionModel",
    ],
)
def test_every_class_is_exported_with_all_its_weights(tmp_path, name, capsys):
    kind = getattr(clippo, name)
    labels = {"num_labels": 5} if "For" in name else {}
    source = save_tiny(tmp_path / "trained", kind, **labels)
    main_export(["--model", source, "--output_dir", str(tmp_path / "published")])
    assert "Wrote" in capsys.readouterr().out
    expected = kind.from_pretrained(source).state_dict()
    published, loading = kind.from_pretrained(tmp_path / "published", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert published.dtype is torch.float32
    for key, tensor in published.state_dict().items():
        torch.testing.assert_close(tensor, expected[key].bfloat16().float(), rtol=0, atol=0)
    assert json.loads((tmp_path / "published" / "config.json").read_text())["architectures"] == [name]


def test_the_card_and_a_plain_processor(tmp_path):
    source = save_tiny(tmp_path / "trained", processor={"canvas_format": "packed"})
    (tmp_path / "card.md").write_text("# Card\n")
    output = tmp_path / "published"
    main_export(["--model", source, "--output_dir", str(output), "--card", str(tmp_path / "card.md")])
    assert (output / "README.md").read_text() == "# Card\n"
    assert clippo.ClippoProcessor.from_pretrained(output).tokenizer.canvas_format == "uint8"


@pytest.mark.parametrize("architectures", [["CLIPModel"], ["ClippoConfig"], ["ClippoModel", "ClippoVisionModel"]])
def test_other_classes_are_refused(tmp_path, architectures):
    source = save_tiny(tmp_path / "trained")
    config = json.loads((tmp_path / "trained" / "config.json").read_text())
    (tmp_path / "trained" / "config.json").write_text(json.dumps({**config, "architectures": architectures}))
    with pytest.raises(SystemExit, match=r"error: .* holds architectures=\['C"):
        main_export(["--model", source, "--output_dir", str(tmp_path / "published")])
    assert not (tmp_path / "published").exists()


def test_a_head_under_another_class_is_refused(tmp_path):
    """Before, the head was dropped and the projection was random, with exit status 0."""
    source = save_tiny(tmp_path / "trained", clippo.ClippoForImageClassification, num_labels=5)
    config = json.loads((tmp_path / "trained" / "config.json").read_text())
    (tmp_path / "trained" / "config.json").write_text(json.dumps({**config, "architectures": ["ClippoModel"]}))
    with pytest.raises(SystemExit, match="is no ClippoModel: missing keys logit_scale, projection"):
        main_export(["--model", source, "--output_dir", str(tmp_path / "published")])
