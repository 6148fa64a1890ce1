"use strict";
// The slider over steps: samples, prior and barcode of every run at one step.
const nearestAt = (steps, step) => {
  let found = 0;
  for (let i = 0; i < steps.length; i++) if (steps[i] <= step) found = i;
  return found;
};

function scatter(film, select) {
  const canvas = el("canvas", { role: "img", "aria-label": "samples and real points" });
  const holder = el("div", {}, canvas);
  const real = bytes(film.real, Uint16Array);
  const [w, h] = [film.high[0] - film.low[0], film.high[1] - film.low[1]];
  const draw = () => {
    const width = Math.max(240, holder.clientWidth || 300);
    const left = 46, bottom = 40, inner = width - left - 10;
    const height = film.one_scale && w > 0 && h > 0 ? Math.min(inner * (h / w), 620) : inner * 0.75;
    const across = film.one_scale && h > 0 && w > 0 ? Math.min(inner, height * (w / h)) : inner;
    const pen = ready(canvas, width, height + bottom + 6);
    const X = (q) => left + (q / 65535) * across, Y = (q) => 6 + (1 - q / 65535) * height;
    pen.strokeStyle = style("--line");
    pen.strokeRect(left, 6, across, height);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = style("--dim");
    pen.textAlign = "center";
    for (const x of ticks(film.low[0], film.high[0], across < 300 ? 3 : 6)) {
      const at = left + ((x - film.low[0]) / (w || 1)) * across;
      pen.fillText(short(x), at, height + 20);
    }
    pen.fillText(film.axes[0], left + across / 2, height + 38);
    pen.textAlign = "right";
    for (const y of film.axes[1] ? ticks(film.low[1], film.high[1], 5) : []) {
      pen.fillText(short(y), left - 5, 10 + (1 - (y - film.low[1]) / (h || 1)) * height);
    }
    pen.save();
    pen.translate(11, 6 + height / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillText(film.axes[1], 0, 0);
    pen.restore();
    pen.beginPath();
    pen.rect(left, 6, across, height);
    pen.clip();
    pen.globalAlpha = 0.35;
    for (let i = 0; i < real.length; i += 2) pen.fillRect(X(real[i]) - 1, Y(real[i + 1]) - 1, 2, 2);
    pen.globalAlpha = 0.85;
    const { xy, ids } = select();
    for (let i = 0; i < ids.length; i++) {
      pen.fillStyle = color(ids[i]);
      pen.beginPath();
      pen.arc(X(xy[2 * i]), Y(xy[2 * i + 1]), 2.4, 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
  };
  return { node: holder, draw };
}

function pointsFilm(film, makers) {
  const xy = bytes(film.xy, Uint16Array), ids = bytes(film.ids, Uint16Array);
  let frame = film.steps.length - 1;
  const view = scatter(film, () => ({
    xy: xy.subarray(2 * film.n * frame, 2 * film.n * (frame + 1)), ids: ids.subarray(film.n * frame, film.n * (frame + 1)),
  }));
  const names = el("div");
  keep(() => {
    view.draw();
    const entries = makers.slice(0, 12).map((one) => [`generator ${one.id}`, color(one.id)]);
    names.replaceChildren(legend([["real points", style("--dim")], ...entries]));
  });
  return { node: el("div", {}, view.node, names), show: (step) => { frame = nearestAt(film.steps, step); view.draw(); } };
}

function pixels(picture) {
  const canvas = el("canvas", { class: "pixels", role: "img", "aria-label": "images" });
  const image = new Image();
  canvas.width = picture.columns * picture.width;
  canvas.height = picture.rows * picture.height;
  image.onload = () => canvas.getContext("2d").drawImage(image, 0, 0);
  image.src = `data:image/png;base64,${picture.png}`;
  return canvas;
}

function imagesFilm(film) {
  const shown = film.frames.map((frame) => {
    const image = new Image();
    image.src = `data:image/png;base64,${frame.png}`;
    return image;
  });
  const first = film.frames[0];
  const canvas = el("canvas", { class: "pixels", role: "img", "aria-label": "samples, a row for each generator" });
  canvas.width = first.columns * first.width;
  canvas.height = first.rows * first.height;
  const labels = el("div", { class: "labels" });
  const node = el("div", { class: "images" }, labels, canvas);
  const real = film.real ? el("div", {}, el("p", { class: "note" }, "Real images"), pixels(film.real)) : "";
  const show = (step) => {
    const frame = nearestAt(film.steps, step);
    labels.replaceChildren(...film.rows[frame].map((k) => el("span", {}, String(k))));
    const draw = () => canvas.getContext("2d").drawImage(shown[frame], 0, 0);
    if (shown[frame].complete) draw(); else shown[frame].addEventListener("load", draw, { once: true });
  };
  return { node: el("div", {}, el("p", { class: "note" }, "A row for each generator, the same latents at every step"), node), real, show };
}

// The prior of the newest record up to a step.
function priorBars(run) {
  const masses = Object.keys(run.curves).filter((name) => name.startsWith("mass/"));
  if (masses.length < 2) return null;
  const node = el("div", { class: "masses" });
  const show = (step) => {
    const at = nearestAt(run.steps, step);
    const rows = masses.map((name) => [name.slice(5), run.curves[name][at] || 0]);
    const few = rows.length <= 16 ? rows : [...rows].sort((a, b) => b[1] - a[1]).slice(0, 16);
    node.replaceChildren(...few.flatMap(([k, mass]) => [
      el("span", {}, k), el("span", {}, mass.toFixed(3)),
      el("span", { class: "bar", style: `width: ${(100 * mass).toFixed(2)}%; background: ${color(Number(k))}` }),
    ]));
  };
  const most = masses.length > 16 ? `, the 16 largest of ${masses.length}` : "";
  return { node: el("div", {}, el("h3", {}, `Prior r(c) of the generators${most}`), node), show };
}

function barcode(film) {
  if (!film || !film.bars || !film.bars.length || !film.real_bars.length) return null;
  const box = svg("svg", { role: "img", "aria-label": "barcodes of real points and samples" });
  const node = el("div", {}, el("h3", { title: "Points closer than r are joined, r growing from 0: a bar ends where two "
    + "pieces meet. Bars much longer than the others part components.", class: "hint" }, "Longest bars of the barcode"), box);
  const ROWS = 16;
  let step = film.steps[film.steps.length - 1];
  const draw = () => {
    const bars = film.bars[nearestAt(film.steps, step)];
    const width = Math.max(240, node.clientWidth || 300), half = (width - 16) / 2, height = 10 * ROWS + 50;
    const longest = 1.05 * Math.max(film.real_bars[0], bars[0], 1e-9);
    box.replaceChildren();
    box.setAttribute("width", width);
    box.setAttribute("height", height);
    for (const [j, [name, of]] of [[`${film.n} real points`, film.real_bars], [`${film.n} samples`, bars]].entries()) {
      const left = j * (half + 16);
      box.append(svg("text", { x: left, y: 11 }, name));
      of.slice(0, ROWS).forEach((bar, i) => box.append(svg("rect", {
        x: left, y: 18 + 10 * i, height: 6, rx: 1, width: Math.max(1, (bar / longest) * half), fill: j ? style("--bar") : style("--dim"),
      })));
      for (const at of ticks(0, longest, 3).filter((t) => t / longest < 0.93)) {
        box.append(svg("text", { x: left + (at / longest) * half, y: height - 18, "text-anchor": at ? "middle" : "start" }, short(at)));
      }
    }
    box.append(svg("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, "length, in the units of training"));
  };
  keep(draw);
  return { node, show: (at) => { step = at; draw(); } };
}
