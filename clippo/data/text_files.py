"""Robust reading of text files: lines and CSV tables.

Every reader skips a byte order mark. Lines end at "\\n" and "\\r\\n" alone: `str.splitlines` would also cut at U+2028
and U+0085, which are characters of a name or a caption. No cell becomes a missing value: "null", "None", "NA" and "nan"
are words.
"""

import csv
from pathlib import Path
from typing import Any

# For the CSV builder of `datasets`, which would read "null" and "NA" as missing values.
CSV_OPTIONS = {"keep_default_na": False, "encoding": "utf-8-sig"}
# A TSV file of a benchmark has no quoting: a quotation mark is a character.
TSV_OPTIONS = {**CSV_OPTIONS, "sep": "\t", "quoting": csv.QUOTE_NONE}


def csv_options(file: str | Path) -> dict[str, Any]:
    """Options of the `datasets` CSV builder for a .csv or .tsv file.

    Args:
        file: Path of the file, which may end in a compression suffix too.
    """
    return dict(TSV_OPTIONS if ".tsv" in Path(file).suffixes else CSV_OPTIONS)


def read_text(path: str | Path) -> str:
    """Content of a UTF-8 file without its byte order mark.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not UTF-8.
    """
    try:
        # newline="": line ends are cut by `read_lines` and by the csv module.
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it to UTF-8.") from error


def read_lines(path: str | Path) -> list[str]:
    """Lines of a text file, without their ends.

    Args:
        path: The file. A line end at its end adds no empty line.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not UTF-8.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    return lines[:-1] if lines[-1] == "" else lines
