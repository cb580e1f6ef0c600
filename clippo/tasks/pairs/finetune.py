"""Fine-tune a CLIPPO on own image-text pairs or labels, and keep what it knew.

clippo finetune pairs RECIPE [--field value ...]      RECIPE: a YAML file, or the name of a shipped recipe

All of transformers' TrainingArguments are accepted, in the recipe and on the command line. The same command resumes a
stopped run. After training the weights are interpolated with those before it, every evaluation is measured along the
way, and the best weights that keep the old tasks are saved.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from clippo.data import ContrastiveCollator, SourcePairs, SourceSpec
from clippo.model_files import find_model
from clippo.modeling_clippo import ClippoModel
from clippo.processing import ClippoProcessor
from clippo.tasks.pairs.adapters import add_adapters, lock_side
from clippo.tasks.pairs.interpolation import Point, choose, interpolate
from clippo.tasks.pairs.judge import Judge
from clippo.tasks.pairs.report import draw, table
from clippo.tasks.pairs.sources import mix_pairs
from clippo.training.arguments import DataArguments, ModelArguments, ResumeArguments, from_json, run_command
from clippo.training.finetuning import LayerRatesMixin
from clippo.training.fingerprint import without_places
from clippo.training.pretraining import build_model, device_views, run_settings, with_augmentation
from clippo.training.run_lock import run_lock
from clippo.training.trainer import ContrastiveTrainer, data_seed, retrieval_metrics

logger = logging.getLogger(__name__)

AFTER = "finetuned"  # folder of the weights after training, before interpolation
ALPHAS = tuple(i / 10 for i in range(11))


@dataclass
class KeepArguments:
    """Means to keep what the model knew.

    Raises:
        ValueError: A structured argument is not JSON, or an alpha is not a share.

    Example:
        >>> KeepArguments(replay='[{"kind": "emoji", "path": "data/emoji"}]').replay[0]["kind"]
        'emoji'
    """

    replay: list | str | None = field(
        default=None, metadata={"help": "Old pairs that every batch holds a share of, a list of mappings; JSON here."}
    )
    replay_share: float = field(default=0.5, metadata={"help": "Share of every batch that is from `replay`."})
    lock: str | None = field(default=None, metadata={"help": "Side that is frozen: image or text."})
    lora_rank: int = field(default=0, metadata={"help": "Rank of adapters (PEFT) that are trained; 0 trains all."})
    lora_alpha: float | None = field(default=None, metadata={"help": "Numerator of LoRA's factor; default: 2 * rank."})
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor of the learning rate from a layer of the tower to the one below."}
    )
    tower_lr_scale: float = field(default=1.0, metadata={"help": "Factor of the tower's learning rates; 0 freezes it."})
    micro_batch_size: int | None = field(
        default=None, metadata={"help": "Full canvases whose patches are encoded at a time (GradCache); default: all."}
    )
    evaluations: list | str | None = field(
        default=None, metadata={"help": "Evaluations before and after, a list of mappings; JSON here."}
    )
    alphas: list[float] = field(
        default_factory=lambda: list(ALPHAS), metadata={"help": "Shares of the new weights that are measured."}
    )
    keep: float = field(default=0.01, metadata={"help": "Largest loss of an old task, as a share: 0.01 is one point."})

    def __post_init__(self):
        self.replay = from_json("replay", self.replay, list) or []
        self.evaluations = from_json("evaluations", self.evaluations, list) or []
        wrong = [alpha for alpha in self.alphas if not 0 <= alpha <= 1]
        if wrong:
            raise ValueError(f"alphas holds {wrong[0]}, which is not between 0 (before) and 1 (fine-tuned).")
        self.alphas = sorted({0.0, 1.0, *map(float, self.alphas)})


class PairsTrainer(LayerRatesMixin, ContrastiveTrainer):
    """`ContrastiveTrainer` with smaller rates for lower layers."""


def finetune_pairs(
    model_args: ModelArguments,
    data_args: DataArguments,
    keep_args: KeepArguments,
    training_args: TrainingArguments,
    resume_args: ResumeArguments | None = None,
) -> Point | None:
    """Trains, measures models between the old and the new weights, and saves the chosen one to `output_dir`.

    `output_dir` also gets `finetuned/` (the weights after training), `curve.json`, `curve.png` and `table.md`.

    Args:
        model_args: Model to start from; `init_from` is needed.
        data_args: New pairs, and augmentation.
        keep_args: Means to keep what the model knew, and the evaluations.
        training_args: Arguments of `transformers.Trainer`; unused columns are kept and small last batches dropped.
        resume_args: Resumption of a stopped run.

    Returns:
        The chosen point of the curve, or None without evaluations; then the model after training is saved.

    Raises:
        FileNotFoundError: The model or a file of the data does not exist.
        ValueError: Arguments do not go together.
        RunInProgressError: Another run holds `output_dir`.
        IncompleteCheckpointError, ChangedRunError: The run cannot be resumed, see `CheckpointMixin.find_checkpoint`.
    """
    if not model_args.init_from:
        raise ValueError("There is no model to fine-tune; set init_from, a folder or a name on the hub.")
    find_model(model_args.init_from)
    judge = Judge(keep_args.evaluations)
    set_seed(training_args.seed)
    training_args.remove_unused_columns = False  # columns hold images and strings; the collator makes the tensors
    training_args.dataloader_drop_last = True  # the loss of a small last batch has another scale
    with run_lock(training_args):
        model, processor = build_model(model_args)
        if keep_args.lock:
            model = lock_side(model, keep_args.lock)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if keep_args.lora_rank:
            adapted = add_adapters(model, keep_args.lora_rank, keep_args.lora_alpha)
        trainer = _build_trainer(model, processor, model_args, data_args, keep_args, training_args)
        anyway = (resume_args or ResumeArguments()).resume_anyway
        result = trainer.train(resume_from_checkpoint=trainer.find_checkpoint(anyway))
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        if keep_args.lora_rank:
            model = adapted.merge_and_unload()
        return _keep(model, processor, before, keep_args, judge, trainer)


def _build_trainer(
    model: ClippoModel,
    processor: ClippoProcessor,
    model_args: ModelArguments,
    data_args: DataArguments,
    keep_args: KeepArguments,
    training_args: TrainingArguments,
) -> PairsTrainer:
    """Returns the trainer of new and old pairs."""
    train = mix_pairs(data_args.sources or [], keep_args.replay, keep_args.replay_share, data_args.texts_per_image)
    # A batch that the data cannot fill is an error before anything is set up.
    train.train_sampler(training_args.train_batch_size, data_seed(training_args), training_args.world_size)
    validation = data_args.validation and SourcePairs(SourceSpec.from_dict(data_args.validation), sampling=False)
    plain = ContrastiveCollator(processor)
    collator = with_augmentation(plain, data_args)
    trained, every = model.num_parameters(only_trainable=True), model.num_parameters()
    logger.info("%d training items, %d of %d parameters are trained", len(train), trained, every)
    return PairsTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation or None,
        data_collator=collator,
        eval_collator=plain,
        processing_class=processor,
        compute_metrics=retrieval_metrics,
        micro_batch_size=keep_args.micro_batch_size,
        max_skipped=data_args.max_skipped,
        device_views=device_views(train, collator),
        layer_decay=keep_args.layer_decay,
        tower_lr_scale=keep_args.tower_lr_scale,
        settings=_settings(model_args, data_args, keep_args),
    )


def _settings(model_args: ModelArguments, data_args: DataArguments, keep_args: KeepArguments) -> dict[str, Any]:
    """Returns the settings that change the weights, without paths of the data, which may be moved."""
    keep = asdict(keep_args)
    for name in ("evaluations", "alphas", "keep", "micro_batch_size"):
        del keep[name]
    keep["replay"] = without_places(keep_args.replay)
    return {**run_settings(model_args, data_args), "keep": keep}


def _keep(
    model: ClippoModel,
    processor: ClippoProcessor,
    before: dict[str, torch.Tensor],
    keep_args: KeepArguments,
    judge: Judge,
    trainer: PairsTrainer,
) -> Point | None:
    """Measures the curve, saves the chosen weights, and writes the table and the picture."""
    folder, first = Path(trainer.args.output_dir), trainer.is_world_process_zero()
    if first:
        _save(model, processor, folder / AFTER)
    if not judge.evaluations:
        logger.warning("There are no evaluations, so the model after training is saved and nothing is interpolated.")
        if first:
            _save(model, processor, folder)
        return None
    points = judge.curve(model, processor, before, keep_args.alphas, folder)
    chosen = choose(points, judge.roles, keep_args.keep)
    model.load_state_dict(interpolate(before, model.state_dict(), chosen.alpha))
    if first:
        _save(model, processor, folder)
        text = table(points, chosen, judge.roles)
        (folder / "table.md").write_text(text, encoding="utf-8")
        print(f"{text}\nalpha {chosen.alpha:g} is saved in {folder}; the weights after training in {folder / AFTER}")
        try:
            draw(points, chosen, judge.roles, folder / "curve.png")
        except ImportError as error:
            logger.warning("%s", error)
    return chosen


def _save(model: ClippoModel, processor: ClippoProcessor, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `clippo finetune pairs`.

    Args:
        argv: Arguments without the program's name. Default: those of the process.

    Raises:
        SystemExit: With one sentence, for arguments and data that cannot be used.
    """
    kinds = (ModelArguments, DataArguments, KeepArguments, TrainingArguments, ResumeArguments)
    run_command(finetune_pairs, kinds, argv, usage=__doc__, refusals=(ImportError, ValueError))
