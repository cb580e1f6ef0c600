"""The documentation: links and pictures exist, named files exist, the site builds without warnings."""

import dataclasses
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainingArguments

from .test_architecture import ALLOWED

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "tests/goldens/README.md"])
SOURCES = sorted(
    path
    for folder in ("clippo", "modeling_clippo", "processing", "recipes", "scripts", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PAGE_NAME = re.compile(r"docs/[a-z0-9_/]+\.(?:md|png)")
UNWANTED = ("../shared", "this machine", "earlier session", "TODO", "FIXME")

DOTTED_NAME = re.compile(r"(?<![\w/.-])clippo(?:\.[A-Za-z_]\w*)+(?![\w/])")
FOLDERS = "clippo|modeling_clippo|processing|scripts|recipes|benchmarks|tests"
FILE_NAME = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w/]+\.[\w.]*\w")
OPTIONAL = {"sentence_transformers"}  # packages that the tests do not install
# Results name the commands of their day; the changelog names the old places.
CURRENT = [page for page in PAGES if "results" not in page.parts and page.name != "CHANGELOG.md"]
# Flags of other programs: torchrun, accelerate, CLIP_benchmark, run_glue.py; and words of the pages.
OTHER_FLAGS = {
    *("nproc_per_node", "config_file", "machine_rank", "model_type", "pretrained", "dataset"),
    *("from", "help", "field", "index", "trust_remote_code"),
    *("repo", "logdir"),  # hf upload --repo-type, tensorboard
}


def flags() -> set[str]:
    """Options of all commands: fields of argument dataclasses, and options of argparse parsers."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "clippo").rglob("*.py"))
    found = set(re.findall(r"add_argument\(\s*\"--(\w+)", text)) | set(
        re.findall(r"^    (\w+): .*= field\(", text, re.M)
    )
    return found | {field.name for field in dataclasses.fields(TrainingArguments)}


FLAGS = flags()
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


current_pages = pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: Path) -> str:
    """Text of a page without fenced code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pages
def test_links_lead_to_files(page):
    targets = [target.partition("#")[0] for target in LINK.findall(prose(page)) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pages
def test_no_remark_about_the_place_of_writing(page):
    text = page.read_text(encoding="utf-8")
    assert [words for words in UNWANTED if words in text] == []


@pages
def test_named_pages_exist(page):
    names = PAGE_NAME.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_pages_that_the_code_names_exist():
    """A docstring or a comment that names a page of docs/ names one that is there."""
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in PAGE_NAME.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert missing == set()


@current_pages
def test_named_modules_and_classes_exist(page):
    """A dotted name of the library, in prose or in code, is a module or something in one."""
    missing = []
    for name in sorted(set(DOTTED_NAME.findall(page.read_text(encoding="utf-8")))):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            if getattr(error, "name", None) not in OPTIONAL:
                missing.append(name)
    assert missing == []


@current_pages
def test_named_files_of_the_code_exist(page):
    names = FILE_NAME.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []


@current_pages
def test_named_flags_exist(page):
    named = set(re.findall(r"(?<![\w-])--(\w+)", page.read_text(encoding="utf-8")))
    assert named - FLAGS - OTHER_FLAGS == set()


def test_the_trees_list_every_folder_of_the_library():
    folders = [path.parent.name for path in (ROOT / "clippo").glob("*/__init__.py")]
    for page in (ROOT / "README.md", ROOT / "docs" / "architecture.md"):
        text = page.read_text(encoding="utf-8")
        assert [name for name in folders if f"\n  {name}/ " not in text] == [], page.name


def test_the_page_has_the_import_table():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(clippo[\w/]*)` \| (.*) \|$", page, flags=re.MULTILINE))
    table = {name.replace("/", "."): set(row.replace("top", "clippo").split(", ")) for name, row in rows.items()}
    assert table == ALLOWED


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, "\n".join(re.findall(r"^(?:WARNING|ERROR) .*", run.stderr, flags=re.MULTILINE))
    assert (tmp_path / "site" / "reference" / "modeling_clippo.html").exists()
