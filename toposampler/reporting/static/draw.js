"use strict";
// What all parts draw with: elements made of text, colors, axes, one kind of chart.
const COLORS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8c8c8c", "#c9b800"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const redraws = [];

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function svg(tag, attributes = {}, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  return node;
}

function color(k) {
  if (k < COLORS.length) return k === 0 && DARK.matches ? "#4da3e0" : COLORS[k];
  return `hsl(${Math.round((k * 137.5 + 300) % 360)} ${k % 2 ? 75 : 45}% ${(DARK.matches ? 62 : 34) + 8 * (k % 3)}%)`;
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function bytes(text, Kind) {
  const raw = atob(text);
  const buffer = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) buffer[i] = raw.charCodeAt(i);
  return new Kind(buffer.buffer);
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

function ticks(low, high, most) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + 1e-9 * span; at += step) {
    found.push(Math.abs(at) < 1e-9 * span ? 0 : at);
  }
  return found;
}

// Draw now, and again whenever the width or the colors change.
function keep(draw) {
  redraws.push(draw);
  draw();
}
let waiting = 0;
function redraw() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => redraws.forEach((draw) => draw()));
}
addEventListener("resize", redraw);
DARK.addEventListener("change", redraw);

function ready(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function legend(entries) {
  const node = el("div", { class: "legend" });
  for (const [name, shade] of entries) node.append(el("span", { style: `--c: ${shade}` }, name));
  return node;
}

// Lines over x: `series` are {name, xs, ys, color}; null values are left out. `mark()` puts a line at an x.
function chart(caption, series, axis, hint = "") {
  const box = svg("svg", { role: "img", "aria-label": caption });
  const title = el("figcaption", hint ? { title: hint, class: "hint" } : {}, caption);
  const figure = el("figure", {}, title, box);
  const named = series.length > 1 ? legend([]) : null;
  if (named) figure.append(named);
  let at = null;
  let place = () => {};
  const draw = () => {
    const width = Math.max(240, figure.clientWidth || 300), height = 170;
    const lines = series.map((one) => ({ ...one, points: one.ys.map((y, i) => [one.xs[i], y])
      .filter(([x, y]) => x !== null && x !== undefined && y !== null) }));
    const all = lines.flatMap((one) => one.points);
    box.replaceChildren();
    box.setAttribute("width", width);
    box.setAttribute("height", height);
    if (named) named.replaceChildren(...legend(series.map((one) => [one.name, one.color()])).childNodes);
    if (!all.length) return;
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [x, y] of all) {
      x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y);
    }
    if (y0 === y1) { y0 -= Math.abs(y0) * 0.1 || 0.5; y1 += Math.abs(y1) * 0.1 || 0.5; }
    if (x0 === x1) x1 = x0 + 1;
    const yticks = ticks(y0, y1, 4);
    const left = 14 + 6.4 * Math.max(...yticks.map((y) => short(y).length)), bottom = height - 32;
    const X = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - 12);
    const Y = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - 10);
    for (const y of yticks) {
      box.append(svg("line", { x1: left, x2: width - 12, y1: Y(y), y2: Y(y), stroke: style("--line") }));
      box.append(svg("text", { x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, short(y)));
    }
    for (const x of ticks(x0, x1, width < 340 ? 3 : 5)) {
      const anchor = X(x) > width - 30 ? "end" : "middle";
      box.append(svg("text", { x: anchor === "end" ? width - 4 : X(x), y: bottom + 14, "text-anchor": anchor }, short(x)));
    }
    box.append(svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, axis()));
    for (const one of lines) {
      const path = one.points.map(([x, y], i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`).join("");
      box.append(svg("path", { d: path, fill: "none", stroke: one.color(), "stroke-width": 1.6 }));
      for (const [x, y] of one.points.length <= 30 ? one.points : one.points.slice(-1)) {
        const dot = svg("circle", { cx: X(x), cy: Y(y), r: 2.6, fill: one.color() });
        dot.append(svg("title", {}, `${one.name}: ${short(y)} at ${short(x)}`));
        box.append(dot);
      }
    }
    const line = svg("line", { y1: 6, y2: bottom, stroke: style("--ink"), "stroke-dasharray": "3 3" });
    box.append(line);
    place = () => {
      const shown = at !== null && at >= x0 && at <= x1;
      line.setAttribute("visibility", shown ? "visible" : "hidden");
      if (shown) { line.setAttribute("x1", X(at)); line.setAttribute("x2", X(at)); }
    };
    place();
  };
  return { node: figure, draw, mark: (x) => { at = x; place(); } };
}
