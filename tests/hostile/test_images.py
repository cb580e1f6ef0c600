"""Hostile image files: every one is drawn or is one clear error, within a few hundred megabytes."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clippo.data.samples import UnusableRow, read_image
from clippo.processing import ClippoImageProcessor

from .limits import run_limited

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "ICO")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8) -> bytes:
    """A PNG file that claims a size and has the given chunks."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that claim or unpack to more than a machine has."""
    packer = zlib.compressobj(9)
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    return {
        "claims.png": png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b""))),
        "large.png": png(60000, 60000, chunk(b"IDAT", zeros)),
        "text.png": png(8, 8, chunk(b"zTXt", b"a\0\0" + zeros), chunk(b"IDAT", zlib.compress(bytes(72)))),
        "profile.png": png(8, 8, chunk(b"iCCP", b"a\0\0" + zeros), chunk(b"IDAT", zlib.compress(bytes(72)))),
        "large.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;",
        "large.ppm": b"P6 100000 100000 255\n",
        "large.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 10**5, 10**5, 1, 24, 0, 0, 0, 0, 0, 0),
    }  # fmt: skip


def test_bombs_are_refused_within_the_limit(tmp_path):
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
    told = run_limited(
        f"""
from pathlib import Path
from clippo.data.samples import UnusableRow, read_image
from clippo.processing import ClippoImageProcessor
processor = ClippoImageProcessor(size=32)
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    for read in (lambda path: processor(str(path)), lambda path: read_image(path.read_bytes())):
        try:
            read(path)
            print(path.name, "opened")
        except (OSError, ValueError, MemoryError, UnusableRow) as error:
            print(path.name, "refused", str(error)[:80].splitlines())
print("done")
""",
        megabytes=400,
    ).splitlines()
    assert len(told) == 14
    # Only the bombs in metadata may be opened: PIL reads them up to a limit, and their image is small.
    assert {line.split()[0] for line in told if line.endswith("opened")} <= {"text.png", "profile.png"}, told


def sound_images() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {}
    for format in FORMATS:
        buffer = io.BytesIO()
        image = Image.fromarray(pixels)
        image = image if format in ("PNG", "WEBP", "ICO", "TIFF") else image.convert("RGB")
        image.save(buffer, format, **({"exif": exif} if format in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
        files[format] = buffer.getvalue()
    return files


def mutated(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice((1, 3, 10))):
        end = len(changed) if generator.random() < 0.5 else min(len(changed), 200)
        changed[generator.randrange(end)] = generator.randrange(256)
    return bytes(changed[: generator.randrange(1, len(changed))] if generator.random() < 0.2 else changed)


def read_mutants(seeds: range) -> int:
    """Reads mutated files in both doors; the number that was refused."""
    processor, refused = ClippoImageProcessor(size=32), 0
    for seed in seeds:
        for data in sound_images().values():
            try:
                pixels = processor(read_image(mutated(data, random.Random(seed))), return_tensors="np")["pixel_values"]
            except UnusableRow:
                refused += 1
                continue
            assert pixels.shape == (1, 3, 32, 32) and np.isfinite(pixels).all()
    return refused


@pytest.mark.filterwarnings("ignore")
def test_mutated_images_are_read_or_skipped():
    assert read_mutants(range(40)) > 30


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_mutated_images_are_read_or_skipped():
    assert read_mutants(range(40, 2000)) > 1000


def test_cut_files_are_skipped():
    for data in sound_images().values():
        for length in range(0, len(data) * 3 // 4, len(data) // 25):
            with pytest.raises(UnusableRow):
                read_image(data[:length])
