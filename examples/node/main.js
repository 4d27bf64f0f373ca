// Enrolls a speaker, verifies a recording, or verifies a call while it happens.
//
//   node main.js enroll SPEAKER FILE      exit status 0: the speech was added
//   node main.js verify SPEAKER FILE      exit status 0: the voice was accepted
//   node main.js stream SPEAKER FILE.wav  the same, from a telephone call of mu-law
//
// Exit status 1 is the other answer, 2 an error. See README.md for the environment.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import grpc from "@grpc/grpc-js";

import { call, connect, readReason } from "./sayso.js";
import { readMulaw } from "./wav.js";

const FRAME_BYTES = 160; // 20 ms of mu-law at 8 kHz
const FRAME_MS = 20;

async function enroll(client, speakerId, path) {
  const audioConfig = { encoding: "AUDIO_ENCODING_FILE" };
  const { stored, progress, explanation } = await call(client, "enroll", {
    config: { speakerId, audioConfig },
    audio: readFileSync(path),
  });
  console.log(`${progress.netSpeechS.toFixed(1)} s: ${explanation}`);
  return stored;
}

async function verify(client, speakerId, path) {
  const audioConfig = { encoding: "AUDIO_ENCODING_FILE" };
  const { decision } = await call(client, "verify", { speakerId, audioConfig, audio: readFileSync(path) });
  printDecision(decision);
  console.log(decision.explanation);
  return decision.outcome === "OUTCOME_ACCEPTED";
}

async function stream(client, speakerId, path) {
  const samples = readMulaw(path);
  const responses = client.streamingVerify();
  responses.write({
    config: {
      speakerId,
      audioConfig: { encoding: "AUDIO_ENCODING_MULAW", sampleRateHertz: 8000 },
      policy: { sequential: {} }, // decide as soon as the evidence is enough, by the server's error rates
      stopAtDecision: true,
    },
  });
  sendFrames(responses, samples);
  let outcome;
  for await (const { decision } of responses) {
    printDecision(decision);
    outcome = decision.outcome;
  }
  return outcome === "OUTCOME_ACCEPTED";
}

/** Sends audio as a call brings it, a frame every 20 ms, until the server has ended the stream. */
async function sendFrames(responses, samples) {
  for (let start = 0; start < samples.length; start += FRAME_BYTES) {
    if (responses.readableEnded || responses.destroyed) return;
    responses.write({ audio: samples.subarray(start, start + FRAME_BYTES) });
    await sleep(FRAME_MS);
  }
  responses.end();
}

function printDecision({ quality, outcome, band }) {
  const words = [outcome.replace("OUTCOME_", ""), band.replace("BAND_", "")];
  console.log(`${(quality?.netSpeechS ?? 0).toFixed(1)} s: ${words.join(" ")}`);
}

/** Puts the status and the stable reason of an error of Sayso, such as SPEAKER_LOCKED, before its message. */
function describe(error) {
  const names = [grpc.status[error.code], readReason(error)];
  return `${names.filter(Boolean).join(" ")}: ${error.details}`;
}

const commands = { enroll, verify, stream };
const [name, speakerId, path] = process.argv.slice(2);
if (!commands[name] || !path) {
  console.error("usage: node main.js enroll|verify|stream SPEAKER FILE");
  process.exit(2);
}
try {
  const client = connect();
  process.exitCode = (await commands[name](client, speakerId, path)) ? 0 : 1;
  client.close();
} catch (error) {
  console.error(error.code in grpc.status ? describe(error) : error.message);
  process.exitCode = 2;
}
