"""Checkpoints that are whole or absent, and the choice of the one from which a run resumes.

A checkpoint is written below `_incomplete` and renamed to `checkpoint-STEP` after its last file, a list of all files.
A kill or a full disk during a save leaves only `_incomplete`, which the next start deletes.
"""

import contextlib
import json
import logging
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy, sort_checkpoints

from clippo.training.fingerprint import FILE as FINGERPRINT
from clippo.training.fingerprint import differences, make_fingerprint
from clippo.training.processes import RunRefusedError, on_main_process

logger = logging.getLogger(__name__)

STAGING = "_incomplete"  # Trainer.push_to_hub leaves out folders that begin with _
FILE_LIST = "checkpoint_files.json"
STATE = "trainer_state.json"
# Files of which a checkpoint without a list needs one each, by what they hold. DDP, FSDP and DeepSpeed differ.
WEIGHTS = ("model.safetensors*", "model-*.safetensors", "pytorch_model*", "adapter_model*", "global_step*")
OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")
SCHEDULER = ("scheduler.pt", "global_step*")
RANDOM = ("rng_state*.pth",)


class IncompleteCheckpointError(RunRefusedError):
    """A checkpoint cannot be resumed because a part of it is missing or damaged."""


class ChangedRunError(RunRefusedError):
    """The data, settings or versions of a run differ from those in its checkpoint."""


def why_incomplete(checkpoint: str | Path, weights_only: bool = False) -> str | None:
    """Returns what is wrong with a checkpoint, or None if it is whole.

    Args:
        checkpoint: Folder of the checkpoint. One with a file list is whole when all files have their sizes. One of an
            older version, or of the stock Trainer, is whole when it has the files that it needs.
        weights_only: Whether optimizer, scheduler and random state may be missing (`save_only_model`).
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return "it is not a folder"
    if (folder / FILE_LIST).is_file():
        reason = _against_list(folder)
        if reason:
            return reason
    elif not (folder / STATE).is_file():
        return f"{STATE} is missing"
    try:
        json.loads((folder / STATE).read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError) as error:
        return f"{STATE} cannot be read: {error}"
    kinds = [("model.safetensors", WEIGHTS)]
    if not weights_only:
        kinds += [("optimizer.pt", OPTIMIZER), ("scheduler.pt", SCHEDULER), ("rng_state.pth", RANDOM)]
    for name, patterns in kinds:
        files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
        if not files:
            return f"{name} is missing"
        damaged = [file.name for file in files if file.is_file() and _is_damaged(file)]
        if damaged:
            return f"{', '.join(damaged)} is damaged"
    return None


def _against_list(folder: Path) -> str | None:
    try:
        sizes = json.loads((folder / FILE_LIST).read_text(encoding="utf-8"))
    except ValueError:
        return f"{FILE_LIST} is damaged"
    for name, size in sizes.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (folder / name).stat().st_size != size:
            return f"{name} has {(folder / name).stat().st_size} bytes instead of {size}"
    return None


def _is_damaged(file: Path) -> bool:
    """Returns True for a truncated file. Safetensors have a length in the header, torch files a list at the end."""
    if file.suffix in (".pt", ".pth", ".bin"):
        return not zipfile.is_zipfile(file)
    if file.suffix != ".safetensors":
        return False
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        return file.stat().st_size != 8 + length + end
    except (struct.error, ValueError, KeyError, MemoryError, OverflowError):
        return True


def newest_whole_checkpoint(folder: str | Path, weights_only: bool = False) -> str | None:
    """Returns the newest whole `checkpoint-STEP` of an output folder, or None. A warning names those passed over.

    Args:
        folder: Output folder of the run.
        weights_only: As in `why_incomplete`.

    Raises:
        IncompleteCheckpointError: No checkpoint is whole, but one was and has been damaged since.
    """
    steps = {}
    for path in Path(folder).glob("checkpoint-*"):
        if path.name.removeprefix("checkpoint-").isdigit():
            steps[int(path.name.removeprefix("checkpoint-"))] = path
    passed_over = {}
    for _, path in sorted(steps.items(), reverse=True):
        reason = why_incomplete(path, weights_only)
        if reason is None:
            _warn_of(passed_over, f"resuming from {path.name}")
            return str(path)
        passed_over[path] = reason
    # A kill during a save of an older version leaves no state, since that was written last.
    damaged = [path for path in passed_over if (path / FILE_LIST).is_file() or (path / STATE).is_file()]
    if damaged:
        raise IncompleteCheckpointError(
            f"{damaged[0]} is incomplete ({passed_over[damaged[0]]}) and no other checkpoint is whole; restore the "
            "file, or delete the checkpoint to start from the beginning."
        )
    _warn_of(passed_over, "starting from the beginning")
    return None


def _warn_of(passed_over: Mapping[Path, str], then: str) -> None:
    for path, reason in passed_over.items():
        logger.warning("%s is incomplete (%s); %s.", path.name, reason, then)


@contextlib.contextmanager
def unsharded_class(model: nn.Module) -> Iterator[None]:
    """Gives a model of FSDP2 its own class for a while.

    FSDP2 replaces the class by one that torch defines. A folder that is saved with it has the code of torch and a name
    that nobody can load.
    """
    sharded = type(model)
    model.__class__ = next(base for base in sharded.__mro__ if not issubclass(base, FSDPModule))
    try:
        yield
    finally:
        model.__class__ = sharded


class CheckpointMixin:
    """Mixin for a Trainer whose checkpoints are whole or absent, and hold a fingerprint of their run.

    Args:
        settings: Settings beside `TrainingArguments` that change the weights; part of the fingerprint.

    Raises:
        IncompleteCheckpointError, ChangedRunError: In `find_checkpoint`.
    """

    def __init__(self, *args, settings: Mapping[str, Any] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = settings
        self._fingerprint: dict | None = None
        self._staging: Path | None = None

    @property
    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Fingerprint of the run, see `make_fingerprint`."""
        if self._fingerprint is None:
            self._fingerprint = make_fingerprint(self.args, self.train_dataset, self.settings)
        return self._fingerprint

    def find_checkpoint(self, resume_anyway: bool = False) -> str | None:
        """Returns the checkpoint to resume from: that of `resume_from_checkpoint`, else the newest whole one, or None.

        Every process calls it. It deletes what an interrupted save left.

        Args:
            resume_anyway: Whether to continue with other data, settings or versions than those of the checkpoint.

        Raises:
            IncompleteCheckpointError: The checkpoint is not whole, or there is none although one is asked for.
            ChangedRunError: Data, settings or versions differ.
        """
        return on_main_process(self.args, lambda: self._find_checkpoint(resume_anyway))

    def _find_checkpoint(self, resume_anyway: bool) -> str | None:
        shutil.rmtree(Path(self.args.output_dir) / STAGING, ignore_errors=True)
        checkpoint, _ = _choose_checkpoint(self.args), self.fingerprint  # of the data as they are before training
        if checkpoint is not None:
            logger.info("Resuming from %s", checkpoint)
            if self.args.save_only_model:
                logger.warning(
                    "save_only_model=True, so the optimizer starts without its state and the weights will differ."
                )
            self._check_fingerprint(Path(checkpoint), resume_anyway)
        return checkpoint

    def _check_fingerprint(self, checkpoint: Path, resume_anyway: bool) -> None:
        if not (checkpoint / FINGERPRINT).is_file():
            logger.warning("%s has no fingerprint, so changes of its data and settings cannot be noticed.", checkpoint)
            return
        before = json.loads((checkpoint / FINGERPRINT).read_text(encoding="utf-8"))
        changed = differences(before, self.fingerprint)
        if changed and not resume_anyway:
            raise ChangedRunError(
                f"{checkpoint} belongs to a run with other inputs: {'; '.join(changed)}. Restore them, choose another "
                "output_dir, or pass --resume_anyway to continue with the new ones."
            )
        if changed:
            logger.warning("%s is resumed with other inputs: %s.", checkpoint, "; ".join(changed))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with unsharded_class(self.accelerator.unwrap_model(self.model, keep_torch_compile=False)):
            super()._save(output_dir, state_dict)

    # Trainer asks this method where to write a checkpoint, and takes its name from the step.
    def _get_output_dir(self, trial=None) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model, trial=None) -> None:
        run, name = Path(super()._get_output_dir(trial)), f"checkpoint-{self.state.global_step}"
        staging = run / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()  # otherwise one process deletes what another writes
        try:
            self._write_checkpoint(staging, model, trial)
            self._note_best_checkpoint(run)
            self.accelerator.wait_for_everyone()  # every process has written its random state
            if self.args.should_save:
                self._complete(staging / name)
                _publish(staging / name, run / name)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)  # a full disk has room for the logs again
            raise
        self.accelerator.wait_for_everyone()
        if self.args.local_process_index == 0 and (staging / name).is_dir():  # a node without a shared file system
            _publish(staging / name, run / name)
        if self.args.should_save:
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(run / name))
            _rotate(run, self.args.save_total_limit, self.state.best_model_checkpoint)

    def _write_checkpoint(self, staging: Path, model, trial) -> None:
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:  # the upload runs in the background, so it waits for the name that stays
            super()._push_from_checkpoint(checkpoint_folder)

    def _note_best_checkpoint(self, run: Path) -> None:
        """Sets the final path of the best checkpoint, for which Trainer looked below the staging folder."""
        best = self.state.best_global_step
        if not best or self.args.save_strategy not in (SaveStrategy.STEPS, SaveStrategy.EPOCH, SaveStrategy.BEST):
            return
        path = run / f"checkpoint-{best}"
        if best == self.state.global_step or path.is_dir():
            self.state.best_model_checkpoint = str(path)

    def _complete(self, checkpoint: Path) -> None:
        """Writes the files that make a checkpoint whole; the list of all files is the last one."""
        self.state.save_to_json(str(checkpoint / STATE))  # with the path of the best checkpoint
        (checkpoint / FINGERPRINT).write_text(json.dumps(self.fingerprint, indent=2), encoding="utf-8")
        files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
        sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
        (checkpoint / FILE_LIST).write_text(json.dumps(sizes, indent=2), encoding="utf-8")


def _choose_checkpoint(args: TrainingArguments) -> str | None:
    wanted = args.resume_from_checkpoint
    if wanted is None or str(wanted).lower() in ("true", "false"):  # the command line has strings
        newest = newest_whole_checkpoint(args.output_dir, args.save_only_model)
        if newest is None and str(wanted).lower() == "true":
            raise IncompleteCheckpointError(f"There is no whole checkpoint in {args.output_dir} to resume from.")
        return None if str(wanted).lower() == "false" else newest
    reason = why_incomplete(wanted, args.save_only_model)
    if reason is not None:
        raise IncompleteCheckpointError(f"{wanted} is incomplete ({reason}); choose another checkpoint.")
    return str(wanted)


def _publish(written: Path, final: Path) -> None:
    """Gives a whole checkpoint its name; an older folder of that name is deleted."""
    if final.exists():
        os.rename(final, written.with_name(f"old-{final.name}"))
    os.rename(written, final)
    shutil.rmtree(written.parent, ignore_errors=True)


def _rotate(run: Path, limit: int | None, best: str | None) -> None:
    """Deletes the oldest checkpoints beyond the limit; the newest and the best one are kept.

    Each is moved to the staging folder first. A kill during the deletion then leaves no half of a checkpoint.
    """
    checkpoints = [Path(path) for path in sort_checkpoints(str(run), use_mtime=True)]
    kept = {checkpoints[-1], *([Path(best)] if best else [])}
    excess = len(checkpoints) - max(limit, len(kept)) if limit and limit > 0 else 0
    for checkpoint in [path for path in checkpoints if path not in kept][: max(excess, 0)]:
        (run / STAGING).mkdir(exist_ok=True)
        os.rename(checkpoint, run / STAGING / f"old-{checkpoint.name}")
    shutil.rmtree(run / STAGING, ignore_errors=True)
