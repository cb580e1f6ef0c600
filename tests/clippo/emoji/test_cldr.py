"""What is read from CLDR annotation files, and what is left alone."""

import pytest

from clippo.emoji.cldr import Annotation, cldr_version, list_languages, read_annotations


def test_regional_files_are_not_languages(cldr_folder):
    assert list_languages(cldr_folder) == (["de", "en", "ru", "sr_Latn"], ["de_CH"])


def test_names_and_keywords_of_characters_and_sequences(cldr_folder):
    annotations = read_annotations(cldr_folder, "en")
    assert annotations["🍕"] == Annotation("pizza", ("cheese", "slice")), "the name is not repeated as a keyword"
    assert annotations["🇨🇭"].name == "flag: CH", "sequences come from annotationsDerived"
    assert read_annotations(cldr_folder, "ru")["🚀"] == Annotation("ракета", ())


def test_a_character_without_a_name_is_not_annotated(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "xx.xml").write_text(
        '<ldml><annotations><annotation cp="a">only | keywords</annotation>'
        '<annotation cp="b" type="tts"> two \n  words </annotation>'
        '<annotation cp="b">x | x | | y</annotation></annotations></ldml>',
        encoding="utf-8",
    )
    assert read_annotations(tmp_path, "xx") == {"b": Annotation("two words", ("x", "y"))}


def test_missing_folder_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install unicode-cldr-core"):
        list_languages(tmp_path)


def test_cldr_version(cldr_folder, tmp_path):
    assert cldr_version(cldr_folder) == "41"
    assert cldr_version(tmp_path) == "unknown"
