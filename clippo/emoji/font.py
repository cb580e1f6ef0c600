"""Emoji images from a colour bitmap font."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

# Places where Debian and npm put Noto Color Emoji in its bitmap build (CBDT).
FONT_FILES = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("node_modules/noto-color-emoji/ttf/NotoColorEmoji.ttf"),
)


def find_font() -> Path:
    """First of `FONT_FILES` that exists, or the first of them."""
    return next((file for file in FONT_FILES if file.is_file()), FONT_FILES[0])


class EmojiFont:
    """Images of emoji, sequences included, from a bitmap colour font such as NotoColorEmoji.ttf.

    HarfBuzz maps a sequence to its glyph and returns the PNG of the glyph. FreeType in the wheels of freetype-py has no
    PNG support and cannot load these bitmaps.

    Args:
        path: Font file with a CBDT table.

    Raises:
        FileNotFoundError: The file does not exist.
        ImportError: uharfbuzz is not installed.
        ValueError: The font holds no colour bitmaps.

    Example:
        >>> from clippo.emoji.font import EmojiFont, find_font
        >>> if find_font().is_file():
        ...     assert EmojiFont(find_font()).picture("🐈").shape == (136, 136, 4)
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(
                f"No emoji font at {path}: install it with `apt-get install fonts-noto-color-emoji` or `npm install "
                "noto-color-emoji`, or set font_path to a NotoColorEmoji.ttf with bitmaps (CBDT)."
            )
        try:
            import uharfbuzz
        except ImportError as error:
            raise ImportError("Building the emoji data set needs uharfbuzz: `pip install clippo[shaping]`.") from error
        self._harfbuzz = uharfbuzz
        self._face = uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(path)))
        self._font = uharfbuzz.Font(self._face)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if not self._face.has_color_png:
            raise ValueError(f"{path} holds no colour bitmaps: use the CBDT build of Noto Color Emoji.")

    def picture(self, emoji: str) -> np.ndarray | None:
        """Image of an emoji, or None unless the font draws it as exactly one glyph.

        Args:
            emoji: Character or sequence.

        Returns:
            uint8 (S, S, 4), centred, with straight alpha.
        """
        buffer = self._harfbuzz.Buffer()
        buffer.add_str(emoji)
        buffer.guess_segment_properties()
        self._harfbuzz.shape(self._font, buffer)
        glyphs = [info.codepoint for info in buffer.glyph_infos]
        if len(glyphs) != 1 or glyphs[0] == 0:
            return None
        blob = self._font.get_glyph_color_png(glyphs[0])
        if blob is None or not blob.data:
            return None
        with Image.open(io.BytesIO(blob.data)) as image:
            pixels = np.asarray(image.convert("RGBA"))
        height, width = pixels.shape[:2]
        side = max(height, width)
        square = np.zeros((side, side, 4), dtype=np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = pixels
        square[square[..., 3] == 0] = 0  # colour under full transparency is noise that only costs bytes
        return square
