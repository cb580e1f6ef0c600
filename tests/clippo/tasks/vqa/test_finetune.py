"""Fine-tuning on a tiny data set whose answers depend on image and question, and the saved folder."""

import datasets
import pytest
import torch
from PIL import Image
from transformers import EvalPrediction, TrainingArguments, pipeline

import clippo
from clippo.surgery import resize_canvas
from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.data import VisualQuestions
from clippo.tasks.vqa.finetune import (
    AnswerMetrics,
    VqaDataArguments,
    VqaModelArguments,
    build_vqa_model,
    finetune_vqa,
    load_questions,
)
from clippo.training.fingerprint import describe_data

TINY = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, patch_size=16)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """Red and blue squares; the questions "red?" and "blue?"."""
    path = tmp_path_factory.mktemp("squares") / "train.parquet"
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220)}
    squares = {name: Image.new("RGB", (24, 24), colour) for name, colour in colours.items()}
    for square in squares.values():
        square.paste((128, 128, 128), (0, 0, 5, 24))  # A bar at the left shows mirrored and shifted images.
    rows = {
        "image": [squares[c] for c in colours for _ in range(8)],
        "questions": [["red?", "blue?"]] * 16,
        "answers": [["yes", "no"]] * 8 + [["no", "yes"]] * 8,
    }
    features = datasets.Features(
        image=datasets.Image(),
        questions=datasets.List(datasets.Value("string")),
        answers=datasets.List(datasets.Value("string")),
    )
    datasets.Dataset.from_dict(rows, features).to_parquet(str(path))
    return str(path)


@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_it_learns_and_the_saved_folder_answers(parquet, tmp_path, loss):
    model_args = VqaModelArguments(
        config_overrides=TINY,
        image_size=[48, 64],
        layout='{"min_rows": 1, "max_rows": 1}',
        loss=loss,
        attn_implementation="eager",
    )  # fmt: skip
    training = TrainingArguments(
        output_dir=str(tmp_path), max_steps=60, per_device_train_batch_size=16, learning_rate=5e-3, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = finetune_vqa(model_args, VqaDataArguments(train=parquet, validation=parquet), training)
    metrics = trainer.evaluate()
    assert metrics["eval_exact_match"] == 1 and metrics["eval_answerable"] == 1
    ask = pipeline("clippo-visual-question-answering", str(tmp_path))
    questions = load_questions(parquet)
    for item in (questions[0], questions[31]):
        (best,) = ask(item["image"], item["question"], top_k=1)
        assert best["answer"] == item["answers"][0]


def test_an_answer_outside_the_vocabulary_counts_as_wrong(parquet):
    questions = load_questions(parquet)
    metrics = AnswerMetrics(questions, AnswerVocabulary(["yes"]))
    prediction = type("P", (), {"predictions": torch.zeros(32, dtype=torch.long).numpy()})
    assert metrics(prediction) == {"exact_match": 0.5, "set_accuracy": 0.5, "answerable": 0.5}


def test_another_canvas_resamples_positions_and_is_saved(save_tiny, tmp_path):
    folder = save_tiny(clippo.ClippoModel)
    vocabulary = AnswerVocabulary(["yes", "no"])
    args = VqaModelArguments(init_from=folder, image_size=[96, 64], layout={"place": "bottom"})
    model, processor = build_vqa_model(args, vocabulary)
    before = clippo.ClippoModel.from_pretrained(folder).vision_model.embeddings
    with torch.no_grad():
        expected = before.positions_for(6, 4)
    assert torch.equal(model.vision_model.embeddings.position_embedding, expected)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = clippo.ClippoForVisualQuestionAnswering.from_pretrained(tmp_path)
    inputs = clippo.ClippoProcessor.from_pretrained(tmp_path)(
        images=Image.new("RGB", (30, 30), (200, 0, 0)), questions="what?", return_tensors="pt"
    )
    assert inputs["pixel_values"].shape == (1, 3, 96, 64)
    assert (inputs["pixel_values"][0, 0, :80] > 0).all() and inputs["pixel_values"][0, 0, 80:].max() < 0
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, model.eval()(**inputs).logits, rtol=0, atol=5e-6)
    with pytest.raises(ValueError, match="not a multiple of patch_size=16"):
        resize_canvas(model, [90, 64], processor)


def test_a_stopped_run_goes_on_to_the_same_end(parquet, tmp_path, monkeypatch):
    from clippo.training.finetuning import FineTuningTrainer

    def run(folder):
        model = VqaModelArguments(
            config_overrides=TINY, image_size=[48, 64], layer_decay=0.7, attn_implementation="eager"
        )
        training = TrainingArguments(
            output_dir=str(folder), max_steps=6, save_steps=2, per_device_train_batch_size=8, use_cpu=True,
            report_to="none", disable_tqdm=True, seed=0,
        )  # fmt: skip
        data = VqaDataArguments(train=parquet, validation=parquet, flip=True, shift=0.1)
        return finetune_vqa(model, data, training).model.state_dict()

    whole = run(tmp_path / "whole")
    step = FineTuningTrainer.training_step

    def killed(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(FineTuningTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(FineTuningTrainer, "training_step", step)
    for name, weight in run(tmp_path / "killed").items():
        torch.testing.assert_close(weight, whole[name], rtol=0, atol=0)


def test_the_fingerprint_has_questions_and_images(tmp_path):
    def described(colour, question):
        path = tmp_path / "1.png"
        Image.new("RGB", (8, 8), colour).save(path)
        rows = [(0, question, ["yes"])]
        in_cells = VisualQuestions([{"bytes": path.read_bytes(), "path": None}], rows)
        return describe_data(VisualQuestions([path], rows)), describe_data(in_cells)

    first = described("red", "red?")
    assert described("red", "red?") == first
    for other in (described("blue", "red?"), described("red", "blue?")):
        assert other[0] != first[0] and other[1] != first[1]


def test_pictures_are_augmented_in_training_only(parquet, tmp_path, monkeypatch):
    from clippo.data.augmentation import PhotoAugmentation

    views = []

    def record(self, images, seeds):
        views.append((self, len(images)))
        return images

    monkeypatch.setattr(PhotoAugmentation, "__call__", record)
    model = VqaModelArguments(config_overrides=TINY, image_size=[48, 64])
    data = VqaDataArguments(train=parquet, validation=parquet, flip=True, shift=0.1)
    training = TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, use_cpu=True, report_to="none",
        save_strategy="no", eval_strategy="epoch", disable_tqdm=True,
    )  # fmt: skip
    finetune_vqa(model, data, training)
    augment, _ = views[0]
    assert (augment.flip, augment.shift, augment.layers) == (True, 0.1, 0)
    assert {count for _, count in views} == {4}  # evaluation has batches of eight


def test_an_answer_layer_goes_on_with_the_same_answers_only(save_tiny):
    labels = {"id2label": {0: "yes", 1: "no"}, "problem_type": "multi_label_classification"}
    folder = save_tiny(clippo.ClippoForVisualQuestionAnswering, **labels)
    old = clippo.ClippoForVisualQuestionAnswering.from_pretrained(folder).classifier.weight
    for answers, kept in ((["yes", "no"], True), (["no", "yes"], False), (["a", "b", "c"], False)):
        model, _ = build_vqa_model(VqaModelArguments(init_from=folder), AnswerVocabulary(answers))
        assert list(model.config.id2label.values()) == answers and model.classifier.out_features == len(answers)
        assert (model.classifier.weight[:2] == old).all().item() == kept


def test_single_fields_of_a_saved_layout_change(save_tiny):
    folder, layout = save_tiny(), {"place": "bottom", "min_rows": 1, "max_rows": 1}
    made = clippo.ClippoProcessor.from_pretrained(folder)
    clippo.ClippoProcessor(made.image_processor, made.tokenizer, layout).save_pretrained(folder)
    _, processor = build_vqa_model(
        VqaModelArguments(init_from=folder, layout={"picture": "fit"}), AnswerVocabulary(["yes", "no"])
    )
    assert processor.question_layout == {**layout, "picture": "fit", "column": None}


def test_metrics_compare_normalised_answers(parquet):
    questions = load_questions(parquet)
    questions.rows = [(0, "how many?", ["two"] * 6 + ["2"] * 4)]
    vocabulary = AnswerVocabulary.from_data(questions.answers, normalize=True)
    metrics = AnswerMetrics(questions, vocabulary)(EvalPrediction(predictions=[0], label_ids=None))
    assert vocabulary.answers == ["2"]
    assert metrics == {"vqa_accuracy": 1, "exact_match": 1, "set_accuracy": 1, "answerable": 1}


def test_dropout_of_the_answer_layer(save_tiny):
    vocabulary = AnswerVocabulary(["yes", "no"])
    for start in (dict(config_overrides=TINY, image_size=[48, 64]), dict(init_from=str(save_tiny()))):
        for asked, given in ((None, 0.0), (0.3, 0.3)):
            model, _ = build_vqa_model(VqaModelArguments(**start, classifier_dropout=asked), vocabulary)
            (dropout,) = (module for module in model.modules() if isinstance(module, torch.nn.Dropout))
            assert dropout.p == model.config.classifier_dropout == given


def test_wrong_arguments_are_refused(save_tiny):
    args = VqaModelArguments(init_from=save_tiny(), config_overrides={"hidden_size": 32, "num_hidden_layers": 2})
    build_vqa_model(args, AnswerVocabulary(["a"]))  # values that equal those of the model
    args.config_overrides["hidden_size"] = 48
    with pytest.raises(ValueError, match="hidden_size cannot change"):
        build_vqa_model(args, AnswerVocabulary(["a"]))
    with pytest.raises(ValueError, match="loss='hinge'"):
        build_vqa_model(VqaModelArguments(loss="hinge"), AnswerVocabulary(["a"]))
    with pytest.raises(ValueError, match="--layout 'top' is not JSON"):
        VqaModelArguments(layout="top")
    with pytest.raises(ValueError, match="is not a source of questions"):
        load_questions("a,b")
