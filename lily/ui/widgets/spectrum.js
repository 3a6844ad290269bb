// Draws one recording on a canvas at the screen's resolution: a waveform over a spectrogram, on one
// time axis, with the cutoff of each segment, the loop and the playhead. Levels come as 8-bit
// images (lily/ui/overview.py): 0 is FLOOR_DB, 255 is 0 dB, the top row is 24 kHz.

const FLOOR_DB = -140;
const TOP_KHZ = 24;
const SHOWN_DB = [-120, -30]; // drawn black and white: one scale for every result
const GUTTER = 34; // pixels left of the plots, for the frequencies
const STRIP = 52; // the waveform's height
const AXIS = 20; // below the plots, for the times
const GAP = 4;
const MAP = 5; // the chunk map's height, at the lower edge of the spectrogram
const FADE_MS = 220; // from one spectrogram to the next
const DRAG = 5; // pixels; less is a click
// Matplotlib's "magma" at equal distances.
const MAGMA = [
  [0, 0, 4], [20, 14, 54], [59, 15, 112], [100, 26, 128], [140, 41, 129], [183, 55, 121],
  [222, 73, 104], [247, 112, 92], [254, 159, 109], [254, 207, 146], [252, 253, 191],
];

function colours() {
  const table = new Uint32Array(256);
  for (let level = 0; level < 256; level += 1) {
    const db = FLOOR_DB - (level / 255) * FLOOR_DB;
    const share = Math.min(1, Math.max(0, (db - SHOWN_DB[0]) / (SHOWN_DB[1] - SHOWN_DB[0])));
    const place = share * (MAGMA.length - 1);
    const low = Math.min(MAGMA.length - 2, Math.floor(place));
    const [r, g, b] = [0, 1, 2].map((i) => Math.round(
      MAGMA[low][i] + (place - low) * (MAGMA[low + 1][i] - MAGMA[low][i]),
    ));
    table[level] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

// Even steps that give at most `most` ticks.
function ticks(seconds, most) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
  const step = steps.find((one) => seconds / one <= most) ?? 3600;
  return Array.from({ length: Math.floor(seconds / step + 1e-9) + 1 }, (_, i) => i * step);
}

function tickText(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = seconds - 60 * minutes;
  return `${minutes}:${Number.isInteger(rest) ? String(rest).padStart(2, "0") : rest.toFixed(1).padStart(4, "0")}`;
}

class Spectrum {
  constructor(canvas) {
    this.canvas = canvas;
    this.table = colours();
    this.sources = new Map();
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.key = null;
    this.seconds = 1;
    this.head = 0; // seconds
    this.loop = null; // [start, stop] in seconds
    this.filled = null;
    this.chunks = [];
    this.hover = null; // seconds
    this.onseek = () => {};
    this.onloop = () => {};
    this.listen();
    new ResizeObserver(() => this.layout()).observe(canvas);
  }

  // `sources`: {key, spectrum (address), peaks (base64)}; `cutoffs`: [start, stop, Hz]; `filled`:
  // the seconds that are generated, of an unfinished result.
  async load(sources, { seconds, cutoffs, filled }) {
    this.sources = new Map();
    this.seconds = Math.max(seconds, 1e-3);
    this.cutoffs = cutoffs;
    this.filled = filled ?? null;
    this.chunks = []; // {start, stop, state}: a state of lily/ui/progress.py
    this.loop = null;
    this.layers = new Map();
    await this.fill(this.sources, sources);
    this.layout();
  }

  // Other pictures of the same recording, drawn when all of them are here.
  async refresh(sources, { filled }) {
    const fresh = new Map();
    const before = this.sources;
    await this.fill(fresh, sources);
    if (before !== this.sources) return;
    this.sources = fresh;
    this.filled = filled;
    this.layers = new Map();
    this.draw();
  }

  async fill(wanted, sources) {
    await Promise.all(sources.map(async (source) => {
      const image = new Image();
      image.src = source.spectrum;
      await image.decode();
      wanted.set(source.key, {
        picture: this.coloured(image),
        peaks: Uint8Array.from(atob(source.peaks), (letter) => letter.charCodeAt(0)),
      });
    }));
  }

  coloured(image) {
    const picture = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = picture.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, picture.width, picture.height);
    const pixels = new Uint32Array(data.data.buffer);
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = this.table[data.data[4 * i]];
    context.putImageData(data, 0, 0);
    return picture;
  }

  show(key) {
    if (key === this.key) return;
    this.before = this.still ? null : this.key;
    this.key = key;
    this.changed = performance.now();
    this.draw();
  }

  // Where the plots lie, in CSS pixels.
  layout() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    this.scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * this.scale);
    this.canvas.height = Math.round(clientHeight * this.scale);
    const top = STRIP + GAP;
    this.plot = {
      left: GUTTER, top, width: clientWidth - GUTTER - 1, height: clientHeight - top - AXIS,
    };
    this.layers = new Map();
    this.draw();
  }

  x(seconds) {
    return this.plot.left + (this.plot.width * seconds) / this.seconds;
  }

  y(kilohertz) {
    return this.plot.top + this.plot.height * (1 - kilohertz / TOP_KHZ);
  }

  // Everything of a source that does not move, drawn once.
  layer(key) {
    if (!this.layers.has(key)) {
      const layer = new OffscreenCanvas(this.canvas.width, this.canvas.height);
      const context = layer.getContext("2d");
      context.scale(this.scale, this.scale);
      this.paint(context, this.sources.get(key));
      this.layers.set(key, layer);
    }
    return this.layers.get(key);
  }

  paint(context, source) {
    const style = getComputedStyle(this.canvas);
    const { left, top, width, height } = this.plot;
    context.fillStyle = "#0b0b12";
    context.fillRect(left, top, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(source.picture, left, top, width, height);
    this.paintWave(context, source.peaks, style.getPropertyValue("--lily-accent"));
    context.font = `12px ${style.fontFamily}`;
    context.fillStyle = style.color;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (let k = 0; k <= TOP_KHZ; k += 4) {
      const y = Math.min(top + height - 7, Math.max(top + 7, this.y(k)));
      context.fillText(k === TOP_KHZ ? "kHz" : String(k), left - 6, y);
    }
    context.textBaseline = "top";
    for (const second of ticks(this.seconds, width / 90)) {
      const text = tickText(second);
      const half = context.measureText(text).width / 2;
      const x = Math.min(left + width - half, Math.max(left + half, this.x(second)));
      context.textAlign = "center";
      context.fillText(text, x, top + height + 6);
    }
    this.paintCutoffs(context, style.fontFamily);
  }

  paintWave(context, peaks, colour) {
    const { left, width } = this.plot;
    context.fillStyle = colour;
    const columns = Math.round(width);
    for (let column = 0; column < columns; column += 1) {
      const first = Math.floor((column * peaks.length) / columns);
      const last = Math.max(first + 1, Math.floor(((column + 1) * peaks.length) / columns));
      let peak = 0;
      for (let i = first; i < last; i += 1) peak = Math.max(peak, peaks[i]);
      const half = Math.max(0.5, (peak / 255) * (STRIP / 2 - 1));
      context.fillRect(left + column, STRIP / 2 - half, 1, 2 * half);
    }
  }

  paintCutoffs(context, family) {
    context.font = `600 12px ${family}`;
    context.textAlign = "right";
    context.textBaseline = "bottom";
    for (const [start, stop, hertz] of this.cutoffs) {
      const [from, to, y] = [this.x(start), this.x(stop), this.y(hertz / 1000)];
      context.strokeStyle = "#ffffff";
      context.lineWidth = 1.5;
      context.setLineDash([6, 4]);
      context.beginPath();
      context.moveTo(from, y);
      context.lineTo(to, y);
      context.stroke();
      context.setLineDash([]);
      const text = `cutoff ${(hertz / 1000).toFixed(1)} kHz`;
      const size = context.measureText(text).width;
      if (to - from < size + 20) continue;
      context.fillStyle = "rgba(11, 11, 18, 0.75)";
      context.fillRect(to - size - 14, y - 22, size + 10, 18);
      context.fillStyle = "#ffffff";
      context.fillText(text, to - 9, y - 6);
    }
  }

  draw() {
    if (!this.plot || !this.sources.has(this.key)) return;
    const context = this.canvas.getContext("2d");
    const share = this.before ? Math.min(1, (performance.now() - this.changed) / FADE_MS) : 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (share < 1 && this.sources.has(this.before)) {
      context.drawImage(this.layer(this.before), 0, 0);
      context.globalAlpha = share;
      requestAnimationFrame(() => this.draw());
    } else this.before = null;
    context.drawImage(this.layer(this.key), 0, 0);
    context.globalAlpha = 1;
    context.scale(this.scale, this.scale);
    this.drawMoving(context);
  }

  drawMoving(context) {
    const bottom = this.plot.top + this.plot.height;
    const loop = this.dragged ?? this.loop;
    const ink = getComputedStyle(this.canvas).color;
    if (loop) {
      context.fillStyle = "rgba(45, 212, 191, 0.28)";
      context.fillRect(this.x(loop[0]), 0, this.x(loop[1]) - this.x(loop[0]), bottom);
    }
    const line = (seconds, width, strip, plot) => {
      const x = this.x(Math.min(seconds, this.seconds)) - width / 2;
      context.fillStyle = strip;
      context.fillRect(x, 0, width, STRIP);
      context.fillStyle = plot;
      context.fillRect(x, this.plot.top, width, this.plot.height);
    };
    if (this.filled !== null) this.drawChunks(context, bottom - MAP);
    if (this.hover !== null) line(this.hover, 1, "rgba(128, 128, 128, 0.7)", "rgba(255, 255, 255, 0.45)");
    if (this.filled !== null) line(this.filled, 2, "rgba(45, 212, 191, 0.9)", "rgba(45, 212, 191, 0.9)");
    line(this.head, 2, ink, "#ffffff");
  }

  // Done, being sampled, waiting: each chunk up to the next one's start, a pixel apart.
  drawChunks(context, top) {
    this.chunks.forEach(({ start, stop, state }, i) => {
      const end = Math.min(this.chunks[i + 1]?.start ?? stop, this.seconds);
      const x = this.x(start);
      context.fillStyle = state < 0 ? "#2dd4bf" : state > 0 ? "#99f6e4" : "rgba(255, 255, 255, 0.35)";
      context.fillRect(x, top, Math.max(1, this.x(end) - x - 1), MAP);
    });
  }

  listen() {
    const canvas = this.canvas;
    const at = (event) => {
      const x = event.clientX - canvas.getBoundingClientRect().left;
      return Math.min(1, Math.max(0, (x - this.plot.left) / this.plot.width)) * this.seconds;
    };
    let begun = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.plot || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      begun = { x: event.clientX, at: at(event) };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.plot) return;
      this.hover = event.pointerType === "mouse" ? at(event) : null;
      if (begun && Math.abs(event.clientX - begun.x) >= DRAG) {
        this.dragged = [begun.at, at(event)].sort((a, b) => a - b);
      }
      this.draw();
    });
    canvas.addEventListener("pointerup", () => {
      if (!begun) return;
      const { dragged } = this;
      const place = begun.at;
      begun = this.dragged = null;
      if (dragged) this.onloop(...dragged);
      else this.onseek(place);
    });
    canvas.addEventListener("pointercancel", () => { begun = this.dragged = null; });
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
  }
}
