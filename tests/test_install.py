"""Contents of an installation; `import clippo` is the same from a checkout, an editable install and a wheel."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import clippo

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {"clippo": "clippo", "web": "clippo/web/page"} | {
    name: f"clippo/{name}" for name in ("modeling_clippo", "processing", "recipes")
}
BUILD_INPUTS = ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "THIRD_PARTY_NOTICES.md", "README.md")
BUILD = "from setuptools import build_meta; build_meta.build_{kind}({out!r})"

WHERE = """
import sys
import clippo
bare = sorted({"modeling_clippo", "processing"} & set(sys.modules))
print(bare, clippo.__file__, clippo.ClippoModel.__module__, clippo.ClippoTokenizer.__module__, sep="|")
"""


def run(code: str, cwd: Path, **environment: str) -> str:
    """Standard output of a fresh interpreter that runs `code` in `cwd`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_installed(code: str, site: Path, cwd: Path) -> str:
    """Output of `code` where `site` is a site-packages folder: its .pth files are read, unlike those on PYTHONPATH.

    An installation of clippo in the environment of the tests is left out.
    """
    start = f"""
import os, site, sys
sys.path[:] = [path for path in sys.path if not os.path.isfile(os.path.join(path, "clippo", "__init__.py"))]
site.addsitedir({str(site)!r})
"""
    return run(start + code, cwd=cwd)


def copy_of_the_checkout(folder: Path) -> Path:
    """A copy to build in, because setuptools writes into the folder that it builds from."""
    for name in (*MAPPED, "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "goldens"))
    for name in BUILD_INPUTS:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    copy = copy_of_the_checkout(tmp_path_factory.mktemp("checkout"))
    run(BUILD.format(kind="sdist", out="dist"), cwd=copy)
    (archive,) = (copy / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel built from the unpacked source distribution, as pip builds one for a user without a wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    run(BUILD.format(kind="wheel", out="dist"), cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def editable(tmp_path_factory) -> tuple[Path, Path]:
    """A clone named `clippo` and a site-packages folder with its editable installation, as pip writes it."""
    clone = copy_of_the_checkout(tmp_path_factory.mktemp("folder above") / "clippo")
    run(BUILD.format(kind="editable", out="dist"), cwd=clone)
    (built,) = (clone / "dist").glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(built).extractall(site)
    return clone, site


def shipped_files() -> set[str]:
    """Every file of the three folders that an installation needs, under the path it has inside a wheel."""
    files = set()
    for folder, target in MAPPED.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                files.add(f"{target}/{path.relative_to(ROOT / folder).as_posix()}")
    return files


def metadata_of(wheel: Path) -> Message:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode("utf-8"))


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == shipped_files()


def test_wheel_holds_fonts_type_marker_and_licences(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "clippo/py.typed" in names
    assert any(name.startswith("clippo/processing/fonts/unifont") for name in names)
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert {"LICENSE", "THIRD_PARTY_NOTICES.md"} <= licences


def test_sdist_holds_what_a_build_needs_and_no_tests(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "modeling_clippo/modeling_clippo.py"} <= names
    assert "recipes/evaluation/emoji.yaml" in names
    assert not {name for name in names if name.startswith(("tests", "scripts", "data/"))}


def test_the_wheels_metadata_agrees_with_the_package(wheel):
    metadata = metadata_of(wheel)
    assert metadata["Version"] == clippo.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    unconditional = {line.split(">=")[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert unconditional == {
        *("accelerate", "datasets", "evaluate", "freetype-py", "numpy"),
        *("pillow", "safetensors", "torch", "transformers"),
    }


# Extras for adapters to other projects. The suite runs without them, so no version of theirs is pinned.
INTEGRATIONS = ("sentence-transformers", "search", "qdrant", "demo", "clip-benchmark", "timm")


def test_citation_and_changelog_name_the_version():
    assert f"\nversion: {clippo.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {clippo.__version__}, " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_every_direct_requirement(wheel):
    required = metadata_of(wheel).get_all("Requires-Dist")
    ours = [line for line in required if not any(f'extra == "{door}"' in line for door in INTEGRATIONS)]
    assert all(any(f'extra == "{extra}"' in line for line in required) for extra in INTEGRATIONS)
    direct = {line.split(">=")[0].lower() for line in ours}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert direct - pinned == set()


def test_import_from_a_checkout():
    bare, where, model, tokenizer = run(WHERE, cwd=ROOT).split("|")
    assert bare == "[]"
    assert Path(where) == ROOT / "clippo" / "__init__.py"
    assert model == "clippo.modeling_clippo.modeling_clippo"
    assert tokenizer == "clippo.processing.tokenization_clippo"


def test_import_from_a_wheel(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    bare, where, model, tokenizer = run(WHERE, cwd=elsewhere, PYTHONPATH=str(site)).split("|")
    assert bare == "[]"
    assert Path(where) == site / "clippo" / "__init__.py"
    assert model == "clippo.modeling_clippo.modeling_clippo"
    assert tokenizer == "clippo.processing.tokenization_clippo"


def test_import_from_the_folder_above_an_editable_clone(editable):
    """There `clippo` is also a folder of the working directory, which Python takes for an empty namespace package."""
    clone, site = editable
    bare, where, model, tokenizer = run_installed(WHERE, site, cwd=clone.parent).split("|")
    assert bare == "[]"
    assert Path(where) == clone / "clippo" / "__init__.py"
    assert model == "clippo.modeling_clippo.modeling_clippo"
    assert tokenizer == "clippo.processing.tokenization_clippo"


RECIPE = "from clippo.recipe_files import find_recipe; print(find_recipe('emoji'), find_recipe('evaluation/emoji'))"


def test_recipes_are_found_in_every_kind_of_installation(wheel, editable, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    clone, site = editable
    for found, folder in (
        (run(RECIPE, cwd=ROOT), ROOT / "recipes"),
        (run_installed(RECIPE, tmp_path, cwd=tmp_path), tmp_path / "clippo" / "recipes"),
        (run_installed(RECIPE, site, cwd=clone.parent), clone / "recipes"),
    ):
        assert found == f"{folder / 'emoji.yaml'} {folder / 'evaluation' / 'emoji.yaml'}"


def test_the_wheel_brings_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "clippo = clippo.cli:main" in archive.read(name).decode()


def test_the_wheel_renders_with_its_own_font(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import clippo; print(int(clippo.ClippoTokenizer()(['wheel'])['text_pixel_values'][0].min()))"
    assert run(code, cwd=tmp_path, PYTHONPATH=str(tmp_path)) == "0"  # ink: the glyphs were found


def test_import_needs_no_extra():
    """A module set to None in sys.modules raises ImportError, as one that is not installed does."""
    extras = ("matplotlib", "uharfbuzz", "bidi", "tensorboard", "torchvision")
    code = f"import sys\nsys.modules.update(dict.fromkeys({extras!r}))\nimport clippo\nprint(clippo.__version__)"
    assert run(code, cwd=ROOT).count(".") == 2
