// The page: draws images, videos and the camera on one canvas, with the skeletons of the people found.

import { FrameStream, findPeople, loadedModel } from "./client.js";
import { drawPeople } from "./draw.js";
import { asCsv, save } from "./save.js";

const at = (id) => document.getElementById(id);
const canvas = at("canvas");
const context = canvas.getContext("2d");
const KEPT = 100000; // maximum number of results of a video that are kept for saving

let skeleton = { joints: [], edges: [] };
let results = []; // of the shown input: one per image, or one per frame
let images = []; // opened images: name, file, bitmap, result
let current = null; // the image or frame that is shown: bitmap and result
let running = null; // a video or camera: stop()
let local = null; // the model in this browser
let turn = 0; // number of the last opened input; earlier inputs stop when it changes

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function style() {
  return { colour: at("colour").value, boxes: at("boxes").checked, scores: at("scores").checked };
}

function options() {
  return { threshold: at("threshold").value, smooth: at("smooth").checked, token: at("token").value };
}

/** Draws an image with its people; the canvas has the image's size. */
function show(image, result) {
  current = { image, result };
  const [width, height] = [image.videoWidth ?? image.width, image.videoHeight ?? image.height];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  at("stage").classList.add("filled");
  context.drawImage(image, 0, 0);
  if (result) drawPeople(context, result, skeleton, style());
  const count = result ? result.people.length : 0;
  at("people").textContent = result ? count : "–";
  canvas.setAttribute("aria-label", result ? `${count} ${count === 1 ? "person" : "people"} found` : "Image");
  for (const id of ["save-json", "save-csv", "save-png"]) at(id).disabled = !result;
}

function redraw() {
  if (current && !running) show(current.image, current.result);
}

/** The model that finds people: on the server, or in this browser. */
async function finder() {
  skeleton = await loadedModel(options().token);
  if (at("where").value === "server") return (blob) => findPeople(blob, options());
  if (!local) {
    say("Loading the model into this browser…");
    const { LocalModel } = await import("./local.js");
    local = await LocalModel.load(skeleton, options().token);
  }
  return async (blob) => local.people(await createImageBitmap(blob), Number(options().threshold));
}

async function openImages(files) {
  stop();
  const own = turn += 1;
  images = files.map((file) => ({ name: file.name, file }));
  results = [];
  at("strip").replaceChildren(...images.map(stripItem));
  let failed = 0;
  const find = await finder();
  for (const [index, image] of images.entries()) {
    if (own !== turn) return;
    try {
      say(`Image ${index + 1} of ${images.length}: ${image.name}`);
      image.bitmap ??= await createImageBitmap(image.file, { imageOrientation: "from-image" });
      show(image.bitmap, null);
      const began = performance.now();
      image.result = { name: image.name, ...(await find(image.file)) };
      if (own !== turn) return;
      at("milliseconds").textContent = `${(performance.now() - began).toFixed(0)} ms`;
      choose(index);
    } catch (error) {
      if (own !== turn) return;
      failed += 1;
      say(`${image.name}: ${error.message}`, true);
    }
    results = images.filter((one) => one.result).map((one) => one.result);
  }
  if (!failed) say(images.length === 1 ? images[0].name : `${images.length} images`);
}

function stripItem(image, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = image.name;
  button.addEventListener("click", () => choose(index));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function choose(index) {
  const { bitmap, result } = images[index];
  if (bitmap) show(bitmap, result);
  for (const [i, button] of [...at("strip").querySelectorAll("button")].entries()) {
    button.setAttribute("aria-current", String(i === index));
  }
}

/** Runs a playing video element until it ends or is stopped. */
async function follow(video, name, release) {
  let stopped = false;
  stop();
  turn += 1;
  images = [];
  results = [];
  at("strip").replaceChildren();
  running = { stop: () => { stopped = true; } };
  at("stop").disabled = false;
  let stream = null;
  try {
    const find = await finder();
    stream = at("where").value === "server" ? new FrameStream(options()) : null;
    const frame = document.createElement("canvas");
    const pixels = frame.getContext("2d", { willReadFrequently: true });
    let settings = JSON.stringify(options());
    let count = 0;
    const began = performance.now();
    await video.play();
    say(name);
    while (!stopped && !video.ended) {
      if (stream && settings !== JSON.stringify(options())) {
        stream.close();
        settings = JSON.stringify(options());
        stream = new FrameStream(options());
      }
      Object.assign(frame, { width: video.videoWidth, height: video.videoHeight });
      pixels.drawImage(video, 0, 0);
      const time = Number(video.currentTime.toFixed(3));
      const sent = performance.now();
      const blob = await new Promise((resolve) => frame.toBlob(resolve, "image/jpeg", 0.85));
      let found;
      try {
        found = stream ? await stream.people(blob) : await find(blob);
      } catch (error) {
        if (!error.passes) throw error;
        continue; // the server is busy: this frame is skipped
      }
      if (stopped) break;
      show(frame, found);
      count += 1;
      if (results.length < KEPT) results.push({ ...found, name, frame: count - 1, time });
      at("milliseconds").textContent = `${(found.milliseconds ?? performance.now() - sent).toFixed(0)} ms`;
      at("rate").textContent = (1000 * count / (performance.now() - began)).toFixed(1);
      // A hidden page gets no animation frames; the stream continues slowly.
      await new Promise((resolve) => { requestAnimationFrame(resolve); setTimeout(resolve, 1000); });
    }
    say(`${name}: ${count} frames`);
  } catch (error) {
    say(`${name}: ${error.message}`, true);
  } finally {
    stream?.close();
    video.pause();
    release();
    if (!stopped) ended();
  }
}

function ended() {
  running = null;
  at("stop").disabled = true;
}

function stop() {
  running?.stop();
  ended();
}

function element(source) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, ...source });
  return new Promise((resolve, reject) => {
    video.addEventListener("loadeddata", () => resolve(video), { once: true });
    video.addEventListener("error", () => reject(new Error("this browser cannot play the video")), { once: true });
  });
}

async function open(files) {
  const list = [...files];
  const video = list.find((file) => file.type.startsWith("video/"));
  try {
    if (video) {
      const src = URL.createObjectURL(video);
      await follow(await element({ src }), video.name, () => URL.revokeObjectURL(src));
    } else if (list.length) {
      await openImages(list);
    }
  } catch (error) {
    say(error.message, true);
  }
}

async function openCamera() {
  try {
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
    const close = () => media.getTracks().forEach((track) => track.stop());
    await follow(await element({ srcObject: media }), "camera", close);
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
  }
}

/** Sets the threshold to the model's default; the user can change it. */
async function begin() {
  try {
    const { threshold } = await loadedModel(options().token);
    at("threshold").value = threshold;
    at("threshold-value").textContent = Number(at("threshold").value).toFixed(2);
  } catch { /* a token may be needed first; then the page's default stays */ }
}

let settling = 0;
begin();

at("files").addEventListener("change", (event) => { open(event.target.files); });
at("camera").addEventListener("click", openCamera);
at("stop").addEventListener("click", stop);
at("threshold").addEventListener("input", () => {
  at("threshold-value").textContent = Number(at("threshold").value).toFixed(2);
  clearTimeout(settling);
  settling = setTimeout(() => { if (!running && images.length) openImages(images.map((one) => one.file)); }, 300);
});
for (const id of ["colour", "boxes", "scores"]) at(id).addEventListener("change", redraw);
at("save-json").addEventListener("click", () => save(JSON.stringify(results), "poses.json", "application/json"));
at("save-csv").addEventListener("click", () => save(asCsv(results), "poses.csv", "text/csv"));
at("save-png").addEventListener("click", () => canvas.toBlob((blob) => save(blob, "poses.png", "image/png")));
for (const [event, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  at("stage").addEventListener(event, (moved) => {
    moved.preventDefault();
    at("stage").classList.toggle("over", over);
    if (event === "drop") open(moved.dataTransfer.files);
  });
}
