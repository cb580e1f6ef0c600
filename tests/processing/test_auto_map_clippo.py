"""Saved folders: every part opens through its Auto class without a question, and names no foreign code."""

import json
import logging

import pytest
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoProcessor, AutoTokenizer, pipeline

import clippo
from clippo.processing import ClippoImageProcessor, ClippoProcessor, ClippoTokenizer
from clippo.processing.auto_map_clippo import AUTO_MAP

from ..tiny import save_tiny, tiny_model


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """A question on the terminal fails the test."""

    def refuse(prompt=""):
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", refuse)


def auto_maps(folder):
    """Every value of "auto_map" in the JSON files of a folder, by file and class."""

    def entries(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from [(key, item)] if key == "auto_map" else entries(item)

    return {(path.name, auto_class): target for path in folder.glob("*.json") if path.name != "config.json"
            for _, entry in entries(json.loads(path.read_text())) for auto_class, target in entry.items()}  # fmt: skip


def test_every_auto_class_opens_a_folder_with_the_model(tmp_path):
    folder = save_tiny(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(folder)) is ClippoImageProcessor
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is ClippoImageProcessor
    assert type(AutoTokenizer.from_pretrained(folder)) is ClippoTokenizer
    assert type(AutoProcessor.from_pretrained(folder)) is ClippoProcessor


def test_stock_pipelines_open_a_folder_without_a_question(tmp_path, monkeypatch, log_messages):
    asked = []
    monkeypatch.setattr("builtins.input", asked.append)  # transformers swallows errors of parts it may do without
    assert pipeline("zero-shot-image-classification", save_tiny(tmp_path / "whole")).image_processor is not None
    ClippoImageProcessor(size=64).save_pretrained(tmp_path / "alone")
    model = save_tiny(tmp_path / "vqa", clippo.ClippoForVisualQuestionAnswering)
    pipeline("clippo-visual-question-answering", model)
    assert "no option" not in "".join(log_messages)
    tiny_model(clippo.ClippoForImageClassification).save_pretrained(tmp_path / "alone")
    pipeline("image-classification", str(tmp_path / "alone"))
    assert asked == []


def test_options_are_taken_by_the_auto_classes(tmp_path):
    folder = save_tiny(tmp_path)
    assert AutoTokenizer.from_pretrained(folder, canvas_size=96).canvas_size == 96
    processor = AutoProcessor.from_pretrained(folder, canvas_size=96)
    assert processor.tokenizer.canvas_size == 96 and processor.image_processor.size["height"] == 64


@pytest.mark.parametrize("again", [False, True], ids=["new", "from a processor"])
def test_an_image_processor_saved_alone(tmp_path, again):
    image_processor = ClippoImageProcessor(size=64)
    if again:
        ClippoProcessor.from_size(64).save_pretrained(tmp_path / "first")
        image_processor = ClippoProcessor.from_pretrained(tmp_path / "first").image_processor
    image_processor.save_pretrained(tmp_path / "alone")
    for auto_class in (AutoImageProcessor, AutoFeatureExtractor, AutoProcessor):
        loaded = auto_class.from_pretrained(tmp_path / "alone")
        assert type(loaded) is ClippoImageProcessor and loaded.to_dict() == image_processor.to_dict()
    for target in auto_maps(tmp_path / "alone").values():
        assert (tmp_path / "alone" / f"{target.partition('.')[0]}.py").is_file()


FOREIGN = {"AutoTokenizer": ["evil.Tokenizer", None], "AutoProcessor": "evil.Processor", "AutoImageProcessor": "evil.I",
           "AutoModel": "someone/else--evil.Model", "AutoFeatureExtractor": "evil.E"}  # fmt: skip


def test_foreign_code_is_not_carried_on(tmp_path, caplog):
    ClippoProcessor.from_size(64).save_pretrained(tmp_path / "hostile")
    for name in ("tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        path = tmp_path / "hostile" / name
        config = json.loads(path.read_text())
        config["auto_map"] = FOREIGN
        if "image_processor" in config:
            config["image_processor"]["auto_map"] = FOREIGN
        path.write_text(json.dumps(config))
    for number, (auto_class, own) in enumerate(
        [
            (AutoTokenizer, ClippoTokenizer),
            (AutoImageProcessor, ClippoImageProcessor),
            (AutoProcessor, ClippoProcessor),
            (ClippoTokenizer, ClippoTokenizer),
            (ClippoImageProcessor, ClippoImageProcessor),
            (ClippoProcessor, ClippoProcessor),
        ]
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            loaded = own.from_pretrained(tmp_path / "hostile") if auto_class is own else open_auto(auto_class, tmp_path)
        assert type(loaded) is own and "clippo does not define" in caplog.text
        loaded.save_pretrained(tmp_path / str(number))
        text = "".join(path.read_text() for path in (tmp_path / str(number)).glob("*.json"))
        assert "evil" not in text and auto_maps(tmp_path / str(number))


def open_auto(auto_class, folder):
    return auto_class.from_pretrained(folder / "hostile")


def test_own_entries_are_dropped_without_a_word(tmp_path, caplog):
    ClippoProcessor.from_size(64).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["me/mine--" + AUTO_MAP["AutoTokenizer"], None]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING):
        ClippoProcessor.from_pretrained(tmp_path)
    assert "auto_map" not in caplog.text
