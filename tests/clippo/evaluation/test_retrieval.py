"""Ranks and recall equal known answers and those of a plain loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clippo.evaluation.retrieval import ranks, recall_at_k


@st.composite
def problems(draw):
    """Queries, items and targets with whole coordinates, so that ties are exact and frequent."""
    width, item_count = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    vector = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    items = draw(st.lists(vector, min_size=item_count, max_size=item_count))
    query_count = draw(st.integers(1, 9))
    queries = draw(st.lists(vector, min_size=query_count, max_size=query_count))
    targets = draw(st.lists(st.integers(0, item_count - 1), min_size=query_count, max_size=query_count))
    return torch.tensor(queries).float(), torch.tensor(items).float(), torch.tensor(targets)


def by_hand(queries, items, targets):
    """Pessimistic rank: all others with an equal or higher score come first."""
    places = []
    for query, target in zip(queries.tolist(), targets.tolist(), strict=True):
        scores = [sum(a * b for a, b in zip(query, item, strict=True)) for item in items.tolist()]
        places.append(sum(score >= scores[target] for i, score in enumerate(scores) if i != target))
    return places


@given(problems(), st.integers(1, 10))
def test_ranks_agree_with_a_plain_loop_in_any_chunks(problem, chunk):
    assert ranks(*problem, chunk=chunk).tolist() == by_hand(*problem)


def test_a_perfect_encoder_finds_everything_first():
    embeddings = torch.eye(7)
    order = torch.tensor([3, 1, 0, 6, 2, 5, 4])
    place = ranks(embeddings[order], embeddings, order)
    assert place.tolist() == [0] * 7
    assert recall_at_k(place) == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0}


def test_one_point_for_everything_finds_nothing():
    place = ranks(torch.ones(6, 4), torch.ones(20, 4), torch.arange(6))
    assert place.tolist() == [19] * 6
    assert recall_at_k(place) == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0}


def test_random_vectors_are_at_chance():
    generator = torch.Generator().manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(50, 16, generator=generator), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(4000, 16, generator=generator), dim=1)
    recall = recall_at_k(ranks(queries, items, torch.randint(50, (4000,), generator=generator)))
    # Three standard errors of a share over 4000 draws.
    assert recall["R@1"] == pytest.approx(1 / 50, abs=0.007)
    assert recall["R@10"] == pytest.approx(10 / 50, abs=0.019)


def test_k_counts_places_from_one():
    assert recall_at_k(torch.tensor([0, 1, 4, 5]), ks=(1, 2, 5)) == {"R@1": 0.25, "R@2": 0.5, "R@5": 0.75}


def test_no_queries_have_no_recall():
    none = ranks(torch.empty(0, 4), torch.eye(4), torch.empty(0, dtype=torch.long))
    assert none.shape == (0,) and none.dtype == torch.long
    with pytest.raises(ValueError, match="the query list is empty"):
        recall_at_k(none)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_an_error(value):
    """NaN compares false with every number and would count as a hit."""
    bad = torch.eye(4)
    bad[2, 1] = value
    own = torch.arange(4)
    with pytest.raises(ValueError, match="1 query embeddings are not finite; the first is row 2"):
        ranks(bad, torch.eye(4), own)
    with pytest.raises(ValueError, match="1 item embeddings are not finite; the first is row 2"):
        ranks(torch.eye(4), bad, own)


@pytest.mark.parametrize("target", [-1, 4])
def test_a_target_that_is_no_item_is_an_error(target):
    with pytest.raises(ValueError, match=f"Targets must lie in 0..3, got {target}..{target}"):
        ranks(torch.eye(4)[:1], torch.eye(4), torch.tensor([target]))
