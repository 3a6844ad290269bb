// The blind test's panel: asks, plays A, B and X, and tells the verdict. `player` brings listen(key),
// say(text), save(address, name) and about(), the name and seed of what is on show.

class BlindPanel {
  constructor(element, player) {
    this.element = element;
    this.player = player;
    this.test = null;
    this.find(".start").addEventListener("click", () => this.start());
    this.find(".abandon").addEventListener("click", () => this.end());
    for (const button of this.find(".letters").children) {
      button.addEventListener("click", () => this.hear(button.dataset.letter));
    }
    for (const button of element.querySelectorAll(".answer")) {
      button.addEventListener("click", () => {
        this.test.answer(button.dataset.letter);
        this.next();
      });
    }
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  // What a test may ask: first whether the restoration is heard at all.
  offer(sources, generated) {
    const found = [];
    const add = (a, b) => found.push(
      new Option(`${a.label} and ${b.label}`.toLowerCase(), `${a.key} ${b.key}`),
    );
    const first = sources.findLast((one) => generated(one.key));
    if (first) add(sources[0], first);
    const others = sources.slice(1);
    others.forEach((a, i) => others.slice(i + 1).forEach((b) => add(a, b)));
    this.find(".pair").replaceChildren(...found);
    this.find(".blind").hidden = sources.length < 2;
    Object.assign(this.find(".trials"), { min: LEAST_TRIALS, max: MOST_TRIALS });
  }

  start() {
    const pair = this.find(".pair").value.split(" ");
    this.test = new BlindTest(pair, Number(this.find(".trials").value));
    this.find(".trials").value = this.test.trials;
    this.element.dataset.testing = "true"; // hides what would give X away
    this.find(".verdict").hidden = true;
    this.next();
  }

  next() {
    if (this.test.finished) {
      this.tell(this.test.result());
      return;
    }
    this.find(".setup").hidden = true;
    this.find(".trial").hidden = false;
    const count = `Trial ${this.test.answers.length + 1} of ${this.test.trials}`;
    this.find(".count").textContent = `${count}: is X the same as A or B?`;
    this.player.say(this.find(".count").textContent);
    this.hear("X");
  }

  hear(letter) {
    this.player.listen(this.test.source(letter));
    for (const button of this.find(".letters").children) {
      button.setAttribute("aria-pressed", String(button.dataset.letter === letter));
    }
  }

  tell(result) {
    this.end();
    this.find(".verdict").hidden = false;
    const p = result.p_value < 0.001 ? result.p_value.toExponential(1) : result.p_value.toFixed(3);
    const verdict = this.find(".verdict .text");
    verdict.textContent = `${result.right} of ${result.trials} right; guessing does at least as well `
      + `with probability p = ${p}. `
      + (result.p_value < 0.05 ? "You hear a difference." : "This does not show that you hear one.");
    this.find(".answers").replaceChildren(...result.answers.map((one) => {
      const item = document.createElement("li");
      item.textContent = `X was ${one.x}, you said ${one.answer}`;
      return item;
    }));
    const { name, seed } = this.player.about();
    this.find(".keep").onclick = () => {
      const answers = JSON.stringify({ ...result, recording: name, seed }, null, 2);
      const link = URL.createObjectURL(new Blob([answers], { type: "application/json" }));
      this.player.save(link, `${name}.abx.json`);
      setTimeout(() => URL.revokeObjectURL(link), 10_000);
    };
    this.player.say(verdict.textContent);
  }

  end() {
    const before = this.test?.pair[1];
    this.test = null;
    delete this.element.dataset.testing;
    this.find(".setup").hidden = false;
    this.find(".trial").hidden = true;
    if (before) this.player.listen(before);
  }
}
