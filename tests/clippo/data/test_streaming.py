"""Streams: WebDataset shards dealt out to processes and workers, exact shares, the same again after a restart."""

import io
import itertools
import logging
import tarfile

import datasets
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from PIL import Image

from clippo.data import ContrastiveCollator, PairStream, SourceSpec, samples
from clippo.processing import ClippoProcessor

SHARDS, ROWS = 4, 6


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def png(value: int) -> bytes:
    Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path):
    """Four tar files of six pictures each; picture i is of colour i and called by its number."""
    for shard in range(SHARDS):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for row in range(ROWS):
                number = shard * ROWS + row
                add(archive, f"{number:04}.png", png(number))
                add(archive, f"{number:04}.txt", f"number {number}".encode())
    return SourceSpec(
        path=str(tmp_path / "*.tar"), name="shards", streaming=True, image_column="png", caption_columns="txt"
    )


def take(stream, count):
    return list(itertools.islice(stream, count))


def numbers(items):
    return [int(item["text"].removeprefix("number ")) for item in items]


def test_pictures_and_texts_stay_together(shards):
    items = take(PairStream([shards], batch_size=2, seed=0), SHARDS * ROWS)
    assert sorted(numbers(items)) == list(range(SHARDS * ROWS)), "a pass reads every row once"
    assert all(item["image"].getpixel((0, 0))[0] == n for item, n in zip(items, numbers(items), strict=True))


def test_a_seed_gives_the_same_stream_and_passes_differ(shards):
    one, other = (take(PairStream([shards], batch_size=2, seed=3), 60) for _ in range(2))
    assert numbers(one) == numbers(other) and [i["seed"] for i in one] == [i["seed"] for i in other]
    assert numbers(one)[:24] != numbers(one)[24:48]
    assert numbers(take(PairStream([shards], batch_size=2, seed=4), 24)) != numbers(one)[:24]


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_share_the_rows(shards, processes, caplog):
    """Whole shards where there are enough of them, rows in turn otherwise; nothing lost, nothing doubled."""
    with caplog.at_level(logging.WARNING):
        found = []
        for process in range(processes):
            stream = PairStream([shards], batch_size=1, seed=0, process=process, processes=processes)
            part = len(range(process, SHARDS * ROWS, processes)) if processes != 3 else 0
            if processes == 3:  # four shards on three processes: one of them has two
                part = 12 if process == 0 else 6
            found += numbers(take(stream, part))
    assert sorted(found) == list(range(SHARDS * ROWS))
    assert ("shards has 4 shards for 8 readers" in caplog.text) == (processes == 8)


def test_workers_share_the_rows_and_keep_the_shares(shards, tmp_path):
    path = tmp_path / "texts.json"
    datasets.Dataset.from_dict({"text": ["One sentence. Two sentences. Three sentences. Four sentences."] * 4}).to_json(
        str(path)
    )
    texts = SourceSpec(path=str(path), kind="text_text", text_column="text", streaming=True, weight=0.25)
    shards.weight = 0.75
    stream = PairStream([shards, texts], batch_size=4, seed=0)
    loader = torch.utils.data.DataLoader(
        stream, batch_size=4, num_workers=2, collate_fn=list, multiprocessing_context="fork"
    )
    batches = take(loader, 8)
    assert all(["image" in item for item in batch] == [True, True, True, False] for batch in batches)
    assert all(batch[3]["text"].endswith("sentences.") for batch in batches)
    images = [item for batch in batches for item in batch[:3]]
    assert sorted(numbers(images)) == list(range(24))


def test_a_broken_picture_is_counted_and_a_broken_shard_named(shards, tmp_path, caplog):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for row in range(ROWS):
            add(archive, f"{row:04}.png", png(row)[:50] if row in (1, 2) else png(row))
            add(archive, f"{row:04}.txt", f"number {row}".encode())
    items = take(PairStream([shards], batch_size=2, seed=0), 2 * SHARDS * ROWS)
    assert sum(item["skipped"] > 0 for item in items) == 4 and not {1, 2} & set(numbers(items))
    assert all(one["text"] != other["text"] for one, other in zip(items[::2], items[1::2], strict=True)), "batch mates"

    whole = (tmp_path / "2.tar").read_bytes()
    (tmp_path / "2.tar").write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(ValueError, match=r"shards: the shard .*2\.tar was cut short"):
        PairStream([shards], batch_size=2, seed=0)
    (tmp_path / "2.tar").write_bytes(b"x" * 2048 + bytes(1024))  # no tar header where one should be
    with pytest.raises(RuntimeError, match=r"shards: .*2\.tar cannot be read \(ReadError"):
        take(PairStream([shards], batch_size=2, seed=0), 40)


def spoil(folder):
    with tarfile.open(folder / "0.tar", "w") as archive:
        for row in range(ROWS):
            add(archive, f"{row:04}.png", png(row)[:50] if row in (1, 2) else png(row))
            add(archive, f"{row:04}.txt", f"number {row}".encode())


def seen(batch):
    return [(item["text"], item["seed"], item["skipped"]) for item in batch]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("skip", [1, 5, 20])
def test_a_resumed_stream_goes_on_exactly_and_decodes_nothing_before(shards, tmp_path, monkeypatch, workers, skip):
    """Broken rows in it, over the end of a pass, through Accelerate's own skipping."""
    spoil(tmp_path)
    context = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}

    def collate(pairs):
        return {} if pairs[0] is None else {"seen": seen(pairs)}

    whole = take(torch.utils.data.DataLoader(PairStream([shards], 2, seed=0), 2, collate_fn=collate, **context), 25)
    made = []
    read = samples.read_image
    monkeypatch.setattr(samples, "read_image", lambda cell, *side: made.append(1) or read(cell, *side))
    stream = PairStream([shards], 2, seed=0)
    stream.skip_batches = skip
    loader = prepare_data_loader(torch.utils.data.DataLoader(stream, 2, collate_fn=collate, **context), num_processes=1)
    rest = take(skip_first_batches(loader, skip), 25 - skip)
    assert rest == whole[skip:] and any(row[2] for batch in whole for row in batch["seen"])
    if not workers:  # what is read in a worker is not counted here; one batch is read ahead by Accelerate
        assert len(made) <= 2 * (26 - skip) + sum(row[2] for batch in whole[skip:] for row in batch["seen"]) + 2


def test_the_collator_makes_nothing_of_a_batch_passed_over(shards):
    stream = PairStream([shards], 2, seed=0)
    stream.skip_batches = 3
    collator = ContrastiveCollator(ClippoProcessor.from_size(32))
    batches = take(torch.utils.data.DataLoader(stream, 2, collate_fn=collator), 4)
    assert batches[:3] == [{}] * 3 and len(batches[3]["pixel_values"]) == 2


def test_sentences_of_one_document_do_not_meet_in_a_batch(tmp_path):
    """A sentence on both sides of a batch would be its own negative."""
    documents = [" ".join(f"Document {d} has sentence {s}." for s in range(20)) for d in range(40)]
    datasets.Dataset.from_dict({"text": documents}).to_json(str(tmp_path / "a.json"))
    spec = SourceSpec(path=str(tmp_path / "a.json"), kind="text_text", text_column="text", streaming=True)
    passes = [take(PairStream([spec], 8, seed=0), 80)[start : start + 40] for start in (0, 40)]
    for one in passes:
        assert len({item["text"].split(" has ")[0] for item in one}) == 40
    first, second = ({(item["first_text"], item["text"]) for item in one} for one in passes)
    assert len(first & second) < 20, "another pair of it in the next pass"


def test_a_stream_of_nothing(tmp_path):
    datasets.Dataset.from_dict({"text": ["No pair here."] * 200}).to_json(str(tmp_path / "a.json"))
    spec = SourceSpec(path=str(tmp_path / "a.json"), kind="text_text", text_column="text", streaming=True, name="a")
    with pytest.raises(RuntimeError, match="a: 100 rows in a row could not be used"):
        take(PairStream([spec], batch_size=1, seed=0), 1)
