"""Names and keywords of characters in many languages, from the Unicode CLDR annotation files.

The files are what Debian's package `unicode-cldr-core` installs: `annotations/<language>.xml` for single characters and
`annotationsDerived/<language>.xml` for sequences. In both, `<annotation cp=… type="tts">` holds the name and
`<annotation cp=…>` the keywords, separated by " | "; U+FE0F has been removed from every `cp` (UTS #35 part 7).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

FOLDERS = ("annotations", "annotationsDerived")
# Only `xx` and `xx_Scrp`: a file with a territory (es_MX) holds only differences to its parent language.
LANGUAGE_FILE = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?")


@dataclass(frozen=True)
class Annotation:
    """What one language calls one character or sequence."""

    name: str
    keywords: tuple[str, ...]


def list_languages(folder: Path) -> tuple[list[str], list[str]]:
    """Languages that have a file of their own, and the names of the regional files left out, both sorted.

    Raises `FileNotFoundError` naming the Debian package when the annotation folders are not below `folder`.
    """
    for name in FOLDERS:
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"No CLDR annotations at {folder / name}: install them with `apt-get install unicode-cldr-core`, or "
                "point cldr_folder at the `common` folder of a CLDR release."
            )
    stems = sorted(path.stem for path in (folder / FOLDERS[0]).glob("*.xml") if path.stem != "root")
    languages = [stem for stem in stems if LANGUAGE_FILE.fullmatch(stem)]
    return languages, [stem for stem in stems if stem not in set(languages)]


def read_annotations(folder: Path, language: str) -> dict[str, Annotation]:
    """Every character or sequence that `language` has a name for; keywords exclude the name itself.

    What a file lacks stays lacking: values inherited from a parent language would put one language's words under
    another's label.
    """
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for part in FOLDERS:
        path = folder / part / f"{language}.xml"
        if not path.is_file():
            continue
        for node in ElementTree.parse(path).iter("annotation"):
            text = " ".join((node.text or "").split())
            if node.get("type") == "tts":
                if text:
                    names[node.get("cp")] = text
            else:
                words = (word.strip() for word in text.split("|"))
                keywords[node.get("cp")] = tuple(dict.fromkeys(word for word in words if word))
    return {
        cp: Annotation(name, tuple(word for word in keywords.get(cp, ()) if word != name)) for cp, name in names.items()
    }


def cldr_version(folder: Path) -> str:
    """The release the files come from, as their DTD states it, or "unknown"."""
    dtd = folder / "dtd" / "ldml.dtd"
    found = re.search(r'cldrVersion CDATA #FIXED "([^"]+)"', dtd.read_text(encoding="utf-8")) if dtd.is_file() else None
    return found.group(1) if found else "unknown"
