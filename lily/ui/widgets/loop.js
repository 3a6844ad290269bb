// Loops by one button, for keyboards and touch: the first press sets the start, the second the end,
// the third removes the loop. `player` has transport(), text(seconds) and say(text).

const SHORTEST_LOOP = 0.1; // seconds

class Loop {
  constructor(button, player) {
    Object.assign(this, { button, player, from: null }); // a frame
    button.addEventListener("click", () => this.press());
  }

  reset() {
    this.from = null;
  }

  draw(loop) {
    const at = (frame) => this.player.text(frame / RATE);
    const name = loop ? `End the loop of ${at(loop.start)} to ${at(loop.stop)}`
      : this.from === null ? "Loop from here" : `Loop from ${at(this.from)} to here`;
    if (this.button.textContent !== name) this.button.textContent = name;
  }

  press() {
    const transport = this.player.transport();
    if (!transport) return;
    const here = transport.position();
    if (transport.loop) {
      this.from = null; // from before the loop, if it was dragged
      transport.setLoop(null);
      this.player.say("The loop has ended");
    } else if (this.from === null) {
      this.from = here;
      this.player.say(`Loop from ${this.player.text(here / RATE)}`);
      this.draw(null);
    } else {
      const [start, stop] = [this.from, here].sort((a, b) => a - b);
      this.from = null;
      this.set(start / RATE, stop / RATE);
      this.draw(transport.loop);
    }
  }

  set(start, stop) {
    if (stop - start < SHORTEST_LOOP) {
      this.player.say(`A loop lasts ${SHORTEST_LOOP} s or more`);
      return;
    }
    this.player.transport()?.setLoop(start * RATE, stop * RATE);
    this.player.say("Looping");
  }
}
