// Reads the samples of a WAV file that holds G.711 mu-law, as a telephone line sends them.

import { readFileSync } from "node:fs";

const MULAW = 7;

/** Returns the mu-law bytes of a WAV file at 8 kHz with one channel. */
export function readMulaw(path) {
  const file = readFileSync(path);
  let suitable = false;
  for (let start = 12; start + 8 <= file.length; ) {
    const name = file.toString("latin1", start, start + 4);
    const size = file.readUInt32LE(start + 4);
    const chunk = file.subarray(start + 8, start + 8 + size);
    if (name === "fmt ") {
      const [code, channels, rate] = [chunk.readUInt16LE(0), chunk.readUInt16LE(2), chunk.readUInt32LE(4)];
      suitable = code === MULAW && channels === 1 && rate === 8000;
    }
    if (name === "data" && suitable) return chunk;
    start += 8 + size + (size % 2); // chunks begin at even offsets
  }
  throw new Error(`${path}: is not mu-law at 8 kHz; ffmpeg -i ${path} -ac 1 -ar 8000 -acodec pcm_mulaw call.wav`);
}
