"""The table of models in README.md is the one that the folders give, and its numbers are those of the cards."""

import shutil

import pytest
from huggingface_hub import ModelCard

from clippo.release.model_table import BEGIN, main, model_table, read_model, read_models, with_table

from ...conftest import ROOT

CHECKPOINTS = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/config.json"))


def test_the_readme_has_the_table_of_the_folders(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_table(text, model_table(read_models("checkpoints"))) == text, "run `make table`"


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_numbers_of_the_front_matter_stand_in_the_card(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.eval_results
    for result in card.data.eval_results:
        assert str(result.metric_value) in card.text, f"{result.dataset_name}: {result.metric_value}"
    assert f"{read_model(folder).parameters:,} parameters" in card.text


def test_the_command_follows_the_folders(tmp_path, monkeypatch):
    shutil.copytree(CHECKPOINTS[0], tmp_path / "checkpoints" / "another")
    (tmp_path / "README.md").write_text(f"# title\n{BEGIN}\nold\n<!-- end of models -->\nend\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    main()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# title\n{BEGIN}\n| model |") and text.endswith("<!-- end of models -->\nend\n")
    assert "[another](checkpoints/another/README.md) | 5.8 M | " in text and "old" not in text


def test_a_card_without_fields_and_a_page_without_marks(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# card\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks training_data, model-index; add it for the table"):
        read_model(tmp_path)
    with pytest.raises(ValueError, match="no place for the table of models"):
        with_table("# page", "| table |")
