// A call of this browser over the gateway's WebSocket: the microphone in, decisions out.

import {getKey} from "./api.js";
import {Microphone, SAMPLE_RATE} from "./microphone.js";

const HIGH_WATER_BYTES = 2 ** 20;

// Verifies who is talking against a claimed speaker. `react` has hear(samples), decide(answer) and
// end(code, reason). Returns a function that says there is no more audio. Rejects without a microphone.
export async function startCall(speakerId, react) {
  let socket = null;
  let waiting = [];
  const microphone = await Microphone.open((samples) => {
    react.hear(samples);
    if (socket?.readyState !== WebSocket.OPEN) waiting.push(samples);
    else if (socket.bufferedAmount < HIGH_WATER_BYTES) socket.send(samples);
  });
  const address = new URL("/pcm", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  // A server without keys takes any.
  socket = new WebSocket(address, ["sayso.v1", `sayso.key.${getKey() || "none"}`]);
  socket.onopen = () => {
    const start = {call_id: makeId(), speaker_id: speakerId, encoding: "LINEAR16", sample_rate: SAMPLE_RATE};
    socket.send(JSON.stringify(start));
    for (const samples of waiting) socket.send(samples);
    waiting = [];
  };
  socket.onmessage = ({data}) => react.decide(JSON.parse(data));
  socket.onclose = ({code, reason}) => {
    microphone.close();
    react.end(code, reason);
  };
  return () => {
    microphone.close();
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({event: "end"}));
    else socket.close();
  };
}

const makeId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
