// Draws the chunk map from props.value (see lily/ui/progress.py). Gradio runs this file, after
// library.js, as a function body with `element`, `props`, `server` and `watch` in scope. Cells are updated in place, so that
// an hour's seven hundred chunks cost little, and text is only ever set as text.

const WAITING = 0;
const DONE = -1;
const LARGE_UP_TO = 24; // cells that still have room for a number
const MEDIUM_UP_TO = 120;

const find = (name) => element.querySelector(`.${name}`);
const library = new Library(storageOrNone());
let received = performance.now(); // when the value that is on show arrived
let asked = received; // when the server was last asked whether it is there

let placed = 0; // when the server was last asked for the place in its queue

const PLACE_MS = 1500; // between these questions
const SILENCE_MS = 5000; // without news of a run, after which the server is asked
const LOST = "The server does not answer. Finished chunks are kept there; this page keeps trying.";

const pad = (number) => String(number).padStart(2, "0");

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const tail = `${hours ? pad(minutes) : minutes}:${pad(whole % 60)}`;
  return hours ? `${hours}:${tail}` : tail;
}

// As lily/ui/estimate.py's TimeLeft.shown(): counts down to the next sign of life; where that is
// late, all that follows takes longer.
function secondsLeft({ remaining, next, known }, since) {
  if (since <= next) return remaining - since;
  return (remaining - next) * (1 + (since - next) / Math.max(known, 1));
}

function drawClock() {
  const value = props.value;
  if (!value || value.phase === "idle") {
    find("clock").textContent = "";
    return;
  }
  const since = value.running ? (performance.now() - received) / 1000 : 0;
  const left = value.running && typeof value.remaining === "number";
  const elapsed = clock(value.elapsed + since);
  find("clock").textContent = left ? `about ${clock(Math.max(1, secondsLeft(value, since)))} left`
    : `${elapsed}${value.running ? " so far" : ""}`;
}

function drawBar(value) {
  const known = typeof value.fraction === "number";
  const percent = known ? Math.round(100 * Math.min(1, Math.max(0, value.fraction))) : 0;
  const bar = find("bar");
  element.dataset.phase = value.phase;
  element.dataset.busy = String(Boolean(value.running) && !known);
  document.body.dataset.lilyRun = value.running ? "running" : value.phase; // the player looks at it
  find("fill").style.width = known ? `${percent}%` : "";
  if (known) bar.setAttribute("aria-valuenow", String(percent));
  else bar.removeAttribute("aria-valuenow"); // indeterminate
}

// A run that gives no news: is it slow, or is the server gone?
async function lookForServer() {
  const now = performance.now();
  if (!props.value?.running || now - Math.max(received, asked) < SILENCE_MS) return;
  asked = now;
  const root = (window.gradio_config?.root ?? "").replace(/\/$/, "");
  const there = await fetch(`${root}/gradio_api/app_id`, { cache: "no-store" })
    .then((answer) => answer.ok, () => false);
  if (now < received || !props.value?.running) return;
  if (there) {
    if (element.dataset.phase === "lost") draw();
    return;
  }
  element.dataset.phase = document.body.dataset.lilyRun = "lost";
  find("text").textContent = find("live").textContent = LOST;
  find("clock").textContent = "";
}

// A run that waits for others: how many, and for how long?
async function lookAtQueue() {
  const { running, phase, visitor } = props.value ?? {};
  const now = performance.now();
  if (!running || phase !== "waiting" || !visitor || now - placed < PLACE_MS) return;
  placed = now;
  const { text } = await server.look({ visitor }).catch(() => ({}));
  if (!text || props.value?.phase !== "waiting" || element.dataset.phase === "lost") return;
  find("text").textContent = text;
  const spoken = text.split(/[,;]/)[0]; // the number is spoken, the seconds are not
  if (find("live").textContent !== spoken) find("live").textContent = spoken;
}

function makeRow() {
  const row = document.createElement("div");
  row.className = "row";
  row.innerHTML = '<div class="row-label"><b></b><span></span></div>'
    + '<div class="cells" aria-hidden="true"></div>';
  return row;
}

function drawCell(cell, state, index, steps, span, large) {
  const name = state === DONE ? "done" : state === WAITING ? "waiting" : "sampling";
  const step = state > 0 ? `, step ${state} of ${steps}` : "";
  const time = span ? ` (${clock(span[0])} to ${clock(span[1])})` : "";
  cell.dataset.state = name;
  cell.dataset.step = String(Math.max(0, state));
  cell.title = `Chunk ${index + 1}${time}: ${name}${step}`;
  cell.textContent = large ? (state > 0 ? `${state}/${steps}` : String(index + 1)) : "";
  cell.style.setProperty("--share", state > 0 ? `${(100 * state) / steps}%` : "0%");
}

function drawRow(row, data, times, alone) {
  const count = data.cells.length;
  const size = count <= LARGE_UP_TO ? "large" : count <= MEDIUM_UP_TO ? "medium" : "small";
  const cells = row.querySelector(".cells");
  cells.dataset.size = size;
  while (cells.children.length > count) cells.lastChild.remove();
  while (cells.children.length < count) {
    const cell = document.createElement("span");
    cell.className = "cell";
    cells.append(cell);
  }
  data.cells.forEach((state, index) => {
    const cell = cells.children[index];
    const mark = `${state}/${data.steps}/${count}`;
    if (cell.dataset.mark === mark) return;
    cell.dataset.mark = mark;
    drawCell(cell, state, index, data.steps, times[index], size === "large");
  });
  const done = data.cells.filter((state) => state === DONE).length;
  row.querySelector(".row-label").hidden = alone; // the sentence above says the same
  row.querySelector("b").textContent = data.label;
  row.querySelector("span").textContent = `${done} of ${count} chunks done`;
}

function draw() {
  const value = props.value;
  if (!value || !Array.isArray(value.rows)) return;
  received = performance.now();
  library.follow(value);
  window.dispatchEvent(new CustomEvent("lily-progress", { detail: value }));
  document.body.dataset.lilyJob = value.running ? value.job : "";
  find("text").textContent = value.text;
  const spoken = String(value.text).split(";")[0]; // chunks are spoken, single steps are not
  if (find("live").textContent !== spoken) find("live").textContent = spoken;
  drawBar(value);
  drawClock();
  const rows = find("rows");
  while (rows.children.length > value.rows.length) rows.lastChild.remove();
  while (rows.children.length < value.rows.length) rows.append(makeRow());
  value.rows.forEach((data, index) => drawRow(
    rows.children[index], data, value.times, value.rows.length === 1,
  ));
}

const ticking = setInterval(() => {
  if (!element.isConnected) clearInterval(ticking);
  else if (element.dataset.phase !== "lost") drawClock();
  lookForServer();
  lookAtQueue();
}, 1000);
watch("value", draw);
draw();

// Restore and Stop grey each other, and a greyed button loses the focus: one that was pressed by key
// hands it to the other.
let pressed = null; // its id

function notePress(event) {
  const button = event.target.closest?.("#restore, #stop");
  if (button) pressed = event.detail === 0 ? button.id : null;
}

const greying = new MutationObserver(() => {
  if (!element.isConnected) {
    document.removeEventListener("click", notePress, true);
    greying.disconnect();
    return;
  }
  const from = pressed && document.getElementById(pressed);
  const to = document.getElementById(pressed === "stop" ? "restore" : "stop");
  if (!from?.disabled || !to || to.disabled) return;
  pressed = null;
  if ([document.body, from].includes(document.activeElement)) to.focus();
});
document.addEventListener("click", notePress, true);
greying.observe(document.body, { subtree: true, attributeFilter: ["disabled"] });
