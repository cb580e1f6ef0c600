"""Tags that packages of single icon sets give: more English words for a picture than its name."""

import json
import re
from collections import defaultdict
from pathlib import Path

MOST = 12  # tags of an icon that are kept, in the order of the package
PHOSPHOR = re.compile(r'readonly name: "([^"]+)";.*?readonly tags: readonly \[([^\]]*)\]', re.DOTALL)
QUOTED = re.compile(r'"([^"]+)"')
# Sets of @iconify/json whose names are those of the package with the tags.
SETS = {
    "lucide-static": ("lucide",),
    "@phosphor-icons/core": ("ph",),
    "@tabler/icons": ("tabler",),
    "@fortawesome/fontawesome-free": ("fa7-solid", "fa7-regular", "fa6-solid", "fa6-regular"),
}


def read_tags(packages: dict[str, Path]) -> dict[str, dict[str, list[str]]]:
    """Set -> name without style -> tags, from the packages that are there.

    Args:
        packages: Name -> folder, see `find_packages`.
    """
    readers = {
        "lucide-static": _lucide,
        "@phosphor-icons/core": _phosphor,
        "@tabler/icons": _tabler,
        "@fortawesome/fontawesome-free": _font_awesome,
    }
    tags: dict[str, dict[str, list[str]]] = {}
    for package, read in readers.items():
        if package in packages:
            found = {name: clean(words) for name, words in read(packages[package]).items()}
            tags.update(dict.fromkeys(SETS[package], found))
    return tags


def clean(tags: list) -> list[str]:
    """Tags as lower-case text, without marks such as "*new*", at most `MOST`.

    Args:
        tags: Tags of a package.
    """
    texts = (" ".join(str(tag).replace("-", " ").replace("_", " ").lower().split()) for tag in tags)
    kept = [text for text in texts if text and "*" not in text and any(letter.isalpha() for letter in text)]
    return list(dict.fromkeys(kept))[:MOST]


def _json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _lucide(folder: Path) -> dict[str, list]:
    return _json(folder / "tags.json")


def _phosphor(folder: Path) -> dict[str, list]:
    file = folder / "dist" / "icons.d.ts"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return {name: QUOTED.findall(tags) for name, tags in PHOSPHOR.findall(text)}


def _tabler(folder: Path) -> dict[str, list]:
    return {name: entry.get("tags", []) for name, entry in _json(folder / "icons.json").items()}


def _font_awesome(folder: Path) -> dict[str, list]:
    table = _json(folder / "metadata" / "icon-families.json")
    return {name: (entry.get("search") or {}).get("terms") or [] for name, entry in table.items()}


def read_emojibase(folder: Path | None) -> dict[str, dict[str, list[str]]]:
    """CLDR language -> code points -> label and tags.

    Args:
        folder: Folder of `emojibase-data`, or None.

    Returns:
        Code points are lower case, joined by "-", without U+FE0F. Regional files (en-gb, es-mx) are left out.
    """
    words: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for file in sorted(folder.glob("*/data.json")) if folder else ():
        language = {"zh-hant": "zh_Hant"}.get(file.parent.name, file.parent.name)
        if "-" in language:
            continue
        for entry in json.loads(file.read_text(encoding="utf-8")):
            points = "-".join(part for part in entry["hexcode"].lower().split("-") if part != "fe0f")
            words[language][points] = [entry["label"], *entry.get("tags", ())]
    return dict(words)
