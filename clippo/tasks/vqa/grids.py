"""Tokens in place of images and questions: computed once by a frozen tower, or grids that another one gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from clippo.data.fingerprints import cell_fingerprint, digest
from clippo.data.samples import UnusableRow, read_image
from clippo.evaluation.cache import EmbeddingCache, model_fingerprint, processor_fingerprint

GREY = (127, 127, 127)  # of the image in the place of a hidden one


@dataclass
class ImageGrids:
    """Grids of the images of a data set, in their order.

    Args:
        values: (n, rows, columns, channels), any floating-point type: a tensor, or an array that may lie in a file.
        blank: (rows, columns, channels), the grid in the place of a hidden image.

    Example:
        >>> grids = ImageGrids(torch.ones(3, 2, 2, 8), torch.zeros(2, 2, 8))
        >>> grids.shape, float(grids[1].sum()), float(grids.hidden()[1].sum())
        ((2, 2, 8), 32.0, 0.0)
    """

    values: torch.Tensor | np.ndarray
    blank: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels."""
        return tuple(self.values.shape[1:])

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> torch.Tensor:
        grid = self.values[index]
        return grid if isinstance(grid, torch.Tensor) else torch.from_numpy(np.array(grid))

    def hidden(self) -> "ImageGrids":
        """The same number of grids, each of them blank."""
        return ImageGrids(self.blank.expand(len(self), *self.shape), self.blank)


def open_grids(path: str | Path) -> ImageGrids:
    """Opens the grids of another tower, which stay in their file. A hidden image is a grid of zeros.

    Args:
        path: File of `numpy.save`, (n, rows, columns, channels), float16 or float32, one grid for each image of the
            data set in its order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no such array.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not a file of numpy.save ({error}); write (n, rows, columns, channels)."
        ) from error
    if values.ndim != 4 or values.dtype not in (np.float16, np.float32):
        raise ValueError(
            f"{path} holds {values.dtype} {values.shape}; save float16 or float32 (n, rows, columns, channels)."
        )
    return ImageGrids(values, torch.zeros(values.shape[1:], dtype=torch.float16))


class QuestionTokens:
    """Kept tokens of questions, float16 (m, D) each, with those of an empty question.

    Args:
        tokens: One tensor for each question. The last one is that of the empty question.

    Example:
        >>> tokens = QuestionTokens([torch.ones(2, 8), torch.ones(3, 8), torch.zeros(1, 8)])
        >>> len(tokens), tokens[1].shape, tokens.hidden()[1].shape
        (2, torch.Size([3, 8]), torch.Size([1, 8]))
    """

    def __init__(self, tokens: list[torch.Tensor]):
        self.tokens, self.blank = tokens[:-1], tokens[-1]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.tokens[index]

    def hidden(self) -> "QuestionTokens":
        """As many empty questions."""
        return QuestionTokens([self.blank] * (len(self) + 1))


@torch.no_grad()
def compute_question_tokens(
    model: Any,
    processor: Any,
    questions: Sequence[str],
    cache: str | Path | None = None,
    batch_size: int = 256,
    part_size: int = 4096,
) -> QuestionTokens:
    """Computes the tokens of questions by a frozen tower, once for all epochs, in parts that a cache keeps.

    Equal questions are encoded once.

    Args:
        model: Model with a tower, which is frozen.
        processor: `ClippoProcessor` of the model.
        questions: Strings.
        cache: Folder of the cache, as of `compute_grids`. None turns it off.
        batch_size: Number of questions encoded at once.
        part_size: Number of questions in a part.
    """
    tower, cache = model.base_model, EmbeddingCache(cache)
    was_training = tower.training
    tower.eval()
    fingerprints = [model_fingerprint(tower), processor_fingerprint(processor)] if cache.folder else []
    number = {question: i for i, question in enumerate(dict.fromkeys([*questions, ""]))}
    different, tokens = list(number), []
    for start in tqdm(range(0, len(different), part_size), desc="questions", unit="part", disable=None):
        texts = different[start : start + part_size]
        key = digest("question tokens float16", *fingerprints, *texts) if cache.folder else ""
        part = cache.load(key)
        if part is None:
            batches = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
            encoded = [kept for batch in batches for kept in _encode_questions(tower, processor, batch)]
            part = {"tokens": torch.cat(encoded), "lengths": torch.tensor([len(kept) for kept in encoded])}
            cache.save(key, part)
        tokens += part["tokens"].split(part["lengths"].tolist())
    tower.train(was_training)
    return QuestionTokens([tokens[number[question]] for question in [*questions, ""]])


def _encode_questions(tower: Any, processor: Any, texts: list[str]) -> list[torch.Tensor]:
    canvases = processor.tokenizer(texts, canvas_format="packed", return_tensors="pt")["text_pixel_values"]
    output = tower(canvases.to(tower.device), modality="text")
    states, kept = output.last_hidden_state.half().cpu(), output.kept_patches
    return list(states) if kept is None else [row[mask] for row, mask in zip(states, kept.cpu(), strict=True)]


@torch.no_grad()
def compute_grids(
    model: Any,
    processor: Any,
    images: Sequence,
    cache: str | Path | None = None,
    batch_size: int = 64,
    part_size: int = 256,
) -> ImageGrids:
    """Computes `get_grid_features` of images in float16, in parts that a cache keeps.

    The name of a part is the hash of weights, preprocessing and images, see `clippo.evaluation.cache`. An interrupted
    run loses one part at most.

    Args:
        model: Model with a tower, which is frozen.
        processor: `ClippoProcessor` of the model.
        images: Images as `read_image` takes them.
        cache: Folder of the cache. None turns it off.
        batch_size: Number of images encoded at once.
        part_size: Number of images in a part.

    Raises:
        ValueError: An image cannot be read.
    """
    tower, cache = model.base_model, EmbeddingCache(cache)
    was_training = tower.training
    tower.eval()
    fingerprints = [model_fingerprint(tower), processor_fingerprint(processor)] if cache.folder else []

    def encode(pictures: list) -> torch.Tensor:
        levels = processor.image_processor(pictures, do_rescale=False, do_normalize=False, return_tensors="pt")
        return tower.get_grid_features(levels["pixel_values"].to(tower.device)).half().cpu()

    parts = []
    with tqdm(total=len(images), desc="grids", unit="image", disable=None) as bar:
        for start in range(0, len(images), part_size):
            pictures = [_read(images[i], i) for i in range(start, min(start + part_size, len(images)))]
            key = digest("grid float16", *fingerprints, *map(cell_fingerprint, pictures)) if cache.folder else ""
            part = cache.load(key)
            if part is None:
                batches = [pictures[i : i + batch_size] for i in range(0, len(pictures), batch_size)]
                part = {"grids": torch.cat([encode(batch) for batch in batches])}
                cache.save(key, part)
            parts.append(part["grids"])
            bar.update(len(pictures))
    blank = encode([Image.new("RGB", (16, 16), GREY)])[0]
    tower.train(was_training)
    return ImageGrids(torch.cat(parts), blank)


def _read(image: Any, number: int) -> Image.Image:
    try:
        return read_image(image)
    except UnusableRow as error:
        raise ValueError(f"Image {number} cannot be used, {error}; fix or drop its row.") from error
