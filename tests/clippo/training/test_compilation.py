"""Compiled blocks in a Trainer: one graph for sequences of any length, and the same losses as without."""

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from transformers import Trainer, TrainingArguments, set_seed

from clippo import ClippoConfig, ClippoForSequenceClassification, ClippoModel
from clippo.modeling_clippo import attention_clippo, embeddings_clippo
from clippo.training.compilation import compile_blocks
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.trainer import ContrastiveTrainer

SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=64, projection_dim=16,
    skip_blank_patches=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def path_of_a_gpu(monkeypatch):
    """The packed sequence of CUDA, with a stand-in for its attention kernel."""

    def kernel(query, key, value, *lengths, scale):
        return query + scale * (key.mean() + value.mean())

    monkeypatch.setattr(embeddings_clippo, "packed_backend", lambda *args: "varlen")
    monkeypatch.setattr(attention_clippo, "varlen_attn", kernel)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def collate(rows: list[int]) -> dict:
    """Pairs in which the text of row r has 1 to 16 patches with ink."""
    generator = torch.Generator().manual_seed(rows[0])
    texts = torch.zeros(len(rows), 4, 4, 4, dtype=torch.int64)
    for text, row in zip(texts, rows, strict=True):
        text.view(16, 4)[: 1 + (7 * row + row // 3) % 16] = row + 1
    images = torch.rand(len(rows), 3, 64, 64, generator=generator) * 2 - 1
    return {"pixel_values": images, "text_pixel_values": texts.flatten(2), "return_loss": True}


def train(folder, steps: int, compiled: bool = False, **options) -> tuple[list[float], ContrastiveTrainer]:
    """Losses of a run that evaluates twice, in batches of another size."""
    args = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to="none", disable_tqdm=True, max_steps=steps, learning_rate=1e-3,
        per_device_train_batch_size=8, per_device_eval_batch_size=5, logging_steps=1, save_strategy="no",
        remove_unused_columns=False, dataloader_drop_last=True, eval_strategy="steps", eval_steps=steps // 2, **options,
    )  # fmt: skip
    set_seed(0)
    trainer = ContrastiveTrainer(
        model=ClippoModel(ClippoConfig(**SHAPE)), args=args, train_dataset=list(range(400)), data_collator=collate,
        eval_dataset=list(range(20)), compile_blocks=compiled,
    )  # fmt: skip
    trainer.train()
    return [log["loss"] for log in trainer.state.log_history if "loss" in log], trainer


def test_one_graph_serves_fifty_batches_and_their_evaluation(tmp_path):
    """Two graphs to train and two to evaluate: blocks and pooling head.

    The "eager" backend captures graphs as Inductor would.
    """
    losses, trainer = train(tmp_path, 50, torch_compile=True, torch_compile_backend="eager")
    assert len(losses) == 50
    assert counters["stats"]["unique_graphs"] == 4
    assert not counters["graph_break"]
    assert isinstance(trainer.model_wrapped, ClippoModel)  # the whole model is not compiled
    expected, _ = train(tmp_path, 50)
    assert losses == pytest.approx(expected, abs=2e-4)


def test_the_switch_compiles_blocks(tmp_path, monkeypatch):
    options = []
    monkeypatch.setattr(ClippoModel, "compile_blocks", lambda self, **given: options.append(given))
    train(tmp_path, 2, compiled=True)
    train(tmp_path, 2, torch_compile_mode="max-autotune-no-cudagraphs")
    train(tmp_path, 2)
    assert options == [{}, {"backend": "inductor", "mode": "max-autotune-no-cudagraphs"}]


def test_fine_tuning_compiles_blocks_too(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", torch_compile_backend="eager")
    trainer = FineTuningTrainer(ClippoForSequenceClassification(ClippoConfig(**SHAPE)), args)
    pixels = collate([3, 9, 1])["text_pixel_values"]
    trainer.model(text_pixel_values=pixels).logits.sum().backward()
    assert counters["stats"]["unique_graphs"] == 2
    assert trainer.accelerator.state.dynamo_plugin.backend == "NO"


def test_a_model_without_blocks_is_an_error(tmp_path):
    trainer = Trainer(nn.Linear(1, 1), TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"))
    with pytest.raises(ValueError, match="Linear has no compile_blocks"):
        compile_blocks(trainer)
