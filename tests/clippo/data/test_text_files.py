"""Text files are read alike everywhere: no byte order mark, two line ends."""

import pytest

from clippo.data.text_files import csv_options, read_lines


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcat\r\none\u2028two\u0085three\n\nlast\n".encode())
    assert read_lines(path) == ["cat", "one\u2028two\u0085three", "", "last"]
    path.write_bytes(b"")
    assert read_lines(path) == []


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"names.txt is not UTF-8 \(.* at byte 3\); convert it"):
        read_lines(tmp_path / "names.txt")


def test_tables_of_tabs_have_no_quotation_marks():
    assert csv_options("a.csv.gz").get("sep") is None
    assert csv_options("a.tsv.gz")["sep"] == "\t"
