"""MkDocs hook: one reference page a package, made from the docstrings of its modules.

The pages exist during the build only. `mkdocs.yml` names this file under `hooks`.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
INTRODUCTIONS = {
    "modeling_clippo": "Import these names from `clippo` or from `clippo.modeling_clippo`.",
    "processing": "Import these names from `clippo` or from `clippo.processing`.",
}


def packages() -> list[Path]:
    """Folders with public modules, in the order of the navigation."""
    below = sorted(folder.parent for folder in (ROOT / "clippo").rglob("__init__.py"))
    return [ROOT / "modeling_clippo", ROOT / "processing", *below]


def page(package: Path) -> str:
    """Markdown of one page: a heading for the package and a directive for each public module."""
    name = ".".join(package.relative_to(ROOT).parts)
    modules = [file.stem for file in sorted(package.glob("*.py")) if not file.stem.startswith("_")]
    lines = [f"# {name}", "", INTRODUCTIONS.get(name, f"Modules of `{name}`."), ""]
    for module in modules:
        lines += [f"::: {name}.{module}", ""]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Path of each page below `docs/`, with its text."""
    found = {}
    for package in packages():
        name = ".".join(package.relative_to(ROOT).parts)
        text = page(package)
        if ":::" in text:
            found[f"reference/{name}.md"] = text
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the section to the navigation."""
    config.nav.append({"Reference": [{Path(path).stem: path} for path in pages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to the files of the site."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
