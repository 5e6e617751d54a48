"use strict";
// The page: what is shown, and the controls. `scene` holds what holds for all frames, `#frame-N` the arrays of one.

const byId = (id) => document.getElementById(id);
const scene = JSON.parse(byId("scene").textContent);
const colors = [];
for (let id = 0; id < 256; id++) colors[id] = [128, 128, 128];
for (const entry of scene.classes) colors[entry.id] = entry.rgb;
const isVisible = new Uint8Array(256).fill(1);
const hash = new URLSearchParams(location.hash.slice(1)); // #frame=3&layer=map&view=above
let shown = Math.min(scene.frames.length - 1, Math.max(0, Number(hash.get("frame")) || 0));
let layerName = hash.get("layer") || "frame";
const playing = { on: false, turn: 0 };
let painter = null;

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

// Column-major matrix from the frame of a layer to the frame of the robot (the occupancy's grid frame).
function toRobot(name, pose) {
  const eye = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
  return name === "map" && pose ? inverseRigid(pose) : eye;
}

const cache = new Map(); // the newest few decoded frames

function decoded(number) {
  if (!cache.has(number)) {
    const stored = JSON.parse(byId(`frame-${number}`).textContent);
    const layers = {};
    for (const [name, grid] of Object.entries(scene.frames[number].layers)) layers[name] = decodeLayer(grid, stored.layers[name]);
    cache.set(number, { images: stored.images, layers });
    if (cache.size > 12) cache.delete(cache.keys().next().value);
  }
  return cache.get(number);
}

async function show() {
  const number = shown, frame = scene.frames[number];
  byId("time").value = number;
  const since = Number(BigInt(frame.stamp) - BigInt(scene.frames[0].stamp)) / 1e9;
  byId("stamp").textContent = `frame ${frame.number} (${number + 1} of ${scene.frames.length}), ${since.toFixed(2)} s`;
  const { images, layers } = decoded(number);
  showImages(images);
  showTimings(frame.timings);
  showLayers(Object.keys(layers));
  const name = layers[layerName] ? layerName : "frame";
  const layer = await layers[name];
  if (number !== shown) return; // another frame was chosen meanwhile
  showCounts(countByClass(layer));
  const m = toRobot(name, frame.pose), [x, y, z] = layer.grid.origin;
  const fromCells = multiply(m, new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, x, y, z, 1]));
  const path = pathOf(number);
  const bounds = boundsOf(name);
  drawTop(layer, fromCells, path, bounds);
  const words = facesOf(layer, isVisible, colors, byId("fade").checked);
  if (painter) painter.show(words, fromCells, layer.grid.resolution, byId("fade").checked, floorOf(bounds), marksOf(path));
  Object.assign(document.body.dataset, { frame: number, layer: name, cells: layer.cells.length, faces: words.length / 3, state: "ready" });
}

// Where the robot drove until now, in its present frame, metres: a list of points.
function pathOf(number) {
  const now = scene.frames[number].pose;
  if (!now) return [];
  const back = inverseRigid(now);
  return scene.frames.slice(0, number + 1).filter((f) => f.pose).map((f) => transform(back, f.pose.slice(12, 15)));
}

// The box that a layer fills in the robot's frame: the occupancy's grid, or as much of the map as any heading shows.
function boundsOf(name) {
  if (name !== "map") return scene.bounds;
  const grid = scene.frames.find((frame) => frame.layers.map).layers.map, half = (grid.shape[0] * grid.resolution) / 2;
  return { low: [-half, -half, scene.bounds.low[2]], high: [half, half, scene.bounds.high[2]] };
}

function floorOf({ low, high }) {
  const points = [], grey = [0.5, 0.53, 0.57, 0.45];
  for (let x = Math.ceil(low[0] / 10) * 10; x <= high[0]; x += 10) points.push(x, low[1], low[2], x, high[1], low[2]);
  for (let y = Math.ceil(low[1] / 10) * 10; y <= high[1]; y += 10) points.push(low[0], y, low[2], high[0], y, low[2]);
  return [{ points, color: grey, mode: "LINES" }];
}

function marksOf(path) {
  const color = [0.18, 0.38, 0.79, 1];
  const arrow = [2.2, 0, 0, -2.2, 1.3, 0, -1.1, 0, 0, 2.2, 0, 0, -1.1, 0, 0, -2.2, -1.3, 0];
  return [{ points: arrow, color, mode: "TRIANGLES" }, { points: path.flat(), color, mode: "LINE_STRIP" }];
}

// The highest visible voxel of every column; forward is up.
function drawTop(layer, fromCells, path, { low, high }) {
  const [X, Y, Z] = layer.grid.shape, r = layer.grid.resolution;
  const height = new Int16Array(X * Y).fill(-1);
  const picture = new ImageData(X, Y);
  for (let n = 0; n < layer.cells.length; n++) {
    const z = layer.cells[n] % Z, column = (layer.cells[n] - z) / Z;
    if (!isVisible[layer.labels[n]] || z < height[column]) continue;
    height[column] = z;
    const at = 4 * ((column % Y) * X + Math.floor(column / Y)), bright = 0.8 + (0.2 * z) / Math.max(1, Z - 1);
    for (let c = 0; c < 3; c++) picture.data[at + c] = colors[layer.labels[n]][c] * bright;
    picture.data[at + 3] = layer.labels[n] === UNNAMED ? 100 : 255;
  }
  const drawing = new OffscreenCanvas(X, Y);
  drawing.getContext("2d").putImageData(picture, 0, 0);
  const canvas = byId("top");
  canvas.width = 500;
  canvas.height = Math.round((500 * (high[0] - low[0])) / (high[1] - low[1]));
  const s = canvas.width / (high[1] - low[1]), pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  const place = ([x, y]) => [(high[1] - y) * s, (high[0] - x) * s];
  const [zero, ahead, left] = [[0, 0, 0], [r, 0, 0], [0, r, 0]].map((p) => place(transform(fromCells, p)));
  pen.setTransform(ahead[0] - zero[0], ahead[1] - zero[1], left[0] - zero[0], left[1] - zero[1], zero[0], zero[1]);
  pen.drawImage(drawing, 0, 0);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.strokeStyle = pen.fillStyle = "#2f62c9";
  pen.lineWidth = 3;
  pen.beginPath();
  path.forEach((p) => pen.lineTo(...place(p)));
  pen.stroke();
  pen.beginPath();
  [[2.5, 0], [-2, 1.6], [-1, 0], [-2, -1.6]].forEach((p) => pen.lineTo(...place(p)));
  pen.closePath();
  pen.fill();
  pen.strokeStyle = "#fff";
  pen.stroke();
}

function showImages(images) {
  const box = byId("cameras"), names = Object.keys(images);
  while (box.children.length > names.length) box.lastChild.remove();
  names.forEach((name, n) => {
    if (!box.children[n]) {
      box.append(document.createElement("figure"));
      box.children[n].append(document.createElement("img"), document.createElement("figcaption"));
    }
    const [image, caption] = box.children[n].children;
    image.src = `data:image/jpeg;base64,${images[name]}`;
    image.alt = caption.textContent = name;
  });
}

function showTimings(timings) {
  const longest = Math.max(...Object.values(timings), 1e-6), total = Object.values(timings).reduce((a, b) => a + b, 0);
  byId("timings").replaceChildren(...[...Object.entries(timings), ["sum", total]].map(([name, value]) => {
    const row = document.createElement("div"), number = document.createElement("b");
    row.textContent = name;
    number.textContent = value.toFixed(1);
    if (name !== "sum") row.style.setProperty("--share", `${(100 * value) / longest}%`);
    row.append(number);
    return row;
  }));
  if (!Object.keys(timings).length) byId("timings").textContent = "not recorded for this frame";
}

function showLayers(names) {
  const box = byId("layers"), titles = { frame: "this frame", map: "rolling map", truth: "truth" };
  if (box.dataset.names === names.join()) return;
  box.dataset.names = names.join();
  box.replaceChildren(...names.map((name) => {
    const label = document.createElement("label"), button = document.createElement("input");
    Object.assign(button, { type: "radio", name: "layer", value: name, checked: name === (names.includes(layerName) ? layerName : "frame") });
    button.onchange = () => { layerName = name; update(); };
    label.append(button, ` ${titles[name]} `);
    return label;
  }));
}

function buildLegend() {
  byId("classes").replaceChildren(...scene.classes.map(({ id, name, rgb }) => {
    const row = document.createElement("label"), box = document.createElement("input"), swatch = document.createElement("i");
    Object.assign(box, { type: "checkbox", checked: true, value: id });
    box.onchange = () => { isVisible[id] = box.checked; update(); };
    swatch.style.background = `rgb(${rgb.join()})`;
    row.append(box, swatch, name, document.createElement("b"));
    return row;
  }));
  for (const [id, on] of [["all", true], ["none", false]]) {
    byId(id).onclick = () => {
      for (const box of byId("classes").querySelectorAll("input")) isVisible[box.value] = box.checked = on;
      update();
    };
  }
}

function showCounts(counts) {
  for (const row of byId("classes").children) {
    const count = counts[row.firstChild.value];
    row.lastChild.textContent = count;
    row.classList.toggle("absent", !count);
  }
}

function look(from) {
  if (!painter) return;
  const { low, high } = scene.bounds;
  if (from === "above") painter.fit(low, high, 0, 1.57);
  else painter.fit(low, [high[0], high[1], low[2] + 0.6 * (high[2] - low[2])], 0.28, 0.52);
}

function update() {
  return show().catch((error) => {
    problem(error.message);
    document.body.dataset.state = "failed";
  });
}

function step(by) {
  shown = (shown + by + scene.frames.length) % scene.frames.length;
  return update();
}

// Five frames a second, or as many as this machine draws.
async function play(on) {
  const turn = ++playing.turn;
  playing.on = on;
  byId("play").textContent = on ? "\u23f8" : "\u25b6";
  while (playing.on && playing.turn === turn) {
    const next = performance.now() + 200;
    await step(1);
    await new Promise((resolve) => setTimeout(resolve, Math.max(20, next - performance.now())));
  }
}

byId("time").max = scene.frames.length - 1;
byId("time").oninput = () => { shown = Number(byId("time").value); update(); };
byId("play").onclick = () => play(!playing.on);
byId("fade").onchange = update;
byId("behind").onclick = () => look("behind");
byId("above").onclick = () => look("above");
addEventListener("keydown", (event) => {
  if (event.target.type === "range" || event.target.type === "radio") return; // they have these keys themselves
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); play(!playing.on); }
});
buildLegend();
try {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old: it has no DecompressionStream");
  painter = new Scene(byId("view"));
} catch (error) {
  problem(error.message);
}
look(hash.get("view") || "behind");
if (hash.get("fade") === "0") byId("fade").checked = false;
update();
