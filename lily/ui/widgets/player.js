// The player: shows one result, props.value (see lily/ui/view.py), and steers a Transport and a
// Spectrum. Gradio runs this file, after files.js, wav.js, transport.js, spectrum.js,
// blind_test.js, blind_panel.js, results.js, library.js, takes.js, loop.js,
// shelf.js and keys.js, as a function body with `element`, `props`,
// `server`, `trigger` and `watch` in scope. Text is only ever set as text.

const EXPIRED = "This result has expired on the server; restore the recording again.";
const AWAY = "The server does not answer; try again in a moment.";
const STEP = 2; // seconds an arrow key moves

const find = (selector) => element.querySelector(selector);
const spectrum = new Spectrum(find("canvas"));
let shown = null; // the value on show: the page's, or one from the library
let transport = null;
let heard = null; // the key of the source that is chosen
let loads = 0;

const text = (seconds) => {
  const whole = Math.max(0, seconds);
  return `${Math.floor(whole / 60)}:${(whole % 60).toFixed(1).padStart(4, "0")}`;
};

function say(message) {
  find(".live").textContent = message;
}

function complain(message) {
  find(".error").textContent = message;
  find(".error").hidden = !message;
}

// Something could not be had: because it has expired, or because the server is away?
async function fail(error) {
  const mine = loads;
  const state = await stateOf(shown.sources[0].path);
  if (mine !== loads) return;
  if (state === 0) complain(AWAY);
  else if (state >= 400) complain(EXPIRED);
  else complain(`This cannot be played: ${error.message}`);
}

const sourceOf = (key) => shown.sources.find((one) => one.key === key);
const isTake = (key) => key === "off" || key === "on" || /^take/.test(key);
const primary = () => shown.sources.findLast((one) => isTake(one.key))?.key ?? "input";

// The gains that let `key` be heard. A take is the recording + highs, so recording * (1 - g) +
// take * g scales the generated band alone. An example brings its highs as a file of their own.
function levels(key) {
  const only = find(".highs-only").checked;
  const gain = isTake(key) ? 10 ** (Number(find(".gain").value) / 20) : 1;
  if (key === "input") return { input: only ? 0 : 1 };
  if (sourceOf(key).highs) return { input: only ? 0 : 1, [key]: gain };
  return { [key]: gain, input: only ? -gain : 1 - gain };
}

function listen(key) {
  heard = key;
  transport?.mix(levels(key));
  complain("");
  if (blind.test) return;
  spectrum.show(key);
  drawChunks();
  for (const button of find(".sources").children) {
    const chosen = button.dataset.key === key;
    button.setAttribute("aria-pressed", String(chosen));
    if (chosen) say(button.textContent);
  }
  takes.heard = key;
  takes.draw(key);
  drawSave();
}

function drawSave() {
  const key = isTake(heard) ? heard : primary();
  const mixed = Number(find(".gain").value) !== 0 || find(".highs-only").checked;
  const several = shown.sources.filter((one) => isTake(one.key)).length > 1;
  const label = several ? ` ${sourceOf(key).label.toLowerCase()}` : "";
  find(".download").textContent = `Download${label}${mixed ? " as heard" : ""}`;
  find(".save").hidden = !shown.run || !isTake(key);
  find(".share").hidden = !shown.share;
  find(".mix").hidden = !isTake(key) || Boolean(shown.growing);
}

function drawSources(sources) {
  find(".sources").replaceChildren(...sources.map((source, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = source.key;
    button.setAttribute("aria-keyshortcuts", String(index + 1));
    button.textContent = source.label;
    button.addEventListener("click", () => listen(source.key));
    return button;
  }));
  find(".last").textContent = String(sources.length);
}

function drawState() {
  if (!transport?.frames) return;
  const seconds = transport.position() / RATE;
  const total = transport.frames / RATE;
  find(".play").textContent = transport.playing ? "Pause" : "Play";
  find(".time").textContent = `${text(seconds)} of ${text(total)}`;
  const view = find(".view");
  view.setAttribute("aria-valuemax", total.toFixed(1));
  view.setAttribute("aria-valuenow", seconds.toFixed(1));
  view.setAttribute("aria-valuetext", text(seconds));
  spectrum.head = seconds;
  const looped = transport.loop;
  spectrum.loop = looped ? [looped.start / RATE, looped.stop / RATE] : null;
  loop.draw(transport.loop);
  takes.draw(heard);
  spectrum.draw();
}

function draw(value) {
  loop.reset();
  find(".title").textContent = value.title;
  find(".takes").hidden = true;
  document.body.dataset.lilyShown = value.growing ? "growing" : "";
  find(".badge").textContent = value.badge;
  find(".saving").textContent = "";
  find(".summary").textContent = value.summary;
  drawSources(value.sources);
  Object.assign(find(".gain"), { min: value.gain_db[0], max: value.gain_db[1], value: 0 });
  find(".gain-text").textContent = "0 dB";
  find(".highs-only").checked = false;
  fillSelect(find(".format"), value.formats.map((one) => [one.key, one.label]));
  blind.offer(value.growing ? [] : value.sources, isTake);
  drawFigures(element, value, address);
}

async function show(value) {
  loads += 1;
  const mine = loads; // what is fetched meanwhile may have been replaced when it is here
  transport?.close();
  transport = element.player = null;
  blind.end();
  find(".player").hidden = !value?.sources?.length;
  if (find(".player").hidden) return;
  shown = value;
  complain("");
  draw(value);
  const urls = value.sources.map((one) => [one.key, address(one.highs ?? one.path)]);
  const next = new Transport(Object.fromEntries(urls));
  next.onstate = drawState;
  next.onerror = fail;
  try {
    const opened = next.open();
    await spectrum.load(pictures(value), value);
    await opened;
    if (value.growing) next.grow(value.frames);
  } catch (error) {
    if (mine === loads) fail(error);
    return;
  }
  if (mine !== loads) {
    next.close();
    return;
  }
  transport = next;
  listen(primary());
  spectrum.draw();
  element.player = transport; // for those who measure: position() is the frame heard now
  element.spectrum = spectrum;
  drawState();
}

function load() {
  const { value } = props;
  if (value?.growing) {
    grow(value);
    return;
  }
  if (value?.run && value.run === shown?.run) return; // on show already
  if (value?.run && takes.take(value)) return;
  // Of several recordings, the next one does not interrupt what is playing.
  if (!(document.body.dataset.lilyQueue && transport?.playing && !shown?.growing)) replace(value);
  if (!value?.run) return;
  keep(value);
  window.dispatchEvent(new CustomEvent("lily-result", { detail: value }));
}

// An unfinished result: a longer file and a fuller picture, while what plays goes on.
async function grow(value) {
  if (!shown?.growing || shown.job !== value.job || !transport) {
    if (shown?.growing && shown.job === value.job) return; // still being opened
    if (!transport?.playing) await show(value);
    return;
  }
  if (value.growing === shown.growing) return;
  const moved = value.sources.some((one, i) => one.path !== shown.sources[i].path);
  if (moved) { // it has become a float file
    await replace(value);
    return;
  }
  shown = value;
  transport.grow(value.frames);
  await spectrum.refresh(pictures(value), value).catch(() => {}); // the next picture comes soon
}

// What was on show grew into `value`: it stays where it was and goes on playing.
async function replace(value) {
  const grown = shown?.growing && shown.job === value?.job && transport;
  const { playing, loop: looped } = transport ?? {};
  const highs = find(".highs-only").checked;
  const at = transport?.position() ?? 0;
  const key = heard;
  await show(value);
  if (!grown || !transport || shown !== value) return;
  if (value.sources.some((one) => one.key === key)) listen(key);
  if (looped) transport.setLoop(looped.start, looped.stop);
  if (highs) find(".highs-only").click();
  transport.seek(at);
  if (playing) transport.play().catch(fail);
}

const pictures = (value) => value.sources.map((one) => ({ ...one, spectrum: address(one.spectrum) }));

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
}

function toggle() {
  if (!transport) return;
  if (transport.playing) transport.pause();
  else transport.play().catch(fail);
}

async function download() {
  const key = isTake(heard) ? heard : primary();
  const asked = {
    run: sourceOf(key).result?.run ?? shown.run,
    take: sourceOf(key).result ? sourceOf(key).result.sources.at(-1).key : key,
    gain_db: Number(find(".gain").value),
    format: find(".format").value,
    highs_only: find(".highs-only").checked,
  };
  find(".saving").textContent = "Writing the file …";
  find(".download").disabled = true;
  try {
    const answer = await server.mix(asked);
    complain(answer.error ?? "");
    if (answer.path) save(address(answer.path), answer.name);
  } finally {
    find(".saving").textContent = "";
    find(".download").disabled = false;
  }
}

const library = new Library(storageOrNone());
const blind = new BlindPanel(element, { listen, say, save, about: () => shown });
const takes = new Takes(element, {
  value: () => shown,
  position: () => (transport?.position() ?? 0) / RATE,
  ask: (data) => trigger("edit", data),
  show: async (value, [start, stop]) => {
    await show(value);
    transport?.setLoop(start * RATE, stop * RATE);
  },
  kept: (value) => {
    keep(value);
    show(value);
  },
});
const loop = new Loop(find(".loop"), { transport: () => transport, text, say });
const shelf = new Shelf(find(".library"), library, {
  open: reopen,
  resume: (job) => trigger("retry", { job: job.job, name: job.name }),
});

function keep(value) {
  find(".forgetful").hidden = library.add(value);
}

async function reopen(entry) {
  const state = await stateOf(entry.value.sources[0].path);
  if (state === 200) {
    show(entry.value);
    find(".player").scrollIntoView({ block: "nearest" });
    return;
  }
  if (state === 0) {
    complain(AWAY);
    return;
  }
  library.remove(entry.value.run);
  complain(`${entry.value.name} has expired on the server and was taken off the list.`);
}

find(".play").addEventListener("click", toggle);
find(".highs-only").addEventListener("change", () => {
  transport?.mix(levels(heard));
  drawSave();
});
find(".gain").addEventListener("input", () => {
  const value = Number(find(".gain").value);
  find(".gain-text").textContent = `${value > 0 ? "+" : ""}${value} dB`;
  complain("");
  transport?.mix(levels(heard));
  drawSave();
});
find(".download").addEventListener("click", () => download().catch(fail));
find(".share").addEventListener("click", async () => {
  const link = new URL(shown.share, window.location.href).href;
  const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
  find(".saving").textContent = copied ? "Link copied. It lasts as long as the result is kept." : link;
});
find(".copy").addEventListener("click", () => {
  navigator.clipboard?.writeText(find(".command pre").textContent);
  say("Copied");
});
spectrum.onseek = (seconds) => transport?.seek(seconds * RATE);
spectrum.onloop = (start, stop) => loop.set(start, stop);
document.addEventListener("keydown", onKey);
// The chunk map is the time axis of what is being generated.
let progress = null;
function drawChunks() {
  if (!shown?.growing || shown.job !== progress?.job || !progress.rows.length) return;
  const { times, rows } = progress;
  const { cells } = rows[heard === "off" ? 0 : rows.length - 1];
  spectrum.chunks = times.map(([start, stop], i) => ({ start, stop, state: cells[i] }));
  spectrum.draw();
}
window.addEventListener("lily-progress", ({ detail }) => {
  progress = detail;
  drawChunks();
});
window.addEventListener("lily-show", ({ detail }) => {
  show(detail);
  find(".player").scrollIntoView({ block: "nearest" });
});
const drawing = setInterval(() => {
  if (!element.isConnected) {
    clearInterval(drawing);
    transport?.close();
  } else if (transport?.playing) drawState();
}, 40);
// The colours of the axis follow the theme.
new MutationObserver(() => spectrum.layout()).observe(document.body, { attributeFilter: ["class"] });
watch("value", load);
load();
shelf.draw();
