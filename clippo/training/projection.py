"""A start for the projection of texts to vectors that are given: it is fitted alone, on texts that are read once.

A new projection points anywhere, and its first gradients undo what the tower has learned. Fitted first, on pooled
vectors of the tower as it is, it costs one reading of some thousand texts.
"""

import logging
import math
import tempfile
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset
from transformers import Trainer, TrainingArguments

from clippo.modeling_clippo import ClippoModel
from clippo.modeling_clippo.loss_clippo import contrastive_loss
from clippo.modeling_clippo.modeling_clippo import normalize

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE = 128
BATCH, STEPS, RATE, NOISE = 256, 800, 2e-3, 0.1  # of the fit, which takes seconds


class ProjectionFit(nn.Module):
    """Linear map of standardised pooled vectors, trained by the contrastive loss against given vectors.

    Args:
        pooled: (N, D), pooled vectors of the texts.
        width: E.

    Example:
        >>> fit = ProjectionFit(torch.randn(8, 4), width=3)
        >>> fit(torch.randn(8, 4), torch.randn(8, 3))["loss"].shape
        torch.Size([])
    """

    def __init__(self, pooled: torch.Tensor, width: int):
        super().__init__()
        self.register_buffer("mean", pooled.mean(0))
        self.register_buffer("deviation", pooled.std(0) + 1e-6)
        self.linear = nn.Linear(pooled.shape[1], width)
        self.logit_scale = nn.Parameter(torch.full((1,), math.log(20.0)))

    def forward(self, pooled: torch.Tensor, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss of pooled vectors (B, D) with given vectors (B, E)."""
        pooled = (pooled - self.mean) / self.deviation
        if self.training:
            pooled = pooled + NOISE * torch.randn_like(pooled)  # some thousand texts are soon learned by heart
        texts = normalize(self.linear(pooled))
        return {"loss": contrastive_loss(normalize(vectors), texts, self.logit_scale.exp()).loss}

    @torch.no_grad()
    def write(self, projection: nn.Linear) -> None:
        """Copy the map into a projection of pooled vectors that are not standardised."""
        weight = self.linear.weight / self.deviation
        projection.weight.copy_(weight)
        projection.bias.copy_(self.linear.bias - weight @ self.mean)


def fit_projection(model: ClippoModel, items: list[dict[str, Any]], tokenizer: Any, args: TrainingArguments) -> None:
    """Fits `model.projection` and the temperature, in place. The tower does not change.

    Args:
        model: Model of given vectors without a projection of theirs.
        items: Samples {"vector", "text"}.
        tokenizer: Draws the texts.
        args: Arguments of the run that follows: its seed and device.
    """
    texts = [item["text"] if isinstance(item["text"], str) else item["text"][0] for item in items]
    vectors = torch.stack([item["vector"] for item in items]).float()  # (N, E)
    model.to(args.device)
    pooled = _pooled(model, texts, tokenizer).float().cpu()  # (N, D)
    fit = ProjectionFit(pooled, vectors.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        options = dict(report_to="none", save_strategy="no", disable_tqdm=True, logging_strategy="no", seed=args.seed)
        fit_args = TrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=RATE, weight_decay=0.1,
            lr_scheduler_type="cosine", warmup_steps=STEPS // 10, use_cpu=args.use_cpu, **options,
        )  # fmt: skip
        result = Trainer(fit, fit_args, train_dataset=TensorDataset(pooled, vectors), data_collator=_stack).train()
    fit.to(model.projection.weight.device).write(model.projection)
    with torch.no_grad():
        model.logit_scale.copy_(fit.logit_scale)
    logger.info("Fitted the projection to %d texts; the mean loss was %.3f.", len(texts), result.training_loss)


def _stack(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    pooled, vectors = zip(*rows, strict=True)
    return {"pooled": torch.stack(pooled), "vectors": torch.stack(vectors)}


@torch.no_grad()
def _pooled(model: ClippoModel, texts: list[str], tokenizer: Any) -> torch.Tensor:
    """Pooled vectors (N, D) of the tower. Texts of similar length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    training = model.training
    model.eval()
    parts = []
    for start in range(0, len(order), TEXTS_AT_ONCE):
        canvases = tokenizer([texts[i] for i in order[start : start + TEXTS_AT_ONCE]], return_tensors="pt")
        parts.append(model(text_pixel_values=canvases["text_pixel_values"].to(model.device)).pooler_output)
    model.train(training)
    return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]
