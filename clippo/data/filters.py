"""Filter of captions that describe no image.

Web photographs have titles such as "IMG_1234", "Untitled" or "2009-05-12". The official README filters YFCC by the rule
of appendix E of LiT, whose code is not public. The rules below are written anew for the same purpose.
"""

import re

# Rules for a text without the punctuation around it. Neighbouring repetitions never match the same characters: texts
# from the web hold runs of hundreds of dashes, and overlapping repetitions would take cubic time.
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
    """True when a text can tell one image from another.

    Texts with fewer than two letters (of any script), file names and counters, defaults of cameras and albums, dates
    and bare links are not descriptive.

    Args:
        text: Caption, title or tag.
    """
    if sum(char.isalpha() for char in text) < 2:
        return False
    # Two searches from the ends: the regular expression engine would try `\W+$` from every character of every run.
    core = text[WORD_CHARACTER.search(text).start() : len(text) - WORD_CHARACTER.search(text[::-1]).start()]
    return not any(rule.fullmatch(core) for rule in (FILE_NAME, CAMERA_DEFAULT, DATE, LINK))
