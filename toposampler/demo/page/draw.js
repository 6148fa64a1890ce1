// The drawing: points from a brush or a preset, in a square from -1 to 1, y up.

const COLORS = ["#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#B8A800", "#8C6BB1", "#A65628", "#7F7F7F"];

export function color(generator) {
  return COLORS[generator % COLORS.length];
}

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A canvas as sharp as its screen, cleared: its context, in CSS pixels, with its width and height.
export function fresh(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

export function dots({ context, width, height }, points, radius, paint) {
  points.forEach(([x, y], i) => {
    context.fillStyle = paint(i);
    context.beginPath();
    context.arc((x + 1) / 2 * width, (1 - y) / 2 * height, radius, 0, 2 * Math.PI);
    context.fill();
  });
}

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function around(x, y, spread) {
  const kept = (value) => Math.max(-1, Math.min(1, Math.round(value * 1000) / 1000));
  return [kept(x + spread * normal()), kept(y + spread * normal())];
}

function many(n, place, spread) {
  return Array.from({ length: n }, (_, i) => around(...place(i), spread));
}

const PRESETS = {
  blobs: () => [...many(600, () => [-0.55, -0.3], 0.12), ...many(600, () => [0.55, 0.35], 0.12)],
  ring: () => many(1600, () => {
    const k = Math.floor(8 * Math.random()), angle = k * Math.PI / 4;
    return [0.75 * Math.cos(angle), 0.75 * Math.sin(angle)];
  }, 0.05),
  lines: () => [-0.6, 0, 0.6].flatMap((y) => many(500, () => [1.5 * Math.random() - 0.75, y], 0.02)),
  unequal: () => [...many(1050, () => [-0.55, -0.4], 0.12), ...many(360, () => [0.55, -0.3], 0.09),
    ...many(90, () => [0.1, 0.65], 0.06)],
};

export function drawing(board, brush, most, changed) {
  let points = [], pressed = null;

  function show() {
    const surface = fresh(board);
    const shade = css("--text");
    dots(surface, points, 1.6, () => shade);
    if (points.length === 0) {
      surface.context.font = "15px system-ui, sans-serif";
      surface.context.textAlign = "center";
      surface.context.fillStyle = css("--soft");
      surface.context.fillText("Press and move here to draw", surface.width / 2, surface.height / 2);
    }
  }
  function set(next) {
    points = next.slice(0, most());
    show();
    changed(points);
  }
  function spray() {
    if (pressed === null) return;
    set([...points, ...many(brush().mass, () => pressed, brush().spread)]);
  }
  function place(event) {
    const box = board.getBoundingClientRect();
    return [2 * (event.clientX - box.left) / box.width - 1, 1 - 2 * (event.clientY - box.top) / box.height];
  }
  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    pressed = place(event);
    spray();
  });
  board.addEventListener("pointermove", (event) => {
    if (pressed === null) return;
    pressed = place(event);
    spray();
  });
  for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, () => { pressed = null; });
  setInterval(spray, 50);
  return { show, clear: () => set([]), preset: (name) => set(PRESETS[name]()), points: () => points };
}
