"""The command line: files and table, recipes, two processes, errors of one sentence; `import evaluate` beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clippo import ClippoConfig, ClippoModel, ClippoProcessor
from clippo.evaluation.command import TASKS, _all, main

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "evaluate.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = ClippoConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32
    )
    folder = tmp_path_factory.mktemp("model")
    ClippoModel(config).save_pretrained(folder)
    ClippoProcessor.from_size(32).save_pretrained(folder)
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """`main` on the tiny model; its files go to tmp_path / "out"."""

    def run(command, *arguments):
        common = ["--model", folder, "--output", tmp_path / "out", "--cache", tmp_path / "cache", "--progress", "false"]
        return main([command, *map(str, [*arguments, *common])])

    return run


def test_one_command_writes_what_it_prints(run, captioned, tmp_path, capsys, folder):
    (report,) = run("retrieval", "--data", captioned, "--captions", "en=en", "de=de", "--device", "cpu")
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / f"{report.name}.md").read_text(encoding="utf-8").strip() == printed.strip()
    written = json.loads((tmp_path / "out" / f"{report.name}.json").read_text(encoding="utf-8"))
    assert written["metrics"] == report.metrics and written["context"]["model"] == str(folder)
    assert "All captions count." in printed and "| T2I R@1 |" in printed and "python scripts/evaluate.py" in printed
    assert written["counts"]["different texts too long for the canvas, cut"] == 12  # 32 pixels hold four letters a row


def test_a_recipe_runs_all_its_tasks(run, labelled, captioned, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tasks = [
        {"task": "zero-shot", "data": str(labelled), "protocol": "name"},
        {"task": "few-shot", "data": str(labelled), "shots": [1], "probes": ["least-squares"]},
        {"task": "mixed-index", "data": str(captioned), "captions": ["en=en"]},
        {"task": "modality-gap", "data": str(captioned), "captions": ["en=en"], "languages": ["en"]},
    ]
    recipe.write_text(json.dumps({"run": {"batch_size": 2, "limit": 6}, "tasks": tasks}), encoding="utf-8")
    reports = run("all", recipe)
    assert [report.task for report in reports] == [task["task"] for task in tasks]
    assert reports[1].counts["training pictures"] == 6  # the recipe's limit
    assert len(list((tmp_path / "out").glob("*.md"))) == 4
    reports = run("all", recipe, "--limit", 5)
    assert reports[1].counts["training pictures"] == 5  # the command line wins


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes" / "evaluation").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_understood(recipe):
    run, tasks = _all([str(recipe)])
    assert run.output.startswith("runs/") and tasks and all(name in TASKS for name, _ in tasks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zero-shot"], "error: Nothing to evaluate on: pass --data"),
        (["sts"], "error: Nothing to evaluate on: pass --data"),
        (["zero-shot", "--data", "nothing"], "error: 'nothing' is neither one of imagenet"),
        (["retrieval", "--data", "coco", "--captions", "en"], "error: captions takes language=column, got 'en'"),
        (["fly"], "error: 'fly' is no command"),
        (["all", "nowhere.yaml"], "error: No recipe at nowhere.yaml"),
    ],
)
def test_errors_are_one_sentence(run, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(*arguments)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"tasks": [{"task": "fly"}]}, "task 'fly' is none of zero-shot"),
        ({"tasks": [{"task": "sts", "speed": 1}]}, "sets speed, which is none of data, split"),
        ({"run": {"speed": 1}, "tasks": [{"task": "sts"}]}, "sets speed, which is none of model"),
        ({"task": "sts"}, "needs a list `tasks`"),
    ],
)
def test_recipes_with_mistakes(run, tmp_path, recipe, message):
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        run("all", tmp_path / "recipe.yaml")


def test_two_processes_share_the_work_and_agree_with_one(run, captioned, tmp_path, folder):
    """As a process of its own, so that the script and the launcher are what is tested."""
    (alone,) = run("retrieval", "--data", captioned, "--captions", "en=en")
    output, cache = tmp_path / "two", tmp_path / "cache of two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    command += ["retrieval", "--data", captioned, "--captions", "en=en", "--part_size", "2", "--device", "cpu"]
    command += ["--model", folder, "--output", output, "--cache", cache, "--progress", "false"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT)
    files = list(output.glob("*.json"))
    assert files, done.stderr
    together = json.loads(files[0].read_text(encoding="utf-8"))
    assert together["metrics"] == pytest.approx(alone.metrics) and together["rows"] == alone.rows
    assert done.stdout.count("## retrieval") == 1  # one of the two speaks
    assert len(list(cache.rglob("*.safetensors"))) == 3 + 6  # six pictures and twelve texts, each part once


def test_the_script_does_not_hide_the_package_of_its_name():
    """A script of that folder, and this one, has the folder first on its path."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\nfrom evaluate import Metric\nimport evaluate\n"
    code += "print(evaluate.__version__, evaluate.Metric is Metric)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "True"
