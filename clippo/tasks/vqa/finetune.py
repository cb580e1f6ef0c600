"""Fine-tuning (or training from nothing) to answer questions about pictures, on transformers' Trainer."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import EvalPrediction, TrainingArguments, set_seed

from clippo.data.augmentation import PhotoAugmentation
from clippo.modeling_clippo import ClippoConfig, ClippoForVisualQuestionAnswering
from clippo.processing import ClippoProcessor
from clippo.processing.layout_question_clippo import QuestionLayout
from clippo.surgery import has_head, inflate_patch_embedding, reset_head, resize_canvas
from clippo.tasks.vqa.accuracy import VqaAccuracy
from clippo.tasks.vqa.answers import normalize_answer
from clippo.tasks.vqa.data import AnswerVocabulary, QuestionCollator, VisualQuestions, load_questions
from clippo.training.arguments import from_json
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.shared import checkpoint_to_resume

logger = logging.getLogger(__name__)


@dataclass
class VqaModelArguments:
    """Which model answers, on what canvas."""

    init_from: str | None = field(
        default=None, metadata={"help": "Folder or hub name of a CLIPPO to start from; default: a new model."}
    )
    preset: str = field(default="B/16", metadata={"help": "Size of a new model: Ti, S, B, L or H, '/', patch side."})
    model: dict | str | None = field(default=None, metadata={"help": "ClippoConfig fields of a new model, as JSON."})
    image_size: list[int] | None = field(
        default=None,
        metadata={"help": "Canvas, one side or height and width; another than init_from's resamples its positions."},
    )
    layout: dict | str | None = field(default=None, metadata={"help": "Fields of QuestionLayout, as JSON."})
    loss: str = field(
        default="binary", metadata={"help": "'binary': every answer may be right; 'softmax': exactly one is."}
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor of the learning rate from a layer to the one below; 1 trains all alike."}
    )
    freeze_tower: bool = field(default=False, metadata={"help": "Train the answer layer alone."})
    classifier_dropout: float | None = field(
        default=None, metadata={"help": "Dropout before the answer layer; default: as the config says, 0 in a new one."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "Attention backend."})

    def __post_init__(self):
        self.model = from_json("model", self.model, dict) or {}
        self.layout = from_json("layout", self.layout, dict) or {}


@dataclass
class VqaDataArguments:
    """Questions, pictures and answers: parquet files or hub names, or the official VQAv2 files."""

    train: str = field(
        default="", metadata={"help": "Parquet file, hub name, or VQAv2's questions.json,annotations.json,image folder"}
    )
    validation: str = field(default="", metadata={"help": "The same, to evaluate on."})
    answers: int | None = field(default=None, metadata={"help": "Most frequent answers to choose among; default all."})
    min_answer_count: int = field(default=1, metadata={"help": "Questions an answer must be right for to be one."})
    normalize_answers: bool = field(default=False, metadata={"help": "Answers in the VQA challenge's form."})
    blind: str | None = field(default=None, metadata={"help": "'picture' or 'question': hide it, for comparison."})
    flip: bool = field(
        default=False, metadata={"help": "Mirror every second picture; only where no question says left or right."}
    )
    shift: float = field(default=0.0, metadata={"help": "Move pictures by up to that share of their sides."})
    max_eval_questions: int | None = field(default=None, metadata={"help": "Evaluate on the first so many."})


def build_vqa_model(
    args: VqaModelArguments, vocabulary: AnswerVocabulary
) -> tuple[ClippoForVisualQuestionAnswering, ClippoProcessor]:
    """Model and processor, the answers in the config, the layout in the processor.

    A model that answered before goes on with its answer layer if the answers are the same, else with a new one.
    `args.layout` changes single fields of the layout that it was trained with.

    Raises:
        ValueError: the loss or a field of the layout is not known.
    """
    losses = {"binary": "multi_label_classification", "softmax": "single_label_classification"}
    if args.loss not in losses:
        raise ValueError(f"loss={args.loss!r} is not known; choose 'binary' or 'softmax'.")
    size = args.image_size
    if isinstance(size, list) and len(size) == 1:
        size = size[0]
    answers = {
        "id2label": vocabulary.id2label,
        "label2id": {answer: i for i, answer in vocabulary.id2label.items()},
        "problem_type": losses[args.loss],
    }
    if args.classifier_dropout is not None:
        answers["classifier_dropout"] = args.classifier_dropout
    if args.init_from:
        processor = ClippoProcessor.from_pretrained(args.init_from)
        model = ClippoForVisualQuestionAnswering.from_pretrained(
            args.init_from,
            dtype="float32",
            attn_implementation=args.attn_implementation,
            ignore_mismatched_sizes=True,  # of another head; the rest is of the same config
            **answers,
        )
        before = ClippoConfig.from_pretrained(args.init_from)
        if has_head(before) and before.id2label != answers["id2label"]:
            logger.info("%s has other labels than these answers: its head is left behind", args.init_from)
            reset_head(model)
        if size is not None:
            resize_canvas(model, size, processor)
        if model.config.num_channels == 1:
            inflate_patch_embedding(model)
    else:
        config = ClippoConfig.from_preset(args.preset, **{**args.model, **answers})
        if size is not None:
            config.image_size = size
            config.validate_canvas()
        model = ClippoForVisualQuestionAnswering._from_config(config, attn_implementation=args.attn_implementation)
        processor = ClippoProcessor.from_size(config.image_size)
    layout = QuestionLayout.from_options(getattr(processor, "question_layout", None))
    layout = QuestionLayout.from_options(args.layout or None, layout)
    processor = ClippoProcessor(processor.image_processor, processor.tokenizer, layout)
    if args.freeze_tower:
        model.vision_model.requires_grad_(False)
    return model, processor


@dataclass
class AnswerMetrics:
    """`compute_metrics` of Trainer: the metrics of `VqaAccuracy` against the people's own answers, so that an answer
    outside the vocabulary counts as not found; `answerable` is the share of questions that the vocabulary can answer.
    """

    questions: VisualQuestions
    vocabulary: AnswerVocabulary

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        chosen = [self.vocabulary.answers[i] for i in np.asarray(prediction.predictions).reshape(-1)]
        metrics = VqaAccuracy().compute(predictions=chosen, references=self.questions.answers)
        if self.vocabulary.normalize:  # the challenge's own score compares in that form already
            people = [list(map(normalize_answer, several)) for several in self.questions.answers]
            in_that_form = VqaAccuracy().compute(predictions=chosen, references=people)
            metrics |= {name: value for name, value in in_that_form.items() if name != "vqa_accuracy"}
        answerable = np.mean([bool(self.vocabulary.scores(a).any()) for a in self.questions.answers])
        return {**metrics, "answerable": float(answerable)}


def finetune_vqa(
    model_args: VqaModelArguments, data_args: VqaDataArguments, training_args: TrainingArguments
) -> FineTuningTrainer:
    """Train, evaluate, save model and processor to `output_dir`; goes on from the last checkpoint there."""
    set_seed(training_args.seed)
    training_args.remove_unused_columns = False  # the columns are pictures and strings; the collator makes the tensors
    train, validation = load_questions(data_args.train), load_questions(data_args.validation)
    if data_args.max_eval_questions is not None:
        validation.rows = validation.rows[: data_args.max_eval_questions]
    vocabulary = AnswerVocabulary.from_data(
        train.answers, data_args.answers, data_args.min_answer_count, data_args.normalize_answers
    )
    model, processor = build_vqa_model(model_args, vocabulary)
    logger.info(
        "%d questions to train on, %d to evaluate on, %d answers, %d trainable parameters",
        len(train), len(validation), len(vocabulary.answers), model.num_parameters(only_trainable=True),
    )  # fmt: skip
    augment = None
    if data_args.flip or data_args.shift:
        augment = PhotoAugmentation(data_args.flip, layers=0, shift=data_args.shift)
    trainer = FineTuningTrainer(
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
    )
    result = trainer.train(resume_from_checkpoint=checkpoint_to_resume(training_args))
    trainer.save_model()
    trainer.save_metrics("train", result.metrics)
    trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_state()
    processor.save_pretrained(Path(training_args.output_dir))
    return trainer
