// The microphone as 16-bit samples at 16 kHz, without the browser's own processing: what suppresses
// noise changes voices, too.

export const SAMPLE_RATE = 16000;

const CONSTRAINTS = {
  audio: {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false},
};

export class Microphone {
  constructor(stream, context) {
    this.stream = stream;
    this.context = context;
  }

  // Calls hear(samples: Int16Array) every 100 ms until it is closed. Rejects if there is no
  // microphone or the person does not allow it.
  static async open(hear) {
    if (!navigator.mediaDevices) throw new DOMException("needs https", "SecurityError");
    const stream = await navigator.mediaDevices.getUserMedia(CONSTRAINTS);
    const context = new AudioContext({sampleRate: SAMPLE_RATE});
    const microphone = new Microphone(stream, context);
    try {
      await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
      const recorder = new AudioWorkletNode(context, "recorder", {numberOfOutputs: 0});
      recorder.port.onmessage = ({data}) => hear(new Int16Array(data));
      context.createMediaStreamSource(stream).connect(recorder);
      await context.resume();
      return microphone;
    } catch (error) {
      microphone.close();
      throw error;
    }
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    if (this.context.state !== "closed") this.context.close();
  }
}

// The level of a block in decibels relative to full scale, -100 at least.
export function measureLevel(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.max(-100, 10 * Math.log10(sum / samples.length / 32768 ** 2));
}

// Samples as base64, as JSON carries bytes.
export function encode(blocks) {
  const parts = [];
  for (const block of blocks) {
    parts.push(String.fromCharCode(...new Uint8Array(block.buffer, block.byteOffset, block.byteLength)));
  }
  return btoa(parts.join(""));
}
