"""Contrastive pretraining from a recipe: model, processor, data and Trainer put together."""

import logging
from pathlib import Path

from torch.utils.data import Dataset, IterableDataset
from transformers import TrainingArguments, set_seed

from clippo.conversion.vit import is_vit, load_vit
from clippo.data import (
    ContrastiveCollator,
    PairMixture,
    PairStream,
    PhotoAugmentation,
    SourcePairs,
    SourceSpec,
)
from clippo.emoji import EmojiSpec, RandomView
from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.processing import ClippoProcessor
from clippo.surgery import inflate_patch_embedding, resize_canvas
from clippo.training.arguments import DataArguments, ModelArguments, StepArguments
from clippo.training.optimization import OptimizerArguments
from clippo.training.shared import checkpoint_to_resume
from clippo.training.trainer import ContrastiveTrainer, data_seed, retrieval_metrics
from clippo.visualization.curves import draw_curves

logger = logging.getLogger(__name__)

# What may change about a model that is gone on from; everything else is fixed by its weights.
CHANGEABLE = ("image_size", "num_channels", "skip_blank_patches", "logit_scale_max")


def build_model(args: ModelArguments) -> tuple[ClippoModel, ClippoProcessor]:
    """A new model and a processor of its canvas size; its tower begun with a ViT, or all of it with a CLIPPO.

    Raises:
        ValueError: `font` is given beside a CLIPPO, which has its own; or `config_overrides` names a field that its
            weights fix.
    """
    if args.init_from and not is_vit(args.init_from):
        return _go_on_from(args)
    config = ClippoConfig.from_preset(args.preset, **args.config_overrides)
    processor = ClippoProcessor.from_size(config.image_size, font_file=args.font, canvas_format=args.canvas_format)
    model = ClippoModel._from_config(config, attn_implementation=args.attn_implementation)
    if args.init_from:
        logger.info("%s", load_vit(model, args.init_from))
    return model, processor


def _go_on_from(args: ModelArguments) -> tuple[ClippoModel, ClippoProcessor]:
    if args.font:
        raise ValueError(f"font={args.font} cannot replace the font of {args.init_from}; leave it out.")
    fixed = sorted(set(args.config_overrides) - set(CHANGEABLE))
    if fixed:
        raise ValueError(
            f"config_overrides sets {', '.join(fixed)}, which the weights of {args.init_from} fix; only "
            f"{', '.join(CHANGEABLE)} can change."
        )
    processor = ClippoProcessor.from_pretrained(args.init_from)
    processor.tokenizer.canvas_format = args.canvas_format
    model = ClippoModel.from_pretrained(args.init_from, dtype="float32", attn_implementation=args.attn_implementation)
    changes = dict(args.config_overrides)
    size = changes.pop("image_size", None)
    if size is not None:
        resize_canvas(model, size, processor)
    channels = changes.pop("num_channels", model.config.num_channels)
    if channels != model.config.num_channels:
        inflate_patch_embedding(model, channels)
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model, processor


def build_data(
    args: DataArguments, processor: ClippoProcessor, training_args: TrainingArguments
) -> tuple[Dataset | IterableDataset, Dataset | None, ContrastiveCollator, ContrastiveCollator]:
    """Training set, validation set (or None) and the two collators.

    Raises:
        ValueError: There are no sources, or a source cannot be what it says.
    """
    if not args.sources:
        raise ValueError("There are no sources to train on; give sources, a list of mappings with a path each.")
    if EmojiSpec.is_among(args.sources):
        if args.validation:
            raise ValueError("The emoji data set validates on its held-out pairs; leave out validation.")
        train, validation = EmojiSpec.from_dict(args.sources[0]).open(args.texts_per_image)
        augment = RandomView(processor.image_processor.size["height"])
        return train, validation, ContrastiveCollator(processor, augment), ContrastiveCollator(processor)
    return _from_sources(
        [SourceSpec.from_dict(spec) for spec in args.sources],
        SourceSpec.from_dict(args.validation) if args.validation else None,
        args,
        processor,
        training_args,
    )


def _from_sources(
    specs: list[SourceSpec],
    validation: SourceSpec | None,
    args: DataArguments,
    processor: ClippoProcessor,
    training_args: TrainingArguments,
):
    if any(spec.streaming for spec in specs):
        train = PairStream(
            specs,
            training_args.train_batch_size,
            data_seed(training_args),
            texts_per_image=args.texts_per_image,
            process=training_args.process_index,
            processes=training_args.world_size,
            buffer_size=args.shuffle_buffer,
        )
    else:
        # One process opens first: splitting documents is cached, and the others then find it done.
        with training_args.main_process_first(desc="opening the sources"):
            train = PairMixture.from_specs(specs, args.texts_per_image)
    augment = None
    if args.flip or args.randaugment:
        layers, magnitude = args.randaugment or (0, 0)
        augment = PhotoAugmentation(args.flip, layers, magnitude)
    pairs = SourcePairs(validation, sampling=False) if validation else None
    return train, pairs, ContrastiveCollator(processor, augment), ContrastiveCollator(processor)


def pretrain(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
    step_args: StepArguments | None = None,
    optimizer_args: OptimizerArguments | None = None,
) -> ContrastiveTrainer:
    """Train, evaluate, save model, processor and curves to `output_dir`; goes on from the last checkpoint there."""
    set_seed(training_args.seed)
    training_args.remove_unused_columns = False  # the columns are pictures and strings; the collator makes the tensors
    training_args.dataloader_drop_last = True  # the loss of a small rest batch is on another scale
    step_args = step_args or StepArguments()

    model, processor = build_model(model_args)
    train, validation, collator, eval_collator = build_data(data_args, processor, training_args)
    if hasattr(train, "train_sampler"):  # a batch that the data cannot fill is said before anything is set up
        train.train_sampler(training_args.train_batch_size, data_seed(training_args), training_args.world_size)
    rows = f"{len(train)} training items" if hasattr(train, "__len__") else "a stream of training items"
    pairs = len(validation) if validation is not None else 0
    logger.info("%s, %d validation pairs, %d parameters", rows, pairs, model.num_parameters())

    trainer = ContrastiveTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        eval_collator=eval_collator,
        processing_class=processor,
        compute_metrics=retrieval_metrics,
        optimizer_arguments=optimizer_args,
        micro_batch_size=step_args.micro_batch_size,
        max_skipped=data_args.max_skipped,
    )
    result = trainer.train(resume_from_checkpoint=checkpoint_to_resume(training_args))
    trainer.save_model()
    trainer.save_metrics("train", result.metrics)
    if validation is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_state()
    if trainer.is_world_process_zero():
        _draw_curves(Path(training_args.output_dir))
    return trainer


def _draw_curves(folder: Path) -> None:
    try:
        draw_curves([folder], folder / "training.png")
    except (ImportError, ValueError) as error:  # matplotlib is an extra, and a short run may have logged nothing
        logger.info("No curves are drawn: %s", error)
