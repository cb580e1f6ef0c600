"""A tiny run of two tasks in one batch: training, metrics of each task, the control, resumption, the saved folder."""

import json

import datasets
import pytest
from PIL import Image
from transformers import Seq2SeqTrainingArguments, pipeline

import clippo
from clippo.tasks.generation.finetune import (
    GenerationModelArguments,
    TaskArguments,
    build_writer,
    finetune_generate,
)

TINY = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = {
        "image": [Image.new("RGB", (24, 24), COLOURS[name]) for name in ["red", "blue"] * 8][:15],
        "en": (["red", "blue"] * 8)[:15],
        "de": (["rot", "blau"] * 8)[:15],
    }
    features = datasets.Features(image=datasets.Image(), en=datasets.Value("string"), de=datasets.Value("string"))
    datasets.Dataset.from_dict(rows, features).to_parquet(str(folder / "squares.parquet"))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("ab", "ba", "aa", "bb") * 4)
    (folder / "lines.jsonl").write_text(lines)
    return folder


def arguments(folder, output, steps, **options):
    caption = {"task": "caption", "path": str(folder / "squares.parquet"), "text_columns": {"en": "en", "de": "de"}}
    caption |= {"prompt": "{language}"}
    read = {"task": "read", "path": str(folder / "lines.jsonl"), "text_columns": "text", "min_columns": 2}
    tasks = TaskArguments([caption | {"weight": 0.5}, read | {"weight": 0.5}], [caption, read], control=True)
    model = GenerationModelArguments(
        preset="Ti/16", config_overrides=TINY, image_size=32, num_decoder_layers=1, decoder_max_length=8
    )
    training = Seq2SeqTrainingArguments(
        str(output), max_steps=steps, per_device_train_batch_size=14, learning_rate=5e-3, use_cpu=True, seed=0,
        report_to="none", disable_tqdm=True, per_device_eval_batch_size=16, lr_scheduler_type="constant", **options,
    )  # fmt: skip
    return model, tasks, training


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    finetune_generate(*arguments(folder, output, 120, save_strategy="no"))
    return output


def test_each_task_has_its_metric_and_the_images_matter(trained):
    metrics = json.loads((trained / "eval_results.json").read_text())
    assert metrics["eval_caption_en_CIDEr-D"] == pytest.approx(2.5, abs=0.1)  # 10 of the 4 kinds of n-grams that exist
    assert metrics["eval_caption_distinct"] == 4 / 30
    assert metrics["eval_read_CER"] == 0
    entries = [json.loads(line) for line in (trained / "texts_caption.jsonl").read_text().splitlines()]
    assert all(entry["text"] in entry["references"] for entry in entries)
    exchanged = [json.loads(line) for line in (trained / "texts_caption_exchanged.jsonl").read_text().splitlines()]
    assert [entry["references"] for entry in exchanged] == [entry["references"] for entry in entries]
    assert 0 < sum(entry["text"] in entry["references"] for entry in exchanged) < 20


def test_the_saved_folder_writes(trained):
    write = pipeline("clippo-image-text-to-text", str(trained))
    blue = Image.new("RGB", (24, 24), COLOURS["blue"])
    assert write(blue, "de") == [{"generated_text": "blau"}]
    assert write(text="ba") == [{"generated_text": "ba"}]


def test_a_resumed_run_ends_with_the_same_weights(folder, tmp_path):
    model, tasks, training = arguments(folder, tmp_path / "whole", 6, save_strategy="no")
    whole = finetune_generate(model, TaskArguments(tasks.tasks), training).model.state_dict()
    model, tasks, training = arguments(folder, tmp_path / "parts", 6, save_steps=3)
    training.num_train_epochs, training.max_steps = 1, 3
    finetune_generate(model, TaskArguments(tasks.tasks), training)
    model, tasks, training = arguments(folder, tmp_path / "parts", 6, save_steps=3)
    parts = finetune_generate(model, TaskArguments(tasks.tasks), training).model.state_dict()
    assert all((value == whole[name]).all() for name, value in parts.items())


def test_a_frozen_tower_keeps_the_weights_of_init_from(folder, tmp_path, save_tiny):
    start = save_tiny(clippo.ClippoModel, skip_blank_patches=True)
    model, tasks, training = arguments(folder, tmp_path, 2, save_strategy="no")
    model.init_from, model.config_overrides, model.tower_lr_scale, model.image_size = start, {}, 0.0, None
    trained = finetune_generate(model, TaskArguments(tasks.tasks), training).model
    before = clippo.ClippoModel.from_pretrained(start).vision_model.state_dict()
    assert all((value == before[name]).all() for name, value in trained.vision_model.state_dict().items())


def test_what_init_from_fixes_is_refused(save_tiny):
    start = save_tiny(clippo.ClippoForConditionalGeneration, num_decoder_layers=1, decoder_max_length=16)
    model, processor = build_writer(GenerationModelArguments(init_from=start, image_size=[32, 96]))
    assert model.config.canvas_size == (32, 96) == tuple(processor.tokenizer.canvas_size)
    with pytest.raises(ValueError, match="num_decoder_layers cannot change"):
        build_writer(GenerationModelArguments(init_from=start, num_decoder_layers=2))


def test_no_task_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="There are no tasks to train on"):
        finetune_generate(
            GenerationModelArguments(), TaskArguments(), Seq2SeqTrainingArguments(str(tmp_path), use_cpu=True)
        )
