"""Tiny training runs of every command, in child processes that can be killed."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from ..conftest import ROOT
from ..tiny import save_tiny

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
STEPS, SAVE_STEPS = 8, 2
COMMON = [
    "--max_steps", STEPS, "--save_strategy", "steps", "--save_steps", SAVE_STEPS, "--save_total_limit", 2,
    "--per_device_train_batch_size", 4, "--per_device_eval_batch_size", 8, "--logging_steps", 1, "--learning_rate",
    0.01, "--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true", "--attn_implementation", "eager",
]  # fmt: skip


@dataclass
class Outcome:
    """End of one run: exit status (-9 after a kill), output, and the counts of the driver."""

    status: int
    output: str
    saves: int = 0
    events: int = 0
    every_event: int = 0
    inside_save: bool = False
    end: str = ""
    pid: int = 0


class Driver:
    """The process of `driver.py`, which runs one command at a time."""

    def __init__(self, folder: Path):
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    def start(self, command: "Command", output_dir: Path, fault: dict | None = None, options=()) -> None:
        self.log = self.folder / "log.txt"
        request = {
            "function": command.function,
            "argv": [*map(str, (*command.arguments, *COMMON, "--output_dir", output_dir, *options))],
            "folder": str(output_dir),
            "log": str(self.log),
            "fault": fault,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def wait(self) -> Outcome:
        answer = json.loads(self.process.stdout.readline())
        return Outcome(output=self.log.read_text(errors="replace"), **answer)

    def run(self, command: "Command", output_dir: Path, fault: dict | None = None, options=()) -> Outcome:
        self.start(command, output_dir, fault, options)
        return self.wait()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


@dataclass
class Command:
    """A training command on tiny data.

    Args:
        name: "pretrain", "glue" or "vqa".
        function: "module:main".
        arguments: Everything but COMMON and --output_dir.
        model: Folder of the final model below the output folder.
        run: Folder of the checkpoints below the output folder.
        data: Data file that the command reads.
    """

    name: str
    function: str
    arguments: list
    model: str
    run: str
    data: Path

    def weights(self, output_dir: Path) -> dict[str, bytes]:
        """Final weights as bytes."""
        tensors = load_file(output_dir / self.model / "model.safetensors")
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}

    def checkpoints(self, output_dir: Path) -> list[str]:
        """Names of the checkpoints, oldest first."""
        folders = (output_dir / self.run).glob("checkpoint-*")
        return [path.name for path in sorted(folders, key=lambda path: int(path.name.rpartition("-")[2]))]


def _images(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


def write_pretraining_data(path: Path, order=range(16)) -> None:
    images = _images(16)
    rows = {"image": [images[i] for i in order], "caption": [f"word{i} x" for i in order]}
    features = datasets.Features(image=datasets.Image(), caption=datasets.Value("string"))
    datasets.Dataset.from_dict(rows, features).to_parquet(str(path))


def write_questions(path: Path, order=range(16)) -> None:
    images = _images(16)
    rows = {
        "image": [images[i] for i in order],
        "question": ["red?" for _ in order],
        "answer": [("yes", "no")[i % 2] for i in order],
    }
    features = datasets.Features(
        image=datasets.Image(), question=datasets.Value("string"), answer=datasets.Value("string")
    )
    datasets.Dataset.from_dict(rows, features).to_parquet(str(path))


def write_sentences(path: Path, order=range(16)) -> None:
    rows = {"sentence": [f"word{i} x" for i in order], "label": [i % 2 for i in order]}
    datasets.Dataset.from_dict(rows).to_parquet(str(path))


WRITERS = {"pretrain": write_pretraining_data, "vqa": write_questions, "glue": write_sentences}


def make_command(name: str, folder: Path) -> Command:
    """Writes the data of a command to a folder and returns the command."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = json.dumps({**SHAPE, "image_size": 32})
    if name == "glue":
        (folder / "sst2").mkdir(exist_ok=True)
        data = folder / "sst2" / "train.parquet"
        write_sentences(data)
        write_sentences(folder / "sst2" / "validation.parquet", range(8))
        model = save_tiny(folder / "model", **SHAPE, image_size=32)
        arguments = ["--model", model, "--tasks", "sst2", "--seeds", 0, "--data_dir", folder, "--baselines", "false"]
        arguments += ["--keep_models", "true", "--eval_strategy", "steps", "--eval_steps", SAVE_STEPS]
        return Command(name, "clippo.tasks.glue.finetune:main", arguments, "sst2/seed-0", "sst2/seed-0", data)
    data = folder / "train.parquet"
    WRITERS[name](data)
    if name == "vqa":
        arguments = ["--preset", "Ti/16", "--config_overrides", json.dumps(SHAPE), "--image_size", 48, 32]
        arguments += ["--train", data, "--validation", data, "--flip", "true"]
        return Command(name, "clippo.tasks.vqa.finetune:main", arguments, ".", ".", data)
    sources = json.dumps([{"path": str(data), "caption_columns": ["caption"]}])
    arguments = ["--preset", "Ti/16", "--config_overrides", shape, "--sources", sources, "--flip", "true"]
    return Command(name, "clippo.training.pretraining:main", arguments, ".", ".", data)


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The driver of all tests."""
    made = Driver(tmp_path_factory.mktemp("driver"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """The three commands by name."""
    folder = tmp_path_factory.mktemp("data")
    return {name: make_command(name, folder / name) for name in WRITERS}


@pytest.fixture(scope="session")
def uninterrupted(driver, commands, tmp_path_factory):
    """Function: name of a command -> outcome and output folder of its uninterrupted run, made once."""
    made = {}

    def run(name: str) -> tuple[Outcome, Path]:
        if name not in made:
            output_dir = tmp_path_factory.mktemp("whole") / name
            outcome = driver.run(commands[name], output_dir)
            assert outcome.status == 0, outcome.output
            made[name] = outcome, output_dir
        return made[name]

    return run
