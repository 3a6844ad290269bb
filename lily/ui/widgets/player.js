// The comparing player: draws props.value (see lily/ui/comparing.py) and steers a Transport. Gradio
// runs this file, after wav.js, transport.js and blind_test.js, as a function body with `element`,
// `props`, `server` and `watch` in scope. Text is only ever set as text.

const STEP = 2; // seconds an arrow key moves
const SHORTEST_LOOP = 0.1; // seconds

const find = (selector) => element.querySelector(selector);
let transport = null;
let heard = null; // the key of the source that is chosen
let test = null;
let letter = null;
let loopStart = null;
let loads = 0;

const text = (seconds) => {
  const whole = Math.max(0, seconds);
  return `${Math.floor(whole / 60)}:${(whole % 60).toFixed(1).padStart(4, "0")}`;
};

function address(path) {
  const root = (window.gradio_config?.root ?? "").replace(/\/$/, "");
  return `${root}/gradio_api/file=${path.split("/").map(encodeURIComponent).join("/")}`;
}

function say(message) {
  find(".live").textContent = message;
}

function fail(error) {
  find(".error").textContent = `The recordings cannot be played: ${error.message}`;
  find(".error").hidden = false;
}

function isTake(key) {
  return key === "off" || key === "on";
}

// The gains that let `key` be heard. A take is low + highs, so low * (1 - g) + take * g scales the
// generated band alone, and take - low is that band.
function levels(key) {
  const gain = 10 ** (Number(find(".gain").value) / 20);
  const made = isTake(key);
  const g = made ? gain : 1;
  const low = find(".highs-only").checked ? -g : made ? 1 - g : 0;
  return { [key]: g, low };
}

function listen(key) {
  heard = key;
  transport?.mix(levels(key));
  find(".download").disabled = Boolean(test) || !isTake(key);
  find(".error").hidden = true; // of a download at another mix
  if (test) return;
  for (const button of find(".sources").children) {
    const chosen = button.dataset.key === key;
    button.setAttribute("aria-pressed", String(chosen));
    if (chosen) say(button.dataset.label);
  }
}

function drawSources(sources) {
  find(".sources").replaceChildren(...sources.map((source, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = source.key;
    button.dataset.label = source.label;
    button.setAttribute("aria-keyshortcuts", String(index + 1));
    button.textContent = source.label;
    button.addEventListener("click", () => listen(source.key));
    return button;
  }));
  find(".last").textContent = String(sources.length);
}

function drawStrip(value) {
  const strip = find(".strip");
  strip.replaceChildren(...value.chunks.map((chunk, index) => {
    const cell = document.createElement("span");
    const [least, most] = value.scale_db; // drawn empty and full
    const share = (chunk.difference_db - least) / (most - least);
    cell.className = "chunk";
    cell.dataset.index = String(index);
    cell.style.left = `${(100 * chunk.start) / value.seconds}%`;
    cell.style.width = `${(100 * (chunk.stop - chunk.start)) / value.seconds}%`;
    cell.style.setProperty("--share", `${100 * Math.min(1, Math.max(0, share))}%`);
    cell.title = `Chunk ${index + 1}, from ${text(chunk.start)}: on differs from off by `
      + `${chunk.difference_db} dB of the generated band. Click to listen.`;
    cell.addEventListener("click", () => transport?.seek(chunk.start * RATE));
    return cell;
  }));
  const widest = value.chunks.reduce((a, b) => (b.difference_db > a.difference_db ? b : a));
  strip.setAttribute("aria-label", `Difference between on and off in ${value.chunks.length} `
    + `chunks, most at ${text(widest.start)}: ${widest.difference_db} dB of the generated band`);
}

function drawState() {
  if (!transport?.frames) return;
  const seconds = transport.position() / RATE;
  const total = transport.frames / RATE;
  find(".play").textContent = transport.playing ? "Pause" : "Play";
  find(".time").textContent = `${text(seconds)} of ${text(total)}`;
  if (document.activeElement !== find(".seek") || transport.playing) find(".seek").value = seconds;
  find(".seek").setAttribute("aria-valuetext", text(seconds));
  find(".head").style.left = `${(100 * seconds) / total}%`;
  const region = find(".region");
  region.hidden = !transport.loop;
  find(".clear").disabled = !transport.loop;
  if (transport.loop) {
    region.style.left = `${(100 * transport.loop.start) / transport.frames}%`;
    const width = transport.loop.stop - transport.loop.start;
    region.style.width = `${(100 * width) / transport.frames}%`;
  }
}

async function load() {
  const value = props.value;
  loads += 1;
  const mine = loads; // what is fetched meanwhile may have been replaced when it is here
  loopStart = null;
  transport?.close();
  transport = null;
  endTest();
  if (!value || !Array.isArray(value.sources) || !value.sources.length) return;
  find(".error").hidden = true;
  drawSources(value.sources);
  drawStrip(value);
  Object.assign(find(".gain"), { min: value.gain_db[0], max: value.gain_db[1], value: 0 });
  find(".gain-text").textContent = "0 dB";
  find(".highs-only").checked = false;
  fillSelect(find(".format"), value.formats.map((one) => [one.key, one.label]));
  fillSelect(find(".pair"), pairs(value.sources));
  Object.assign(find(".trials"), { min: LEAST_TRIALS, max: MOST_TRIALS });
  const paths = [...value.sources.map((one) => [one.key, one.path]), ["low", value.low]];
  const next = new Transport(
    Object.fromEntries(paths.map(([key, path]) => [key, address(path)])),
  );
  next.onstate = drawState;
  next.onerror = fail;
  try {
    await next.open();
  } catch (error) {
    if (mine === loads) fail(error);
    return;
  }
  if (mine !== loads) {
    next.close();
    return;
  }
  transport = next;
  find(".seek").max = transport.frames / RATE;
  listen(value.sources.at(-1).key === "reference" ? "on" : value.sources.at(-1).key);
  element.player = transport; // for those who measure: position() is the frame heard now
  drawState();
}

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
}

function pairs(sources) {
  const keys = sources.filter((one) => one.key !== "input");
  const found = [];
  keys.forEach((a, i) => keys.slice(i + 1).forEach((b) => {
    found.push([`${a.key} ${b.key}`, `${a.label} and ${b.label}`.toLowerCase()]);
  }));
  return found;
}

function toggle() {
  if (!transport) return;
  if (transport.playing) transport.pause();
  else transport.play().catch(fail);
}

function endLoop() {
  const stop = transport.position();
  if (loopStart === null || stop - loopStart < SHORTEST_LOOP * RATE) return;
  transport.setLoop(loopStart, stop);
  say("Looping");
}

async function download() {
  const asked = {
    run: props.value.run,
    take: heard,
    gain_db: Number(find(".gain").value),
    format: find(".format").value,
    highs_only: find(".highs-only").checked,
  };
  const answer = await server.mix(asked);
  find(".error").textContent = answer.error ?? "";
  find(".error").hidden = !answer.error;
  if (answer.path) save(address(answer.path), answer.name);
}

function save(href, name) {
  const link = document.createElement("a");
  Object.assign(link, { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

function startTest() {
  test = new BlindTest(find(".pair").value.split(" "), Number(find(".trials").value));
  element.dataset.testing = "true"; // hides what would give X away
  find(".verdict").hidden = true;
  nextTrial();
}

function nextTrial() {
  if (test.finished) {
    verdict(test.result());
    return;
  }
  find(".setup").hidden = true;
  find(".trial").hidden = false;
  find(".count").textContent = `Trial ${test.answers.length + 1} of ${test.trials}: is X the same as A or B?`;
  say(find(".count").textContent);
  hear("X");
}

function hear(which) {
  letter = which;
  listen(test.source(which));
  for (const button of find(".letters").children) {
    button.setAttribute("aria-pressed", String(button.dataset.letter === letter));
  }
}

function verdict(result) {
  endTest();
  find(".verdict").hidden = false;
  const p = result.p_value < 0.001 ? result.p_value.toExponential(1) : result.p_value.toFixed(3);
  find(".verdict .text").textContent = `${result.right} of ${result.trials} right; guessing does `
    + `at least as well with probability p = ${p}. `
    + (result.p_value < 0.05 ? "You hear a difference." : "This does not show that you hear one.");
  find(".answers").replaceChildren(...result.answers.map((one) => {
    const item = document.createElement("li");
    item.textContent = `X was ${one.x}, you said ${one.answer}`;
    return item;
  }));
  find(".verdict .text").dataset.p = String(result.p_value);
  find(".keep").onclick = () => {
    const told = { ...result, recording: props.value.name, seed: props.value.seed };
    const blob = new Blob([JSON.stringify(told, null, 2)], { type: "application/json" });
    const link = URL.createObjectURL(blob);
    save(link, `${props.value.name}.abx.json`);
    setTimeout(() => URL.revokeObjectURL(link), 10_000);
  };
  say(find(".verdict .text").textContent);
}

function endTest() {
  const before = test?.pair?.[1];
  test = null;
  delete element.dataset.testing;
  find(".setup").hidden = false;
  find(".trial").hidden = true;
  if (before) listen(before);
}

function onKey(event) {
  if (!element.isConnected) {
    document.removeEventListener("keydown", onKey);
    return;
  }
  const typing = event.target.closest?.("input:not(.seek):not([type=checkbox]), textarea, select");
  const inside = event.target === document.body || element.contains(event.target);
  if (!transport || typing || !inside || event.ctrlKey || event.metaKey || event.altKey) return;
  const pressable = event.target.closest?.("button, summary, input[type=checkbox]");
  const number = Number(event.key);
  if (event.key === " " && !pressable) toggle();
  else if (event.key === "ArrowLeft") transport.seek(transport.position() - STEP * RATE);
  else if (event.key === "ArrowRight") transport.seek(transport.position() + STEP * RATE);
  else if (test && number >= 1 && number <= 3) hear("ABX"[number - 1]);
  else if (!test && number >= 1 && number <= props.value.sources.length) {
    listen(props.value.sources[number - 1].key);
  } else return;
  event.preventDefault();
}

find(".play").addEventListener("click", toggle);
find(".seek").addEventListener("input", () => transport?.seek(find(".seek").value * RATE));
find(".from").addEventListener("click", () => {
  loopStart = transport.position();
  say(`Loop from ${text(loopStart / RATE)}`);
});
find(".to").addEventListener("click", endLoop);
find(".clear").addEventListener("click", () => transport.setLoop(null));
find(".highs-only").addEventListener("change", () => transport?.mix(levels(heard)));
find(".gain").addEventListener("input", () => {
  const value = Number(find(".gain").value);
  find(".gain-text").textContent = `${value > 0 ? "+" : ""}${value} dB`;
  find(".error").hidden = true;
  transport?.mix(levels(heard));
});
find(".download").addEventListener("click", () => download().catch(fail));
find(".start").addEventListener("click", startTest);
find(".abandon").addEventListener("click", endTest);
for (const button of element.querySelectorAll(".letters button")) {
  button.addEventListener("click", () => hear(button.dataset.letter));
}
for (const button of element.querySelectorAll(".answer")) {
  button.addEventListener("click", () => {
    test.answer(button.dataset.letter);
    nextTrial();
  });
}
document.addEventListener("keydown", onKey);
const drawing = setInterval(() => {
  if (!element.isConnected) {
    clearInterval(drawing);
    transport?.close();
  } else if (transport?.playing) drawState();
}, 50);
watch("value", load);
load();
