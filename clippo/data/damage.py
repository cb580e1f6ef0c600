"""Damaged data files: finding the one that cannot be read to its end."""

import glob
import logging
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet

logger = logging.getLogger(__name__)


def check_shard(file: str, name: str) -> None:
    """Raise `ValueError` for a tar archive without its end, which Python's tarfile accepts as complete.

    Args:
        file: The archive. A complete one ends with two blocks of zeros.
        name: Name of the source in the message.
    """
    size = Path(file).stat().st_size
    with open(file, "rb") as archive:
        archive.seek(max(0, size - 1024))
        if size % 512 or archive.read().strip(b"\0"):
            raise ValueError(
                f"{name}: the shard {file} was cut short; download it again or take it out of the pattern."
            )


def find_unreadable(pattern: str, name: str) -> str | None:
    """Path of the first local tar or parquet file that cannot be read to its end, or None.

    It reads the headers of tar archives and the whole of parquet files, so it may take as long as one pass.

    Args:
        pattern: Glob of the files.
        name: Name of the source in the log.
    """
    files = sorted(glob.glob(pattern, recursive=True))
    if len(files) > 1:
        logger.warning("%s: one of %d files cannot be read; searching for it.", name, len(files))
    for file in files:
        try:
            if file.endswith(".tar"):
                with tarfile.open(file) as archive:
                    for _ in archive:
                        pass
            elif file.endswith(".parquet"):
                with parquet.ParquetFile(file) as table:
                    for _ in table.iter_batches():
                        pass
            elif len(files) == 1:
                return file
        except (OSError, EOFError, tarfile.TarError, pyarrow.ArrowException):
            return file
    return None
