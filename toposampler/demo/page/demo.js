// The page: what is drawn goes to the server, what the server trains is shown.

import { color, css, dots, drawing, fresh } from "./draw.js";

const NAMES = { wgan_gp: "WGAN-GP", dmgan_pl: "DMGAN-PL", component_gan: "Component GAN" };
const $ = (selector, within = document) => within.querySelector(selector);
const lanes = new Map();
let limits = { least_points: 100, most_points: 5000, steps: 0 };
let race = 0, running = false, socket = null, real = null, trained = [];

const board = drawing(
  $("#board"),
  () => ({ spread: Number($("#spread").value), mass: Number($("#mass").value) }),
  () => limits.most_points,
  (points) => {
    const full = points.length === limits.most_points ? " (no more fit)" : "";
    $("#count").textContent = `${points.length.toLocaleString("en")} points${full}`;
  },
);

function say(text, fault = false) {
  $("#message").textContent = text;
  $("#message").classList.toggle("fault", fault);
}

function setRunning(on) {
  running = on;
  $("#train").textContent = on ? "Stop" : "Train";
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/race`);
  socket.addEventListener("message", (event) => hear(JSON.parse(event.data)));
  socket.addEventListener("close", () => {
    setRunning(false);
    $("#train").disabled = true;
    say("The server has ended. Start it again, then reload this page.", true);
  });
}

function hear(message) {
  if (message.type === "limits") {
    limits = message;
    $("#train").disabled = false;
    return;
  }
  if (message.type === "error" && (message.race === null || message.race === race)) {
    setRunning(false);
    say(message.message, true);
    return;
  }
  if (message.race !== race || !running) return;
  if (message.type === "data") {
    real = message;
    say(`Training. The drawing has ${counted(message.components)}.`);
  } else if (message.type === "frame") {
    const lane = lanes.get(message.system);
    lane.frame = message;
    show(lane);
  } else if (message.type === "done") {
    setRunning(false);
    say(`Done. The drawing has ${counted(real.components)}.`);
  }
}

function counted(components) {
  return `${components} component${components === 1 ? "" : "s"}`;
}

function start() {
  const systems = [...document.querySelectorAll("#systems input:checked")].map((input) => input.value);
  if (systems.length === 0) {
    say("Choose at least one system.", true);
    return;
  }
  race += 1;
  trained = board.points();
  setRunning(true);
  say("Reading the drawing.");
  lanes.clear();
  $("#lanes").replaceChildren(...systems.map((system) => {
    const card = $("#lane").content.firstElementChild.cloneNode(true);
    card.dataset.system = system;
    $("h2", card).textContent = NAMES[system];
    lanes.set(system, { card, frame: null });
    return card;
  }));
  for (const { card } of lanes.values()) backdrop(card);
  socket.send(JSON.stringify({ type: "start", race, points: trained, systems }));
}

function backdrop(card) {
  const surface = fresh($(".samples", card)), shade = css("--real");
  dots(surface, trained.slice(0, 2000), 1.2, () => shade);
  return surface;
}

function show({ card, frame }) {
  if (frame === null) {
    backdrop(card);
    return;
  }
  dots(backdrop(card), frame.samples, 1.8, (i) => color(frame.generators[i]));
  $(".components", card).textContent = counted(frame.components);
  $(".off", card).textContent = `${(100 * frame.off_the_data).toFixed(1)} % off the data`;
  const step = frame.step.toLocaleString("en"), steps = limits.steps.toLocaleString("en");
  $(".progress", card).textContent = `step ${step} of ${steps}, ${frame.seconds.toFixed(1)} s`;
  masses($(".prior", card), frame.prior ?? [1]);
  bars($(".bars", card), frame.bars);
}

function masses(canvas, prior) {
  const { context, width, height } = fresh(canvas), room = height - 18, gap = width / prior.length;
  const most = Math.max(0.25, ...prior);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  prior.forEach((mass, k) => {
    const bar = Math.min(gap - 2, 36), x = (k + 0.5) * gap;
    context.fillStyle = color(k);
    context.fillRect(x - bar / 2, room * (1 - mass / most), bar, room * mass / most + 1);
    context.fillStyle = css("--soft");
    if (prior.length <= 12) context.fillText(mass < 0.005 ? "0" : mass.toFixed(2).replace(/^0/, ""), x, height - 3);
  });
}

function bars(canvas, generated) {
  const { context, width, height } = fresh(canvas), half = height / 2;
  const longest = Math.max(...real.bars, ...generated, 1e-9);
  [[real.bars, css("--soft")], [generated, css("--accent")]].forEach(([lengths, shade], i) => {
    context.fillStyle = shade;
    const thick = (half - 6) / 12;
    lengths.forEach((length, k) => {
      context.fillRect(0, i * half + 2 + k * thick, Math.max(1, width * length / longest), Math.max(1, thick - 1));
    });
  });
}

function redraw() {
  board.show();
  for (const lane of lanes.values()) show(lane);
}

$("#train").addEventListener("click", () => {
  if (!running) {
    start();
    return;
  }
  socket.send(JSON.stringify({ type: "stop" }));
  setRunning(false);
  say("Stopped.");
});
$("#clear").addEventListener("click", board.clear);
for (const button of document.querySelectorAll("[data-preset]")) {
  button.addEventListener("click", () => board.preset(button.dataset.preset));
}
window.addEventListener("resize", redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
board.clear();
connect();
