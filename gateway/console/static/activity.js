// Calls as they happen, and the figures of the last day, both counted from events.

import {watchEvents} from "./api.js";
import {find, make, makeBadge} from "./dom.js";
import {openSpeaker} from "./speakers.js";
import {say, sayClock, sayNumber} from "./texts.js";
import {TONES} from "./trial.js";

const DAY_MS = 24 * 3600 * 1000;
const SHOWN_CALLS = 12;
const SHOWN_EVENTS = 8;

let roles = new Set();
let stop = null;
let seen = new Set();
let calls = new Map();  // by request id
let others = [];
let counted = [];
let lost = 0;
let connected = false;
let drawing = 0;

export function setUpActivity() {
  setInterval(() => stop && drawSoon(), 60_000);
}

export function showActivity(allowed) {
  roles = allowed;
  stopActivity();
  find("activity").hidden = !roles.has("watch");
  find("activity-lack").textContent = roles.has("watch") ? "" : say("activity.lacks");
  if (!roles.has("watch")) return;
  [seen, calls, others, counted, lost] = [new Set(), new Map(), [], [], 0];
  stop = new AbortController();
  const react = {take, lose: (count) => (lost += count), connect: (is) => ((connected = is), drawSoon())};
  watchEvents(react, stop.signal).catch((error) => (find("activity-status").textContent = error.message));
  drawSoon();
}

export function stopActivity() {
  stop?.abort();
  stop = null;
}

function take(event) {
  if (seen.has(event.event_id)) return;  // events may come twice
  seen.add(event.event_id);
  const kind = event.type.replace("EVENT_TYPE_", "");
  if (event.request_id && event.decision) takeCall(event, kind);
  else others = [{...event, kind}, ...others].slice(0, SHOWN_EVENTS);
  counted.push({kind, time: Date.parse(event.create_time), outcome: readOutcome(event), speechS: event.decision?.quality?.net_speech_s});
  drawSoon();
}

function takeCall(event, kind) {
  const call = calls.get(event.request_id) ?? {start: event.create_time, watchlisted: false};
  calls.delete(event.request_id);
  calls.set(event.request_id, Object.assign(call, {
    speakerId: event.speaker_id,
    outcome: readOutcome(event),
    time: event.create_time,
    changed: call.changed || kind === "DECISION_CHANGED",
    watchlisted: call.watchlisted || event.watchlist_matches.length > 0,
    ended: call.ended || kind === "CALL_ENDED",
    speechS: event.decision.quality?.net_speech_s ?? 0,
  }));
  if (calls.size > 200) calls.delete(calls.keys().next().value);
}

const readOutcome = ({decision}) => decision?.outcome.replace("OUTCOME_", "");

// Events of a day come in their thousands at once: drawn once for all of a moment.
function drawSoon() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

function draw() {
  const since = Date.now() - DAY_MS;
  counted = counted.filter(({time}) => time > since);
  find("activity-status").textContent = connected ? say("activity.live") : say("activity.away");
  find("activity-status").className = connected ? "live" : "live away";
  find("lost").textContent = lost ? say("activity.lost", {count: lost}) : "";
  const latest = [...calls.values()].reverse().slice(0, SHOWN_CALLS);
  find("calls-rows").replaceChildren(...latest.map(makeCall));
  find("calls-none").textContent = latest.length ? "" : say("calls.none");
  find("events").replaceChildren(...others.map(makeEvent));
  drawFigures();
  drawHours(since);
}

function makeCall({speakerId, outcome, time, ended, watchlisted, changed, speechS}) {
  return make("tr", {},
    make("td", {}, make("time", {dateTime: time}, sayClock(time))),
    make("th", {scope: "row"}, makeSpeaker(speakerId)),
    make("td", {}, makeBadge(say(`outcome.${outcome}`), TONES[outcome] ?? "open"),
      changed ? makeBadge(say("calls.changed"), "bad") : null, watchlisted ? makeBadge(say("calls.watchlisted"), "bad") : null),
    make("td", {className: "wide"}, `${sayNumber(speechS)} s`),
    make("td", {className: "wide"}, say(ended ? "calls.ended" : "calls.running")));
}

function makeEvent({kind, speaker_id: id, create_time: time}) {
  return make("li", {}, make("time", {dateTime: time}, sayClock(time)), " ", say(`event.${kind}`), " ", makeSpeaker(id));
}

function makeSpeaker(id) {
  if (!id) return "–";
  if (!roles.has("verify")) return id;
  return make("button", {className: "link", onclick: () => openSpeaker(id)}, id);
}

function drawFigures() {
  const ended = counted.filter(({kind}) => kind === "CALL_ENDED");
  const count = (kind) => counted.filter((each) => each.kind === kind).length;
  const withOutcome = (outcome) => ended.filter((each) => each.outcome === outcome).length;
  const speech = counted.filter(({kind, speechS}) => kind === "DECISION_REACHED" && speechS).map(({speechS}) => speechS).sort((a, b) => a - b);
  const figures = [
    ["calls", ended.length], ["accepted", withOutcome("ACCEPTED")], ["rejected", withOutcome("REJECTED")],
    ["speech", speech.length ? `${sayNumber(speech[Math.floor(speech.length / 2)])} s` : "–"],
    ["enrolled", count("ENROLLMENT_COMPLETED")], ["locked", count("SPEAKER_LOCKED")], ["watchlisted", count("WATCHLIST_MATCHED")],
  ];
  find("figures").replaceChildren(...figures.map(([name, value]) =>
    make("div", {className: `figure ${name}`}, make("dt", {}, say(`figure.${name}`)), make("dd", {}, String(value)))));
}

// Calls of each hour as bars, stacked by outcome.
function drawHours(since) {
  const hours = Array.from({length: 24}, () => ({ACCEPTED: 0, REJECTED: 0, other: 0}));
  for (const {kind, time, outcome} of counted) {
    if (kind !== "CALL_ENDED") continue;
    const hour = hours[Math.min(23, Math.floor((time - since) / 3600_000))];
    hour[outcome in hour ? outcome : "other"] += 1;
  }
  const most = Math.max(1, ...hours.map((hour) => hour.ACCEPTED + hour.REJECTED + hour.other));
  const bars = hours.flatMap((hour, i) => {
    let y = 60;
    return ["ACCEPTED", "REJECTED", "other"].map((outcome) => {
      const height = (hour[outcome] / most) * 56;
      y -= height;
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of Object.entries({class: `bar ${outcome.toLowerCase()}`, x: i * 10 + 1, y, width: 8, height})) bar.setAttribute(name, value);
      return bar;
    });
  });
  find("hours").replaceChildren(...bars);
  find("hours").setAttribute("aria-label", say("hours.label", {most}));
}
