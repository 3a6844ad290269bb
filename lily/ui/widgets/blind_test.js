// An ABX test of two sources: A and B are known, X is one of them, drawn anew for every trial. What
// X was stays in this closure until the last answer; nothing is sent anywhere.

const LEAST_TRIALS = 5;
const MOST_TRIALS = 50;

// A fair coin from the browser's own generator.
function coin() {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1;
}

// The chance that guessing gives at least `right` of `trials`, exactly.
function chance(right, trials) {
  let ways = 0n;
  let term = 1n; // trials over k
  for (let k = 0; k <= trials; k += 1) {
    if (k >= right) ways += term;
    term = (term * BigInt(trials - k)) / BigInt(k + 1);
  }
  return Number(ways) / 2 ** trials; // both are exact: at most 2^50
}

class BlindTest {
  constructor(pair, trials) {
    this.pair = pair; // [key, key]: A and B
    this.trials = Math.max(LEAST_TRIALS, Math.min(MOST_TRIALS, Math.round(trials) || 0));
    this.answers = [];
    const drawn = Array.from({ length: this.trials }, coin);
    // What a letter plays; of X, only in the trial that is running.
    this.source = (letter) => pair[letter === "X" ? drawn[this.answers.length] : "AB".indexOf(letter)];
    this.result = () => this.finished && this.summary(drawn);
  }

  get finished() {
    return this.answers.length === this.trials;
  }

  answer(letter) {
    if (!this.finished) this.answers.push("AB".indexOf(letter));
  }

  summary(drawn) {
    const trials = this.answers.map((answer, index) => ({
      trial: index + 1,
      x: this.pair[drawn[index]],
      answer: this.pair[answer],
      right: answer === drawn[index],
    }));
    const right = trials.filter((trial) => trial.right).length;
    return {
      test: "ABX",
      a: this.pair[0],
      b: this.pair[1],
      trials: this.trials,
      right,
      p_value: chance(right, this.trials),
      answers: trials,
    };
  }
}
