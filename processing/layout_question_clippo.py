"""Layouts of a question and its image, on one canvas or on two.

*Image-and-Language Understanding from Pixels Only* (section on visual question answering) draws the question at the top
of the image and gives no details. The official code has no such layout. All details are this project's own.
"""

from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from .canvas_clippo import MAX_GLYPH_WIDTH, ROW_HEIGHT, Overflow, one_of, report_overflow
from .rendering_clippo import TextRenderer

PLACES = ("top", "bottom", "side", "overlay", "two_canvas")
PICTURES = ("squash", "fit")


@dataclass(frozen=True)
class QuestionLayout:
    """Place of the question, and form of the image on the rest of the canvas.

    Args:
        place: "top" and "bottom" give the question as many whole text rows as it needs, over the full width, and the
            image the rest of the height. "side" gives the question a column at the left. "overlay" gives the image the
            whole canvas, and the question covers only the area of its ink. "two_canvas" gives question and image a
            canvas each, for models with fusion layers; the other fields have no effect then.
        picture: "squash" fills the rest whatever the proportions of the image, as the official image preprocessing
            does. "fit" keeps the proportions and centres the image on the background of rendered text.
        min_rows: Text rows that "top" and "bottom" keep free for every question. With `min_rows == max_rows` all
            images have one size.
        max_rows: Text rows that a question may take. The tokenizer's `overflow` handles a longer one. None is half of
            the canvas, or the whole height of a column.
        column: Width in pixels of the column of "side". None is half of the canvas, in whole 16-pixel steps.

    Raises:
        ValueError: A value is not possible.

    Example:
        >>> from clippo.processing.layout_question_clippo import QuestionLayout
        >>> QuestionLayout("bottom").image_area(rows=2, height=96, width=64)  # top, left, height, width
        (0, 0, 64, 64)
    """

    place: str = "top"
    picture: str = "squash"
    min_rows: int = 0
    max_rows: int | None = None
    column: int | None = None

    def __post_init__(self):
        one_of("place", self.place, PLACES)
        one_of("picture", self.picture, PICTURES)
        if self.min_rows < 0 or (self.max_rows is not None and self.max_rows < max(1, self.min_rows)):
            raise ValueError(
                f"min_rows={self.min_rows} and max_rows={self.max_rows} do not go together; give "
                "0 <= min_rows <= max_rows and max_rows >= 1."
            )

    @classmethod
    def from_options(cls, options, base: "QuestionLayout | None" = None) -> "QuestionLayout":
        """Makes a layout of a layout, the name of a place, a dict of fields that change `base`, or None for `base`."""
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
            ValueError: The area does not fit on the canvas beside an image.
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
            # Over the image the text may cover all of it; above or below, the image needs a line of its own.
            limit, default = rows if self.place == "overlay" else (height - 1) // ROW_HEIGHT, max(1, rows // 2)
        most = max(default, self.min_rows) if self.max_rows is None else self.max_rows
        if most > limit:
            raise ValueError(
                f"{most} text rows of {ROW_HEIGHT} pixels do not fit on a canvas {height} high"
                + (" together with an image" if self.place in ("top", "bottom") else "")
                + f"; give max_rows up to {limit}, or a larger canvas."
            )
        return most * ROW_HEIGHT, column

    def image_area(self, rows: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width in pixels of the image beside a question of `rows` text rows."""
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
    renderer: TextRenderer,
    image_processor,
    images: list,
    questions: list[str],
    layout: QuestionLayout,
    overflow: Overflow = "warn",
    **image_options,
) -> np.ndarray:
    """Draws question i and image i on canvas i.

    An image that occurs several times in the list is resized once for every area that its questions leave it.

    Args:
        renderer: Draws the questions. Its canvas size is that of the result.
        image_processor: Resizes the images and scales their values.
        images: B images, in any form that the image processor takes.
        questions: B strings. An empty one takes `min_rows` rows.
        layout: Places of question and image.
        overflow: Reaction to a question that needs more rows than it may have: "warn", "raise" or "ignore".
        **image_options: Options of the image processor.

    Returns:
        (B, C, H, W). The images are those of the image processor and the text is that of the renderer, bit for bit.
        float32 in [-1, 1], or uint8 if the image processor leaves the values as they are.

    Raises:
        ValueError: A question does not fit under "raise", or the canvas has no room for the layout.
    """
    height, width = renderer.options.canvas_size
    # Remote code of tokenizer and processor is in two packages with a TextRenderer each; this is the renderer's own.
    header = type(renderer)(renderer.fonts, replace(renderer.options, canvas_size=layout.text_size(height, width)))
    rendered = header(questions)
    _check_overflow(rendered, header, overflow)
    rows = np.clip(rendered.rows_used, layout.min_rows, header.options.height // ROW_HEIGHT)  # (B,)

    canvases = _place_images(image_processor, images, rows, layout, renderer, image_options)
    text = rendered.canvases  # (B, 1, h, w)
    if canvases.dtype != np.uint8:
        text = header(questions, "float").canvases
    if layout.place == "side":
        canvases[..., : text.shape[2], : text.shape[3]] = text
    elif layout.place == "overlay":
        inked = (rendered.canvases != renderer.options.background).reshape(len(text), 1, -1, ROW_HEIGHT, width).any(3)
        covered = np.logical_or.accumulate(inked[..., ::-1], axis=-1)[..., ::-1]  # (B, 1, rows, w) left of the last ink
        np.copyto(canvases[:, :, : text.shape[2]], text, where=covered.repeat(ROW_HEIGHT, axis=2))
    else:
        for count in np.unique(rows[rows > 0]):
            which, lines = rows == count, int(count) * ROW_HEIGHT
            target = slice(None, lines) if layout.place == "top" else slice(height - lines, None)
            canvases[which, :, target] = text[which, :, :lines]
    return canvases


def _place_images(
    image_processor, images: list, rows: np.ndarray, layout: QuestionLayout, renderer: TextRenderer, options: dict
) -> np.ndarray:
    """Canvases (B, C, H, W) with every image in its place and text background elsewhere."""
    canvas = renderer.options.canvas_size
    number: dict[int, int] = {}  # id of an image object -> its number among the different ones
    which = np.array([number.setdefault(id(image), len(number)) for image in images])  # (B,)
    different = {which[i]: image for i, image in reversed(list(enumerate(images)))}
    areas = np.array([layout.image_area(int(count), *canvas) for count in rows])  # (B, 4) top, left, height, width
    # Opened once here, so that a file is not read for its size and again for its pixels.
    options = {"do_convert_rgb": image_processor.do_convert_rgb, **options}
    different = image_processor.open_images([different[i] for i in range(len(different))], **options)
    options["input_data_format"] = "channels_first"
    if layout.picture == "fit":
        areas = _fit(areas, sizes=np.array([different[i].shape[1:] for i in which]))

    canvases = None
    for area in np.unique(areas, axis=0):
        top, left, height, width = area.tolist()
        members = np.flatnonzero((areas == area).all(1))
        shown, index = np.unique(which[members], return_inverse=True)
        size = {"height": height, "width": width}
        values = image_processor([different[i] for i in shown], **{**options, "size": size, "return_tensors": None})
        values = np.stack(values["pixel_values"])  # (n, C, h, w)
        if canvases is None:
            canvases = np.empty((len(images), values.shape[1], *canvas), values.dtype)
            canvases[:] = renderer.options.levels("uint8" if values.dtype == np.uint8 else "float")[0]
        elif canvases.dtype != values.dtype or canvases.shape[1] != values.shape[1]:
            raise ValueError(
                "Images of whole numbers and of floats, or of different channels, cannot share a batch; convert them "
                "to one form first."
            )
        canvases[members, :, top : top + height, left : left + width] = values[index]
    return canvases


def _fit(areas: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Areas int64 (B, 4) shrunk to the proportions of images int64 (B, 2), centred in the original area."""
    scale = (areas[:, 2:] / sizes).min(1, keepdims=True)
    fitted = np.clip(np.rint(sizes * scale).astype(int), 1, areas[:, 2:])
    return np.concatenate([areas[:, :2] + (areas[:, 2:] - fitted) // 2, fitted], axis=1)


def _check_overflow(rendered, header: TextRenderer, overflow: Overflow) -> None:
    max_chars, (height, width) = header.options.max_chars, header.options.canvas_size
    worst = int(rendered.chars_cut.argmax())
    by_length = rendered.chars_drawn[worst] == max_chars
    report_overflow(
        rendered,
        overflow,
        max_chars,
        limit=f"the area of {height // ROW_HEIGHT} rows of {width} pixels",
        unit="question",
        remedy="Shorten the question" if by_length else "Give the layout more max_rows, shorten the question",
    )


def pair_questions(images, questions) -> tuple[list, list[str]]:
    """Brings images and questions to two lists of one length.

    One image serves every question, and one question asks about every image. A list of lists holds the questions of
    image i at index i. In all other cases images and questions belong together by position.

    Args:
        images: One image, or a list or batch array of images.
        questions: One string, a list of strings, or for several images a list of lists of strings.

    Returns:
        B images and B questions.

    Raises:
        ValueError: The numbers of images and questions do not fit together.
        TypeError: A question is not a string.
    """
    if isinstance(images, list | tuple):
        images = list(images)
    else:
        images = list(images) if getattr(images, "ndim", 0) == 4 else [images]
    for i, image in enumerate(images):
        if isinstance(image, list | tuple):
            if len(image) != 1:
                raise ValueError(f"images[{i}] holds {len(image)} images; a question is about one, give a flat list.")
            images[i] = image[0]
    questions = [questions] if isinstance(questions, str) else list(questions)
    if questions and all(isinstance(several, list | tuple) for several in questions):
        if len(questions) != len(images):
            raise ValueError(
                f"There are {len(images)} images and {len(questions)} lists of questions; give one list an image."
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
            f"There are {len(images)} images and {len(questions)} questions; give one of either, or as many of both."
        )
    return images, questions
