"""Texts that tell pictures apart, and those that do not."""

import time

import pytest

from clippo.data.filters import is_descriptive


@pytest.mark.parametrize(
    "text",
    [
        "IMG_1234", "DSC00012.JPG", "dscn0815", "P1010023", "Photo 12", "untitled", "Untitled-3", "2009-05-12",
        "May 5, 2007", "12.05.2009", "Sat 3 Jun 2006", "http://flic.kr/p/abc", "www.example.org/x", "SONY DSC",
        "OLYMPUS DIGITAL CAMERA", "camera phone picture", "...", "a", "001", "", "   ", "image (3)", "无题",
        "img 20080101 001.png", "Picture 045", "Uploaded by alice", "100_0042",
    ],
)  # fmt: skip
def test_not_descriptive(text):
    assert not is_descriptive(text)


@pytest.mark.parametrize(
    "text",
    [
        "a dog on the beach", "Sunset", "Photo of my cat", "May in Paris", "2009 Boston marathon", "Ночь", "猫が寝る",
        "Image of Saint George", "Canon Beach, Oregon", "p. 12 of the atlas", "New York 2007", "Marching band",
        "March on Washington", "Mount Fuji, May 2007",
    ],
)  # fmt: skip
def test_descriptive(text):
    assert is_descriptive(text)


@pytest.mark.parametrize("start", ["", "img ", "1", "picture", "uploaded by ", "SONY ", "May", "http://"])
@pytest.mark.parametrize("run", ["-", " ", "1 ", "#", ".", "1", "may "])
def test_time_is_in_proportion_to_the_text(start, run):
    """Captions from the web hold long runs of punctuation; a cube of their length would stop a run."""
    begin = time.process_time()
    is_descriptive(start + run * 20_000 + "a dog")
    assert time.process_time() - begin < 2
