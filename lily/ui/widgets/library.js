// Remembers finished results in this browser: what the player needs to show one again, never the
// sound, which lies on the server until it expires there.

const LIBRARY_KEY = "lily.results";
const LIBRARY_MOST = 12;

class Library {
  constructor(storage) {
    this.storage = storage;
  }

  // Newest first; what is not readable is as good as not there.
  all() {
    try {
      const kept = JSON.parse(this.storage.getItem(LIBRARY_KEY) ?? "[]");
      return Array.isArray(kept) ? kept.filter((one) => one?.value?.run && one.value.sources) : [];
    } catch {
      return [];
    }
  }

  // False where the browser keeps nothing: private windows, storage full or forbidden.
  write(entries) {
    try {
      this.storage.setItem(LIBRARY_KEY, JSON.stringify(entries.slice(0, LIBRARY_MOST)));
      return true;
    } catch {
      return false;
    }
  }

  add(value, when = Date.now()) {
    const others = this.all().filter((one) => one.value.run !== value.run);
    return this.write([{ when, value }, ...others]);
  }

  remove(run) {
    return this.write(this.all().filter((one) => one.value.run !== run));
  }
}
