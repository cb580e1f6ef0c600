"""Whole evaluations on small data: an oracle is perfect, a constant model has recall 0, and gaps are named."""

import json

import pytest
import torch
from datasets import Dataset

from clippo.evaluation.benchmarks import Benchmark, open_rows
from clippo.evaluation.classification import zero_shot_report
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.image_text import mixed_index_report, modality_gap_report, read_pairs, retrieval_report
from clippo.evaluation.phrase_matching import PhraseProtocol, phrase_report
from clippo.evaluation.probes import FewShotProtocol, few_shot_report
from clippo.evaluation.prompts import PROTOCOLS, class_prompts
from clippo.evaluation.report import Report, format_cell
from clippo.evaluation.text_text import Sentences, bitext_report, sts_report

EYE = torch.eye(8)
ENGLISH, GERMAN = {"en": "en"}, {"de": "de"}


def by_digit(item):
    """Gives row 3 and "picture 3" the same vector."""
    return EYE[item if isinstance(item, int) else int(item[-1])]


def by_color(item):
    return EYE[item % 3 if isinstance(item, int) else ("red", "lime", "blue").index(item.split()[-1])]


def constant(item):
    return EYE[0]


@pytest.fixture
def encoder(tiny):
    return Encoder(*tiny)


class TestZeroShot:
    def test_an_oracle_is_perfect_and_everything_odd_is_counted(self, encoder, oracle, labelled):
        def vector(item):
            return EYE[item % 3 if isinstance(item, int) else ["red", "lime green", "blue"].index(item)]

        report = zero_shot_report(oracle(encoder, vector), Benchmark(str(labelled)), templates=["{}"])
        assert report.metrics == {"top1": 1, "mean_per_class": 1}
        assert report.chance["top1"] == 1 / 4
        assert report.counts == {"images": 11, "classes": 4, "images that could not be read": 1}
        notes = " ".join(report.notes)
        assert "Classes 2, 3 are all called 'blue': only the first can be predicted" in notes
        assert "1 classes have no images and are left out of the mean per class: 'blue'" in notes
        assert "the first is row 4: broken image: PIL cannot identify image" in notes
        assert torch.tensor(report.confusion["counts"]).diagonal().tolist() == [4, 3, 4, 0]

    def test_a_constant_model_predicts_the_first_class(self, encoder, oracle, labelled):
        report = zero_shot_report(oracle(encoder, constant), Benchmark(str(labelled)), "name")
        assert report.metrics["top1"] == pytest.approx(4 / 11) and report.metrics["mean_per_class"] == pytest.approx(
            1 / 3
        )

    def test_the_protocol_averages_the_templates(self, encoder, labelled):
        """A random model with the 81 official templates equals the definition."""
        report = zero_shot_report(encoder, Benchmark(str(labelled)))
        assert "4 classes, 81 prompts each, canonicalised" in report.protocol
        _, prompts = class_prompts(["red", "lime_green", "blue", "Blue!"], PROTOCOLS["official"])
        classes = torch.stack([encoder.texts(own).mean(0) for own in prompts])
        classes = classes / classes.norm(dim=1, keepdim=True)
        rows = open_rows(Benchmark(str(labelled)))
        images = encoder.images(row["image"] for row in rows)
        right = torch.tensor(images.select(rows["label"][:]))
        expected = ((images.vectors @ classes.T).argmax(1) == right).double().mean().item()
        assert report.metrics["top1"] == pytest.approx(expected)

    def test_errors(self, encoder, labelled):
        with pytest.raises(ValueError, match="protocol='best' is not known; choose one of official, colab, name"):
            zero_shot_report(encoder, Benchmark(str(labelled)), "best")
        names = labelled / "one.txt"
        names.write_text("red\n", encoding="utf-8")
        with pytest.raises(ValueError, match="Labels run from 0 to 2, but there are 1 class names"):
            zero_shot_report(encoder, Benchmark(str(labelled), class_names=str(names)), "name")


class TestFewShot:
    def test_separable_features_are_learnt(self, encoder, oracle, labelled):
        benchmark = Benchmark(str(labelled))
        probes = ["least-squares"]
        report = few_shot_report(
            oracle(encoder, by_color), benchmark, FewShotProtocol(shots=(1, 0), probes=probes, l2=1.0)
        )
        assert report.metrics == {"least-squares, 1 shots": 1, "least-squares, all images": 1}
        assert [row["draws"] for row in report.rows] == [3, 1]
        assert report.notes == ["Class 'Blue!' has no training images."]
        assert report.counts["test images"] == 11 and report.counts["images that could not be read"] == 1

    def test_real_features_both_probes_and_the_same_numbers_again(self, encoder, labelled):
        pytest.importorskip("sklearn")
        protocol = FewShotProtocol(shots=(1, 5, 25))
        reports = [few_shot_report(encoder, Benchmark(str(labelled)), protocol) for _ in range(2)]
        assert reports[0].rows == reports[1].rows and len(reports[0].rows) == 6
        assert reports[0].metrics["least-squares, 5 shots"] > 1 / 3  # colours are easy, even for random weights
        assert any("some classes have fewer images; the smallest has 8" in note for note in reports[0].notes)
        with pytest.raises(ValueError, match="probes='svm' is not known"):
            FewShotProtocol(probes=["svm"])


class TestRetrieval:
    def test_an_oracle_is_perfect(self, encoder, oracle, captioned):
        benchmark = Benchmark(str(captioned), captions={**ENGLISH, **GERMAN, "fr": "fr"})
        report = retrieval_report(oracle(encoder, by_digit), benchmark)
        assert set(report.metrics.values()) == {1}
        english, german = (next(row for row in report.rows if row["language"] == code) for code in ("en", "de"))
        assert (english["images"], english["captions"]) == (6, 12)
        assert (german["images"], german["captions"]) == (4, 4)
        assert report.notes == [
            "de: 2 images have no caption.",
            "fr: no image has a caption; the language is left out.",
        ]
        # Two of twelve captions are right: one draw finds one with 1/6, five with 1 - (10*9*8*7*6)/(12*11*10*9*8).
        english = retrieval_report(oracle(encoder, by_digit), Benchmark(str(captioned), captions=ENGLISH))
        assert english.chance["I2T R@1"] == pytest.approx(1 / 6)
        assert english.chance["I2T R@5"] == pytest.approx(1 - 30240 / 95040)
        assert english.chance["T2I R@5"] == pytest.approx(5 / 6)

    def test_a_constant_model_finds_nothing(self, encoder, oracle, captioned):
        report = retrieval_report(oracle(encoder, constant), Benchmark(str(captioned), captions=ENGLISH))
        assert report.metrics["T2I R@5"] == report.metrics["I2T R@10"] == 0

    def test_all_pictures_may_be_the_gallery(self, encoder, oracle, captioned):
        benchmark = Benchmark(str(captioned), captions=GERMAN, gallery="all")
        report = retrieval_report(oracle(encoder, by_digit), benchmark)
        assert report.rows[0]["images"] == 6 and report.chance["T2I R@1"] == 1 / 6

    def test_no_captions_at_all(self, encoder, captioned):
        with pytest.raises(ValueError, match="nothing to retrieve"):
            retrieval_report(encoder, Benchmark(str(captioned), captions={"fr": "fr"}))
        with pytest.raises(ValueError, match="No captions named"):
            retrieval_report(encoder, Benchmark(str(captioned)))
        with pytest.raises(ValueError, match="No captions in ja"):
            retrieval_report(encoder, Benchmark(str(captioned), captions=ENGLISH), ["ja"])

    def test_the_emoji_set(self, encoder, emoji_folder):
        benchmark = Benchmark(str(emoji_folder), gallery="all")
        report = retrieval_report(encoder, benchmark, ["de", "ru"])
        by_language = {row["language"]: row for row in report.rows}
        assert by_language["ru"]["script"] == "Cyrillic" and by_language["ru"]["captions"] == 23
        assert {row["script"] for row in report.rows} == {"2 languages", "Latin", "Cyrillic"}

    def test_language_splits_share_their_pictures(self, encoder, captioned, tmp_path):
        """The rows of the second language come in another order, and one is missing, as in Crossmodal-3600."""
        rows = Dataset.from_parquet(str(captioned / "test.parquet")).to_list()
        for code, order in (("en", range(6)), ("de", (5, 3, 1, 0, 2))):
            own = [{"image": rows[i]["image"], "image_id": str(i), "captions": [f"{code} {i}"]} for i in order]
            Dataset.from_list(own).to_parquet(tmp_path / f"{code}.parquet")
        benchmark = Benchmark(str(tmp_path), captions={"en": "captions", "de": "captions"}, split_is_language=True)
        images, (english, german) = read_pairs(encoder, benchmark)
        assert images.kept == list(range(6)) and english.rows == list(range(6))
        assert german.texts == [f"de {i}" for i in (0, 1, 2, 3, 5)] and german.rows == [0, 1, 2, 3, 5]


class TestGapAndMixedIndex:
    def test_a_perfect_model_has_no_gap(self, encoder, oracle, captioned):
        benchmark = Benchmark(str(captioned), captions=ENGLISH)
        assert modality_gap_report(oracle(encoder, by_digit), benchmark).metrics["distance"] == 0
        mixed = mixed_index_report(oracle(encoder, by_digit), benchmark)
        assert mixed.metrics["alone R@1"] == 1
        assert mixed.metrics["mixed R@1"] == 0  # the first caption is as near as the picture: a tie is a miss
        assert mixed.metrics["mixed R@10"] == 1

    def test_a_gap_hides_the_pictures_behind_the_texts(self, encoder, oracle, captioned):
        def vector(item):
            shift = EYE[6] if isinstance(item, int) else EYE[7]
            return torch.nn.functional.normalize(by_digit(item) + 3 * shift, dim=0)

        benchmark = Benchmark(str(captioned), captions=ENGLISH)
        gap = modality_gap_report(oracle(encoder, vector), benchmark)
        assert gap.metrics["separability"] == 1 and gap.metrics["distance"] > 1
        mixed = mixed_index_report(oracle(encoder, vector), benchmark)
        assert mixed.metrics["alone R@1"] == 1 and mixed.metrics["mixed R@1"] == 0
        assert mixed.metrics["images in first 10"] == pytest.approx(0.4)  # all six texts come first

    def test_an_only_caption_is_not_found_as_itself(self, encoder, oracle, captioned):
        mixed = mixed_index_report(oracle(encoder, by_digit), Benchmark(str(captioned), captions=GERMAN))
        assert mixed.metrics["mixed R@1"] == 1


class TestSentences:
    @pytest.fixture
    def sentences(self, tmp_path):
        rows = [
            {"lang": code, "sentence1": f"{code} 0", "sentence2": f"{code} {i % 3}", "label": float(3 - i % 3)}
            for code in ("de", "ru")
            for i in range(6)
        ]
        Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
        return str(tmp_path)

    def test_sts(self, encoder, oracle, sentences):
        def vector(text):
            angle = torch.tensor(float(text[-1]))
            return torch.stack([angle.cos(), angle.sin()])

        report = sts_report(oracle(encoder, vector), Sentences(sentences))
        assert report.metrics["spearman"] == pytest.approx(1) and [row["pairs"] for row in report.rows] == [6, 6]
        assert len(sts_report(encoder, Sentences(sentences, languages=["ru"])).rows) == 1
        assert sts_report(encoder, Sentences(sentences, language="none")).rows[0]["pairs"] == 12

    def test_bitext(self, encoder, oracle, tmp_path):
        rows = [{"lang": "deu", "sentence": f"Satz {i}", "english": f"sentence {i}"} for i in range(5)]
        Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
        report = bitext_report(oracle(encoder, by_digit), Sentences(str(tmp_path)))
        assert report.metrics == {"forward": 1, "backward": 1, "mean": 1, "identical": 0}
        assert report.chance["mean"] == 1 / 5
        assert bitext_report(oracle(encoder, constant), Sentences(str(tmp_path))).metrics["mean"] == 0

    def test_phrases(self, encoder, oracle, tmp_path):
        # Six phrases, each of one letter: a5 a1 a7 ...; who knows the letter finds the other part.
        Dataset.from_dict({"text": [" ".join(f"{c}{i}" for i in range(9)) for c in "abcdef"]}).to_parquet(
            tmp_path / "test.parquet"
        )
        by_letter = oracle(encoder, lambda text: EYE["abcdef".index(text[0])])
        report = phrase_report(by_letter, Sentences(str(tmp_path)), PhraseProtocol(words=9))
        assert report.metrics == {"found": 1, "bag of words": 1} and report.chance == {"found": 1 / 6}
        # Three phrases a letter: nobody is nearer than the two of the same letter, and ties are misses.
        report = phrase_report(by_letter, Sentences(str(tmp_path)), PhraseProtocol(words=3, keep=0.9, limit=16))
        assert report.metrics["found"] < 0.3 and 2 <= report.counts["phrases"] <= 16
        assert report.counts["phrases"] + report.counts["phrases left out, their parts equal"] <= 18
        same = [
            phrase_report(encoder, Sentences(str(tmp_path)), PhraseProtocol(words=3, seed=seed)).metrics
            for seed in (1, 1)
        ]
        assert same[0] == same[1]
        with pytest.raises(ValueError, match=r"No text of .* has 10 words .*--words"):
            phrase_report(encoder, Sentences(str(tmp_path)), PhraseProtocol(words=10))

    def test_errors(self, encoder, sentences, tmp_path):
        with pytest.raises(ValueError, match="has no rows in fr; it has de, ru"):
            sts_report(encoder, Sentences(sentences, languages=["fr"]))
        with pytest.raises(ValueError, match="No column sentence, english"):
            bitext_report(encoder, Sentences(sentences))
        with pytest.raises(FileNotFoundError, match=r"no train\* file in"):
            sts_report(encoder, Sentences(sentences, split="train"))


class TestReport:
    report = Report("zero-shot", "a/b", "How.", {"top1": 0.5, "spearman": float("nan")}, {"top1": 0.1}, {"images": 3})

    def test_json_has_no_nan_and_markdown_has_chance(self, tmp_path):
        content = json.loads(self.report.to_json())
        assert content["metrics"] == {"top1": 0.5, "spearman": None} and content["data"] == "a/b"
        assert "| top1 | 50.0% | 10.0% |" in self.report.to_markdown() and "3 images." in self.report.to_markdown()
        assert [file.name for file in self.report.write(tmp_path)] == ["zero-shot_b.json", "zero-shot_b.md"]

    def test_figures(self, tmp_path):
        pytest.importorskip("matplotlib")
        confusion = Report("zero-shot", "b", "", {}, confusion={"names": ["x", "y"], "counts": [[1, 0], [0, 0]]})
        rows = [{"language": "de", "R": 0.5}, {"language": "mean", "R": None}]
        bars = Report("retrieval", "b", "", {}, {"R": 0.1}, rows=rows, bars=("R", "language"))
        for report in (confusion, bars):
            assert report.write(tmp_path)[-1].read_bytes()[:4] == b"\x89PNG"

    def test_cells(self):
        cells = [
            ("R@1", 0.0005),
            ("R@1", 0.12345),
            ("spearman", 0.12345),
            ("median_rank", 4.5),
            ("pairs", 7),
            ("x", None),
        ]
        assert [format_cell(*cell) for cell in cells] == ["0.05%", "12.3%", "0.123", "4.5", "7", ""]
