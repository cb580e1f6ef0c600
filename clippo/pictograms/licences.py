"""Icon sets that may be used: by licence, and without the drawings that no licence of a set covers.

A brand's logo is a trademark whatever the licence of the drawing. A spinner has no meaning without its motion.
"""

from dataclasses import dataclass

# SPDX names of licences under which a model and a sheet of thumbnails may be passed on with attribution alone.
# Share-alike (CC BY-SA), non-commercial (CC BY-NC) and copyleft (GPL, MPL) licences are left out.
ALLOWED = frozenset(
    {
        *("MIT", "Apache-2.0", "ISC", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "OFL-1.1", "BSD-2-Clause", "BSD-3-Clause"),
        "Unlicense",
    }
)
BRANDS = "brand logos"
# Categories of collections.json, and sets of other categories, whose drawings are left out.
LEFT_OUT_CATEGORIES = {"Logos": BRANDS, "Programming": BRANDS}
LEFT_OUT_SETS = {
    "academicons": BRANDS,
    "fa6-brands": BRANDS,
    "fa-brands": BRANDS,
    "websymbol": BRANDS,
    "bitcoin-icons": "cryptocurrencies",
    "svg-spinners": "spinners",
}
KEPT_SETS = frozenset({"codicon"})  # interface icons in a category of logos
ANIMATED = "Contains Animations"  # a tag; the first frame is often blank
# Words and categories that mark a logo inside a general set.
BRAND_WORDS = frozenset({"brand", "brands", "logo", "logos"})


@dataclass(frozen=True)
class IconSet:
    """One icon set as `collections.json` describes it.

    Attributes:
        prefix: Name of the set and of its file.
        title: Name for people.
        author: Authors, for the attribution.
        licence: SPDX name.
        category: Category of the collection, or "".
        url: Page of the licence or of the author, or "".
        in_colour: True when the drawings have colours of their own.
    """

    prefix: str
    title: str
    author: str
    licence: str
    category: str
    url: str
    in_colour: bool

    @property
    def attribution(self) -> str:
        """Title, authors and licence in one line."""
        return f"{self.title} by {self.author}, {self.licence}"


def read_sets(collections: dict) -> tuple[list[IconSet], dict[str, list[str]]]:
    """Sets that may be used, sorted by name, and the others by reason.

    Args:
        collections: Content of `collections.json`.

    Example:
        >>> from clippo.pictograms.licences import read_sets
        >>> entry = {"name": "Dots", "author": {"name": "Ann"}, "license": {"spdx": "MIT"}}
        >>> used, left_out = read_sets({"dots": entry, "bare": {"name": "Bare"}})
        >>> used[0].attribution, left_out
        ('Dots by Ann, MIT', {'no licence': ['bare']})
    """
    used, left_out = [], {}
    for prefix, entry in sorted(collections.items()):
        reason = reason_against(prefix, entry)
        if reason is None:
            used.append(_icon_set(prefix, entry))
        else:
            left_out.setdefault(reason, []).append(prefix)
    return used, dict(sorted(left_out.items()))


def reason_against(prefix: str, entry: dict) -> str | None:
    """Reason to leave a set out, or None.

    Args:
        prefix: Name of the set.
        entry: Its entry in `collections.json`.
    """
    licence = (entry.get("license") or {}).get("spdx")
    if not licence:
        return "no licence"
    if licence not in ALLOWED:
        return f"licence {licence}"
    if not (entry.get("author") or {}).get("name"):
        return "no author to attribute"
    if prefix in LEFT_OUT_SETS:
        return LEFT_OUT_SETS[prefix]
    if entry.get("category") in LEFT_OUT_CATEGORIES and prefix not in KEPT_SETS:
        return LEFT_OUT_CATEGORIES[entry["category"]]
    if ANIMATED in (entry.get("tags") or ()):
        return "animated"
    return None


def _icon_set(prefix: str, entry: dict) -> IconSet:
    return IconSet(
        prefix=prefix,
        title=entry.get("name") or prefix,
        author=entry["author"]["name"],
        licence=entry["license"]["spdx"],
        category=entry.get("category") or "",
        url=entry["license"].get("url") or entry["author"].get("url") or "",
        in_colour=bool(entry.get("palette")),
    )
