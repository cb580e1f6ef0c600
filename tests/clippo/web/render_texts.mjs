// Draws the texts of a JSON file with web/render.js and prints a hash of each canvas.
// node render_texts.mjs RENDER.JS FOLDER

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [script, folder] = process.argv.slice(2);
const { GlyphTable, TextRenderer } = await import(pathToFileURL(script).href);
const table = new GlyphTable();
for (const name of ["first.bin", "rest.bin"]) {
  const bytes = readFileSync(`${folder}/${name}`);
  table.add(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}
const { options, texts } = JSON.parse(readFileSync(`${folder}/texts.json`, "utf8"));
const renderer = new TextRenderer(options, table);
const results = texts.map((text) => {
  const { pixels, drawn } = renderer.render(text);
  return [createHash("sha256").update(pixels).digest("hex"), drawn];
});
process.stdout.write(JSON.stringify(results));
