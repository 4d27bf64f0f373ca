// Enroll a voice with the microphone, then verify who is talking.

import {post, speakerPath} from "./api.js";
import {startCall} from "./call.js";
import {Chart} from "./chart.js";
import {find, makeBadge, makeFact} from "./dom.js";
import {encode, measureLevel, Microphone, SAMPLE_RATE} from "./microphone.js";
import {say, sayNumber} from "./texts.js";

const MAX_S = 60;
const SPARE = 1.35;  // the server's voice activity hears less speech than the level tells
const FLOOR_DBFS = -50;

export const TONES = {ACCEPTED: "good", REJECTED: "bad", INCONCLUSIVE: "open"};

let enrolling = null;
let stopCall = null;
let neededS = 10;
let chart = null;
let lastAnswer = null;
let enrolled = null;

export function setUpTrial() {
  chart = new Chart(find("chart"));
  find("enroll").addEventListener("click", () => (enrolling ? finishEnrollment() : startEnrollment()));
  find("verify").addEventListener("click", () => (stopCall ? stopCall() : startVerification()));
}

// What the roles allow; `info` is of the server.
export function showTrial(roles, info) {
  neededS = info?.limits.enrollment_net_speech_s ?? neededS;
  for (const [id, role] of [["enroll", "enroll"], ["verify", "verify"]]) {
    find(id).disabled = !roles.has(role);
    find(`${id}-lacks`).textContent = roles.has(role) ? "" : say("lacks", {role});
  }
  find("enroll-hint").textContent = say("enroll.hint", {seconds: sayNumber(neededS * SPARE, 0)});
  find("scores-lack").textContent = roles.has("analyze") || !roles.has("verify") ? "" : say("verify.noscores");
  find("chart-box").hidden = !roles.has("analyze");
  setButton("enroll", enrolling ? "enroll.stop" : "enroll.start");
  setButton("verify", stopCall ? "verify.stop" : "verify.start");
  chart.draw();
  if (lastAnswer) showDecision(lastAnswer);
  if (enrolled) showEnrolled();
}

async function startEnrollment() {
  const id = readId();
  if (!id) return;
  const recording = {id, blocks: [], speechS: 0, microphone: null};
  enrolling = recording;
  find("enroll-answer").textContent = say("enroll.speak");
  find("verify").disabled = true;
  try {
    recording.microphone = await Microphone.open((samples) => {
      recording.blocks.push(samples);
      const level = measureLevel(samples);
      showLevel(level);
      if (level > FLOOR_DBFS) recording.speechS += samples.length / SAMPLE_RATE;
      find("enroll-progress").value = Math.min(1, recording.speechS / (neededS * SPARE));
      const recordedS = (recording.blocks.length * samples.length) / SAMPLE_RATE;
      if (enrolling === recording && (recording.speechS >= neededS * SPARE || recordedS >= MAX_S)) finishEnrollment();
    });
    setButton("enroll", "enroll.stop");
  } catch (error) {
    enrolling = null;
    find("enroll-answer").textContent = explainMicrophone(error);
    find("verify").disabled = false;
  }
}

async function finishEnrollment() {
  const {id, blocks, microphone} = enrolling;
  if (!microphone) return;
  enrolling = null;
  microphone.close();
  showLevel(-100);
  find("enroll").disabled = true;
  find("enroll-answer").textContent = say("enroll.sending");
  try {
    const audioConfig = {encoding: "AUDIO_ENCODING_LINEAR16", sample_rate_hertz: SAMPLE_RATE};
    enrolled = await post(speakerPath(id, "enroll"), {config: {audio_config: audioConfig}, audio: encode(blocks)});
    showEnrolled();
  } catch (error) {
    find("enroll-answer").textContent = error.message;
  }
  find("enroll").disabled = find("verify").disabled = false;
  setButton("enroll", "enroll.start");
}

function showEnrolled() {
  const {stored, progress, reasons, quality} = enrolled;
  find("enroll-progress").value = progress.net_speech_s / (progress.net_speech_s + progress.speech_needed_s || 1);
  const values = {
    speech: sayNumber(progress.net_speech_s),
    needed: sayNumber(progress.speech_needed_s),
    reasons: reasons.map((reason) => say(`reason.${reason.replace("REASON_", "")}`)).join(", "),
    snr: quality?.snr_db === undefined ? "" : say("quality.short", {snr: sayNumber(quality.snr_db, 0)}),
  };
  const outcome = !stored ? "refused" : progress.speech_needed_s > 0 ? "more" : "done";
  find("enroll-answer").textContent = say(`enroll.${outcome}`, values);
}

async function startVerification() {
  const id = readId();
  if (!id) return;
  chart.clear();
  lastAnswer = null;
  find("decision").replaceChildren(makeBadge(say("verify.listening"), "open"));
  find("explanation").textContent = say("verify.speak");
  find("facts").replaceChildren();
  find("enroll").disabled = true;
  try {
    stopCall = await startCall(id, {hear: (samples) => showLevel(measureLevel(samples)), decide: showAnswer, end: endVerification});
    setButton("verify", "verify.stop");
  } catch (error) {
    find("decision").replaceChildren();
    find("explanation").textContent = explainMicrophone(error);
    find("enroll").disabled = false;
  }
}

function showAnswer(answer) {
  chart.add(answer);
  showDecision(answer);
}

function showDecision(answer) {
  const {outcome, reasons} = answer;
  if (lastAnswer?.outcome !== outcome || !find("decision").firstChild || lastAnswer === answer) {
    find("decision").replaceChildren(makeBadge(say(`outcome.${outcome}`), TONES[outcome] ?? "open"));
  }
  lastAnswer = answer;
  const why = reasons.map((reason) => say(`reason.${reason}`));
  find("explanation").textContent = why.length ? why.join(" · ") : say(`outcome.${outcome}.means`);
  const facts = [
    ["fact.speech", `${sayNumber(answer.net_speech_s)} s`],
    ["fact.needed", outcome === "INCONCLUSIVE" ? `${sayNumber(answer.speech_needed_s)} s` : "–"],
    ["fact.noise", answer.snr_db === null ? "–" : `${sayNumber(answer.snr_db, 0)} dB`],
    ["fact.clipping", `${sayNumber(answer.clipping_ratio * 100, 1)} %`],
    ["fact.band", answer.band ? say(`band.${answer.band}`) : "–"],
  ];
  if (answer.llr !== undefined) facts.unshift(["fact.llr", sayNumber(answer.llr)]);
  find("facts").replaceChildren(...facts.map(([term, value]) => makeFact(say(term), value)));
  find("chart").setAttribute("aria-label", say("chart.label", {llr: answer.llr === undefined ? "" : sayNumber(answer.llr)}));
}

function endVerification(code) {
  stopCall = null;
  showLevel(-100);
  setButton("verify", "verify.start");
  find("enroll").disabled = false;
  if (lastAnswer) return;
  find("decision").replaceChildren();
  find("explanation").textContent = say(code === 1000 ? "verify.nothing" : "verify.refused", {code});
}

function readId() {
  const field = find("speaker-id");
  field.value = field.value.trim();
  const lacks = !field.value;
  field.setAttribute("aria-invalid", lacks);
  if (lacks) {
    find("enroll-answer").textContent = say("speaker.needed");
    field.focus();
  }
  return field.value;
}

const setButton = (id, text) => (find(id).textContent = say(text));

const showLevel = (dbfs) => (find("level").value = Math.max(0, Math.min(1, (dbfs + 60) / 50)));

function explainMicrophone({name, message}) {
  const known = {NotAllowedError: "microphone.denied", NotFoundError: "microphone.none", SecurityError: "microphone.insecure"};
  return name in known ? say(known[name]) : `${say("microphone.failed")} ${message}`;
}
