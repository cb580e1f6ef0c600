"""WebDataset shards (tar archives), read so that a damaged shard is an error.

Python's tarfile takes a damaged header for the end of the archive, and the samples after it would be lost in silence.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import ArchiveIterable

END = 1024  # bytes of zeros that end an archive


class _StrictTarInfo(tarfile.TarInfo):
    """Header that raises `tarfile.ReadError` unless it is whole, or the zeros that end the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictTarInfo":
        start = archive.offset
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            while rest := archive.fileobj.read(1 << 16):
                if rest.strip(b"\0"):
                    raise tarfile.ReadError(f"zeros in place of a header at byte {start}, before the end") from None
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged header at byte {start}: {error}") from error


def read_members(file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of the files in an archive, hidden ones excluded.

    Args:
        file: Open archive.

    Raises:
        tarfile.TarError: The archive is damaged.
    """
    with tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictTarInfo) as archive:
        for member in archive:
            if member.isreg() and not os.path.basename(member.name).startswith((".", "__")):
                yield member.name, archive.extractfile(member)
            archive.members = []  # else it keeps the headers of all files


class _StrictArchive(ArchiveIterable):
    _iter_tar = staticmethod(read_members)


class _StrictDownloads:
    """Download manager whose archives are read strictly."""

    def __init__(self, downloads: Any):
        self._downloads = downloads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._downloads, name)

    def iter_archive(self, path: str) -> _StrictArchive:
        """Members of a local archive."""
        return _StrictArchive.from_urlpath(path)


class ShardBuilder(WebDataset):
    """The WebDataset builder of `datasets`, with strict archives."""

    def _split_generators(self, dl_manager: Any) -> list:
        return super()._split_generators(_StrictDownloads(dl_manager))


def open_shards(files: list[str], streaming: bool) -> Any:
    """Rows of local WebDataset shards.

    Args:
        files: The archives.
        streaming: Read rows as they are needed.

    Raises:
        tarfile.TarError: An archive is damaged where it is read.
    """
    builder = ShardBuilder(data_files={"train": files})
    if streaming:
        return builder.as_streaming_dataset(split="train")
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


def check_end(file: str, name: str) -> None:
    """Raise `ValueError` for an archive without its end, which takes no pass over the file.

    Args:
        file: The archive.
        name: Name of the data set in the message.
    """
    size = Path(file).stat().st_size
    with open(file, "rb") as archive:
        archive.seek(max(0, size - END))
        if not size or size % tarfile.BLOCKSIZE or archive.read().strip(b"\0"):
            raise ValueError(
                f"{name}: the shard {file} was cut short; download it again or take it out of the pattern."
            )
