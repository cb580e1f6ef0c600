"""Icons of one Iconify set: drawings with their size, names, aliases and the style words of the set."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from clippo.pictograms.licences import BRAND_WORDS

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
# A few drawings trace photographs in tens of thousands of paths. The largest normal one is a tenth of this.
MAX_BYTES = 500_000
MAX_PARENTS = 8  # aliases of aliases


@dataclass(frozen=True)
class Icon:
    """One icon of a set.

    Attributes:
        name: Its name in the set.
        body: Elements of the SVG, without the outer one.
        view_box: Left, top, width and height of the drawing.
        rotate: Quarter turns clockwise of the finished picture.
        flips: "h", "v", "hv" or "": mirroring of the finished picture before it is turned.
        aliases: Other names of the same picture.
        chars: Emoji that it draws, as hexadecimal code points joined by "-".
    """

    name: str
    body: str
    view_box: str = "0 0 16 16"
    rotate: int = 0
    flips: str = ""
    aliases: tuple[str, ...] = ()
    chars: tuple[str, ...] = ()

    def document(self, side: int) -> str:
        """SVG document of a square of `side` pixels in which `currentColor` is black.

        The drawing keeps its proportions and stands in the middle, as SVG's `preserveAspectRatio` says.
        """
        return f'{HEAD} viewBox="{self.view_box}" width="{side}" height="{side}" color="#000">{self.body}</svg>'


@dataclass
class SetFile:
    """Content of `json/SET.json`: icons, those left out by reason, and style words.

    Attributes:
        icons: Icons in the order of their names.
        left_out: Reason -> names.
        prefixes, suffixes: Style parts of names as the set declares them, without the empty one.
    """

    icons: list[Icon] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


def read_set(file: Path) -> SetFile:
    """Icons of a set; an icon that cannot be used is counted, never fatal.

    Args:
        file: `json/SET.json`.

    Raises:
        ValueError: The file is not JSON with icons.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        drawings = dict(content["icons"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not hold an Iconify set ({error}); fetch the package again.") from None
    result = SetFile(
        prefixes=tuple(part for part in content.get("prefixes") or () if part),
        suffixes=tuple(part for part in content.get("suffixes") or () if part),
    )
    names, turned = _aliases(content)
    brands = _brands(content)
    chars: dict[str, list[str]] = {}
    for code_points, name in sorted((content.get("chars") or {}).items()):
        chars.setdefault(name, []).append(code_points)
    for name in sorted([*drawings, *turned]):
        parent, changes = turned.get(name, (name, {}))
        entry = drawings[parent] if isinstance(drawings[parent], dict) else {}
        reason = _reason_against(name, entry, brands)
        if reason:
            result.left_out.setdefault(reason, []).append(name)
            continue
        result.icons.append(
            Icon(
                name,
                entry["body"],
                _view_box(entry, content),
                rotate=(int(entry.get("rotate", 0)) + int(changes.get("rotate", 0))) % 4,
                flips=_flips(entry, changes),
                aliases=tuple(names.get(name, ())),
                chars=tuple(chars.get(name, ())),
            )
        )
    return result


def _aliases(content: dict) -> tuple[dict[str, list[str]], dict[str, tuple[str, dict]]]:
    """Icon -> its other names, and name -> (icon, changes) of aliases that turn or mirror an icon."""
    names: dict[str, list[str]] = {}
    turned: dict[str, tuple[str, dict]] = {}
    aliases, icons = content.get("aliases") or {}, content["icons"]
    for alias in sorted(aliases):
        parent, changes = alias, {}
        for _ in range(MAX_PARENTS):
            if parent in icons or parent not in aliases:
                break
            changes = {**{key: value for key, value in aliases[parent].items() if key != "parent"}, **changes}
            parent = aliases[parent].get("parent")
        if parent not in icons or alias in icons:
            continue
        if any(changes.get(key) for key in ("rotate", "hFlip", "vFlip")):
            turned[alias] = (parent, changes)
        else:
            names.setdefault(parent, []).append(alias)
    return names, turned


def _brands(content: dict) -> set[str]:
    """Icons in the categories of brands and logos."""
    categories = content.get("categories") or {}
    return {
        name
        for category, names in categories.items()
        if BRAND_WORDS & set(category.lower().replace("/", " ").split())
        for name in names
    }


def _reason_against(name: str, entry: dict, brands: set[str]) -> str | None:
    body = entry.get("body")
    if not isinstance(body, str) or not body.strip():
        return "no drawing"
    if entry.get("hidden"):
        return "hidden in its set"
    if name in brands or BRAND_WORDS & set(name.split("-")):
        return "brand logos"
    if len(body.encode()) > MAX_BYTES:
        return f"drawing of more than {MAX_BYTES:,} bytes"
    return None


def _flips(entry: dict, changes: dict) -> str:
    mirrored = {
        letter: bool(entry.get(key)) != bool(changes.get(key)) for letter, key in (("h", "hFlip"), ("v", "vFlip"))
    }
    return "".join(letter for letter, on in mirrored.items() if on)


def _view_box(entry: dict, content: dict) -> str:
    sides = (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    return " ".join(str(entry.get(key, content.get(key, default))) for key, default in sides)
