// Groups and their members.

import {call, get, groupPath, post} from "./api.js";
import {find, make} from "./dom.js";
import {say} from "./texts.js";

let roles = new Set();
let opened = null;

export function setUpGroups() {
  find("group-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = find("group-name");
    attempt(() => post("/v1/groups", {name: field.value.trim()}), () => (field.value = ""));
  });
  find("member-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = find("member-id");
    attempt(() => post(groupPath(opened, "addMembers"), {speaker_ids: [field.value.trim()]}), () => (field.value = ""));
  });
}

export function showGroups(allowed) {
  roles = allowed;
  find("groups-lack").textContent = roles.has("verify") ? "" : say("lacks", {role: "verify"});
  find("groups-list").hidden = !roles.has("verify");
  find("group-form").hidden = !roles.has("admin");
  find("group-form-lack").textContent = roles.has("admin") || !roles.has("verify") ? "" : say("groups.lacks");
  if (roles.has("verify")) attempt(null);
}

// Does something, then shows how things are.
async function attempt(act, after = () => {}) {
  try {
    if (act) await act();
    after();
    find("groups-status").textContent = "";
    await drawGroups();
  } catch (error) {
    find("groups-status").textContent = error.message;
  }
}

async function drawGroups() {
  const groups = await listAll("/v1/groups", "groups");
  if (!groups.some(({name}) => name === opened)) opened = null;
  find("groups-rows").replaceChildren(...groups.map(makeGroup));
  if (!groups.length) find("groups-status").textContent = say("groups.none");
  find("group").hidden = opened === null;
  if (opened !== null) await drawMembers();
}

function makeGroup({name, description, member_count: members}) {
  const open = make("button", {className: "link", "aria-expanded": String(name === opened), onclick: () => {
    opened = name === opened ? null : name;
    attempt(null);
  }}, name);
  const remove = make("button", {className: "quiet small", "aria-label": say("groups.delete", {name}), onclick: () => {
    if (confirm(say("groups.sure", {name}))) attempt(() => call("DELETE", groupPath(name)));
  }}, say("groups.remove"));
  return make("tr", {},
    make("th", {scope: "row"}, open),
    make("td", {className: "wide"}, description),
    make("td", {className: "number"}, members),
    make("td", {}, roles.has("admin") ? remove : null));
}

async function drawMembers() {
  find("group-title").textContent = say("groups.members", {name: opened});
  find("member-form").hidden = !roles.has("enroll");
  find("members-lack").textContent = roles.has("enroll") ? "" : say("lacks", {role: "enroll"});
  const ids = roles.has("enroll") ? await listAll(`${groupPath(opened)}/members`, "speaker_ids") : [];
  find("members").replaceChildren(...ids.map((id) => make("li", {}, id, make("button", {
    className: "quiet small",
    "aria-label": say("groups.take-out", {id}),
    onclick: () => attempt(() => post(groupPath(opened, "removeMembers"), {speaker_ids: [id]})),
  }, "×"))));
}

// All pages of a list, up to 5000 entries.
async function listAll(path, name) {
  const found = [];
  let token = "";
  do {
    const page = await get(`${path}?page_size=1000${token && `&page_token=${encodeURIComponent(token)}`}`);
    found.push(...page[name]);
    token = page.next_page_token;
  } while (token && found.length < 5000);
  return found;
}
