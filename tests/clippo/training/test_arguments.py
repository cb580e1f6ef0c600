"""Recipes: the command line wins, a misspelt or old name is refused, mappings come as JSON."""

import pytest
from transformers import TrainingArguments

from clippo.tasks.vqa.finetune import VqaModelArguments
from clippo.training.arguments import DataArguments, ModelArguments, parse_recipe

KINDS = (ModelArguments, DataArguments, TrainingArguments)


def test_the_command_line_wins_over_the_file(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "learning_rate: 1e-3\nrun_name: 1e5\nconfig_overrides: {hidden_size: 64}\ntexts_per_image: 2\nmax_steps: 7\n"
    )
    assert parse_recipe(KINDS, [str(recipe)])[1].texts_per_image == 2
    line = [str(recipe), "--max_steps", "9", "--texts_per_image", "3"]
    model_args, data_args, training_args = parse_recipe(KINDS, line)
    assert training_args.learning_rate == 1e-3 and training_args.run_name == "1e5"
    assert model_args.config_overrides == {"hidden_size": 64}
    assert data_args.texts_per_image == 3
    assert training_args.max_steps == 9


def test_no_file_is_needed():
    model_args, _, training_args = parse_recipe(KINDS, ["--preset", "S/16", "--seed", "3"])
    assert (model_args.preset, training_args.seed) == ("S/16", 3)


def test_a_name_that_no_argument_has(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rte: 0.1\n")
    with pytest.raises(ValueError, match="learning_rte"):
        parse_recipe(KINDS, [str(recipe)])


def test_mappings_come_as_json_on_the_command_line():
    model_args, *_ = parse_recipe(KINDS, ["--config_overrides", '{"hidden_size": 64}'])
    assert model_args.config_overrides == {"hidden_size": 64}
    with pytest.raises(ValueError, match=r"--config_overrides '\{hidden' is not JSON"):
        parse_recipe(KINDS, ["--config_overrides", "{hidden"])
    with pytest.raises(ValueError, match="config_overrides must be a dict, got list"):
        ModelArguments(config_overrides=["hidden_size"])


def test_the_old_name_of_config_overrides_is_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {hidden_size: 64}\n")
    for arguments in ([str(recipe)], ["--model", '{"hidden_size": 64}'], ['--model={"hidden_size": 64}']):
        with pytest.raises(ValueError, match="sets model, which is now called config_overrides"):
            parse_recipe(KINDS, arguments)


def test_the_scale_of_the_tower_replaces_its_freezing(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("freeze_tower: true\n")
    for arguments in ([str(recipe)], ["--freeze_tower", "true"]):
        with pytest.raises(
            ValueError, match="sets freeze_tower, which tower_lr_scale replaces; write tower_lr_scale: 0"
        ):
            parse_recipe((VqaModelArguments,), arguments)


@pytest.mark.parametrize(
    ("field", "form"),
    [("dataset: emoji", "kind: emoji"), ("languages: [en]", "kind: emoji"), ("caption_columns: c", "path")],
)
def test_old_data_fields_name_the_new_form(tmp_path, field, form):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(field + "\n")
    for arguments in ([str(recipe)], ["--" + field.split(":")[0], "x"]):
        with pytest.raises(ValueError, match=rf"is now a field of a source; write sources: \[{{.*{form}"):
            parse_recipe(KINDS, arguments)
