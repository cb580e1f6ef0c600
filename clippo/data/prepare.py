"""Command `clippo prepare`: data sets of the recipes as parquet files in `data/NAME`.

The files come from the hub, or from a local copy or download: `--from DIR`, or the environment variable CLIPPO_DATA.
"""

import argparse
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset

from clippo.data.known import KNOWN, KnownData
from clippo.data.local_files import BUILDERS
from clippo.data.sources import load_rows

VARIABLE = "CLIPPO_DATA"


def prepare(name: str, output_dir: str | Path = "data", source: str | Path | None = None) -> list[tuple[Path, int]]:
    """Write one data set as parquet files.

    Args:
        name: Key of `KNOWN`.
        output_dir: Folder that gets a folder `name`.
        source: Folder of a local copy or download, or a folder of such folders; None fetches from the hub.

    Returns:
        Paths of the written files and their numbers of rows.

    Raises:
        FileNotFoundError: Nothing usable is below `source`, or the data set cannot be fetched automatically.
        ValueError: The name is unknown, or a column or a split is missing.

    Example:
        >>> prepare("mnist")
        Traceback (most recent call last):
        ValueError: There is no data set 'mnist' to prepare; ...
    """
    if name not in KNOWN:
        raise ValueError(f"There is no data set {name!r} to prepare; choose one of {', '.join(KNOWN)}.")
    known = KNOWN[name]
    target = Path(output_dir) / name
    parts = _local(name, known, Path(source)) if source else _from_hub(name, known)
    written = []
    for part, rows in parts:
        path = target / f"{part}.parquet"
        missing = [column for column in known.columns if column not in rows.column_names]
        if missing:
            names = ", ".join(rows.column_names)
            raise ValueError(f"{name}, {part}: no column {', '.join(missing)}; it has {names}. {known.by_hand}")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(str(path))
        written.append((path, len(rows)))
    absent = [split for split in known.splits if not any(path.name.startswith(split) for path, _ in written)]
    if absent:
        raise ValueError(f"{name}: no split {', '.join(absent)} in {source or known.hub}. {known.by_hand}")
    return written


def _local(name: str, known: KnownData, source: Path) -> Iterator[tuple[str, Dataset]]:
    """Parts of a local copy in prepared or hub columns, or of a raw download."""
    folders = [source / other for other in (name, *known.aliases)] + [source]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"There is no folder {source}; pass the folder of a local copy of {name} with --from.")
    patterns = ["*/*"] if known.folders else ["*", "data/*"]  # the hub keeps its files in a folder data
    found = (file for pattern in patterns for file in folder.glob(pattern))
    files = sorted(file for file in found if file.suffix in BUILDERS and file.suffix != ".tar")
    files = [file for file in files if file.suffix == ".parquet"] or ([] if known.convert else files)
    parts: dict[str, list[Path]] = {}
    for file in files:
        split = file.stem.partition("-0")[0]  # parts are called train-00000-of-00002
        below = f"{file.parent.name}/" if known.folders else ""
        parts.setdefault(below + split, []).append(file)
    for part, own in parts.items():
        rows = concatenate_datasets([load_rows(file) for file in own])
        yield part, _adapted(known, rows, None)
    if not parts:
        splits = known.convert(folder) if known.convert else {}
        if not splits:
            raise FileNotFoundError(f"{folder} holds no files of {name}. {known.by_hand}")
        yield from splits.items()


def _adapted(known: KnownData, rows: Dataset, config: str | None) -> Dataset:
    ready = set(known.columns) <= set(rows.column_names)
    return rows if ready or known.adapt is None else known.adapt(rows, config)


def _from_hub(name: str, known: KnownData) -> Iterator[tuple[str, Dataset]]:
    package = importlib.util.find_spec(known.package) if known.package else None
    if package is not None:
        yield from known.convert(Path(package.origin).parent).items()
        return
    if known.hub is None:
        raise FileNotFoundError(f"{name} cannot be fetched automatically. {known.by_hand}")
    parts: dict[str, list[Dataset]] = {}
    for config in known.configs:
        try:
            splits = load_dataset(known.hub, config) if config else load_dataset(known.hub)
        except (ConnectionError, FileNotFoundError) as error:  # DatasetNotFoundError is a FileNotFoundError
            raise FileNotFoundError(f"{known.hub} cannot be fetched from the hub ({error}). {known.by_hand}") from error
        for split, rows in _named(known, splits).items():
            part = f"{config}/{split}" if known.folders else split
            parts.setdefault(part, []).append(known.adapt(rows, config) if known.adapt else rows)
    for part, own in parts.items():
        yield part, concatenate_datasets(own)


def _named(known: KnownData, splits: DatasetDict) -> dict[str, Dataset]:
    return {dict(known.rename).get(split, split): rows for split, rows in splits.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the data sets that the command line names.

    Args:
        argv: Command line without the program's name; by default `sys.argv[1:]`.

    Raises:
        SystemExit: The data set is unknown, incomplete or must be fetched by hand.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(KNOWN), help="Data sets to prepare.")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        default=os.environ.get(VARIABLE),
        help=f"Folder of a local copy or download, or of several; by default ${VARIABLE}, else the hub.",
    )
    parser.add_argument("--output_dir", default="data", help="Folder that gets a folder of each name.")
    arguments = parser.parse_args(argv)
    try:
        for name in arguments.names:
            for path, count in prepare(name, arguments.output_dir, arguments.source):
                print(f"{path}: {count} rows")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
