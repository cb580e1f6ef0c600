"""The import table and the file rules of docs/architecture.md, read from the source with `ast`: nothing is imported."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers.dynamic_module_utils import get_relative_imports

ROOT = Path(__file__).resolve().parents[1]
FLAT = ("modeling_clippo", "processing")  # copied beside a checkpoint as remote code
FOLDERS = (*FLAT, "clippo", "scripts", "benchmarks", "tests")

# The packages that the two folders may import at the top of a file: every user of remote code has them.
INSTALLED = {
    "modeling_clippo": {"torch", "transformers", "huggingface_hub", "numpy"},
    "processing": {"numpy", "freetype", "PIL", "transformers", "huggingface_hub"},
}
# Part of the package -> the other parts that it may import. Files beside the folders, such as surgery.py, are one part:
# "clippo". docs/architecture.md shows the same table.
ALLOWED = {
    "clippo.conversion": {"modeling_clippo", "processing", "clippo"},
    "clippo.data": {"processing", "emoji", "clippo"},
    "clippo.emoji": {"modeling_clippo", "processing", "data", "evaluation", "clippo"},
    "clippo.pictograms": {"modeling_clippo", "processing", "data", "emoji", "evaluation", "visualization", "clippo"},
    "clippo.evaluation": {"modeling_clippo", "processing", "data", "emoji", "visualization", "clippo"},
    # command.py alone needs evaluation and tasks
    "clippo.visualization": {"modeling_clippo", "processing", "data", "evaluation", "tasks", "clippo"},
    "clippo.training": {
        *(
            "modeling_clippo",
            "processing",
            "data",
            "emoji",
            "pictograms",
            "conversion",
            "evaluation",
            "visualization",
            "clippo",
        ),
    },
    "clippo.tasks": {
        "emoji",
        *("modeling_clippo", "processing", "data", "evaluation", "training", "visualization", "clippo"),
    },
    "clippo.integrations": {"modeling_clippo", "processing", "data", "evaluation", "conversion", "clippo"},
    "clippo.web": {"modeling_clippo", "processing", "evaluation", "integrations", "visualization", "clippo"},
    "clippo.search": {"processing", "data", "evaluation", "visualization", "clippo"},
    "clippo.release": {"processing", "clippo"},
    "clippo.demo": {"modeling_clippo", "processing", "evaluation", "visualization", "clippo"},
    "clippo": {"modeling_clippo", "processing"},
}
# Outside the package by design, or importable only because of the working directory.
NEVER = ("scripts", "benchmarks", "tests", "modeling_clippo", "processing")

MACHINE_PATH = re.compile(r"(?<![\w.}$)*-])/(?:home|root|work|Users|tmp)/\w|[A-Z]:\\Users\\")
TEXT_SUFFIXES = {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".json", ".cfg", ".in", ""}


class Import(NamedTuple):
    """One imported name: the module as written, the name taken from it (or None), its level and its line."""

    module: str
    name: str | None
    level: int
    line: int

    @property
    def target(self) -> str:
        """Dotted path that may be a module: `from clippo import data` imports `clippo.data`."""
        return f"{self.module}.{self.name}" if self.name else self.module


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, 0, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(node.module or "", alias.name, node.level, node.lineno) for alias in node.names)


def imports_at_import_time(tree: ast.Module) -> Iterator[Import]:
    """The imports that run, and must succeed, when the module is imported: not in functions, `if` or `try`."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def within(name: str, *prefixes: str) -> bool:
    """Return whether the dotted `name` is one of `prefixes` or lies below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def absolute(found: Import, path: Path) -> str:
    """Dotted target of an import, with a relative import resolved against its file."""
    if not found.level:
        return found.target
    package = path.relative_to(ROOT).parent.parts
    return ".".join((*package[: len(package) - found.level + 1], found.target.strip(".")))


def in_file(path: Path, found: Import, reason: str) -> str:
    return f"{label(path)}:{found.line}: {found.target}: {reason}"


every_flat_source = pytest.mark.parametrize("path", sources(*FLAT), ids=label)


def test_the_folders_of_the_picture_exist():
    assert [folder for folder in FOLDERS if not sources(folder)] == []


@every_flat_source
def test_flat_folder_imports_only_its_own_files(path):
    siblings = {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
    errors = []
    for found in imports(parse(path)):
        if found.level and (found.level > 1 or found.module not in siblings):
            errors.append(in_file(path, found, "only `from .sibling import name` survives the copy to a checkpoint"))
        if not found.level and within(found.target, "clippo", *NEVER):
            errors.append(in_file(path, found, "no other file of this project"))
    assert errors == []


@every_flat_source
def test_flat_folder_needs_only_required_packages(path):
    allowed = INSTALLED[path.parent.name] | set(sys.stdlib_module_names)
    errors = [
        in_file(path, found, "import it where it is used, or inside try/except ImportError")
        for found in imports_at_import_time(parse(path))
        if not found.level and found.module.partition(".")[0] not in allowed
    ]
    assert errors == []


@every_flat_source
def test_the_copier_of_remote_code_reads_the_imports_that_python_runs(path):
    """transformers finds the files to copy by regular expression, docstrings included."""
    assert set(get_relative_imports(path)) == {found.module for found in imports(parse(path)) if found.level}


@every_flat_source
def test_flat_folder_does_not_postpone_annotations(path):
    """transformers and the strict configuration dataclasses read annotations as objects, not as strings."""
    assert not any(found.module == "__future__" and found.name == "annotations" for found in imports(parse(path)))


@every_flat_source
def test_flat_folder_has_no_sub_package(path):
    assert path.parent.parent == ROOT


def test_both_flat_folders_fit_into_one_directory():
    names = [path.name for path in sources(*FLAT) if path.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)


def part_of(target: str) -> str:
    """Part of the package that a dotted target names: `clippo.data.sources` -> "data", `clippo.surgery` -> "clippo"."""
    second = (*target.split("."), "")[1]
    return second if second in FLAT or ((ROOT / "clippo" / second / "__init__.py").is_file() and second) else "clippo"


@pytest.mark.parametrize("path", sources("clippo"), ids=label)
def test_package_imports_only_what_the_table_allows(path):
    part = next(prefix for prefix in ALLOWED if within(".".join(path.relative_to(ROOT).parent.parts), prefix))
    allowed = ALLOWED[part] | {part.removeprefix("clippo.")}
    errors = []
    for found in imports(parse(path)):
        target = absolute(found, path)
        if within(target, *NEVER):
            errors.append(in_file(path, found, "not importable from the installed package"))
        if within(target, "clippo") and part_of(target) not in allowed:
            errors.append(in_file(path, found, f"not from {part}"))
    assert errors == []


@pytest.mark.parametrize("path", sources("scripts", "benchmarks"), ids=label)
def test_entry_points_import_only_the_package(path):
    neighbours = {file.stem for file in path.parent.rglob("*.py")}
    errors = [
        in_file(path, found, "entry points import clippo and no other file of this project")
        for found in imports(parse(path))
        if found.level or within(found.module, *NEVER, *neighbours)
    ]
    assert errors == []


@pytest.mark.parametrize("path", sources("tests"), ids=label)
def test_tests_use_the_import_names_of_the_package(path):
    """A bare `import modeling_clippo` makes a second set of classes that the Auto classes do not know."""
    unwanted = ("scripts", "benchmarks", "modeling_clippo", "processing")
    assert [in_file(path, found, "") for found in imports(parse(path)) if within(found.target, *unwanted)] == []


@pytest.mark.parametrize("path", [path for path in sources(*FLAT) if path.name != "__init__.py"], ids=label)
def test_the_page_lists_every_file_of_the_flat_folders(path):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folder = page.partition(f"\n{path.parent.name}/")[2].partition("\n\n")[0]
    assert f"  {path.name} " in folder


def test_no_path_of_a_developer_machine():
    listed = [ROOT / folder for folder in (*FOLDERS, "docs", "recipes", "checkpoints", ".ci")]
    files = [file for folder in listed for file in folder.rglob("*")] + [
        file for file in ROOT.glob("*") if file.name != ".git"
    ]
    errors = []
    for file in files:
        if file.is_file() and file.suffix in TEXT_SUFFIXES and "__pycache__" not in file.parts:
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                if MACHINE_PATH.search(line):
                    errors.append(f"{label(file)}:{number}: {line.strip()}")
    assert errors == []


class TestTheRulesThemselves:
    """Every rule finds the fault in a bad example."""

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("from clippo import data", "clippo.data"),
            ("from clippo.modeling_clippo import ClippoModel", "clippo.modeling_clippo.ClippoModel"),
            ("from ..modeling_clippo import ClippoModel", "clippo.modeling_clippo.ClippoModel"),
            ("from . import pairs", "clippo.data.pairs"),
            ("def late():\n    import clippo.training", "clippo.training"),
        ],
    )
    def test_targets_are_resolved(self, line, expected):
        (found,) = imports(ast.parse(line))
        assert absolute(found, ROOT / "clippo" / "data" / "example.py") == expected

    def test_prefixes_end_at_a_dot(self):
        assert within("clippo.data.pairs", "clippo.data")
        assert not within("clippo.database", "clippo.data")

    def test_guarded_imports_do_not_run_at_import(self):
        tree = ast.parse("import torch\ntry:\n    import uharfbuzz\nexcept ImportError:\n    uharfbuzz = None\n")
        assert [found.module for found in imports_at_import_time(tree)] == ["torch"]

    def test_machine_paths_are_seen(self):
        for parts in (("home", "me"), ("root", "x"), ("tmp", "run1")):
            assert MACHINE_PATH.search("open('/" + "/".join(parts) + "')")
        assert not MACHINE_PATH.search("https://example.org/home/page and ${TMPDIR}/tmp/x and docs/home/plan")
