"""Metrics of the search, keyword search as the baseline, and the command."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clippo.pictograms import evaluation
from clippo.pictograms.keyword_search import KeywordSearch, terms
from clippo.pictograms.metrics import METRICS, chance, search_metrics


def naive(table, queries, gallery):
    """The metrics in plain Python."""
    result = {name: [] for name in METRICS}
    for scores, query in zip(table.tolist(), queries.tolist(), strict=True):
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        hits = [gallery[i].item() == query and scores[i] > -float("inf") for i in order]
        right = sum(one == query for one in gallery.tolist())
        for k in (1, 5, 10):
            result[f"R@{k}"].append(float(any(hits[:k])))
        result["P@10"].append(sum(hits[: min(10, right)]) / min(10, right))
    return result


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32))
def test_metrics_are_those_of_plain_python(pictures, queries, concepts, seed):
    generator = torch.Generator().manual_seed(seed)
    gallery = torch.randint(concepts, (pictures,), generator=generator)
    asked = gallery[torch.randint(pictures, (queries,), generator=generator)]
    table = torch.randint(4, (queries, pictures), generator=generator).float()  # many ties
    table[table == 0] = -torch.inf
    found = search_metrics(lambda a, b: table[a:b], asked, gallery, chunk=5)
    for name, values in naive(table, asked, gallery).items():
        torch.testing.assert_close(found[name], torch.tensor(values))


def test_chance_is_the_mean_of_random_orders():
    gallery = torch.tensor([0] * 3 + [1] * 20 + [2] * 27)
    asked = torch.tensor([0, 1])
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(4000, 50, generator=generator)
    many = asked.repeat(2000)
    found = search_metrics(lambda a, b: table[a:b], many, gallery)
    expected = chance(asked, gallery)
    for name in METRICS:
        assert found[name].mean().item() == pytest.approx(expected[name], abs=0.02)


def test_a_query_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="Concept 3 has no picture in the gallery"):
        search_metrics(lambda a, b: torch.zeros(b - a, 2), torch.tensor([3]), torch.tensor([0, 1]))


def test_bm25_by_hand():
    documents = [["red apple", "fruit"], ["green apple"], ["red car"]]
    search = KeywordSearch(documents)
    scores = search.scores(["apple", "RED apple", "boat"])
    # idf of "apple": ln(1 + 1.5 / 2.5) = 0.4700; document lengths 3, 2, 2 of mean 7/3.
    expected = 0.4700 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / (7 / 3)))
    assert scores[0, 0].item() == pytest.approx(expected, abs=1e-4)
    assert scores[0, 1] > scores[0, 0] and scores[0, 2] == 0
    assert scores[1].argmax() == 0 and not scores[2].any()


def test_scripts_without_spaces_are_searched_by_pairs_of_letters():
    assert terms("การค้นหา", "Thai")[0] == "กา"
    search = KeywordSearch([["ゴミ箱"], ["郵便箱"]], "Japanese")
    assert search.scores(["ゴミ"]).argmax() == 0
    assert KeywordSearch([], "Latin").scores(["x"]).shape == (1, 0)


def test_the_command_writes_the_tables(pictograms, save_tiny, tmp_path, capsys):
    model = save_tiny(image_size=48, canvas_format="packed")
    arguments = ["--model", model, "--data_dir", str(pictograms[0]), "--output", str(tmp_path / "tables")]
    evaluation.main(arguments)
    tables = json.loads((tmp_path / "tables.json").read_text(encoding="utf-8"))
    assert (tmp_path / "tables.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert {row["split"] for row in tables["words"]} == {"trained"}
    assert tables["gallery"][0]["pictures"] == len(evaluation.read_gallery(pictograms[0]).pictures)
    for row in tables["search"] + tables["words"]:
        assert all(0 <= row[name] <= 1 for name in METRICS)


def test_the_gallery_holds_no_training_picture(pictograms):
    gallery = evaluation.read_gallery(pictograms[0])
    assert gallery.pictures and len(evaluation.read_gallery(pictograms[0], most=1).pictures) == 1
    queries = evaluation.read_queries(pictograms[0], gallery, ["de"])
    assert {query.language for query in queries} <= {"de"}


def test_missing_data_is_one_sentence(tmp_path, save_tiny):
    with pytest.raises(SystemExit, match=r"error: No pictures.parquet in .*clippo build pictograms"):
        evaluation.main(["--model", save_tiny(), "--data_dir", str(tmp_path)])
