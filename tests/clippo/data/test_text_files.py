"""Text files are read alike everywhere: no byte order mark, two line ends, no guessed missing values."""

import pytest

from clippo.data.text_files import read_json_lines, read_lines, read_table


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcat\r\none\u2028two\u0085three\n\nlast\n".encode())
    assert read_lines(path) == ["cat", "one\u2028two\u0085three", "", "last"]
    path.write_bytes(b"")
    assert read_lines(path) == []


def test_cells_are_the_strings_that_are_written(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('\ufefffile_name,caption\na.png,null\nb.png,"two\nlines, NA"\nc.png,\n', encoding="utf-8")
    assert read_table(path) == {"file_name": ["a.png", "b.png", "c.png"], "caption": ["null", "two\nlines, NA", ""]}
    path = tmp_path / "table.tsv"
    path.write_text('a\tb\n"x\tnan\n', encoding="utf-8")
    assert read_table(path) == {"a": ['"x'], "b": ["nan"]}


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"a": "\u2028"}\n\n[1]\n', encoding="utf-8")
    assert read_json_lines(path) == [{"a": "\u2028"}, [1]]


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_lines, b"caf\xe9", "is not UTF-8"),
        (read_table, b"", "is empty; it needs a header"),
        (read_table, b"a,b\n1,2\n3\n", "row 2 has 1 cells and the header has 2"),
        (read_table, b'a\n"open\n', "check its quotation marks"),
        (read_json_lines, b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
    ],
)
def test_files_that_are_broken(tmp_path, read, content, message):
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(path)
