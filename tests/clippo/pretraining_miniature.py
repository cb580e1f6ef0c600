"""Pretraining in miniature: a tiny model on the made-up emoji data, and photographs of which a quarter are broken."""

import io

import datasets
import pytest
from PIL import Image
from transformers import TrainingArguments

from clippo.training.arguments import DataArguments, ModelArguments
from clippo.training.pretraining import pretrain
from clippo.training.trainer import ContrastiveTrainer

MODEL = ModelArguments(
    preset="Ti/16",
    config_overrides=dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        projection_dim=16,
        skip_blank_patches=True,
    ),
)


def arguments(output_dir, **changes) -> TrainingArguments:
    options = dict(
        output_dir=str(output_dir),
        max_steps=6,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        learning_rate=1e-2,
        logging_steps=1,
        save_steps=3,
        eval_strategy="steps",
        eval_steps=6,
        report_to="none",
        use_cpu=True,
        seed=1,
        disable_tqdm=True,
    )
    return TrainingArguments(**{**options, **changes})


def emoji_data(folder) -> DataArguments:
    return DataArguments(sources=[{"kind": "emoji", "path": str(folder)}])


def train(folder, output_dir, **changes) -> ContrastiveTrainer:
    return pretrain(MODEL, emoji_data(folder), arguments(output_dir, **changes))


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture
def spoilt_photos(tmp_path):
    """Forty coloured squares with two captions each, of which a quarter are truncated, and a book."""
    rows = []
    for i in range(40):
        Image.new("RGB", (32, 32), (6 * i, 255 - 6 * i, 90)).save(buffer := io.BytesIO(), "PNG")
        data = buffer.getvalue()
        rows.append(
            {"image": {"bytes": data[:40] if i % 4 == 0 else data, "path": None}, "caption": [f"{i}", f"no {i}"]}
        )
    features = datasets.Features(image=datasets.Image(), caption=datasets.List(datasets.Value("string")))
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "photos.parquet"))
    sentences = " ".join(f"This is sentence number {i}." for i in range(100))
    datasets.Dataset.from_dict({"text": [sentences]}).to_json(str(tmp_path / "book.json"))
    photos = {"name": "photos", "path": str(tmp_path / "photos.parquet"), "caption_columns": "caption"}
    book = {"name": "book", "path": str(tmp_path / "book.json"), "kind": "text_text", "text_column": "text"}
    return photos, book
