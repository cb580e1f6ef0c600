"""Train a CLIPPO to answer questions about images, from a trained model or from scratch.

`python scripts/finetune_vqa.py recipe.yaml [--field value ...]`

All of transformers' TrainingArguments are accepted, in the recipe and on the command line. The same command resumes an
interrupted run.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import EvalPrediction, TrainingArguments, set_seed

from clippo.data.augmentation import PhotoAugmentation
from clippo.model_files import find_model
from clippo.modeling_clippo import ClippoConfig, ClippoForVisualQuestionAnswering
from clippo.processing import ClippoProcessor
from clippo.processing.layout_question_clippo import QuestionLayout
from clippo.surgery import has_head, inflate_patch_embedding, reset_head, resize_canvas
from clippo.tasks.vqa.accuracy import VqaAccuracy
from clippo.tasks.vqa.answers import AnswerVocabulary, normalize_answer
from clippo.tasks.vqa.data import QuestionCollator, SeededSampler, VisualQuestions, load_questions
from clippo.training.arguments import ModelArguments, ResumeArguments, from_json, parse_command
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.fingerprint import describe_data, describe_files
from clippo.training.processes import RunRefusedError
from clippo.training.run_lock import run_lock
from clippo.training.trainer import data_seed

logger = logging.getLogger(__name__)

LOSSES = {"binary": "multi_label_classification", "softmax": "single_label_classification"}


@dataclass
class VqaModelArguments(ModelArguments):
    """Model, canvas and answer layer.

    Example:
        >>> VqaModelArguments(preset="Ti/16", layout='{"place": "side"}').layout
        {'place': 'side'}
    """

    canvas_format: str | None = field(
        default=None, metadata={"help": "Format of text without an image in the saved processor. Default: unchanged."}
    )
    image_size: list[int] | None = field(
        default=None,
        metadata={"help": "Canvas: one side, or height and width. Positions of init_from are resampled to it."},
    )
    layout: dict | str | None = field(
        default=None, metadata={"help": "Fields of QuestionLayout, as a JSON object. Default: the layout of init_from."}
    )
    loss: str = field(
        default="binary", metadata={"help": "'binary': every answer may be right; 'softmax': exactly one is right."}
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor of the learning rate from a layer to the one below; 1 trains all layers alike."},
    )
    tower_lr_scale: float = field(
        default=1.0,
        metadata={
            "help": "Factor of the tower's learning rates; 0 freezes the tower and trains the answer layer only."
        },
    )
    classifier_dropout: float | None = field(
        default=None, metadata={"help": "Dropout before the answer layer. Default: as in the config, 0 in a new one."}
    )

    def __post_init__(self):
        super().__post_init__()
        self.layout = from_json("layout", self.layout, dict) or {}


@dataclass
class VqaDataArguments:
    """Questions and answers, from any data set or from the official VQAv2 files."""

    train: str = field(
        default="",
        metadata={"help": "File, 'hub/name:split', or VQAv2's questions.json,annotations.json,image folder."},
    )
    validation: str = field(default="", metadata={"help": "Questions to evaluate on, in the same notation."})
    answers: int | None = field(
        default=None, metadata={"help": "Number of classes, the most frequent answers. Default: all answers."}
    )
    min_answer_count: int = field(
        default=1, metadata={"help": "Number of questions that an answer has to be right for to be a class."}
    )
    normalize_answers: bool = field(default=False, metadata={"help": "Use the VQA challenge's form of answers."})
    blind: str | None = field(default=None, metadata={"help": "'picture' or 'question': hide it, for comparison."})
    flip: bool = field(
        default=False, metadata={"help": "Mirror half of the images. Questions about left and right forbid it."}
    )
    shift: float = field(default=0.0, metadata={"help": "Shift images by up to this share of their sides."})
    max_eval_questions: int | None = field(
        default=None, metadata={"help": "Number of questions to evaluate on, from the first. Default: all."}
    )


def build_vqa_model(
    args: VqaModelArguments, vocabulary: AnswerVocabulary
) -> tuple[ClippoForVisualQuestionAnswering, ClippoProcessor]:
    """Builds model and processor with the answers in the config and the layout in the processor.

    The answer layer of `init_from` is kept if it has the same answers, else replaced by a new one. `layout` changes
    single fields of the saved layout.

    Args:
        args: Model arguments.
        vocabulary: Answers to choose from.

    Raises:
        ValueError: The loss or a field of the layout is unknown, or an argument does not go with `init_from`.
    """
    if args.loss not in LOSSES:
        raise ValueError(f"loss={args.loss!r} is unknown; choose 'binary' or 'softmax'.")
    fields = {
        "id2label": vocabulary.id2label,
        "label2id": {answer: i for i, answer in vocabulary.id2label.items()},
        "problem_type": LOSSES[args.loss],
    }
    if args.classifier_dropout is not None:
        fields["classifier_dropout"] = args.classifier_dropout
    size = args.image_size
    if isinstance(size, list) and len(size) == 1:
        size = size[0]
    model, processor = (_load_initial_model if args.init_from else _new_model)(args, fields, size)
    if args.canvas_format is not None:
        processor.tokenizer.canvas_format = args.canvas_format
    layout = QuestionLayout.from_options(getattr(processor, "question_layout", None))
    layout = QuestionLayout.from_options(args.layout or None, layout)
    processor = ClippoProcessor(processor.image_processor, processor.tokenizer, layout)
    return model, processor


def _new_model(
    args: VqaModelArguments, fields: dict[str, Any], size: int | list[int] | None
) -> tuple[ClippoForVisualQuestionAnswering, ClippoProcessor]:
    config = ClippoConfig.from_preset(args.preset, **{**args.config_overrides, **fields})
    if size is not None:
        config.image_size = size
        config.validate_canvas()
    model = ClippoForVisualQuestionAnswering._from_config(config, attn_implementation=args.attn_implementation)
    return model, ClippoProcessor.from_size(config.image_size, font_file=args.font)


def _load_initial_model(
    args: VqaModelArguments, fields: dict[str, Any], size: int | list[int] | None
) -> tuple[ClippoForVisualQuestionAnswering, ClippoProcessor]:
    before = ClippoConfig.from_pretrained(args.init_from)
    # A recipe for a new model may go on from its own result, with the same values.
    fixed = [name for name, value in args.config_overrides.items() if getattr(before, name, None) != value]
    fixed += ["font"] if args.font else []
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot change {args.init_from}, whose weights fix it; leave it out.")
    processor = ClippoProcessor.from_pretrained(args.init_from)
    model = ClippoForVisualQuestionAnswering.from_pretrained(
        args.init_from,
        dtype="float32",
        attn_implementation=args.attn_implementation,
        ignore_mismatched_sizes=True,  # Only the shape of the head may differ; the config fixes the rest.
        **fields,
    )
    if has_head(before) and before.id2label != fields["id2label"]:
        logger.info("%s has other labels than these answers; its head is replaced by a new one.", args.init_from)
        reset_head(model)
    if size is not None:
        resize_canvas(model, size, processor)
    if model.config.num_channels == 1:
        inflate_patch_embedding(model)
    return model, processor


@dataclass
class AnswerMetrics:
    """`compute_metrics` of Trainer: the scores of `VqaAccuracy` against the answers of people.

    An answer outside the vocabulary counts as not found. `answerable` is the share of questions that have an answer in
    the vocabulary.

    Args:
        questions: Questions of the evaluation, in order.
        vocabulary: Answers of the model.
    """

    questions: VisualQuestions
    vocabulary: AnswerVocabulary

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        chosen = [self.vocabulary.answers[i] for i in np.asarray(prediction.predictions).reshape(-1)]
        metrics = VqaAccuracy().compute(predictions=chosen, references=self.questions.answers)
        if self.vocabulary.normalize:  # The challenge's own score compares in the official form already.
            people = [list(map(normalize_answer, several)) for several in self.questions.answers]
            normalized = VqaAccuracy().compute(predictions=chosen, references=people)
            metrics |= {name: value for name, value in normalized.items() if name != "vqa_accuracy"}
        answerable = np.mean([bool(self.vocabulary.scores(a).any()) for a in self.questions.answers])
        return {**metrics, "answerable": float(answerable)}


@describe_data.register
def _(dataset: VisualQuestions) -> dict[str, Any]:
    picked = np.unique(np.linspace(0, len(dataset.images) - 1, min(512, len(dataset.images)), dtype=int))
    cells = [dataset.images[int(i)] for i in picked]
    if all(isinstance(cell, Path) for cell in cells):
        images = describe_files(cells)
    else:  # The text form of an opened image is not the same in the next run.
        images = describe_data([cell if isinstance(cell, dict | bytes | str) else "" for cell in cells])
    return {"questions": describe_data(dataset.rows), "images": {"number": len(dataset.images), **images}}


class VqaTrainer(FineTuningTrainer):
    """`FineTuningTrainer` whose augmentation is the same after a restart, see `SeededSampler`."""

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return SeededSampler(super()._get_train_sampler(train_dataset), len(dataset), data_seed(self.args))


def finetune_vqa(
    model_args: VqaModelArguments,
    data_args: VqaDataArguments,
    training_args: TrainingArguments,
    resume_args: ResumeArguments | None = None,
) -> FineTuningTrainer:
    """Trains, evaluates and saves model and processor to `output_dir`; resumes from the newest whole checkpoint there.

    Args:
        model_args: Model arguments.
        data_args: Data arguments.
        training_args: TrainingArguments of transformers.
        resume_args: Resumption of a stopped run.

    Raises:
        FileNotFoundError: `init_from` or a file of the data does not exist.
        RunInProgressError: Another run holds `output_dir`.
        IncompleteCheckpointError, ChangedRunError: The run cannot be resumed, see `CheckpointMixin.find_checkpoint`.
    """
    if model_args.init_from:
        find_model(model_args.init_from)
    set_seed(training_args.seed)
    training_args.remove_unused_columns = False  # The columns are images and strings, which the collator draws.
    resume_anyway = (resume_args or ResumeArguments()).resume_anyway
    with run_lock(training_args):
        trainer = _build_trainer(model_args, data_args, training_args)
        result = trainer.train(resume_from_checkpoint=trainer.find_checkpoint(resume_anyway))
        trainer.save_model()
        trainer.processing_class.save_pretrained(Path(training_args.output_dir))
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        # Whatever fails from here on, the model is saved.
        trainer.save_metrics("eval", trainer.evaluate())
        trainer.save_state()
    return trainer


def _build_trainer(
    model_args: VqaModelArguments, data_args: VqaDataArguments, training_args: TrainingArguments
) -> FineTuningTrainer:
    train, validation = load_questions(data_args.train), load_questions(data_args.validation)
    if data_args.max_eval_questions is not None:
        validation.rows = validation.rows[: data_args.max_eval_questions]
    vocabulary = AnswerVocabulary.from_data(
        train.answers, data_args.answers, data_args.min_answer_count, data_args.normalize_answers
    )
    model, processor = build_vqa_model(model_args, vocabulary)
    augment = None
    if data_args.flip or data_args.shift:
        augment = PhotoAugmentation(data_args.flip, layers=0, shift=data_args.shift)
    trainer = VqaTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=QuestionCollator(processor, vocabulary, data_args.blind, augment),
        eval_collator=QuestionCollator(processor, vocabulary, data_args.blind),
        processing_class=processor,
        compute_metrics=AnswerMetrics(validation, vocabulary),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        layer_decay=model_args.layer_decay,
        tower_lr_scale=model_args.tower_lr_scale,
        settings=_settings(model_args, data_args),
    )
    logger.info(
        "%d questions to train on, %d to evaluate on, %d answers, %d trainable parameters",
        len(train), len(validation), len(vocabulary.answers), model.num_parameters(only_trainable=True),
    )  # fmt: skip
    return trainer


def _settings(model_args: VqaModelArguments, data_args: VqaDataArguments) -> dict[str, Any]:
    """Returns the settings that change the weights, without paths of the data, which may be moved."""
    model, data = asdict(model_args), asdict(data_args)
    for name in ("train", "validation", "max_eval_questions"):
        del data[name]
    del model["canvas_format"]
    return {"model": model, "data": data}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name. Default: those of the process.
    """
    kinds = (VqaModelArguments, VqaDataArguments, TrainingArguments, ResumeArguments)
    arguments = parse_command(kinds, argv, usage=__doc__)
    try:
        finetune_vqa(*arguments)
    except (FileNotFoundError, RunRefusedError) as error:
        raise SystemExit(f"error: {error}") from error
