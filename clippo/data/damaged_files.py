"""Damaged data files: the search for the one that cannot be read to its end."""

import json
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pandas
import pyarrow
import pyarrow.parquet as parquet

from clippo.data.shards import read_members
from clippo.data.text_files import csv_options

logger = logging.getLogger(__name__)

# Errors of the readers: pyarrow, pandas and json raise subclasses of ValueError.
READ_ERRORS = (OSError, EOFError, ValueError, tarfile.TarError, pyarrow.ArrowException)


def find_unreadable(files: Sequence[str], name: str) -> str | None:
    """First file that cannot be read to its end, perhaps with the number of its broken line, or None.

    It reads the headers of tar archives and the whole of other files, so it may take as long as one pass.

    Args:
        files: Local files of one type.
        name: Name of the source in the log.
    """
    if len(files) > 1:
        logger.warning("%s: one of %d files cannot be read; searching for it.", name, len(files))
    for file in files:
        try:
            if not Path(file).stat().st_size:
                raise ValueError("empty")
            _read_through(file)
        except _BrokenLine as error:
            return f"{file}, line {error.number},"
        except READ_ERRORS:
            return file
    return files[0] if len(files) == 1 else None


class _BrokenLine(Exception):
    def __init__(self, number: int):
        self.number = number


def _read_through(file: str) -> None:
    suffixes = Path(file).suffixes
    if file.endswith(".tar"):
        with open(file, "rb") as archive:
            for _ in read_members(archive):
                pass
    elif file.endswith(".parquet"):
        with parquet.ParquetFile(file) as table:
            for _ in table.iter_batches():
                pass
    elif {".csv", ".tsv"} & set(suffixes):
        for _ in pandas.read_csv(file, chunksize=10_000, **csv_options(file)):
            pass
    elif {".json", ".jsonl"} & set(suffixes):
        with fsspec.open(file, "rb", compression="infer") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.lstrip().startswith(b"["):
                    return  # one array: it has no lines to name
                try:
                    if line.strip():
                        json.loads(line)
                except ValueError:
                    raise _BrokenLine(number) from None
