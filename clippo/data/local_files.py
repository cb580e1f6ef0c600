"""Local data files: their types, and the files that a path and a split mean."""

import glob
from pathlib import Path

# File type -> builder of `datasets`.
BUILDERS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
    ".tar": "webdataset",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")  # of json and csv files; C4 is .json.gz
SPLITS = ("train", "validation", "valid", "val", "dev", "test")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # captions of an image folder
SAVED = ("state.json", "dataset_dict.json")  # files of a folder that `save_to_disk` wrote


def file_type(file: str | Path) -> str:
    """Suffix of a file, without that of a compression.

    Args:
        file: Path of the file.
    """
    path = Path(file)
    inner = Path(path.stem).suffix
    return inner if path.suffix in COMPRESSIONS and BUILDERS.get(inner) in ("json", "csv") else path.suffix


def names_files(path: str) -> bool:
    """True for the path of a data file and for a glob.

    Args:
        path: Any path or hub name.
    """
    return file_type(path) in BUILDERS or any(char in path for char in "*?[")


def has_splits(path: str | Path) -> bool:
    """False for a file, a glob or a folder that `load_rows` can only read whole.

    Args:
        path: As for `load_rows`.
    """
    folder = Path(path)
    if not folder.is_dir():
        return not names_files(str(path))
    if (folder / "state.json").is_file():
        return False
    return bool(_data_files(folder) and not _holds_images(folder)) or any((folder / split).is_dir() for split in SPLITS)


def local_files(path: str | Path, split: str | None, name: str) -> list[str]:
    """Data files of one type that a path and a split mean; none for image folders, saved data sets and hub names.

    Args:
        path: As for `load_rows`.
        split: Split of a folder, "train" by default.
        name: Name of the data set in messages.

    Raises:
        FileNotFoundError: No file matches.
        ValueError: The files have several types, or several could be the split.
    """
    folder = Path(path)
    if folder.is_dir():
        files = [] if any((folder / file).is_file() for file in SAVED) else _files_of_split(folder, split, name)
    elif names_files(str(path)):
        files = sorted(glob.glob(str(path), recursive=True))
        if not files:
            raise FileNotFoundError(f"{name}: no file matches {path}.{how_to_get(path)}")
    else:
        files = []
    types = sorted({file_type(file) for file in files})
    if len(types) > 1 or not set(types) <= set(BUILDERS):
        raise ValueError(f"{name}: there are files of type {', '.join(types)}; give one type of {', '.join(BUILDERS)}.")
    return files


def how_to_get(path: str | Path) -> str:
    """Sentence on the command that makes a missing data set, or "".

    Args:
        path: Path below the folder `data`.
    """
    from clippo.data.known import KNOWN

    parts = Path(path).parts
    name = parts[parts.index("data") + 1] if "data" in parts[:-1] else None
    if name in KNOWN:
        return f" Run `clippo prepare {name}`."
    return " Run `clippo build emoji`." if name == "emoji" else ""


def _data_files(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and file.name not in METADATA)
    return sorted(file for file in files if file_type(file) in BUILDERS)


def _holds_images(folder: Path) -> bool:
    return any(child.suffix.lower() in IMAGES for child in folder.iterdir())


def _files_of_split(folder: Path, split: str | None, name: str) -> list[str]:
    """Data files of a split in a folder; none for a folder of images."""
    files, wanted = _data_files(folder), split or "train"
    found = [file for file in files if file.name.startswith(wanted)]
    if not files or (not found and (_holds_images(folder) or any(child.is_dir() for child in folder.iterdir()))):
        return []  # a folder of images; data files beside them belong to something else
    if not found and split is None and not any(file.name.startswith(SPLITS) for file in files):
        found = files  # nothing is named after a split
    if not found:
        there = ", ".join(file.name for file in files)
        raise FileNotFoundError(
            f"{name}: no {wanted}* file in {folder}; it has {there}. Give the beginning of a name as the split."
        )
    whole = [file for file in found if file.name.partition(".")[0] == wanted]
    if whole and len(found) > 1:
        raise ValueError(
            f"{name}: {', '.join(file.name for file in found)} in {folder} could all be the split {wanted}; leave one, "
            "or parts of one type."
        )
    return [str(file) for file in found]
