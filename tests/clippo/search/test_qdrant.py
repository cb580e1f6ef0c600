"""Vectors in a collection of Qdrant: the rows of exact cosines, rows that are gone, an error for another width."""

import sys

import pytest
import torch

from clippo.data.vectors import About, Vectors
from clippo.search.qdrant import upload_vectors


def write(folder, rows: int, fingerprint: str, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    vectors = torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=1)
    about = About("some/model", "photos", "image", "images", fingerprint, rows, width, "float32")
    hashes = [row.to_bytes(8, "little") for row in range(rows)]
    Vectors.write(folder, about, vectors, range(rows), hashes, [f"{row}.png" for row in range(rows)])
    return vectors


def test_the_collection_finds_the_exact_rows_and_follows_the_folder(tmp_path, monkeypatch):
    qdrant = pytest.importorskip("qdrant_client", reason="the extra qdrant is not installed")
    monkeypatch.setattr("clippo.search.qdrant.BATCH", 16)
    client = qdrant.QdrantClient(path=str(tmp_path / "database"))
    vectors = write(tmp_path / "vectors", 50, "a")
    assert upload_vectors(tmp_path / "vectors", client, "photos") == 50
    for query in vectors[:5]:
        points = client.query_points("photos", query=query.tolist(), limit=4).points
        expected = (vectors @ query).topk(4)
        assert [point.id for point in points] == expected.indices.tolist()
        torch.testing.assert_close(torch.tensor([p.score for p in points]), expected.values, atol=1e-5, rtol=0)
        assert points[0].payload == {"fingerprint": "a", "key": f"{points[0].id}.png"}
    write(tmp_path / "vectors", 30, "b")  # files were removed
    assert upload_vectors(tmp_path / "vectors", client, "photos") == 30
    write(tmp_path / "wide", 3, "c", width=9)
    with pytest.raises(ValueError, match=r"photos has vectors of 8 numbers, and .* has 9, by some/model; choose"):
        upload_vectors(tmp_path / "wide", client, "photos")
    client.close()


def test_a_missing_client_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ImportError, match=r"clippo\[qdrant\]"):
        upload_vectors(tmp_path, None, "photos")
