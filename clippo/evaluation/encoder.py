"""Embeddings of whole data sets by one model.

A data set is embedded in parts of `part_size` rows. Each process embeds its share of the parts, and every process
receives all of them. The cache keeps finished parts, so an interrupted run loses one part at most. An image that cannot
be read is counted and left out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from tqdm.auto import tqdm

from clippo.data.fingerprints import cell_fingerprint, digest
from clippo.data.grey_levels import images_as_levels
from clippo.data.samples import UnusableRow, read_image
from clippo.data.vectors import Vectors
from clippo.evaluation.cache import EmbeddingCache, model_fingerprint, processor_fingerprint, texts_fingerprint
from clippo.modeling_clippo.modeling_clippo import ClippoModel, normalize
from clippo.processing import ClippoProcessor

ITERATION = ("__iter__", "__getitem__")  # an object with one of these methods is a sequence


@dataclass
class EmbeddedImages:
    """Embeddings of the N images of a data set.

    Args:
        vectors: float32 (M, E) on the CPU, one row for each image that could be read.
        kept: M row numbers in the data set, ascending.
        broken: Reason by row number, for the N - M images that could not be read.

    Example:
        >>> images = EmbeddedImages(torch.eye(2), kept=[0, 2], broken={1: "no image"})
        >>> images.select(["cat", "dog", "rocket"])
        ['cat', 'rocket']
    """

    vectors: torch.Tensor
    kept: list[int]
    broken: dict[int, str] = field(default_factory=dict)

    def select(self, values: Sequence) -> list:
        """Selects the values that belong to `vectors` from N values, one a row of the data set."""
        return [values[row] for row in self.kept]

    def require_all(self) -> torch.Tensor:
        """Returns `vectors` if every image could be read.

        Raises:
            ValueError: An image could not be read.
        """
        if self.broken:
            row, reason = next(iter(self.broken.items()))
            raise ValueError(f"{len(self.broken)} images cannot be read; the first is image {row}: {reason}")
        return self.vectors


class Encoder:
    """Embeds data sets with a model and its processor.

    Under `torchrun` or `accelerate launch`, with an initialised process group, the processes share the work. Every
    process must pass the same data.

    Args:
        model: `ClippoModel` on any device, of any dtype. Its training mode does not change.
        processor: `ClippoProcessor` of the model.
        cache: Folder of the embedding cache. None turns the cache off.
        batch_size: Number of images embedded at once.
        text_batch_size: Number of texts embedded at once.
        part_size: Number of images or texts in one part of the cache.
        progress: Whether the first process shows progress bars.
        vectors: Vectors of the images, for a model that compares texts with those of another model. An image is found
            by its content.

    Attributes:
        texts_cut: Number of texts that did not fit on the canvas. Equal texts count once a call.

    Example:
        >>> from transformers import AutoModel, AutoProcessor
        >>> folder = "checkpoints/clippo-emoji"
        >>> encoder = Encoder(AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder))
        >>> dog, hund, rocket = encoder.texts(["dog", "Hund", "rocket"])
        >>> bool(dog @ hund > dog @ rocket)
        True
        >>> vectors = encoder.images(["docs/pictures/cat.webp", "docs/pictures/dog.webp"]).vectors
        >>> vectors.norm(dim=1).round(decimals=4).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        cache: str | Path | None = None,
        batch_size: int = 64,
        text_batch_size: int = 256,
        part_size: int = 1024,
        progress: bool = False,
        vectors: Vectors | None = None,
    ):
        for name, value in (("batch_size", batch_size), ("text_batch_size", text_batch_size), ("part_size", part_size)):
            if value < 1:
                raise ValueError(f"{name} must be a positive number, got {value}.")
        self.model, self.processor, self.cache = model, processor, EmbeddingCache(cache)
        self.batch_size, self.text_batch_size, self.part_size = batch_size, text_batch_size, part_size
        self.progress, self.vectors = progress, vectors
        self.texts_cut = 0
        self._packs = isinstance(model, ClippoModel) and isinstance(processor, ClippoProcessor)
        # Hashing every weight takes a moment, and only the cache needs the hash.
        self._model_key = model_fingerprint(model) if cache else ""

    def images(self, cells: Iterable, pooled: bool = False, **options) -> EmbeddedImages:
        """Embeds images.

        Args:
            cells: Images as undecoded cells of a data set (`{"bytes", "path"}`), bytes, file names, PIL images or
                arrays. They are read once, one part at a time.
            pooled: Whether to return the pooled tower output before the projection. The official few-shot evaluation
                calls it `pre_logits`. By default the vectors are projected to the shared space, with unit length.
            options: Options of the image processor, such as `size=256, do_center_crop=True, crop_size=224`.

        Raises:
            TypeError: `cells` is one image.
            ValueError: There are no images, no image can be read, or an embedding is not finite.
        """
        if isinstance(cells, str | bytes | Path | dict) or not any(hasattr(cells, name) for name in ITERATION):
            raise TypeError(f"images is one {type(cells).__name__}; pass a sequence of images.")
        if self.vectors is not None:
            return given_images(self.vectors, self.model, cells)
        # "upright" keeps embeddings of images that an older version read sideways from being used.
        key = self._cache_key(("pooled" if pooled else "projected") + ", upright", **options)

        def embed(part: list, start: int, bar: tqdm) -> dict:
            return self._image_part(part, start, key, pooled, options, bar)

        kept, broken, vectors = [], {}, []
        # Without a cache nothing is gained by holding more than a batch, and the cells may be decoded images.
        size = self.part_size if key else self.batch_size
        for start, part in self._embed_parts("images", cells, size, embed):
            kept += [start + row for row in part["kept"]]
            broken |= {start + row: reason for row, reason in part["broken"].items()}
            vectors.append(part["vectors"])
        if not vectors:
            raise ValueError("There are no images to embed: the data set is empty.")
        if not kept:
            reason = next(iter(broken.values()))
            raise ValueError(f"None of the {len(broken)} images can be read; the first fails with: {reason}")
        return EmbeddedImages(torch.cat([part for part in vectors if len(part)]), kept, broken)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embeds strings. Equal strings are embedded once.

        Returns:
            float32 (N, E) on the CPU, unit length, in the order of `texts`.

        Raises:
            TypeError: `texts` is one string.
            ValueError: There are no texts, or an embedding is not finite.
        """
        if isinstance(texts, str | bytes):
            raise TypeError("texts is one string; pass a list of strings.")
        if not len(texts):
            raise ValueError("There are no texts to embed: the list is empty.")
        key = self._cache_key("text, cut counted")
        # Sorted by length, because attention on a CPU pads texts to the longest one of a group. Then by content, so
        # that the same texts make the same parts in any order.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))

        def embed(part: list, start: int, bar: tqdm) -> dict:
            return self._text_part(part, start, key, bar)

        parts = self._embed_parts("texts", distinct, self.part_size, embed)
        vectors = torch.cat([part["vectors"] for _, part in parts])
        self.texts_cut += sum(int(part["cut"]) for _, part in parts)
        place = {text: i for i, text in enumerate(distinct)}
        return vectors[[place[text] for text in texts]]

    def _cache_key(self, kind: str, **options) -> str:
        if self.cache.folder is None:
            return ""
        return digest(self._model_key, processor_fingerprint(self.processor, **options), kind)

    def _embed_parts(
        self, label: str, items: Iterable, size: int, embed: Callable[[list, int, tqdm], dict]
    ) -> list[tuple[int, dict]]:
        """Returns (first row, embedded part) of all parts in order. Each process computes its share."""
        total = len(items) if hasattr(items, "__len__") else None
        hidden = not self.progress or _rank() > 0
        parts: dict[int, dict] = {}
        with tqdm(total=total, desc=label, disable=hidden, unit_scale=_world_size() if total else False) as bar:
            for number, start, part in _parts(items, size):
                if number % _world_size() == _rank():
                    parts[start] = embed(part, start, bar)
        return sorted(_gather(parts).items())

    def _image_part(self, part: list, start: int, key: str, pooled: bool, options: dict, bar: tqdm) -> dict:
        """Returns vectors of the readable images of a part, their rows, and the reasons for the other rows."""
        name = digest(key, *(cell_fingerprint(cell) for cell in part)) if key else ""
        saved = self.cache.load(name) if key else None
        if saved is not None:
            bar.update(len(part))
            readable = set(saved["kept"].tolist())
            # The cache keeps no reasons: reading a broken image again costs little.
            broken = {i: str(_decode(cell)) for i, cell in enumerate(part) if i not in readable}
            return {"vectors": saved["vectors"], "kept": sorted(readable), "broken": broken}
        images, kept, broken, vectors = [], [], {}, []
        for i, cell in enumerate(part):
            image = _decode(cell)
            if isinstance(image, Exception):
                broken[i] = str(image)
            else:
                images.append(image)
                kept.append(i)
            if len(images) == self.batch_size or (i == len(part) - 1 and images):
                vectors.append(self._embed_images(images, pooled, options))
                images = []
            bar.update()
        result = torch.cat(vectors) if vectors else torch.zeros(0, 1)
        check_finite(result, "image", [start + i for i in kept])
        if key:
            self.cache.save(name, {"vectors": result, "kept": torch.tensor(kept, dtype=torch.int64)})
        return {"vectors": result, "kept": kept, "broken": broken}

    def _embed_images(self, images: list, pooled: bool, options: dict) -> torch.Tensor:
        with evaluation_mode(self.model), torch.inference_mode():
            if self._packs and not pooled:
                levels = images_as_levels(self.processor.image_processor, images, **options).to(self.model.device)
                return normalize(self.model.get_image_features(levels, pooled_only=True).pooler_output).cpu()  # (b, E)
            inputs = self.processor(images=images, return_tensors="pt", **options).to(self.model.device)
            if pooled:
                return self.model(**inputs).pooler_output.float().cpu()  # (b, D)
            return normalize(self.model.get_image_features(**inputs).pooler_output).cpu()  # (b, E)

    def _text_part(self, part: list[str], start: int, key: str, bar: tqdm) -> dict[str, torch.Tensor]:
        """Returns vectors of a part, and the number of its texts that did not fit on the canvas."""
        name = digest(key, texts_fingerprint(part)) if key else ""
        saved = self.cache.load(name) if key else None
        if saved is not None:
            bar.update(len(part))
            return saved
        vectors = []
        for begin in range(0, len(part), self.text_batch_size):
            batch = part[begin : begin + self.text_batch_size]
            with evaluation_mode(self.model), torch.inference_mode():
                # A bit a pixel, and no tokens put back on their canvases: a seventh faster on a CPU.
                options = {"canvas_format": "packed"} if self._packs else {}
                inputs = self.processor(text=batch, return_tensors="pt", **options).to(self.model.device)
                options = {"pooled_only": True} if self._packs else {}
                vectors.append(normalize(self.model.get_text_features(**inputs, **options).pooler_output).cpu())
            bar.update(len(batch))
        result = torch.cat(vectors)
        check_finite(result, "text", range(start, start + len(part)))
        measures = self.processor.tokenizer.measure(part)
        saved = {"vectors": result, "cut": torch.tensor(sum(measure.chars_cut > 0 for measure in measures))}
        if key:
            self.cache.save(name, saved)
        return saved


def given_images(vectors: Vectors, model: Any, cells: Iterable) -> EmbeddedImages:
    """Image side of a model for images whose vectors are given.

    Args:
        vectors: Vectors of the model that `model.config.image_tower` names.
        model: `ClippoModel`.
        cells: Images as undecoded cells, N.

    Raises:
        ValueError: The vectors were made by another model; none of the images has a vector.
    """
    if model.config.image_tower != vectors.about.model:
        raise ValueError(
            f"The vectors in {vectors.folder} were made by {vectors.about.model!r}, and the model reads for "
            f"image_tower={model.config.image_tower!r}."
        )
    found = [vectors.of_cell(cell) for cell in cells]
    kept = [row for row, vector in enumerate(found) if vector is not None]
    broken = {row: f"no vector in {vectors.folder}" for row, vector in enumerate(found) if vector is None}
    if not kept:
        raise ValueError(
            f"None of the {len(found)} images has a vector in {vectors.folder}, which was made of "
            f"{vectors.about.data}; embed these images."
        )
    with torch.inference_mode():
        features = model.given_image_features(torch.stack([found[row] for row in kept]).to(model.device))
        return EmbeddedImages(normalize(features).cpu(), kept, broken)


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Turns dropout off inside the block. Afterwards each module has its earlier mode."""
    # Module by module: a frozen part that was set to eval on purpose must stay there.
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _parts(items: Iterable, size: int) -> Iterator[tuple[int, int, list]]:
    """Yields (number, first row, items) of each run of `size` items."""
    indexed = not hasattr(items, "__iter__")
    iterator, number = iter(items[i] for i in range(len(items))) if indexed else iter(items), 0
    while part := list(islice(iterator, size)):
        yield number, number * size, part
        number += 1


def _decode(cell: Any) -> Any:
    """Returns a decoded image, or the exception that explains why there is none."""
    try:
        return read_image(cell)
    except UnusableRow as error:
        return error


def check_finite(vectors: torch.Tensor, kind: str, rows: Sequence[int] | None = None) -> None:
    """Raises ValueError, with the first row, if an embedding is not finite.

    Args:
        vectors: (N, E).
        kind: Word for a row in the message, such as "image".
        rows: N row numbers for the message; by default 0 to N - 1.
    """
    bad = (~vectors.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        first = bad[0] if rows is None else rows[bad[0]]
        raise ValueError(
            f"{len(bad)} embeddings are not finite; the first belongs to {kind} {first}. Check the weights, or "
            "evaluate in float32."
        )


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _gather(parts: dict) -> dict:
    """Returns the parts of all processes to each of them."""
    if _world_size() == 1:
        return parts
    everyone: list[dict] = [{} for _ in range(_world_size())]
    distributed.all_gather_object(everyone, parts)
    return {number: part for share in everyone for number, part in share.items()}
