"""Ranks with several right items equal a count by hand; ties, chunks, and the k nearest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo.evaluation.retrieval import group_ranks, nearest, ranks, recall_at_k


def by_hand(queries, items, query_groups, item_groups):
    result = []
    for query, group in zip(queries, query_groups, strict=True):
        scores = items @ query
        best = scores[item_groups == group].max()
        result.append(int(((scores >= best) & (item_groups != group)).sum()))
    return torch.tensor(result)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_equals_counting_whatever_the_chunks(images, chunk, item_chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    groups = torch.cat([torch.arange(images), torch.randint(images, (7,), generator=generator)])
    # Whole numbers: scores are exact and often equal.
    texts = torch.randint(-2, 3, (len(groups), 3), generator=generator).float()
    pictures = torch.randint(-2, 3, (images, 3), generator=generator).float()
    own = torch.arange(images)
    for queries, items, left, right in ((pictures, texts, own, groups), (texts, pictures, groups, own)):
        got = group_ranks(queries, items, left, right, chunk, item_chunk)
        assert torch.equal(got, by_hand(queries, items, left, right))


def test_perfect_embeddings_find_everything_in_both_directions():
    images = torch.eye(8)
    groups = torch.arange(8).repeat(5)
    for place in (
        group_ranks(images[groups], images, groups, torch.arange(8)),
        group_ranks(images, images[groups], torch.arange(8), groups),
    ):
        assert recall_at_k(place) == {"R@1": 1, "R@5": 1, "R@10": 1}


def test_tied_embeddings_find_nothing():
    """All items are one point, or every wrong item is a copy of the right one."""
    ones = torch.nn.functional.normalize(torch.ones(40, 16), dim=1)
    groups = torch.arange(40) // 2
    place = group_ranks(ones[:20], ones, torch.arange(20), groups)
    assert place.eq(38).all() and recall_at_k(place)["R@10"] == 0
    torch.manual_seed(0)
    pair = torch.nn.functional.normalize(torch.randn(1, 768), dim=1)
    copies = pair.repeat(3001, 1)
    assert ranks(pair, copies, torch.tensor([1500]), item_chunk=7).item() == 3000


def test_random_embeddings_are_at_chance():
    torch.manual_seed(0)
    queries, items = (torch.nn.functional.normalize(torch.randn(2000, 32), dim=1) for _ in range(2))
    recall = recall_at_k(ranks(queries, items, torch.arange(2000)))
    assert recall["R@10"] == pytest.approx(10 / 2000, abs=0.005)


def test_five_captions_are_easier_than_one():
    """Any of five captions counts, and the other four do not lower its rank."""
    image = torch.tensor([[1.0, 0.0]])
    captions = torch.tensor([[0.9, 0.0], [0.2, 0.0], [0.5, 0.0]])
    groups = torch.tensor([0, 0, 1])
    assert group_ranks(image, captions, torch.tensor([0]), groups).item() == 0
    assert ranks(image, captions, torch.tensor([1])).item() == 2


def test_errors():
    eye = torch.eye(3)
    with pytest.raises(ValueError, match="1 queries have no right item; the first is query 2"):
        group_ranks(eye, eye, torch.arange(3), torch.tensor([0, 1, 1]))
    broken = torch.full((1, 3), torch.nan)
    with pytest.raises(ValueError, match="1 item embeddings are not finite; the first is row 0"):
        group_ranks(eye, broken, torch.zeros(3, dtype=torch.int64), torch.tensor([0]))
    assert len(group_ranks(eye[:0], eye, torch.arange(0), torch.arange(3))) == 0


def test_the_k_nearest_in_order_with_ties_to_the_lower_index():
    torch.manual_seed(0)
    queries, items = torch.randn(11, 4), torch.randn(23, 4)
    expected = (queries @ items.T).topk(5).indices
    for chunk in (2, 100):
        assert torch.equal(nearest(queries, items, 5, chunk, chunk), expected)
    ties = torch.ones(6, 2)
    assert nearest(ties[:1], ties, 4, item_chunk=2).tolist() == [[0, 1, 2, 3]]
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.6"):
        nearest(ties, ties, 7)
