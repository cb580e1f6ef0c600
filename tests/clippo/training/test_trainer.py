"""ContrastiveTrainer on two processes equals the trainer on one, or refuses to train."""

import os

import accelerate
import numpy as np
import pytest
import torch
from packaging import version
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainingArguments, set_seed

from clippo import ClippoConfig, ClippoModel
from clippo.data.sampling import KeyedDataset, SampleKey
from clippo.training.optimization import OptimizerArguments
from clippo.training.trainer import ContrastiveTrainer, retrieval_metrics

from ...processes import run_processes

SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, image_size=32, projection_dim=16
)
PAPER = OptimizerArguments("adafactor_big_vision", "rsqrt", rsqrt_timescale=4, cooldown_steps=2)


class Noise(KeyedDataset):
    """Pairs of equal noise that differs with every draw, so that the loss of a step depends on its rows."""

    def __init__(self, rows: int):
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, key) -> torch.Tensor:
        row = key.row if isinstance(key, SampleKey) else int(key)
        fixed = np.random.default_rng(row).standard_normal((3, 32, 32))
        drawn = key.generator().standard_normal((3, 32, 32)) if isinstance(key, SampleKey) else 0.0  # not in evaluation
        return torch.tensor(fixed + 0.3 * drawn, dtype=torch.float32)


def collate(items: list[torch.Tensor]) -> dict:
    pixels = torch.stack(items)
    return {"pixel_values": pixels, "text_pixel_values": pixels.flip(-1).contiguous(), "return_loss": True}


class Losses(TrainerCallback):
    """Unrounded losses of every step."""

    def __init__(self):
        self.values = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.values[state.global_step] = logs["loss"]


def make(folder, batch_size: int, losses: Losses, backend: str | None = None) -> ContrastiveTrainer:
    args = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to="none", disable_tqdm=True, max_steps=6, learning_rate=3e-3,
        weight_decay=1e-3, per_device_train_batch_size=batch_size, per_device_eval_batch_size=4, logging_steps=1,
        save_strategy="no", remove_unused_columns=False, dataloader_drop_last=True, seed=3, warmup_steps=2,
        ddp_backend=backend,
    )  # fmt: skip
    set_seed(args.seed)
    return ContrastiveTrainer(
        model=ClippoModel(ClippoConfig(**SHAPE)),
        args=args,
        train_dataset=Noise(24),
        eval_dataset=Noise(10),
        data_collator=collate,
        compute_metrics=retrieval_metrics,
        callbacks=[losses],
        optimizer_arguments=PAPER,
    )


def run(trainer: ContrastiveTrainer, losses: Losses):
    """Losses, validation embeddings, recall and weights of a run, evaluated at its end."""
    trainer.train()
    result = trainer.evaluation_loop(trainer.get_eval_dataloader(), description="all")
    recall = {name: value for name, value in result.metrics.items() if "R@" in name}
    embeddings = [torch.as_tensor(array) for array in result.predictions]
    return losses.values, embeddings, recall, {name: p.detach() for name, p in trainer.model.named_parameters()}


def one_of_two(rank: int, folder: str):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="1")
    trainer = make(folder, 4, losses := Losses(), backend="gloo")
    results = run(trainer, losses)
    assert trainer.args.world_size == 2 and isinstance(trainer.model_wrapped, DistributedDataParallel)

    early = make(folder, 4, Losses(), backend="gloo")
    early.evaluate()
    if version.parse(accelerate.__version__) >= version.parse("1.14"):
        with pytest.raises(RuntimeError, match="gradients of 2 processes would not be averaged"):
            early.train()
    else:  # older releases wrap the model after an evaluation too
        early.train()
        assert isinstance(early.model_wrapped, DistributedDataParallel)
    return results


def test_two_processes_are_one_job(tmp_path):
    """Twice 4 rows give the losses and weights of 8 rows, and 10 validation rows in batches of 4 stay 10 in order."""
    losses, embeddings, recall, weights = run(make(tmp_path / "one", 8, one := Losses()), one)
    assert len(losses) == 6 and len(recall) == 6
    results = run_processes(one_of_two, 2, tmp_path / "two", str(tmp_path / "out"))
    assert results[0][0] == pytest.approx(losses, rel=1e-4)
    for _, its_embeddings, its_recall, its_weights in results:
        assert its_recall == recall
        for ours, expected in zip(its_embeddings, embeddings, strict=True):
            assert len(ours) == 10
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
        for name, expected in weights.items():
            if "k_proj.bias" not in name:  # its gradient is zero; what Adafactor makes of the rounding is chance
                torch.testing.assert_close(its_weights[name], expected, rtol=0, atol=1e-4)
