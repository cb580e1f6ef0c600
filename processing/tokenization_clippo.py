"""Tokenizer interface of transformers around the text renderer, for pipelines, Trainer and the example scripts."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches

from transformers import BatchEncoding, PreTrainedTokenizer
from transformers.processing_utils import TextKwargs
from transformers.utils import is_torch_tensor, logging

from .auto_map_clippo import warn_of_foreign_entries
from .canvas_clippo import (
    CANVAS_FORMATS,
    OVERFLOWS,
    CanvasFormat,
    Overflow,
    RenderedText,
    RenderOptions,
    one_of,
    report_overflow,
    stack_canvases,
)
from .fonts_clippo import FONT_ZIP, FontChain
from .layout_pairs_clippo import PAIR_LAYOUTS, render_pairs
from .rendering_clippo import TextRenderer
from .texts_clippo import TextBatch, read_texts

logger = logging.get_logger(__name__)

_DRAWING = tuple(field.name for field in fields(RenderOptions))
# The options that `tokenizer_config.json` records, each an attribute of the tokenizer.
_OPTIONS = (*_DRAWING, "canvas_format", "overflow", "pair_layout", "pair_separator")
# Keywords of every tokenizer, which the parent class takes.
_INHERITED = {
    *PreTrainedTokenizer.SPECIAL_TOKENS_ATTRIBUTES, "added_tokens_decoder", "additional_special_tokens", "backend",
    "chat_control_tokens", "chat_template", "clean_up_tokenization_spaces", "extra_special_tokens", "files_loaded",
    "init_inputs", "max_len", "model_input_names", "model_max_length", "model_specific_special_tokens", "name_or_path",
    "padding_side", "processor_class", "response_schema", "response_template", "special_tokens_pattern",
    "split_special_tokens", "token_type_ids_include_special_tokens", "token_type_ids_pattern", "truncation_side",
    "trust_remote_code", "use_fast", "verbose",
}  # fmt: skip
# Keywords of calls that every tokenizer takes. They have no meaning for a canvas.
_IGNORED_IN_CALLS = {
    *inspect.signature(PreTrainedTokenizer.__call__).parameters, *TextKwargs.__annotations__, "tokenizer_kwargs",
}  # fmt: skip
_SYNONYMS = {"image_size": "canvas_size", "size": "canvas_size", "font": "font_file", "antialias": "antialias_font"}


@dataclass(frozen=True)
class TextMeasure:
    """The room that one text takes on the canvas.

    Args:
        rows_used: Text rows with at least one character.
        chars_total: Code points of the text.
        chars_cut: Code points that do not fit.
        cut_of_pair: For a pair laid out as two texts ("rows", "two_canvas"), the code points of the first and the
            second text that do not fit.
    """

    rows_used: int
    chars_total: int
    chars_cut: int
    cut_of_pair: tuple[int, int] | None = None


class ClippoTokenizer(PreTrainedTokenizer):
    """Renders text to pixels behind the tokenizer interface of transformers.

    The model reads the canvases as images, so there are no token ids. The font is the vocabulary: it is saved beside
    the weights as `font.zip`. The canvas is the only limit, so `padding`, `truncation` and `max_length` are accepted
    and ignored. With the official font the canvases equal those of the official renderer (big_vision,
    `pp/proj/clippo/unifont_text.py`) bit for bit.

    Args:
        font_file: Font file, saved `font.zip`, name of a known font, or a list of these. The first font that has a
            character draws it. None is the packaged Unifont.
        canvas_size: Side of the square canvas in pixels, or [height, width]. It must suit the model.
        max_chars: Code points drawn at most. None draws as many as the canvas takes.
        lowercase, monospace, spacing, min_width, background, ink, antialias_font, advances, shaping: Drawing options;
            `RenderOptions` describes them.
        canvas_format: Format of the output, "uint8", "float" or "packed".
        overflow: Reaction to a text that does not fit and is cut: "warn" (once a process and canvas), "raise" or
            "ignore".
        pair_layout: Place of `text` and `text_pair`. "concatenate" draws one string with `pair_separator` between.
            "rows" draws one below the other with a short rule between; the texts share the rows if they do not both
            fit. "two_canvas" gives each a canvas of its own, for a model with `num_text_canvases=2`. The official code
            has no pairs.
        pair_separator: String that "concatenate" draws between the texts.
        font_sha256: Expected hash of every font file in order. It is saved in `tokenizer_config.json`, so that a
            checkpoint never runs with another font. None accepts any font.
        pad_token: Name of the only token. Pipelines refuse to batch without one.
        **kwargs: Options of every tokenizer, for instance `model_max_length`.

    Returns:
        `text_pixel_values` of B texts, in the chosen format:
        "uint8": uint8 (B, 1, H, W), levels 0..255, which the model scales itself.
        "float": float32 (B, 1, H, W) in [-1, 1].
        "packed": int64 (B, H/16, W/4), one bit a pixel, which the model unpacks on its device.
        Pairs under "two_canvas" have twice the height, with the canvas of the second text below that of the first.

    Raises:
        ValueError: An option is out of range, a font is missing or damaged, or the font is not the expected one.
        ImportError: `shaping=True` without the extra `clippo[shaping]`.

    Example:
        >>> from clippo import ClippoTokenizer
        >>> tokenizer = ClippoTokenizer(canvas_size=64)
        >>> tokenizer(["hello", "שלום"], return_tensors="pt")["text_pixel_values"].shape
        torch.Size([2, 1, 64, 64])
        >>> tokenizer.measure("hello")
        [TextMeasure(rows_used=1, chars_total=5, chars_cut=0, cut_of_pair=None)]
    """

    vocab_files_names = {"font_file": FONT_ZIP}
    model_input_names = ["text_pixel_values"]

    def __init__(
        self,
        font_file: str | os.PathLike | list | None = None,
        canvas_size: int | list[int] = 224,
        max_chars: int | None = 768,
        lowercase: bool = True,
        monospace: bool = False,
        spacing: int = 1,
        min_width: int = 4,
        background: int = 127,
        ink: int = 0,
        antialias_font: bool = False,
        advances: str = "ink",
        shaping: bool = False,
        canvas_format: str = "uint8",
        overflow: str = "warn",
        pair_layout: str = "concatenate",
        pair_separator: str = " | ",
        font_sha256: list[str] | None = None,
        pad_token: str = "[PAD]",
        **kwargs,
    ):
        # The signature is the only list of the options: attributes, saved options and renderer are made from it.
        options = {name: value for name, value in locals().items() if name in _OPTIONS}
        self._fonts = _load_fonts(font_file, font_sha256)
        one_of("canvas_format", canvas_format, CANVAS_FORMATS)
        one_of("overflow", overflow, OVERFLOWS)
        one_of("pair_layout", pair_layout, PAIR_LAYOUTS)
        RenderOptions(**{name: options[name] for name in _DRAWING})  # checks them
        options["canvas_size"] = canvas_size if isinstance(canvas_size, int) else list(canvas_size)
        vars(self).update(options)
        self.font_sha256 = list(self._fonts.sha256)

        # A finite number keeps scripts from printing 10**30. Nothing is cut by it.
        kwargs.setdefault("model_max_length", max_chars)
        for name in (
            "is_local",
            "local_files_only",
            "dtype",
        ):  # facts about the last load, not options of the tokenizer
            kwargs.pop(name, None)
        warn_of_foreign_entries(kwargs.pop("auto_map", None), type(self).__name__)
        _drop_unknown(kwargs)
        # The parent records its arguments in tokenizer_config.json. The path of the font is not among them: the saved
        # font is found by its name, and its content is checked by the hash.
        super().__init__(**options, font_sha256=self.font_sha256, pad_token=pad_token, **kwargs)
        # Combinations that cannot be drawn are reported here and not at the first text.
        self._draw(TextBatch([""], None if pair_layout == "concatenate" else [""], True), canvas_format)

    # ---------------------------------------------------------------------------------------------------- rendering

    def __call__(
        self,
        text=None,
        text_pair=None,
        text_target=None,
        text_pair_target=None,
        is_split_into_words: bool = False,
        return_tensors: str | None = None,
        canvas_format: CanvasFormat | None = None,
        overflow: Overflow | None = None,
        **kwargs,
    ) -> BatchEncoding:
        """Renders one text or a batch.

        Args:
            text: A string, or a sequence of strings or of pairs. With `is_split_into_words` a text is a list of words,
                which is drawn with spaces between.
            text_pair: None, or as many texts as `text`. They are placed as `pair_layout` says.
            text_target: Not supported; must be None.
            text_pair_target: Not supported; must be None.
            is_split_into_words: Whether a text is a list of words.
            return_tensors: "pt" or "np" gives one array with a batch axis, also for one text. None gives a list of
                arrays for a batch (rows of a data set), and a single array for one text.
            canvas_format: Format of this call, instead of the tokenizer's own.
            overflow: Reaction to cut texts in this call, instead of the tokenizer's own.
            **kwargs: Other arguments of tokenizers (`padding`, `truncation`, `max_length`, ...). They have no meaning
                for a canvas and are ignored.

        Returns:
            `BatchEncoding` with `text_pixel_values`; see the class.

        Raises:
            TypeError: An item is not a string, or a keyword is unknown.
            ValueError: No text is given, the numbers of texts and pairs differ, a text does not fit under
                `overflow="raise"`, or the call asks for a part that a canvas does not have.
        """
        if text_target is not None or text_pair_target is not None:
            raise ValueError("text_target and text_pair_target are not supported: the model does not generate text.")
        for name in ("return_offsets_mapping", "return_overflowing_tokens"):
            if kwargs.get(name):
                raise ValueError(
                    f"{name}=True has no meaning for rendered text; use render(texts, boxes=True) for the pixel box of "
                    "every character and measure(texts) for the characters that do not fit."
                )
        unknown = sorted(set(kwargs) - _IGNORED_IN_CALLS)
        if unknown:
            raise TypeError(_describe_unknown(unknown))
        batch = read_texts(text, text_pair, is_split_into_words)
        rendered = self._draw(batch, self._format(canvas_format))
        overflow = self.overflow if overflow is None else one_of("overflow", overflow, OVERFLOWS)
        report_overflow(rendered, overflow, self.max_chars, f"canvas_size={self.canvas_size}")

        canvases = rendered.canvases
        if return_tensors is None:
            values = canvases[0] if batch.is_single else list(canvases)
        elif return_tensors in ("pt", "pytorch"):
            import torch

            values = torch.from_numpy(canvases)
        else:
            values = canvases
        return BatchEncoding({"text_pixel_values": values}, tensor_type=return_tensors)

    def render(
        self,
        text,
        text_pair=None,
        boxes: bool = False,
        is_split_into_words: bool = False,
        canvas_format: CanvasFormat | None = None,
    ) -> RenderedText:
        """Renders one text or a batch and reports the characters drawn, with `boxes` also their place.

        One text counts as a batch of one. A text that does not fit causes neither a warning nor an error.
        """
        return self._draw(read_texts(text, text_pair, is_split_into_words), self._format(canvas_format), boxes)

    def measure(self, text, text_pair=None, is_split_into_words: bool = False) -> list[TextMeasure]:
        """Measures the text rows used and the characters cut of every text. One text counts as a batch of one."""
        rendered = self.render(text, text_pair, is_split_into_words=is_split_into_words)
        cut = rendered.chars_cut.tolist()
        parts = [None] * len(cut) if rendered.parts_cut is None else map(tuple, rendered.parts_cut.tolist())
        report = zip(rendered.rows_used.tolist(), rendered.chars_total.tolist(), cut, parts, strict=True)
        return [TextMeasure(*values) for values in report]

    @property
    def render_options(self) -> RenderOptions:
        """The drawing options, as the attributes now say."""
        return RenderOptions(**{name: getattr(self, name) for name in _DRAWING})

    @property
    def renderer(self) -> TextRenderer:
        """The renderer of single texts."""
        # Created for every call, so that a changed attribute counts. It is cheap, since the fonts are shared.
        return TextRenderer(self._fonts, self.render_options)

    def _draw(self, batch: TextBatch, format: str, boxes: bool = False) -> RenderedText:
        firsts, seconds = batch.firsts, batch.seconds
        if seconds is None:
            return self.renderer(firsts, format=format, boxes=boxes)
        if self.pair_layout == "concatenate":
            join = self.pair_separator.join
            texts = [a if b is None else join((a, b)) for a, b in zip(firsts, seconds, strict=True)]
            return self.renderer(texts, format=format, boxes=boxes)
        if None in seconds:
            raise ValueError(
                f"Text {seconds.index(None)} is not a pair, but others are; with pair_layout={self.pair_layout!r} a "
                "batch holds either single texts or pairs."
            )
        return render_pairs(self.renderer, firsts, seconds, self.pair_layout, format, boxes)

    def _format(self, canvas_format: str | None) -> str:
        return self.canvas_format if canvas_format is None else one_of("canvas_format", canvas_format, CANVAS_FORMATS)

    # ---------------------------------------------------------------------------------------------------- collation

    def pad(
        self,
        encoded_inputs,
        padding=True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Stacks examples into a batch, for `DataCollatorWithPadding`. All canvases have one size, so none is padded.

        Args:
            encoded_inputs: List of examples, or one mapping of lists, as the tokenizer returns for several texts.
                Canvases may be arrays, tensors or the nested lists that a data set returns. Other keys (labels) are
                stacked as they are.
            return_tensors: "pt", "np" or None.

        Returns:
            `BatchEncoding` with `text_pixel_values` of the dtype its values had when rendered, and the other keys.

        Raises:
            ValueError: There are no examples, or an example lacks a key.
        """
        if not isinstance(encoded_inputs, Mapping):
            examples = list(encoded_inputs)
            keys = set().union(*examples)
            if any(set(example) != keys for example in examples):
                raise ValueError(f"The examples of a batch need the same keys, but some lack one of {sorted(keys)}.")
            encoded_inputs = {key: [example[key] for example in examples] for key in (examples[0] if examples else ())}
        if "text_pixel_values" not in encoded_inputs:
            raise ValueError(
                f"pad needs the key text_pixel_values but found {sorted(encoded_inputs)}; pass the tokenizer's output."
            )
        data = dict(encoded_inputs)
        data["text_pixel_values"] = stack_canvases(data["text_pixel_values"], self.render_options.width)
        if return_tensors in ("pt", "pytorch"):
            import torch

            data["text_pixel_values"] = torch.from_numpy(data["text_pixel_values"])
            for key, value in data.items():
                if isinstance(value, list) and value and is_torch_tensor(value[0]):
                    data[key] = torch.stack(value)
        return BatchEncoding(data, tensor_type=return_tensors)

    # ---------------------------------------------------------------------------------------------------- vocabulary

    @property
    def vocab_size(self) -> int:
        return 1

    def get_vocab(self) -> dict[str, int]:
        # Only the padding token, since pipelines refuse to batch without one.
        return {"[PAD]": 0}

    def _tokenize(self, text: str, **kwargs) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.get_vocab().get(token)

    def _convert_id_to_token(self, index: int) -> str | None:
        return {index: token for token, index in self.get_vocab().items()}.get(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def _encode_plus(self, *args, **kwargs):
        raise ValueError("Rendered text has no token ids; call the tokenizer itself to get text_pixel_values.")

    def _decode(self, *args, **kwargs):
        raise ValueError("Rendered text cannot be decoded: the model does not generate text.")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes the fonts as `font.zip` and returns its path."""
        if not os.path.isdir(save_directory):
            raise ValueError(f"{save_directory} is not a folder; create it first.")
        path = os.path.join(save_directory, (filename_prefix + "-" if filename_prefix else "") + FONT_ZIP)
        self._fonts.save(path)
        return (path,)


def _drop_unknown(kwargs: dict) -> None:
    """Raises TypeError for keywords that no tokenizer has; of a loaded folder they are dropped with a warning."""
    unknown = sorted(
        name for name in set(kwargs) - _INHERITED if not name.startswith("_") and not name.endswith(("_token", "_file"))
    )
    if not unknown:
        return
    message = _describe_unknown(unknown)
    if "name_or_path" not in kwargs:
        raise TypeError(message)
    logger.warning(message + " It is ignored.")
    for name in unknown:
        del kwargs[name]


def _describe_unknown(names: Sequence[str]) -> str:
    near = [match for name in names for match in get_close_matches(_SYNONYMS.get(name, name), _OPTIONS, 1)]
    return f"ClippoTokenizer has no option {', '.join(map(repr, names))}" + (
        f"; did you mean {', '.join(near)}?" if near else f"; its options are {', '.join(_OPTIONS)}."
    )


def _load_fonts(source, expected: Sequence[str] | None) -> FontChain:
    try:
        return FontChain.from_source(source, expected)
    except OSError as error:
        # from_pretrained replaces the text of an OSError by one that names neither font nor remedy.
        raise ValueError(str(error)) from error
