"""Hostile fonts and font archives: every one is a ValueError that names the file, within a few hundred megabytes."""

import bz2
import gzip
import io
import lzma
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from clippo.processing import ClippoTokenizer, FontChain, RenderOptions, TextRenderer
from clippo.processing.font_files_clippo import FontFile

from .fonts import BDF, HEX
from .limits import run_limited

TEXT = "".join(map(chr, range(0x20, 0x7F)))
MIB = 1 << 20


@pytest.fixture(scope="module")
def bombs(tmp_path_factory) -> Path:
    """Folder with font files of a few hundred kilobytes that unpack to half a gigabyte."""
    folder = tmp_path_factory.mktemp("bombs")
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        for _ in range(64):
            stream.write(b"\n" * (8 * MIB))
    for name in ("bomb.pcf.gz", "bomb.hex.gz"):
        (folder / name).write_bytes(packed.getvalue())
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(name, packed.getvalue())
    with zipfile.ZipFile(folder / "deflated.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("bomb.hex", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(b"\n" * (8 * MIB))
    # A size in the directory that is smaller than the truth
    lying = bytearray((folder / "deflated.zip").read_bytes())
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<I", 1000)
    (folder / "lying.zip").write_bytes(lying)
    with zipfile.ZipFile(folder / "many.zip", "w") as archive:
        for i in range(2000):
            archive.writestr(f"{i}.hex", HEX)
    (folder / "lines.hex").write_bytes(b"\n" * (64 * MIB))
    (folder / "sparse.otf").touch()
    with open(folder / "sparse.otf", "r+b") as file:
        file.truncate(8 << 30)
    return folder


def test_fonts_that_unpack_to_more_than_memory_are_refused(bombs):
    told = run_limited(
        f"""
from pathlib import Path
from clippo.processing import FontChain
for path in sorted(Path({str(bombs)!r}).iterdir()):
    try:
        FontChain.from_source(path)
    except ValueError as error:
        print(error)
    else:
        print("opened", path)
print("done")
""",
        megabytes=400,
    ).splitlines()
    assert len(told) == 9 and not any(line.startswith("opened") for line in told), told
    assert sum("takes more than 128 MiB" in line for line in told) >= 5, told


def test_no_more_is_unpacked_than_an_archive_states(bombs):
    """A refusal after all was unpacked, or for want of memory, is too late."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="Bad CRC-32"):
            FontChain.from_source(bombs / "lying.zip")
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()


def test_the_hash_is_compared_before_a_font_is_opened(tmp_path):
    """A font that is not the expected one is never parsed."""
    path = tmp_path / "font.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.otf", b"not a font")
    with pytest.raises(ValueError, match="The font differs from the one this model was saved with"):
        ClippoTokenizer(font_file=path, font_sha256=["0" * 64])
    with pytest.raises(ValueError, match="is not a font that FreeType can read"):
        ClippoTokenizer(font_file=path)


def archive_with(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("tiny.hex", HEX * 20)
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(archive_with(zipfile.ZIP_STORED))
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def damaged(data: bytes, at: int = 60) -> bytes:
    return data[:at] + b"\xff" * 20 + data[at + 20 :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive_with(zipfile.ZIP_LZMA), "neither stored nor deflated"),
        (archive_with(zipfile.ZIP_BZIP2), "neither stored nor deflated"),
        (encrypted(), "encrypted"),
        (damaged(archive_with(zipfile.ZIP_DEFLATED)), "damaged font archive"),
        (damaged(archive_with(zipfile.ZIP_STORED)), "damaged font archive"),
        (archive_with(zipfile.ZIP_STORED)[:-30], "damaged font archive"),
        (archive_with(zipfile.ZIP_STORED)[:500], "damaged font archive"),
        (b"PK\x05\x06" + bytes(18), "holds no font file"),
        (b"", "damaged font archive"),
    ],
    ids=["lzma", "bzip2", "encrypted", "deflate", "stored", "no end", "cut", "empty", "nothing"],
)
def test_archives_that_cannot_be_unpacked(tmp_path, data, message):
    path = tmp_path / "font.zip"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"font\.zip.*{message}"):
        FontChain.from_source(path)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress], ids=["bz2", "xz"])
def test_other_compressions_are_not_fonts(tmp_path, pack):
    (tmp_path / "font.pcf.gz").write_bytes(pack(HEX))
    with pytest.raises(ValueError, match=r"font\.pcf\.gz"):
        FontChain.from_source(tmp_path / "font.pcf.gz")


def test_names_in_an_archive_write_nothing(tmp_path):
    path = tmp_path / "in" / "font.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.hex", HEX)
    (tmp_path / "out").mkdir()
    FontChain.from_source(path).save(tmp_path / "out" / "font.zip")
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["font.zip", "font.zip"]


def mutated(data: bytes, generator: random.Random) -> bytes:
    """A copy with a few bytes changed, most of them where the tables of a font are, or cut."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 4, 16, 64))):
        end = len(changed) if generator.random() < 0.5 else min(len(changed), 4096)
        changed[generator.randrange(end)] = generator.choice((0, 255, generator.randrange(256)))
    return bytes(changed[: generator.randrange(1, len(changed))] if generator.random() < 0.2 else changed)


def sound_fonts() -> dict[str, bytes]:
    """One small font of every format, by file name."""
    fonts = {"tiny.hex": HEX, "tiny.bdf": BDF}
    try:
        from matplotlib import font_manager
    except ImportError:
        return fonts
    fonts["dejavu.ttf"] = Path(font_manager.findfont("DejaVu Sans Mono")).read_bytes()
    return fonts


def draw_mutants(seeds: range) -> int:
    """Opens and draws mutated fonts; the number that was refused with a ValueError."""
    refused = 0
    fonts = sound_fonts()
    for seed in seeds:
        for name, data in fonts.items():
            for antialias in (False, True):
                generator = random.Random(seed)
                refused += is_refused(name, mutated(data, generator), antialias)
    return refused


def is_refused(name: str, data: bytes, antialias: bool) -> bool:
    try:
        chain = FontChain([FontFile.from_bytes(name, data)])
        TextRenderer(chain, canvas_size=64, antialias_font=antialias, max_chars=None)([TEXT])
    except ValueError as error:
        return name in str(error) or pytest.fail(f"the error does not name the font: {error}")
    return False


def test_mutated_fonts_are_drawn_or_refused():
    assert draw_mutants(range(60)) > 20


@pytest.mark.slow
def test_many_mutated_fonts_are_drawn_or_refused():
    assert draw_mutants(range(60, 2000)) > 500


def test_canvases_beyond_any_memory_are_refused():
    for make in (RenderOptions, ClippoTokenizer, TextRenderer):
        with pytest.raises(ValueError, match=r"canvas_size 1000000 x 1000000 has 1000000000000 pixels; give at most"):
            make(canvas_size=10**6)
