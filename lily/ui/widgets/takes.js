// Other takes of one chunk: asks for one, puts it beside those that are there, keeps the best.
// `player` brings value() (what is on show), position() in seconds, show(value, from, to), kept(value)
// and ask(data), which starts a run.

class Takes {
  constructor(element, player) {
    this.element = element;
    this.player = player;
    this.asked = null; // {place, value}: what a take was asked for
    this.find(".another").addEventListener("click", () => this.ask());
    this.find(".keep-take").addEventListener("click", () => this.keep());
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  // The chunk that is heard at a second.
  place(value, second) {
    return value.chunks?.find(([start, stop]) => second >= start && second < stop)
      ?? value.chunks?.at(-1);
  }

  draw(heard) {
    const value = this.player.value();
    const place = value.place ?? this.place(value, this.player.position());
    this.find(".takes").hidden = !value.run || !place;
    if (!place) return;
    const busy = Boolean(document.body.dataset.lilyJob);
    this.find(".another").disabled = busy;
    this.find(".another").textContent = value.place ? "Another take" : "Another take here";
    this.find(".place").textContent = `${place.map(tickText).join(" to ")}`;
    const source = value.sources.find((one) => one.key === heard);
    this.find(".keep-take").hidden = !value.place || !source?.result;
    this.find(".keep-take").textContent = `Keep ${source?.label.toLowerCase()}`;
  }

  ask() {
    const value = this.player.value();
    const place = (value.place ?? this.place(value, this.player.position())).map(Number);
    this.asked = { place, value };
    this.player.ask({ job: value.job, name: value.name, second: (place[0] + place[1]) / 2 });
  }

  // The result of a run: true if it is a take that was asked for, which is now beside the others.
  take(result) {
    const { asked } = this;
    if (!asked || result.name !== asked.value.name || !result.run) return false;
    this.asked = null;
    // Where the finished chunks have expired, everything was generated anew: an ordinary result.
    if (result.seed !== asked.value.seed || !result.takes.length) return false;
    const [before, ...others] = asked.value.sources;
    const known = asked.value.place ? others : [{ ...others[0], result: asked.value }];
    const made = result.sources.find((one) => one.key === "on" || one.key === "off");
    const sources = [before, ...known, { ...made, result }].map((one, i) => (
      i ? { ...one, key: `take${i}`, label: `Take ${i}` } : one
    ));
    const { place } = asked;
    this.player.show({ ...asked.value, sources, place, badge: "choose a take" }, place);
    return true;
  }

  keep() {
    const value = this.player.value();
    const { result } = value.sources.find((one) => one.key === this.heard);
    this.player.kept(result);
  }
}
