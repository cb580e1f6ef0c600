"""Examples of docstrings run, and every public class has one."""

import doctest
import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Module -> package of an extra.
OPTIONAL = {
    "clippo.search.qdrant": "qdrant_client",
    "clippo.integrations.sentence_transformers": "sentence_transformers",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> list[ModuleType]:
    """All modules of the package, the two flat folders included."""
    files = [file for folder in ("clippo", "modeling_clippo", "processing") for file in (ROOT / folder).rglob("*.py")]
    names = []
    for file in sorted(files):
        parts = [part for part in file.relative_to(ROOT).with_suffix("").parts if part != "__init__"]
        if parts[-1] != "__main__":
            names.append(".".join(parts if parts[0] == "clippo" else ("clippo", *parts)))
    return [importlib.import_module(name) for name in names if name not in OPTIONAL or find_spec(OPTIONAL[name])]


def examples() -> list[doctest.DocTest]:
    """Docstrings with `>>>` lines, each once."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name: test for module in modules() for test in finder.find(module, module=module)}
    return [test for test in found.values() if test.examples]


def public_classes() -> list[type]:
    """Classes that a package exports or a module names in `__all__`. Exceptions need no example."""
    found = {}
    for module in modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if (
                inspect.isclass(value)
                and not issubclass(value, BaseException)
                and value.__module__.startswith("clippo.")
            ):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return list(found.values())


def name_of(value: type) -> str:
    return f"{value.__module__.removeprefix('clippo.')}.{value.__qualname__}"


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name.removeprefix("clippo."))
def test_example(test, monkeypatch):
    """Examples run from the repository root and leave nothing there."""
    monkeypatch.chdir(ROOT)
    before = set(ROOT.iterdir())
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, clear_globs=False)
    assert failed == 0
    assert set(ROOT.iterdir()) == before


def test_no_example_is_skipped():
    assert [test.name for test in examples() if "doctest: +SKIP" in (test.docstring or "")] == []


@pytest.mark.parametrize("value", public_classes(), ids=name_of)
def test_a_public_class_has_an_example(value):
    has = ">>> " in (value.__dict__.get("__doc__") or "")
    assert has, f"{name_of(value)} has no example: add lines with >>> to its docstring."
