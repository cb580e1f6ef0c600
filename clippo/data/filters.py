"""Which texts say something about a picture.

Web photographs come with titles such as "IMG_1234", "Untitled" or "2009-05-12". The official README filters YFCC by
the rule of LiT's appendix E, whose code is not public; the rules below are ours, in the same spirit.
"""

import re

# Rules for what is left of a text without the punctuation round it. Neighbouring repetitions never take the same
# characters: texts from the web hold runs of hundreds of dashes, and overlapping ones would cost the run's cube.
FILE_NAME = re.compile(
    r"(?:dsc[fn]?|img|imag|image|pict?|photo|p|mvi|mov|vid|scan|screenshot|sam|cimg|hpim|kif|pano|gopr|wp|fh|"
    r"unnamed|untitled)?[\d\s_\-.:()/,#]*(?:\.(?:jpe?g|png|gif|tiff?|bmp|raw|cr2|nef|mp4|mov|avi))?",
    re.IGNORECASE,
)
CAMERA_DEFAULT = re.compile(
    r"(?:sony|olympus|kodak|nikon|canon|samsung|minolta|konica)\s+(?:digital|dsc|camera)\b.*|uploaded by \S+|"
    r"(?:untitled|no title|no name|camera phone(?: picture| photo)?|picture|photo|image|"
    r"ohne titel|sans titre|sin t[íi]tulo|senza titolo|sem t[íi]tulo|без названия|無題|无题|제목 없음)\W*\d*",
    re.IGNORECASE,
)
DATE = re.compile(
    r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?[\s,.]*)?"
    r"(?:(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|\d{1,4})"
    r"(?:[\s,./\-]+(?:(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|\d{1,4}(?:st|nd|rd|th)?)){1,3}",
    re.IGNORECASE,
)
LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
WORD_CHARACTER = re.compile(r"\w")


def is_descriptive(text: str) -> bool:
    """Whether a text can tell one picture from another.

    Not descriptive: fewer than two letters (of any script), file names and counters, camera and album defaults, dates,
    bare links.
    """
    if sum(char.isalpha() for char in text) < 2:
        return False
    # Two searches from the ends, since `\W+$` would be tried from every character of every run.
    core = text[WORD_CHARACTER.search(text).start() : len(text) - WORD_CHARACTER.search(text[::-1]).start()]
    return not any(rule.fullmatch(core) for rule in (FILE_NAME, CAMERA_DEFAULT, DATE, LINK))
