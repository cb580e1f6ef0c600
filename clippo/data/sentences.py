"""Sentences of running text in any script, by punctuation alone.

Training pairs of neighbours need speed and many languages more than every abbreviation. Spans follow each other and
change nothing; text that no rule cuts stays whole. Every pattern takes linear time, since web pages hold runs of
thousands of dots or spaces.
"""

import itertools
import re

# Part of the cache key of split documents: raise it with every change of a rule.
RULES_VERSION = 2

# Ends a sentence by itself: East Asian full-width marks need no space.
WIDE_MARKS = "。！？｡．︒︕︖﹒﹖﹗"
# Ends a sentence when white space or the end of the text follows: the characters of Sentence_Terminal (Unicode) below
# U+10000 except the wide marks and the leader dot U+2024, and also the ellipsis and the Tibetan shad.
SPACED_MARKS = (
    ".!?…\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u0f0d\u0f0e\u104a\u104b"
    "\u1362\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b4e\u1b4f\u1b5a\u1b5b"
    "\u1b5e\u1b5f\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54"
    "\u2e60\u2e61\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb"
)
CLOSING = r"[\"'”’»)\]}」』】）*_]*"
# Marks match at the beginning of a run only; else a run that ends nothing would be tried from each of its marks.
BOUNDARY = re.compile(
    rf"(?P<mark>(?<![{WIDE_MARKS}])[{WIDE_MARKS}]+{CLOSING}"
    rf"|(?<![{SPACED_MARKS}])[{SPACED_MARKS}]+{CLOSING}(?=\s|$))"
    r"|\n[^\S\n]*\n|\u2029"  # a blank line ends a paragraph and with it a sentence
    r"|(?<=\n)(?=[#>*-]+ )|(?<=[^\n])\n(?=#+ )"  # Markdown headings and list items begin anew
)
# A full stop after these ends no sentence: initials, single letters with full stops, usual titles and abbreviations.
NO_END = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-ZÀ-ÞΑ-ΩА-Я]|(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Sr|Jr|No|Nr|vs|etc|e\.g|"
    r"i\.e|cf|al|Fig|vol|pp|ca|bzw|z\.B|d\.h|u\.a|Mme|Mlle))\.$"
)
NO_END_WINDOW = 12  # characters: the longest of the above with the character before it
# The number of a list item belongs to the item.
ENUMERATOR = re.compile(r"\s*(?:[#>*-]+ +)?[(\[]?(?:\d{1,4}|[IVXLC]{1,6})[.．]\Z")
MARKUP = re.compile(r"^(?:#+|>+|[*-]+)\s+|\s+")

# Thai and Lao have no mark for the end of a sentence; spaces separate clauses.
UNMARKED_LETTER = re.compile(r"[\u0e00-\u0eff]")
UNMARKED_CHARS = 40


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) of the sentences in order, end exclusive, without the white space around them.

    Every character that is not white space lies in exactly one span. Thai and Lao have no mark for the end of a
    sentence and are cut at the first space after 40 characters.

    Args:
        text: Running text.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in BOUNDARY.finditer(text):
        end = match.end()
        if match["mark"] and _goes_on(text, start, end):
            continue
        _append(spans, text, start, end)
        start = end
    _append(spans, text, start, len(text))
    return spans


def _goes_on(text: str, start: int, end: int) -> bool:
    """True when the mark before `end` belongs to an abbreviation or to the number of a list item."""
    # A window, since texts without any end would take quadratic time.
    window = text[max(start, end - NO_END_WINDOW) : end]
    if window.endswith(".") and NO_END.search(window):
        return True
    return end - start <= 16 and ENUMERATOR.match(text[start:end]) is not None


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if not stripped:
        return
    begin = start + len(piece) - len(piece.lstrip())
    end = begin + len(stripped)
    if spans and not any(map(str.isalnum, stripped)) and "\n" not in text[spans[-1][1] : begin]:
        spans[-1] = spans[-1][0], end  # a mark by itself, after a superfluous space, ends the sentence before it
    elif len(UNMARKED_LETTER.findall(stripped)) * 2 > len(stripped):
        spans += _phrases(text, begin, end)
    else:
        spans.append((begin, end))


def _phrases(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Pieces of at least `UNMARKED_CHARS`, cut at white space; the last may be shorter."""
    pieces = []
    for match in re.finditer(r"\s+", text[start:end]):
        at = start + match.start()
        if at - (pieces[-1][1] if pieces else start) >= UNMARKED_CHARS:
            pieces.append((pieces[-1][1] if pieces else start, at))
    pieces.append((pieces[-1][1] if pieces else start, end))
    return [(begin + len(text[begin:stop]) - len(text[begin:stop].lstrip()), stop) for begin, stop in pieces]


def clean_sentence(sentence: str) -> str:
    """Sentence on one line: runs of white space become one space, a Markdown mark at the beginning is removed.

    Args:
        sentence: Span of a text.
    """
    return MARKUP.sub(lambda match: " " if match.group().isspace() and match.start() else "", sentence).strip()


def consecutive_sentences(text: str, min_chars: int = 8, max_chars: int = 200) -> list[tuple[str, str]]:
    """Neighbouring sentences of a document as pairs, the text-text examples of the paper.

    Args:
        text: The document.
        min_chars: Shortest sentence of a pair, after cleaning.
        max_chars: Longest sentence of a pair; the canvas would cut longer ones.
    """
    sentences = [clean_sentence(text[start:end]) for start, end in sentence_spans(text)]
    fits = [min_chars <= len(sentence) <= max_chars for sentence in sentences]
    return [
        (first, second) for i, (first, second) in enumerate(itertools.pairwise(sentences)) if fits[i] and fits[i + 1]
    ]
