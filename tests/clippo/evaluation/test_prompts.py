"""Prompts of the official protocol, and class embeddings by their formula."""

import pytest
import torch

from clippo.evaluation.prompts import (
    PROTOCOLS,
    canonicalize,
    class_embeddings,
    class_prompts,
    duplicates,
    read_prompts,
)


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        ("test_test", None, "test test"),
        ("a__b", None, "a b"),
        ("Tiger Shark.", None, "tiger shark"),
        ("  two\n lines\t", None, "two lines"),
        ("a {}", None, "a"),
        (" a photo  of {}...", "{}", "a photo of {}"),
        ("{} and {}!", "{}", "{} and {}"),
        ("tench, Tinca tinca", ",", "tench, tinca tinca"),
        ("close-up", None, "closeup"),
        ("Ä, «Ж»", None, "ä «ж»"),  # only ASCII punctuation goes
    ],
)
def test_canonical_form(text, keep, expected):
    assert canonicalize(text, keep) == expected


def test_the_lists_are_those_of_the_official_code():
    prompts = read_prompts()
    paper, best = prompts["templates"]["clip_paper"], prompts["templates"]["clip_best"]
    assert len(paper) == len(set(paper)) == 81 and paper[0] == "a bad photo of a {}." and paper[-1] == "{}"
    assert len(best) == 8 and best[0] == "itap of a {}." and set(best) < set(paper)
    names = prompts["class_names"]["imagenet"]
    assert len(names) == 1000 and names[:2] == ["tench", "goldfish"] and names[-1] == "toilet paper"
    assert duplicates(names).keys() == {"missile", "sunglasses"}
    assert "OpenAI" in prompts["licence"] and "openai/CLIP" in prompts["source"]


def test_prompts_of_both_protocols():
    names, prompts = class_prompts(["Great_White Shark, Carcharodon", "St. Bernard"], PROTOCOLS["official"])
    assert names == ["great white shark", "st bernard"]
    assert len(prompts) == 2 and len(prompts[0]) == 81 and prompts[1][0] == "a bad photo of a st bernard"
    names, prompts = class_prompts(["great_white"], PROTOCOLS["colab"])
    assert names == ["great_white"] and prompts[0][0] == "itap of a great_white." and len(prompts[0]) == 8
    _, prompts = class_prompts(["a{b}"], PROTOCOLS["name"], ["<{}>"])
    assert prompts == [["<a{b}>"]]


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ([], None, "There are no class names"),
        (["cat", " "], None, "Class 1 has an empty name"),
        (["cat"], ["a photo"], "needs one place for the class name"),
        (["cat"], ["{} {}"], "needs one place for the class name"),
    ],
)
def test_errors(names, templates, message):
    with pytest.raises(ValueError, match=message):
        class_prompts(names, PROTOCOLS["name"], templates)


def test_class_embeddings_are_means_of_their_own_prompts():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    torch.testing.assert_close(class_embeddings(vectors, 2, renormalize=False), torch.tensor([[0.5, 0.5], [0.8, 0.4]]))
    unit = class_embeddings(vectors, 2)
    torch.testing.assert_close(unit[0], torch.tensor([0.5, 0.5]).sqrt())
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))
    assert class_embeddings(torch.zeros(2, 3), 1).isfinite().all()
