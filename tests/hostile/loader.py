"""Opens folders in forked children with a memory and a time limit, and says how each attempt ended.

A request is one line of JSON, {"folder", "kind", "seconds", "megabytes"}, and so is the answer, {"end", "message"}.
`kind` is "model", "processor" or "pipeline". `end` is one of:

    loaded   the folder was opened and used
    refused  an error that is meant for users
    foreign  another exception that transformers raised, before or after it called clippo
    error    another exception, of clippo or of what clippo called
    crash    the process died
    hang     the time was over
"""

import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, pipeline

import clippo

CODE = [Path(module.__file__).parent for module in (clippo, clippo.modeling_clippo, clippo.processing)]
REFUSALS = (ValueError, OSError, StrictDataclassError, SafetensorError)


def load(folder: str, kind: str) -> None:
    """Loads a folder without trust in its code and uses what was loaded once."""
    if kind == "model":
        AutoConfig.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder)
        side = model.config.image_size
        height, width = (side, side) if isinstance(side, int) else side
        with torch.no_grad():
            model(pixel_values=torch.zeros(1, 3, height, width), text_pixel_values=torch.zeros(1, 1, height, width))
    elif kind == "processor":
        processor = AutoProcessor.from_pretrained(folder)
        processor(text=["abc"], images=torch.zeros(3, 8, 8), return_tensors="pt")
        AutoTokenizer.from_pretrained(folder)("abc")
    else:
        classify = pipeline("zero-shot-image-classification", folder)
        classify(clippo_image(), candidate_labels=["a", "b"])


def clippo_image():
    from PIL import Image

    return Image.new("RGB", (8, 8), "red")


def child(request: dict, answer: Path) -> None:
    current = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = current + request["megabytes"] * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(request["seconds"])
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # also what libraries in other languages print
        os.dup2(nowhere, stream)
    end, message = "loaded", ""
    try:
        load(request["folder"], request["kind"])
    except REFUSALS as error:
        end, message = "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:
        files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        ours = [any(file.is_relative_to(folder) for folder in CODE) for file in files]
        theirs = [file.is_relative_to(Path(transformers.__file__).parent) for file in files]
        last = max((i for i in range(len(files)) if ours[i] or theirs[i]), default=0)
        end = "error" if ours[last] else "foreign"
        message = f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error)[-6:])}"
    answer.write_text(json.dumps({"end": end, "message": message}))
    os._exit(0)


def main() -> None:
    torch.set_num_threads(1)
    assert clippo.ClippoModel  # The Auto classes know CLIPPO after its import.
    answer = Path(tempfile.mkdtemp()) / "answer.json"
    for line in sys.stdin:
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            try:
                child(json.loads(line), answer)
            finally:
                os._exit(3)  # Reached only if the report of an error failed too.
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGALRM:
            print(json.dumps({"end": "hang", "message": ""}), flush=True)
        elif code:
            print(json.dumps({"end": "crash", "message": f"status {code}"}), flush=True)
        else:
            print(answer.read_text(), flush=True)


if __name__ == "__main__":
    main()
