"""Every shipped recipe is read: fields, sources, model, layout; its data are where `clippo prepare` puts them."""

import re

import pytest
import yaml
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from clippo import ClippoConfig
from clippo.data import SourceSpec
from clippo.processing.layout_question_clippo import QuestionLayout
from clippo.recipe_files import find_recipe, recipe_names
from clippo.tasks.generation.finetune import GenerationModelArguments, TaskArguments
from clippo.tasks.generation.specs import TaskSpec
from clippo.tasks.vqa.finetune import VqaDataArguments, VqaModelArguments
from clippo.training.arguments import DataArguments, ModelArguments, StepArguments, parse_recipe
from clippo.training.distillation import DistillationArguments
from clippo.training.optimization import OptimizerArguments
from clippo.training.pretraining import ALONE, CHANGEABLE

RECIPES = [name for name in recipe_names() if "/" not in name]  # the folders hold launch and evaluation configs
CPU = ["--use_cpu", "true", "--bf16", "false", "--fp16", "false", "--tf32", "false"]
PRETRAINING = (
    *(ModelArguments, DataArguments, TrainingArguments, StepArguments, OptimizerArguments, DistillationArguments),
)
# Data set in a recipe -> folder of the reference data.
SHARED = {
    "books": "classic_books",
    "flowers": "tf_flowers",
    "multi30k": "multi30k_text",
    "speeches": "us_speeches",
    "wikitext": "wikitext2",
}
MADE = ("emoji", "pictograms", "text_views")  # data sets that `clippo build` makes
BY_HAND = ("coco", "image_text", "laion400m", "snli_ve")  # data sets that users bring


def content(name: str) -> str:
    return find_recipe(name).read_text(encoding="utf-8")


def is_pretraining(name: str) -> bool:
    return "sources" in yaml.safe_load(content(name))


def is_generation(name: str) -> bool:
    return "tasks" in yaml.safe_load(content(name))


def test_there_are_recipes():
    assert sum(map(is_pretraining, RECIPES)) >= 7


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_read(name):
    if is_pretraining(name):
        model, data, training, *_ = parse_recipe(PRETRAINING, [name, *CPU])
        specs = [*data.sources, *([data.validation] if data.validation else [])]
        kinds = [next((kind for kind in ALONE if kind.is_among([spec])), SourceSpec) for spec in specs]
        specs = [kind.from_dict(spec) for kind, spec in zip(kinds, specs, strict=True)]
        assert sum(getattr(spec, "weight", 1) for spec in specs[: len(data.sources)]) == pytest.approx(1)
        overrides = model.config_overrides
    elif is_generation(name):
        kinds = (GenerationModelArguments, TaskArguments, Seq2SeqTrainingArguments)
        model, data, training = parse_recipe(kinds, [name, *CPU])
        specs = [TaskSpec.from_dict(spec) for spec in data.tasks]
        assert sum(spec.weight for spec in specs) == pytest.approx(1)
        assert [TaskSpec.from_dict(spec) for spec in data.validation]
        overrides = model.config_overrides
    else:
        model, _, training = parse_recipe((VqaModelArguments, VqaDataArguments, TrainingArguments), [name, *CPU])
        QuestionLayout.from_options(model.layout)
        overrides = getattr(model, "config_overrides", None) or {}
    assert training.output_dir.startswith("runs/") and isinstance(training.learning_rate, float)
    start = getattr(model, "init_from", None) or getattr(model, "model", None)
    if start and str(start).startswith("runs/"):
        assert start in {yaml.safe_load(content(other))["output_dir"] for other in RECIPES}, "no recipe makes it"
        assert set(overrides) <= set(CHANGEABLE)
    else:
        assert isinstance(ClippoConfig.from_preset(model.preset, **overrides).hidden_size, int)


@pytest.mark.parametrize("name", RECIPES)
def test_data_of_a_recipe_can_be_prepared(name, shared):
    """Recipes name data as `data/NAME/...`; the reference data has the same files, perhaps in another folder."""
    text = content(name)
    assert "shared" not in text
    for folder in sorted(set(re.findall(r"data/(\w+)/?", text)) - {*MADE, *BY_HAND}):
        assert shared("data", SHARED.get(folder, folder)).is_dir()
    if not is_pretraining(name):
        return
    recipe = yaml.safe_load(text)
    for spec in [*recipe["sources"], *([recipe["validation"]] if "validation" in recipe else [])]:
        _, folder, *file = spec["path"].split("/")
        if file and folder not in (*MADE, *BY_HAND, "c4"):
            place = shared("data", SHARED.get(folder, folder))
            assert list(place.glob("/".join(file))), f"{spec['path']} matches no file"
