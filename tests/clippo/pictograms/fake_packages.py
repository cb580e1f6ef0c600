"""Tiny stand-ins for the npm packages: a few sets in the layout of Iconify, and CLDR in three languages."""

import json

DOT = '<circle cx="{x}" cy="8" r="{r}"/>'
BAR = '<path fill="none" stroke="currentColor" d="M2 {y}h12"/>'


def dot(x: int = 8, r: float = 6) -> dict:
    """Icon: a disc in `currentColor`."""
    return {"body": f'<circle fill="currentColor" cx="{x}" cy="8" r="{r}"/>'}


def bars(*heights: int) -> dict:
    """Icon: horizontal strokes."""
    return {"body": "".join(BAR.format(y=height) for height in heights)}


def red(x: int = 8) -> dict:
    """Icon with a colour of its own."""
    return {"body": f'<rect x="{x - 6}" y="3" width="9" height="9" fill="#d62828"/>'}


COLLECTIONS = {
    "plain": {"name": "Plain", "author": {"name": "Ann"}, "license": {"spdx": "MIT"}, "category": "UI 24px"},
    "faces": {
        "name": "Faces",
        "author": {"name": "Bo"},
        "license": {"spdx": "CC-BY-4.0"},
        "category": "Emoji",
        "palette": True,
    },
    "banners": {
        "name": "Banners",
        "author": {"name": "Cy"},
        "license": {"spdx": "CC0-1.0"},
        "category": "Flags / Maps",
        "palette": True,
    },
    "copies": {"name": "Copies", "author": {"name": "Di"}, "license": {"spdx": "ISC"}, "category": "UI 24px"},
    "sharealike": {"name": "Share", "author": {"name": "Ed"}, "license": {"spdx": "CC-BY-SA-4.0"}},
    "nolicence": {"name": "None", "author": {"name": "Flo"}},
    "marks": {"name": "Marks", "author": {"name": "Gil"}, "license": {"spdx": "MIT"}, "category": "Logos"},
    "damaged": {"name": "Damaged", "author": {"name": "Hu"}, "license": {"spdx": "MIT"}},
}
SETS = {
    "plain": {
        "icons": {
            "trash-outline": bars(3, 9),
            "trash-filled": bars(3, 9, 12),
            "rubbish-outline": bars(4, 7),
            "arrow-left-outline": bars(8),
            "arrow-left-filled": bars(8, 9, 10),
            "clever-outline": bars(2, 13),
            "home-20-filled": dot(8, 5),
            "home-24-filled": dot(8, 6),
            "home-28-filled": dot(8, 7),
            "broken": {"body": '<path d="M0 0h16'},
            "empty": {"body": ""},
            "invisible": {"body": '<path fill="none" d="M0 0h16"/>'},
            "secret": {**dot(), "hidden": True},
            "github-logo": dot(4),
            "acme-box": dot(5),
            "12345": dot(6),
        },
        "aliases": {
            "bin": {"parent": "trash-outline"},
            "arrow-up": {"parent": "arrow-left-outline", "rotate": 1},
            "orphan": {"parent": "missing"},
        },
        "suffixes": {"outline": "Outline", "filled": "Filled", "20-filled": "", "24-filled": "", "28-filled": ""},
    },
    "faces": {
        "icons": {
            "wastebasket": red(8),
            "brain": red(9),
            "rocket": red(10),
            "elf-light-skin-tone": red(6),
            "elf-medium": red(5),
        },
        "chars": {"1f5d1": "wastebasket", "1f9e0": "brain", "1f680": "rocket"},
    },
    "banners": {"icons": {"fr": red(11), "bl": red(11), "zz": red(7)}},
    "copies": {"icons": {"refuse": bars(3, 9), "lonely-thing": bars(5, 11), "rocket": bars(1, 5, 14)}},
    "sharealike": {"icons": {"a": dot()}},
    "marks": {"icons": {"acme": dot()}},
    "simple-icons": {"icons": {"acme": dot(), "rocket": dot()}},
}
CLDR = {
    "en": {
        "🗑": ("wastebasket", ["garbage", "litter", "rubbish"]),
        "🧠": ("brain", ["clever", "smart"]),
        "🚀": ("rocket", ["space"]),
        "⬅": ("left arrow", ["arrow", "west"]),
        "🇫🇷": ("flag: France", ["flag"]),
        "🇧🇱": ("flag: St. Barthélemy", ["flag"]),
        "🏠": ("house", ["home"]),
    },
    "de": {
        "🗑": ("Papierkorb", ["Müll"]),
        "🧠": ("Gehirn", ["klug"]),
        "🚀": ("Rakete", ["Weltraum"]),
        "⬅": ("Pfeil nach links", []),
        "🏠": ("Haus", ["Heim"]),
    },
    "ru": {"🗑": ("корзина", ["мусор"]), "🧠": ("мозг", []), "🚀": ("ракета", []), "🏠": ("дом", [])},
}


def write_packages(folder):
    """Write the packages below `folder`, as `npm install` lays them out, and return it."""
    for name, content in {"@iconify/json/collections.json": COLLECTIONS, **_sets()}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
    (folder / "@iconify/json/json/damaged.json").write_text("<html>", encoding="utf-8")
    for language, entries in CLDR.items():
        for part, package in (("annotations", "cldr-annotations-full"), ("annotationsDerived", None)):
            package = package or "cldr-annotations-derived-full"
            chosen = {text: one for text, one in entries.items() if (len(text) == 1) == (part == "annotations")}
            table = {text: {"tts": [name], "default": [*words, name]} for text, (name, words) in chosen.items()}
            file = folder / package / part / language / "annotations.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({part: {"annotations": table}}), encoding="utf-8")
    tags = folder / "lucide-static" / "tags.json"
    tags.parent.mkdir()
    tags.write_text(json.dumps({"x": ["y"]}), encoding="utf-8")
    return folder


def _sets() -> dict:
    return {
        f"@iconify/json/json/{name}.json": {"prefix": name, "width": 16, "height": 16, **content}
        for name, content in SETS.items()
    }
