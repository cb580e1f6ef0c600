"""Rules of form that a machine can check: length, docstrings, thin scripts, data paths, open ends."""

import ast
import re
from collections.abc import Iterator

import pytest

from .test_architecture import FOLDERS, ROOT, label, parse, sources

MAX_LINES = 400
MAX_FUNCTION_LINES = 50  # without the docstring
MAX_SCRIPT_LINES = 20

# Docstrings begin with the thing itself, not with a clause about it.
CLAUSE = re.compile(r"(?:What|How|Which|Where|Whether|Who|Whose|Why)\b")
TEXTS = {".py", ".md", ".yaml", ".json"}  # suffixes of the files that may name a data set
OPEN_END = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|pytest\.mark\.skip\(")

every_source = pytest.mark.parametrize("path", sources(*FOLDERS), ids=label)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Number of lines of a function without its decorators and its docstring."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - docstring


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.body[0].lineno if node.body else 1, ast.get_docstring(node) or ""


@every_source
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    long = {f"{label(path)}:{f.lineno} {f.name}": length(f) for f in functions(parse(path))}
    assert {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES} == {}


@every_source
def test_docstrings_begin_with_the_thing_itself(path):
    errors = [f"{label(path)}:{line}: {text[:60]}" for line, text in docstrings(parse(path)) if CLAUSE.match(text)]
    assert errors == []


@pytest.mark.parametrize("path", [path for path in sources(*FOLDERS) if path.name != "test_docs.py"], ids=label)
def test_no_open_ends(path):
    """tests/test_docs.py names the words to forbid them in the pages."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{label(path)}:{number}" for number, line in enumerate(lines, 1) if OPEN_END.search(line)] == []


@pytest.mark.parametrize("path", sources("scripts"), ids=label)
def test_scripts_are_thin(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_SCRIPT_LINES


def test_nothing_points_at_the_shared_folder_of_the_tests():
    """Recipes and docs name `data/...`; only tests read a folder beside the checkout, through a fixture."""
    files = [file for folder in ("recipes", "docs", "clippo", "scripts") for file in (ROOT / folder).rglob("*")]
    texts = [file for file in [*files, ROOT / "README.md", ROOT / "model_card.md"] if file.suffix in TEXTS]
    assert [label(file) for file in texts if "../shared" in file.read_text(encoding="utf-8")] == []


class TestTheRulesThemselves:
    """Every rule finds the fault in a bad example."""

    def test_the_docstring_does_not_count(self):
        (function,) = functions(ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'))
        assert length(function) == 2

    def test_clauses_are_found(self):
        assert CLAUSE.match("What the tower computes.") and CLAUSE.match("Whether it is so.")
        assert not CLAUSE.match("Whatever.") and not CLAUSE.match("Returns whether it is so.")

    def test_open_ends_are_found(self):
        assert OPEN_END.search("# TO" + "DO: later") and OPEN_END.search("@pytest.mark.skip" + "()")
