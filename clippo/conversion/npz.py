"""big_vision's parameter archives: flat `.npz` files whose keys are paths such as `params/img/head/bias`.

Source: big_vision `utils.py` (`load_checkpoint_np`, `save_checkpoint`).
"""

import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

# Prefixes of the keys of an archive. The released files use "params/" and hold the optimizer's state beside it. If
# several are present the first one counts, as in the official loader.
LAYOUTS = {"params": "params/", "flax": "opt/target/", "bare": ""}

UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)  # NumPy's errors for damaged entries


class ConversionError(ValueError):
    """A checkpoint cannot be converted. The message is one sentence that names the cause.

    Example:
        >>> from clippo.conversion import ConversionError, read_checkpoint
        >>> try:
        ...     read_checkpoint("missing.npz")
        ... except ConversionError as error:
        ...     print(error)
        There is no file missing.npz.
    """


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the parameters of a big_vision `.npz` under their bare names (`img/...`, `t`), in float32.

    Optimizer state and clocks beside the parameters are not read. Nothing is unpickled. A scanned encoder
    (`encoderblock/...` with the layers on the first axis) is split into `encoderblock_0/...` and so on.

    Args:
        path: File in one of the three layouts of `LAYOUTS`.

    Raises:
        ConversionError: The file is no archive, is damaged, holds pickled objects, or holds another kind of number.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ConversionError(
            f"{path} ({path.stat().st_size} bytes) is not an .npz archive or was cut short; download or copy it again."
        )
    try:
        archive = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise ConversionError(f"The archive {path} cannot be opened ({error}); download or copy it again.") from error
    params = {}
    with archive:
        entries = archive.files
        prefix = next((start for start in LAYOUTS.values() if any(entry.startswith(start) for entry in entries)), "")
        for entry in entries:
            if entry.startswith(prefix):
                params[entry.removeprefix(prefix)] = _read_entry(archive, entry, path)
    return _unscan(params)


def _read_entry(archive: np.lib.npyio.NpzFile, entry: str, path: Path) -> np.ndarray:
    try:
        array = archive[entry]
    except UNREADABLE as error:
        if "allow_pickle" in str(error):
            raise ConversionError(
                f"Entry {entry!r} of {path} holds pickled Python objects, which could run code when opened; "
                "only plain arrays are read."
            ) from error
        raise ConversionError(
            f"Entry {entry!r} of {path} is damaged ({error}); download or copy the file again."
        ) from error
    if not isinstance(array, np.ndarray):
        raise ConversionError(f"Entry {entry!r} of {path} is not a NumPy array; pass a big_vision checkpoint.")
    if array.dtype == np.dtype("V2"):  # JAX's bfloat16 in NumPy: the upper half of a float32
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype not in (np.float32, np.float16):
        raise ConversionError(f"Entry {entry!r} of {path} holds {array.dtype}, not float32, float16 or bfloat16.")
    return array.astype(np.float32, copy=False)


def _unscan(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    single = {}
    scanned = "img/Transformer/encoderblock/"
    for key, array in params.items():
        if not key.startswith(scanned):
            single[key] = array
            continue
        if array.ndim == 0:
            raise ConversionError(f"{key!r} belongs to a scanned encoder, but it has no axis of layers.")
        for i, layer in enumerate(array):
            single[f"img/Transformer/encoderblock_{i}/{key.removeprefix(scanned)}"] = layer
    return single


def write_checkpoint(params: dict[str, np.ndarray], path: str | os.PathLike, layout: str = "params") -> None:
    """Write parameters as a big_vision `.npz`; equal numbers give equal bytes.

    Args:
        params: Parameters under their bare names.
        path: File to write. It appears only when it is complete.
        layout: A key of `LAYOUTS`; "params" is what the official `load_checkpoint(...)["params"]` reads.
    """
    if layout not in LAYOUTS:
        raise ConversionError(f"Unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        partial = Path(scratch) / path.name
        with partial.open("wb") as file:
            np.savez(file, **{LAYOUTS[layout] + key: params[key] for key in sorted(params)})
        os.replace(partial, path)


def same_bits(a: np.ndarray, b: np.ndarray | None) -> bool:
    """Compare shape, dtype and bytes. Unlike `==` this tells -0 from 0, and a NaN equals itself."""
    return b is not None and a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
