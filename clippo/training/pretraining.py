"""Contrastive pretraining from a recipe: model, processor, data and Trainer put together."""

import logging
from pathlib import Path

from datasets import load_dataset
from transformers import TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from clippo.data.augmentation import RandomView
from clippo.data.collator import ContrastiveCollator
from clippo.data.pairs import EmojiPairs, ImageTextPairs
from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.processing import ClippoProcessor
from clippo.training.arguments import DataArguments, ModelArguments
from clippo.training.trainer import ContrastiveTrainer, retrieval_metrics

logger = logging.getLogger(__name__)


def build_model(args: ModelArguments) -> tuple[ClippoModel, ClippoProcessor]:
    """A new model and a processor of its canvas size, or both from `init_from`, which then decides all but the backend.

    Raises:
        ValueError: `font` is given beside `init_from`, whose model reads by its own font.
    """
    if args.init_from:
        if args.font:
            raise ValueError(f"font={args.font} cannot replace the font of {args.init_from}; leave it out.")
        processor = ClippoProcessor.from_pretrained(args.init_from)
        processor.tokenizer.canvas_format = args.canvas_format
        return ClippoModel.from_pretrained(
            args.init_from, dtype="float32", attn_implementation=args.attn_implementation
        ), processor
    config = ClippoConfig.from_preset(args.preset, **args.model)
    processor = ClippoProcessor.from_size(config.image_size, font_file=args.font, canvas_format=args.canvas_format)
    return ClippoModel._from_config(config, attn_implementation=args.attn_implementation), processor


def build_data(args: DataArguments, processor: ClippoProcessor):
    """Training set, validation set and the two collators.

    Raises:
        ValueError: `dataset` is neither "emoji" nor "parquet".
    """
    if args.dataset == "emoji":
        train = EmojiPairs(
            args.data_dir,
            "train",
            args.languages,
            p_name=args.name_probability,
            texts_per_image=args.texts_per_image,
            anchor=args.anchor,
        )
        # One held-out pair a picture, so that the metrics rank over all pictures.
        validation = EmojiPairs(args.data_dir, "held_out", args.languages, sampling=False).one_per_picture()
        size = processor.image_processor.size["height"]
        return (
            train,
            validation,
            ContrastiveCollator(processor, augment=RandomView(size)),
            ContrastiveCollator(processor),
        )
    if args.dataset == "parquet":
        splits = {}
        for split in ("train", "validation"):
            files = sorted(str(path) for path in Path(args.data_dir).glob(f"{split}*.parquet"))
            if not files:
                raise FileNotFoundError(f"No {split}*.parquet in {args.data_dir}.")
            rows = load_dataset("parquet", data_files=files, split="train")
            sampling = {"texts_per_image": args.texts_per_image} if split == "train" else {"sampling": False}
            splits[split] = ImageTextPairs(rows, args.image_column, args.caption_columns, **sampling)
        collator = ContrastiveCollator(processor)
        return splits["train"], splits["validation"], collator, collator
    raise ValueError(f"dataset={args.dataset!r} is not known; write 'emoji' or 'parquet'.")


def pretrain(
    model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments
) -> ContrastiveTrainer:
    """Train, evaluate, save model and processor to `output_dir`; goes on from the last checkpoint there, if any."""
    set_seed(training_args.seed)
    training_args.remove_unused_columns = False  # the columns are pictures and strings; the collator makes the tensors
    training_args.dataloader_drop_last = True  # the loss of a small rest batch is on another scale

    model, processor = build_model(model_args)
    train, validation, collator, eval_collator = build_data(data_args, processor)
    batch = training_args.train_batch_size * training_args.world_size
    if len(train) < batch:
        raise ValueError(
            f"{len(train)} training items do not fill one batch of {training_args.train_batch_size} on "
            f"{training_args.world_size} processes; lower per_device_train_batch_size."
        )
    logger.info(
        "%d training items, %d validation pairs, %d parameters", len(train), len(validation), model.num_parameters()
    )

    trainer = ContrastiveTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        eval_collator=eval_collator,
        processing_class=processor,
        compute_metrics=retrieval_metrics,
    )
    checkpoint = training_args.resume_from_checkpoint
    if checkpoint is None and Path(training_args.output_dir).is_dir():
        checkpoint = get_last_checkpoint(training_args.output_dir)
    if checkpoint:
        logger.info("Resuming from %s", checkpoint)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_metrics("train", result.metrics)
    trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_state()
    return trainer
