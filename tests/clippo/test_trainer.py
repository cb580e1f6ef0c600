"""The stock transformers.Trainer trains CLIPPO: text classification from a tokenizer, pairs from a collator."""

import datasets
import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments, set_seed

import clippo
from clippo.data import ContrastiveCollator

TEXTS = [f"{word} {number}" for number in range(8) for word in ("good film", "плохой фильм")]


@pytest.fixture(scope="module")
def tokenizer():
    return clippo.ClippoTokenizer(canvas_size=64)


@pytest.fixture(scope="module")
def rows(tokenizer):
    """Sixteen texts of two classes, rendered by `datasets.map` as the example scripts do."""
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 8})
    return data.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True, batch_size=8)


def arguments(folder, **options) -> TrainingArguments:
    defaults = dict(
        output_dir=str(folder), use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True,
        optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0, per_device_train_batch_size=8,
    )  # fmt: skip
    return TrainingArguments(**{**defaults, **options})


class Losses(TrainerCallback):
    """The logged training losses, in full precision."""

    def __init__(self):
        self.values = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.values.append(logs["loss"])


def classifier(config, **options):
    set_seed(0)
    return clippo.ClippoForSequenceClassification(config(**options))


def train(model, rows, tokenizer, args, resume=None, **options):
    losses = Losses()
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(
        model,
        args,
        data_collator=collator,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[losses],
        **options,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, losses.values


def parameters(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("task", ["classes", "regression"])
def test_accumulated_gradients_are_those_of_the_large_batch(tiny_config, rows, tokenizer, tmp_path, task):
    if task == "regression":
        rows = rows.cast_column("label", datasets.Value("float32"))
    options = {"classes": {"num_labels": 2}, "regression": {"num_labels": 1, "problem_type": "regression"}}[task]
    runs = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        args = arguments(
            tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=2
        )
        trainer, losses = train(classifier(tiny_config, **options), rows, tokenizer, args)
        runs.append((losses, parameters(trainer.model)))
    for losses, trained in runs[1:]:
        assert losses == pytest.approx(runs[0][0], rel=1e-3)
        torch.testing.assert_close(trained, runs[0][1], atol=1e-6, rtol=1e-4)


def test_the_first_loss_is_that_of_a_direct_forward(tiny_config, rows, tokenizer, tmp_path):
    args = arguments(tmp_path, per_device_train_batch_size=16, max_steps=1)
    model = classifier(tiny_config)
    pixels = tokenizer(TEXTS, return_tensors="pt")["text_pixel_values"]
    with torch.no_grad():
        expected = model(pixels, labels=torch.tensor([0, 1] * 8)).loss.item()
    _, losses = train(model, rows, tokenizer, args)
    assert losses == [pytest.approx(expected, rel=1e-3)]


def test_fine_tuning_learns_and_evaluates_and_its_folder_opens(tiny_config, rows, tokenizer, tmp_path):
    def accuracy(prediction):
        assert prediction.predictions.shape == (16, 2)
        return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    args = arguments(tmp_path, max_steps=30, learning_rate=3e-3, optim="adamw_torch", logging_steps=10)
    trainer, losses = train(classifier(tiny_config), rows, tokenizer, args, eval_dataset=rows, compute_metrics=accuracy)
    metrics = trainer.evaluate()
    assert metrics["eval_accuracy"] == 1.0 and metrics["eval_loss"] < losses[0]

    trainer.save_model()
    model = clippo.ClippoForSequenceClassification.from_pretrained(tmp_path)
    drawn = clippo.ClippoTokenizer.from_pretrained(tmp_path)(TEXTS, return_tensors="pt")
    with torch.no_grad():
        logits = model(**drawn).logits
    np.testing.assert_allclose(logits, trainer.predict(rows).predictions, atol=1e-5)
    assert torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1] * 8)).item() == pytest.approx(
        metrics["eval_loss"], rel=1e-3
    )


def test_a_resumed_run_is_the_run(tiny_config, rows, tokenizer, tmp_path):
    options = dict(optim="adamw_torch", learning_rate=1e-3, save_strategy="steps", save_steps=2, max_steps=4)
    whole, losses = train(classifier(tiny_config), rows, tokenizer, arguments(tmp_path, **options))
    checkpoint = tmp_path / "checkpoint-2"
    assert {"font.zip", "tokenizer_config.json", "model.safetensors", "modeling_clippo.py"} <= {
        path.name for path in checkpoint.iterdir()
    }
    set_seed(7)
    other = clippo.ClippoForSequenceClassification(tiny_config())
    resumed, rest = train(other, rows, tokenizer, arguments(tmp_path / "other", **options), resume=str(checkpoint))
    assert len(losses) == 4 and rest == pytest.approx(losses[2:], rel=1e-5)
    torch.testing.assert_close(parameters(resumed.model), parameters(whole.model))


def test_contrastive_training_with_the_stock_trainer(tiny_config, photos, tmp_path):
    processor = clippo.ClippoProcessor.from_size(64, canvas_format="packed")
    pairs = [{"image": photos[i % 3].rotate(30 * i), "text": text} for i, text in enumerate(TEXTS[:5])]
    seen = []

    def metrics(prediction):
        seen.append(prediction)
        return {"pairs": len(prediction.predictions[0])}

    set_seed(0)
    model = clippo.ClippoModel(tiny_config())
    before = {name: parameter.clone() for name, parameter in parameters(model).items()}
    trainer = Trainer(
        model,
        arguments(
            tmp_path, max_steps=2, per_device_train_batch_size=4, per_device_eval_batch_size=2,
            remove_unused_columns=False, dataloader_drop_last=False, learning_rate=0.01,
        ),
        data_collator=ContrastiveCollator(processor),
        train_dataset=pairs,
        eval_dataset=pairs,
        processing_class=processor,
        compute_metrics=metrics,
    )  # fmt: skip
    trainer.train()
    assert all(
        not torch.equal(before[name], now) for name, now in parameters(model).items() if "k_proj.bias" not in name
    )

    report = trainer.evaluate()
    assert report["eval_pairs"] == 5 and np.isfinite(report["eval_loss"])
    (prediction,) = seen
    # Embeddings only: no scores, no tokens, and no labels.
    assert [np.shape(part) for part in prediction.predictions] == [(5, 24), (5, 24)]
    assert prediction.label_ids is None or len(prediction.label_ids) == 0
    inputs = processor(images=[p["image"] for p in pairs], text=[p["text"] for p in pairs], return_tensors="pt")
    with torch.no_grad():
        output = model.eval()(**inputs)
    np.testing.assert_allclose(prediction.predictions[0], output.text_embeds, atol=1e-5)
    np.testing.assert_allclose(prediction.predictions[1], output.image_embeds, atol=1e-5)

    trainer.save_model()
    reopened = clippo.ClippoModel.from_pretrained(tmp_path)
    drawn = clippo.ClippoProcessor.from_pretrained(tmp_path)(text=TEXTS, return_tensors="pt")
    assert reopened(**drawn).pooler_output.shape == (16, 32)


def test_removed_columns_are_explained(tiny_config, photos, tmp_path):
    """A missing remove_unused_columns=False gives an error that names it."""
    processor = clippo.ClippoProcessor.from_size(64)
    data = datasets.Dataset.from_list([{"image": photos[0], "text": "a"}] * 4)
    trainer = Trainer(
        clippo.ClippoModel(tiny_config()), arguments(tmp_path, max_steps=1),
        data_collator=ContrastiveCollator(processor), train_dataset=data,
    )  # fmt: skip
    with pytest.raises(ValueError, match="remove_unused_columns"):
        trainer.train()
