"""Scripts that texts are written in."""

import unicodedata
from collections import Counter


def dominant_script(texts: list[str]) -> str:
    """Script of most letters: "Latin", "Cyrillic", ..., "Han" for CJK alone, "Japanese" for CJK with kana.

    Python has no script property, so the first word of each letter's Unicode name decides.

    Args:
        texts: Any strings. Without a letter the answer is "None".
    """
    counts: Counter[str] = Counter()
    for text in texts:
        for char in text:
            if char.isalpha():
                word = unicodedata.name(char, "UNKNOWN").split()[0]
                counts["KANA" if word in ("HIRAGANA", "KATAKANA") else word] += 1
    if not counts:
        return "None"
    # Japanese mixes three scripts in any proportion, so a tenth of kana is enough.
    if counts["KANA"] > 0.1 * counts.total():
        return "Japanese"
    script = counts.most_common(1)[0][0]
    return {"CJK": "Han"}.get(script, script.capitalize())
