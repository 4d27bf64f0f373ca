// In the audio thread: hands on the microphone's samples, 16-bit, in blocks of 100 ms.
const BLOCK_SAMPLES = Math.round(sampleRate / 10);

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(BLOCK_SAMPLES);
    this.filled = 0;
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.block[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
      if (this.filled === BLOCK_SAMPLES) {
        this.port.postMessage(this.block.buffer, [this.block.buffer]);
        this.block = new Int16Array(BLOCK_SAMPLES);  // what was sent is gone, its length too
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
