"""Data sets that recipes and guides name, with their columns, their sources and their conversion.

`clippo prepare NAME` writes each as `data/NAME/SPLIT.parquet`.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from clippo.data import raw_downloads

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
        package: Python package that holds the raw download, if it is installed.
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
    convert: Callable[[Path], raw_downloads.Splits] | None = None
    package: str | None = None
    aliases: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()


def _five_captions(rows: Dataset, config: str | None) -> Dataset:
    columns = [f"caption_{i}" for i in range(5)]
    captions = [list(texts) for texts in zip(*(rows[column] for column in columns), strict=True)]
    return rows.remove_columns(columns).add_column("captions", captions)


def _graded_pairs(rows: Dataset, config: str | None) -> Dataset:
    return rows.rename_column("similarity_score", "label").add_column("lang", [config] * len(rows))


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
        "Download qa.894.raw.train.txt, qa.894.raw.test.txt and nyu_depth_images.tar of the Visual Turing Challenge "
        "from https://www.mpi-inf.mpg.de/, unpack them into one folder and pass it with --from.",
        convert=raw_downloads.daquar,
    ),
    "easy_vqa": KnownData(
        ("image", "questions", "answers"),
        ("train", "test"),
        "Run `pip install easy-vqa` and then this command again.",
        convert=raw_downloads.easy_vqa,
        package="easy_vqa",
    ),
    "books": KnownData(
        ("text",),
        ("train", "validation"),
        "Run `git clone https://github.com/mlschmitt/classic-books-markdown` and pass the folder with --from.",
        convert=raw_downloads.books,
        aliases=("classic_books",),
    ),
    "speeches": KnownData(
        ("text",),
        ("train",),
        "Unpack inaugural.zip and state_union.zip of https://github.com/nltk/nltk_data (packages/corpora) into one "
        "folder and pass it with --from.",
        convert=raw_downloads.speeches,
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
        convert=raw_downloads.tatoeba,
    ),
    "ntrex": KnownData(
        ("eng",),
        ("test",),
        "Run `git clone https://github.com/MicrosoftTranslator/NTREX` and pass NTREX/NTREX-128 with --from.",
        convert=raw_downloads.ntrex,
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
        convert=raw_downloads.flowers,
        aliases=("tf_flowers",),
    ),
}
