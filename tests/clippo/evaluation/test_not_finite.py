"""NaN in weights is an error that names the row; an undefined metric is a note."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from clippo.evaluation.benchmarks import Benchmark
from clippo.evaluation.classification import zero_shot, zero_shot_report
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.image_text import retrieval_report
from clippo.evaluation.text_text import Sentences, sts_report
from clippo.visualization.heatmaps import explain


@pytest.fixture(params=[torch.nan, torch.inf])
def broken(tiny, request):
    """Model with one weight that is not a finite number, and its processor."""
    model, processor = tiny
    with torch.no_grad():
        model.projection.weight[0, 0] = request.param
    return model, processor


def test_reports_name_the_row(broken, labelled, captioned):
    with pytest.raises(ValueError, match=r"11 embeddings are not finite; the first belongs to image 0"):
        zero_shot_report(Encoder(*broken), Benchmark(str(labelled)))
    with pytest.raises(ValueError, match=r"embeddings are not finite; the first belongs to image 0"):
        retrieval_report(Encoder(*broken), Benchmark(str(captioned), captions={"en": "en"}))
    with pytest.raises(ValueError, match=r"1 embeddings are not finite; the first belongs to text 0"):
        zero_shot(Encoder(*broken), [Image.new("RGB", (8, 8))], ["a"])


def test_figures_name_the_side(broken):
    with pytest.raises(ValueError, match=r"not finite; the first belongs to image 0"):
        explain(*broken, Image.new("RGB", (8, 8)), "a")


def test_probabilities_are_numbers(tiny):
    model, processor = tiny
    with torch.no_grad():
        model.logit_scale.fill_(torch.nan)
    with pytest.raises(ValueError, match="logit_scale is nan"):
        zero_shot(Encoder(model, processor), [Image.new("RGB", (8, 8))], ["a", "b"])


def test_sentence_transformers_and_clip_benchmark_name_the_row(broken, tmp_path):
    from clippo.integrations.clip_benchmark import ClipBenchmarkModel

    model, processor = broken
    adapter = ClipBenchmarkModel(model).eval()
    inputs = processor(images=[Image.new("RGB", (8, 8))], text=["a"], return_tensors="pt")
    with pytest.raises(ValueError, match="1 embeddings are not finite; the first belongs to image 0"):
        adapter.encode_image(inputs["pixel_values"])
    with pytest.raises(ValueError, match="1 embeddings are not finite; the first belongs to text 0"):
        adapter.encode_text(inputs["text_pixel_values"])

    transformers = pytest.importorskip("sentence_transformers")
    from clippo.integrations.sentence_transformers import ClippoSentenceModule

    model = transformers.SentenceTransformer(modules=[ClippoSentenceModule(model, processor)], device="cpu")
    with pytest.raises(ValueError, match="2 embeddings are not finite; the first belongs to input 0"):
        model.encode(["a", Image.new("RGB", (8, 8))])


def test_an_undefined_correlation_is_a_note(tiny, tmp_path):
    rows = [
        {"lang": code, "sentence1": f"{i}", "sentence2": "a", "label": float(i * (code == "de"))}
        for code in ("de", "fr")
        for i in range(4)
    ]
    Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
    report = sts_report(Encoder(*tiny), Sentences(str(tmp_path)))
    assert report.notes == [
        "fr: all cosines or all judgements are equal, so the correlation is undefined and left out."
    ]
    assert report.metrics["spearman"] == report.rows[0]["spearman"] and np.isfinite(report.metrics["pearson"])
    assert report.counts["languages"] == 2 and "nan" not in report.to_markdown() and "NaN" not in report.to_json()
    report = sts_report(Encoder(*tiny), Sentences(str(tmp_path), languages=["fr"]))
    assert report.metrics == {} and "nan" not in report.to_markdown()
