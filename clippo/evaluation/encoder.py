"""Embeds whole data sets: in parts that a cache keeps, shared out among processes, broken pictures counted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from tqdm.auto import tqdm

from clippo.data.samples import UnusableRow, read_image
from clippo.evaluation.cache import (
    EmbeddingCache,
    cell_fingerprint,
    digest,
    model_fingerprint,
    processor_fingerprint,
    texts_fingerprint,
)
from clippo.evaluation.embeddings import evaluation_mode


@dataclass
class Pictures:
    """What became of the N pictures of a data set.

    Args:
        vectors: float32 (M, E) on the CPU, one row for each picture that could be read.
        kept: M row numbers in the data set, ascending.
        broken: row number -> why the picture could not be read, for the N - M others.
    """

    vectors: torch.Tensor
    kept: list[int]
    broken: dict[int, str] = field(default_factory=dict)

    def select(self, values: Sequence) -> list:
        """Of N values, one a row of the data set, those that belong to `vectors`."""
        return [values[row] for row in self.kept]


class Encoder:
    """A model and its processor as a function from data sets to embeddings.

    Run under `torchrun` or `accelerate launch`, with the process group initialised, every process embeds its share of
    the parts and gets all of the result. Every process must be given the same data.

    Args:
        model: a `ClippoModel` on any device, of any dtype.
        processor: the `ClippoProcessor` that belongs to it.
        cache: folder for embeddings, see `clippo.evaluation.cache`; None keeps nothing.
        batch_size: pictures embedded at once.
        text_batch_size: texts embedded at once.
        part_size: pictures or texts in one part of the cache: what a kill loses at most, of each process.
        progress: show progress bars, on the first process.
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
    ):
        for name, value in (("batch_size", batch_size), ("text_batch_size", text_batch_size), ("part_size", part_size)):
            if value < 1:
                raise ValueError(f"{name} is a positive number, got {value}.")
        self.model, self.processor, self.cache = model, processor, EmbeddingCache(cache)
        self.batch_size, self.text_batch_size, self.part_size = batch_size, text_batch_size, part_size
        self.progress = progress
        self.texts_cut = 0  # how many texts, each counted once a call, did not fit on the canvas
        # Hashing every weight takes a moment, and without a cache nobody asks.
        self._model_key = model_fingerprint(model) if cache else ""

    def pictures(self, cells: Iterable, pooled: bool = False, **options) -> Pictures:
        """Embeds pictures.

        Args:
            cells: pictures as data sets hold them without decoding: `{"bytes", "path"}`, bytes, file names; or PIL
                images and arrays. Read once, one part at a time.
            pooled: the tower's own vectors, before the projection, instead of unit vectors in the shared space: what
                the official few-shot evaluation calls `pre_logits`.
            options: of the image processor, such as `size=256, do_center_crop=True, crop_size=224`.

        Raises:
            ValueError: there are no pictures, none can be read, or an embedding is not finite.
        """
        key = self._key("pooled" if pooled else "projected", **options)
        parts: dict[int, dict] = {}
        count = 0
        with self._bar("pictures", cells) as bar:
            for number, start, part in _parts(cells, self.part_size):
                count += len(part)
                if number % _world_size() == _rank():
                    parts[number] = self._picture_part(part, start, key, pooled, options, bar)
        if not count:
            raise ValueError("There are no pictures to embed: the data set is empty.")
        parts = _gather(parts)
        kept, broken, vectors = [], {}, []
        for number in sorted(parts):
            start = number * self.part_size
            kept += [start + row for row in parts[number]["kept"]]
            broken |= {start + row: reason for row, reason in parts[number]["broken"].items()}
            vectors.append(parts[number]["vectors"])
        if not kept:
            reason = next(iter(broken.values()))
            raise ValueError(f"None of the {count} pictures can be read; the first fails with: {reason}")
        return Pictures(torch.cat([part for part in vectors if len(part)]), kept, broken)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embeds strings, each different one once; float32 (N, E) on the CPU, unit length, in the order of `texts`.

        Raises:
            TypeError: `texts` is one string.
            ValueError: there are no texts, or an embedding is not finite.
        """
        if isinstance(texts, str | bytes):
            raise TypeError("texts is one string; pass a list of strings.")
        if not len(texts):
            raise ValueError("There are no texts to embed: the list is empty.")
        key = self._key("text, cut counted")
        # By length: where blank patches are skipped, a batch costs what its longest text costs. Then by content, so
        # that the same texts make the same parts in whatever order they come.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        parts: dict[int, dict[str, torch.Tensor]] = {}
        with self._bar("texts", distinct) as bar:
            for number, start, part in _parts(distinct, self.part_size):
                if number % _world_size() == _rank():
                    parts[number] = self._text_part(part, start, key, bar)
        parts = _gather(parts)
        vectors = torch.cat([parts[number]["vectors"] for number in sorted(parts)])
        self.texts_cut += sum(int(part["cut"]) for part in parts.values())
        place = {text: i for i, text in enumerate(distinct)}
        return vectors[[place[text] for text in texts]]

    def _key(self, kind: str, **options) -> str:
        if self.cache.folder is None:
            return ""
        return digest(self._model_key, processor_fingerprint(self.processor, **options), kind)

    def _bar(self, label: str, items: Iterable) -> tqdm:
        total = len(items) if hasattr(items, "__len__") else None
        hidden = not self.progress or _rank() > 0
        return tqdm(total=total, desc=label, disable=hidden, unit_scale=_world_size() if total else False)

    def _picture_part(self, part: list, start: int, key: str, pooled: bool, options: dict, bar: tqdm) -> dict:
        """Vectors of the readable pictures of a part, their places, and the reasons for the rest."""
        images, kept, broken = [], [], {}
        name = ""
        if key:
            name = digest(key, *(cell_fingerprint(cell) for cell in part))
            saved = self.cache.load(name)
            if saved is not None:
                bar.update(len(part))
                readable = set(saved["kept"].tolist())
                # Why a picture is broken is not kept; it costs little to look again.
                broken = {i: str(_decode(cell)) for i, cell in enumerate(part) if i not in readable}
                return {"vectors": saved["vectors"], "kept": sorted(readable), "broken": broken}
        vectors = []
        for i, cell in enumerate(part):
            image = _decode(cell)
            if isinstance(image, Exception):
                broken[i] = str(image)
            else:
                images.append(image)
                kept.append(i)
            if len(images) == self.batch_size or (i == len(part) - 1 and images):
                vectors.append(self._look(images, pooled, options))
                images = []
            bar.update()
        result = torch.cat(vectors) if vectors else torch.zeros(0, 1)
        _check_finite(result, [start + i for i in kept], "picture")
        if key:
            self.cache.save(name, {"vectors": result, "kept": torch.tensor(kept, dtype=torch.int64)})
        return {"vectors": result, "kept": kept, "broken": broken}

    def _look(self, images: list, pooled: bool, options: dict) -> torch.Tensor:
        with evaluation_mode(self.model):
            inputs = self.processor(images=images, return_tensors="pt", **options).to(self.model.device)
            if pooled:
                return self.model(**inputs).pooler_output.float().cpu().clone()  # (b, D)
            return _unit(self.model.get_image_features(**inputs).pooler_output)  # (b, E)

    def _text_part(self, part: list[str], start: int, key: str, bar: tqdm) -> dict[str, torch.Tensor]:
        """Vectors of a part, and how many of its texts did not fit on the canvas."""
        name = digest(key, texts_fingerprint(part)) if key else ""
        saved = self.cache.load(name) if key else None
        if saved is not None:
            bar.update(len(part))
            return saved
        vectors = []
        for begin in range(0, len(part), self.text_batch_size):
            batch = part[begin : begin + self.text_batch_size]
            with evaluation_mode(self.model):
                inputs = self.processor(text=batch, return_tensors="pt").to(self.model.device)
                vectors.append(_unit(self.model.get_text_features(**inputs).pooler_output))
            bar.update(len(batch))
        result = torch.cat(vectors)
        _check_finite(result, range(start, start + len(part)), "text")
        measures = self.processor.tokenizer.measure(part)
        saved = {"vectors": result, "cut": torch.tensor(sum(measure.chars_cut > 0 for measure in measures))}
        if key:
            self.cache.save(name, saved)
        return saved


def _parts(items: Iterable, size: int) -> Iterator[tuple[int, int, list]]:
    """(number, first row, items) of each run of `size`."""
    iterator, number = iter(items), 0
    while part := list(islice(iterator, size)):
        yield number, number * size, part
        number += 1


def _decode(cell: Any) -> Any:
    """Decoded image, or the exception that says why there is none."""
    try:
        return read_image(cell)
    except UnusableRow as error:
        return error


def _unit(features: torch.Tensor) -> torch.Tensor:
    features = features.float()
    return (features / (features.norm(dim=-1, keepdim=True) + 1e-8)).cpu().clone()  # official epsilon


def _check_finite(vectors: torch.Tensor, rows: Sequence[int], kind: str) -> None:
    bad = (~vectors.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{len(bad)} embeddings are not finite, the first is that of {kind} {rows[bad[0]]}: look at the weights, "
            "or evaluate in float32."
        )


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _gather(parts: dict) -> dict:
    """The parts of all processes on each of them."""
    if _world_size() == 1:
        return parts
    everyone: list[dict] = [{} for _ in range(_world_size())]
    distributed.all_gather_object(everyone, parts)
    return {number: part for share in everyone for number, part in share.items()}
