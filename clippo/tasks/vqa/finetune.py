"""Train a CLIPPO to answer questions about images, from a trained model or from scratch.

`python scripts/finetune_vqa.py recipe.yaml [--field value ...]`

All of transformers' TrainingArguments are accepted, in the recipe and on the command line. The same command resumes an
interrupted run.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import EvalPrediction, TrainingArguments, set_seed

from clippo.data.augmentation import PhotoAugmentation
from clippo.model_files import find_model
from clippo.tasks.vqa.accuracy import VqaAccuracy
from clippo.tasks.vqa.answers import AnswerVocabulary, normalize_answer
from clippo.tasks.vqa.baselines import baseline_scores
from clippo.tasks.vqa.data import QuestionCollator, SeededSampler, VisualQuestions, load_questions
from clippo.tasks.vqa.grids import ImageGrids, compute_grids, compute_question_tokens, open_grids
from clippo.tasks.vqa.matching import MATCHING_ANSWERS, MatchingCollator, load_captions, matching_accuracy
from clippo.tasks.vqa.model import VqaModelArguments, build_vqa_model
from clippo.training.arguments import ResumeArguments, run_command
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.fingerprint import describe_data, describe_files
from clippo.training.run_lock import run_lock
from clippo.training.trainer import data_seed

logger = logging.getLogger(__name__)


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
    image_column: str = field(default="image", metadata={"help": "Column of the images."})
    question_column: str | None = field(
        default=None, metadata={"help": "Column of questions or statements. Default: questions, or else question."}
    )
    answer_column: str | None = field(
        default=None, metadata={"help": "Column of answers or labels. Default: answers, or else answer."}
    )
    matching: bool = field(
        default=False,
        metadata={
            "help": "Learn which caption belongs to an image: the questions are captions, and half of each batch is "
            "swapped. The answers are 'false' and 'true'."
        },
    )
    train_grids: str | None = field(
        default=None,
        metadata={"help": "File of numpy.save with a grid of another tower for each training image, in their order."},
    )
    validation_grids: str | None = field(default=None, metadata={"help": "The same for the images of the evaluation."})
    grid_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder for the tokens of a frozen tower, which encodes images and questions once for all epochs."
        },
    )
    normalize_answers: bool = field(default=False, metadata={"help": "Use the VQA challenge's form of answers."})
    blind: str | None = field(default=None, metadata={"help": "'picture' or 'question': hide it, for comparison."})
    flip: bool = field(
        default=False, metadata={"help": "Mirror half of the images. Questions about left and right forbid it."}
    )
    shift: float = field(default=0.0, metadata={"help": "Shift images by up to this share of their sides."})
    baselines: bool = field(
        default=False,
        metadata={"help": "Also score a bag of words, alone and with the grids of the images, in baselines.json."},
    )
    max_eval_questions: int | None = field(
        default=None, metadata={"help": "Number of questions to evaluate on, from the first. Default: all."}
    )


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
    grids = (
        {}
        if dataset.grids is None
        else {"grids": describe_data([dataset.grids[int(i)].float().sum().item() for i in picked])}
    )
    return {"questions": describe_data(dataset.rows), "images": {"number": len(dataset.images), **images}, **grids}


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
        if data_args.baselines and trainer.is_world_process_zero():
            _write_baselines(trainer)
        result = trainer.train(resume_from_checkpoint=trainer.find_checkpoint(resume_anyway))
        trainer.save_model()
        trainer.processing_class.save_pretrained(Path(training_args.output_dir))
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        # Whatever fails from here on, the model is saved.
        trainer.save_metrics("eval", trainer.evaluate())
        if data_args.blind is None and not data_args.matching:
            trainer.save_metrics("hidden", evaluate_hidden(trainer))
        trainer.save_state()
    return trainer


def _write_baselines(trainer: FineTuningTrainer) -> None:
    vocabulary = trainer.data_collator.vocabulary
    scores = baseline_scores(trainer.train_dataset, trainer.eval_dataset, vocabulary)
    logger.info("baselines: %s", scores)
    path = Path(trainer.args.output_dir) / "baselines.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


def evaluate_hidden(trainer: FineTuningTrainer) -> dict[str, float]:
    """Evaluates a trained model with the image of every question hidden, under the prefix `hidden_`.

    A model that uses images loses accuracy then.

    Args:
        trainer: Trainer of questions, which afterwards evaluates with images again.
    """
    questions, collator = trainer.eval_dataset, trainer.eval_collator
    grids = questions.grids
    try:
        if grids is None:
            trainer.eval_collator = replace(collator, blind="picture")
        else:
            questions.grids = grids.hidden()
        return trainer.evaluate(metric_key_prefix="hidden")
    finally:
        questions.grids, trainer.eval_collator = grids, collator


def _build_trainer(
    model_args: VqaModelArguments, data_args: VqaDataArguments, training_args: TrainingArguments
) -> FineTuningTrainer:
    train, validation = (_load(source, data_args) for source in (data_args.train, data_args.validation))
    if data_args.max_eval_questions is not None:
        validation.rows = validation.rows[: data_args.max_eval_questions]
    vocabulary = AnswerVocabulary.from_data(
        train.answers, data_args.answers, data_args.min_answer_count, data_args.normalize_answers
    )
    if data_args.matching:
        vocabulary = AnswerVocabulary(MATCHING_ANSWERS)
    given = _given_grids(data_args)
    model, processor = build_vqa_model(model_args, vocabulary, given[0].shape if given else None)
    _use_grids(train, validation, given, model, processor, model_args, data_args)
    augment = None
    if data_args.flip or data_args.shift:
        augment = PhotoAugmentation(data_args.flip, layers=0, shift=data_args.shift)
    collator = MatchingCollator if data_args.matching else QuestionCollator
    share = training_args.n_gpu < 2
    trainer = VqaTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator(processor, vocabulary, data_args.blind, augment, share),
        eval_collator=collator(processor, vocabulary, data_args.blind, share_images=share),
        processing_class=processor,
        compute_metrics=matching_accuracy if data_args.matching else AnswerMetrics(validation, vocabulary),
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


def _load(source: str, args: VqaDataArguments) -> VisualQuestions:
    if args.matching:
        return load_captions(source, args.image_column, args.question_column or "captions")
    names = ("image_column", "question_column", "answer_column")
    if len(source.split(",")) == 3:  # VQAv2's files, which have no columns
        return load_questions(source)
    return load_questions(source, **{name: getattr(args, name) for name in names})


def _given_grids(args: VqaDataArguments) -> list[ImageGrids] | None:
    """Grids of another tower for training and evaluation, or None."""
    paths = [args.train_grids, args.validation_grids]
    if not any(paths):
        return None
    if not all(paths):
        raise ValueError("Only one of train_grids and validation_grids is given; give both.")
    if args.flip or args.shift:
        raise ValueError("flip and shift change images, which given grids replace; leave them out.")
    grids = [open_grids(path) for path in paths]
    if grids[0].shape != grids[1].shape:
        raise ValueError(f"train_grids are {grids[0].shape} and validation_grids {grids[1].shape}; use one tower.")
    return grids


def _use_grids(
    train: VisualQuestions, validation: VisualQuestions, given: list[ImageGrids] | None, model, processor,
    model_args: VqaModelArguments, data_args: VqaDataArguments,
) -> None:  # fmt: skip
    """Gives the data sets their grids, and with a cache for a frozen tower the tokens of their questions."""
    cache = data_args.grid_cache
    if given is None and cache is None:
        return
    changing = model_args.tower_lr_scale > 0 or data_args.flip or data_args.shift or data_args.matching
    if cache is not None and (model.fusion is None or changing):
        raise ValueError(
            f"grid_cache={cache!r} keeps tokens that do not change; it needs num_fusion_layers of 1 or more and "
            "tower_lr_scale=0, without flip, shift and matching."
        )
    for i, questions in enumerate((train, validation)):
        grids = compute_grids(model, processor, questions.images, cache) if given is None else given[i]
        if len(grids) != len(questions.images):
            raise ValueError(f"There are {len(grids)} grids and {len(questions.images)} images; give one an image.")
        questions.grids = grids.hidden() if data_args.blind == "picture" else grids
        if cache is not None:
            tokens = compute_question_tokens(model, processor, [question for _, question, _ in questions.rows], cache)
            questions.tokens = tokens.hidden() if data_args.blind == "question" else tokens


def _settings(model_args: VqaModelArguments, data_args: VqaDataArguments) -> dict[str, Any]:
    """Returns the settings that change the weights, without paths of the data, which may be moved."""
    model, data = asdict(model_args), asdict(data_args)
    places = ("train", "validation", "train_grids", "validation_grids", "grid_cache")
    for name in (*places, "max_eval_questions", "baselines"):
        del data[name]
    del model["canvas_format"]
    return {"model": model, "data": data}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name. Default: those of the process.
    """
    kinds = (VqaModelArguments, VqaDataArguments, TrainingArguments, ResumeArguments)
    run_command(finetune_vqa, kinds, argv, usage=__doc__)
