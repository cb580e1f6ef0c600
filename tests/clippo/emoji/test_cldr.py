"""CLDR annotation files: the entries that are read and those that are ignored."""

import json

import pytest

from clippo.emoji.cldr import NPM_PACKAGES, Annotation, cldr_version, list_languages, read_annotations


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


@pytest.mark.parametrize("below", ["", "node_modules"])
def test_the_json_of_npm_is_read_like_xml(tmp_path, below):
    for part, package in NPM_PACKAGES.items():
        for name, entries in (
            ("de", {"🍕": {"default": ["Pizza", "Käse "], "tts": ["Pizza"]}, "🌵": {"default": ["Kaktus"]}}),
            ("sr-Latn", {}),
            ("de-CH", {}),
            ("und", {}),
        ):
            folder = tmp_path / below / package / part / name
            folder.mkdir(parents=True)
            content = {part: {"identity": {}, **({"annotations": entries} if entries else {})}}
            (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
        (tmp_path / below / package / "package.json").write_text('{"cldrVersion": "48"}')
    assert list_languages(tmp_path) == (["de", "sr_Latn"], ["de_CH"])
    assert read_annotations(tmp_path, "de") == {"🍕": Annotation("Pizza", ("Käse",))}
    assert read_annotations(tmp_path, "sr_Latn") == {}
    assert cldr_version(tmp_path) == "48"
