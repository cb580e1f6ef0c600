"""The renderer in a tokenizer's face, so that stock pipelines, Trainer and example scripts can use it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizer
from transformers.utils import is_torch_tensor, logging

from .fonts_clippo import FontChain
from .layout_pairs_clippo import PAIR_LAYOUTS, RenderedPairs, render_pairs
from .rendering_clippo import RenderedText, TextRenderer

logger = logging.get_logger(__name__)

FONT_FILE_NAME = "font.zip"
CANVAS_FORMATS = ("uint8", "float", "packed")
OVERFLOWS = ("warn", "raise", "ignore")

# Canvases about which a warning was given. Not in the tokenizer: its attributes are what datasets fingerprints.
_WARNED: set = set()


@dataclass(frozen=True)
class TextMeasure:
    """What rendering one text takes: text rows used, characters in all, and characters that do not fit.

    `cut_of_pair` says how many of the last are the first text's and how many the second's, for a pair that is laid out
    as two texts ("rows" and "two_canvas").
    """

    rows_used: int
    chars_total: int
    chars_cut: int
    cut_of_pair: tuple[int, int] | None = None


class ClippoTokenizer(PreTrainedTokenizer):
    r"""
    Draws strings on canvases that the model reads as pictures. There are no tokens: the font is the vocabulary, it is
    saved beside the weights as `font.zip`, and the canvas is the only limit, so `padding`, `truncation` and
    `max_length` are accepted and ignored.

    Drawing follows the official renderer (big_vision, `pp/proj/clippo/unifont_text.py`) bit for bit, given its font.

    Args:
        font_file (`str`, `os.PathLike` or `list` of them, *optional*): Font file, saved `font.zip`, name of a known
            font, or a list of these, of which the first that has a character draws it. Default: the packaged Unifont.
        canvas_size (`int` or `[height, width]`, *optional*, defaults to 224): In pixels; must suit the model.
        max_chars (`int`, *optional*, defaults to 768): Code points drawn at most. None: as many as the canvas takes.
        lowercase (`bool`, *optional*, defaults to `True`): Draw A-Z as a-z; no other capitals, as officially.
        monospace (`bool`, *optional*, defaults to `False`): Every character 16 pixels wide.
        spacing, min_width (`int`, *optional*, default to 1 and 4): Blank columns left of a character, its least width.
        background, ink (`int`, *optional*, default to 127 and 0): Grey levels.
        antialias_font (`bool`, *optional*, defaults to `False`): Grey edges, for outline fonts. (`antialias` is an
            option of the image processor, and a processor would hand it from one to the other.)
        advances (`"ink"` or `"font"`, *optional*, defaults to `"ink"`): Space characters by their ink, as the official
            renderer does, or as the font says.
        shaping (`bool`, *optional*, defaults to `False`): Right-to-left order, joined forms and combining marks, for
            models trained with it; needs the extra `shaping`.
        canvas_format (`"uint8"`, `"float"` or `"packed"`, *optional*, defaults to `"uint8"`): Form of the output.
        overflow (`"warn"`, `"raise"` or `"ignore"`, *optional*, defaults to `"warn"`): What to do when a text does not
            fit and is cut. `"warn"` speaks once per process and canvas.
        pair_layout (`"concatenate"`, `"rows"` or `"two_canvas"`, *optional*, defaults to `"concatenate"`): How `text`
            and `text_pair` are drawn. `"concatenate"`: as one string with `pair_separator` between. `"rows"`: one below
            the other, a short rule between, rows shared out fairly when they do not both fit. `"two_canvas"`: each on a
            canvas of its own, for a model with `num_text_canvases=2`. The official code has no pairs; all this is ours.
        pair_separator (`str`, *optional*, defaults to `" | "`): What `"concatenate"` draws between.
        font_sha256 (`list[str]`, *optional*): Expected hash of every font file in order. Saved in
            `tokenizer_config.json`, so that a checkpoint never runs with another font; None accepts any font.

    The output has one key, `text_pixel_values`, for a batch of B texts:
        "uint8": uint8 (B, 1, H, W), levels 0..255, which the model scales itself;
        "float": float32 (B, 1, H, W) in [-1, 1];
        "packed": int64 (B, H/16, W/4), one bit a pixel, which the model unpacks on its device.
    A pair under `pair_layout="two_canvas"` takes twice the height, the second text's canvas below the first's.

    Raises:
        `ValueError`: an option out of its range, a missing or damaged font, or a font that is not the expected one.
        `ImportError`: `shaping=True` without the extra.
    """

    vocab_files_names = {"font_file": FONT_FILE_NAME}
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
        self._fonts = _load_fonts(font_file, font_sha256)
        self.canvas_size = _as_canvas_size(canvas_size)
        self.max_chars = max_chars
        self.lowercase = lowercase
        self.monospace = monospace
        self.spacing = spacing
        self.min_width = min_width
        self.background = background
        self.ink = ink
        self.antialias_font = antialias_font
        self.advances = advances
        self.shaping = shaping
        self.canvas_format = _one_of("canvas_format", canvas_format, CANVAS_FORMATS)
        self.overflow = _one_of("overflow", overflow, OVERFLOWS)
        self.pair_layout = _one_of("pair_layout", pair_layout, PAIR_LAYOUTS)
        self.pair_separator = pair_separator
        self.font_sha256 = list(self._fonts.sha256)

        # A finite number keeps scripts from printing 10**30; nothing is cut by it.
        kwargs.setdefault("model_max_length", max_chars)
        for name in ("is_local", "local_files_only"):  # how the last load went, not part of the tokenizer
            kwargs.pop(name, None)
        # What goes to the parent is what tokenizer_config.json records. The font's path stays out of it: the saved font
        # is found by its name, its content by its hash.
        super().__init__(
            canvas_size=self.canvas_size,
            max_chars=max_chars,
            lowercase=lowercase,
            monospace=monospace,
            spacing=spacing,
            min_width=min_width,
            background=background,
            ink=ink,
            antialias_font=antialias_font,
            advances=advances,
            shaping=shaping,
            canvas_format=canvas_format,
            overflow=overflow,
            pair_layout=pair_layout,
            pair_separator=pair_separator,
            font_sha256=self.font_sha256,
            pad_token=pad_token,
            **kwargs,
        )
        # Wrong options and combinations are reported here and not at the first text.
        self._draw([""], [""] if pair_layout != "concatenate" else None, canvas_format)

    # ---------------------------------------------------------------------------------------------------- rendering

    def __call__(
        self,
        text=None,
        text_pair=None,
        text_target=None,
        text_pair_target=None,
        is_split_into_words: bool = False,
        return_tensors: str | None = None,
        canvas_format: Literal["uint8", "float", "packed"] | None = None,
        overflow: Literal["warn", "raise", "ignore"] | None = None,
        **kwargs,
    ) -> BatchEncoding:
        """
        Renders one text or a batch.

        Args:
            text (`str`, or a sequence of `str` or of pairs): With `is_split_into_words` a text is a list of words,
                drawn with spaces between.
            text_pair (as `text`, *optional*): Drawn after `text`, as `pair_layout` says.
            return_tensors (`"pt"`, `"np"`, *optional*): Gives one array with a batch axis, also for one text. Without
                it a batch gives a list of arrays (rows of a data set), and one text a single array.
            canvas_format, overflow: For this call, instead of the tokenizer's own.
            kwargs: What tokenizers take beside (`padding`, `truncation`, `max_length`, `add_special_tokens`, ...) has
                no meaning for a picture and is ignored.

        Returns:
            `BatchEncoding` with `text_pixel_values`, see the class.

        Raises:
            `TypeError`: something is not a string. `ValueError`: no text, pairs of unequal number, a text that does not
            fit under `overflow="raise"`, or a request for what a picture does not have.
        """
        if text_target is not None or text_pair_target is not None:
            raise ValueError("text_target and text_pair_target have no use here: the model reads text and writes none.")
        for name in ("return_offsets_mapping", "return_overflowing_tokens"):
            if kwargs.get(name):
                raise ValueError(
                    f"{name}=True has no meaning for rendered text; use render(texts, boxes=True) for the pixel box of "
                    "every character and measure(texts) for what does not fit."
                )
        texts, seconds, single = self._as_batch(text, text_pair, is_split_into_words)
        rendered = self._draw(texts, seconds, self._format(canvas_format))
        self._check_overflow(rendered, self.overflow if overflow is None else _one_of("overflow", overflow, OVERFLOWS))

        canvases = rendered.canvases
        if return_tensors is None:
            values = canvases[0] if single else list(canvases)
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
        canvas_format: Literal["uint8", "float", "packed"] | None = None,
    ) -> RenderedText:
        """Canvases of one text or a batch with the report of what was drawn, and with `boxes` where every character is.

        One text counts as a batch of one. Nothing is warned about or raised for a text that does not fit.
        """
        texts, seconds, _ = self._as_batch(text, text_pair, is_split_into_words)
        return self._draw(texts, seconds, self._format(canvas_format), boxes)

    def measure(self, text, text_pair=None, is_split_into_words: bool = False) -> list[TextMeasure]:
        """Text rows used and characters cut, per text; one text counts as a batch of one."""
        rendered = self.render(text, text_pair, is_split_into_words=is_split_into_words)
        cut = rendered.chars_total - rendered.chars_drawn
        parts = [None] * len(cut)
        if isinstance(rendered, RenderedPairs):
            parts = [tuple(pair) for pair in (rendered.parts_total - rendered.parts_drawn).tolist()]
        report = zip(rendered.rows_used.tolist(), rendered.chars_total.tolist(), cut.tolist(), parts, strict=True)
        return [TextMeasure(*values) for values in report]

    def _draw(self, texts: list[str], seconds: list[str] | None, format: str, boxes: bool = False) -> RenderedText:
        if seconds is None:
            return self._renderer()(texts, format=format, boxes=boxes)
        return render_pairs(self._renderer(), texts, seconds, self.pair_layout, format, boxes)

    def _renderer(self) -> TextRenderer:
        # Made anew for every call, so that a changed attribute counts; it costs nothing, since the fonts are shared.
        return TextRenderer(
            self._fonts,
            canvas_size=self.canvas_size,
            max_chars=self.max_chars,
            lowercase=self.lowercase,
            monospace=self.monospace,
            spacing=self.spacing,
            min_width=self.min_width,
            background=self.background,
            ink=self.ink,
            antialias=self.antialias_font,
            advances=self.advances,
            shaping=self.shaping,
        )

    def _format(self, canvas_format: str | None) -> str:
        return self.canvas_format if canvas_format is None else _one_of("canvas_format", canvas_format, CANVAS_FORMATS)

    def _as_batch(self, text, text_pair, is_split_into_words: bool) -> tuple[list[str], list[str] | None, bool]:
        """The strings to draw, the second ones of pairs unless joined to them, and whether a single text was given."""
        if text is None:
            raise ValueError("There is no text to render; pass a string or a list of strings.")
        single = _is_single(text, is_split_into_words)
        texts = [text] if single else _to_list(text)
        if text_pair is None:
            return *self._split_pairs(texts, is_split_into_words), single
        pair_single = _is_single(text_pair, is_split_into_words)
        pairs = [text_pair] if pair_single else _to_list(text_pair)
        if pair_single != single or len(pairs) != len(texts):
            raise ValueError(
                f"text has {len(texts)} and text_pair {len(pairs)} texts; give two strings, or two lists of one length."
            )
        texts = [_as_text(i, item, is_split_into_words) for i, item in enumerate(texts)]
        pairs = [_as_text(i, item, is_split_into_words) for i, item in enumerate(pairs)]
        return *self._lay_out(texts, pairs), single

    def _split_pairs(self, items: list, is_split_into_words: bool) -> tuple[list[str], list[str] | None]:
        """Items that are strings, or all or some of them [text, text_pair]."""
        is_pair = [not is_split_into_words and isinstance(item, list | tuple) and len(item) == 2 for item in items]
        if not any(is_pair):
            return [_as_text(i, item, is_split_into_words) for i, item in enumerate(items)], None
        if self.pair_layout != "concatenate" and not all(is_pair):
            raise ValueError(
                f"Text {is_pair.index(False)} is no pair, but others are; with pair_layout={self.pair_layout!r} a "
                "batch holds either single texts or pairs."
            )
        firsts, seconds = [], []
        for i, item in enumerate(items):
            first, second = item if is_pair[i] else (item, None)
            firsts.append(_as_text(i, first, False))
            seconds.append(None if second is None and not is_pair[i] else _as_text(i, second, False))
        return self._lay_out(firsts, seconds)

    def _lay_out(self, firsts: list[str], seconds: list) -> tuple[list[str], list[str] | None]:
        if self.pair_layout != "concatenate":
            return firsts, seconds
        join = self.pair_separator.join
        return [a if b is None else join((a, b)) for a, b in zip(firsts, seconds, strict=True)], None

    def _check_overflow(self, rendered: RenderedText, overflow: str) -> None:
        cut = rendered.chars_total - rendered.chars_drawn  # (B,)
        if overflow == "ignore" or not cut.any():
            return
        key = (str(self.canvas_size), self.max_chars)
        if overflow == "warn" and key in _WARNED:
            return
        worst = int(cut.argmax())
        what, of_parts, drawn = "text", "", rendered.chars_drawn[worst]
        if isinstance(rendered, RenderedPairs):
            drawn = rendered.parts_drawn[worst]
            first, second = (rendered.parts_total - rendered.parts_drawn)[worst].tolist()
            what, of_parts = "pair", f" ({first} of the first text, {second} of the second)"
        by_length = (drawn == self.max_chars).any()
        limit = f"max_chars={self.max_chars}" if by_length else f"canvas_size={self.canvas_size}"
        message = (
            f"{int((cut > 0).sum())} of {len(cut)} {what}s do not fit: {limit} cuts {int(cut[worst])} of the "
            f"{int(rendered.chars_total[worst])} characters of {what} {worst}{of_parts}. Shorten or split the text, or "
            "use a model with a larger canvas"
        )
        if overflow == "raise":
            raise ValueError(message + '; overflow="ignore" cuts in silence.')
        _WARNED.add(key)
        logger.warning(message + '. This is said once; overflow="raise" stops instead, "ignore" is silent.')

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
        """
        Stacks examples into a batch, for `DataCollatorWithPadding`; canvases are of one size, so nothing is padded.

        Args:
            encoded_inputs: List of examples, or one mapping of lists, as the tokenizer returns for several texts.
                Canvases may be arrays, tensors or the nested lists that a data set returns; other keys (labels) are
                stacked as they are.

        Returns:
            `BatchEncoding` with `text_pixel_values` of the dtype its values had when rendered, and the other keys.
        """
        if not isinstance(encoded_inputs, Mapping):
            examples = list(encoded_inputs)
            keys = set().union(*examples)
            if any(set(example) != keys for example in examples):
                raise ValueError(f"The examples of a batch need the same keys, but some lack one of {sorted(keys)}.")
            encoded_inputs = {key: [example[key] for example in examples] for key in (examples[0] if examples else ())}
        if "text_pixel_values" not in encoded_inputs:
            raise ValueError(
                f"pad needs the key text_pixel_values but found {sorted(encoded_inputs)}; pass what the tokenizer gave."
            )
        data = dict(encoded_inputs)
        data["text_pixel_values"] = _stack_canvases(data["text_pixel_values"])
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
        raise ValueError("Rendered text cannot be decoded: the model reads text and writes none.")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes the fonts as `font.zip` and returns its path."""
        if not os.path.isdir(save_directory):
            raise ValueError(f"{save_directory} is not a folder; create it first.")
        path = os.path.join(save_directory, (filename_prefix + "-" if filename_prefix else "") + FONT_FILE_NAME)
        self._fonts.save(path)
        return (path,)


def _load_fonts(source, expected: Sequence[str] | None) -> FontChain:
    try:
        fonts = FontChain.from_source(source)
    except OSError as error:
        # from_pretrained replaces the text of an OSError by one that names neither font nor remedy.
        raise ValueError(str(error)) from error
    if expected is not None:
        fonts.check_sha256(expected)
    return fonts


def _as_canvas_size(value) -> int | list[int]:
    if isinstance(value, int):
        return value
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(side, int) for side in value):
        raise ValueError(f"canvas_size={value!r} is not usable; give a number of pixels or [height, width].")
    return list(value)


def _one_of(name: str, value, choices: tuple[str, ...]):
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(map(repr, choices))}.")
    return value


def _is_sequence(value) -> bool:
    # Columns of data sets and of data frames are sequences by behaviour only.
    return not isinstance(value, str | bytes | Mapping) and hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _is_single(text, is_split_into_words: bool) -> bool:
    if not is_split_into_words:
        return not _is_sequence(text)
    return not (_is_sequence(text) and len(text) > 0 and _is_sequence(_to_list(text)[0]))


def _to_list(values) -> list:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _as_text(index: int, item, is_split_into_words: bool) -> str:
    if is_split_into_words and _is_sequence(item):
        return " ".join(_as_text(index, word, False) for word in _to_list(item))
    if not isinstance(item, str):
        raise TypeError(
            f"Text {index} is of type {type(item).__name__} ({str(item)[:60]!r}); give a string"
            + (", or pass is_split_into_words=True for a list of words." if isinstance(item, list | tuple) else ".")
        )
    return item


def _stack_canvases(values) -> np.ndarray:
    """Arrays, tensors or nested lists of canvases -> one array of the dtype they were rendered in."""
    if not len(values):
        raise ValueError("pad got a batch without examples; give at least one.")
    batch = np.stack([np.asarray(value) for value in values])
    # Data sets hand rows back as lists of Python numbers, which know no dtype but keep the shape.
    if batch.ndim == 3:
        return batch.astype(np.int64, copy=False)  # packed (B, H/16, W/4)
    if batch.ndim == 4:
        return batch.astype(np.float32 if np.issubdtype(batch.dtype, np.floating) else np.uint8, copy=False)
    raise ValueError(
        f"text_pixel_values of shape {batch.shape[1:]} are no canvas; give (1, H, W), or packed (H/16, W/4), each."
    )
