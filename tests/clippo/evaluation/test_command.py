"""The command line: files and table, recipes, two processes, errors of one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clippo.evaluation.command import TASKS, _parse_recipe, main, run_command

from ...tiny import save_tiny

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "evaluate_model.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), noise=0, num_hidden_layers=1, image_size=32)


@pytest.fixture
def run(folder, tmp_path):
    """Function that runs a command on the tiny model, with files in tmp_path / "out"."""

    def run(command, *arguments):
        common = [
            "--model",
            folder,
            "--output_dir",
            tmp_path / "out",
            "--cache_dir",
            tmp_path / "cache",
            "--progress",
            "false",
        ]
        return run_command([command, *map(str, [*arguments, *common])])

    return run


def test_one_command_writes_what_it_prints(run, captioned, tmp_path, capsys, folder):
    (report,) = run("retrieval", "--data", captioned, "--captions", "en=en", "de=de", "--device", "cpu")
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / f"{report.name}.md").read_text(encoding="utf-8").strip() == printed.strip()
    written = json.loads((tmp_path / "out" / f"{report.name}.json").read_text(encoding="utf-8"))
    assert written["metrics"] == report.metrics and written["context"]["model"] == str(folder)
    assert "All captions count." in printed and "| T2I R@1 |" in printed and "clippo evaluate retrieval" in printed
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
    assert reports[1].counts["training images"] == 6  # the recipe's limit
    assert len(list((tmp_path / "out").glob("*.md"))) == 4
    reports = run("all", recipe, "--limit", 5)
    assert reports[1].counts["training images"] == 5  # the command line wins


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes" / "evaluation").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_understood(recipe):
    run, tasks = _parse_recipe([str(recipe)])
    assert run.output_dir.startswith("runs/") and tasks and all(name in TASKS for name, _ in tasks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zero-shot"], "error: Nothing to evaluate on: pass --data"),
        (["sts"], "error: Nothing to evaluate on: pass --data"),
        (["zero-shot", "--data", "nothing"], "error: 'nothing' is neither one of imagenet"),
        (["retrieval", "--data", "coco", "--captions", "en"], "error: captions takes language=column, got 'en'"),
        (["fly"], "error: 'fly' is not a task"),
        (["all", "nowhere.yaml"], "error: 'nowhere.yaml' is neither a file nor a shipped recipe"),
    ],
)
def test_errors_are_one_sentence(run, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(*arguments)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"tasks": [{"task": "fly"}]}, "task 'fly' is not known; choose one of zero-shot"),
        ({"tasks": [{"task": "sts", "speed": 1}]}, "sets speed, which is not an option; there are data, split"),
        ({"run": {"speed": 1}, "tasks": [{"task": "sts"}]}, "sets speed, which is not an option; there are model"),
        ({"task": "sts"}, "needs a list `tasks`"),
    ],
)
def test_recipes_with_mistakes(run, tmp_path, recipe, message):
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        run("all", tmp_path / "recipe.yaml")


def test_two_processes_share_the_work_and_agree_with_one(run, captioned, tmp_path, folder):
    """The script runs under the launcher, in processes of its own."""
    (alone,) = run("retrieval", "--data", captioned, "--captions", "en=en")
    output, cache = tmp_path / "two", tmp_path / "cache of two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    command += ["retrieval", "--data", captioned, "--captions", "en=en", "--part_size", "2", "--device", "cpu"]
    command += ["--model", folder, "--output_dir", output, "--cache_dir", cache, "--progress", "false"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT)
    files = list(output.glob("*.json"))
    assert files, done.stderr
    together = json.loads(files[0].read_text(encoding="utf-8"))
    assert together["metrics"] == pytest.approx(alone.metrics) and together["rows"] == alone.rows
    assert done.stdout.count("## retrieval") == 1  # one of the two speaks
    assert len(list(cache.rglob("*.safetensors"))) == 3 + 6  # six images and twelve texts, each part once


def test_help_lists_the_tasks_and_their_options(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(task in printed for task in TASKS)
    with pytest.raises(SystemExit) as stopped:
        main(["few-shot", "--help"])
    assert stopped.value.code == 0 and "usage: clippo evaluate few-shot" in capsys.readouterr().out
