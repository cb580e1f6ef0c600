"""Which texts say something about a picture, and which of several fields to take.

Web photographs come with titles such as "IMG_1234", "Untitled" or "2009-05-12". The official README filters YFCC by
the rule of LiT's appendix E, whose code is not public; the rules below are ours, in the same spirit.
"""

import re

FILE_NAME = re.compile(
    r"^\W*(?:(?:dsc[fn]?|img|imag|image|pict?|photo|p|mvi|mov|vid|scan|screenshot|sam|cimg|hpim|kif|pano|gopr|wp|fh|"
    r"unnamed|untitled)[\s_\-.]*)?[\d\s_\-.:()/,#]*(?:\.(?:jpe?g|png|gif|tiff?|bmp|raw|cr2|nef|mp4|mov|avi))?\W*$",
    re.IGNORECASE,
)
CAMERA_DEFAULT = re.compile(
    r"^\W*(?:(?:sony|olympus|kodak|nikon|canon|samsung|minolta|konica)\s+(?:digital|dsc|camera)\b.*|"
    r"(?:untitled|no title|no name|camera phone(?: picture| photo)?|picture|photo|image|uploaded by \S+|"
    r"ohne titel|sans titre|sin t[íi]tulo|senza titolo|sem t[íi]tulo|без названия|無題|无题|제목 없음)\W*\d*)\W*$",
    re.IGNORECASE,
)
DATE = re.compile(
    r"^\W*(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?[\s,.]*)?"
    r"(?:(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|\d{1,4})"
    r"(?:[\s,./\-]+(?:(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|\d{1,4}(?:st|nd|rd|th)?)){1,3}\W*$",
    re.IGNORECASE,
)
LINK = re.compile(r"^\s*(?:https?://|www\.)\S+\s*$", re.IGNORECASE)


def is_descriptive(text: str) -> bool:
    """Whether a text can tell one picture from another.

    Not descriptive: fewer than two letters (of any script), file names and counters, camera and album defaults, dates,
    bare links.
    """
    if sum(char.isalpha() for char in text) < 2:
        return False
    return not any(rule.match(text) for rule in (FILE_NAME, CAMERA_DEFAULT, DATE, LINK))
