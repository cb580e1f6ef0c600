// Text to canvas, as the Python renderer draws it (processing/rendering_clippo.py): characters one after another, rows
// of 16 pixels broken by width alone, ink on a plain background. Every rule here has its reason there.

const ROW_HEIGHT = 16;
const REPLACEMENT = 0xfffd; // drawn for a lone surrogate, as for malformed bytes in Python

// Widths and columns of glyphs. A column is 16 bits, bit r is the pixel r from the top.
export class GlyphTable {
  constructor() {
    this.pieces = [];
  }

  // Adds the glyphs of a file that `clippo build web` wrote: the number of runs, (first code point, count) of each run,
  // the number of columns, a width for each glyph, and the columns of all glyphs.
  add(buffer) {
    const view = new DataView(buffer);
    const runCount = view.getUint32(0, true);
    const runs = [];
    let glyphs = 0;
    for (let i = 0; i < runCount; i++) {
      const first = view.getUint32(8 + 8 * i, true);
      const count = view.getUint32(12 + 8 * i, true);
      runs.push({ first, count, place: glyphs });
      glyphs += count;
    }
    const columnCount = view.getUint32(4, true);
    const start = 8 + 8 * runCount;
    const columns = new Uint16Array(columnCount);
    for (let i = 0; i < columnCount; i++) columns[i] = view.getUint16(start + 2 * i, true);
    const widths = new Uint8Array(buffer, start + 2 * columnCount, glyphs);
    const offsets = new Uint32Array(glyphs + 1);
    for (let i = 0; i < glyphs; i++) offsets[i + 1] = offsets[i] + widths[i];
    this.pieces.push({ runs, widths, offsets, columns });
  }

  // The columns of a character, or null for one that no font of the table has.
  columnsOf(codePoint) {
    for (const piece of this.pieces) {
      let low = 0;
      let high = piece.runs.length - 1;
      while (low <= high) {
        const middle = (low + high) >> 1;
        const run = piece.runs[middle];
        if (codePoint < run.first) high = middle - 1;
        else if (codePoint >= run.first + run.count) low = middle + 1;
        else {
          const glyph = run.place + codePoint - run.first;
          return piece.columns.subarray(piece.offsets[glyph], piece.offsets[glyph + 1]);
        }
      }
    }
    return null;
  }
}

export class TextRenderer {
  // options: height, width, max_chars (null reads all), min_width, background, ink.
  constructor(options, table) {
    this.options = options;
    this.table = table;
    this.blank = new Uint16Array(options.min_width);
  }

  // Draws a text. Returns pixels (Uint8Array, height * width), and how many of its characters fit.
  render(text) {
    const { height, width, max_chars, background, ink } = this.options;
    let codePoints = [];
    for (const character of text) {
      const point = character.codePointAt(0);
      codePoints.push(point >= 0xd800 && point <= 0xdfff ? REPLACEMENT : point);
    }
    const total = codePoints.length;
    if (max_chars !== null) codePoints = codePoints.slice(0, max_chars);
    const glyphs = codePoints.map((point) => this.table.columnsOf(point) ?? this.blank);
    const widest = glyphs.reduce((most, glyph) => Math.max(most, glyph.length), 0);
    const room = Math.fround(Math.max(width - widest, 1));
    const rows = Math.ceil(height / ROW_HEIGHT);
    const pixels = new Uint8Array(rows * ROW_HEIGHT * width).fill(background);
    let end = 0;
    let row = -1;
    let rowBegin = 0;
    let drawn = 0;
    for (const glyph of glyphs) {
      const begin = end;
      end += glyph.length;
      // float32, as in the official graph: its rounding decides a few row breaks
      const ownRow = Math.trunc(Math.fround(Math.fround(end) / room));
      if (ownRow !== row) {
        row = ownRow;
        rowBegin = begin;
      }
      if (row >= rows) break;
      drawn++;
      const left = row * ROW_HEIGHT * width + begin - rowBegin;
      for (let x = 0; x < glyph.length; x++) {
        for (let y = 0; y < ROW_HEIGHT; y++) {
          if ((glyph[x] >> y) & 1) pixels[left + y * width + x] = ink;
        }
      }
    }
    return { pixels: pixels.subarray(0, height * width), drawn, total };
  }
}
