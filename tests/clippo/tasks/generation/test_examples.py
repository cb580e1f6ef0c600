"""Specifications, lines, examples and collator."""

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import clippo
from clippo.processing.bytes_clippo import to_text
from clippo.tasks.generation.collator import GenerationCollator
from clippo.tasks.generation.examples import TaskExamples
from clippo.tasks.generation.lines import columns, draw_line, passages, random_line, split_line
from clippo.tasks.generation.specs import TaskSpec

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """Eight squares with English and German captions, of which the first lacks the German one."""
    path = tmp_path_factory.mktemp("squares") / "train.parquet"
    names = ["red", "blue"] * 4
    rows = {
        "image": [Image.new("RGB", (24, 24), COLOURS[name]) for name in names],
        "en": [[f"a {name} square", f"{name}"] for name in names],
        "de": [None] + ["rot" if name == "red" else "blau" for name in names[1:]],
        "question": ["red?"] * 8,
        "answer": ["yes", "no"] * 4,
    }
    features = datasets.Features(
        image=datasets.Image(),
        en=datasets.List(datasets.Value("string")),
        de=datasets.Value("string"),
        question=datasets.Value("string"),
        answer=datasets.Value("string"),
    )
    datasets.Dataset.from_dict(rows, features).to_parquet(str(path))
    return str(path)


@given(st.text(max_size=25), st.integers(1, 5), st.integers(5, 20), st.integers(0, 99))
def test_a_line_is_a_part_of_its_passage(text, least, most, seed):
    for passage in passages(text):
        line = draw_line(passage, least, most, np.random.default_rng(seed))
        assert line in passage
        assert columns(line) <= most


@settings(max_examples=30)
@given(st.text(max_size=900))
def test_passages_lose_nothing_but_spaces(text):
    assert "".join("".join(passages(text)).split()) == "".join(text.split())
    assert all(len(passage) <= 400 for passage in passages(text))


def test_random_lines_have_the_characters_of_their_language():
    line = random_line(["猫", "犬"], 10, 10, np.random.default_rng(0))
    assert set(line) <= {"猫", "犬", " "}
    assert columns(line) <= 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "sing"}, "task='sing' is not known; write one of caption, answer"),
        ({"task": "read"}, "the task 'read' needs text_columns"),
        ({"task": "read", "text_columns": "t", "prompt": "read"}, "the prompt 'read' draws no text"),
        ({"task": "answer", "prompt": "what"}, "the prompt 'what' draws no question"),
        ({"task": "caption", "text_columns": "t", "rows": [3, 3]}, r"rows=\[3, 3\] is not a range"),
        ({"task": "read", "text_columns": "t", "max_columns": 2}, "min_columns=4 and max_columns=2"),
        ({"task": "name", "question_pattern": "red"}, "question_pattern selects questions, but the task is 'name'"),
        ({"task": "answer", "question_pattern": "("}, r"question_pattern='\(' is not a regular expression \(missing"),
        ({"task": "read", "text_columns": "t", "random_share": 2}, "random_share=2 is not a share"),
    ],
)
def test_impossible_tasks_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TaskSpec("data.parquet", **fields)


def test_captions_are_drawn_in_training_and_fixed_in_evaluation(parquet):
    spec = TaskSpec(parquet, "caption", text_columns={"en": "en", "de": "de"})
    train, fixed = TaskExamples(spec), TaskExamples(spec, sampling=False)
    assert (len(train), len(fixed)) == (8, 15)
    assert fixed[0]["prompt"] == "caption en"
    assert (fixed[2]["prompt"], fixed[2]["target"], fixed.references[2]) == ("caption de", "blau", ["blau"])
    assert fixed.languages[:3] == ["en", "en", "de"]
    drawn = {train.read(1, np.random.default_rng(seed))["target"] for seed in range(40)}
    assert drawn == {"a blue square", "blue", "blau"}
    only = TaskExamples(TaskSpec(parquet, "caption", text_columns={"en": "en", "de": "de"}, languages=["de"]), False)
    assert set(only.languages) == {"de"}


def test_exchanged_images_keep_prompts_and_references(parquet):
    examples = TaskExamples(TaskSpec(parquet, "answer", limit=5), sampling=False)
    other = examples.exchanged()
    assert len(examples) == 5
    assert other.references == examples.references
    images = [np.asarray(item["image"])[0, 0].tolist() for item in (examples[i] for i in range(5))]
    moved = [np.asarray(other[i]["image"])[0, 0].tolist() for i in range(5)]
    assert moved == images[2:] + images[:2]


def test_questions_are_selected_by_a_pattern(tmp_path):
    rows = {
        "image": [Image.new("RGB", (8, 8))],
        "questions": [["red?", "round?", "is it red?"]],
        "answers": [["no"] * 3],
    }
    features = datasets.Features(
        image=datasets.Image(),
        questions=datasets.List(datasets.Value("string")),
        answers=datasets.List(datasets.Value("string")),
    )
    datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / "q.parquet"))
    spec = TaskSpec(str(tmp_path / "q.parquet"), "answer", question_pattern="red")
    assert [item["prompt"] for item in map(TaskExamples(spec, False).__getitem__, range(2))] == ["red?", "is it red?"]
    with pytest.raises(ValueError, match="answer: there is no example"):
        TaskExamples(TaskSpec(str(tmp_path / "q.parquet"), "answer", question_pattern="blue"))


def test_lines_to_continue_and_rows_of_a_file(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "one two three four five six", "lang": "en"}\n{"text": "eins zwei", "lang": "de"}\n')
    spec = dict(path=str(file), text_columns="text", language_column="lang", max_columns=27)
    item = TaskExamples(TaskSpec(task="continue", **spec), sampling=False)[0]
    assert f"{item['prompt']} {item['target']}" in "one two three four five six"
    assert TaskExamples(TaskSpec(task="read", rows=[1, 2], **spec), sampling=False).languages == ["de"]
    with pytest.raises(ValueError, match="there is no example"):
        TaskExamples(TaskSpec(task="read", languages=["fr"], **spec), sampling=False)


@given(st.text(min_size=2, max_size=20), st.integers(0, 99))
def test_both_parts_of_a_split_line_make_it_whole(text, seed):
    line = " ".join(text.split())
    if len(line) < 2:
        with pytest.raises(ValueError, match="cannot be cut in two; it needs two characters"):
            split_line(line, np.random.default_rng(seed))
        return
    first, rest = split_line(line, np.random.default_rng(seed))
    assert first and rest and line in (first + rest, f"{first} {rest}")


def test_captions_are_split_beside_their_image(parquet):
    spec = TaskSpec(parquet, "split", text_columns={"en": "en", "de": "de"}, prompt="{language}: {text}")
    fixed = TaskExamples(spec, sampling=False)
    assert len(fixed) == 15 and fixed[0]["image"].size == (24, 24)
    assert f"{fixed[0]['prompt']} {fixed[0]['target']}" == "en: a red square"
    assert [item["target"] for item in (fixed[i] for i in range(15))] == [several[0] for several in fixed.references]
    train = TaskExamples(spec)
    drawn = {train.read(0, np.random.default_rng(seed))["target"] for seed in range(40)}
    assert drawn == {"red square", "square", "ed", "d"}


def test_lines_that_do_not_fit_are_left_out_of_an_evaluation(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "अआइईउऊऋएऐओऔ"}\n{"text": "abc"}\n')
    processor = clippo.ClippoProcessor.from_size([16, 64])
    fits = lambda texts: [m.chars_cut == 0 for m in processor.tokenizer.measure(texts)]  # noqa: E731
    spec = TaskSpec(str(file), "read", text_columns="text", min_columns=3, max_columns=11)
    lines = [item["target"] for item in (TaskExamples(spec, False, fits)[i] for i in range(1))]
    assert lines == ["abc"]


def test_examples_with_and_without_image_share_a_batch(parquet):
    processor = clippo.ClippoProcessor.from_size(32)
    image = TaskExamples(TaskSpec(parquet, "caption", text_columns={"en": "en"}), False)[0]
    text = {"image": None, "prompt": "hi", "target": "hi", "language": "", "task": "read"}
    batch = GenerationCollator(processor)([text, image, text])
    assert batch["image_index"].tolist() == [-1, 0, -1]
    assert batch["pixel_values"].shape == (1, 3, 32, 32)
    assert batch["pixel_values"].dtype == torch.uint8
    assert batch["text_pixel_values"].shape[0] == 3
    assert [to_text(row.tolist()) for row in batch["labels"]] == ["hi", "a red square", "hi"]


def test_prompts_are_drawn_on_the_image_with_a_layout(parquet):
    plain = clippo.ClippoProcessor.from_size(32)
    processor = clippo.ClippoProcessor(plain.image_processor, plain.tokenizer, {"place": "top"})
    examples = TaskExamples(TaskSpec(parquet, "answer"), False)
    batch = GenerationCollator(processor)([examples[0], examples[1]])
    assert set(batch) == {"pixel_values", "labels"}
    with pytest.raises(ValueError, match="1 of 2 examples have no image to draw their prompt on"):
        GenerationCollator(processor)([examples[0], {**examples[0], "image": None}])


def test_cut_targets_have_no_end_and_cut_drawings_no_unseen_bytes(log_messages):
    processor = clippo.ClippoProcessor.from_size([16, 32])
    item = {"image": None, "prompt": "abcdefgh", "target": "abcdefgh", "language": "", "task": "read"}
    drawn = GenerationCollator(processor)([item])["labels"]
    assert to_text(drawn[0].tolist()) == "abc"  # the renderer draws three letters on 32 pixels
    long = {**item, "prompt": "a", "target": "abcdefgh"}
    labels = GenerationCollator(processor, max_length=5)([long])["labels"]
    assert labels.tolist() == [[100, 101, 102, 103, 104]]
    assert any("does not fit into decoder_max_length=5" in message for message in log_messages)
