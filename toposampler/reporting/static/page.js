"use strict";
// Puts the parts of the page together.
const runs = JSON.parse(document.getElementById("data").textContent);
const PLAYED_MS = 220, SHOWN = 6, NAMED = 12;
const AXES = { "generator steps": "steps", "seconds of training": "seconds", "real samples seen": "samples" };
const followers = [];

function playSection() {
  const played = runs.filter((run) => run.film && run.film.steps.length);
  if (!played.length) return;
  const place = document.getElementById("play");
  const steps = [...new Set(played.flatMap((run) => run.film.steps))].sort((a, b) => a - b);
  const slider = el("input", { type: "range", min: 0, max: steps.length - 1, value: steps.length - 1, "aria-label": "step of the training" });
  const said = el("output");
  const button = el("button", { type: "button" }, "play");
  place.append(el("h2", {}, "Over the training"), el("div", { class: "controls" }, button, slider, said));
  const shown = [];
  const grid = el("div", { class: played.length > 1 ? "grid" : "" });
  for (const run of played) {
    const film = run.film.kind === "points" ? pointsFilm(run.film, run.makers) : imagesFilm(run.film);
    const parts = [film, priorBars(run), run.film.kind === "points" ? barcode(run.film) : null].filter(Boolean);
    shown.push(...parts);
    const side = el("div", { class: "side" }, ...parts.slice(1).map((part) => part.node), film.real || "");
    const whole = el("div", { class: played.length > 1 ? "" : "two" }, film.node, side);
    grid.append(played.length > 1 ? el("div", {}, el("h3", {}, run.label), whole) : whole);
  }
  place.append(grid);
  const show = () => {
    const step = steps[Number(slider.value)];
    said.textContent = `step ${step.toLocaleString("en")}`;
    shown.forEach((part) => part.show(step));
    followers.forEach((follow) => follow(step));
  };
  slider.addEventListener("input", show);
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "play"; };
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (Number(slider.value) >= steps.length - 1) slider.value = 0;
    button.textContent = "pause";
    timer = setInterval(() => {
      if (Number(slider.value) >= steps.length - 1) { stop(); return; }
      slider.value = Number(slider.value) + 1;
      show();
    }, PLAYED_MS);
  });
  redraws.push(show);
  return show;
}

function curvesSection() {
  const place = document.getElementById("curves");
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
  const evals = names.filter((name) => name.startsWith("eval/") && name !== "eval/components_found_real");
  const active = names.filter((name) => name === "active_generators"); // of several seeds, in the mean
  const losses = names.filter((name) => !name.startsWith("eval/") && !name.startsWith("mass/") && !active.includes(name));
  if (!names.length) return;
  let axis = "generator steps";
  const select = el("select", { "aria-label": "horizontal axis" }, ...Object.keys(AXES).map((name) => el("option", {}, name)));
  place.append(el("h2", {}, "Metrics and losses"), el("label", { class: "note" }, "over ", select));
  const charts = [];
  const line = (run, name, label, shade) => ({
    name: label,
    color: shade,
    get xs() { return [...run[AXES[axis]], ...(name in run.final ? [run[AXES[axis]][run[AXES[axis]].length - 1]] : [])]; },
    get ys() { return [...(run.curves[name] || []), ...(name in run.final ? [run.final[name]] : [])]; },
  });
  const add = (grid, caption, series) => {
    const one = chart(caption, series, () => axis);
    charts.push(one);
    grid.append(one.node);
  };
  const section = (title, all, draw) => {
    if (!all.length) return;
    const grid = el("div", { class: "grid" });
    place.append(el("h3", {}, title), grid);
    all.slice(0, SHOWN).forEach((name) => draw(grid, name));
    if (all.length <= SHOWN) return;
    const rest = el("div", { class: "grid" });
    const more = el("details", {}, el("summary", {}, `${all.length - SHOWN} more`), rest);
    more.addEventListener("toggle", redraw);
    place.append(more);
    all.slice(SHOWN).forEach((name) => draw(rest, name));
  };
  const each = (grid, name) => add(grid, name.replace(/^eval\//, ""),
    runs.filter((run) => run.curves[name]).map((run) => line(run, name, run.label, () => color(runs.indexOf(run)))));
  section("Metrics; the last point is of all samples", evals, each);
  section("Losses", losses, each);
  section("Active generators, in the mean of the members", active, each);
  if (runs.length === 1) {
    const run = runs[0];
    const masses = names.filter((name) => name.startsWith("mass/"));
    const last = (name) => run.curves[name][run.curves[name].length - 1] || 0;
    const most = [...masses].sort((a, b) => last(b) - last(a)).slice(0, NAMED);
    if (masses.length > 1) {
      section("Prior", ["prior"], (grid) => add(grid, `r(c) of ${most.length} generators`,
        most.map((name) => line(run, name, name.slice(5), () => color(Number(name.slice(5)))))));
    }
  }
  keep(() => charts.forEach((one) => one.draw()));
  let now = null;
  const follow = (step) => {
    now = step;
    const run = runs[0];
    const at = run.steps.length ? nearestAt(run.steps, step) : 0;
    const x = axis === "generator steps" ? step : runs.length > 1 ? null : run[AXES[axis]][at];
    charts.forEach((one) => one.mark(x));
  };
  followers.push(follow);
  select.addEventListener("change", () => { axis = select.value; charts.forEach((one) => one.draw()); if (now !== null) follow(now); });
}

curvesSection();
const show = playSection();
if (runs.length === 1) {
  const [run] = runs;
  const places = { tear: tearSection, nearest: nearestSection, trials: parallel, members: membersSection };
  for (const [id, draw] of Object.entries(places)) {
    const place = document.getElementById(id);
    if (place) draw(run, place);
  }
}
redraws.forEach((draw) => draw());
if (show) show();
