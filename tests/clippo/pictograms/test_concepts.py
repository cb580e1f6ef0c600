"""Words of names, and their links to CLDR: what is linked, and above all what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippo.emoji.cldr import Annotation
from clippo.pictograms.concepts import Concepts, concept_id
from clippo.pictograms.interface_words import INTERFACE_WORDS
from clippo.pictograms.tags import clean, read_tags
from clippo.pictograms.words import SetNames, drawing_style, words_of

ENGLISH = {
    "🗑": Annotation("wastebasket", ("garbage", "litter", "rubbish")),
    "🧠": Annotation("brain", ("clever", "smart")),
    "🐭": Annotation("mouse", ("animal",)),
    "🐈": Annotation("cat", ("animal", "pet")),
    "🐕": Annotation("dog", ("animal", "pet")),
    "🎟": Annotation("admission tickets", ("ticket",)),
    "⬅": Annotation("left arrow", ("arrow", "west")),
    "🚭": Annotation("no smoking", ("smoke", "smoking", "forbidden")),
    "🩹": Annotation("adhesive bandage", ("bandage", "plaster")),
    "🤕": Annotation("face with head-bandage", ("bandage", "hurt", "ouch")),
    "👍🏽": Annotation("thumbs up: medium skin tone", ("thumb",)),
    "#": Annotation("hash sign", ("number",)),
}


@pytest.fixture(scope="module")
def concepts():
    return Concepts(ENGLISH)


@pytest.mark.parametrize(
    ("words", "tags", "expected"),
    [
        ("left arrow", [], ("2b05", "name")),
        ("arrow left", [], ("2b05", "name")),  # the order of the words says nothing
        ("admissiontickets", [], ("1f39f", "name")),  # a set that writes names in one word
        ("trash", [], ("1f5d1", "hand")),
        ("rubbish", ["litter", "garbage"], ("1f5d1", "keyword")),
        ("bandage", ["plaster", "ouch"], ("1fa79", "keyword")),  # the name that holds the word wins
    ],
)
def test_links(concepts, words, tags, expected):
    assert concepts.link(tuple(words.split()), tags) == expected


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        ("rubbish", []),  # a keyword without a witness
        ("rubbish", ["litter"]),  # one witness is not enough
        ("clever", ["intelligent"]),  # a tag that is no keyword of the same character
        ("clever", ["clever"]),  # the word itself is no witness
        ("animal", ["pet"]),  # a witness of two characters is weak
        ("smoking", ["smoke", "forbidden"]),  # the character says the opposite
        ("arrow left circle", ["left arrow"]),  # more words than the name
        ("arrow", []),
        ("mouse", ["animal"]),  # a pointing device on a screen
        ("hash sign", []),  # ASCII
        ("", []),
    ],
)
def test_what_is_not_linked(concepts, words, tags):
    assert concepts.link(tuple(words.split()), tags) is None


def test_code_points_and_regions(concepts):
    assert concepts.of_code_points(["1f9e0-fe0f"]) == "1f9e0"
    assert concepts.of_code_points(["1f44d-1f3fd", "ffff"]) is None
    flags = Concepts({"🇫🇷": Annotation("flag: France", ())})
    assert flags.of_region("fr") == concept_id("🇫🇷")
    assert [flags.of_region(code) for code in ("zz", "fra", "f1", "éa", "")] == [None] * 5


@given(st.lists(st.sampled_from(["garbage", "smart", "pet", "west", "x y"]), max_size=4), st.randoms())
def test_the_link_depends_on_the_tags_and_not_on_their_order(tags, random):
    shuffled = list(tags)
    random.shuffle(shuffled)
    concepts = Concepts(ENGLISH)
    for words in (("litter",), ("clever",), ("bandage",)):
        assert concepts.link(words, tags) == concepts.link(words, set(shuffled))


def test_the_hand_table_is_in_order_and_links_no_word_to_itself():
    assert list(INTERFACE_WORDS) == sorted(INTERFACE_WORDS)
    assert all(words != name for words, name in INTERFACE_WORDS.items())


@pytest.mark.parametrize(
    ("name", "words", "style"),
    [
        ("arrow-left-circle-outline", "arrow left circle", "outline"),
        ("outline-home", "home", "outline"),
        ("home-24-filled", "home", "24 filled"),
        ("home-2", "home", ""),
        ("home-3-outline", "home", "outline"),
        ("user-02", "user", ""),
        ("dice-2", "dice 2", ""),
        ("format-bold", "format bold", ""),  # meant, since few names of the set end with it
        ("outline", "outline", ""),
        ("12345", "", ""),
        ("café_au-lait", "café au lait", ""),
    ],
)
def test_names_become_words(name, words, style):
    others = [f"{word}-outline" for word in "abcdefgh"] + ["home", "outline-x"] + [f"n{i}" for i in range(40)]
    names = SetNames([*others, name], prefixes=["outline"], suffixes=["24-filled"])
    assert names.split(name).words == tuple(words.split())
    assert names.split(name).style == tuple(style.split())


def test_drawing_styles():
    assert drawing_style(["bold"], True, False) == "colour"
    assert drawing_style(["line"], False, False) == "outline"
    assert drawing_style(["solid"], False, True) == "filled"
    assert [drawing_style([], False, stroked) for stroked in (True, False)] == ["outline", "filled"]


def test_words_of_texts():
    assert words_of("woman’s clothes: size-3") == ("womans", "clothes", "size", "3")
    assert words_of("…") == ()


def test_tags_of_every_package(tmp_path):
    files = {
        "lucide-static/tags.json": '{"trash-2": ["garbage", "*new*", "garbage", "12"]}',
        "@phosphor-icons/core/dist/icons.d.ts": 'readonly name: "acorn";\n readonly tags: readonly ["*new*", "nut"];',
        "@tabler/icons/icons.json": '{"a-b": {"tags": ["split-test", 3]}}',
        "@fortawesome/fontawesome-free/metadata/icon-families.json": '{"bus": {"search": {"terms": ["vehicle"]}}}',
    }
    packages = {}
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(content, encoding="utf-8")
        package = "/".join(name.split("/")[: 2 if name.startswith("@") else 1])
        packages[package] = tmp_path / package
    tags = read_tags(packages)
    assert (tags["lucide"], tags["ph"], tags["tabler"]) == (
        {"trash-2": ["garbage"]},
        {"acorn": ["nut"]},
        {"a-b": ["split test"]},
    )
    assert tags["fa6-solid"] == {"bus": ["vehicle"]}
    assert read_tags({}) == {}
    assert clean([f"tag {i}" for i in range(50)]) == [f"tag {i}" for i in range(12)]
