// Loops without dragging, for keyboards and fingers: from here, to here, no more. `player` brings
// transport(), text(seconds) and say(text).

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
