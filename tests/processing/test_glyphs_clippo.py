"""The glyph table and its fonts under threads and forks."""

import os
import subprocess
import sys
from pathlib import Path

import freetype
import pytest

from clippo.processing import FontChain
from clippo.processing.font_files_clippo import FontFile, font_lock

from ..hostile.fonts import BDF

ROOT = Path(__file__).resolve().parents[2]

# A thread draws texts with ever new marks while the process forks; each child draws the same text once.
FORK = """
import hashlib, os, signal, sys, threading
from clippo.processing import TextRenderer

sys.setswitchinterval(1e-5)
renderer = TextRenderer(canvas_size=64, shaping=True)
marks = [chr(c) for c in range(0x300, 0x340)]
texts = ["x" + a + b + "y" for a in marks for b in marks]
probe = texts[:60]

def draw(texts):
    return hashlib.sha256(renderer(texts).canvases.tobytes()).hexdigest()

stop = threading.Event()

def worker():
    for i in range(0, len(texts), 4):
        if stop.is_set():
            return
        renderer(texts[i : i + 4])

threading.Thread(target=worker).start()
children = []
for _ in range(int(sys.argv[1])):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(60)  # a child that hangs counts as crashed
        os.write(write, draw(probe).encode())
        os._exit(0)
    os.close(write)
    children.append((pid, read))
stop.set()
results = []
for pid, read in children:
    results.append(os.read(read, 100).decode() if os.waitpid(pid, 0)[1] == 0 else "crashed")
expected = draw(probe)
print(sum(result != expected for result in results))
"""

# More fonts than the process keeps open, opened, used and freed by eight threads.
THREADS = """
import random, sys, threading
from clippo.processing import FontChain, TextRenderer
from clippo.processing.font_files_clippo import FontFile
from tests.hostile.fonts import BDF

sys.setswitchinterval(1e-6)
files = [FontFile.from_bytes(f"f{i}.bdf", BDF + b"COMMENT %d\\n" % i) for i in range(48)]
wrong = []

def worker(seed):
    generator = random.Random(seed)
    for _ in range(int(sys.argv[1])):
        glyph = FontChain([generator.choice(files)]).bitmap(97)
        if glyph is None or glyph.columns.sum() != expected:
            wrong.append(seed)

expected = FontChain([files[0]]).bitmap(97).columns.sum()
threads = [threading.Thread(target=worker, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(wrong))
"""


def run(code: str, count: int) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, str(count)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")


@needs_fork
def test_a_child_forked_while_another_thread_draws_draws_the_same():
    pytest.importorskip("uharfbuzz", reason="needs the extra `shaping`")
    assert run(FORK, 10) == "0"


def test_fonts_are_opened_used_and_freed_by_one_thread_at_a_time():
    assert run(THREADS, 60) == "0"


def test_faces_are_opened_and_freed_under_the_lock(monkeypatch):
    held = {"FT_New_Memory_Face": [], "FT_Done_Face": []}

    def watch(name, function):
        return lambda *args: held[name].append(font_lock()._is_owned()) or function(*args)

    for name in held:
        monkeypatch.setattr(freetype, name, watch(name, getattr(freetype, name)))
    for i in range(40):
        FontChain([FontFile.from_bytes(f"{i}.bdf", BDF + b"COMMENT watched %d\n" % i)])
    with pytest.raises(ValueError, match="not a font that FreeType can read"):
        FontChain([FontFile.from_bytes("bad.bdf", b"STARTFONT 2.1\n")])
    assert len(held["FT_New_Memory_Face"]) == 41 and len(held["FT_Done_Face"]) >= 8
    assert all(held["FT_New_Memory_Face"]) and all(held["FT_Done_Face"])
