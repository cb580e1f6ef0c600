"""Model and processor of a fine-tuning on questions: new ones, or those of a trained folder with other answers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clippo.modeling_clippo import ClippoConfig, ClippoForVisualQuestionAnswering
from clippo.processing import ClippoProcessor
from clippo.processing.layout_question_clippo import QuestionLayout
from clippo.surgery import grow, has_head, inflate_patch_embedding, reset_head, resize_canvas
from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.training.arguments import ModelArguments, from_json

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
    num_fusion_layers: int | None = field(
        default=None,
        metadata={
            "help": "Joint blocks that read question and image on a canvas each; 0 for one canvas. New ones start as "
            "the last blocks of init_from. Default: as in the config."
        },
    )
    classifier_dropout: float | None = field(
        default=None, metadata={"help": "Dropout before the answer layer. Default: as in the config, 0 in a new one."}
    )

    def __post_init__(self):
        super().__post_init__()
        self.layout = from_json("layout", self.layout, dict) or {}


def build_vqa_model(
    args: VqaModelArguments, vocabulary: AnswerVocabulary, grid_shape: Sequence[int] | None = None
) -> tuple[ClippoForVisualQuestionAnswering, ClippoProcessor]:
    """Builds model and processor with the answers in the config and the layout in the processor.

    The answer layer of `init_from` is kept if it has the same answers, else replaced by a new one. `layout` changes
    single fields of the saved layout.

    Args:
        args: Model arguments.
        vocabulary: Answers to choose from.
        grid_shape: Rows, columns and channels of given grids of another tower. None: the model reads images.

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
    model = _with_fusion(model, args.num_fusion_layers, grid_shape)
    layout = QuestionLayout.from_options(getattr(processor, "question_layout", None))
    if model.fusion is not None:
        layout = QuestionLayout.from_options("two_canvas", layout)
    layout = QuestionLayout.from_options(args.layout or None, layout)
    if (layout.place == "two_canvas") != (model.fusion is not None):
        raise ValueError(
            f"place={layout.place!r} does not go with num_fusion_layers={model.config.num_fusion_layers}; fusion and "
            "the layout 'two_canvas' need each other."
        )
    processor = ClippoProcessor(processor.image_processor, processor.tokenizer, layout)
    return model, processor


def _with_fusion(
    model: ClippoForVisualQuestionAnswering, num_layers: int | None, grid_shape: Sequence[int] | None
) -> ClippoForVisualQuestionAnswering:
    """The model, or one grown out of it if it needs other joint blocks or reads other grids."""
    wanted = {
        "num_fusion_layers": model.config.num_fusion_layers if num_layers is None else num_layers,
        "image_grid_shape": None if grid_shape is None else list(grid_shape),
    }
    shape = model.config.image_grid_shape
    has = {
        "num_fusion_layers": model.config.num_fusion_layers,
        "image_grid_shape": None if shape is None else list(shape),
    }
    return model if wanted == has else grow(model, **wanted)


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
