"""Rows of the data set, made of the parts of all sets: words, concepts, duplicates and splits; no pixels."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from clippo.pictograms.concepts import Concepts
from clippo.pictograms.duplicates import near_pairs
from clippo.pictograms.licences import BRANDS, IconSet
from clippo.pictograms.parts import part_facts
from clippo.pictograms.splits import HELD_OUT_SETS, NEAR, STYLE, TRAIN, split_of
from clippo.pictograms.words import SetNames, drawing_style, words_of

FLAGS, EMOJI = "Flags / Maps", "Emoji"
# Emoji of one person in five skin tones and four hairs differ by a shade. Fluent writes the tone alone.
TONES = frozenset({"dark", "medium", "light"})
VARIANTS = frozenset({"skin", "hair", "bald", "beard"})
# Words that sets add to the name of a brand.
SHAPES = frozenset(
    {"box", "circle", "square", "alt", "letter", "rounded", "icon", "app", "new", "badge", "mark", "brand"}
)
BEST_SIZE = 24  # a set that draws one picture for several sizes: the one nearest to this is kept
MOST_TEXTS = 16  # English texts of a picture beside its name


@dataclass
class Row:
    """One picture of the data set, without its pixels.

    Attributes:
        set_name, name: Set, and name in the set; together the identifier.
        place: Row of the set's part.
        words: English words of the name.
        style_words: Style words of the name.
        style: "colour", "outline" or "filled".
        mask: True when the alpha of the picture says everything.
        digest, shape: Hashes of the pixels, see `duplicates.py`.
        texts: Further English texts: aliases, tags, names of equal pictures.
        chars: Emoji that it draws.
        concept: Identifier of the CLDR character, or "en:" and the words.
        link: Rule that found the character, or "".
        split: See `splits.py`.
    """

    set_name: str
    name: str
    place: int
    words: tuple[str, ...]
    style_words: tuple[str, ...]
    style: str
    mask: bool
    digest: bytes
    shape: bytes
    texts: list[str] = field(default_factory=list)
    chars: tuple[str, ...] = ()
    concept: str = ""
    link: str = ""
    split: str = TRAIN

    @property
    def id(self) -> str:
        return f"{self.set_name}:{self.name}"


class LeftOut(dict):
    """Reason -> identifiers of pictures or names of sets."""

    def add(self, reason: str, name: str) -> None:
        """Count one more.

        Args:
            reason: Why it is left out.
            name: Identifier.
        """
        self.setdefault(reason, []).append(name)


def read_rows(
    sets: list[IconSet],
    parts: Path,
    tags: dict[str, dict[str, list[str]]],
    left_out: LeftOut,
    brands: frozenset[str] = frozenset(),
) -> list[Row]:
    """Rows of all sets, in the order of their identifiers, one for several sizes of a picture.

    Args:
        sets: Sets of the data set.
        parts: Folder of the drawn parts.
        tags: Set -> name -> tags, see `read_tags`.
        left_out: Filled with what is left out.
        brands: Names of brands without separators.
    """
    rows: list[Row] = []
    for icon_set in sorted(sets, key=lambda one: one.prefix):
        part = parts / f"{icon_set.prefix}.parquet"
        facts = part_facts(part)
        for reason, names in facts.get("left_out", {}).items():
            for name in names:
                left_out.add(reason, f"{icon_set.prefix}:{name}")
        columns = ["name", "mask", "stroked", "digest", "shape", "aliases", "chars"]
        drawn = parquet.read_table(part, columns=columns).to_pylist()
        names = SetNames([one["name"] for one in drawn], facts["prefixes"], facts["suffixes"])
        found = []
        for place, one in enumerate(drawn):
            row = _row(icon_set, place, one, names, tags.get(icon_set.prefix, {}))
            reason = _reason_against(row, icon_set, brands)
            if reason is None:
                found.append(row)
            else:
                left_out.add(reason, row.id)
        rows += _one_size(found, left_out)
    return rows


def _reason_against(row: Row, icon_set: IconSet, brands: frozenset[str]) -> str | None:
    if not row.words:
        return "name without words"
    if (icon_set.category == EMOJI or "emoji" in icon_set.prefix) and _is_variant(row):
        return "skin tone or hair variant"
    if "".join(word for word in row.words if word not in SHAPES) in brands:
        return BRANDS
    return None


def _is_variant(row: Row) -> bool:
    words = set(row.words)
    return (
        {"skin", "tone"} <= words or row.words[-1] in TONES or "light" in row.style_words or len(words & VARIANTS) > 1
    )


def brand_names(simple_icons: Path, concepts: Concepts) -> frozenset[str]:
    """Names of brands without separators, but for those that are words of CLDR ("target", "apple").

    Args:
        simple_icons: `json/simple-icons.json` of Iconify, the list of brands.
        concepts: Characters of CLDR.
    """
    if not simple_icons.is_file():
        return frozenset()
    content = json.loads(simple_icons.read_text(encoding="utf-8"))
    names = {"".join(words_of(name)) for name in content.get("icons", {})}
    return frozenset(name for name in names if len(name) > 2) - concepts.words()


def _row(icon_set: IconSet, place: int, drawn: dict, names: SetNames, tags: dict[str, list[str]]) -> Row:
    name = names.split(drawn["name"])
    texts = [" ".join(names.split(alias).words) for alias in drawn["aliases"]]
    texts += tags.get("-".join(name.words), []) or tags.get(drawn["name"], [])
    own = " ".join(name.words)
    return Row(
        icon_set.prefix,
        drawn["name"],
        place,
        name.words,
        name.style,
        drawing_style(name.style, not drawn["mask"], drawn["stroked"]),
        drawn["mask"],
        drawn["digest"],
        drawn["shape"],
        [text for text in dict.fromkeys(texts) if text and text != own],
        tuple(drawn["chars"]),
    )


def _one_size(rows: list[Row], left_out: LeftOut) -> list[Row]:
    """One row where a set draws a picture for several sizes."""
    same: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        sizes = [word for word in row.style_words if word[:1].isdigit() and "x" not in word[:-1]]
        style = tuple(word for word in row.style_words if word not in sizes)
        # Without a size in its name a picture stands alone: "home" and "home-2" are two drawings.
        same[(row.words, style) if sizes else (row.name,)].append(row)

    def distance(row: Row) -> tuple[int, str]:
        size = next(int(word.removesuffix("px")) for word in row.style_words if word.removesuffix("px").isdigit())
        return abs(size - BEST_SIZE), row.name

    kept = []
    for group in same.values():
        best, *others = sorted(group, key=distance) if len(group) > 1 else group
        kept.append(best)
        for row in others:
            left_out.add("another size of one picture", row.id)
    return sorted(kept, key=lambda row: row.place)


def link_concepts(rows: list[Row], concepts: Concepts, flag_sets: set[str]) -> None:
    """Give every row its concept; see `concepts.py` for the rules.

    Args:
        rows: Rows, changed in place.
        concepts: Characters of CLDR.
        flag_sets: Sets whose names are region codes.
    """
    pooled: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        pooled[row.words].update(row.texts)
    found: dict[tuple[str, ...], tuple[str, str] | None] = {}
    for row in rows:
        row.concept, row.link = concepts.of_code_points(row.chars) or "", "code points"
        if not row.concept and row.set_name in flag_sets:
            row.concept, row.link = concepts.of_region(row.words[0]) or "", "region"
        if not row.concept:
            if row.words not in found:
                found[row.words] = concepts.link(row.words, pooled[row.words])
            row.concept, row.link = found[row.words] or ("en:" + " ".join(row.words), "")


def flag_sets(sets: list[IconSet]) -> set[str]:
    """Sets of coloured flags.

    Args:
        sets: Sets of the data set.
    """
    return {icon_set.prefix for icon_set in sets if icon_set.category == FLAGS and icon_set.in_colour}


def merge_equal(rows: list[Row], left_out: LeftOut, titles: dict[str, str] | None = None) -> list[Row]:
    """One row for equal pictures of all sets: a linked one with the shortest title, then in the order of identifiers.

    The flag of France is also that of Saint Barthélemy; the shorter name is the one that people mean.

    The names of the others become further texts of the row that stays, where they show the same concept or none is
    linked.

    Args:
        rows: Rows in order.
        left_out: Filled with the equal ones.
        titles: Concept -> English name.
    """
    titles = titles or {}
    by_digest: dict[bytes, list[Row]] = defaultdict(list)
    for row in rows:
        by_digest[row.digest].append(row)
    kept = []
    for same in by_digest.values():
        best = min(same, key=lambda row: (not row.link, len(titles.get(row.concept, "")), row.id))
        others = [row for row in same if row is not best]
        texts = list(best.texts)
        for row in others:
            left_out.add("same picture as another", row.id)
            if not row.link or row.concept == best.concept:
                texts += [" ".join(row.words), *row.texts]
        own = " ".join(best.words)
        best.texts = [text for text in dict.fromkeys(texts) if text != own][:MOST_TEXTS]
        kept.append(best)
    return sorted(kept, key=lambda row: row.id)


def split_rows(rows: list[Row], held_out_sets: tuple[str, ...] = HELD_OUT_SETS) -> None:
    """Give every row its split; training pictures nearly equal to one of a held-out set leave training.

    Args:
        rows: Rows, changed in place.
        held_out_sets: Sets that are held out.
    """
    for row in rows:
        row.split = split_of(row.set_name, row.concept, held_out_sets)
    held_out = [row for row in rows if row.split == STYLE]
    others = [row for row in rows if row.split == TRAIN]
    if not held_out or not others:
        return
    near = near_pairs(_shapes(others), _shapes(held_out))
    for row, nearest in zip(others, near.tolist(), strict=True):
        if nearest >= 0 and row.concept == held_out[nearest].concept:
            row.split = NEAR


def _shapes(rows: list[Row]) -> np.ndarray:
    return np.frombuffer(b"".join(row.shape for row in rows), np.uint8).reshape(len(rows), -1)
