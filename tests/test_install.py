"""What an installation contains, and that `import clippo` is the same from a checkout and from a wheel."""

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
MAPPED = {"clippo": "clippo", "modeling_clippo": "clippo/modeling_clippo", "processing": "clippo/processing"}
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


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """A source distribution, built in a copy because setuptools writes into the folder that it builds from."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in (*MAPPED, "tests", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "goldens"))
    for name in BUILD_INPUTS:
        shutil.copy(ROOT / name, copy)
    run(BUILD.format(kind="sdist", out="dist"), cwd=copy)
    (archive,) = (copy / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel built from the unpacked source distribution, as pip builds one for a user without a wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    (source,) = folder.iterdir()
    run(BUILD.format(kind="wheel", out="dist"), cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


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


# Extras that open doors to other projects; the suite runs without them, so no version of theirs is pinned.
DOORS = ("sentence-transformers", "search", "clip-benchmark")


def test_constraints_pin_every_direct_requirement(wheel):
    required = metadata_of(wheel).get_all("Requires-Dist")
    ours = [line for line in required if not any(f'extra == "{door}"' in line for door in DOORS)]
    assert len(required) - len(ours) == len(DOORS)
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


def test_the_wheel_renders_with_its_own_font(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import clippo; print(int(clippo.ClippoTokenizer()(['wheel'])['text_pixel_values'][0].min()))"
    assert run(code, cwd=tmp_path, PYTHONPATH=str(tmp_path)) == "0"  # ink: the glyphs were found


def test_import_needs_no_extra():
    """A module set to None in sys.modules raises ImportError, as one that is not installed does."""
    extras = ("matplotlib", "uharfbuzz", "bidi", "tensorboard", "torchvision")
    code = f"import sys\nsys.modules.update(dict.fromkeys({extras!r}))\nimport clippo\nprint(clippo.__version__)"
    assert run(code, cwd=ROOT).count(".") == 2
