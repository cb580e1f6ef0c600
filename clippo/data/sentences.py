"""Sentences of running text in any script, by punctuation alone.

Good enough to pair neighbours for training, which needs speed and many languages rather than the last abbreviation:
spans follow each other, nothing is changed, and what no rule cuts stays whole.
"""

import itertools
import re

# Part of the key under which split documents are cached: raise it with every change of what is cut where.
RULES_VERSION = 1

# Ends a sentence when white space or the end of a line follows: Latin, Greek and Slavic marks, Armenian, Devanagari and
# its relatives, Arabic, Urdu, Ethiopic, Khmer, Myanmar, Tibetan, Mongolian, ellipsis.
SPACED_END = r"[.!?…։।॥؟۔።፧៕។၊။།༎᠃᠉‼⁇⁈⁉]"
# Ends a sentence by itself: East Asian full-width marks need no space.
WIDE_END = r"[。！？｡．]"
CLOSING = r"[\"'”’»)\]}」』】）*_]*"
BOUNDARY = re.compile(
    rf"(?:{WIDE_END}+{CLOSING}|{SPACED_END}+{CLOSING}(?=\s|$))\s*"
    r"|\s*\n\s*\n\s*"  # a blank line ends a paragraph and with it a sentence
    r"|(?<=\n)(?=[#>*-]+ )|(?<=[^\n])\n(?=#+ )"  # Markdown headings and list items begin anew
)
# A full stop after these is no end: initials, single letters with full stops, numbers that go on, usual titles.
NO_END = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-ZÀ-ÞΑ-ΩА-Я]|(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Sr|Jr|No|Nr|vs|etc|e\.g|"
    r"i\.e|cf|al|Fig|vol|pp|ca|bzw|z\.B|d\.h|u\.a|Mme|Mlle))\.$"
)
MARKUP = re.compile(r"^(?:#+|>+|[*-]+)\s+|\s+")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of `text` are, in order: (start, end), end exclusive, without the white space around them.

    Every character that is not white space lies in exactly one span.
    """
    spans, start = [], 0
    for match in BOUNDARY.finditer(text):
        end = match.end()
        piece = text[start:end]
        # Look back at what the full stop belongs to; a window, or long texts would cost their square.
        if piece.rstrip().endswith(".") and NO_END.search(piece.rstrip()[-12:]):
            continue
        _append(spans, text, start, end)
        start = end
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        begin = start + len(piece) - len(piece.lstrip())
        spans.append((begin, begin + len(stripped)))


def clean_sentence(sentence: str) -> str:
    """One line: white space runs become one space, a Markdown mark at the beginning goes."""
    return MARKUP.sub(lambda match: " " if match.group().isspace() and match.start() else "", sentence).strip()


def consecutive_sentences(text: str, min_chars: int = 8, max_chars: int = 200) -> list[tuple[str, str]]:
    """Neighbouring sentences of a document as pairs, the paper's text-text examples.

    Args:
        text: The document.
        min_chars, max_chars: A pair counts only if both sentences are within these lengths after cleaning; too long
            ones would be cut by the canvas.
    """
    sentences = [clean_sentence(text[start:end]) for start, end in sentence_spans(text)]
    fits = [min_chars <= len(sentence) <= max_chars for sentence in sentences]
    return [
        (first, second) for i, (first, second) in enumerate(itertools.pairwise(sentences)) if fits[i] and fits[i + 1]
    ]
