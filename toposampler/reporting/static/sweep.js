"use strict";
// Trials of a sweep as lines over parallel axes that filter, and members of a population as dots.
function parallel(run, place) {
  const trials = run.trials.filter((one) => one.objectives);
  if (!trials.length) return;
  const keys = [...new Set(trials.flatMap((one) => Object.keys(one.values)))];
  const goals = Object.keys(trials[0].objectives);
  const columns = [...keys.map((k) => [k, (t) => t.values[k]]), ...goals.map((k) => [k, (t) => t.objectives[k]])];
  const axes = columns.map(([name, of]) => {
    const values = trials.map(of).filter((v) => v !== undefined && v !== null);
    const numbers = values.every((v) => typeof v === "number");
    const kinds = numbers ? null : [...new Set(values.map(String))].sort();
    let [low, high] = numbers ? [Math.min(...values), Math.max(...values)] : [0, Math.max(1, kinds.length - 1)];
    const logarithmic = numbers && low > 0 && high / low > 50;
    const scale = (v) => (logarithmic ? Math.log(v) : v);
    const at = (t) => {
      const v = of(t);
      if (v === undefined || v === null) return null;
      const x = numbers ? scale(v) : kinds.indexOf(String(v));
      const [a, b] = numbers ? [scale(low), scale(high)] : [low, high];
      return b > a ? (x - a) / (b - a) : 0.5;
    };
    return { name, at, low: numbers ? short(low) : kinds[0], high: numbers ? short(high) : kinds[kinds.length - 1], range: null, logarithmic };
  });
  const box = svg("svg", { role: "img", "aria-label": "parallel coordinates of the trials", style: "touch-action: none; cursor: crosshair" });
  const said = el("p", { class: "note" });
  const clear = el("button", { type: "button" }, "show all");
  const wide = el("div", { class: "wide" }, box);
  place.append(el("p", { class: "note" }, "A line for each trial. Drag along an axis to keep the trials in that range."), clear, wide, said);
  const top = 46, depth = 240;
  let X = () => 0;
  const kept = (t) => axes.every(({ at, range }) => range === null || (at(t) !== null && at(t) >= range[0] && at(t) <= range[1]));
  const draw = () => {
    const width = Math.max(wide.clientWidth || 300, 110 * axes.length);
    X = (i) => 55 + (i * (width - 110)) / Math.max(1, axes.length - 1);
    box.replaceChildren();
    box.setAttribute("width", width);
    box.style.maxWidth = "none";
    box.setAttribute("height", top + depth + 30);
    const shown = trials.filter(kept);
    for (const t of [...trials.filter((one) => !kept(one)), ...shown]) {
      const points = axes.map(({ at }, i) => [X(i), at(t)]).filter(([, y]) => y !== null);
      const best = t.number === run.best, on = kept(t);
      const line = svg("polyline", { points: points.map(([x, y]) => `${x},${top + depth * (1 - y)}`).join(" "), fill: "none",
        stroke: best ? color(3) : on ? style("--bar") : style("--line"), "stroke-width": best ? 3 : 1.4, opacity: on ? 0.85 : 0.4, class: on ? "on" : "off" });
      line.append(svg("title", {}, `trial ${t.number}: ${goals.map((g) => `${g} ${short(t.objectives[g])}`).join(", ")} (${t.outcome})`));
      box.append(line);
    }
    axes.forEach(({ name, low, high, range, logarithmic }, i) => {
      const x = X(i);
      box.append(svg("line", { x1: x, x2: x, y1: top, y2: top + depth, stroke: style("--dim") }));
      const parts = name.split(".");
      box.append(svg("text", { x, y: 12, "text-anchor": "middle" }, parts.length > 1 ? parts.slice(0, -1).join(".") : ""));
      box.append(svg("text", { x, y: 25, "text-anchor": "middle", style: "font-weight: 600" }, parts[parts.length - 1] + (logarithmic ? " (log)" : "")));
      box.append(svg("text", { x, y: top - 6, "text-anchor": "middle" }, high));
      box.append(svg("text", { x, y: top + depth + 14, "text-anchor": "middle" }, low));
      if (range) box.append(svg("rect", { x: x - 7, width: 14, y: top + depth * (1 - range[1]), height: Math.max(2, depth * (range[1] - range[0])),
        fill: style("--bar"), opacity: 0.3 }));
    });
    said.textContent = `${shown.length} of ${trials.length} trials are kept; the thick line is the best.`;
  };
  let held = null;
  const where = (event) => {
    const of = box.getBoundingClientRect();
    const [x, y] = [event.clientX - of.left, 1 - (event.clientY - of.top - top) / depth];
    const i = axes.reduce((best, _, j) => (Math.abs(X(j) - x) < Math.abs(X(best) - x) ? j : best), 0);
    return [i, Math.min(1, Math.max(0, y))];
  };
  box.addEventListener("pointerdown", (event) => { const [i, y] = where(event); held = [i, y]; box.setPointerCapture(event.pointerId); });
  box.addEventListener("pointermove", (event) => {
    if (!held) return;
    const y = where(event)[1];
    axes[held[0]].range = Math.abs(y - held[1]) < 0.02 ? null : [Math.min(y, held[1]), Math.max(y, held[1])];
    draw();
  });
  box.addEventListener("pointerup", () => { held = null; });
  clear.addEventListener("click", () => { axes.forEach((axis) => { axis.range = null; }); draw(); });
  keep(draw);
}

function membersSection(run, place) {
  const seeds = Object.keys(run.members);
  if (!seeds.length) return;
  const names = Object.keys(run.members[seeds[0]]);
  const grid = el("div", { class: "grid" });
  place.append(el("p", { class: "note" }, "A dot for each member; hover names its seed."), grid);
  for (const name of names) {
    const values = seeds.map((seed) => run.members[seed][name]).filter((v) => v !== null && v !== undefined);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const box = svg("svg", { role: "img", "aria-label": name, height: 44 });
    const figure = el("figure", {}, el("figcaption", {}, name), box);
    grid.append(figure);
    keep(() => {
      const width = Math.max(240, figure.clientWidth || 300);
      const X = (v) => 10 + ((high > low ? (v - low) / (high - low) : 0.5)) * (width - 20);
      box.setAttribute("width", width);
      box.replaceChildren(svg("line", { x1: 10, x2: width - 10, y1: 14, y2: 14, stroke: style("--line") }));
      seeds.forEach((seed) => {
        const dot = svg("circle", { cx: X(run.members[seed][name]), cy: 14, r: 5, fill: style("--bar"), opacity: 0.6 });
        dot.append(svg("title", {}, `seed ${seed}: ${short(run.members[seed][name])}`));
        box.append(dot);
      });
      box.append(svg("text", { x: 2, y: 38 }, short(low)));
      if (high > low) box.append(svg("text", { x: width - 2, y: 38, "text-anchor": "end" }, short(high)));
    });
  }
}
