// Speakers: a list in pages, and one of them with what may be done to it.

import {call, get, post, speakerPath} from "./api.js";
import {find, make, makeBadge, makeFact} from "./dom.js";
import {say, sayNumber, sayTime} from "./texts.js";

const PAGE = 20;
const TONES = {ENROLLED: "good", OPTED_OUT: "bad", EXPIRED: "bad"};

let roles = new Set();
let pages = [""];  // the token of each page so far
let nextToken = "";
let opened = null;

export function setUpSpeakers() {
  find("speaker-search").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = find("speaker-query").value.trim();
    if (id) openSpeaker(id);
  });
  find("speaker-state").addEventListener("change", () => listSpeakers(true));
  find("speakers-refresh").addEventListener("click", () => listSpeakers(false));
  find("speakers-next").addEventListener("click", () => (pages.push(nextToken), listSpeakers(false)));
  find("speakers-back").addEventListener("click", () => (pages.pop(), listSpeakers(false)));
}

export function showSpeakers(allowed) {
  roles = allowed;
  find("speaker-query").disabled = !roles.has("verify");
  find("speakers-list").hidden = !roles.has("enroll");
  find("speakers-lack").textContent = roles.has("enroll") ? "" : say("speakers.lacks");
  if (roles.has("enroll")) listSpeakers(true);
  if (opened && roles.has("verify")) openSpeaker(opened.speaker.speaker_id, false);
  else closeSpeaker();
}

async function listSpeakers(anew) {
  if (anew) pages = [""];
  const query = new URLSearchParams({page_size: PAGE});
  if (pages.at(-1)) query.set("page_token", pages.at(-1));
  if (find("speaker-state").value) query.set("filter.states", find("speaker-state").value);
  try {
    const {speakers, next_page_token: token} = await get(`/v1/speakers?${query}`);
    nextToken = token;
    const detailed = roles.has("verify")
      ? await Promise.all(speakers.map(({speaker_id: id}) => get(speakerPath(id)).catch(() => null)))
      : [];
    find("speakers-rows").replaceChildren(...speakers.map((speaker, i) => makeRow(detailed[i]?.speaker ?? speaker, detailed[i])));
    find("speakers-status").textContent = speakers.length ? "" : say("speakers.none");
  } catch (error) {
    find("speakers-status").textContent = error.message;
  }
  find("speakers-next").disabled = !nextToken;
  find("speakers-back").disabled = pages.length < 2;
}

function makeRow(speaker, detailed) {
  const name = make("button", {className: "link", onclick: () => openSpeaker(speaker.speaker_id)}, speaker.speaker_id);
  return make("tr", {},
    make("th", {scope: "row"}, roles.has("verify") ? name : speaker.speaker_id),
    make("td", {}, makeState(speaker), " ", isLocked(detailed) ? makeBadge(say("speaker.locked"), "bad") : null),
    make("td", {className: "wide"}, `${sayNumber(speaker.progress?.net_speech_s ?? 0)} s`),
    make("td", {className: "wide"}, speaker.consent ? say("yes") : say("no")));
}

function makeState({state}) {
  const name = state.replace("SPEAKER_STATE_", "");
  return makeBadge(say(`state.${name}`), TONES[name] ?? "open");
}

function isLocked(detailed) {
  const failed = detailed?.failed_verifications;
  return Boolean(failed?.disabled || (failed?.lock_expire_time && new Date(failed.lock_expire_time) > Date.now()));
}

export async function openSpeaker(id, focus = true) {
  try {
    opened = await get(speakerPath(id));
    find("speakers-status").textContent = "";
    drawSpeaker();
    if (focus) find("speaker-name").focus();
  } catch (error) {
    closeSpeaker();
    find("speakers-status").textContent = error.code === 404 ? say("speaker.unknown", {id}) : error.message;
  }
}

function closeSpeaker() {
  opened = null;
  find("speaker").hidden = true;
}

function drawSpeaker() {
  const {speaker, failed_verifications: failed} = opened;
  const locked = isLocked(opened);
  const until = failed?.disabled ? say("speaker.until-unlocked") : locked ? say("speaker.until", {time: sayTime(failed.lock_expire_time)}) : say("no");
  find("speaker").hidden = false;
  find("speaker-name").textContent = speaker.speaker_id;
  find("speaker-badges").replaceChildren(makeState(speaker), " ", ...(locked ? [makeBadge(say("speaker.locked"), "bad")] : []));
  find("speaker-facts").replaceChildren(
    makeFact(say("fact.speech"), `${sayNumber(speaker.progress?.net_speech_s ?? 0)} s`),
    makeFact(say("fact.needed"), `${sayNumber(speaker.progress?.speech_needed_s ?? 0)} s`),
    makeFact(say("fact.consent"), speaker.consent ? `${speaker.consent.reference} (${sayTime(speaker.consent.time)})` : say("none")),
    makeFact(say("fact.locked"), until),
    makeFact(say("fact.failures"), say("speaker.failures", {consecutive: failed?.consecutive ?? 0, total: failed?.total ?? 0})),
    makeFact(say("fact.undo"), String(speaker.undo_levels)),
    makeFact(say("fact.expires"), sayTime(speaker.expire_time) || say("never")),
    makeFact(say("fact.changed"), sayTime(speaker.update_time) || "–"));
  find("speaker-actions").replaceChildren(...listActions(speaker, failed, locked));
}

function listActions(speaker, failed, locked) {
  const {speaker_id: id, etag} = speaker;
  const state = speaker.state.replace("SPEAKER_STATE_", "");
  const act = (verb) => () => post(speakerPath(id, verb), verb === "unlock" ? {} : {etag});
  const setConsent = (consent) => () => call("PATCH", `${speakerPath(id)}?update_mask=consent`, {...consent, etag});
  const recordConsent = () => {
    const reference = prompt(say("consent.ask"));
    return reference ? setConsent({consent: {reference}})() : undefined;
  };
  return [
    (locked || failed?.total > 0) && makeAction("unlock", "admin", act("unlock")),
    state === "UNCONFIRMED" && makeAction("confirm", "confirm", act("confirmEnrollment")),
    speaker.undo_levels > 0 && makeAction("undo", "enroll", act("undoEnrollment"), id),
    state !== "OPTED_OUT" && !speaker.consent && makeAction("consent", "enroll", recordConsent),
    speaker.consent && makeAction("withdraw", "enroll", setConsent({}), id),
    state !== "OPTED_OUT" && makeAction("optout", "enroll", act("optOut"), id),
    state === "OPTED_OUT" && makeAction("optin", "enroll", act("optIn")),
    makeAction("delete", "enroll", () => call("DELETE", `${speakerPath(id)}?etag=${encodeURIComponent(etag)}`), id),
  ].filter(Boolean);
}

// A button; one that the role does not allow says so. With `asked` the person confirms it first.
function makeAction(name, role, act, asked = null) {
  const lacks = !roles.has(role);
  const button = make("button", {
    className: name === "delete" || name === "optout" ? "danger" : "quiet",
    disabled: lacks,
    title: lacks ? say("lacks", {role}) : "",
    onclick: () => run(name, act, asked),
  }, say(`action.${name}`));
  return lacks ? make("span", {className: "lacking"}, button, make("small", {}, say("lacks", {role}))) : button;
}

async function run(name, act, asked) {
  if (asked !== null && !confirm(say(`action.${name}.sure`, {id: asked}))) return;
  const id = opened.speaker.speaker_id;
  try {
    const done = await act();
    if (done === undefined) return;
    if (name === "delete") closeSpeaker();
    else await openSpeaker(id);
    find("speakers-status").textContent = say(`action.${name}.done`, {id});
  } catch (error) {
    find("speakers-status").textContent = error.message;
    if (error.code === 409) await openSpeaker(id, false);
    return;
  }
  if (roles.has("enroll")) await listRows();
}

async function listRows() {
  const said = find("speakers-status").textContent;
  await listSpeakers(false);
  find("speakers-status").textContent = said;
}
