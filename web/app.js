// The page: text or a picture in, the nearest pictures or labels out. Nothing is sent anywhere.

import { GlyphTable, TextRenderer } from "./render.js";
import { Model, fetchBytes, missingFeature } from "./model.js";

const NEAREST = 12;
const element = (id) => document.getElementById(id);
const state = { settings: null, table: new GlyphTable(), model: null, vectors: null, picture: null, rest: null, turn: 0 };

function say(text) {
  element("status").textContent = text;
}

// Draws the pixels that the model reads, in grey.
function drawCanvas(target, pixels, height, width) {
  target.width = width;
  target.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    image.data.set([pixels[i], pixels[i], pixels[i], 255], 4 * i);
  }
  target.getContext("2d").putImageData(image, 0, 0);
}

// Renders a text. The glyphs outside the first file are fetched when a text needs them.
async function renderText(text) {
  const beyond = [...text].some((character) => character.codePointAt(0) >= state.settings.first_glyphs_end);
  if (beyond) {
    state.rest ??= fetchBytes("glyphs-rest.bin.gz").then((bytes) => state.table.add(bytes));
    await state.rest;
  }
  return new TextRenderer(state.settings.text, state.table).render(text);
}

function cosines(query) {
  const { count, dim } = state.settings.gallery;
  const scores = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let j = 0; j < dim; j++) sum += query[j] * state.vectors[i * dim + j];
    scores[i] = sum / 127;
  }
  return scores;
}

function thumbnail(place) {
  const { thumb, columns } = state.settings.gallery;
  const box = document.createElement("div");
  box.className = "thumb";
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", state.settings.gallery.names[place]);
  box.style.width = box.style.height = `${thumb}px`;
  box.style.backgroundImage = "url(gallery.webp)";
  box.style.backgroundPosition = `-${(place % columns) * thumb}px -${Math.floor(place / columns) * thumb}px`;
  return box;
}

function show(rows) {
  element("results").replaceChildren(
    ...rows.map(({ content, text, score }) => {
      const item = document.createElement("li");
      const caption = document.createElement("span");
      caption.className = "name";
      caption.textContent = text;
      const number = document.createElement("span");
      number.className = "score";
      number.textContent = score;
      item.append(...(content ? [content] : []), caption, number);
      return item;
    }),
  );
}

// Ranks the pictures by a text. Only the latest call may show its result.
async function search() {
  const turn = ++state.turn;
  const text = element("query").value;
  const began = performance.now();
  const canvas = await renderText(text);
  drawCanvas(element("canvas"), canvas.pixels, state.settings.text.height, state.settings.text.width);
  const cut = canvas.total - canvas.drawn;
  element("cut").textContent = cut ? `${cut} of ${canvas.total} characters do not fit on the canvas.` : "";
  if (!text.trim()) return show([]);
  const scores = cosines(await state.model.text(canvas.pixels));
  if (turn !== state.turn) return;
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, NEAREST);
  const { names } = state.settings.gallery;
  show(order.map((i) => ({ content: thumbnail(i), text: names[i], score: scores[i].toFixed(2) })));
  const took = performance.now() - began;
  element("query").dataset.milliseconds = took.toFixed(1);
  say(`${order.length} nearest of ${scores.length} pictures, in ${took.toFixed(0)} ms.`);
}

// Ranks labels by a picture.
async function classify() {
  const turn = ++state.turn;
  const labels = element("labels").value.split(/[\n,]/).map((label) => label.trim()).filter(Boolean);
  if (!state.picture || !labels.length) return say("Choose a picture and write labels.");
  say("Reading the picture…");
  const image = await state.model.image(state.picture);
  const texts = [];
  for (const label of labels) texts.push(await state.model.text((await renderText(label)).pixels));
  if (turn !== state.turn) return;
  const logits = texts.map((text) => state.settings.logit_scale * text.reduce((sum, x, i) => sum + x * image[i], 0));
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  const order = [...labels.keys()].sort((a, b) => logits[b] - logits[a]);
  show(order.map((i) => ({ text: labels[i], score: `${((100 * powers[i]) / total).toFixed(1)} %` })));
  say(`${labels.length} labels compared with the picture.`);
}

async function choosePicture(file) {
  if (!file) return;
  try {
    state.picture = await createImageBitmap(file);
  } catch {
    return say(`${file.name} is not an image that this browser can open.`);
  }
  const preview = element("preview");
  const scale = Math.min(1, 240 / Math.max(state.picture.width, state.picture.height));
  preview.width = state.picture.width * scale;
  preview.height = state.picture.height * scale;
  preview.getContext("2d").drawImage(state.picture, 0, 0, preview.width, preview.height);
  await classify();
}

function listen() {
  const guarded = (action) => (event) => Promise.resolve(action(event)).catch((error) => say(String(error.message ?? error)));
  element("query").addEventListener("input", guarded(search));
  element("labels").addEventListener("input", guarded(classify));
  element("picture").addEventListener("change", guarded((event) => choosePicture(event.target.files[0])));
  element("drop").addEventListener("dragover", (event) => event.preventDefault());
  element("drop").addEventListener("drop", guarded((event) => {
    event.preventDefault();
    return choosePicture(event.dataTransfer.files[0]);
  }));
  for (const example of document.querySelectorAll("[data-example]")) {
    example.addEventListener("click", guarded(() => {
      element("query").value = example.textContent;
      return search();
    }));
  }
}

async function start() {
  const missing = missingFeature();
  if (missing) return say(`This browser has no ${missing}, which the model needs. Use a newer one.`);
  state.settings = await (await fetch("settings.json")).json();
  element("model").textContent = state.settings.model;
  const [glyphs, vectors, model] = await Promise.all([
    fetchBytes("glyphs-first.bin.gz"),
    fetchBytes("vectors.bin.gz"),
    Model.load(state.settings),
  ]);
  state.table.add(glyphs);
  state.vectors = new Int8Array(vectors);
  state.model = model;
  listen();
  element("query").disabled = false;
  document.body.dataset.ready = "true";
  await search();
  if ("serviceWorker" in navigator) await navigator.serviceWorker.register("offline.js");
}

start().catch((error) => say(`The page cannot start: ${error.message ?? error}`));
