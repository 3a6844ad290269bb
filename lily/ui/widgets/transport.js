// Plays several recordings on one clock. All of them always run; which one is heard is a matter of
// gains, so that switching costs nothing and the playhead cannot move. Positions are frames at RATE.

const RATE = 48000;
const SEGMENT = 10 * RATE; // what is fetched at once
const AHEAD = 12; // seconds scheduled before they are due: a hidden tab's timers are slow
const KEPT = 6; // segments in memory
const RAMP = 0.004; // seconds; shorter would click
const SOON = 0.03; // seconds from deciding to play to playing

class Transport {
  constructor(urls) {
    this.wavs = Object.entries(urls).map(([key, url]) => (
      [key, /\.(wav|part)$/.test(url) ? new Wav(url) : new Clip(url)]
    ));
    this.segments = new Map();
    this.pieces = []; // what is scheduled: {when, from, length, nodes}
    this.at = 0; // where playing starts
    this.head = 0; // the next frame to schedule
    this.until = 0; // context time up to which sound is scheduled
    this.generation = 0; // rises whenever what was scheduled is void
    this.playing = false;
    this.loop = null; // {start, stop}
    this.levels = {}; // gain by key
    this.onstate = () => {};
  }

  async open() {
    await Promise.all(this.wavs.map(([, wav]) => wav.open()));
    this.frames = Math.min(...this.wavs.map(([, wav]) => wav.frames));
    return this;
  }

  // More frames of an unfinished file are there; what was read up to the old end is read again.
  grow(frames) {
    this.segments.delete(Math.floor(this.frames / SEGMENT));
    this.frames = frames;
    for (const [, wav] of this.wavs) wav.frames = Math.max(wav.frames, frames);
    this.onstate();
  }

  // Set every gain at once; a key that is not named is silent.
  mix(wanted) {
    this.levels = wanted;
    if (!this.context) return;
    const now = this.context.currentTime;
    for (const [key, node] of Object.entries(this.gains)) {
      node.gain.cancelScheduledValues(now);
      node.gain.setValueAtTime(node.gain.value, now);
      node.gain.linearRampToValueAtTime(wanted[key] ?? 0, now + RAMP);
    }
  }

  async play() {
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: RATE });
      this.gains = {};
      for (const [key] of this.wavs) {
        this.gains[key] = new GainNode(this.context, { gain: this.levels[key] ?? 0 });
        this.gains[key].connect(this.context.destination);
      }
    }
    if (this.context.state !== "running") await this.context.resume();
    if (this.at >= this.frames - 1) this.at = 0;
    this.playing = true;
    this.restart(this.at);
    this.ticking ??= setInterval(() => this.tick(), 200);
    this.onstate();
  }

  pause() {
    this.at = this.position();
    this.playing = false;
    this.silence();
    clearInterval(this.ticking);
    this.ticking = null;
    this.onstate();
  }

  seek(frame) {
    this.at = Math.max(0, Math.min(Math.round(frame), this.frames - 1));
    if (this.playing) this.restart(this.at);
    this.onstate();
  }

  setLoop(start, stop) {
    this.loop = start === null ? null : { start: Math.round(start), stop: Math.round(stop) };
    const here = this.position();
    const inside = !this.loop || (here >= this.loop.start && here < this.loop.stop);
    this.seek(inside ? here : this.loop.start);
  }

  // The frame that is heard now.
  position() {
    if (!this.playing) return this.at;
    const now = this.context.currentTime;
    const piece = this.pieces.findLast((one) => one.when <= now);
    if (!piece) return this.at;
    return piece.from + Math.min(piece.length, (now - piece.when) * RATE);
  }

  close() {
    if (this.playing) this.pause();
    this.context?.close();
    this.generation += 1;
  }

  silence() {
    this.generation += 1;
    for (const piece of this.pieces) piece.nodes.forEach((node) => node.stop());
    this.pieces = [];
  }

  restart(frame) {
    this.at = frame;
    this.silence();
    this.head = frame;
    this.until = 0;
    this.fill();
  }

  tick() {
    const now = this.context.currentTime;
    while (this.pieces.length > 1 && this.pieces[1].when <= now) this.pieces.shift();
    if (this.head >= this.frames && now >= this.until) {
      this.at = this.frames;
      this.pause();
      return;
    }
    this.fill();
    this.onstate();
  }

  async fill() {
    const generation = this.generation;
    if (this.filling === generation) return;
    this.filling = generation;
    try {
      while (this.playing && this.head < this.frames
        && this.until - this.context.currentTime < AHEAD) {
        const index = Math.floor(this.head / SEGMENT);
        const buffers = await this.segment(index).catch(() => null); // onerror has said why
        if (!buffers) return;
        if (generation !== this.generation) return;
        this.schedule(index, buffers);
      }
    } finally {
      if (this.filling === generation) this.filling = null;
    }
  }

  schedule(index, buffers) {
    const from = this.head;
    const looping = this.loop && from < this.loop.stop;
    const stop = Math.min(looping ? this.loop.stop : this.frames, (index + 1) * SEGMENT);
    const length = stop - from;
    const soon = Math.ceil((this.context.currentTime + SOON) * RATE) / RATE;
    const when = this.until > this.context.currentTime ? this.until : soon;
    const nodes = Object.entries(buffers).map(([key, buffer]) => {
      const node = new AudioBufferSourceNode(this.context, { buffer });
      node.connect(this.gains[key]);
      node.start(when, (from - index * SEGMENT) / RATE, length / RATE);
      return node;
    });
    this.pieces.push({ when, from, length, nodes });
    this.until = when + length / RATE;
    this.head = looping && stop === this.loop.stop ? this.loop.start : stop;
  }

  async segment(index) {
    if (!this.segments.has(index)) {
      this.segments.set(index, this.load(index));
      if (this.segments.size > KEPT) this.segments.delete(this.segments.keys().next().value);
    }
    try {
      return await this.segments.get(index);
    } catch (error) {
      this.segments.delete(index);
      this.onerror?.(error);
      if (this.playing) this.pause();
      throw error;
    }
  }

  async load(index) {
    const first = index * SEGMENT;
    const count = Math.min(SEGMENT, this.frames - first);
    const loaded = await Promise.all(this.wavs.map(async ([key, wav]) => {
      const buffer = new AudioBuffer({
        length: count, numberOfChannels: wav.channels, sampleRate: RATE,
      });
      (await wav.read(first, count)).forEach((samples, i) => buffer.copyToChannel(samples, i));
      return [key, buffer];
    }));
    return Object.fromEntries(loaded);
  }
}
