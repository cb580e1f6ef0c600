"""The script of most letters."""

import pytest

from clippo.data.writing_systems import dominant_script


@pytest.mark.parametrize(
    ("texts", "script"),
    [
        (["grinning face", "flag: España"], "Latin"),
        (["ухмыляющееся лицо", "ok"], "Cyrillic"),
        (["嘿嘿", "表情"], "Han"),
        (["にっこり笑う", "国旗", "ロケット"], "Japanese"),
        (["웃는 얼굴"], "Hangul"),
        (["وجه ضاحك"], "Arabic"),
        (["हँसता चेहरा"], "Devanagari"),
        (["123 !", ""], "None"),
    ],
)
def test_dominant_script(texts, script):
    assert dominant_script(texts) == script
