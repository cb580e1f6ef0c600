"""A question and the picture it asks about, on one canvas.

*Image-and-Language Understanding from Pixels Only* (section on visual question answering) draws the question at the top
of the picture and says no more; the official code has none of it. Everything below that sentence is ours.
"""

import copy
from dataclasses import asdict, dataclass, fields

import numpy as np
from transformers.utils import logging

from .font_files_clippo import MAX_GLYPH_WIDTH, ROW_HEIGHT

logger = logging.get_logger(__name__)

PLACES = ("top", "bottom", "side", "overlay")
PICTURES = ("squash", "fit")
# Headers about which a warning was given; once per process and header is enough.
_WARNED: set = set()


@dataclass(frozen=True)
class QuestionLayout:
    """Where the question stands and how the picture is brought into the rest of the canvas.

    Args:
        place: "top" and "bottom" give the question as many whole text rows as it needs, over the full width, and the
            picture the rest of the height. "side" gives it a column at the left. "overlay" leaves the whole canvas to
            the picture and covers just what the text stands on.
        picture: "squash" fills the rest whatever the picture's proportions, as the official image preprocessing does;
            "fit" keeps the proportions and centres the picture on the background of rendered text.
        min_rows: Text rows that "top" and "bottom" keep free for every question. With `min_rows == max_rows` all
            pictures are of one size.
        max_rows: Text rows a question may take; what does not fit is treated by the tokenizer's `overflow`. None: half
            of the canvas, or all of its height in a column.
        column: Width in pixels of the column of "side". None: half of the canvas, in whole 16-pixel steps.

    Raises:
        ValueError: A value that is not possible.
    """

    place: str = "top"
    picture: str = "squash"
    min_rows: int = 0
    max_rows: int | None = None
    column: int | None = None

    def __post_init__(self):
        if self.place not in PLACES:
            raise ValueError(f"place={self.place!r} is not known; choose one of {', '.join(map(repr, PLACES))}.")
        if self.picture not in PICTURES:
            raise ValueError(f"picture={self.picture!r} is not known; choose one of {', '.join(map(repr, PICTURES))}.")
        if self.min_rows < 0 or (self.max_rows is not None and self.max_rows < max(1, self.min_rows)):
            raise ValueError(
                f"min_rows={self.min_rows} and max_rows={self.max_rows} do not go together; give "
                "0 <= min_rows <= max_rows, and at least one row at most."
            )

    @classmethod
    def from_options(cls, options, base: "QuestionLayout | None" = None) -> "QuestionLayout":
        """A layout from what users write: a layout, the name of a place, a dict of fields, or None for `base`."""
        base = base or cls()
        if options is None or isinstance(options, cls):
            return options or base
        options = {"place": options} if isinstance(options, str) else dict(options)
        unknown = sorted(set(options) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"question_layout has no field {', '.join(map(repr, unknown))}; it has {known}.")
        return cls(**{**asdict(base), **options})

    def text_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels of the largest area that a question may take on a canvas.

        Raises:
            ValueError: It does not fit on the canvas beside a picture.
        """
        rows = height // ROW_HEIGHT
        if self.place == "side":
            column = width // 2 // ROW_HEIGHT * ROW_HEIGHT if self.column is None else self.column
            if not MAX_GLYPH_WIDTH <= column < width:
                raise ValueError(
                    f"A column of {column} pixels is not possible on a canvas {width} wide; give column between "
                    f"{MAX_GLYPH_WIDTH} and {width - 1}."
                )
            limit, default = rows, rows
        else:
            column = width
            # Over the picture the text may cover it all; above or below, the picture needs a line of its own.
            limit, default = rows if self.place == "overlay" else (height - 1) // ROW_HEIGHT, max(1, rows // 2)
        most = max(default, self.min_rows) if self.max_rows is None else self.max_rows
        if most > limit:
            raise ValueError(
                f"{most} text rows of {ROW_HEIGHT} pixels do not fit on a canvas {height} high"
                + (" together with a picture" if self.place in ("top", "bottom") else "")
                + f"; give max_rows up to {limit}, or a larger canvas."
            )
        return most * ROW_HEIGHT, column

    def picture_area(self, rows: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height, width in pixels of what is left to the picture when the question takes so many rows."""
        header = rows * ROW_HEIGHT
        if self.place == "top":
            return header, 0, height - header, width
        if self.place == "bottom":
            return 0, 0, height - header, width
        if self.place == "side":
            left = self.text_size(height, width)[1]
            return 0, left, height, width - left
        return 0, 0, height, width


def draw_questions(
    tokenizer,
    image_processor,
    images: list,
    questions: list[str],
    layout: QuestionLayout,
    overflow: str = "warn",
    **image_options,
) -> np.ndarray:
    """Draws question i and picture i on canvas i.

    A picture that stands in the list several times is resized once for every place that its questions leave it.

    Args:
        tokenizer: The text renderer; its `canvas_size` is that of the result.
        image_processor: Resizes the pictures and sets their values.
        images: B pictures, in any form that the image processor takes.
        questions: B strings. An empty one takes `min_rows` rows.
        layout: Where everything goes.
        overflow: What to do with a question that needs more rows than it may have: "warn", "raise", "ignore".
        image_options: Options for the image processor.

    Returns:
        (B, C, H, W): the pictures as the image processor gives them, the text as the renderer gives it, bit for bit.
        float32 in [-1, 1], or uint8 if the image processor is told to leave the values as they are.

    Raises:
        ValueError: A question that does not fit under "raise", or a layout that the canvas has no room for.
    """
    size = tokenizer.canvas_size
    height, width = (size, size) if isinstance(size, int) else size
    header = copy.copy(tokenizer)
    header.canvas_size = list(layout.text_size(height, width))

    measured = header.render(questions, canvas_format="uint8")
    _check_overflow(measured, header, overflow)
    rows = np.clip(measured.rows_used, layout.min_rows, header.canvas_size[0] // ROW_HEIGHT)  # (B,)

    canvases = _place_pictures(image_processor, images, rows, layout, tokenizer, (height, width), image_options)
    text = measured.canvases  # (B, 1, h, w)
    if canvases.dtype != np.uint8:
        text = header.render(questions, canvas_format="float").canvases
    if layout.place == "side":
        canvases[..., : text.shape[2], : text.shape[3]] = text
    elif layout.place == "overlay":
        inked = (measured.canvases != tokenizer.background).reshape(len(text), 1, -1, ROW_HEIGHT, width).any(3)
        covered = np.logical_or.accumulate(inked[..., ::-1], axis=-1)[..., ::-1]  # (B, 1, rows, w) left of the last ink
        covered = covered.repeat(ROW_HEIGHT, axis=2)
        top = canvases[:, :, : text.shape[2]]
        np.copyto(top, text, where=covered)
    else:
        for count in np.unique(rows[rows > 0]):
            which, lines = rows == count, int(count) * ROW_HEIGHT
            target = slice(None, lines) if layout.place == "top" else slice(height - lines, None)
            canvases[which, :, target] = text[which, :, :lines]
    return canvases


def _place_pictures(
    image_processor, images: list, rows: np.ndarray, layout: QuestionLayout, tokenizer, canvas: tuple, options: dict
) -> np.ndarray:
    """Canvases (B, C, H, W) with every picture in its place, the rest being text background."""
    number: dict[int, int] = {}  # identity of a picture -> its number among the different ones
    picture = np.array([number.setdefault(id(image), len(number)) for image in images])  # (B,)
    different = {picture[i]: image for i, image in reversed(list(enumerate(images)))}

    areas = np.array([layout.picture_area(int(count), *canvas) for count in rows])  # (B, 4) top, left, height, width
    if layout.picture == "fit":
        # Opened once here, so that a file name or a lazy picture is not read for its size and again for its pixels.
        how = {"do_convert_rgb": image_processor.do_convert_rgb, **options}
        opened = {
            i: image_processor.process_image(_loaded(image_processor, image), **how) for i, image in different.items()
        }
        sizes = np.array([opened[i].shape[1:] for i in picture])  # (B, 2)
        scale = (areas[:, 2:] / sizes).min(1, keepdims=True)
        fitted = np.clip(np.rint(sizes * scale).astype(int), 1, areas[:, 2:])
        areas = np.concatenate([areas[:, :2] + (areas[:, 2:] - fitted) // 2, fitted], axis=1)
        different, options = opened, {**options, "input_data_format": "channels_first"}

    canvases = None
    for area in np.unique(areas, axis=0):
        top, left, height, width = area.tolist()
        members = np.flatnonzero((areas == area).all(1))
        shown, index = np.unique(picture[members], return_inverse=True)
        size = {"height": height, "width": width}
        values = image_processor([different[i] for i in shown], **{**options, "size": size, "return_tensors": None})
        values = np.stack(values["pixel_values"])  # (n, C, h, w)
        if canvases is None:
            canvases = np.empty((len(images), values.shape[1], *canvas), values.dtype)
            background = np.uint8(tokenizer.background)
            canvases[:] = background if values.dtype == np.uint8 else np.float32(background) / 255 * 2 - 1
        elif canvases.dtype != values.dtype or canvases.shape[1] != values.shape[1]:
            raise ValueError(
                "Pictures of whole numbers and of floats, or of different channels, cannot share a batch; convert them "
                "to one form first."
            )
        canvases[members, :, top : top + height, left : left + width] = values[index]
    return canvases


def _loaded(image_processor, image):
    (image,) = image_processor._prepare_images_structure(image)
    return image


def _check_overflow(rendered, header, overflow: str) -> None:
    size, cut = header.canvas_size, rendered.chars_total - rendered.chars_drawn  # (B,)
    if overflow == "ignore" or not cut.any() or (overflow == "warn" and tuple(size) in _WARNED):
        return
    worst = int(cut.argmax())
    limit, remedy = f"{size[0] // ROW_HEIGHT} rows of {size[1]} pixels cut", "Give the layout more max_rows, shorten"
    if rendered.chars_drawn[worst] == header.max_chars:
        limit, remedy = f"max_chars={header.max_chars} cuts", "Shorten"
    message = (
        f"{int((cut > 0).sum())} of {len(cut)} questions do not fit: {limit} {int(cut[worst])} of the "
        f"{int(rendered.chars_total[worst])} characters of question {worst}. {remedy} the question, or use a model "
        "with a larger canvas"
    )
    if overflow == "raise":
        raise ValueError(message + '; overflow="ignore" cuts in silence.')
    _WARNED.add(tuple(size))
    logger.warning(message + '. This is said once; overflow="raise" stops instead, "ignore" is silent.')


def pair_questions(images, questions) -> tuple[list, list[str]]:
    """Brings pictures and questions to two lists of one length.

    Args:
        images: One picture or a list (or batch array) of them.
        questions: One string, a list of strings, or for several pictures a list of lists of strings.

    Returns:
        B pictures and B questions. One picture serves every question, one question asks about every picture; a list of
        lists holds the questions of picture i at i; else they belong together by position.

    Raises:
        ValueError: Their numbers do not fit together. TypeError: a question is no string.
    """
    if isinstance(images, list | tuple):
        images = list(images)
    else:
        images = list(images) if getattr(images, "ndim", 0) == 4 else [images]
    for i, image in enumerate(images):
        if isinstance(image, list | tuple):
            if len(image) != 1:
                raise ValueError(f"images[{i}] holds {len(image)} pictures; a question is about one, give a flat list.")
            images[i] = image[0]
    questions = [questions] if isinstance(questions, str) else list(questions)
    if questions and all(isinstance(several, list | tuple) for several in questions):
        if len(questions) != len(images):
            raise ValueError(
                f"There are {len(images)} pictures and {len(questions)} lists of questions; give one list a picture."
            )
        images = [image for image, several in zip(images, questions, strict=True) for _ in several]
        questions = [question for several in questions for question in several]
    for i, question in enumerate(questions):
        if not isinstance(question, str):
            raise TypeError(
                f"Question {i} is of type {type(question).__name__} ({str(question)[:60]!r}); give a string."
            )
    if len(images) == 1:
        images = images * len(questions)
    elif len(questions) == 1:
        questions = questions * len(images)
    if not images or len(images) != len(questions):
        raise ValueError(
            f"There are {len(images)} pictures and {len(questions)} questions; give one of either, or as many of both."
        )
    return images, questions
