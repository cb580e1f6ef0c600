"""Every section of the page "Use it with ..." runs where its packages are installed."""

import ast
import os
import re
from importlib.util import find_spec

import pytest
from PIL import Image

from .documented import FENCE, ROOT
from .tiny import save_tiny

PAGE = ROOT / "docs" / "guides" / "use_with.md"


def sections() -> dict[str, str]:
    """Text of each section by its title."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def python_blocks(text: str) -> list[str]:
    return [code for language, code in FENCE.findall(text) if language == "python"]


def packages(code: str) -> set[str]:
    """Names of the packages that a block imports."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [[alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module] for node in nodes]
    return {name.partition(".")[0] for group in names for name in group}


RUN = {title: text for title, text in sections().items() if python_blocks(text)}


@pytest.mark.parametrize("title", RUN)
def test_section(title, tmp_path, monkeypatch):
    """The blocks of a section run one after the other, in a folder with the checkpoints and pictures."""
    code = python_blocks(RUN[title])
    missing = sorted(name for block in code for name in packages(block) if find_spec(name) is None)
    if title == "ONNX Runtime" and find_spec("onnxscript") is None:
        missing.append("onnxscript")
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    for name in ("docs", "checkpoints"):
        os.symlink(ROOT / name, tmp_path / name)
    save_tiny(tmp_path / "my-model")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in code:
        exec(compile(block, f"{PAGE.name}: {title}", "exec"), names)
    CHECKS.get(title, lambda names: None)(names)


def first_name(names: dict) -> str:
    return names["found"]["image"][0]["path"].rpartition("/")[2]


def equal_weights(names: dict) -> bool:
    """The merged LoRA, which begins at zero, is the model itself."""
    plain = names["AutoModel"].from_pretrained(names["folder"]).state_dict()
    return all(plain[key].equal(value) for key, value in names["model"].state_dict().items())


def check(condition) -> None:
    assert condition


# What a section must have done, beside running.
CHECKS = {
    "PEFT": lambda names: check(equal_weights(names)),
    "bitsandbytes": lambda names: check(names["model"].get_memory_footprint() < 8e6),
    "ONNX Runtime": lambda names: check(names["cat"] @ names["gato"] > 0.5),
    "Accelerate": lambda names: check(names["loss"].item() < 2),
    "datasets and FAISS": lambda names: check(
        first_name(names) in ("automobile.webp", "red_apple.webp", "red_heart.webp")
    ),
    "Qdrant": lambda names: check(names["point"].payload["key"]),
}


def test_the_table_names_every_section():
    """The first table links to each section."""
    top = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in sections()]
    assert [anchor for anchor in anchors if f"(#{anchor})" not in top] == []
