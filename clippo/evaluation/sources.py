"""Where the data of an evaluation come from: known data sets of the hub by name, local Parquet files, image folders.

Pictures are handed on undecoded, so that the cache can hash their bytes and one damaged file does not stop a run.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Image, IterableDataset, load_dataset

from clippo.data.writing_systems import dominant_script

CROSSMODAL_3600 = (
    "ar bn cs da de el en es fa fi fil fr hi hr hu id it he ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)


@dataclass(frozen=True)
class Source:
    """A data set and what its columns mean.

    Args:
        path: name on the hub, a folder of Parquet files, a Parquet file, or a folder with a folder of pictures a class.
        config: configuration of a hub data set.
        split: of a local folder, how the names of the wanted files begin.
        image, label: columns.
        captions: language -> column of strings or of lists of strings.
        class_names: key in `prompts.json`, a text file with one name a line, or None: the label column knows them.
        split_is_language: one split a language, each with the same pictures (Crossmodal-3600).
        gallery: among which pictures a language's captions are looked for, "captioned" (by it) or "all".
    """

    path: str
    config: str | None = None
    split: str = "test"
    image: str = "image"
    label: str = "label"
    captions: dict[str, str] = field(default_factory=dict)
    class_names: str | None = None
    split_is_language: bool = False
    gallery: str = "captioned"


NAMED = {
    "imagenet": Source("ILSVRC/imagenet-1k", split="validation", class_names="imagenet"),
    "cifar10": Source("uoft-cs/cifar10", image="img"),
    "cifar100": Source("uoft-cs/cifar100", image="img", label="fine_label"),
    "pets": Source("timm/oxford-iiit-pet"),
    "coco": Source("royokong/coco_test", captions={"en": "text"}),  # Karpathy's test split
    "flickr30k": Source("royokong/flickr30k_test", captions={"en": "text"}),  # Karpathy's as well
    "flickr8k": Source("jxie/flickr8k", captions={"en": "caption_0,caption_1,caption_2,caption_3,caption_4"}),
    "xm3600": Source(
        "floschne/xm3600",
        captions=dict.fromkeys(CROSSMODAL_3600.split(), "captions"),
        split_is_language=True,
    ),
}


def find_source(data: str, **overrides) -> Source:
    """The known data set of that name, or a local one; overrides that are not None win.

    Raises:
        ValueError: `data` is neither.
    """
    chosen = {name: value for name, value in overrides.items() if value is not None}
    if data in NAMED:
        return replace(NAMED[data], **chosen)
    if not Path(data).exists() and data.count("/") != 1:
        raise ValueError(f"{data!r} is neither one of {', '.join(NAMED)}, nor a file or folder, nor a name on the hub.")
    return Source(data, **chosen)


def open_rows(source: Source, split: str | None = None, streaming: bool = False, limit: int | None = None) -> Any:
    """The rows of a source, pictures undecoded.

    Args:
        source: where they are.
        split: instead of the source's own.
        streaming: read from the hub, or the files, as they are needed, instead of preparing a copy first.
        limit: only the first so many.

    Returns:
        A `datasets.Dataset`, or `IterableDataset` when streaming.

    Raises:
        FileNotFoundError: a folder holds nothing for this split.
    """
    split, path = split or source.split, Path(source.path)
    if path.is_file():
        rows = load_dataset("parquet", data_files={"rows": str(path)}, split="rows", streaming=streaming)
    elif path.is_dir():
        files = sorted(str(file) for file in path.glob(f"{split}*.parquet"))
        if files:
            rows = load_dataset("parquet", data_files={"rows": files}, split="rows", streaming=streaming)
        else:
            rows = _image_folder(path, split, streaming)
    else:
        rows = load_dataset(source.path, source.config, split=split, streaming=streaming)
    if isinstance((rows.features or {}).get(source.image), Image):
        rows = rows.cast_column(source.image, Image(decode=False))
    if limit is not None:
        rows = rows.take(limit) if isinstance(rows, IterableDataset) else rows.select(range(min(limit, len(rows))))
    return rows


def _image_folder(path: Path, split: str, streaming: bool) -> Any:
    """Pictures in folders of classes, below a folder of the split's name if there is one."""
    root = path / split if (path / split).is_dir() else path
    if not any(child.is_dir() for child in root.iterdir()):
        raise FileNotFoundError(
            f"{path} holds neither {split}*.parquet nor folders of pictures, one a class: check the path and the split."
        )
    return load_dataset("imagefolder", data_dir=str(root), split="train", streaming=streaming)


def read_columns(rows: Any, image: str, *columns: str) -> tuple[Iterable, dict[str, list]]:
    """Pictures of a data set to iterate over once, and lists that other columns are collected in on the way.

    Raises:
        ValueError: a column is missing.
    """
    if rows.column_names is not None:
        missing = [name for name in (image, *columns) if name not in rows.column_names]
        if missing:
            raise ValueError(f"No column {', '.join(missing)} in the data; it has {', '.join(rows.column_names)}.")
    kept: dict[str, list] = {name: [] for name in columns}
    return _cells(rows, image, kept), kept


def _cells(rows: Any, image: str, kept: dict[str, list]) -> Iterator[Any]:
    for row in rows:
        for name, values in kept.items():
            values.append(row[name])
        yield row[image]


def class_names(source: Source, rows: Any, prompts: dict) -> list[str]:
    """Names of the classes, by label.

    Args:
        source, rows: as opened.
        prompts: content of `prompts.json`.

    Raises:
        ValueError: nobody knows them.
    """
    if source.class_names in prompts["class_names"]:
        return list(prompts["class_names"][source.class_names])
    if source.class_names is not None:
        if not Path(source.class_names).is_file():
            raise ValueError(f"class_names={source.class_names!r} is no file; write one with a name a line, by label.")
        return Path(source.class_names).read_text(encoding="utf-8").splitlines()
    feature = (rows.features or {}).get(source.label)
    if not isinstance(feature, ClassLabel):
        raise ValueError(
            f"The column {source.label!r} does not name its classes; pass class_names, a file with a name a line."
        )
    return list(feature.names)


@dataclass
class Captions:
    """Captions of one language.

    Args:
        language: its code.
        script: what most of them are written in.
        texts: T captions.
        rows: T row numbers of the pictures they belong to.
        without: how many pictures have none.
    """

    language: str
    script: str
    texts: list[str]
    rows: list[int]
    without: int


def collect_captions(language: str, cells: Sequence[Sequence]) -> Captions:
    """Captions of one language from one or several columns.

    Args:
        language: its code.
        cells: for each column its cells, one a picture: a string, a list of strings, or None.
    """
    texts, rows, without = [], [], 0
    for row, values in enumerate(zip(*cells, strict=True)):
        own = []
        for value in values:
            own += [value] if isinstance(value, str) else list(value or [])
        own = [text for text in own if text and text.strip()]
        without += not own
        texts += own
        rows += [row] * len(own)
    return Captions(language, dominant_script(list(islice(texts, 1000))), texts, rows, without)
