"""Names and keywords of emoji in many languages, from the annotation files of Unicode CLDR.

Two layouts are read. In both, the code points of a sequence come without U+FE0F (UTS #35 part 7).

* XML, the `common` folder of a CLDR release, as Debian's package `unicode-cldr-core` installs it:
  `annotations/<language>.xml` for single characters, `annotationsDerived/<language>.xml` for sequences.
* JSON, the npm packages `cldr-annotations-full` and `cldr-annotations-derived-full`:
  `annotations/<language>/annotations.json` and `annotationsDerived/<language>/annotations.json`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PARTS = ("annotations", "annotationsDerived")
NPM_PACKAGES = {"annotations": "cldr-annotations-full", "annotationsDerived": "cldr-annotations-derived-full"}
# Places where the annotations are found without an argument.
CLDR_FOLDERS = (Path("/usr/share/unicode/cldr/common"), Path("node_modules"))
# Only `xx` and `xx_Scrp`: a file with a territory (es_MX) holds only differences to its parent language.
LANGUAGE_FILE = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?")
ROOT = ("root", "und")  # values of no language


@dataclass(frozen=True)
class Annotation:
    """Name and keywords of one character or sequence in one language."""

    name: str
    keywords: tuple[str, ...]


def find_cldr() -> Path:
    """First of `CLDR_FOLDERS` that has annotations, or the first of them."""
    found = [folder for folder in CLDR_FOLDERS if all(_part_folder(folder, part) for part in PARTS)]
    return (found or CLDR_FOLDERS)[0]


def _part_folder(folder: Path, part: str) -> Path | None:
    """Folder of the annotation files of one part, below a CLDR release or below npm packages."""
    places = (folder / part, folder / NPM_PACKAGES[part] / part, folder / "node_modules" / NPM_PACKAGES[part] / part)
    return next((place for place in places if place.is_dir()), None)


def list_languages(folder: Path) -> tuple[list[str], list[str]]:
    """Languages with a file of their own, and the regional files that are left out, both sorted.

    Args:
        folder: CLDR `common` folder, or folder of the npm packages.

    Raises:
        FileNotFoundError: The annotations are not below `folder`.
    """
    for part in PARTS:
        if _part_folder(folder, part) is None:
            raise FileNotFoundError(
                f"No CLDR annotations at {folder / part}: install them with `apt-get install unicode-cldr-core` or "
                f"`npm install {' '.join(NPM_PACKAGES.values())}`, or set cldr_folder to the `common` folder of a CLDR "
                "release or to node_modules."
            )
    annotations = _part_folder(folder, PARTS[0])
    names = {path.stem for path in annotations.glob("*.xml")}
    names |= {path.parent.name.replace("-", "_") for path in annotations.glob("*/annotations.json")}
    names -= set(ROOT)
    languages = sorted(name for name in names if LANGUAGE_FILE.fullmatch(name))
    return languages, sorted(names - set(languages))


def read_annotations(folder: Path, language: str) -> dict[str, Annotation]:
    """Every character or sequence that a language has a name for; keywords exclude the name itself.

    Values that a file would inherit from a parent language are left out: they are words of another language.

    Args:
        folder: As for `list_languages`.
        language: CLDR code, such as "de" or "zh_Hant".
    """
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        for code_points, is_name, values in _entries(_part_folder(folder, part), language):
            values = [" ".join(value.split()) for value in values]
            if is_name and values and values[0]:
                names[code_points] = values[0]
            elif not is_name:
                keywords[code_points] = tuple(dict.fromkeys(word for word in values if word))
    return {
        cp: Annotation(name, tuple(word for word in keywords.get(cp, ()) if word != name)) for cp, name in names.items()
    }


def _entries(folder: Path | None, language: str) -> Iterator[tuple[str, bool, list[str]]]:
    """(code points, whether it is the name, texts) of one file."""
    if folder is None:
        return
    xml, table = folder / f"{language}.xml", folder / language.replace("_", "-") / "annotations.json"
    if xml.is_file():
        for node in ElementTree.parse(xml).iter("annotation"):
            is_name = node.get("type") == "tts"
            yield node.get("cp"), is_name, [node.text or ""] if is_name else (node.text or "").split("|")
    elif table.is_file():
        content = json.loads(table.read_text(encoding="utf-8"))
        for code_points, entry in content[folder.name].get("annotations", {}).items():
            yield code_points, True, entry.get("tts", [])
            yield code_points, False, entry.get("default", [])


def cldr_version(folder: Path) -> str:
    """Release of the annotations, or "unknown".

    Args:
        folder: As for `list_languages`.
    """
    dtd = folder / "dtd" / "ldml.dtd"
    if dtd.is_file():
        found = re.search(r'cldrVersion CDATA #FIXED "([^"]+)"', dtd.read_text(encoding="utf-8"))
        return found.group(1) if found else "unknown"
    annotations = _part_folder(folder, PARTS[0])
    package = annotations.parent / "package.json" if annotations else dtd
    return (
        json.loads(package.read_text(encoding="utf-8")).get("cldrVersion", "unknown")
        if package.is_file()
        else "unknown"
    )
