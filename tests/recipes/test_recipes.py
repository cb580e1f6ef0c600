"""Every recipe is read by the script that its first lines name: fields, sources, model and layout."""

import pytest
import yaml
from transformers import TrainingArguments

from clippo import ClippoConfig
from clippo.data import SourceSpec
from clippo.emoji import EmojiSpec
from clippo.processing.layout_question_clippo import QuestionLayout
from clippo.tasks.vqa.finetune import VqaDataArguments, VqaModelArguments
from clippo.training.arguments import DataArguments, ModelArguments, StepArguments, parse_recipe
from clippo.training.optimization import OptimizerArguments
from clippo.training.pretraining import CHANGEABLE

from ..conftest import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
CPU = ["--use_cpu", "true", "--bf16", "false", "--fp16", "false", "--tf32", "false"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_read(recipe):
    if "finetune_vqa.py" in recipe.read_text(encoding="utf-8"):
        kinds = (VqaModelArguments, VqaDataArguments, TrainingArguments)
        model, _, training = parse_recipe(kinds, [str(recipe), *CPU])
        QuestionLayout.from_options(model.layout)
        overrides = getattr(model, "config_overrides", None) or getattr(model, "model", None) or {}
    else:
        kinds = (ModelArguments, DataArguments, TrainingArguments, StepArguments, OptimizerArguments)
        model, data, training, *_ = parse_recipe(kinds, [str(recipe), *CPU])
        overrides = model.config_overrides
        for spec in [*data.sources, *([data.validation] if data.validation else [])]:
            kind = EmojiSpec if EmojiSpec.is_among([spec]) else SourceSpec
            assert ".." not in kind.from_dict(spec).path
    assert training.output_dir.startswith("runs/")
    if model.init_from and model.init_from.startswith("runs/"):
        outputs = {yaml.safe_load(other.read_text(encoding="utf-8"))["output_dir"] for other in RECIPES}
        assert model.init_from in outputs, "no recipe makes what this one starts from"
        assert set(overrides) <= set(CHANGEABLE)
    else:
        ClippoConfig.from_preset(model.preset, **overrides)
