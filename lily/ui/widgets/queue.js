// Restores several recordings, one after the other: a row and a bar each, one ZIP at the end. Gradio
// runs this file, after files.js, as a function body with `element`, `server`, `trigger` in scope.
// A row is {file, name, state, share, text, path, value}; the server gets one row at a time, so that
// other visitors have their turn in between, and a recording that is refused ends its row alone.

const find = (selector) => element.querySelector(selector);
const ENDED = ["done", "failed", "stopped"];
let rows = [];
let current = null; // the row that the server works on
let begun = false; // whether its own progress has been seen

const plural = (count) => `${count} recording${count === 1 ? "" : "s"}`;

function set(row, changes) {
  Object.assign(row, changes);
  if (ENDED.includes(changes.state)) find(".live").textContent = `${row.name}: ${row.text}`;
  draw();
}

function drawRow(item, row) {
  item.dataset.state = row.state;
  item.querySelector(".file").textContent = row.name;
  item.querySelector(".text").textContent = row.text;
  const percent = Math.round(100 * row.share);
  item.querySelector(".fill").style.width = `${percent}%`;
  const bar = item.querySelector(".bar");
  bar.setAttribute("aria-valuenow", String(percent));
  bar.setAttribute("aria-label", row.name);
  const show = item.querySelector(".show");
  show.hidden = !row.value;
  show.setAttribute("aria-label", `Show ${row.name}`);
}

function makeRow(row) {
  const item = document.createElement("li");
  item.innerHTML = '<span class="file"></span><span class="text"></span>'
    + '<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100">'
    + '<div class="fill"></div></div><button type="button" class="show" hidden>Show</button>';
  item.querySelector(".show").addEventListener("click", () => {
    window.dispatchEvent(new CustomEvent("lily-show", { detail: row.value }));
  });
  return item;
}

function draw() {
  const list = find(".rows");
  // Of a single one that is on the server, the panels above say all.
  find(".queue").hidden = !rows.length || (rows.length === 1 && Boolean(rows[0].path));
  while (list.children.length > rows.length) list.lastChild.remove();
  while (list.children.length < rows.length) list.append(makeRow(rows[list.children.length]));
  rows.forEach((row, index) => drawRow(list.children[index], row));
  const done = rows.filter((row) => row.state === "done").length;
  const left = rows.filter((row) => !ENDED.includes(row.state)).length;
  find(".title").textContent = left
    ? `${plural(rows.length)}: ${done} done, ${left} to go`
    : `${done} of ${plural(rows.length)} restored`;
  find(".all").hidden = Boolean(left) || rows.filter((row) => row.value).length < 1;
  find(".more").hidden = Boolean(current) || !rows.some((row) => row.state === "stopped");
  find(".clear").hidden = Boolean(current);
  document.body.dataset.lilyQueue = current ? "running" : "";
}

// Upload a row's file; its path on the server, or an error in a sentence.
function send(row) {
  const root = (window.gradio_config?.root ?? "").replace(/\/$/, "");
  const form = new FormData();
  form.append("files", row.file);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${root}/gradio_api/upload`);
    request.upload.onprogress = (event) => {
      set(row, { text: `Uploading: ${Math.round((100 * event.loaded) / event.total)} %` });
    };
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText)[0]);
      else reject(new Error(request.responseText || `The server answered ${request.status}.`));
    };
    request.onerror = () => reject(new Error("The upload broke off; the server cannot be reached."));
    request.send(form);
  });
}

async function next() {
  current = rows.find((row) => row.state === "waiting") ?? null;
  begun = false;
  draw();
  if (!current) return;
  const row = current;
  try {
    row.path ??= await send(row);
  } catch (error) {
    set(row, { state: "failed", text: error.message });
    next();
    return;
  }
  // The server may have changed the name; progress and result come under its own.
  set(row, { text: "Starting", name: row.path.split(/[\\/]/).pop() });
  trigger("submit", { path: row.path, name: row.name, alone: rows.length === 1 });
}

function take(files) {
  if (rows.every((row) => ENDED.includes(row.state))) rows = [];
  rows.push(...[...files].map((file) => (
    { file, name: file.name, state: "waiting", share: 0, text: "Waiting", value: null }
  )));
  draw();
  // A run that was not started here ends first: see follow().
  if (!current && document.body.dataset.lilyRun !== "running") next();
}

function follow({ detail: value }) {
  if (!current && !value.running && rows.some((row) => row.state === "waiting")) {
    next();
    return; // what ended is no run of the queue
  }
  if (!current || value.recording !== current.name) return;
  if (value.running) {
    begun = true;
    const share = typeof value.fraction === "number" ? value.fraction : current.share;
    set(current, { share: Math.max(current.share, share), text: String(value.text).split(";")[0] });
    return;
  }
  // What an earlier run of the same name says last is not of this one.
  if (!begun && value.phase !== "error") return;
  const text = value.phase === "done" && value.text === "Done" ? "Restored" : value.text;
  const state = { done: "done", error: "failed" }[value.phase] ?? "stopped";
  set(current, { state, share: state === "done" ? 1 : current.share, text });
  if (state === "stopped") {
    rows.filter((row) => row.state === "waiting").forEach((row) => {
      Object.assign(row, { state: "stopped", text: "Not restored yet" });
    });
  }
  next();
}

function keep({ detail: value }) {
  const row = rows.find((one) => !one.value && one.name === value.name
    && (one === current || one.state === "done"));
  if (row) set(row, { value });
}

async function pack() {
  find(".saving").textContent = "Packing …";
  find(".all").disabled = true;
  try {
    const answer = await server.pack({ runs: rows.filter((row) => row.value).map((row) => row.value.run) });
    find(".error").textContent = answer.error ?? "";
    find(".error").hidden = !answer.error;
    if (answer.path) save(address(answer.path), answer.name);
  } finally {
    find(".saving").textContent = "";
    find(".all").disabled = false;
  }
}

// Gradio's own field takes one file that calls itself audio. It would take the first of several
// alone, answer another type with a list of types, and take none while it holds a recording; there,
// and anywhere else on the page, the browser would leave the page for the file.
const ours = (event, files) => files.length > 1
  || (files.length === 1 && !files[0].type.startsWith("audio/"))
  || (event.type === "drop" && !event.target.closest?.(".upload-container, #recording button"));
const OTHER_FIELDS = "#reference, #adjust";

function catchFiles(event) {
  if (!element.isConnected) {
    EVENTS.forEach((name) => document.removeEventListener(name, catchFiles, true));
    return;
  }
  const dragged = event.dataTransfer?.types.includes("Files");
  if (event.type !== "change" && !dragged) return;
  if (event.type !== "change") event.preventDefault();
  document.body.dataset.lilyDrag = String(event.type === "dragover");
  if (event.type === "dragover" || event.type === "dragleave") return;
  if (event.target.closest?.(OTHER_FIELDS)) return;
  if (event.type === "change" && !event.target.closest?.("#recording")) return;
  const files = event.type === "drop" ? event.dataTransfer.files : event.target.files;
  if (!files?.length || !ours(event, files)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  take(files);
}

const EVENTS = ["dragover", "dragleave", "drop", "change"];
EVENTS.forEach((name) => document.addEventListener(name, catchFiles, true));
// Gradio makes the field anew whenever the recording is cleared.
const allowSeveral = () => {
  const field = document.querySelector("#recording input[type=file]");
  if (field && !field.multiple) field.multiple = true;
};
new MutationObserver(allowSeveral).observe(document.querySelector("#recording") ?? document.body, {
  subtree: true, childList: true,
});
allowSeveral();
find(".all").addEventListener("click", () => pack());
find(".clear").addEventListener("click", () => {
  rows = [];
  draw();
});
find(".more").addEventListener("click", () => {
  rows.filter((row) => row.state === "stopped").forEach((row) => {
    Object.assign(row, { state: "waiting", text: "Waiting", value: null });
  });
  next();
});
window.addEventListener("lily-progress", follow);
window.addEventListener("lily-result", keep);
draw();
