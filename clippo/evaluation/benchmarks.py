"""Data sets of an evaluation: known ones by name, local files and folders, names on the hub.

Images stay undecoded, so that the cache can hash their bytes and one damaged file does not stop a run.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Image, IterableDataset

from clippo.data.sources import NOTATION, has_splits, load_rows
from clippo.data.text_files import read_lines
from clippo.data.writing_systems import dominant_script

CROSSMODAL_3600 = (
    "ar bn cs da de el en es fa fi fil fr hi hr hu id it he ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)


@dataclass(frozen=True)
class Benchmark:
    """Data set of images, with the meaning of its columns.

    Args:
        path: Data set, as `clippo.data.sources.load_rows` opens it.
        config: Configuration of a hub data set.
        split: Split. For a local folder, the beginning of the file names. None means "test" where there are splits.
        image: Column of images.
        label: Column of labels.
        captions: Column by language. A column holds strings or lists of strings; several columns are separated by
            commas.
        class_names: Key in `prompts.json`, or a text file with one name a line. None takes the names from the label
            column.
        split_is_language: Whether each language is a split with the same images (Crossmodal-3600).
        gallery: Images that a caption is searched in: "captioned" (images with a caption in its language) or "all".
        streaming: Whether to read rows when they are needed, without a local copy.
        limit: Number of rows to read from the beginning. None reads all.

    Example:
        >>> find_benchmark("cifar100").label
        'fine_label'
        >>> Benchmark("data/flickr8k", captions={"en": "caption"}).gallery
        'captioned'
    """

    path: str
    config: str | None = None
    split: str | None = None
    image: str = "image"
    label: str = "label"
    captions: dict[str, str] = field(default_factory=dict)
    class_names: str | None = None
    split_is_language: bool = False
    gallery: str = "captioned"
    streaming: bool = False
    limit: int | None = None


NAMED = {
    "imagenet": Benchmark("ILSVRC/imagenet-1k", split="validation", class_names="imagenet"),
    "cifar10": Benchmark("uoft-cs/cifar10", image="img"),
    "cifar100": Benchmark("uoft-cs/cifar100", image="img", label="fine_label"),
    "pets": Benchmark("timm/oxford-iiit-pet"),
    "coco": Benchmark("royokong/coco_test", captions={"en": "text"}),  # Karpathy's test split
    "flickr30k": Benchmark("royokong/flickr30k_test", captions={"en": "text"}),  # Karpathy's test split
    "flickr8k": Benchmark("jxie/flickr8k", captions={"en": "caption_0,caption_1,caption_2,caption_3,caption_4"}),
    "xm3600": Benchmark(
        "floschne/xm3600",
        captions=dict.fromkeys(CROSSMODAL_3600.split(), "captions"),
        split_is_language=True,
    ),
}


def find_benchmark(data: str, **overrides) -> Benchmark:
    """Returns the known data set of this name, or one for a path. Overrides that are not None win.

    Raises:
        ValueError: `data` is neither a known name, nor a path, nor a name on the hub.
    """
    chosen = {name: value for name, value in overrides.items() if value is not None}
    if data in NAMED:
        return replace(NAMED[data], **chosen)
    if not Path(data).exists() and not set(data) & set("/:*?["):
        raise ValueError(f"{data!r} is neither one of {', '.join(NAMED)}, nor a file or folder, nor a name on the hub.")
    return Benchmark(data, **chosen)


def open_split(path: str, split: str | None = None, config: str | None = None, streaming: bool = False) -> Any:
    """Opens a data set for an evaluation, the split "test" by default.

    Args:
        path: Data set, as `load_rows` opens it.
        split: Split. None means "test", unless `path` has no splits or names one.
        config: Configuration of a hub data set.
        streaming: Whether to read rows when they are needed.
    """
    names_split = NOTATION.fullmatch(path) and not Path(path).exists()
    if split is None and not names_split and has_splits(path):
        split = "test"
    return load_rows(path, split, config, streaming=streaming)


def open_rows(benchmark: Benchmark, split: str | None = None) -> Any:
    """Opens the rows of a data set, with undecoded images.

    Args:
        benchmark: Data set.
        split: Split in place of the data set's own.

    Returns:
        `datasets.Dataset`, or `IterableDataset` when streaming.
    """
    rows = open_split(benchmark.path, split or benchmark.split, benchmark.config, benchmark.streaming)
    limit = benchmark.limit
    if limit is None:
        return rows
    return rows.take(limit) if isinstance(rows, IterableDataset) else rows.select(range(min(limit, len(rows))))


def require_columns(rows: Any, columns: Iterable[str], where: str = "the data", remedy: str = "") -> None:
    """Raises ValueError, with a remedy, if a column is missing."""
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise ValueError(f"No column {', '.join(missing)} in {where}; it has {', '.join(rows.column_names)}.{remedy}")


def suggest_column(rows: Any, option: str, kind: type) -> str:
    """Returns a sentence that names the columns of a type, or an empty string.

    Args:
        rows: Opened rows.
        option: Option that selects the column, "image" or "label".
        kind: Feature type of such a column.
    """
    found = sorted(name for name, feature in (rows.features or {}).items() if isinstance(feature, kind))
    remedy = " or ".join(f"--{option} {name}" for name in found)
    return f" Its {option}s are in {', '.join(found)}: pass {remedy}." if found else ""


def read_columns(rows: Any, image: str, *columns: str) -> tuple[Iterable, dict[str, list]]:
    """Splits rows into images and other columns.

    Returns:
        An iterable over the images, to be read once, and a list for each other column. The lists fill up while the
        images are read.

    Raises:
        ValueError: A column is missing.
    """
    remedy = "" if image in rows.column_names else suggest_column(rows, "image", Image)
    if set(columns) - set(rows.column_names):
        remedy += suggest_column(rows, "label", ClassLabel)
    require_columns(rows, (image, *columns), remedy=remedy)
    kept: dict[str, list] = {name: [] for name in columns}
    return _cells(rows.select_columns([image, *kept]), image, kept), kept


def _cells(rows: Any, image: str, kept: dict[str, list]) -> Iterator[Any]:
    for row in rows:
        for name, values in kept.items():
            values.append(row[name])
        yield row[image]


def class_names(benchmark: Benchmark, rows: Any, prompts: dict) -> list[str]:
    """Returns the names of the classes, ordered by label.

    Args:
        benchmark: Data set.
        rows: Its opened rows.
        prompts: Content of `prompts.json`.

    Raises:
        ValueError: The names are unknown.
    """
    if benchmark.class_names in prompts["class_names"]:
        return list(prompts["class_names"][benchmark.class_names])
    if benchmark.class_names is not None:
        if not Path(benchmark.class_names).is_file():
            raise ValueError(
                f"class_names={benchmark.class_names!r} is not a file; write one with a name a line, by label."
            )
        return read_lines(benchmark.class_names)
    require_columns(rows, [benchmark.label], remedy=suggest_column(rows, "label", ClassLabel))
    feature = (rows.features or {}).get(benchmark.label)
    if not isinstance(feature, ClassLabel):
        raise ValueError(
            f"The column {benchmark.label!r} does not name its classes; pass class_names, a file with a name a line."
        )
    return list(feature.names)


@dataclass
class Captions:
    """Captions of one language.

    Args:
        language: Language code.
        script: Script of most captions.
        texts: T captions.
        rows: T row numbers, of the image of each caption.
        without: Number of images without a caption.

    Example:
        >>> captions = collect_captions("de", [["Katze", None]])
        >>> captions.texts, captions.rows, captions.without
        (['Katze'], [0], 1)
    """

    language: str
    script: str
    texts: list[str]
    rows: list[int]
    without: int


def collect_captions(language: str, cells: Sequence[Sequence]) -> Captions:
    """Collects the captions of one language from one or several columns.

    Args:
        language: Language code.
        cells: Cells of each column, one an image: a string, a list of strings, or None.
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
