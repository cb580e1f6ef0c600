"""Held-out parts of the pictograms: whole sets (styles), whole concepts, and (concept, language) pairs."""

import hashlib

# Families of sets whose style training never sees: one emoji style, and outline, filled and coloured icons. Sets of
# one family draw alike, so they are held out together.
HELD_OUT_SETS = ("twemoji", "lucide", "lucide-lab", "feather", "mingcute", "flat-color-icons")
CONCEPTS = 0.05  # share of the concepts that training never sees
PAIRS = 0.1  # share of the (concept, language) pairs that training never sees
# Values of the column `split` of a picture.
TRAIN, STYLE, CONCEPT, NEAR = "train", "held_out_style", "held_out_concept", "near_held_out"


def share_of(text: str) -> float:
    """Number in [0, 1) that a hash gives a text: the same in every build.

    Args:
        text: Any text.

    Example:
        >>> from clippo.pictograms.splits import share_of
        >>> round(share_of("1f5d1"), 3) == round(share_of("1f5d1"), 3)
        True
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def concept_is_held_out(concept: str, share: float = CONCEPTS) -> bool:
    """True when no picture and no text of a concept is trained on.

    Args:
        concept: Identifier of the concept.
        share: Share of the concepts to hold out.
    """
    return share_of(f"concept\t{concept}") < share


def pair_is_held_out(concept: str, language: str, share: float = PAIRS) -> bool:
    """True when no text of a concept in one language is trained on. English pairs never are: names are English.

    Args:
        concept: Identifier of the concept.
        language: CLDR code.
        share: Share of the pairs to hold out.
    """
    return language != "en" and share_of(f"pair\t{concept}\t{language}") < share


def split_of(set_name: str, concept: str, held_out_sets: tuple[str, ...] = HELD_OUT_SETS) -> str:
    """Split of a picture, before its neighbours are looked at.

    Args:
        set_name: Set of the picture.
        concept: Identifier of its concept.
        held_out_sets: Sets that are held out.
    """
    if set_name in held_out_sets:
        return STYLE
    return CONCEPT if concept_is_held_out(concept) else TRAIN
