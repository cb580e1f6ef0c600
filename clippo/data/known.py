"""Data sets that recipes and guides name, with their columns, their sources and their conversion.

`clippo prepare NAME` writes each as `data/NAME/SPLIT.parquet`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import ClassLabel, Dataset, Features, Image, Value

from clippo.data.text_files import read_lines, read_text

Splits = dict[str, Dataset]
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
STSB_LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "ru", "zh")


@dataclass(frozen=True)
class KnownData:
    """One data set.

    Args:
        columns: Columns that a prepared file must have.
        splits: Splits that must be there; file names begin with them.
        by_hand: One sentence on how to get the data set without the hub.
        hub: Name on the hub, or None.
        configs: Configurations on the hub; one parquet file holds all of them, unless `folders`.
        folders: Each configuration has a folder of its own, as the tasks of GLUE.
        adapt: Turns rows as the hub has them into `columns`; called with the rows and the configuration.
        convert: Reads a raw download from a folder and returns its splits.
        aliases: Other names of its folder in a local copy.
        rename: Split on the hub -> split of the file.
    """

    columns: tuple[str, ...]
    splits: tuple[str, ...]
    by_hand: str
    hub: str | None = None
    configs: tuple[str | None, ...] = (None,)
    folders: bool = False
    adapt: Callable[[Dataset, str | None], Dataset] | None = None
    convert: Callable[[Path], Splits] | None = None
    aliases: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()


def _five_captions(rows: Dataset, config: str | None) -> Dataset:
    columns = [f"caption_{i}" for i in range(5)]
    captions = [list(texts) for texts in zip(*(rows[column] for column in columns), strict=True)]
    return rows.remove_columns(columns).add_column("captions", captions)


def _graded_pairs(rows: Dataset, config: str | None) -> Dataset:
    return rows.rename_column("similarity_score", "label").add_column("lang", [config] * len(rows))


def _files(folder: Path, *patterns: str) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.rglob(pattern))


def _documents(folder: Path) -> Iterator[dict[str, str]]:
    for file in _files(folder, "*.md", "*.txt"):
        if file.stem.upper() not in ("README", "LICENSE"):
            yield {"title": file.stem, "text": read_text(file)}


def _books(folder: Path) -> Splits:
    """Every twentieth book validates."""
    splits = defaultdict(list)
    for number, book in enumerate(_documents(folder)):
        splits["validation" if number % 20 == 19 else "train"].append(book)
    return {split: Dataset.from_list(rows) for split, rows in splits.items()}


def _speeches(folder: Path) -> Splits:
    rows = list(_documents(folder))
    return {"train": Dataset.from_list(rows)} if rows else {}


def _tatoeba(folder: Path) -> Splits:
    """Files tatoeba.deu-eng.deu and tatoeba.deu-eng.eng of LASER."""
    rows = []
    for file in _files(folder, "tatoeba.*-eng.*"):
        language = file.suffix[1:]
        english = file.with_suffix(".eng")
        if language != "eng" and english.is_file():
            pairs = zip(read_lines(file), read_lines(english), strict=True)
            rows += [{"lang": language, "sentence": own, "english": other} for own, other in pairs]
    return {"test": Dataset.from_list(rows)} if rows else {}


def _ntrex(folder: Path) -> Splits:
    """Files newstest2019-src.eng.txt and newstest2019-ref.LANGUAGE.txt of NTREX-128."""
    columns = {}
    for file in _files(folder, "newstest2019-src.*.txt", "newstest2019-ref.*.txt"):
        columns[re.sub(r"^newstest2019-(src|ref)\.", "", file.stem)] = read_lines(file)
    return {"test": Dataset.from_dict(columns)} if columns else {}


def _flowers(folder: Path) -> Splits:
    """A folder for each class; the first 100 files of each test, the next 100 train."""
    classes = sorted({file.parent.name for file in _files(folder, "*.jpg")})
    features = Features({"image": Image(), "label": ClassLabel(names=classes)})
    rows = {"test": [], "train": []}
    for label, name in enumerate(classes):
        files = [file for file in _files(folder, "*.jpg") if file.parent.name == name]
        for split, part in (("test", files[:100]), ("train", files[100:200])):
            rows[split] += [{"image": {"bytes": f.read_bytes(), "path": None}, "label": label} for f in part]
    return {split: Dataset.from_list(own, features=features) for split, own in rows.items() if own}


def first_of_each_class(rows: Dataset, count: int, label: str = "label") -> Dataset:
    """The first rows of each class, in the order of the data set.

    Args:
        rows: Data set with a label column.
        count: Rows of each class.
        label: Name of the label column.
    """
    seen: dict[int, int] = defaultdict(int)
    kept = []
    for i, value in enumerate(rows[label]):
        seen[value] += 1
        if seen[value] <= count:
            kept.append(i)
    return rows.select(kept)


def _small_cifar(rows: Dataset, config: str | None) -> Dataset:
    """1,000 images of each class; the test split has no more."""
    return first_of_each_class(rows, 1000)


def strings(names: tuple[str, ...]) -> Features:
    """Features of columns of text.

    Args:
        names: The columns.
    """
    return datasets.Features({name: Value("string") for name in names})


KNOWN = {
    "flickr8k": KnownData(
        ("image", "captions"),
        ("train", "validation", "test"),
        "Ask for Flickr8k at https://forms.illinois.edu/sec/1713398 and write parquet files with these columns.",
        hub="jxie/flickr8k",
        adapt=_five_captions,
    ),
    "multi30k": KnownData(
        ("en", "de"),
        ("train", "validation", "test"),
        "Download https://github.com/multi30k/dataset and write its lines to parquet files with these columns.",
        hub="bentrevett/multi30k",
        aliases=("multi30k_text",),
    ),
    "glue": KnownData(
        ("label",),
        (),
        "Download the tasks from https://gluebenchmark.com/tasks and write parquet files in the columns of the hub.",
        hub="nyu-mll/glue",
        configs=GLUE,
        folders=True,
    ),
    "daquar": KnownData(
        ("image", "questions", "answers"),
        ("train", "test"),
        "Download DAQUAR from https://www.mpi-inf.mpg.de/ (search for DAQUAR) and write parquet files with these "
        "columns, one row an image.",
    ),
    "easy_vqa": KnownData(
        ("image", "questions", "answers"),
        ("train", "test"),
        "Run `pip install easy-vqa` and write its images and questions to parquet files with these columns, one row an "
        "image.",
    ),
    "books": KnownData(
        ("text",),
        ("train", "validation"),
        "Run `git clone https://github.com/mlschmitt/classic-books-markdown` and pass the folder with --from.",
        convert=_books,
        aliases=("classic_books",),
    ),
    "speeches": KnownData(
        ("text",),
        ("train",),
        "Unpack inaugural.zip and state_union.zip of https://github.com/nltk/nltk_data (packages/corpora) into one "
        "folder and pass it with --from.",
        convert=_speeches,
        aliases=("us_speeches",),
    ),
    "wikitext": KnownData(
        ("text",),
        ("validation", "test"),
        "Download Salesforce/wikitext from the hub on another machine and pass its folder with --from.",
        hub="Salesforce/wikitext",
        configs=("wikitext-2-v1",),
        aliases=("wikitext2",),
    ),
    "tatoeba": KnownData(
        ("lang", "sentence", "english"),
        ("test",),
        "Run `git clone https://github.com/facebookresearch/LASER` and pass LASER/data/tatoeba/v1 with --from.",
        convert=_tatoeba,
    ),
    "ntrex": KnownData(
        ("eng",),
        ("test",),
        "Run `git clone https://github.com/MicrosoftTranslator/NTREX` and pass NTREX/NTREX-128 with --from.",
        convert=_ntrex,
    ),
    "stsb_multi": KnownData(
        ("lang", "sentence1", "sentence2", "label"),
        ("train", "validation", "test"),
        "Download PhilipMay/stsb_multi_mt from the hub on another machine and write parquet files with these columns.",
        hub="PhilipMay/stsb_multi_mt",
        configs=STSB_LANGUAGES,
        adapt=_graded_pairs,
        aliases=("stsb_multi_mt",),
        rename=(("dev", "validation"),),
    ),
    "cifar10": KnownData(
        ("img", "label"),
        ("train", "test"),
        "Download uoft-cs/cifar10 from the hub on another machine and pass its folder with --from.",
        hub="uoft-cs/cifar10",
        adapt=_small_cifar,
        rename=(("train", "train_10k"),),
    ),
    "flowers": KnownData(
        ("image", "label"),
        ("train", "test"),
        "Unpack https://download.tensorflow.org/example_images/flower_photos.tgz and pass the folder with --from.",
        convert=_flowers,
        aliases=("tf_flowers",),
    ),
}
