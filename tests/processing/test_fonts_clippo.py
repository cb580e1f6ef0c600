"""Font files of every kind, the chain of them, and the font.zip in which it travels."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest

from clippo.processing import FontChain
from clippo.processing.font_files_clippo import MAX_GLYPH_WIDTH, FontFile, FreeTypeFont, HexFont, open_font

# An L of 8 x 16 and a bar of 16 x 16 in Unifont's .hex form
HEX = f"004C:{'00' * 4}{'40' * 8}7E{'00' * 3}\n4E00:{'0000' * 6}7FFE{'0000' * 9}\n"

BDF = """STARTFONT 2.1
FONT -test-tiny-medium-r-normal--16-160-75-75-c-80-iso10646-1
SIZE 16 75 75
FONTBOUNDINGBOX 8 16 0 -2
STARTPROPERTIES 4
CHARSET_REGISTRY "ISO10646"
CHARSET_ENCODING "1"
FONT_ASCENT 14
FONT_DESCENT 2
ENDPROPERTIES
CHARS 1
STARTCHAR L
ENCODING 76
SWIDTH 500 0
DWIDTH 8 0
BBX 8 16 0 -2
BITMAP
{rows}
ENDCHAR
ENDFONT
"""


@pytest.fixture
def hex_path(tmp_path):
    path = tmp_path / "tiny.hex"
    path.write_text(HEX)
    return path


@pytest.fixture(scope="module")
def packaged():
    return FontChain.from_source(None)


def pixels(glyph):
    """Columns of bits as rows of '#' and '.'."""
    bits = np.unpackbits(glyph.columns.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    return ["".join("#" if bit else "." for bit in row) for row in bits.T]


def test_hex_glyph_is_read_row_by_row_most_significant_bit_left(hex_path):
    glyph = FontChain.from_source(hex_path).bitmap(ord("L"))
    rows = pixels(glyph)
    assert rows[4] == ".#.............." and rows[12] == ".######........."
    assert glyph.advance == 8 and len(glyph.columns) == 16
    assert FontChain.from_source(hex_path).bitmap(0x4E00).advance == 16
    assert FontChain.from_source(hex_path).bitmap(ord("M")) is None


def test_hex_tolerates_crlf_comments_blank_lines_and_gzip(tmp_path, hex_path):
    path = tmp_path / "dos.hex.gz"
    path.write_bytes(gzip.compress(("# comment: not a glyph\n\n" + HEX).replace("\n", "\r\n").encode()))
    dos, plain = FontChain.from_source(path), FontChain.from_source(hex_path)
    np.testing.assert_array_equal(dos.bitmap(ord("L")).columns, plain.bitmap(ord("L")).columns)


@pytest.mark.parametrize(
    "content", ["", "hello", "004C:00\n", "004C:" + "0" * 32 + "\nnonsense\n", "<html>504: gone</html>\n"]
)
def test_damaged_hex_is_refused_on_opening(tmp_path, content):
    path = tmp_path / "bad.hex"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bad\.hex is not a Unifont \.hex font.*check that the download is complete"):
        FontChain.from_source(path)


def test_hex_with_a_letter_that_is_no_digit_is_refused(tmp_path):
    path = tmp_path / "bad.hex"
    path.write_text("00ZZ:" + "0" * 32 + "\n")
    with pytest.raises(ValueError, match=r"line 1 .*hexadecimal"):
        FontChain.from_source(path)
    path.write_text("0041:" + "Z" * 32 + "\n")
    with pytest.raises(ValueError, match=r"the glyph of U\+0041 is not hexadecimal"):
        FontChain.from_source(path).bitmap(0x41)


def test_bdf_and_hex_of_the_same_glyph_agree(tmp_path, hex_path):
    bits = HEX.split("\n")[0].split(":")[1]
    path = tmp_path / "tiny.bdf"
    path.write_text(BDF.format(rows="\n".join(bits[i : i + 2] for i in range(0, 32, 2))))
    from_bdf, from_hex = FontChain.from_source(path).bitmap(76), FontChain.from_source(hex_path).bitmap(76)
    np.testing.assert_array_equal(from_bdf.columns, from_hex.columns)
    assert from_bdf.advance == from_hex.advance


def test_bitmap_font_taller_than_a_row_is_refused(tmp_path):
    tall = BDF.replace("--16-160", "--40-400").replace("SIZE 16", "SIZE 40").replace("8 16 0 -2", "8 40 0 -4")
    path = tmp_path / "tall.bdf"
    path.write_text(tall.replace("ASCENT 14", "ASCENT 36").format(rows="\n".join(["FF"] * 40)))
    with pytest.raises(ValueError, match=r"tall\.bdf has only bitmaps of 38 pixels.*use a scalable font"):
        FontChain.from_source(path)


def test_packaged_font_covers_both_plane_files(packaged):
    assert [file.name for file in packaged.files] == ["unifont.pcf.gz", "unifont_upper.otf"]
    assert pixels(packaged.bitmap(ord("a")))[13] == "..###.#........."
    assert packaged.bitmap(0x1F600) is not None, "emoji come from the second file"
    assert packaged.bitmap(0xD800) is None, "a lone surrogate has no glyph"
    assert packaged.bitmap(0) is not None, "U+0000 has one, though FreeType calls its index special"


def test_packaged_bmp_equals_the_hex_file_it_was_made_from(packaged, shared):
    """Plane 0 of 15.0.01 and 9.0.06 has the same Hangul and Ethiopic, pixel for pixel."""
    official = FontChain.from_source(shared("fonts", "unifont-9.0.06.hex"))
    for code_point in [*range(0x20, 0x7F), *range(0x1200, 0x1380, 7), *range(0xAC00, 0xD7A4, 97)]:
        ours, theirs = packaged.bitmap(code_point), official.bitmap(code_point)
        np.testing.assert_array_equal(ours.columns, theirs.columns, err_msg=f"U+{code_point:04X}")


def test_marks_shifted_left_in_the_otf_get_their_place_back(packaged, shared):
    """Kaithi, Sharada and musical marks have negative bearings in unifont_upper.otf."""
    official = FontChain.from_source(shared("fonts", "unifont_upper-9.0.06.hex"))
    for code_point in (0x11080, 0x11101, 0x11128, 0x1D165, 0x1D16D, 0x10A0F):
        ours, theirs = packaged.bitmap(code_point).columns, official.bitmap(code_point).columns
        ink = [np.flatnonzero(columns) for columns in (ours, theirs)]
        assert ours[ink[0][0] : ink[0][-1] + 1].tolist() == theirs[ink[1][0] : ink[1][-1] + 1].tolist()
        # What the renderer keeps of the position: one blank column left of the ink, or none at the cell's edge.
        assert min(ink[0][0], 1) == min(ink[1][0], 1), f"U+{code_point:04X}"


def test_antialiased_glyphs_are_grey_and_of_the_same_cell(packaged):
    upper = FontChain([packaged.files[1]])
    mono, grey = upper.bitmap(0x1F600), upper.bitmap(0x1F600, antialias=True)
    assert grey.columns.dtype == np.uint8 and grey.columns.shape == (len(mono.columns), 16)
    # Unifont's outlines lie on the pixel grid, so its grey is black and white.
    np.testing.assert_array_equal(
        grey.columns >= 128, [[c == "#" for c in column] for column in zip(*pixels(mono), strict=True)]
    )


def test_scalable_fonts_fit_the_row(packaged):
    pytest.importorskip("matplotlib", reason="its DejaVu Sans is the test's proportional font")
    from matplotlib import font_manager

    font = FontChain.from_source(font_manager.findfont("DejaVu Sans"))
    for char in "gypj(|ÅẤ":
        columns = font.bitmap(ord(char)).columns
        assert 0 < np.bitwise_or.reduce(columns) <= 0xFFFF and len(columns) == 16
    baseline = [np.flatnonzero([row.strip(".") for row in pixels(font.bitmap(ord(c)))])[-1] for c in "xHg"]
    assert baseline[0] == baseline[1] < baseline[2], "x and H stand on one line, g hangs below it"
    assert font.bitmap(ord("i")).advance < font.bitmap(ord("w")).advance
    assert len(font.bitmap(0xFDFA).columns if font.bitmap(0xFDFA) else np.zeros(16)) <= MAX_GLYPH_WIDTH


def test_first_font_with_the_code_point_wins(hex_path, packaged):
    chain = FontChain.from_source([hex_path, "unifont"])
    assert [file.name for file in chain.files] == ["tiny.hex", "unifont.pcf.gz", "unifont_upper.otf"]
    own = FontChain.from_source(hex_path)
    np.testing.assert_array_equal(chain.bitmap(ord("L")).columns, own.bitmap(ord("L")).columns)
    np.testing.assert_array_equal(chain.bitmap(ord("M")).columns, packaged.bitmap(ord("M")).columns)


def test_names_are_looked_up_in_the_folder_of_the_environment(hex_path, monkeypatch):
    monkeypatch.setenv("CLIPPO_FONTS", str(hex_path.parent))
    assert FontChain.from_source("tiny").sha256 == FontChain.from_source("tiny.hex").sha256
    assert FontChain.from_source("tiny") == FontChain.from_source(hex_path)


def test_official_font_is_found_by_name(shared, monkeypatch):
    monkeypatch.setenv("CLIPPO_FONTS", str(shared("fonts")))
    assert FontChain.from_source("unifont-9.0.06").sha256 == (
        "099d8f0c6027ed1effa4a452a5c0874a012a6ee3ab5b1cd346aa3fbeb3368fda",
        "d78af92c44332a8e32bbc1325fa920c06acfc28515034b2bba31c055a962b78c",
    )


def test_zip_is_deterministic_keeps_order_and_holds_only_the_chain(tmp_path, hex_path, packaged):
    chain = FontChain([FontFile.from_bytes("b.hex", HEX.encode()), packaged.files[1]])
    chain.save(tmp_path / "one.zip")
    FontChain.from_source(tmp_path / "one.zip").save(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "one.zip").namelist() == ["b.hex", "unifont_upper.otf"]
    again = FontChain.from_source(tmp_path / "one.zip")
    assert again == chain and again.sha256 == chain.sha256 and hash(again) == hash(chain)
    np.testing.assert_array_equal(again.bitmap(0x1F600).columns, packaged.bitmap(0x1F600).columns)


def test_packaged_font_is_saved_with_its_licence(tmp_path, packaged):
    packaged.save(tmp_path / "font.zip")
    names = zipfile.ZipFile(tmp_path / "font.zip").namelist()
    assert names == ["unifont.pcf.gz", "unifont_upper.otf", "GPL-2.txt", "LICENSE-unifont.txt", "OFL-1.1.txt"]
    again = FontChain.from_source(tmp_path / "font.zip")
    assert again == packaged and again.notices == packaged.notices


def test_files_of_one_name_are_both_kept(tmp_path):
    other = HEX.replace("7E", "3C").encode()
    chain = FontChain([FontFile.from_bytes("f.hex", HEX.encode()), FontFile.from_bytes("f.hex", other)])
    chain.save(tmp_path / "font.zip")
    assert FontChain.from_source(tmp_path / "font.zip").sha256 == chain.sha256


def test_chain_pickles_by_content_and_use_does_not_change_it(packaged):
    chain = FontChain.from_source(None)
    before = pickle.dumps(chain)
    chain.bitmap(ord("q"))
    assert pickle.dumps(chain) == before
    assert pickle.loads(before) == packaged and hash(pickle.loads(before)) == hash(packaged)


def test_hash_check_names_what_was_found(packaged):
    packaged.check_sha256(list(packaged.sha256))
    with pytest.raises(ValueError, match=r"expected sha256 00000000.*found unifont\.pcf\.gz efbae4714d18"):
        packaged.check_sha256(["0" * 64, packaged.sha256[1]])


def test_missing_fonts_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no font .*gone\.otf'.*None for the packaged Unifont"):
        FontChain.from_source(tmp_path / "gone.otf")
    with pytest.raises(FileNotFoundError, match=r"no font 'No Such Font'.*CLIPPO_FONTS"):
        FontChain.from_source("No Such Font")
    with pytest.raises(ValueError, match="needs at least one font file"):
        FontChain.from_source([])
    with pytest.raises(TypeError, match=r"type int \(7\)"):
        FontChain.from_source(7)
    with pytest.raises(TypeError, match=r"type float \(1\.5\)"):
        FontChain.from_source([1.5])


def test_damaged_fonts_are_refused(tmp_path, packaged):
    for name, data, message in [
        ("bad.otf", b"not a font", r"bad\.otf is not a font that FreeType can read"),
        ("cut.pcf.gz", packaged.files[0].data[:5000], r"cut\.pcf\.gz is a damaged gzip file"),
        ("font.zip", b"PK no zip", r"font\.zip is a damaged font archive"),
    ]:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            FontChain.from_source(path)
    packaged.save(tmp_path / "font.zip")
    whole = bytearray((tmp_path / "font.zip").read_bytes())
    whole[1000] ^= 255
    (tmp_path / "font.zip").write_bytes(whole)
    with pytest.raises(ValueError, match=r"damaged font archive.*fetch or save it again"):
        FontChain.from_source(tmp_path / "font.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="holds no font file"):
        FontChain.from_source(tmp_path / "empty.zip")


def test_reader_follows_the_file_name(packaged):
    assert isinstance(open_font(FontFile.from_bytes("x.hex", HEX.encode())), HexFont)
    assert isinstance(open_font(packaged.files[0]), FreeTypeFont)
