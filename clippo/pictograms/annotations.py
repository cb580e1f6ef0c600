"""Names and keywords of the linked concepts in every language: CLDR, and emojibase where it adds words."""

from pathlib import Path

from clippo.data.writing_systems import dominant_script
from clippo.emoji.cldr import list_languages, read_annotations
from clippo.pictograms.concepts import concept_id
from clippo.pictograms.rows import LeftOut
from clippo.pictograms.splits import concept_is_held_out, pair_is_held_out

MIN_COVERAGE = 0.1  # share of the concepts that a language must name
MOST_KEYWORDS = 24


def read_concept_texts(
    concepts: list[str], cldr: Path, emojibase: dict[str, dict[str, list[str]]], left_out: LeftOut
) -> list[dict]:
    """One row for each (concept, language), ordered by language, then concept.

    Args:
        concepts: Identifiers of the characters that the data set shows.
        cldr: Folder of the CLDR packages.
        emojibase: Language -> code points -> words, see `read_emojibase`.
        left_out: Filled with the languages that are left out.

    Returns:
        Rows {"id", "language", "script", "name", "keywords", "split", "name_in_train"}. The split is "train",
        "held_out" (the pair) or "held_out_concept".
    """
    languages, regional = list_languages(cldr)
    for language in regional:
        left_out.add("regional file", language)
    rows = []
    for language in languages:
        annotations = {concept_id(text): one for text, one in read_annotations(cldr, language).items()}
        found = [(concept, annotations[concept]) for concept in concepts if concept in annotations]
        if len(found) < max(1, MIN_COVERAGE * len(concepts)):
            left_out.add(f"language that names fewer than {MIN_COVERAGE:.0%} of the concepts", language)
            continue
        script = dominant_script([annotation.name for _, annotation in found])
        more = emojibase.get(language, {})
        for concept, annotation in found:
            words = dict.fromkeys([*annotation.keywords, *more.get(concept, ())])
            rows.append(
                {
                    "id": concept,
                    "language": language,
                    "script": script,
                    "name": annotation.name,
                    "keywords": [word for word in words if word != annotation.name][:MOST_KEYWORDS],
                    "split": split_of_text(concept, language),
                }
            )
    _mark_known_names(rows)
    return rows


def split_of_text(concept: str, language: str) -> str:
    """Split of a (concept, language) pair.

    Args:
        concept: Identifier of the character.
        language: CLDR code.
    """
    if concept_is_held_out(concept):
        return "held_out_concept"
    return "held_out" if pair_is_held_out(concept, language) else "train"


def _mark_known_names(rows: list[dict]) -> None:
    """Add `name_in_train`: the name is a training text of the same concept in another language ("pizza")."""
    training = {
        (row["id"], text.casefold())
        for row in rows
        if row["split"] == "train"
        for text in [row["name"], *row["keywords"]]
    }
    for row in rows:
        row["name_in_train"] = (row["id"], row["name"].casefold()) in training
