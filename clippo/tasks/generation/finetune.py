"""Train a CLIPPO to write text: captions, answers, names, continued texts, reading aloud, several tasks at once.

`clippo finetune generate recipe.yaml [--field value ...]`

All of transformers' Seq2SeqTrainingArguments are accepted, in the recipe and on the command line. The same command
resumes an interrupted run.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import EvalPrediction, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed

from clippo.data import PairMixture
from clippo.data.augmentation import PhotoAugmentation
from clippo.data.sampling import EndlessKeys
from clippo.model_files import find_model
from clippo.modeling_clippo import ClippoConfig, ClippoForConditionalGeneration
from clippo.processing import ClippoProcessor
from clippo.processing.layout_question_clippo import QuestionLayout
from clippo.surgery import inflate_patch_embedding, resize_canvas
from clippo.tasks.generation.collator import GenerationCollator
from clippo.tasks.generation.examples import TaskExamples
from clippo.tasks.generation.metrics import CaptionOverlap, CharacterErrorRate, lower_ascii
from clippo.tasks.generation.specs import OF_IMAGES, TaskSpec
from clippo.tasks.vqa.accuracy import VqaAccuracy
from clippo.training.arguments import ModelArguments, ResumeArguments, from_json, run_command
from clippo.training.endless import StopWorkers, make_endless
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.fingerprint import describe_data, without_places
from clippo.training.run_lock import run_lock
from clippo.training.trainer import data_seed

logger = logging.getLogger(__name__)

METRICS = {"caption": CaptionOverlap, "answer": VqaAccuracy, "name": CaptionOverlap}  # others: CharacterErrorRate


@dataclass
class GenerationModelArguments(ModelArguments):
    """Tower, decoder and canvas.

    Example:
        >>> GenerationModelArguments(preset="Ti/16", layout='{"place": "top"}').layout
        {'place': 'top'}
    """

    image_size: list[int] | None = field(
        default=None,
        metadata={"help": "Canvas: one side, or height and width. Positions of init_from are resampled to it."},
    )
    layout: dict | str | None = field(
        default=None,
        metadata={
            "help": "Fields of QuestionLayout, as a JSON object, to draw prompts on their images. Default: the layout "
            "of init_from, or a canvas of their own."
        },
    )
    num_decoder_layers: int | None = field(
        default=None, metadata={"help": "Blocks of a new decoder. Default: those of init_from, or 2."}
    )
    decoder_max_length: int | None = field(
        default=None, metadata={"help": "Largest number of bytes of a text. Default: that of init_from, or 256."}
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor of the learning rate from a layer of the tower to the one below."}
    )
    tower_lr_scale: float = field(
        default=1.0,
        metadata={"help": "Factor of the tower's learning rates; 0 freezes it."},
    )

    def __post_init__(self):
        super().__post_init__()
        self.layout = from_json("layout", self.layout, dict)
        if isinstance(self.image_size, int):  # a recipe may write one number
            self.image_size = [self.image_size]


@dataclass
class TaskArguments:
    """The tasks of a run.

    Example:
        >>> TaskArguments(tasks='[{"path": "b.parquet", "task": "read", "text_columns": "text"}]').tasks[0]["task"]
        'read'
    """

    tasks: list | str | None = field(
        default=None, metadata={"help": "Tasks to train on, a list of mappings (see TaskSpec); as JSON here."}
    )
    validation: list | str | None = field(default=None, metadata={"help": "Tasks to evaluate on, as `tasks`."})
    control: bool = field(
        default=False, metadata={"help": "Evaluate at the end also with the images of other examples."}
    )
    flip: bool = field(default=False, metadata={"help": "Mirror half of the images in training."})
    shift: float = field(default=0.0, metadata={"help": "Shift images in training by up to this share of their sides."})

    def __post_init__(self):
        self.tasks = from_json("tasks", self.tasks, list)
        self.validation = from_json("validation", self.validation, list) or []


def build_writer(args: GenerationModelArguments) -> tuple[ClippoForConditionalGeneration, ClippoProcessor]:
    """Builds model and processor: new ones, or the tower (and decoder) of `init_from`.

    Args:
        args: Model arguments.

    Raises:
        ValueError: An argument cannot change `init_from`.
    """
    if args.init_from:
        model, processor = _load_initial_model(args)
    else:
        fields = {"num_decoder_layers": args.num_decoder_layers or 2, **args.config_overrides}
        if args.image_size is not None:
            fields["image_size"] = args.image_size if len(args.image_size) == 2 else args.image_size[0]
        if args.decoder_max_length is not None:
            fields["decoder_max_length"] = args.decoder_max_length
        config = ClippoConfig.from_preset(args.preset, **fields)
        model = ClippoForConditionalGeneration._from_config(config, attn_implementation=args.attn_implementation)
        processor = ClippoProcessor.from_size(config.image_size, font_file=args.font)
    processor.tokenizer.canvas_format = args.canvas_format
    layout = getattr(processor, "question_layout", None)
    if args.layout is not None:
        layout = QuestionLayout.from_options(args.layout, QuestionLayout.from_options(layout))
    return model, ClippoProcessor(processor.image_processor, processor.tokenizer, layout)


def _load_initial_model(args: GenerationModelArguments) -> tuple[ClippoForConditionalGeneration, ClippoProcessor]:
    before = ClippoConfig.from_pretrained(args.init_from)
    wanted = {
        "num_decoder_layers": args.num_decoder_layers or before.num_decoder_layers or 2,
        "decoder_max_length": args.decoder_max_length or before.decoder_max_length,
    }
    fixed = {name for name, value in args.config_overrides.items() if getattr(before, name, None) != value}
    if before.num_decoder_layers:
        fixed |= {name for name, value in wanted.items() if getattr(before, name) != value}
    fixed |= {"font"} if args.font else set()
    if fixed:
        names = ", ".join(sorted(fixed))
        raise ValueError(f"{names} cannot change {args.init_from}, whose weights fix it; leave it out.")
    model = ClippoForConditionalGeneration.from_pretrained(
        args.init_from, dtype="float32", attn_implementation=args.attn_implementation, **wanted
    )
    processor = ClippoProcessor.from_pretrained(args.init_from)
    if args.image_size is not None:
        resize_canvas(model, args.image_size if len(args.image_size) == 2 else args.image_size[0], processor)
    if model.config.num_channels == 1:
        inflate_patch_embedding(model)
    return model, processor


@dataclass
class TextMetrics:
    """`compute_metrics` of Trainer: the metric of a task, over all examples and for each language.

    Args:
        examples: Examples of the evaluation, in order.
        processor: Decodes the ids.
        file: JSON-lines file to which all texts are written, or None.
    """

    examples: TaskExamples
    processor: ClippoProcessor
    file: Path | None = None

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        texts = self.processor.batch_decode(np.asarray(prediction.predictions))
        references, languages = self.examples.references, self.examples.languages
        if self.file is not None:
            entries = zip(texts, references, languages, strict=True)
            lines = [json.dumps({"text": t, "references": r, "language": n}, ensure_ascii=False) for t, r, n in entries]
            self.file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        scores = self._scores(texts, references, languages[0] if len(set(languages)) == 1 else "")
        for language in sorted(set(languages)) if len(set(languages)) > 1 else ():
            rows = [i for i, name in enumerate(languages) if name == language]
            own = self._scores([texts[i] for i in rows], [references[i] for i in rows], language)
            scores |= {f"{language}_{name}": value for name, value in own.items()}
        return scores

    def _scores(self, texts: list[str], references: list[list[str]], language: str) -> dict[str, float]:
        task = self.examples.spec.task
        metric = METRICS.get(task, CharacterErrorRate)()
        options = {"language": language} if task in ("caption", "name") else {}
        scores = metric.compute(predictions=texts, references=references, **options)
        if task == "read" and self.processor.tokenizer.lowercase:  # A-Z are drawn as a-z, so capitals are not visible
            drawn = [lower_ascii(text) for text in texts], [[lower_ascii(several[0])] for several in references]
            as_drawn = metric.compute(predictions=drawn[0], references=drawn[1])
            scores |= {f"{name}_as_drawn": value for name, value in as_drawn.items()}
        if task == "name":
            scores["exact_match"] = float(np.mean([t in r for t, r in zip(texts, references, strict=True)]))
        return scores


@describe_data.register
def _(dataset: TaskExamples) -> dict[str, Any]:
    picked = np.unique(np.linspace(0, len(dataset) - 1, min(64, len(dataset)), dtype=int))
    rows = [dataset.source.read(int(dataset.order[i]), np.random.default_rng(0))[1:] for i in picked]
    return {"rows": len(dataset), **describe_data(rows)}


class GenerationTrainer(FineTuningTrainer, Seq2SeqTrainer):
    """`FineTuningTrainer` that generates texts in evaluation and mixes tasks in every batch.

    Each data set of an evaluation has the metric of its task. The texts are written to
    `output_dir/texts_NAME.jsonl`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(StopWorkers())

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return EndlessKeys(dataset.train_sampler(self._train_batch_size, data_seed(self.args), self.args.world_size))

    def get_train_dataloader(self):
        """Returns Trainer's loader, whose workers outlive the epochs."""
        return make_endless(super().get_train_dataloader())

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval", **options):
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        if isinstance(dataset, TaskExamples):
            file = Path(self.args.output_dir) / f"texts_{metric_key_prefix.removeprefix('eval_')}.jsonl"
            file = file if self.is_world_process_zero() else None
            self.compute_metrics = TextMetrics(dataset, self.processing_class, file)
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix, **options)


def finetune_generate(
    model_args: GenerationModelArguments,
    task_args: TaskArguments,
    training_args: Seq2SeqTrainingArguments,
    resume_args: ResumeArguments | None = None,
) -> GenerationTrainer:
    """Trains, evaluates and saves model and processor to `output_dir`; resumes from the newest whole checkpoint there.

    Args:
        model_args: Model arguments.
        task_args: Tasks.
        training_args: Seq2SeqTrainingArguments of transformers. Evaluation always generates.
        resume_args: Resumption of a stopped run.

    Raises:
        FileNotFoundError: `init_from` or a file of the data does not exist.
        ValueError: The tasks do not go together, or there are none.
        RunInProgressError: Another run holds `output_dir`.
        IncompleteCheckpointError, ChangedRunError: The run cannot be resumed, see `CheckpointMixin.find_checkpoint`.
    """
    if model_args.init_from:
        find_model(model_args.init_from)
    set_seed(training_args.seed)
    training_args.remove_unused_columns, training_args.predict_with_generate = False, True
    resume_anyway = (resume_args or ResumeArguments()).resume_anyway
    with run_lock(training_args):
        trainer = _build_trainer(model_args, task_args, training_args)
        result = trainer.train(resume_from_checkpoint=trainer.find_checkpoint(resume_anyway))
        trainer.save_model()
        trainer.processing_class.save_pretrained(Path(training_args.output_dir))
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        # Whatever fails from here on, the model is saved.
        metrics = trainer.evaluate() if trainer.eval_dataset else {}
        for name, examples in (trainer.eval_dataset or {}).items():
            if task_args.control and examples.spec.task in OF_IMAGES:
                metrics |= trainer.evaluate(examples.exchanged(), metric_key_prefix=f"eval_{name}_exchanged")
        trainer.save_metrics("eval", metrics)
        trainer.save_state()
    return trainer


def _build_trainer(
    model_args: GenerationModelArguments, task_args: TaskArguments, training_args: Seq2SeqTrainingArguments
) -> GenerationTrainer:
    specs = [TaskSpec.from_dict(spec) for spec in task_args.tasks or []]
    if not specs:
        raise ValueError("There are no tasks to train on; name at least one in `tasks`.")
    model, processor = build_writer(model_args)

    def fits(texts: Sequence[str]) -> list[bool]:
        return [measure.chars_cut == 0 for measure in processor.tokenizer.measure(list(texts))]

    train = PairMixture([TaskExamples(s) for s in specs], [s.weight for s in specs], [s.name for s in specs])
    validation = {s.name: TaskExamples(s, False, fits) for s in map(TaskSpec.from_dict, task_args.validation)}
    augment = None
    if task_args.flip or task_args.shift:
        augment = PhotoAugmentation(task_args.flip, layers=0, shift=task_args.shift)
    length = model.config.decoder_max_length
    trainer = GenerationTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation or None,
        data_collator=GenerationCollator(processor, length, augment),
        eval_collator=GenerationCollator(processor, length),
        processing_class=processor,
        layer_decay=model_args.layer_decay,
        tower_lr_scale=model_args.tower_lr_scale,
        settings=_settings(model_args, task_args),
    )
    logger.info(
        "%d examples to train on, %d to evaluate on, %d trainable parameters",
        len(train), sum(map(len, validation.values())), model.num_parameters(only_trainable=True),
    )  # fmt: skip
    return trainer


def _settings(model_args: GenerationModelArguments, task_args: TaskArguments) -> dict[str, Any]:
    """Returns the settings that change the weights, without paths of the data, which may be moved."""
    model = asdict(model_args)
    return {
        "model": model,
        "tasks": without_places(task_args.tasks or []),
        "flip": task_args.flip,
        "shift": task_args.shift,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name. Default: those of the process.
    """
    kinds = (GenerationModelArguments, TaskArguments, Seq2SeqTrainingArguments, ResumeArguments)
    run_command(finetune_generate, kinds, argv, usage=__doc__)
