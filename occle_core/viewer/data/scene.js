"use strict";
// The 3D view: WebGL 2, two programs (faces, lines) and a camera that orbits. Matrices are column-major, as WebGL takes them.

const FACE_SHADER = `#version 300 es
layout(location = 0) in uvec2 place;   // x | y << 16, z | side << 16
layout(location = 1) in vec4 color;
uniform mat4 to_screen;                // from cells
out vec4 tint;
out vec2 corner;
void main() {
  uint side = place.y >> 16;
  int axis = int(side) / 2, up = int(side) % 2;
  vec2 uv = vec2(gl_VertexID == 1 || gl_VertexID == 2 || gl_VertexID == 4, gl_VertexID == 2 || gl_VertexID == 4 || gl_VertexID == 5);
  vec3 at = vec3(place.x & 65535u, place.x >> 16, place.y & 65535u);
  at[axis] += float(up);
  at[(axis + 1) % 3] += uv.x;
  at[(axis + 2) % 3] += uv.y;
  float light[6] = float[6](0.86, 0.72, 0.9, 0.76, 0.55, 1.0);
  tint = vec4(color.rgb * light[side], color.a);
  corner = uv;
  gl_Position = to_screen * vec4(at, 1);
}`;
const FACE_FILL = `#version 300 es
precision mediump float;
in vec4 tint;
in vec2 corner;
out vec4 result;
void main() {
  vec2 edge = min(corner, 1.0 - corner) / fwidth(corner);   // pixels to the border; it fades where cells become small
  float size = 1.0 / max(fwidth(corner).x, fwidth(corner).y);
  float border = (1.0 - smoothstep(0.5, 1.5, min(edge.x, edge.y))) * smoothstep(4.0, 14.0, size);
  result = vec4(tint.rgb * (1.0 - 0.3 * border), tint.a);
}`;
const LINE_SHADER = `#version 300 es
layout(location = 0) in vec3 at;
uniform mat4 to_screen;
void main() { gl_Position = to_screen * vec4(at, 1); }`;
const LINE_FILL = `#version 300 es
precision mediump float;
uniform vec4 color;
out vec4 result;
void main() { result = color; }`;

function multiply(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++) for (let k = 0; k < 4; k++) out[c * 4 + r] += a[k * 4 + r] * b[c * 4 + k];
  return out;
}

function transform(m, [x, y, z]) {
  return [0, 1, 2].map((r) => m[r] * x + m[4 + r] * y + m[8 + r] * z + m[12 + r]);
}

// Inverse of a rotation with a shift.
function inverseRigid(m) {
  const out = new Float32Array([m[0], m[4], m[8], 0, m[1], m[5], m[9], 0, m[2], m[6], m[10], 0, 0, 0, 0, 1]);
  for (let r = 0; r < 3; r++) out[12 + r] = -(out[r] * m[12] + out[4 + r] * m[13] + out[8 + r] * m[14]);
  return out;
}

class Scene {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("this browser has no WebGL 2; the images and the view from above work without it");
    const gl = this.gl;
    this.faceProgram = this.program(FACE_SHADER, FACE_FILL);
    this.lineProgram = this.program(LINE_SHADER, LINE_FILL);
    this.buffer = gl.createBuffer();
    this.vertices = gl.createVertexArray();
    gl.bindVertexArray(this.vertices);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 2, gl.UNSIGNED_INT, 12, 0);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 12, 8);
    gl.vertexAttribDivisor(0, 1);
    gl.vertexAttribDivisor(1, 1);
    this.lineBuffer = gl.createBuffer();
    this.lineVertices = gl.createVertexArray();
    gl.bindVertexArray(this.lineVertices);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.lineBuffer);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    this.words = new Uint32Array(0);
    this.look = { target: [0, 0, 0], yaw: 0, pitch: 0.5, distance: 40 };
    this.listen();
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  // Faces in cells, the matrix from cells to the robot's frame, and in that frame lines [{points: flat metres, color, mode}]:
  // the floor is drawn under the faces, the marks over them.
  show(words, fromCells, resolution, fade, floor, marks) {
    Object.assign(this, { words, fromCells, resolution, fade, floor, marks, sortedFor: null });
    this.request();
  }

  request() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  eye() {
    const { target, yaw, pitch, distance } = this.look;
    const flat = Math.cos(pitch) * distance;
    return [target[0] - Math.cos(yaw) * flat, target[1] - Math.sin(yaw) * flat, target[2] + Math.sin(pitch) * distance];
  }

  toScreen() {
    const { yaw, pitch, target, distance } = this.look, eye = this.eye();
    const back = [0, 1, 2].map((i) => (eye[i] - target[i]) / distance);
    const right = [Math.sin(yaw), -Math.cos(yaw), 0];
    const up = [Math.sin(pitch) * Math.cos(yaw), Math.sin(pitch) * Math.sin(yaw), Math.cos(pitch)];
    const view = new Float32Array(16);
    [right, up, back].forEach((axis, r) => {
      for (let c = 0; c < 3; c++) view[c * 4 + r] = axis[c];
      view[12 + r] = -(axis[0] * eye[0] + axis[1] * eye[1] + axis[2] * eye[2]);
    });
    view[15] = 1;
    const near = distance / 50, far = distance * 4 + 400, f = 1 / Math.tan((40 * Math.PI) / 360);
    const project = new Float32Array([(f * this.canvas.height) / this.canvas.width, 0, 0, 0, 0, f, 0, 0,
      0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0]);
    return multiply(project, view);
  }

  draw() {
    const gl = this.gl, canvas = this.canvas, scale = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.fromCells || !width || !height) return;
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const toScreen = this.toScreen();
    this.drawLines(toScreen, this.floor);
    this.drawFaces(toScreen);
    this.drawLines(toScreen, this.marks);
  }

  drawFaces(toScreen) {
    const gl = this.gl;
    gl.enable(gl.DEPTH_TEST);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    const eye = this.eye(), key = this.fade ? eye.join() : "unsorted";
    if (this.sortedFor !== key) {
      const inCells = transform(inverseRigid(this.fromCells), eye).map((v) => v / this.resolution);
      gl.bufferData(gl.ARRAY_BUFFER, this.fade ? sortFaces(this.words, inCells) : this.words, gl.DYNAMIC_DRAW);
      this.sortedFor = key;
    }
    const r = this.resolution;
    const sized = new Float32Array([r, 0, 0, 0, 0, r, 0, 0, 0, 0, r, 0, 0, 0, 0, 1]);
    gl.useProgram(this.faceProgram);
    gl.bindVertexArray(this.vertices);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.faceProgram, "to_screen"), false, multiply(multiply(toScreen, this.fromCells), sized));
    gl.drawArraysInstanced(gl.TRIANGLES, 0, 6, this.words.length / 3);
  }

  drawLines(toScreen, lines) {
    const gl = this.gl;
    gl.disable(gl.DEPTH_TEST);
    gl.useProgram(this.lineProgram);
    gl.bindVertexArray(this.lineVertices);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.lineProgram, "to_screen"), false, toScreen);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.lineBuffer);
    for (const { points, color, mode } of lines) {
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(points), gl.DYNAMIC_DRAW);
      gl.uniform4fv(gl.getUniformLocation(this.lineProgram, "color"), color);
      gl.drawArrays(gl[mode], 0, points.length / 3);
    }
  }

  // Looks from a direction at a box (robot's frame, metres), as near as the whole box allows.
  fit(low, high, yaw, pitch) {
    const target = [0, 1, 2].map((a) => (low[a] + high[a]) / 2), corners = [];
    for (let i = 0; i < 8; i++) corners.push([0, 1, 2].map((a) => (i >> a & 1 ? high : low)[a]));
    const canvas = this.canvas;
    Object.assign(canvas, { width: canvas.clientWidth || 1, height: canvas.clientHeight || 1 });
    this.look = { target, yaw, pitch, distance: 2 * Math.hypot(...[0, 1, 2].map((a) => high[a] - low[a])) };
    for (let round = 0; round < 12; round++) {
      const m = this.toScreen(), seen = corners.map((p) => {
        const w = m[3] * p[0] + m[7] * p[1] + m[11] * p[2] + m[15];
        return transform(m, p).map((v) => v / w);
      });
      const [left, right, bottom, top] = [[0, "min"], [0, "max"], [1, "min"], [1, "max"]].map(([a, f]) => Math[f](...seen.map((p) => p[a])));
      const size = this.look.distance * Math.tan((20 * Math.PI) / 180);
      const ahead = ((top + bottom) / 2) * size / Math.max(0.3, Math.sin(pitch)), aside = ((right + left) / 2) * size * canvas.width / canvas.height;
      target[0] += ahead * Math.cos(yaw) + aside * Math.sin(yaw);
      target[1] += ahead * Math.sin(yaw) - aside * Math.cos(yaw);
      this.look.distance *= Math.max((right - left) / 2 / 1.1, (top - bottom) / 2 / 0.95) ** 0.7; // its corners are seldom filled
    }
    this.request();
  }

  listen() {
    const canvas = this.canvas, held = new Map();
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => {
      held.set(event.pointerId, [event.clientX, event.clientY]);
      canvas.setPointerCapture(event.pointerId);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => held.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before[0], dy = event.clientY - before[1];
      held.set(event.pointerId, [event.clientX, event.clientY]);
      if (held.size > 1) {
        this.zoom(dy / held.size);
      } else if (event.shiftKey || event.buttons & 6) {
        const step = this.look.distance / canvas.clientHeight, { yaw, target } = this.look;
        target[0] += step * (dy * Math.cos(yaw) - dx * Math.sin(yaw));
        target[1] += step * (dy * Math.sin(yaw) + dx * Math.cos(yaw));
      } else {
        this.look.yaw -= dx * 0.008;
        this.look.pitch = Math.min(1.57, Math.max(-0.2, this.look.pitch + dy * 0.006));
      }
      this.request();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY * 0.5);
    }, { passive: false });
  }

  zoom(amount) {
    this.look.distance = Math.min(2000, Math.max(2, this.look.distance * Math.exp(amount * 0.003)));
    this.request();
  }
}
