// The model in this browser: images do not leave the browser.

import { cropOf, decodeBoxes, decodePeople } from "./decode.mjs";

const RUNTIME = "/ort/ort.wasm.min.mjs";
const GREY = "rgb(127, 127, 127)";

/** The context of a new canvas with this size. */
function surface(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = GREY;
  context.fillRect(0, 0, width, height);
  return context;
}

/** Pixels of canvases of one size -> (N, H, W, 3) uint8, the input of the networks. */
function pixels(ort, contexts) {
  const { width, height } = contexts[0].canvas;
  const values = new Uint8Array(contexts.length * height * width * 3);
  let at = 0;
  for (const context of contexts) {
    const { data } = context.getImageData(0, 0, width, height);
    for (let i = 0; i < data.length; i += 4) {
      values[at++] = data[i];
      values[at++] = data[i + 1];
      values[at++] = data[i + 2];
    }
  }
  return new ort.Tensor("uint8", values, [contexts.length, height, width, 3]);
}

function rows(values, width) {
  return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
}

export class LocalModel {
  /**
   * Loads the runtime and the networks from this server.
   *
   * @param {object} info description of the loaded model from /v1/models
   */
  static async load(info, token) {
    if (!info.files) throw new Error(`${info.name} cannot run in a browser; start the server with the default model`);
    let ort;
    try {
      ort = await import(RUNTIME);
    } catch {
      throw new Error("this server has no browser runtime; start it with --browser-runtime");
    }
    ort.env.wasm.wasmPaths = "/ort/";
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const open = async (address) => {
      const response = await fetch(address, { headers });
      if (!response.ok) throw new Error(`${address}: the server returned status ${response.status}`);
      return ort.InferenceSession.create(await response.arrayBuffer(), { executionProviders: ["wasm"] });
    };
    return new LocalModel(ort, info, await open(info.files.detector), await open(info.files.pose));
  }

  constructor(ort, info, detector, pose) {
    Object.assign(this, { ort, info, detector, pose });
  }

  /** People of an image, in the format of the server's responses. */
  async people(image, threshold) {
    const began = performance.now();
    const { width, height } = image;
    const found = await this.boxes(image);
    const people = found.length ? await this.poses(image, found, threshold) : [];
    return {
      width,
      height,
      skeleton: this.info.skeleton,
      people: people.map(({ joints, score, box }) => ({
        score,
        box,
        joints: Object.fromEntries(this.info.joints.map((name, k) => {
          const joint = joints[k];
          return [name, joint && [joint.x, joint.y, joint.score]];
        })),
      })),
      milliseconds: performance.now() - began,
    };
  }

  async boxes(image) {
    const { size, multiple } = this.info.detector;
    const scale = size / Math.max(image.width, image.height);
    const [w, h] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
    const padded = [w, h].map((side) => Math.ceil(side / multiple) * multiple);
    const context = surface(...padded);
    context.drawImage(image, 0, 0, w, h);
    const outputs = await this.detector.run({ image: pixels(this.ort, [context]) });
    const back = { width: image.width, height: image.height, scaleX: w / image.width, scaleY: h / image.height };
    return decodeBoxes(rows(outputs.boxes.data, 4), outputs.box_score.data, back);
  }

  async poses(image, found, threshold) {
    const [height, width] = this.info.crop;
    const crops = found.map(({ box }) => {
      const { zoom, dx, dy } = cropOf(box, height, width);
      const context = surface(width, height);
      // Pixels of a canvas begin at their edge, those of a crop at their centre.
      context.setTransform(zoom, 0, 0, zoom, dx + 0.5 - zoom * 0.5, dy + 0.5 - zoom * 0.5);
      context.drawImage(image, 0, 0);
      return context;
    });
    const outputs = await this.pose.run({ image: pixels(this.ort, crops) });
    const count = this.info.joints.length;
    const xy = rows(outputs.xy.data, 2 * count).map((values) => rows(values, 2));
    const score = rows(outputs.score.data, count);
    return decodePeople(found, xy, score, outputs.person_score.data, image, threshold);
  }
}
