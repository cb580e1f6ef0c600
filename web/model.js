// The two sides of the model in onnxruntime-web. The image side is fetched when the first picture is dropped.

import * as ort from "./ort.wasm.min.mjs";

// A module with one instruction of fixed-width SIMD.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

// The name of the first feature that this browser lacks; null if it has all.
export function missingFeature() {
  if (typeof WebAssembly !== "object") return "WebAssembly";
  if (!WebAssembly.validate(SIMD)) return "WebAssembly SIMD";
  if (typeof DecompressionStream !== "function") return "DecompressionStream";
  return null;
}

// Fetches a gzip file and returns its content.
export async function fetchBytes(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be fetched (${response.status}).`);
  const stream = response.body.pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export class Model {
  constructor(settings, textSession) {
    this.settings = settings;
    this.textSession = textSession;
    this.imageSession = null;
  }

  static async load(settings) {
    ort.env.wasm.numThreads = 1; // more need headers that a static host does not send
    ort.env.wasm.wasmPaths = { mjs: new URL("./ort-wasm-simd-threaded.mjs", import.meta.url).href };
    const [wasm, text] = await Promise.all([fetchBytes("ort.wasm.gz"), fetchBytes("text_model.onnx.gz")]);
    ort.env.wasm.wasmBinary = wasm;
    return new Model(settings, await ort.InferenceSession.create(text, { executionProviders: ["wasm"] }));
  }

  // Embedding of a canvas, Uint8Array (height * width).
  async text(pixels) {
    const { height, width } = this.settings.text;
    const input = new ort.Tensor("uint8", pixels, [1, 1, height, width]);
    return (await this.textSession.run({ text_pixel_values: input })).text_embeds.data;
  }

  // Embedding of an ImageBitmap. The browser resizes it, so the pixels differ a little from those of Python.
  async image(picture) {
    this.imageSession ??= fetchBytes("vision_model.onnx.gz").then((bytes) =>
      ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }),
    );
    const session = await this.imageSession;
    const { height, width } = this.settings.text;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // transparency is composited onto white, as in Python
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const values = new Float32Array(3 * height * width);
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) values[c * height * width + i] = (data[4 * i + c] / 255) * 2 - 1;
    }
    const input = new ort.Tensor("float32", values, [1, 3, height, width]);
    return (await session.run({ pixel_values: input })).image_embeds.data;
  }
}
