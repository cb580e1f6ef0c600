"""Optional shaping: right-to-left order, joined Arabic forms, composed letters, combining marks on their base.

The official model was trained without shaping. This design is the project's own, for new models. HarfBuzz shapes with a
font in which the number of a glyph is its code point. The font has no layout tables, so HarfBuzz uses the forms that
Unicode itself encodes: Arabic presentation forms, composed letters, Hangul syllables. Unifont, and any other font with
these code points, then draws joined text from plain bitmaps. Forms that need a font's own tables (Indic conjuncts,
Nastaliq) are not drawn. The bidi levels come from python-bidi, an algorithm from before Unicode 6.3: isolates
(U+2066..2069) count as neutral, and brackets are not paired.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

from .font_files_clippo import font_lock
from .fonts_clippo import FontChain

try:
    import uharfbuzz as hb
    from bidi import algorithm as bidi
except ImportError:  # the extra is not installed; `require_shaping` says so when shaping is asked for
    hb = bidi = None

_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
# A capital and the characters after it that may be marks: no letter of a simple script, no blank. NFC decides.
_LETTER_AND_MARKS = re.compile(r"([A-Z])([^\x00-\u02ff]*)")
_REMOVED_BY_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "BN"}  # UAX #9, rule X9
_SHADDA_LIGATURES = range(0xFC5E, 0xFC64)  # letters by category, but drawn above a letter as marks


class ShapedText(NamedTuple):
    """A text as units to be drawn, in logical order.

    Args:
        units: Code points of every unit: a base and the marks on it; empty if no font has the base.
        levels: uint8 (units,), bidi embedding levels; odd is right to left.
        unit_of_char: int64 (characters,), the unit that draws each character; -1 if none does.
    """

    units: list[tuple[int, ...]]
    levels: np.ndarray
    unit_of_char: np.ndarray


def require_shaping() -> None:
    """Raises ImportError, naming the extra, if the shaping libraries are missing."""
    if hb is None:
        raise ImportError("Shaping needs uharfbuzz and python-bidi; install them with: pip install clippo[shaping]")


def is_mark(code_point: int) -> bool:
    return unicodedata.category(chr(code_point)) in ("Mn", "Me") or code_point in _SHADDA_LIGATURES


def shape_text(text: str, fonts: FontChain, lowercase: bool) -> ShapedText:
    """Shapes one text. Invisible controls (joiners, bidi marks, variation selectors) take effect and are not drawn."""
    if lowercase:
        text = _lower(text)
    if text.isascii():
        return ShapedText([(ord(c),) for c in text], np.zeros(len(text), np.uint8), np.arange(len(text)))
    code_points = [ord(c) for c in text]
    levels = _bidi_levels(text)
    units: list[tuple[int, ...]] = []
    unit_levels: list[int] = []
    unit_of_char = np.full(len(text), -1, np.int64)
    runs = groupby(range(len(text)), key=list(zip(levels, _scripts(text), strict=True)).__getitem__)
    for (level, _), run in runs:
        indices = list(run)
        first, count = indices[0], len(indices)
        run_start = len(units)
        glyphs = _harfbuzz(code_points, first, count, level % 2 == 1, fonts)
        for cluster, members in groupby(glyphs, key=lambda glyph: glyph[1]):
            cluster_start = len(units)
            for code_point, _ in members:
                # A mark goes on the unit before it, but never on one of another run, whose direction it would take.
                if code_point is not None and is_mark(code_point) and len(units) > run_start:
                    units[-1] += (code_point,)
                else:
                    units.append(() if code_point is None else (code_point,))
                    unit_levels.append(level)
            unit_of_char[cluster] = min(cluster_start, len(units) - 1)
    # Characters merged into a cluster, or removed by HarfBuzz, share the unit of the character before them.
    np.maximum.accumulate(unit_of_char, out=unit_of_char)
    return ShapedText(units, np.array(unit_levels, np.uint8), unit_of_char)


def _lower(text: str) -> str:
    """Lowers A-Z before letters are composed, except a letter that composes with its marks.

    A + acute is the same text as the composed letter, which stays a capital because it is not ASCII.
    """
    if text.isascii():
        return text.translate(_LOWER)
    return _LETTER_AND_MARKS.sub(_lower_unless_composed, text)


def _lower_unless_composed(match: re.Match) -> str:
    letter, marks = match[1], match[2]
    return match[0] if marks and unicodedata.normalize("NFC", match[0])[0] != letter else letter.lower() + marks


def visual_order(levels: np.ndarray) -> np.ndarray:
    """Order from left to right of the units of one row (UAX #9, rule L2): int64 (units,) of logical indices."""
    order = np.arange(len(levels))
    for level in range(int(levels.max(initial=0)), 0, -1):
        high = np.concatenate([[0], levels[order] >= level, [0]])
        edges = np.flatnonzero(np.diff(high))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            order[start:end] = order[start:end][::-1]
    return order


def compose(base: np.ndarray, marks: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Draws marks on a base glyph.

    A mark is centred on the base's ink. Marks above and below (combining class 230, 220 and their neighbours) go one
    blank row beyond all ink so far, or as far as the text row allows; others keep the height of their design.

    Args:
        base: uint8 (width, 16), the columns as drawn alone; nonzero is ink.
        marks: Code point and uint8 (cell, 16) of each mark, from the base outwards.

    Returns:
        uint8 (width or more, 16).
    """
    for code_point, mark in marks:
        inked = np.flatnonzero(mark.any(axis=1))
        if not len(inked):
            continue
        mark = mark[inked[0] : inked[-1] + 1]
        body = np.flatnonzero(base.any(axis=1))
        if len(body):
            mark = np.roll(mark, _shift(code_point, mark, base), axis=1)
        centre = body[0] + body[-1] + 1 if len(body) else len(base)  # twice the middle
        left = (centre - len(mark)) // 2
        base = np.pad(base, ((max(-left, 0), max(left + len(mark) - len(base), 0)), (0, 0)))
        under = base[max(left, 0) : max(left, 0) + len(mark)]  # a view
        np.maximum(under, mark, out=under)
    return base


def _shift(code_point: int, mark: np.ndarray, base: np.ndarray) -> int:
    """Rows that a mark moves down to be above or below the base. Both have ink."""
    combining = 230 if code_point in _SHADDA_LIGATURES else unicodedata.combining(chr(code_point))
    top, bottom = np.flatnonzero(mark.any(axis=0))[[0, -1]].tolist()
    base_top, base_bottom = np.flatnonzero(base.any(axis=0))[[0, -1]].tolist()
    if combining in (228, 230, 232, 234):
        return max(base_top - 2 - bottom, -top)
    if combining in (218, 220, 222, 233):
        return min(base_bottom + 2 - top, base.shape[1] - 1 - bottom)
    return 0


def _bidi_levels(text: str) -> list[int]:
    """UAX #9 embedding levels of one paragraph, one per character."""
    base = bidi.get_base_level(text)
    types = [unicodedata.bidirectional(c) for c in text]
    if base == 0 and not {"R", "AL", "AN", "RLE", "RLO"}.intersection(types):
        return [0] * len(text)
    # python-bidi asserts on classes it does not know: unassigned code points and isolates
    types = ["L" if t == "" else "ON" if t in ("LRI", "RLI", "FSI", "PDI") else t for t in types]
    chars = [{"index": i, "ch": text[i], "level": base, "type": t, "orig": t} for i, t in enumerate(types)]
    storage = {**bidi.get_empty_storage(), "base_level": base, "base_dir": "LR"[base], "chars": chars}
    bidi.explicit_embed_and_overrides(storage)
    bidi.resolve_weak_types(storage)
    bidi.resolve_neutral_types(storage, False)
    bidi.resolve_implicit_levels(storage, False)
    levels = [-1] * len(text)
    for char in storage["chars"]:
        levels[char["index"]] = char["level"]
    previous = base
    for i, level in enumerate(levels):  # characters that rule X9 removed take the level of the one before
        levels[i] = previous = previous if level < 0 else level
    return levels


def _scripts(text: str) -> list[str]:
    """A coarse script per character: the first word of a letter's Unicode name. Other characters continue the last."""
    scripts, current = [], ""
    for c in text:
        if unicodedata.category(c)[0] == "L":
            current = unicodedata.name(c, current).split(" ")[0]
        scripts.append(current)
    return scripts


def _harfbuzz(
    code_points: list[int], first: int, count: int, rtl: bool, fonts: FontChain
) -> list[tuple[int | None, int]]:
    """(code point, index of its character) of a run's glyphs, in logical order; None where no font has a glyph."""
    buffer = hb.Buffer()
    # With the whole text as context, a letter joins across the border of a run.
    buffer.add_codepoints(code_points, first, count)
    buffer.guess_segment_properties()
    buffer.direction = "rtl" if rtl else "ltr"
    buffer.flags = hb.BufferFlags.REMOVE_DEFAULT_IGNORABLES | hb.BufferFlags.DO_NOT_INSERT_DOTTED_CIRCLE
    with font_lock():
        hb.shape(_code_point_font(fonts), buffer, {})
    # Glyph 0 is HarfBuzz's "not found", and U+0000 when that is the character.
    glyphs = [
        (info.codepoint if info.codepoint or not code_points[info.cluster] else None, info.cluster)
        for info in buffer.glyph_infos
    ]
    return glyphs[::-1] if rtl else glyphs


@lru_cache(maxsize=8)
def _code_point_font(fonts: FontChain):
    """A HarfBuzz font whose glyph numbers are code points."""
    functions = hb.FontFuncs()
    # HarfBuzz must know what the fonts lack, or it chooses a joined or composed form that would be blank.
    functions.set_nominal_glyph_func(lambda font, code_point, data: code_point if _drawable(fonts, code_point) else 0)
    functions.set_glyph_h_advance_func(lambda font, glyph, data: 16)
    font = hb.Font(hb.Face(b""))
    font.funcs = functions
    return font


@lru_cache(maxsize=65536)
def _drawable(fonts: FontChain, code_point: int) -> bool:
    return fonts.bitmap(code_point) is not None
