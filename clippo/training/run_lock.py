"""Lock of an output folder: one run at a time writes to it.

The operating system releases the lock when the process that holds it ends, however it ends. The lock file remains, and
it is not locked then.
"""

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from transformers import TrainingArguments

from clippo.training.processes import RunRefusedError, on_main_process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
_HELD: set[str] = set()  # paths that this process holds; a record lock does not keep out its own process


class RunInProgressError(RunRefusedError):
    """Another run holds the output folder."""


@contextlib.contextmanager
def run_lock(args: TrainingArguments) -> Iterator[None]:
    """Holds the lock of `args.output_dir`; all processes of a run enter together.

    Raises:
        RunInProgressError: Another run holds it. The message names its host, process and start.

    Example:
        >>> import tempfile
        >>> from transformers import TrainingArguments
        >>> from clippo.training.run_lock import run_lock
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with run_lock(TrainingArguments(folder, use_cpu=True)):
        ...         "this run alone writes here"
        'this run alone writes here'
    """
    path = Path(args.output_dir) / LOCK_FILE
    held = []  # of the main process
    on_main_process(args, lambda: held.append(_acquire(path)))
    try:
        yield
    finally:
        for file in held:
            _release(path, file)


def _acquire(path: Path) -> int | None:
    if fcntl is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    if str(path.resolve()) in _HELD:  # before the file is opened: closing it again would release the lock
        raise RunInProgressError(_refusal(path))
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # A record lock and not flock, which workers of a data loader inherit and may hold after this process died.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError | PermissionError):
            raise RunInProgressError(_refusal(path)) from None
        logger.warning("%s cannot be locked (%s); nothing keeps a second run out of this folder.", path, error)
        return None
    _HELD.add(str(path.resolve()))
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    os.ftruncate(file, 0)
    os.write(file, json.dumps(holder).encode())
    return file


def _refusal(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # the holder has not written its name yet
        who = "another process"
    return f"{path.parent} is in use by {who}; wait for it, end it, or choose another output_dir."


def _release(path: Path, file: int | None) -> None:
    if file is not None:
        _HELD.discard(str(path.resolve()))
        os.close(file)
