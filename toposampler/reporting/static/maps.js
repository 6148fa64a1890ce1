"use strict";
// The latent space of each generator, samples between components, images beside their nearest real ones.
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];  // matplotlib's

// A share from 0 to 1 as a color, from purple to yellow.
function shade(share) {
  const at = share * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[k].map((from, i) => Math.round(from + (at - k) * (VIRIDIS[k + 1][i] - from))).join(" ")})`;
}

function map(one, kind) {
  const side = one.side, canvas = el("canvas", { class: "pixels", role: "img", "aria-label": `${kind} of generator ${one.generator}` });
  canvas.width = canvas.height = side;
  const components = bytes(one.components, Uint8Array), stretch = bytes(one.stretch, Float32Array);
  const logs = Array.from(stretch, (s) => Math.log10(Math.max(s, 1e-6)));
  const ordered = [...stretch].sort((a, b) => a - b);
  const low = Math.min(...logs), high = Math.max(...logs);
  keep(() => {
    const pen = canvas.getContext("2d");
    for (let i = 0; i < side * side; i++) {
      const share = (logs[i] - low) / (high - low || 1);
      pen.fillStyle = kind === "component" ? color(components[i])
        : shade(share);
      pen.fillRect(i % side, side - 1 - Math.floor(i / side), 1, 1);
    }
  });
  const reached = [...new Set(components)].sort((a, b) => a - b);
  const caption = kind === "component" ? `generator ${one.generator}: component ${reached.slice(0, 6).join(", ")}`
    : `generator ${one.generator}: stretch ${short(ordered[0])} to ${short(ordered[ordered.length - 1])}, median ${short(ordered[ordered.length >> 1])}`;
  return el("figure", {}, el("figcaption", {}, caption), canvas);
}

function tearSection(run, place) {
  const maps = run.tear ? run.tear.maps : [];
  const film = run.film;
  const between = film && film.kind === "points" ? bytes(film.between_ids, Uint16Array) : [];
  if (!maps.length && !between.length) return;
  place.append(el("h2", {}, "Tear map"));
  if (maps.length) {
    const rest = run.tear.dim > 2 ? `, the other ${run.tear.dim - 2} are 0` : "";
    const count = run.components.length;
    place.append(el("p", { class: "note" }, `Each square is the latent space of a generator: z1 from left to right and z2 from `
      + `below to above, each from ${-run.tear.reach} to ${run.tear.reach}${rest}. Stretch is |ΔG| / |Δz| from a cell to the next, `
      + "in the units of training, on a logarithmic scale. A seam of large stretch between two components is where the generator tears."));
    if (count > 1) {
      const shades = el("div");
      keep(() => shades.replaceChildren(legend(run.components.slice(0, 12).map((_, m) => [`component ${m}`, color(m)]))));
      const torn = maps.filter((one) => new Set(bytes(one.components, Uint8Array)).size > 1);
      place.append(el("h3", {}, "Component reached"));
      if (torn.length < maps.length) {
        const whole = maps.filter((one) => !torn.includes(one)).map((one) => one.generator).join(", ");
        place.append(el("p", {}, `One component alone is reached by generators ${whole}: their latent spaces are whole.`));
      }
      if (torn.length) place.append(shades, el("div", { class: "grid maps" }, ...torn.map((one) => map(one, "component"))));
    }
    place.append(el("h3", {}, "Stretch (purple: small, yellow: large)"), el("div", { class: "grid maps" }, ...maps.map((one) => map(one, "stretch"))));
  }
  if (between.length) {
    const xy = bytes(film.between, Uint16Array);
    const view = scatter(film, () => ({ xy, ids: between }));
    place.append(el("h3", {}, `Samples between components: ${between.length} of ${run.evaluated.toLocaleString("en")}, by generator`), view.node);
    keep(view.draw);
  }
}

function nearestSection(run, place) {
  if (!run.nearest || !run.nearest.length) return;
  place.append(el("h3", {}, "Samples (above) and their nearest real images (below)"));
  place.append(el("div", { class: "grid" }, ...run.nearest.map((one) =>
    el("figure", {}, el("figcaption", {}, `generator ${one.generator}`), pixels(one)))));
}
