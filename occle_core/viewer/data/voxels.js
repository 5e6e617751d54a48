"use strict";
// Voxel layers: decoding, and the faces between visible and invisible cells.

const UNNAMED = 255; // class id of occupied cells for which no class is known
const NORMALS = [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]];

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// {grid, cells: Uint32Array of C-order numbers, labels, levels (0..15): Uint8Array}, the inverse of cells.py
async function decodeLayer(grid, base64) {
  const bytes = await inflate(bytesOf(base64));
  const size = grid.shape[0] * grid.shape[1] * grid.shape[2];
  const bits = bytes.subarray(0, (size + 7) >> 3);
  const cells = new Uint32Array(grid.count);
  let found = 0;
  for (let i = 0; i < bits.length; i++) {
    for (let b = 0, byte = bits[i]; byte; b++, byte >>= 1) if (byte & 1) cells[found++] = i * 8 + b;
  }
  const rest = bytes.subarray(bits.length);
  return { grid, cells, labels: rest.subarray(0, found), levels: rest.subarray(found, 2 * found) };
}

function countByClass(layer) {
  const counts = new Uint32Array(256);
  for (const label of layer.labels) counts[label]++;
  return counts;
}

// Faces of visible cells whose neighbour is not visible. Per face three 32-bit words: x | y << 16, z | side << 16, RGBA.
function facesOf(layer, isVisible, colors, fade) {
  const [X, Y, Z] = layer.grid.shape;
  const solid = new Uint8Array(X * Y * Z);
  const { cells, labels, levels } = layer;
  for (let n = 0; n < cells.length; n++) solid[cells[n]] = isVisible[labels[n]];
  let words = new Uint32Array(6 * 3 * 4096);
  let faces = 0;
  for (let n = 0; n < cells.length; n++) {
    const cell = cells[n];
    if (!solid[cell]) continue;
    const z = cell % Z, y = ((cell - z) / Z) % Y, x = (cell - z - y * Z) / (Y * Z);
    const covered = [
      x > 0 && solid[cell - Y * Z], x < X - 1 && solid[cell + Y * Z], y > 0 && solid[cell - Z],
      y < Y - 1 && solid[cell + Z], z > 0 && solid[cell - 1], z < Z - 1 && solid[cell + 1],
    ];
    const [r, g, b] = colors[labels[n]];
    const alpha = (fade ? 38 + Math.round((217 * levels[n]) / 15) : 255) * (labels[n] === UNNAMED ? 0.4 : 1);
    if ((faces + 6) * 3 > words.length) {
      const larger = new Uint32Array(words.length * 2);
      larger.set(words);
      words = larger;
    }
    for (let side = 0; side < 6; side++) {
      if (covered[side]) continue;
      words[3 * faces] = x | (y << 16);
      words[3 * faces + 1] = z | (side << 16);
      words[3 * faces + 2] = (r | (g << 8) | (b << 16) | (alpha << 24)) >>> 0;
      faces++;
    }
  }
  return words.subarray(0, 3 * faces);
}

// The faces from the farthest to the nearest as seen from `eye` (cells): what is translucent has to be drawn in this order.
function sortFaces(words, eye) {
  const faces = words.length / 3, BUCKETS = 4096;
  const keys = new Uint16Array(faces);
  const distance = new Float32Array(faces);
  let most = 1e-6;
  for (let f = 0; f < faces; f++) {
    const xy = words[3 * f], zs = words[3 * f + 1], normal = NORMALS[zs >>> 16];
    const dx = (xy & 65535) + 0.5 + normal[0] / 2 - eye[0], dy = (xy >>> 16) + 0.5 + normal[1] / 2 - eye[1];
    const dz = (zs & 65535) + 0.5 + normal[2] / 2 - eye[2];
    distance[f] = Math.sqrt(dx * dx + dy * dy + dz * dz);
    if (distance[f] > most) most = distance[f];
  }
  const starts = new Uint32Array(BUCKETS + 1);
  for (let f = 0; f < faces; f++) {
    keys[f] = BUCKETS - 1 - Math.floor((distance[f] / most) * (BUCKETS - 1));
    starts[keys[f] + 1]++;
  }
  for (let k = 0; k < BUCKETS; k++) starts[k + 1] += starts[k];
  const sorted = new Uint32Array(words.length);
  for (let f = 0; f < faces; f++) {
    const at = 3 * starts[keys[f]]++;
    sorted[at] = words[3 * f];
    sorted[at + 1] = words[3 * f + 1];
    sorted[at + 2] = words[3 * f + 2];
  }
  return sorted;
}
