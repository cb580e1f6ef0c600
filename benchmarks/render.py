"""Texts rendered per second and core: the clippo renderer and two usual ways with Pillow, side by side in one run.

* bare PIL: `ImageDraw.text` with the same Unifont on a 224 canvas, rows broken by character width (widths cached).
* Pix2Struct style: `textwrap`, drawn black on a white RGB canvas as large as the text, resized to a 224 pixel header.

All ways end in uint8 pixels, except the line of packed bits. Times are CPU seconds of this process, the best of several
interleaved rounds, so that other work on the machine has little influence.

Run: python benchmarks/render.py [--rounds 7]
"""

import argparse
import functools
import gzip
import io
import random
import textwrap
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clippo.processing import FontChain, TextRenderer

SIZE, ROW, BATCH = 224, 16, 256
WORDS = """a photo of the small red dog sitting on grassy field with two children playing near an old wooden house
under blue sky while their mother reads some book about birds and rivers in northern countries"""


def texts_of(kind: str, count: int, rng: random.Random) -> list[str]:
    if kind == "CJK":
        return ["".join(chr(rng.randrange(0x4E00, 0x6E00)) for _ in range(rng.randint(20, 40))) for _ in range(count)]
    target = {"short": 50, "long": 380}[kind]
    words, texts = WORDS.split(), []
    for _ in range(count):
        text = rng.choice(words)
        while len(text) < target - 4:
            text += " " + rng.choice(words)
        texts.append(text)
    return texts


class BarePIL:
    """Shortest fair use of Pillow: one draw call a row."""

    def __init__(self, fonts: FontChain):
        # Unpacked here, since Pillow is 100 times slower on the gzipped file.
        self.font = ImageFont.truetype(io.BytesIO(gzip.decompress(fonts.files[0].data)), ROW)
        self.width = functools.lru_cache(maxsize=None)(self.font.getlength)

    def __call__(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.render(text) for text in texts])

    def render(self, text: str) -> np.ndarray:
        image = Image.new("L", (SIZE, SIZE), 127)
        draw = ImageDraw.Draw(image)
        y, x, start = 0, 0, 0
        for i, char in enumerate(text):
            width = self.width(char)
            if x + width > SIZE:
                draw.text((0, y), text[start:i], fill=0, font=self.font)
                y, x, start = y + ROW, 0, i
            x += width
        draw.text((0, y), text[start:], fill=0, font=self.font)
        return np.asarray(image)


class Pix2StructStyle:
    """Header rendering of document models: wrap at 80 characters, draw, resize to the width of the image."""

    def __init__(self, fonts: FontChain, padding: int = 5):
        self.font = BarePIL(fonts).font
        self.padding = padding

    def __call__(self, texts: list[str]) -> list[np.ndarray]:
        return [self.render(text) for text in texts]

    def render(self, text: str) -> np.ndarray:
        wrapped = "\n".join(textwrap.wrap(text, width=80))
        measure = ImageDraw.Draw(Image.new("RGB", (1, 1), "white"))
        left, top, right, bottom = measure.textbbox((0, 0), wrapped, font=self.font)
        size = (int(right - left) + 2 * self.padding, int(bottom - top) + 2 * self.padding)
        image = Image.new("RGB", size, "white")
        ImageDraw.Draw(image).text((self.padding, self.padding), wrapped, fill="black", font=self.font)
        return np.asarray(image.resize((SIZE, max(int(size[1] * SIZE / size[0]), 1))))


def in_batches(render, texts: list[str]) -> None:
    for i in range(0, len(texts), BATCH):
        render(texts[i : i + BATCH])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="Timed rounds; the best one counts.")
    rounds = parser.parse_args().rounds

    fonts = FontChain.from_source(None)
    renderer = TextRenderer(fonts, canvas_size=SIZE)
    # The slow ways get fewer texts. Their rate does not depend on the number.
    ways = {
        "clippo, packed bits": (lambda texts: renderer(texts, "packed"), 4096),
        "clippo, uint8": (lambda texts: renderer(texts, "uint8"), 4096),
        "bare PIL": (BarePIL(fonts), 256),
        "Pix2Struct style": (Pix2StructStyle(fonts), 128),
    }
    print(f"texts per second and core, canvas {SIZE} x {SIZE}, batches of {BATCH}\n")
    print(f"{'':20}{'short':>10}{'long':>10}{'CJK':>10}")
    rates: dict[str, dict[str, float]] = {way: {} for way in ways}
    for kind in ("short", "long", "CJK"):
        texts = texts_of(kind, 4096, random.Random(0))
        best = dict.fromkeys(ways, float("inf"))
        in_batches(renderer, texts)  # fills the glyph table; Pillow's is filled in its first round
        for _ in range(rounds):
            for way, (render, count) in ways.items():
                start = time.process_time()
                in_batches(render, texts[:count])
                best[way] = min(best[way], time.process_time() - start)
        for way, (_, count) in ways.items():
            rates[way][kind] = count / best[way]
    for way, rate in rates.items():
        print(f"{way:20}" + "".join(f"{rate[kind]:10,.0f}" for kind in rate))
    print("\nclippo, uint8, as a multiple of")
    for way in ("bare PIL", "Pix2Struct style"):
        ratio = {kind: rates["clippo, uint8"][kind] / rates[way][kind] for kind in rates[way]}
        print(f"{way:20}" + "".join(f"{ratio[kind]:9.1f}x" for kind in ratio))


if __name__ == "__main__":
    main()
