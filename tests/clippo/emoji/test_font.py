"""Images of the bitmap font: one glyph for a sequence, or none."""

import os
from pathlib import Path

import numpy as np
import pytest

from clippo.emoji.font import EmojiFont, find_font

from ...conftest import ROOT

FONT = Path(os.environ.get("CLIPPO_EMOJI_FONT", find_font()))


@pytest.fixture(scope="module")
def noto():
    pytest.importorskip("uharfbuzz")
    if not FONT.is_file():
        pytest.skip("fonts-noto-color-emoji is not installed (set CLIPPO_EMOJI_FONT to its NotoColorEmoji.ttf)")
    return EmojiFont(FONT)


def test_a_font_without_bitmaps_is_refused():
    pytest.importorskip("uharfbuzz")
    font = ROOT / "processing" / "fonts" / "unifont_upper.otf"
    with pytest.raises(ValueError, match="no colour bitmaps"):
        EmojiFont(font)


@pytest.mark.parametrize("text", ["😀", "👩\u200d🚀", "🇯🇵", "7\u20e3", "👨\u200d👩\u200d👧"])
def test_noto_draws_sequences_as_one_picture(noto, text):
    picture = noto.picture(text)
    assert picture.shape == (136, 136, 4)
    assert picture.dtype == np.uint8
    assert (picture[..., 3] > 200).mean() > 0.2
    assert (picture[picture[..., 3] == 0] == 0).all()


@pytest.mark.parametrize("text", ["😀😀", "ж", "🚀\u200d🚀"])
def test_noto_has_no_picture_for_what_it_cannot_join(noto, text):
    assert noto.picture(text) is None
