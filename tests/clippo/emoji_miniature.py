"""A made-up miniature of the two sources of the emoji data set, so that the builder is tested without them."""

import hashlib

import numpy as np
import pytest

from clippo.emoji import build as emoji

# A Swiss flag whose twin shares its picture, a hand with a skin tone, an ASCII sign, a sign that the font lacks.
ENGLISH = {
    "🍕": ("pizza", "cheese | pizza | slice"),
    "🚀": ("rocket", "space | launch"),
    "🐈": ("cat", "pet"),
    "🇨🇭": ("flag: CH", "flag"),
    "🇱🇮": ("flag: twin of CH", "flag"),
    "✋": ("raised hand", "hand | stop"),
    "✋🏽": ("raised hand: medium skin tone", "hand"),
    "#": ("hash sign", "number"),
    "₫": ("Vietnamese dong", "currency"),
    **{chr(0x1F600 + i): (f"face {i}", f"smile {i} | grin {i}") for i in range(40)},
}
GERMAN = {cp: (f"{name} auf Deutsch", f"Wort {name} | {name}wort") for cp, (name, _) in ENGLISH.items()} | {
    "🍕": ("Pizza", "Stück | Käse")
}
RUSSIAN = {"🍕": ("пицца", "сыр"), "🚀": ("ракета", ""), "🐈": ("кошка", "")} | {
    chr(0x1F600 + i): ("лицо " + "а" * (i + 1), "") for i in range(20)
}


class PretendFont:
    """Stands in for `EmojiFont`: a disc on transparent ground, its colour a hash of the emoji."""

    sha256 = "0" * 64

    def __init__(self, path=None):
        pass

    def picture(self, text):
        if text == "₫":
            return None
        color = hashlib.sha256({"🇱🇮": "🇨🇭"}.get(text, text).encode()).digest()[:3]
        y, x = np.mgrid[:24, :24] - 11.5
        pixels = np.zeros((24, 24, 4), dtype=np.uint8)
        pixels[y**2 + x**2 < 100] = (*color, 255)
        return pixels


def _write(folder, language, entries):
    lines = []
    for cp, (name, keywords) in entries.items():
        if keywords:
            lines.append(f'<annotation cp="{cp}">{keywords}</annotation>')
        lines.append(f'<annotation cp="{cp}" type="tts">{name}</annotation>')
    folder.mkdir(parents=True, exist_ok=True)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<ldml><annotations>{"".join(lines)}</annotations></ldml>\n'
    (folder / f"{language}.xml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def cldr_folder(tmp_path_factory):
    """English, German and Russian; a language with one name only; a regional file; names of sequences set apart."""
    folder = tmp_path_factory.mktemp("cldr")
    for language, entries in (("en", ENGLISH), ("de", GERMAN), ("ru", RUSSIAN)):
        single = {cp: entry for cp, entry in entries.items() if len(cp) == 1}
        _write(folder / "annotations", language, single)
        _write(folder / "annotationsDerived", language, {cp: entries[cp] for cp in entries.keys() - single.keys()})
    _write(folder / "annotations", "sr_Latn", {"🍕": ("pica", "")})
    _write(folder / "annotations", "de_CH", {"🍕": ("Pizza", "")})
    _write(folder / "annotations", "root", {})
    (folder / "dtd").mkdir()
    (folder / "dtd" / "ldml.dtd").write_text('<!ATTLIST version cldrVersion CDATA #FIXED "41" >\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def build(cldr_folder):
    """The builder on the miniature sources: `build(folder, **options)` -> the info it returns."""

    def run(folder, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(emoji, "EmojiFont", PretendFont)
            return emoji.build_emoji_dataset(folder, "unused.ttf", cldr_folder, **options)

    return run


@pytest.fixture(scope="session")
def emoji_folder(build, tmp_path_factory):
    """A built miniature data set with a quarter of its pairs held out."""
    folder = tmp_path_factory.mktemp("emoji")
    build(folder, held_out=0.25)
    return folder
