"""transformers.Trainer for contrastive pairs: hooks for data, optimizer, step and logs."""

import logging
import math
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DistributedType
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments

from clippo.data.device_views import DeviceViews
from clippo.data.sampling import EndlessKeys
from clippo.evaluation.retrieval import ranks, recall_at_k
from clippo.training import compilation
from clippo.training.adafactor import local_part
from clippo.training.anchors import Anchors
from clippo.training.checkpoints import CheckpointMixin
from clippo.training.distillation import DistillationArguments, distillation_loss
from clippo.training.endless import StopWorkers, make_endless
from clippo.training.expert_meters import ExpertMeters
from clippo.training.finetuning import EvalDataMixin, require_finite
from clippo.training.flops import BACKWARD, flops_per_image, mean_inked_patches
from clippo.training.memory import keep_freed_memory
from clippo.training.meters import SkippedRows, TrainingMeters, peak_flops
from clippo.training.optimization import (
    OptimizerArguments,
    create_optimizer,
    create_scheduler,
    decay_parameter_names,
)

logger = logging.getLogger(__name__)


def retrieval_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Returns R@1/5/10 in both directions over the evaluation set; row i of texts and images is a pair."""
    texts, images = (torch.as_tensor(embeddings).float() for embeddings in prediction.predictions[:2])
    own = torch.arange(len(texts))
    metrics = {f"text_to_image_{k}": v for k, v in recall_at_k(ranks(texts, images, own)).items()}
    metrics |= {f"image_to_text_{k}": v for k, v in recall_at_k(ranks(images, texts, own)).items()}
    return metrics


def images_first(per_pair: torch.Tensor, images: int, rows: int) -> torch.Tensor:
    """Values of image-text pairs, then those of text-text pairs.

    Args:
        per_pair: (K * rows,), K sets of texts; in each set those of images come first.
        images: Number of images.
        rows: Number of images and first sentences.
    """
    sets = per_pair.view(-1, rows)  # (K, rows)
    return torch.cat([sets[:, :images].flatten(), sets[:, images:].flatten()])


def data_seed(args: TrainingArguments) -> int:
    """Returns the seed of the data order: `data_seed`, or the run's own seed."""
    return args.seed if args.data_seed is None else args.data_seed


def keep_loss_in_float32(accelerator) -> None:
    """Keeps the loss and the sum of gradients in float32 where accelerate's FSDP2 computes in bf16.

    By default, mixed_precision="bf16" makes accelerate cast every output of every module to bf16, the loss included,
    and sum gradients over the processes in bf16. Call it after the `Accelerator` is made and before `prepare(model)`.
    It does nothing without FSDP2 or without bf16.

    Args:
        accelerator: Accelerator of a `transformers.Trainer`.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 2 and accelerator.mixed_precision == "bf16":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


class StreamResume(TrainerCallback):
    """Gives a stream the number of batches that a resumed run has seen, so that it skips them without decoding."""

    def __init__(self, stream):
        self.stream = stream

    def on_train_begin(self, args, state, control, **kwargs):
        if not args.ignore_data_skip:
            self.stream.skip_batches = state.global_step * args.gradient_accumulation_steps


class ContrastiveTrainer(CheckpointMixin, EvalDataMixin, Trainer):
    """Trainer for pairs: exact mixtures, large batches in little memory, the paper's optimizer, meters.

    It adds to Trainer's logs: `logit_scale` (the multiplier of the cosines), `in_batch_R@1`, `pairs_per_second` and
    `data_wait` since the last log, `mfu` where the device's peak is known, `image_text_loss` and `text_text_loss` in a
    mixture, and `skipped` (number of rows skipped so far) once there are any. A model with experts adds those of
    `ExpertMeters`. All numbers are over all processes.

    Args:
        eval_collator: Replaces the data collator in evaluation, where images are not augmented.
        optimizer_arguments: The paper's optimizer and schedule, or Trainer's own (the default).
        micro_batch_size: Number of full canvases whose patches are encoded at a time (GradCache). The loss is still
            over the whole batch.
        compile_blocks: Compile the blocks, see `clippo.training.compilation`. `torch_compile` of the arguments has the
            same effect.
        max_skipped: Largest share of the rows that may be skipped, see `SkippedRows`.
        device_views: Augmentation of training batches on the device.
        settings: Settings beside TrainingArguments that change the weights, see `CheckpointMixin`.

    Attributes:
        anchors: Fixed vectors of the concepts that the batches name as "concepts", or None.

    Raises:
        FloatingPointError: The loss, or a weight about to be saved, is not finite. The weights are not saved.
        RuntimeError: Too many rows of the data could not be used; or `evaluate` came before `train` on several
            processes, which would then train separately.

    Example:
        >>> import tempfile
        >>> import clippo
        >>> from transformers import TrainingArguments
        >>> from clippo.training.trainer import ContrastiveTrainer
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> image, text = torch.zeros(3, 32, 32), torch.zeros(1, 32, 32)
        >>> def collate(pairs):
        ...     images, texts = (torch.stack(tensors) for tensors in zip(*pairs))
        ...     return {"pixel_values": images, "text_pixel_values": texts, "return_loss": True}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     arguments = TrainingArguments(
        ...         folder, max_steps=1, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no"
        ...     )
        ...     trainer = ContrastiveTrainer(
        ...         clippo.ClippoModel(config), arguments, train_dataset=[(image, text)] * 8, data_collator=collate
        ...     )
        ...     trainer.train().global_step  # doctest: +ELLIPSIS
        {...}
        1
    """

    def __init__(
        self,
        *args,
        eval_collator=None,
        optimizer_arguments: OptimizerArguments | None = None,
        micro_batch_size: int | None = None,
        compile_blocks: bool = False,
        max_skipped: float = 0.05,
        device_views: DeviceViews | None = None,
        distillation: DistillationArguments | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if compile_blocks or self.args.torch_compile:
            compilation.compile_blocks(self)
        self.distillation = distillation or DistillationArguments()
        self.anchors: Anchors | None = None
        self.device_views = device_views
        self.eval_collator = eval_collator or self.data_collator
        self.optimizer_arguments = optimizer_arguments or OptimizerArguments()
        self.model.micro_batch_size = micro_batch_size
        self.skipped_rows = SkippedRows(max_skipped)
        self.add_callback(self.skipped_rows)
        self.add_callback(StopWorkers())
        if hasattr(self.train_dataset, "skip_batches"):
            self.add_callback(StreamResume(self.train_dataset))
        self.meters, self.expert_meters = TrainingMeters(), ExpertMeters(self.model.config.expert_blocks)
        self._peak = peak_flops(self.args.device)
        # The filter would replace a loss that is not finite by an average of the past and continue.
        self.args.logging_nan_inf_filter = False
        if self.args.gradient_accumulation_steps > 1:
            logger.warning(
                "gradient_accumulation_steps=%d adds up gradients of separate batches: no pair sees more negatives. "
                "For a larger contrastive batch in the same memory, raise per_device_train_batch_size and set "
                "micro_batch_size.",
                self.args.gradient_accumulation_steps,
            )

    def train(self, *args, **kwargs):
        keep_freed_memory(self.args.device)
        return super().train(*args, **kwargs)

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        keep_loss_in_float32(self.accelerator)

    def _get_train_sampler(self, train_dataset=None):
        """Returns the data set's own sampler where it has one (mixtures), Trainer's otherwise."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if hasattr(dataset, "train_sampler"):
            return EndlessKeys(
                dataset.train_sampler(self._train_batch_size, data_seed(self.args), self.args.world_size)
            )
        return super()._get_train_sampler(train_dataset)

    def get_train_dataloader(self) -> DataLoader:
        """Returns Trainer's loader, whose workers outlive the epochs.

        A stream that gives every process its own rows is not divided once more.
        """
        if not getattr(self.train_dataset, "shards_itself", False):
            return make_endless(super().get_train_dataloader())
        loader = DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            drop_last=True,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        return prepare_data_loader(
            loader,
            device=self.args.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
        )

    def get_batch_samples(self, *args, **kwargs):
        with self.meters.waiting():
            batches, items = super().get_batch_samples(*args, **kwargs)
        if self.device_views is not None:
            batches = [self.device_views(self._prepare_input(batch)) for batch in batches]
        return batches, items

    def _prepare_for_training(self, *args, **kwargs):
        """Refuses to train without data parallelism, which Trainer does silently after an evaluation."""
        model, loader = super()._prepare_for_training(*args, **kwargs)
        several = self.accelerator.distributed_type in (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        sharded = getattr(self, "is_distributed_loading_by_transformers", False)
        if several and not sharded and not any(isinstance(part, DistributedDataParallel) for part in model.modules()):
            raise RuntimeError(
                f"The gradients of {self.args.world_size} processes would not be averaged: Accelerate does not wrap a "
                "model that it has prepared for evaluation. Train first, or set eval_on_start=True."
            )
        return model, loader

    def create_optimizer(self, model=None):
        if self.optimizer is None and self.optimizer_arguments.optimizer != "trainer":
            self.optimizer = create_optimizer(model or self.model, self.args, self.optimizer_arguments)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None and self.optimizer_arguments.schedule != "trainer":
            self.lr_scheduler = create_scheduler(
                optimizer or self.optimizer, self.args, self.optimizer_arguments, num_training_steps
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def get_decay_parameter_names(self, model) -> list[str]:
        """Returns kernels only, as big_vision's `.*/kernel$`: no bias, LayerNorm, position, probe or temperature."""
        return decay_parameter_names(model)

    def compute_loss(self, model, inputs, return_outputs: bool = False, **kwargs):
        inputs = dict(inputs)
        skipped, concepts = inputs.pop("skipped", 0), inputs.pop("concepts", None)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training and self.distillation.changes_the_loss and "image_embeds" in inputs:
            loss = distillation_loss(self.distillation, loss, outputs["image_embeds"], outputs["text_embeds"], True)
        elif model.training and self.anchors is not None:
            anchored = self.anchors.loss(outputs["image_embeds"], outputs["text_embeds"], concepts)
            loss = self.distillation.contrastive_weight * loss + self.distillation.anchor_weight * anchored
        if model.training:
            require_finite(loss, self.state.global_step + 1)
            images = len(inputs.get("pixel_values", inputs.get("image_embeds", ())))
            rows = images + len(inputs.get("first_text_pixel_values", ()))
            per_pair = [images_first(outputs[name], images, rows) for name in ("loss_per_pair", "hit_per_pair")]
            flops = self._flops(inputs) if self._peak else 0.0  # a tensor where texts skip patches: nobody waits for it
            self.meters.update(*per_pair, len(per_pair[0]) * images // rows, skipped, flops)
            self.expert_meters.update(outputs.get("expert_tokens"))
            self._caption_loss = outputs.get("caption_loss")
        return (loss, outputs) if return_outputs else loss

    def _flops(self, inputs: dict[str, Any]) -> float | torch.Tensor:
        """Returns the FLOPs of one forward and backward pass over the batch, for the patches that are read."""
        config = self.accelerator.unwrap_model(self.model).config
        total = 0.0
        for name, images in inputs.items():
            if not name.endswith("pixel_values"):
                continue
            is_text = name != "pixel_values"
            patches = mean_inked_patches(images, config) if is_text and config.skip_blank_patches else None
            total += len(images) * flops_per_image(config, patches)
        return (1 + BACKWARD) * total

    def evaluate(self, *args, **kwargs):
        with self.meters.excluded():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(local_part(parameter)).all():
                raise FloatingPointError(
                    f"{name} is not finite after step {self.state.global_step}, so nothing is saved; a restart "
                    "resumes from the last checkpoint. Look at learning_rate and max_grad_norm."
                )
        super().save_model(output_dir, _internal_call)

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            read = self.meters.read(
                lambda sums: self.accelerator.reduce(sums, "sum"), self.accelerator.num_processes, self._peak
            )
            if read:
                self.skipped_rows.add(read.pop("pairs"), read.pop("skipped"))
            logs.update(read)
            logs.update(self.expert_meters.read(lambda sums: self.accelerator.reduce(sums, "sum")))
            if getattr(self, "_caption_loss", None) is not None:  # of the last step
                logs["caption_loss"] = round(self._caption_loss.item(), 4)
            if self.skipped_rows.skipped:
                logs["skipped"] = self.skipped_rows.skipped
            scale = self.accelerator.unwrap_model(self.model).logit_scale.detach()
            scale = scale.full_tensor() if isinstance(scale, DTensor) else scale
            limit = self.accelerator.unwrap_model(self.model).config.logit_scale_max or math.inf
            logs["logit_scale"] = round(min(scale.exp().item(), limit), 3)
        super().log(logs, *args, **kwargs)
