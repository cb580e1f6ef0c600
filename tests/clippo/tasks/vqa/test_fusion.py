"""Fine-tuning with two canvases: frozen grids, grids of another tower, statements with labels, captions that match."""

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import TrainingArguments, pipeline

import clippo
from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.data import load_questions
from clippo.tasks.vqa.finetune import VqaDataArguments, VqaModelArguments, evaluate_hidden, finetune_vqa
from clippo.tasks.vqa.model import build_vqa_model

TINY = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, patch_size=16)
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
LABELS = ["entailment", "neutral", "contradiction"]


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """Red and blue squares with statements, three labels and captions."""
    path = tmp_path_factory.mktemp("squares") / "train.parquet"
    names = [colour for colour in COLOURS for _ in range(8)]
    statements = ["it is red", "it is blue", "it is old"]
    rows = {
        "image": [Image.new("RGB", (24, 24), COLOURS[name]) for name in names for _ in statements],
        "hypothesis": statements * 16,
        "label": [label for name in names for label in ([0, 2, 1] if name == "red" else [2, 0, 1])],
        "captions": [[f"a {name} square"] for name in names for _ in statements],
    }
    features = datasets.Features(
        image=datasets.Image(),
        hypothesis=datasets.Value("string"),
        label=datasets.ClassLabel(names=LABELS),
        captions=datasets.List(datasets.Value("string")),
    )
    datasets.Dataset.from_dict(rows, features).to_parquet(str(path))
    return str(path)


def data(parquet, **options):
    columns = dict(question_column="hypothesis", answer_column="label")
    return VqaDataArguments(**{"train": parquet, "validation": parquet, **columns, **options})


def training(folder, **options):
    defaults = dict(
        output_dir=str(folder), max_steps=60, per_device_train_batch_size=16, learning_rate=5e-3, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
    )  # fmt: skip
    return TrainingArguments(**{**defaults, **options})


def model(**options):
    return VqaModelArguments(config_overrides=TINY, image_size=[32, 64], loss="softmax", num_fusion_layers=1, **options)


def test_statements_with_three_labels_are_learned(parquet, tmp_path):
    trained = finetune_vqa(model(), data(parquet), training(tmp_path))
    hidden = json.loads((tmp_path / "hidden_results.json").read_text())
    assert trained.evaluate()["eval_exact_match"] == 1 and 0.3 < hidden["hidden_exact_match"] < 0.7
    assert sorted(trained.model.config.id2label.values()) == sorted(LABELS)
    ask = pipeline("clippo-visual-question-answering", str(tmp_path))
    image = Image.new("RGB", (24, 24), COLOURS["blue"])
    best = [answers[0]["answer"] for answers in ask(image, ["it is red", "it is blue", "it is old"])]
    assert best == ["contradiction", "entailment", "neutral"]
    assert ask.processor.question_layout["place"] == "two_canvas"


def test_stored_grids_train_as_fresh_ones(parquet, tmp_path, save_tiny):
    folder = save_tiny(image_size=[32, 64], num_hidden_layers=1, skip_blank_patches=True)
    args = VqaModelArguments(init_from=folder, num_fusion_layers=1, loss="softmax", tower_lr_scale=0)
    losses = []
    for cache in (None, str(tmp_path / "cache")):
        arguments = training(tmp_path / "run", max_steps=4, logging_steps=1, learning_rate=1e-3)
        trained = finetune_vqa(args, data(parquet, grid_cache=cache), arguments)
        losses.append([entry["loss"] for entry in trained.state.log_history if "loss" in entry])
        assert (trained.train_dataset.grids is None) == (trained.train_dataset.tokens is None) == (cache is None)
    assert losses[0] == pytest.approx(losses[1], abs=2e-3) and losses[0][0] != losses[0][-1]
    tower = clippo.ClippoModel.from_pretrained(folder).vision_model
    for name, weight in trained.model.vision_model.state_dict().items():
        assert torch.equal(weight, tower.state_dict()[name]), name
    hidden = finetune_vqa(args, data(parquet, grid_cache=cache, blind="picture"), training(tmp_path, max_steps=1))
    assert torch.equal(hidden.train_dataset.grids[0], hidden.train_dataset.grids[-1])


def test_grids_of_another_tower_are_learned_and_saved(parquet, tmp_path):
    colours = [COLOURS[name] for name in COLOURS for _ in range(24)]
    np.save(tmp_path / "grids.npy", np.array(colours, np.float32).reshape(48, 1, 1, 3).repeat(2, 2) / 255)
    grids = dict.fromkeys(("train_grids", "validation_grids"), str(tmp_path / "grids.npy"))
    trained = finetune_vqa(model(), data(parquet, **grids), training(tmp_path / "run", max_steps=80))
    assert trained.evaluate()["eval_exact_match"] == 1
    assert evaluate_hidden(trained)["hidden_exact_match"] < 0.7
    assert trained.evaluate()["eval_exact_match"] == 1  # the images are back
    saved = clippo.ClippoForVisualQuestionAnswering.from_pretrained(tmp_path / "run")
    assert list(saved.config.image_grid_shape) == [1, 2, 3]
    blind = finetune_vqa(model(), data(parquet, **grids, blind="picture"), training(tmp_path / "blind"))
    assert blind.evaluate()["eval_exact_match"] < 0.9


def test_captions_are_matched_and_questions_follow(parquet, tmp_path):
    captions = data(parquet, matching=True, question_column=None)
    arguments = training(tmp_path / "matching", per_device_eval_batch_size=48)
    trained = finetune_vqa(model(), captions, arguments)
    # Half of the captions are swapped, and half of those with an image of the same colour: 0.75 is possible.
    assert trained.evaluate()["eval_accuracy"] > 0.6
    assert trained.model.config.id2label == {0: "false", 1: "true"}
    args = VqaModelArguments(init_from=str(tmp_path / "matching"), loss="softmax")
    questions, processor = build_vqa_model(args, AnswerVocabulary(LABELS))
    assert torch.equal(questions.fusion.source_embedding, trained.model.fusion.source_embedding)
    assert questions.classifier.out_features == 3 and processor.question_layout["place"] == "two_canvas"


def test_answers_of_a_class_are_their_names(parquet):
    questions = load_questions(parquet, question_column="hypothesis", answer_column="label")
    assert questions.rows[:3] == [
        (0, "it is red", ["entailment"]), (1, "it is blue", ["contradiction"]), (2, "it is old", ["neutral"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "others", "message"),
    [
        ({}, dict(grid_cache="cache"), "needs num_fusion_layers of 1 or more and tower_lr_scale=0"),
        ({}, dict(train_grids="x.npy"), "Only one of train_grids and validation_grids is given"),
        ({}, dict(train_grids="x.npy", validation_grids="x.npy", flip=True), "flip and shift change images"),
        (dict(layout={"place": "top"}), {}, "place='top' does not go with num_fusion_layers=1"),
    ],
)
def test_settings_that_contradict_each_other(parquet, tmp_path, options, others, message):
    with pytest.raises(ValueError, match=message):
        finetune_vqa(model(**options), data(parquet, **others), training(tmp_path))
