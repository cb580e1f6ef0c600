"""Demo of sentence search: the table, the count of right answers, the errors of the command."""

import json

import pytest
import torch

from clippo.demo.sentences import SENTENCES, main, search_sentences

from ...tiny import save_tiny


class Letters:
    """Encoder whose vectors count letters."""

    def texts(self, texts):
        vectors = torch.tensor([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]).float()
        return torch.nn.functional.normalize(vectors, dim=1)


def test_table_and_count():
    queries = [
        {"text": "tca", "language": "English", "kind": "misspelt", "answer": "cat"},
        {"text": "god", "answer": "cat"},
    ]
    lines = search_sentences(Letters(), ["cat", "dog"], queries)
    assert lines[0].split() == ["English", "misspelt", "tca", "1.00", "=", "cat"]
    assert lines[1].split() == ["god", "1.00", "x", "dog"]
    assert "first for 1 of 2 texts" in lines[-1] and "by chance 1.0" in lines[-1]
    several = search_sentences(Letters(), ["cat", "dog"], [{"text": "tca"}], shown=5)
    assert [line.split()[-1] for line in several] == ["cat", "dog"]


def test_shipped_queries_have_their_answers():
    shipped = json.loads(SENTENCES.read_text(encoding="utf-8"))
    assert len(set(shipped["sentences"])) == len(shipped["sentences"])
    assert {query["answer"] for query in shipped["queries"]} <= set(shipped["sentences"])
    assert len({query["language"] for query in shipped["queries"]}) >= 10


def test_command(tmp_path, capsys):
    folder = save_tiny(tmp_path / "tiny", image_size=[32, 512], processor={"overflow": "raise"})
    main(["--model", folder])
    assert "of 24 texts" in capsys.readouterr().out
    (tmp_path / "mine.txt").write_text("one\ntwo\n", encoding="utf-8")
    main(["--model", folder, "--sentences", str(tmp_path / "mine.txt"), "--queries", "eins", "--shown", "2"])
    printed = capsys.readouterr().out
    assert "among 2 sentences" in printed and "eins" in printed and "is meant" not in printed
    with pytest.raises(SystemExit, match="error: There is no folder"):
        main(["--model", str(tmp_path / "none")])
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no sentence"):
        main(["--model", folder, "--sentences", str(tmp_path / "empty.txt")])
