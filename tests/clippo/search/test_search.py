"""Search in vectors: the hits of exact cosines, an index on disk, added and removed files, a sheet, clear errors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.data.sources import load_rows
from clippo.data.vectors import About, Vectors
from clippo.evaluation.embed import main as embed
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.vector_models import open_vector_model
from clippo.search import index as index_module
from clippo.visualization.inputs import CHECKOUT

pytest.importorskip("faiss", reason="the extra search is not installed")

from clippo.search import SearchIndex
from clippo.search.command import SearchArguments, main, search, show_hits

MODEL, PICTURES = CHECKOUT / "checkpoints" / "clippo-emoji", CHECKOUT / "docs" / "pictures"


def write_random(folder: Path, rows: int, width: int = 16, fingerprint: str = "a") -> torch.Tensor:
    vectors = torch.nn.functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(0)), dim=1)
    about = About("some/model", "nothing", "image", "images", fingerprint, rows, width, "float32")
    hashes = [number.to_bytes(8, "little") for number in range(rows)]
    Vectors.write(folder, about, vectors, list(range(rows)), hashes, [f"{number}.png" for number in range(rows)])
    return vectors


def test_few_vectors_are_compared_exactly_and_many_by_cells(tmp_path, monkeypatch):
    vectors = write_random(tmp_path, 3000)
    queries = vectors[:50].numpy()
    expected = (vectors[:50] @ vectors.T).topk(5)
    exact = SearchIndex(tmp_path).search(queries, 5)
    assert [[hit.row for hit in hits] for hits in exact] == expected.indices.tolist()
    np.testing.assert_allclose([[hit.score for hit in hits] for hits in exact], expected.values, atol=1e-6)
    assert exact[0][0].key == "0.png"
    monkeypatch.setattr(index_module, "EXACT_ROWS", 1000)
    monkeypatch.setattr(index_module, "PROBES", 0.3)
    (tmp_path / "index.json").unlink()
    cells = SearchIndex(tmp_path).search(queries, 5)
    assert all(hits[0].row == row for row, hits in enumerate(cells))
    shared = [len({hit.row for hit in a} & {hit.row for hit in b}) for a, b in zip(exact, cells, strict=True)]
    assert np.mean(shared) > 3.5


def test_the_index_on_disk_is_used_until_the_vectors_change(tmp_path, monkeypatch):
    write_random(tmp_path, 100)
    SearchIndex(tmp_path)
    with monkeypatch.context() as context:
        context.setattr(SearchIndex, "_make", lambda self: pytest.fail("the index was made again"))
        assert len(SearchIndex(tmp_path).search(np.eye(1, 16), 3)[0]) == 3
    write_random(tmp_path, 50, fingerprint="b")
    assert len(SearchIndex(tmp_path).search(np.eye(1, 16), 60)[0]) == 50


def test_a_folder_of_pictures_with_one_added_one_removed_and_one_broken(tmp_path, capsys):
    folder, vectors = tmp_path / "pictures", tmp_path / "vectors"
    folder.mkdir()
    for name in ("cat", "pizza", "rocket", "rose"):
        shutil.copy(PICTURES / f"{name}.webp", folder)
    (folder / "broken.webp").write_bytes(b"no image")
    build = ["--model", str(MODEL), "--data", str(folder), "--output_dir", str(vectors), "--progress", "false"]
    embed(build)
    main(
        ["--vectors", str(vectors), "--query", "猫", "pizza", "--count", "2", "--output", str(tmp_path / "found.html")]
    )
    lines = capsys.readouterr().out.split("\n\n")
    assert "cat.webp" in lines[-3].splitlines()[1] and "pizza.webp" in lines[-2].splitlines()[1]
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 4 and page.count("data:image/webp") == 4

    (folder / "rocket.webp").unlink()
    shutil.copy(PICTURES / "whale.webp", folder)
    embed(build)
    sheet = tmp_path / "found.png"
    main(["--vectors", str(vectors), "--image", str(PICTURES / "whale.webp"), "--count", "9", "--output", str(sheet)])
    found = capsys.readouterr().out
    assert "1.000  whale.webp" in found
    assert "rocket" not in found and "broken" not in found and found.count(".webp\n") >= 4
    assert Image.open(sheet).width > 500


def test_only_new_rows_are_embedded(tmp_path, monkeypatch, capsys):
    folder, vectors = tmp_path / "pictures", tmp_path / "vectors"
    folder.mkdir()
    for name in ("cat", "pizza", "rocket"):
        shutil.copy(PICTURES / f"{name}.webp", folder)
    build = ["--model", str(MODEL), "--data", str(folder), "--output_dir", str(vectors), "--progress", "false"]
    embed(build)
    before = Vectors(vectors)
    read, original = [], Encoder._embed_images

    def count(self, some, *arguments):
        read.append(len(some))
        return original(self, some, *arguments)

    monkeypatch.setattr(Encoder, "_embed_images", count)
    (folder / "pizza.webp").unlink()
    shutil.copy(PICTURES / "whale.webp", folder)
    (folder / "zero.webp").write_bytes(b"no image")
    embed(build)
    after = Vectors(vectors)
    assert "2 of 4 rows have their vectors already" in capsys.readouterr().err
    assert sum(read) == 2  # the new picture and one that goes along
    assert [Path(key).stem for key in after.keys] == ["cat", "rocket", "whale", "zero"]
    assert after.rows.tolist() == [0, 1, 2]
    assert torch.equal(after.get(1), before.get(2)) and torch.equal(after.get(0), before.get(0))
    fresh = tmp_path / "fresh"
    embed([*build, "--output_dir", str(fresh)])
    torch.testing.assert_close(after.vectors, Vectors(fresh).vectors, atol=1e-3, rtol=0)
    embed([*build, "--vector_dtype", "float32"])  # other numbers are made anew
    assert Vectors(vectors).about.dtype == "float32"


def test_a_sheet_after_a_file_was_removed_has_the_right_pictures(tmp_path):
    folder, vectors = tmp_path / "pictures", tmp_path / "vectors"
    folder.mkdir()
    for name in ("cat", "pizza", "rocket"):
        shutil.copy(PICTURES / f"{name}.webp", folder)
    embed(["--model", str(MODEL), "--data", str(folder), "--output_dir", str(vectors), "--progress", "false"])
    (folder / "cat.webp").unlink()  # the others move up by a row
    index = SearchIndex(vectors)
    hits = index.search(index.vectors.vectors[:2].float().numpy(), 1)
    (cat,), (pizza,) = (show_hits(load_rows(folder), index.vectors, own) for own in hits)
    assert (cat.name, cat.picture, pizza.name) == ("cat.webp", None, "pizza.webp")
    assert pizza.picture.tobytes() == Image.open(PICTURES / "pizza.webp").tobytes()


def test_a_text_tower_searches_the_vectors_that_it_reads_for(tmp_path, capsys, save_tiny):
    write_random(tmp_path / "v", 10, width=24)
    reader = save_tiny(image_tower="some/model", project_images=False)
    other = save_tiny(image_tower="other/model", project_images=False)
    main_with = ["--vectors", str(tmp_path / "v"), "--query", "a dog", "--count", "3", "--model"]
    with pytest.raises(SystemExit, match="was made by some/model, not by"):
        main([*main_with, other])
    index, args = SearchIndex(tmp_path / "v"), SearchArguments(str(tmp_path / "v"), ["a dog"], count=3, model=reader)
    ((title, hits),) = search(index, args)
    model, processor = open_vector_model(reader)
    scores = (Encoder(model, processor).texts(["a dog"]) @ index.vectors.vectors.T)[0]
    assert title == "a dog" and [hit.row for hit in hits] == scores.topk(3).indices.tolist()


def test_what_cannot_be_searched_is_named(tmp_path):
    write_random(tmp_path / "v", 10)
    with pytest.raises(ValueError, match=r"shape \(1, 3\), and the vectors in .* have 16 numbers, by some/model"):
        SearchIndex(tmp_path / "v").search(np.eye(1, 3))
    with pytest.raises(ValueError, match="count=0 finds nothing"):
        SearchIndex(tmp_path / "v").search(np.eye(1, 16), 0)
    for options, message in (
        (["--vectors", str(tmp_path / "v")], "nothing to search for"),
        (["--vectors", str(tmp_path / "none"), "--query", "x"], "There are no vectors in"),
        (["--vectors", str(tmp_path / "v"), "--query", "x", "--model", str(MODEL)], "was made by some/model, not by"),
    ):
        with pytest.raises((SystemExit, ValueError), match=message):
            main(options)
