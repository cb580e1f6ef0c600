"""Files of the official CLIPPO, six checkpoints and a font, found locally or downloaded.

The checkpoints are too large to ship with this package, and the font is GPL. A download gets its final name only when
it is complete.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from transformers.utils import logging

logger = logging.get_logger(__name__)

# name -> training data. All are B/16 at 224 pixels (big_vision `configs/proj/clippo/README.md`).
RELEASED_CHECKPOINTS = {
    "clippo_b16_yfcc100m": "YFCC-100M, 250k steps",
    "clippo_b16_yfcc100m_i21k_init": "YFCC-100M from an ImageNet-21k start, 250k steps",
    "clippo_b16_yfcc100m_i21k_init_25c4": "YFCC-100M + 25% C4 from an ImageNet-21k start, 333k steps",
    "clippo_b16_yfcc100m_i21k_init_50c4": "YFCC-100M + 50% C4 from an ImageNet-21k start, 500k steps",
    "clippo_b16_yfcc100m_i21k_init_75c4": "YFCC-100M + 75% C4 from an ImageNet-21k start, 500k steps",
    "clippo_b16_100c4": "C4 only, 250k steps",
}
CHECKPOINT_BUCKET = "gs://big_vision/clippo/"
CHECKPOINT_URL = "https://storage.googleapis.com/big_vision/clippo/"  # the same bucket, without Google's tools

# big_vision `pp/proj/clippo/download_unifont.sh` fetches these two; the hashes are those of the unpacked files.
FONT_URL = "https://unifoundry.com/pub/unifont/unifont-9.0.06/font-builds/"
FONT_SHA256 = {
    "unifont-9.0.06.hex": "099d8f0c6027ed1effa4a452a5c0874a012a6ee3ab5b1cd346aa3fbeb3368fda",
    "unifont_upper-9.0.06.hex": "d78af92c44332a8e32bbc1325fa920c06acfc28515034b2bba31c055a962b78c",
}
FONT_FOLDERS_VARIABLE = "CLIPPO_FONTS"  # clippo.processing looks fonts up by name in the same variable

DOWNLOAD_TIMEOUT_SECONDS = 60  # longest wait for the next byte


class OfficialFileError(ValueError):
    """An official file cannot be found or downloaded, or has another hash. The message names the remedy."""


def default_cache_dir() -> Path:
    """Folder that keeps downloads: `clippo/` beside the other caches of Hugging Face."""
    return Path(HF_HOME) / "clippo"


def find_checkpoint(source: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> Path:
    """Find a big_vision checkpoint by its path or its released name. Only a released name is downloaded.

    The released files have no published checksum. A download is checked against its announced length, and each array
    against its CRC when it is read.

    Args:
        source: A path, or one of `RELEASED_CHECKPOINTS`, with or without ".npz" and the gs:// path of the bucket.
        cache_dir: Folder that keeps downloads (default: `default_cache_dir()`).

    Returns:
        Path of the file.

    Raises:
        OfficialFileError: There is no such file and no such name, or the download failed.
    """
    path = Path(source)
    if path.is_file():
        return path
    name = str(source).removeprefix(CHECKPOINT_BUCKET).removesuffix(".npz")
    if name not in RELEASED_CHECKPOINTS:
        raise OfficialFileError(
            f"{str(source)!r} is neither a file nor a released checkpoint; those are {', '.join(RELEASED_CHECKPOINTS)}."
        )
    cached = Path(cache_dir or default_cache_dir()) / f"{name}.npz"
    if not cached.is_file():
        by_hand = f"get {CHECKPOINT_BUCKET}{name}.npz by other means and pass the path of the file"
        download(f"{CHECKPOINT_URL}{name}.npz", cached, by_hand)
    return cached


def find_official_font(
    folder: str | os.PathLike | None = None, cache_dir: str | os.PathLike | None = None
) -> list[Path]:
    """Find the two `.hex` files of Unifont 9.0.06, the font of the released checkpoints, and check their sha256.

    Args:
        folder: Folder of the files, unpacked or as `.hex.gz`. Default: the folders that the environment variable
            `CLIPPO_FONTS` names. If it is not set, the cache folder or, the first time, unifoundry.com.
        cache_dir: Folder that keeps downloads and unpacked files (default: `default_cache_dir()`).

    Raises:
        OfficialFileError: A file is missing from the folder, has another hash, or cannot be downloaded.
    """
    folders = [folder] if folder else os.environ.get(FONT_FOLDERS_VARIABLE, "").split(os.pathsep)
    folders = [Path(path) for path in folders if path]
    cache_dir = Path(cache_dir or default_cache_dir())
    paths = []
    for name in FONT_SHA256:
        if folders:
            path = _find_font_file(folders, name, cache_dir)
        else:
            path = cache_dir / name
            if not path.is_file():
                packed = cache_dir / f"{name}.gz"
                by_hand = f"put {' and '.join(FONT_SHA256)} in a folder and pass it, or set {FONT_FOLDERS_VARIABLE}"
                download(f"{FONT_URL}{name}.gz", packed, by_hand)
                try:
                    _unpack(packed, path)
                finally:
                    packed.unlink()
        check_font_file(path)
        paths.append(path)
    return paths


def check_font_file(path: Path) -> None:
    """Raise OfficialFileError if a file has the name of an official font and other content."""
    _check_font(path.read_bytes(), path.name, path)


def resolve_font(
    font: str | os.PathLike | Sequence[str | os.PathLike] = "official", cache_dir: str | os.PathLike | None = None
) -> list[Path] | None:
    """Resolve the `font` option of a conversion to the files that `FontChain.from_source` reads.

    Args:
        font: "official" (Unifont 9.0.06, see `find_official_font`), "default" (the packaged font), a folder that
            holds the official files, or font files. Of several files the first that has a character is used for it.
        cache_dir: As in `find_official_font`.

    Returns:
        Font files in order, or None for the packaged font.

    Raises:
        OfficialFileError: A file is missing, or a file with an official name has another hash.
    """
    fonts = [font] if isinstance(font, (str, os.PathLike)) else list(font)
    if fonts == ["official"]:
        return find_official_font(cache_dir=cache_dir)
    if fonts == ["default"]:
        logger.warning(
            "Using the packaged Unifont 15.0.01 instead of the official 9.0.06: 45 of the 147 reference strings render "
            "differently (none of those in ASCII, Chinese, Korean, Arabic or Hebrew)."
        )
        return None
    if len(fonts) == 1 and Path(fonts[0]).is_dir():
        return find_official_font(fonts[0], cache_dir)
    paths = [Path(name) for name in fonts]
    for path in paths:
        if not path.is_file():
            raise OfficialFileError(f"There is no font {path}; pass 'official', 'default', a folder or font files.")
        if path.name in FONT_SHA256:
            check_font_file(path)
    if [path.name for path in paths] != list(FONT_SHA256):
        logger.warning(
            f"The font {', '.join(path.name for path in paths)} is not the official one ({', '.join(FONT_SHA256)}); "
            "the released checkpoints were trained with that one, and other glyphs change their embeddings."
        )
    return paths


def download(url: str, target: Path, by_hand: str) -> None:
    """Download `url` to `target`. The file appears only when it is complete.

    Args:
        url: Address with https, http or file.
        target: File to write. Its folder is created.
        by_hand: Advice for the user, appended to the error.

    Raises:
        OfficialFileError: There is no connection, an HTTP error, or fewer bytes than announced.
    """
    logger.warning(f"Downloading {url} to {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        partial = Path(scratch) / target.name
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response, partial.open("wb") as file:
                shutil.copyfileobj(response, file, length=1 << 20)
                announced = response.headers.get("Content-Length")
        except (OSError, urllib.error.URLError) as error:
            raise OfficialFileError(f"Could not download {url} ({error}): {by_hand}.") from error
        if announced is not None and partial.stat().st_size != int(announced):
            raise OfficialFileError(
                f"Only {partial.stat().st_size} of {announced} bytes of {url} arrived: try again, or {by_hand}."
            )
        os.replace(partial, target)


def _find_font_file(folders: Sequence[Path], name: str, cache_dir: Path) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.gz").is_file():
            _unpack(folder / f"{name}.gz", cache_dir / name)
            return cache_dir / name
    searched = ", ".join(map(str, folders))
    raise OfficialFileError(f"The folder {searched} has neither {name} nor {name}.gz; get it from {FONT_URL}{name}.gz.")


def _check_font(content: bytes, name: str, origin: Path) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != FONT_SHA256[name]:
        raise OfficialFileError(
            f"{origin} is not the official font {name}: its sha256 is {actual}, not {FONT_SHA256[name]}; replace it."
        )


def _unpack(packed: Path, target: Path) -> None:
    try:
        content = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise OfficialFileError(f"{packed} is not a whole gzip file ({error}); download it again.") from error
    _check_font(content, target.name, packed)  # checked before it gets its name, so a wrong file is not kept
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, target)
