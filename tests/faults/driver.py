"""Runs training commands in forked children and stops them at chosen points.

The driver imports the library once, so that a run costs a second. It reads one request a line from standard input, a
JSON object {"function", "argv", "folder", "log", "fault"}, and answers with one line, {"status", "saves", ...}. The
child's output goes to the file `log`. The faults:

    {"kind": "event", "number": n}       before the n-th file operation inside a save of a checkpoint
    {"kind": "anywhere", "number": n}    before the n-th file operation in the output folder, of the whole run
    {"kind": "half", "file": name}       in the middle of a write: half of the file is there
    {"kind": "step", "number": n}        at the beginning of step n
    {"kind": "time", "seconds": s}       after s seconds

`action` says what happens there: "kill" (SIGKILL, the default), "full" (the operation fails with ENOSPC) or "wait" (the
run stands still). `save` delays the kinds "event" and "half" to the n-th save.
"""

import contextlib
import errno
import importlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import safetensors.torch
import torch
import transformers.modeling_utils
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState

from clippo.training.finetuning import FineTuningTrainer
from clippo.training.trainer import ContrastiveTrainer

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}


class Faults:
    """Counts file operations and saves of one run, and stops the run at the point of its fault."""

    def __init__(self, folder: str, report: Path, fault: dict | None):
        self.folder, self.report, self.fault = os.path.realpath(folder), report, fault or {"kind": "none"}
        self.saves, self.events, self.every_event = 0, 0, 0
        self.saving = self.busy = False

    def install(self) -> None:
        for trainer in (ContrastiveTrainer, FineTuningTrainer):
            trainer._save_checkpoint = self._counting(trainer._save_checkpoint)
        if self.fault["kind"] == "step":
            self._stop_at_step()
        if self.fault["kind"] == "half":
            self._stop_half_way(self.fault["file"])
        if self.fault["kind"] == "time":
            # The signal arrives while other threads write, too.
            threading.Timer(self.fault["seconds"], self.stop).start()
        sys.addaudithook(self._audit)

    def stop(self) -> None:
        """Does what the fault says. Does not return after a kill."""
        self.write_report("stopped")
        action = self.fault.get("action", "kill")
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "wait":
            time.sleep(60)
        if action == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_report(self, end: str) -> None:
        self.busy = True
        counts = {"saves": self.saves, "events": self.events, "every_event": self.every_event}
        self.report.write_text(json.dumps({"end": end, "pid": os.getpid(), "inside_save": self.saving, **counts}))
        self.busy = False

    def _counting(self, save):
        def counted(trainer, *args, **kwargs):
            self.saves, self.events, self.saving = self.saves + 1, 0, True
            try:
                return save(trainer, *args, **kwargs)
            finally:
                self.saving = False

        return counted

    def _audit(self, event: str, args: tuple) -> None:
        if self.busy or not self._writes(event, args):
            return
        self.every_event += 1
        self.events += self.saving
        kind, number = self.fault["kind"], self.fault.get("number")
        right_save = self.saving and self.saves >= self.fault.get("save", 1)
        if (kind == "event" and right_save and self.events == number) or (
            kind == "anywhere" and self.every_event == number
        ):
            self.stop()

    def _writes(self, event: str, args: tuple) -> bool:
        """True for an operation that changes something below the output folder."""
        if event == "open":
            path, mode, flags = args
            if not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not set(mode or "") & set("wxa+"):
                return False
        elif event in WRITES:
            path = args[0]
        else:
            return False
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        path = os.fsdecode(path)
        if not os.path.isabs(path) and isinstance(args[-1], int) and args[-1] > 2 and event != "open":
            path = os.path.join(os.readlink(f"/proc/self/fd/{args[-1]}"), path)  # rmtree works relative to folders
        return os.path.abspath(path).startswith(self.folder)

    def _stop_at_step(self) -> None:
        class Stopper(TrainerCallback):
            def on_step_begin(_, args, state, control, **kwargs):
                if state.global_step == self.fault["number"]:
                    self.stop()

        build = Trainer.__init__

        def with_stopper(trainer, *args, **kwargs):
            build(trainer, *args, **kwargs)
            trainer.add_callback(Stopper())

        Trainer.__init__ = with_stopper

    def _stop_half_way(self, name: str) -> None:
        """Replaces the writers of weights, tensors and states by ones that stop after half of a file."""

        def due(path) -> bool:
            return os.path.basename(path) == name and self.saving and self.saves >= self.fault.get("save", 1)

        def half(path, content: bytes) -> None:
            with open(path, "wb") as file:
                file.write(content[: len(content) // 2])
            self.stop()

        save_file, save, save_to_json = safetensors.torch.save_file, torch.save, TrainerState.save_to_json

        def weights(tensors, filename, metadata=None):
            if due(filename):
                half(filename, safetensors.torch.save(tensors, metadata))
            save_file(tensors, filename, metadata=metadata)

        def tensors(value, file, *args, **kwargs):
            if isinstance(file, str | os.PathLike) and due(file):
                buffer = io.BytesIO()
                save(value, buffer, *args, **kwargs)
                half(file, buffer.getvalue())
            save(value, file, *args, **kwargs)

        def state(own, path):
            if due(path):
                half(path, json.dumps(own.log_history).encode() + b" " * 100)
            save_to_json(own, path)

        transformers.modeling_utils.safe_save_file, torch.save, TrainerState.save_to_json = weights, tensors, state


def run(request: dict, report: Path) -> None:
    """The child: redirects its output, installs the fault and runs the command."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    faults = Faults(request["folder"], report, request["fault"])
    faults.install()
    module, function = request["function"].split(":")
    getattr(importlib.import_module(module), function)(request["argv"])
    faults.write_report("finished")


def main() -> None:
    torch.set_num_threads(1)
    for name in ("clippo.training.pretraining", "clippo.tasks.glue.finetune", "clippo.tasks.vqa.finetune"):
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        report = Path(request["log"] + ".report")
        report.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(request, report)
                status = 0
            except SystemExit as end:
                print(end, file=sys.stderr)
                status = 0 if end.code in (None, 0) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        answer = {"status": os.waitstatus_to_exitcode(status)}
        with contextlib.suppress(FileNotFoundError):
            answer |= json.loads(report.read_text())
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
