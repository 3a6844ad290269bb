// Remembers results and unfinished runs in this browser: what is needed to show or to continue one,
// never the sound, which lies on the server until it expires there. Every widget that is open is
// told of a change by the event LIBRARY_CHANGED on the window.

const LIBRARY_KEY = "lily.results";
const JOBS_KEY = "lily.unfinished";
const LIBRARY_MOST = 12;
const LIBRARY_CHANGED = "lily-library";
const CHUNK_DONE = -1; // a finished cell of the chunk map: lily/ui/progress.py

class Library {
  constructor(storage) {
    this.storage = storage;
  }

  // Newest first; what is not readable is as good as not there.
  read(key, valid) {
    try {
      const kept = JSON.parse(this.storage.getItem(key) ?? "[]");
      return Array.isArray(kept) ? kept.filter(valid) : [];
    } catch {
      return [];
    }
  }

  // False where the browser keeps nothing: private windows, storage full or forbidden.
  write(key, entries) {
    try {
      this.storage.setItem(key, JSON.stringify(entries.slice(0, LIBRARY_MOST)));
    } catch {
      return false;
    }
    globalThis.dispatchEvent?.(new Event(LIBRARY_CHANGED));
    return true;
  }

  all() {
    return this.read(LIBRARY_KEY, (one) => one?.value?.run && one.value.sources);
  }

  add(value, when = Date.now()) {
    const others = this.all().filter((one) => one.value.run !== value.run);
    return this.write(LIBRARY_KEY, [{ when, value }, ...others]);
  }

  remove(run) {
    return this.write(LIBRARY_KEY, this.all().filter((one) => one.value.run !== run));
  }

  // Runs that may be continued: {job, name, when, done, total, phase}.
  jobs() {
    return this.read(JOBS_KEY, (one) => typeof one?.job === "string" && one.name);
  }

  forget(job) {
    return this.write(JOBS_KEY, this.jobs().filter((one) => one.job !== job));
  }

  // Take in the progress of a run: it is unfinished until it is done, or fails with nothing made.
  follow(progress, when = Date.now()) {
    const { job, phase, rows, recording: name } = progress;
    if (!job) return;
    const known = this.jobs().find((one) => one.job === job);
    const cells = rows.flatMap((row) => row.cells);
    const done = cells.filter((cell) => cell === CHUNK_DONE).length;
    if (phase === "done" || (phase === "error" && !done)) {
      if (known) this.forget(job);
      return;
    }
    const ended = !progress.running;
    if (known?.done === done && known.total === cells.length && known.ended === ended) return;
    const others = this.jobs().filter((one) => one.job !== job);
    this.write(JOBS_KEY, [{ job, name, when, done, total: cells.length, ended }, ...others]);
  }
}

function storageOrNone() {
  try {
    return window.localStorage;
  } catch { // forbidden by the browser's settings
    return null;
  }
}
