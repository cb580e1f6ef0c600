"""Contrastive pretraining from a recipe: builds model, processor and data, and trains with `ContrastiveTrainer`.

clippo pretrain RECIPE [--field value ...]      RECIPE: a YAML file, or the name of a shipped recipe such as `emoji`

All of transformers' TrainingArguments are accepted, in the recipe and on the command line. The same command resumes a
stopped run.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset, IterableDataset
from transformers import TrainerCallback, TrainingArguments, set_seed

from clippo.conversion.vit import is_vit, load_vit
from clippo.data import (
    ContrastiveCollator,
    DeviceViews,
    PairMixture,
    PairStream,
    PhotoAugmentation,
    PhotoViews,
    SourcePairs,
    SourceSpec,
)
from clippo.emoji import EmojiSpec
from clippo.model_files import find_model
from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.pictograms import PictogramSpec
from clippo.processing import ClippoProcessor
from clippo.surgery import freeze_others, grow, inflate_patch_embedding, resize_canvas
from clippo.training.anchors import Anchors, make_anchors
from clippo.training.arguments import DataArguments, ModelArguments, ResumeArguments, StepArguments, run_command
from clippo.training.distillation import DistillationArguments
from clippo.training.fingerprint import without_places
from clippo.training.given_vectors import check_vectors, given_items
from clippo.training.optimization import OptimizerArguments
from clippo.training.projection import fit_projection
from clippo.training.run_lock import run_lock
from clippo.training.trainer import ContrastiveTrainer, data_seed, retrieval_metrics
from clippo.visualization.curves import draw_curves

logger = logging.getLogger(__name__)

# Config fields that may change when training starts from a CLIPPO; its weights fix all others.
CHANGEABLE = ("image_size", "num_channels", "skip_blank_patches", "logit_scale_max")
# Fields that may change when image vectors come from another tower than before, see `grow`.
IMAGE_SIDE = ("image_tower", "project_images", "image_embed_dim", "projection_dim")
# Fields that `grow` can change in a trained model, and those that act in training only.
GROWN = ("num_experts", "num_experts_per_tok", "expert_layers", "modality_norms", "num_modality_layers")
ROUTING = tuple(
    name
    for name in (field.name for field in fields(ClippoConfig))
    if name.startswith(("router_", "expert_")) and name not in GROWN
)

# Data sets that are trained on alone.
ALONE = (EmojiSpec, PictogramSpec)

Data = tuple[Dataset | IterableDataset, Dataset | None, ContrastiveCollator, ContrastiveCollator]


def build_model(args: ModelArguments) -> tuple[ClippoModel, ClippoProcessor]:
    """Builds the model and a processor of its canvas size.

    The model is new, or new with the tower of a ViT, or a CLIPPO that exists.

    Raises:
        ValueError: `font` is given beside a CLIPPO, which has its own; or `config_overrides` differs from a CLIPPO in
            fields that its weights fix.
    """
    if args.init_from and not is_vit(find_model(args.init_from)):
        return _load_initial_model(args)
    config = ClippoConfig.from_preset(args.preset, **args.config_overrides)
    drawing = {"font_file": args.font, "canvas_format": args.canvas_format, **args.text_options}
    processor = ClippoProcessor.from_size(config.image_size, **drawing)
    model = ClippoModel._from_config(config, attn_implementation=args.attn_implementation)
    if args.init_from:
        logger.info("%s", load_vit(model, args.init_from))
    return model, processor


def _load_initial_model(args: ModelArguments) -> tuple[ClippoModel, ClippoProcessor]:
    if args.font:
        raise ValueError(f"font={args.font} cannot replace the font of {args.init_from}; leave it out.")
    if args.text_options:
        raise ValueError(f"text_options={args.text_options} cannot change those of {args.init_from}; leave them out.")
    changes = _changes(args.config_overrides, ClippoConfig.from_pretrained(args.init_from), args.init_from)
    processor = ClippoProcessor.from_pretrained(args.init_from)
    processor.tokenizer.canvas_format = args.canvas_format
    model = ClippoModel.from_pretrained(args.init_from, dtype="float32", attn_implementation=args.attn_implementation)
    if "image_tower" in changes:
        model = grow(model, **{name: changes.pop(name) for name in IMAGE_SIDE if name in changes})
    if any(name in changes for name in GROWN + ROUTING):
        model = grow(model, **{name: changes.pop(name) for name in GROWN + ROUTING if name in changes})
    if "image_size" in changes:
        resize_canvas(model, changes.pop("image_size"), processor)
    if "num_channels" in changes:
        inflate_patch_embedding(model, changes.pop("num_channels"))
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model, processor


def _changes(overrides: Mapping[str, Any], config: ClippoConfig, folder: str) -> dict[str, Any]:
    """Returns the overrides that differ from the config; ValueError if the weights fix one of them."""
    absent = object()
    # JSON has no tuples
    own = {name: list(v) if isinstance(v := getattr(config, name, absent), tuple) else v for name in overrides}
    changes = {name: value for name, value in overrides.items() if own[name] != value}
    free = CHANGEABLE + GROWN + ROUTING + (IMAGE_SIDE if "image_tower" in changes else ("image_tower",))
    fixed = [name for name in changes if name not in free]
    if fixed:
        has = {name: "nothing" if own[name] is absent else repr(own[name]) for name in fixed}
        named = ", ".join(f"{name}={changes[name]!r} (the model has {has[name]})" for name in fixed)
        raise ValueError(
            f"config_overrides sets {named}, which the weights of {folder} fix; only "
            f"{', '.join(name for name in free if name not in ROUTING)} can change."
        )
    return changes


def build_data(args: DataArguments, processor: ClippoProcessor, training_args: TrainingArguments) -> Data:
    """Builds the training set, the validation set (or None) and their collators.

    Raises:
        ValueError: There are no sources, or a source is specified wrongly.
    """
    if not args.sources:
        raise ValueError("There are no sources to train on; give sources, a list of mappings with a path each.")
    plain = ContrastiveCollator(processor)
    alone = next((kind for kind in ALONE if kind.is_among(args.sources)), None)
    if alone is not None:
        if args.validation:
            raise ValueError(f"{alone.__name__} validates on its held-out pairs; leave out validation.")
        spec = alone.from_dict(args.sources[0])
        train, validation = spec.open(args.texts_per_image)
        views = spec.views(processor.image_processor.size["height"])
        if args.augment_on_device:  # the images of the data set are few and small: the device keeps all of them
            return train, validation, replace(plain, views=views, on_device=True, by_number=True), plain
        return train, validation, replace(plain, augment=views), plain
    specs = [SourceSpec.from_dict(spec) for spec in args.sources]
    train = _mixed_pairs(specs, args, training_args)
    validation = SourcePairs(SourceSpec.from_dict(args.validation), sampling=False) if args.validation else None
    return train, validation, with_augmentation(plain, args), plain


def _mixed_pairs(
    specs: list[SourceSpec], args: DataArguments, training_args: TrainingArguments
) -> PairMixture | PairStream:
    if any(spec.streaming for spec in specs):
        return PairStream(
            specs,
            training_args.train_batch_size,
            data_seed(training_args),
            texts_per_image=args.texts_per_image,
            process=training_args.process_index,
            processes=training_args.world_size,
            buffer_size=args.shuffle_buffer,
        )
    # One process opens first: splitting documents is cached, and the others then find it done.
    with training_args.main_process_first(desc="opening the sources"):
        return PairMixture.from_specs(specs, args.texts_per_image)


def with_augmentation(collator: ContrastiveCollator, args: DataArguments) -> ContrastiveCollator:
    """Returns a collator with the augmentation of photographs that the arguments ask for.

    RandAugment works on PIL images, in the workers and before the images are resized.

    Args:
        collator: Collator without augmentation.
        args: Arguments with `flip`, `randaugment`, `random_crop` and `augment_on_device`.

    Raises:
        ValueError: The device has nothing to compute.
    """
    layers, magnitude = args.randaugment or (0, 0)
    if not (args.random_crop or args.augment_on_device):
        return replace(
            collator, augment=PhotoAugmentation(args.flip, layers, magnitude) if args.flip or layers else None
        )
    if not (args.random_crop or args.flip):
        raise ValueError("augment_on_device=True has nothing to compute; set flip or random_crop, or leave it out.")
    views = PhotoViews(collator.processor.image_processor.size["height"], args.flip, args.random_crop or 1.0)
    augment = PhotoAugmentation(False, layers, magnitude) if layers else None
    return replace(collator, augment=augment, views=views, on_device=args.augment_on_device)


def device_views(train: Dataset | IterableDataset, collator: ContrastiveCollator) -> DeviceViews | None:
    """Returns the views that the device computes, or None where the workers do it.

    Args:
        train: Training set.
        collator: Its collator.
    """
    if not collator.on_device:
        return None
    return DeviceViews(collator.views, train.images if collator.by_number else None)


class SaveFirst(TrainerCallback):
    """Leaves the evaluation of the last step to `pretrain`, which saves the model before it."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_evaluate = False

    on_epoch_end = on_step_end


def pretrain(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
    step_args: StepArguments | None = None,
    optimizer_args: OptimizerArguments | None = None,
    resume_args: ResumeArguments | None = None,
    distillation_args: DistillationArguments | None = None,
) -> ContrastiveTrainer:
    """Trains, saves model, processor and curves to `output_dir`, and evaluates.

    The run resumes from the newest whole checkpoint in `output_dir`, which it holds alone.

    Args:
        model_args: Model to train.
        data_args: Training and validation data.
        training_args: Arguments of `transformers.Trainer`; unused columns are kept and small last batches dropped.
        step_args: Computation of a step.
        optimizer_args: Optimizer and schedule.
        resume_args: Resumption of a stopped run.
        distillation_args: Losses against given vectors.

    Returns:
        The trainer after training.

    Raises:
        RunInProgressError: Another run holds `output_dir`.
        IncompleteCheckpointError, ChangedRunError: The run cannot be resumed, see `CheckpointMixin.find_checkpoint`.
    """
    set_seed(training_args.seed)
    training_args.remove_unused_columns = False  # columns hold images and strings; the collator makes the tensors
    training_args.dataloader_drop_last = True  # the loss of a small last batch has another scale
    step_args, resume_args = step_args or StepArguments(), resume_args or ResumeArguments()
    with run_lock(training_args):
        trainer = _build_trainer(model_args, data_args, training_args, step_args, optimizer_args, distillation_args)
        checkpoint = trainer.find_checkpoint(resume_args.resume_anyway)
        if model_args.fit_projection and checkpoint is None:
            items = given_items(trainer.train_dataset, model_args.fit_projection, training_args)
            fit_projection(trainer.model, items, trainer.processing_class.tokenizer, training_args)
        if distillation_args is not None and distillation_args.anchor_weight:
            trainer.anchors = _make_anchors(trainer)
        result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        # Whatever fails from here on, the model is saved.
        if trainer.eval_dataset is not None:
            trainer.save_metrics("eval", trainer.evaluate())
            trainer.save_state()
        if trainer.is_world_process_zero():
            _draw_curves(Path(training_args.output_dir))
    return trainer


def _build_trainer(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
    step_args: StepArguments,
    optimizer_args: OptimizerArguments | None,
    distillation_args: DistillationArguments | None,
) -> ContrastiveTrainer:
    model, processor = build_model(model_args)
    if model_args.train_only is not None:
        freeze_others(model, model_args.train_only)
    train, validation, collator, eval_collator = build_data(data_args, processor, training_args)
    check_vectors(model.config, train, validation, data_args)
    collator, eval_collator = _with_captions(model, collator, eval_collator, step_args)
    if hasattr(train, "train_sampler"):  # a batch that the data cannot fill is an error before anything is set up
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
        compile_blocks=step_args.compile_blocks,
        max_skipped=data_args.max_skipped,
        device_views=device_views(train, collator),
        distillation=distillation_args,
        settings=run_settings(model_args, data_args, optimizer_args, distillation_args)
        | ({"caption_loss_weight": step_args.caption_loss_weight} if step_args.caption_loss_weight else {}),
    )
    trainer.add_callback(SaveFirst())
    return trainer


def _make_anchors(trainer: ContrastiveTrainer) -> Anchors:
    """Returns the anchors of the concepts of the training set, which then names the concept of each item."""
    train = trainer.train_dataset
    if not hasattr(train, "concept_texts"):
        raise ValueError(
            "anchor_weight needs a data set of concepts (sources of kind pictograms); for given vectors set "
            "soft_target_weight or cosine_weight."
        )
    train.with_concepts = True
    texts = train.concept_texts()
    return make_anchors(trainer.model, trainer.processing_class.tokenizer, texts, trainer.args.device)


def _with_captions(
    model: ClippoModel, collator: ContrastiveCollator, eval_collator: ContrastiveCollator, step_args: StepArguments
) -> tuple[ContrastiveCollator, ContrastiveCollator]:
    """Returns collators that make captions for the decoder, if their loss has a weight."""
    if not step_args.caption_loss_weight:
        return collator, eval_collator
    if not model.config.num_decoder_layers or step_args.micro_batch_size is not None:
        raise ValueError(
            f"caption_loss_weight={step_args.caption_loss_weight} needs a decoder and one pass of the tower; set "
            "num_decoder_layers in config_overrides, and leave micro_batch_size out."
        )
    model.caption_loss_weight = step_args.caption_loss_weight
    length = model.config.decoder_max_length
    return replace(collator, caption_length=length), replace(eval_collator, caption_length=length)


def run_settings(
    model_args: ModelArguments,
    data_args: DataArguments,
    optimizer_args: OptimizerArguments | None = None,
    distillation_args: DistillationArguments | None = None,
) -> dict:
    """Returns the settings that change the weights, without paths of the data, which may be moved.

    Args:
        model_args: Model.
        data_args: Data.
        optimizer_args: Optimizer and schedule.
        distillation_args: Losses against given vectors.
    """
    model, data = asdict(model_args), asdict(data_args)
    del model["canvas_format"], data["max_skipped"], data["validation"]
    for name in ("text_options", "fit_projection", "train_only"):  # a run of a version without them can be resumed
        model = {key: value for key, value in model.items() if key != name or value}
    for name in ("random_crop", "augment_on_device"):  # a run of a version without them can be resumed
        data = {key: value for key, value in data.items() if key != name or value}
    data["sources"] = without_places(data["sources"])
    settings = {"model": model, "data": data, "optimizer": asdict(optimizer_args or OptimizerArguments())}
    if distillation_args is not None and distillation_args.changes_the_loss:
        settings["distillation"] = distillation_args.settings()
    return settings


def _draw_curves(folder: Path) -> None:
    try:
        draw_curves([folder], folder / "training.png")
    except Exception as error:  # matplotlib is an extra, and a short run may have logged nothing
        logger.info("No curves are drawn: %s", error)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `clippo pretrain` with the given command line (default: `sys.argv[1:]`)."""
    kinds = (
        *(ModelArguments, DataArguments, TrainingArguments, StepArguments, OptimizerArguments, ResumeArguments),
        DistillationArguments,
    )
    run_command(pretrain, kinds, argv, usage=__doc__)
