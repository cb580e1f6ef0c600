"""The console command: help of every sub-command, version, unknown names, old import names."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

import clippo
from clippo import _moved, cli, recipe_files

from ..conftest import ROOT

NESTED = {
    "build": importlib.import_module("clippo.emoji.command").COMMANDS,
    "evaluate": [*importlib.import_module("clippo.evaluation.command").TASKS, "all"],
    "visualize": importlib.import_module("clippo.visualization.command").FIGURES,
}
NAMES = [*cli.COMMANDS, *(f"{name} {task}" for name, tasks in NESTED.items() for task in tasks)]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*name.split(), "--help"])
    assert stopped.value.code in (0, None)
    output = capsys.readouterr().out
    assert output.startswith(f"usage: clippo {name} ") and "%(" not in output


def test_the_overview_lists_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        cli.main(arguments)
        output = capsys.readouterr().out
        assert all(f"\n  {name} " in output for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [["finetune"], ["finetune", "--help"]])
def test_a_group_lists_its_commands(arguments, capsys):
    cli.main(arguments)
    output = capsys.readouterr().out
    assert "\n  finetune glue  " in output and "\n  finetune vqa " in output and "pretrain" not in output


def test_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"clippo {clippo.__version__}\n"


@pytest.mark.parametrize(("typed", "suggested"), [(["exprot"], "export"), (["convret", "x"], "convert")])
def test_an_unknown_command_suggests_the_nearest(typed, suggested):
    with pytest.raises(SystemExit, match=f"error: clippo has no command '{typed[0]}'; choose from: {suggested} "):
        cli.main(typed)


def test_a_name_like_nothing_lists_all():
    with pytest.raises(SystemExit, match=f"choose from: {next(iter(cli.COMMANDS)).split()[0]}, "):
        cli.main(["zzz"])


def test_as_a_process():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "clippo", "exprot"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "choose from: export" in done.stderr and "Traceback" not in done.stderr


class TestRecipes:
    def test_names(self):
        names = set(recipe_files.recipe_names())
        assert {"emoji", "flickr8k", "evaluation/emoji"} <= names and "accelerate/ddp" not in names

    @pytest.mark.parametrize("name", ["emoji", "emoji.yaml", "recipes/emoji.yaml"])
    def test_a_shipped_recipe_is_found(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert recipe_files.find_recipe(name) == ROOT / "recipes" / "emoji.yaml"

    def test_a_file_wins(self, tmp_path, monkeypatch):
        (tmp_path / "emoji.yaml").touch()
        monkeypatch.chdir(tmp_path)
        assert recipe_files.find_recipe("emoji.yaml").resolve() == tmp_path / "emoji.yaml"

    def test_an_unknown_name_lists_the_nearest(self):
        with pytest.raises(FileNotFoundError, match=r"'flicker8k' is neither a file nor .* are flickr8k"):
            recipe_files.find_recipe("flicker8k")


@pytest.mark.parametrize("old", _moved.MOVED)
class TestMovedNames:
    def test_the_old_name_is_refused_with_the_new_one(self, old):
        message = rf"{old} is now {_moved.MOVED[old]} \(CHANGELOG.md"
        package, _, name = old.rpartition(".")
        with pytest.raises(ImportError, match=message):
            importlib.import_module(old)
        with pytest.raises(ImportError, match=message):
            exec(f"from {package} import {name}")

    def test_the_new_name_exists(self, old):
        new = _moved.MOVED[old]
        package, _, name = new.rpartition(".")
        assert hasattr(importlib.import_module(package), name) or find_spec(new)

    def test_the_changelog_has_it(self, old):
        assert f"| `{old}` | `{_moved.MOVED[old]}` |\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
