"""Whole evaluations on small data: an oracle is perfect, a constant finds nothing, and what is missing is said."""

import json

import pytest
import torch
from datasets import Dataset

from clippo.evaluation.classification import few_shot_report, zero_shot_report
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.image_text import mixed_index_report, modality_gap_report, read_pairs, retrieval_report
from clippo.evaluation.phrase_matching import reading_report
from clippo.evaluation.prompts import PROTOCOLS, class_prompts
from clippo.evaluation.report import Report, format_cell
from clippo.evaluation.sources import Source, open_rows
from clippo.evaluation.text_text import bitext_report, sts_report

EYE = torch.eye(8)
ENGLISH, GERMAN = {"en": "en"}, {"de": "de"}


def by_digit(item):
    """Row 3 and "picture 3" look alike."""
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

        report = zero_shot_report(oracle(encoder, vector), Source(str(labelled)), templates=["{}"])
        assert report.metrics == {"top1": 1, "mean_per_class": 1}
        assert report.chance["top1"] == 1 / 4
        assert report.counts == {"pictures": 11, "classes": 4, "pictures that could not be read": 1}
        notes = " ".join(report.notes)
        assert "Classes 2, 3 are all called 'blue': only the first can be predicted" in notes
        assert "1 classes have no pictures and are left out of the mean per class: 'blue'" in notes
        assert "the first is row 4: cannot identify image" in notes
        assert torch.tensor(report.confusion["counts"]).diagonal().tolist() == [4, 3, 4, 0]

    def test_a_constant_model_predicts_the_first_class(self, encoder, oracle, labelled):
        report = zero_shot_report(oracle(encoder, constant), Source(str(labelled)), "name")
        assert report.metrics["top1"] == pytest.approx(4 / 11) and report.metrics["mean_per_class"] == pytest.approx(
            1 / 3
        )

    def test_the_protocol_averages_the_templates(self, encoder, labelled):
        """Against the definition, with the official 81 templates, on a random model."""
        report = zero_shot_report(encoder, Source(str(labelled)))
        assert "4 classes, 81 prompts each, canonicalised" in report.protocol
        _, prompts = class_prompts(["red", "lime_green", "blue", "Blue!"], PROTOCOLS["official"])
        classes = torch.stack([encoder.texts(own).mean(0) for own in prompts])
        classes = classes / classes.norm(dim=1, keepdim=True)
        rows = open_rows(Source(str(labelled)))
        pictures = encoder.pictures(row["image"] for row in rows)
        right = torch.tensor(pictures.select(rows["label"][:]))
        expected = ((pictures.vectors @ classes.T).argmax(1) == right).double().mean().item()
        assert report.metrics["top1"] == pytest.approx(expected)

    def test_errors(self, encoder, labelled):
        with pytest.raises(ValueError, match="protocol='best' is not known; choose one of official, colab, name"):
            zero_shot_report(encoder, Source(str(labelled)), "best")
        names = labelled / "one.txt"
        names.write_text("red\n", encoding="utf-8")
        with pytest.raises(ValueError, match="Labels run from 0 to 2, but there are 1 class names"):
            zero_shot_report(encoder, Source(str(labelled), class_names=str(names)), "name")


class TestFewShot:
    def test_separable_features_are_learnt(self, encoder, oracle, labelled):
        source = Source(str(labelled))
        probes = ["least-squares"]
        report = few_shot_report(oracle(encoder, by_color), source, shots=(1, 0), probes=probes, l2=1.0)
        assert report.metrics == {"least-squares, 1 shots": 1, "least-squares, all pictures": 1}
        assert [row["draws"] for row in report.rows] == [3, 1]
        assert report.notes == ["Class 'Blue!' has no training pictures."]
        assert report.counts["test pictures"] == 11 and report.counts["pictures that could not be read"] == 1

    def test_real_features_both_probes_and_the_same_numbers_again(self, encoder, labelled):
        pytest.importorskip("sklearn")
        reports = [few_shot_report(encoder, Source(str(labelled)), shots=(1, 5, 25)) for _ in range(2)]
        assert reports[0].rows == reports[1].rows and len(reports[0].rows) == 6
        assert reports[0].metrics["least-squares, 5 shots"] > 1 / 3  # colours are easy, even for random weights
        assert any("some classes have fewer pictures, 8 at least" in note for note in reports[0].notes)
        with pytest.raises(ValueError, match="probes='svm' is not known"):
            few_shot_report(encoder, Source(str(labelled)), probes=["svm"])


class TestRetrieval:
    def test_an_oracle_is_perfect(self, encoder, oracle, captioned):
        source = Source(str(captioned), captions={**ENGLISH, **GERMAN, "fr": "fr"})
        report = retrieval_report(oracle(encoder, by_digit), source)
        assert set(report.metrics.values()) == {1}
        english, german = (next(row for row in report.rows if row["language"] == code) for code in ("en", "de"))
        assert (english["pictures"], english["captions"]) == (6, 12)
        assert (german["pictures"], german["captions"]) == (4, 4)
        assert report.notes == [
            "de: 2 pictures have no caption.",
            "fr: no picture has a caption; the language is left out.",
        ]
        # Two of twelve captions are right: one draw finds one with 1/6, five with 1 - (10*9*8*7*6)/(12*11*10*9*8).
        english = retrieval_report(oracle(encoder, by_digit), Source(str(captioned), captions=ENGLISH))
        assert english.chance["I2T R@1"] == pytest.approx(1 / 6)
        assert english.chance["I2T R@5"] == pytest.approx(1 - 30240 / 95040)
        assert english.chance["T2I R@5"] == pytest.approx(5 / 6)

    def test_a_constant_model_finds_nothing(self, encoder, oracle, captioned):
        report = retrieval_report(oracle(encoder, constant), Source(str(captioned), captions=ENGLISH))
        assert report.metrics["T2I R@5"] == report.metrics["I2T R@10"] == 0

    def test_all_pictures_may_be_the_gallery(self, encoder, oracle, captioned):
        source = Source(str(captioned), captions=GERMAN, gallery="all")
        report = retrieval_report(oracle(encoder, by_digit), source)
        assert report.rows[0]["pictures"] == 6 and report.chance["T2I R@1"] == 1 / 6

    def test_no_captions_at_all(self, encoder, captioned):
        with pytest.raises(ValueError, match="nothing to retrieve"):
            retrieval_report(encoder, Source(str(captioned), captions={"fr": "fr"}))
        with pytest.raises(ValueError, match="No captions named"):
            retrieval_report(encoder, Source(str(captioned)))
        with pytest.raises(ValueError, match="No captions in ja"):
            retrieval_report(encoder, Source(str(captioned), captions=ENGLISH), ["ja"])

    def test_the_emoji_set(self, encoder, emoji_folder):
        source = Source(str(emoji_folder), gallery="all")
        report = retrieval_report(encoder, source, ["de", "ru"])
        by_language = {row["language"]: row for row in report.rows}
        assert by_language["ru"]["script"] == "Cyrillic" and by_language["ru"]["captions"] == 23
        assert {row["script"] for row in report.rows} == {"2 languages", "Latin", "Cyrillic"}

    def test_language_splits_share_their_pictures(self, encoder, captioned, tmp_path):
        """As Crossmodal-3600: the second language's rows come in another order, and one is missing."""
        rows = Dataset.from_parquet(str(captioned / "test.parquet")).to_list()
        for code, order in (("en", range(6)), ("de", (5, 3, 1, 0, 2))):
            own = [{"image": rows[i]["image"], "image_id": str(i), "captions": [f"{code} {i}"]} for i in order]
            Dataset.from_list(own).to_parquet(tmp_path / f"{code}.parquet")
        source = Source(str(tmp_path), captions={"en": "captions", "de": "captions"}, split_is_language=True)
        pictures, (english, german) = read_pairs(encoder, source)
        assert pictures.kept == list(range(6)) and english.rows == list(range(6))
        assert german.texts == [f"de {i}" for i in (0, 1, 2, 3, 5)] and german.rows == [0, 1, 2, 3, 5]


class TestGapAndMixedIndex:
    def test_a_perfect_model_has_no_gap(self, encoder, oracle, captioned):
        source = Source(str(captioned), captions=ENGLISH)
        assert modality_gap_report(oracle(encoder, by_digit), source).metrics["distance"] == 0
        mixed = mixed_index_report(oracle(encoder, by_digit), source)
        assert mixed.metrics["alone R@1"] == 1
        assert mixed.metrics["mixed R@1"] == 0  # the first caption is as near as the picture: a tie is a miss
        assert mixed.metrics["mixed R@10"] == 1

    def test_a_gap_hides_the_pictures_behind_the_texts(self, encoder, oracle, captioned):
        def vector(item):
            shift = EYE[6] if isinstance(item, int) else EYE[7]
            return torch.nn.functional.normalize(by_digit(item) + 3 * shift, dim=0)

        source = Source(str(captioned), captions=ENGLISH)
        gap = modality_gap_report(oracle(encoder, vector), source)
        assert gap.metrics["separability"] == 1 and gap.metrics["distance"] > 1
        mixed = mixed_index_report(oracle(encoder, vector), source)
        assert mixed.metrics["alone R@1"] == 1 and mixed.metrics["mixed R@1"] == 0
        assert mixed.metrics["pictures in first 10"] == pytest.approx(0.4)  # all six texts come first

    def test_an_only_caption_is_not_found_as_itself(self, encoder, oracle, captioned):
        mixed = mixed_index_report(oracle(encoder, by_digit), Source(str(captioned), captions=GERMAN))
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

        report = sts_report(oracle(encoder, vector), sentences)
        assert report.metrics["spearman"] == pytest.approx(1) and [row["pairs"] for row in report.rows] == [6, 6]
        assert len(sts_report(encoder, sentences, languages=["ru"]).rows) == 1
        assert sts_report(encoder, sentences, language_column="none").rows[0]["pairs"] == 12

    def test_bitext(self, encoder, oracle, tmp_path):
        rows = [{"lang": "deu", "sentence": f"Satz {i}", "english": f"sentence {i}"} for i in range(5)]
        Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
        report = bitext_report(oracle(encoder, by_digit), str(tmp_path))
        assert report.metrics == {"forward": 1, "backward": 1, "mean": 1, "identical": 0}
        assert report.chance["mean"] == 1 / 5
        assert bitext_report(oracle(encoder, constant), str(tmp_path)).metrics["mean"] == 0

    def test_reading(self, encoder, oracle, tmp_path):
        # Six phrases, each of one letter: a5 a1 a7 ...; who knows the letter finds the other part.
        Dataset.from_dict({"text": [" ".join(f"{c}{i}" for i in range(9)) for c in "abcdef"]}).to_parquet(
            tmp_path / "test.parquet"
        )
        by_letter = oracle(encoder, lambda text: EYE["abcdef".index(text[0])])
        report = reading_report(by_letter, str(tmp_path), words=9)
        assert report.metrics == {"found": 1, "bag of words": 1} and report.chance == {"found": 1 / 6}
        # Three phrases a letter: nobody is nearer than the two of the same letter, and ties are misses.
        report = reading_report(by_letter, str(tmp_path), words=3, keep=0.9, limit=16)
        assert report.metrics["found"] < 0.3 and 2 <= report.counts["phrases"] <= 16
        assert report.counts["phrases"] + report.counts["phrases left out, their parts equal"] <= 18
        same = [reading_report(encoder, str(tmp_path), words=3, seed=seed).metrics for seed in (1, 1)]
        assert same[0] == same[1]
        with pytest.raises(ValueError, match=r"No text of .* has 10 words .*--words"):
            reading_report(encoder, str(tmp_path), words=10)

    def test_errors(self, encoder, sentences, tmp_path):
        with pytest.raises(ValueError, match="has nothing in fr; it has de, ru"):
            sts_report(encoder, sentences, languages=["fr"])
        with pytest.raises(ValueError, match="No column sentence, english"):
            bitext_report(encoder, sentences)
        with pytest.raises(FileNotFoundError, match=r"No train\*.parquet"):
            sts_report(encoder, sentences, split="train")


class TestReport:
    report = Report("zero-shot", "a/b", "How.", {"top1": 0.5, "spearman": float("nan")}, {"top1": 0.1}, {"pictures": 3})

    def test_json_has_no_nan_and_markdown_has_chance(self, tmp_path):
        content = json.loads(self.report.to_json())
        assert content["metrics"] == {"top1": 0.5, "spearman": None} and content["data"] == "a/b"
        assert "| top1 | 50.0% | 10.0% |" in self.report.to_markdown() and "3 pictures." in self.report.to_markdown()
        assert [file.name for file in self.report.write(tmp_path)] == ["zero-shot_b.json", "zero-shot_b.md"]

    def test_pictures(self, tmp_path):
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
