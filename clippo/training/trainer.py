"""transformers.Trainer for contrastive pairs: a few hooks, no loop."""

import time

import torch
from transformers import EvalPrediction, Trainer

from clippo.evaluation.retrieval import ranks, recall_at_k


def retrieval_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """R@1/5/10 both ways over the whole evaluation set, row i of the texts belonging to row i of the images."""
    texts, images = (torch.as_tensor(embeddings).float() for embeddings in prediction.predictions[:2])
    own = torch.arange(len(texts))
    metrics = {f"text_to_image_{k}": v for k, v in recall_at_k(ranks(texts, images, own)).items()}
    metrics |= {f"image_to_text_{k}": v for k, v in recall_at_k(ranks(images, texts, own)).items()}
    return metrics


class ContrastiveTrainer(Trainer):
    """Trainer that decays what the paper decays and logs what contrastive training is watched by.

    Logged beside the loss: `logit_scale` (the multiplier of the cosines) and `pairs_per_second` since the last log.
    """

    def __init__(self, *args, eval_collator=None, **kwargs):
        """`eval_collator` replaces the data collator in evaluation, where pictures are not augmented."""
        super().__init__(*args, **kwargs)
        self.eval_collator = eval_collator or self.data_collator
        self._last_log = None
        self._pairs = 0

    def training_step(self, model, inputs, *args, **kwargs):
        self._pairs += len(inputs["text_pixel_values"]) * self.args.world_size
        return super().training_step(model, inputs, *args, **kwargs)

    def get_eval_dataloader(self, eval_dataset=None):
        # Trainer has one collator and one drop_last for both; evaluation counts every pair, unaugmented.
        in_training = self.data_collator, self.args.dataloader_drop_last
        self.data_collator, self.args.dataloader_drop_last = self.eval_collator, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator, self.args.dataloader_drop_last = in_training

    def get_decay_parameter_names(self, model) -> list[str]:
        """Kernels only, as big_vision's `.*/kernel$`: no bias, LayerNorm, position, probe or temperature."""
        return [name for name, p in model.named_parameters() if name.endswith(".weight") and p.ndim >= 2]

    def evaluate(self, *args, **kwargs):
        start = time.perf_counter()
        metrics = super().evaluate(*args, **kwargs)
        if self._last_log is not None:
            self._last_log += time.perf_counter() - start  # throughput is that of training
        return metrics

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            now = time.perf_counter()
            if self._last_log is not None:
                logs["pairs_per_second"] = round(self._pairs / (now - self._last_log), 1)
            self._last_log, self._pairs = now, 0
            logs["logit_scale"] = round(self.model.logit_scale.exp().item(), 3)
        super().log(logs, *args, **kwargs)
