"""A saved folder works through trust_remote_code=True where the package is not installed.

Each check runs in its own interpreter, in which importing `clippo` fails and the module cache is empty.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import pipeline
from transformers.dynamic_module_utils import get_relative_imports

import clippo
from clippo.modeling_clippo.configuration_clippo import AUTO_MAP

from ..conftest import ROOT

LABELS = ["cat", "собака", "鳥"]
TEXTS = ["a fine film", "плохо"]
SPLIT = dict(num_experts=2, modality_norms=True, num_modality_layers=1, image_stem="conv", image_branch_layers=[1])
ANSWERS = {0: "yes", 1: "no", 2: "red"}

# Run with `python -I`: neither the working directory nor PYTHONPATH is on sys.path. Its argument is a JSON list of
# tasks, each of which names a folder, what to do with it, and where to save what was loaded.
PROGRAM = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("clippo", "modeling_clippo", "processing"):
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, NoPackage())
try:
    import clippo
    raise SystemExit("the package can be imported, so this proves nothing")
except ModuleNotFoundError:
    pass

import torch
import transformers
from PIL import Image
from transformers import pipeline

def origin(thing):
    cls = thing if isinstance(thing, type) else type(thing)
    return cls.__module__.split(".")[0] + ":" + cls.__name__

answers = []
for task in json.loads(sys.argv[1]):
    folder, trust = task["folder"], {"trust_remote_code": True}
    answer = {"classes": {}}
    for name in task["auto"]:
        thing = getattr(transformers, name).from_pretrained(folder, **trust)
        answer["classes"][name] = origin(thing)
        if name in task["save"]:
            thing.save_pretrained(task["save_to"])
    for name in task["pipelines"]:
        pipe = pipeline(name, model=folder, **trust)
        answer["classes"][name] = origin(pipe.model)
        photos = [Image.open(path) for path in task["photos"]]
        if name == "zero-shot-image-classification":
            answer[name] = pipe(photos, candidate_labels=task["labels"])
        elif name == "text-classification":
            answer[name] = pipe(task["texts"], top_k=None)
        elif name == "visual-question-answering":
            answer[name] = pipe(image=photos, question="what is it?")
            answer["pipeline"] = origin(pipe)
        elif name == "image-feature-extraction":
            answer[name] = pipe(photos, pool=True)
        elif name == "image-text-to-text":
            answer[name] = pipe(photos, "caption en", max_new_tokens=5)
            answer["pipeline"] = origin(pipe)
        else:
            answer[name] = pipe(photos)
    answers.append(answer)
print("ANSWERS" + json.dumps(answers))
"""

AUTO = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForZeroShotImageClassification",
    "AutoModelForImageClassification",
    "AutoModelForSequenceClassification",
    "AutoModelForVisualQuestionAnswering",
    "AutoTokenizer",
    "AutoImageProcessor",
    "AutoProcessor",
]
CLASSES = {
    "AutoConfig": "ClippoConfig",
    "AutoModel": "ClippoModel",
    "AutoModelForZeroShotImageClassification": "ClippoModel",
    "AutoModelForImageClassification": "ClippoForImageClassification",
    "AutoModelForSequenceClassification": "ClippoForSequenceClassification",
    "AutoModelForVisualQuestionAnswering": "ClippoForVisualQuestionAnswering",
    "AutoModelForImageTextToText": "ClippoForConditionalGeneration",
    "AutoTokenizer": "ClippoTokenizer",
    "AutoImageProcessor": "ClippoImageProcessor",
    "AutoProcessor": "ClippoProcessor",
}


def run_without_package(tasks: list[dict], cwd) -> list[dict]:
    """Run the program in a fresh interpreter with an empty module cache below `cwd`, and return an answer a task."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_MODULES_CACHE": str(cwd / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, json.dumps(tasks)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS")]
    return json.loads(line.removeprefix("ANSWERS"))


@pytest.fixture(scope="module")
def folders(save_tiny):
    """Models: packed text and skipped patches, a text classifier, a tower, questions on one canvas and on two."""
    fused = save_tiny(clippo.ClippoForVisualQuestionAnswering, id2label=ANSWERS, num_fusion_layers=1)
    clippo.ClippoProcessor.from_pretrained(fused, question_layout="two_canvas").save_pretrained(fused)
    return {
        "fused": fused,
        "model": save_tiny(canvas_format="packed", skip_blank_patches=True),
        "head": save_tiny(clippo.ClippoForSequenceClassification, num_labels=3, **SPLIT),
        "tower": save_tiny(clippo.ClippoVisionModel),
        "answers": save_tiny(clippo.ClippoForVisualQuestionAnswering, id2label=ANSWERS),
        "writer": save_tiny(clippo.ClippoForConditionalGeneration, num_decoder_layers=1, decoder_max_length=16),
    }


@pytest.fixture(scope="module")
def photo_files(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i}.png" for i in range(len(photos))]
    for photo, path in zip(photos, paths, strict=True):
        photo.save(path)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def answers(folders, photo_files, tmp_path_factory):
    """Answers from the saved folders, and from the folders that their own remote code saved again."""
    work = {
        "model": {
            "auto": AUTO,
            "save": ["AutoModel", "AutoProcessor"],
            "pipelines": ["zero-shot-image-classification"],
        },
        "head": {
            "auto": [name for name in AUTO if name != "AutoModelForImageClassification"],
            "save": ["AutoModelForSequenceClassification", "AutoTokenizer"],
            "pipelines": ["text-classification"],
        },
        "tower": {
            "auto": ["AutoConfig", "AutoModel", "AutoImageProcessor"],
            "save": ["AutoModel", "AutoImageProcessor"],
            "pipelines": ["image-feature-extraction"],
        },
        "answers": {
            "auto": ["AutoModelForVisualQuestionAnswering", "AutoProcessor"],
            "save": ["AutoModelForVisualQuestionAnswering", "AutoProcessor"],
            "pipelines": ["visual-question-answering"],
        },
        "writer": {
            "auto": ["AutoModelForImageTextToText", "AutoProcessor"],
            "save": ["AutoModelForImageTextToText", "AutoProcessor"],
            "pipelines": ["image-text-to-text"],
        },
    }
    work["fused"] = work["answers"]
    inputs = {"photos": photo_files, "labels": LABELS, "texts": TEXTS}
    cwd = tmp_path_factory.mktemp("first")
    saved = {name: str(cwd / name) for name in work}
    tasks = [{**task, **inputs, "folder": folders[name], "save_to": saved[name]} for name, task in work.items()]
    first = run_without_package(tasks, cwd)
    # The second interpreter opens folders that the remote code of the first one wrote, its own files included.
    again = [
        {**task, "folder": saved[name], "auto": task["save"], "save": []}
        for name, task in zip(work, tasks, strict=True)
    ]
    second = run_without_package(again, tmp_path_factory.mktemp("second"))
    return {name: (one, two) for name, one, two in zip(work, first, second, strict=True)}


def test_a_saved_folder_has_the_code_of_its_classes(folders):
    paths = {path.stem: path for folder in ("modeling_clippo", "processing") for path in (ROOT / folder).glob("*.py")}
    wanted = {module.partition(".")[0] for module in AUTO_MAP.values()}
    wanted |= {"image_processing_clippo", "processing_clippo", "tokenization_clippo", "pipeline_clippo"}
    expected = {}
    while wanted:
        path = paths[wanted.pop()]
        expected[path.name] = path.read_text(encoding="utf-8")
        wanted |= {name for name in get_relative_imports(path) if f"{name}.py" not in expected}
    for folder in folders.values():
        assert {path.name: path.read_text(encoding="utf-8") for path in Path(folder).glob("*.py")} == expected


def test_every_auto_class_comes_from_the_folder(answers):
    for name in ("model", "head", "tower", "writer"):
        for answer in answers[name]:
            for asked, got in answer["classes"].items():
                expected = CLASSES.get(asked)
                if name == "tower" and asked in ("AutoModel", "image-feature-extraction"):
                    expected = "ClippoVisionModel"
                assert got.startswith("transformers_modules:"), (name, asked, got)
                assert expected is None or got == f"transformers_modules:{expected}", (name, asked)


def test_zero_shot_scores_are_those_of_the_package(answers, folders, photos):
    expected = pipeline("zero-shot-image-classification", model=folders["model"])(photos, candidate_labels=LABELS)
    assert expected[0][0]["score"] - expected[0][-1]["score"] > 1e-3
    for answer in answers["model"]:
        for got, wanted in zip(answer["zero-shot-image-classification"], expected, strict=True):
            assert [entry["label"] for entry in got] == [entry["label"] for entry in wanted]
            assert [entry["score"] for entry in got] == pytest.approx([entry["score"] for entry in wanted], abs=1e-6)


def test_text_scores_are_those_of_the_package(answers, folders):
    expected = pipeline("text-classification", model=folders["head"])(TEXTS, top_k=None)
    for answer in answers["head"]:
        for got, wanted in zip(answer["text-classification"], expected, strict=True):
            assert [entry["label"] for entry in got] == [entry["label"] for entry in wanted]
            assert [entry["score"] for entry in got] == pytest.approx([entry["score"] for entry in wanted], abs=1e-6)


def test_the_tower_sees_what_the_package_sees(answers, folders, photos):
    tower = clippo.ClippoVisionModel.from_pretrained(folders["tower"])
    pixels = clippo.ClippoImageProcessor.from_pretrained(folders["tower"])(photos, return_tensors="pt")
    with torch.no_grad():
        expected = tower(**pixels).pooler_output.tolist()
    for answer in answers["tower"]:
        for got, wanted in zip(answer["image-feature-extraction"], expected, strict=True):
            assert got[0] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["answers", "fused"])
def test_answers_come_under_the_old_task_name(answers, folders, photos, name):
    expected = pipeline("clippo-visual-question-answering", model=folders[name])(photos, "what is it?")
    for answer in answers[name]:
        assert answer["pipeline"] == "transformers_modules:ClippoVisualQuestionAnsweringPipeline"
        for got, wanted in zip(answer["visual-question-answering"], expected, strict=True):
            assert [entry["answer"] for entry in got] == [entry["answer"] for entry in wanted]
            assert [entry["score"] for entry in got] == pytest.approx([entry["score"] for entry in wanted], abs=1e-6)


def test_texts_are_those_of_the_package(answers, folders, photos):
    expected = pipeline("clippo-image-text-to-text", model=folders["writer"])(photos, "caption en", max_new_tokens=5)
    for answer in answers["writer"]:
        assert answer["pipeline"] == "transformers_modules:ClippoImageTextToTextPipeline"
        assert answer["image-text-to-text"] == expected
