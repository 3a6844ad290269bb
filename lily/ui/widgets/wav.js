// Reads stretches of a WAV file over HTTP ranges, so that an hour never lies in memory. Samples are
// taken as they were written (24-bit or 32-bit float), without the browser's decoder or resampler.

const HEADER_BYTES = 4096; // more than any header Lily writes

class Wav {
  constructor(url) {
    this.url = url;
  }

  async bytes(first, count) {
    const range = `bytes=${first}-${first + count - 1}`;
    const answer = await fetch(this.url, { headers: { Range: range } });
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const buffer = await answer.arrayBuffer();
    // A server may ignore the range and send everything.
    return answer.status === 206 ? buffer : buffer.slice(first, first + count);
  }

  async open() {
    const view = new DataView(await this.bytes(0, HEADER_BYTES));
    const name = (at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
    let at = 12;
    while (name(at) !== "data") {
      const size = view.getUint32(at + 4, true);
      if (name(at) === "ds64") this.dataBytes = Number(view.getBigUint64(at + 16, true));
      if (name(at) === "fmt ") {
        this.channels = view.getUint16(at + 10, true);
        this.rate = view.getUint32(at + 12, true);
        this.sampleBytes = view.getUint16(at + 22, true) / 8;
      }
      at += 8 + size + (size % 2);
    }
    const size = view.getUint32(at + 4, true);
    if (size !== 0xffffffff) this.dataBytes = size;
    this.start = at + 8;
    this.frameBytes = this.channels * this.sampleBytes;
    this.frames = Math.floor(this.dataBytes / this.frameBytes);
    return this;
  }

  // Frames [first, first + count) as one Float32Array a channel; silence past the end.
  async read(first, count) {
    const channels = Array.from({ length: this.channels }, () => new Float32Array(count));
    const there = Math.max(0, Math.min(count, this.frames - first));
    if (!there) return channels;
    const size = this.frameBytes;
    const view = new DataView(await this.bytes(this.start + first * size, there * size));
    const got = Math.min(there, Math.floor(view.byteLength / size));
    for (let channel = 0; channel < this.channels; channel += 1) {
      const samples = channels[channel];
      let at = channel * this.sampleBytes;
      for (let frame = 0; frame < got; frame += 1, at += size) {
        samples[frame] = this.sampleBytes === 4
          ? view.getFloat32(at, true)
          : (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 8388608;
      }
    }
    return channels;
  }
}

// The same for a short compressed file (the examples), decoded by the browser as a whole.
class Clip {
  constructor(url) {
    this.url = url;
  }

  async open() {
    const answer = await fetch(this.url);
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const decoder = new OfflineAudioContext(1, 1, RATE);
    this.buffer = await decoder.decodeAudioData(await answer.arrayBuffer());
    this.channels = this.buffer.numberOfChannels;
    this.frames = this.buffer.length;
    return this;
  }

  async read(first, count) {
    return Array.from({ length: this.channels }, (_, channel) => {
      const samples = new Float32Array(count);
      samples.set(this.buffer.getChannelData(channel).subarray(first, first + count));
      return samples;
    });
  }
}
