// Signs in, and shows each part of the page what the roles of the key allow.

import {ApiError, findRoles, forgetKey, get, getKey, keepKey} from "./api.js";
import {setUpActivity, showActivity, stopActivity} from "./activity.js";
import {find, makeBadge} from "./dom.js";
import {setUpGroups, showGroups} from "./groups.js";
import {goToIssuer, loadIssuer, takeToken} from "./oidc.js";
import {setUpSpeakers, showSpeakers} from "./speakers.js";
import {fillIn, keepLanguage, language, loadTexts, say} from "./texts.js";
import {setUpTrial, showTrial} from "./trial.js";

let roles = null;
let info = null;

async function start() {
  await loadTexts();
  fillIn();
  find("language").value = language;
  find("language").addEventListener("change", changeLanguage);
  find("sign-in").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(find("key").value.trim());
  });
  find("sign-out").addEventListener("click", signOut);
  for (const setUp of [setUpTrial, setUpSpeakers, setUpGroups, setUpActivity]) setUp();
  await startSession();
  document.body.dataset.ready = "yes";
}

// Signs in with the token that an issuer has just given, or with what this tab has kept.
async function startSession() {
  let token = "";
  try {
    find("sign-in-issuer").hidden = !(await loadIssuer());
    find("sign-in-issuer").addEventListener("click", () => goToIssuer().catch(showFailure));
    token = await takeToken();
  } catch (error) {
    showSignIn();
    showFailure(error);
    return;
  }
  await signIn(token || getKey(), !token);
}

function showFailure(error) {
  find("sign-in-status").textContent = say("signin.failed", {why: error.message});
}

// Without a key a server that asks for none is open; `quietly` is the first attempt of a page.
async function signIn(key, quietly = false) {
  keepKey(key);
  find("sign-in-status").textContent = "";
  try {
    // One request first: a wrong key is then one refusal, not six.
    await get("/v1/server").then((answer) => (info = answer)).catch((error) => {
      if (!(error instanceof ApiError) || error.code !== 403) throw error;
    });
    roles = await findRoles();
  } catch (error) {
    forgetKey();
    showSignIn();
    if (quietly && !key && error.code === 401) return;
    find("sign-in-status").textContent = error.code === 401 ? say("signin.wrong") : say("signin.failed", {why: error.message});
    find("key").focus();
    return;
  }
  find("key").value = "";
  find("sign-in").hidden = true;
  find("page").hidden = false;
  find("sign-out").hidden = !key;
  showAll();
  if (!quietly) find("trial-title").focus();
}

function showAll() {
  find("roles").replaceChildren(...[...roles].flatMap((role) => [makeBadge(role, "plain"), " "]));
  find("version").textContent = info ? `Sayso ${info.version} · ${info.models.map((model) => model.model_id).join(", ")}` : "Sayso";
  showTrial(roles, info);
  showSpeakers(roles);
  showGroups(roles);
  showActivity(roles);
}

function showSignIn() {
  find("sign-in").hidden = false;
  find("page").hidden = true;
  find("sign-out").hidden = true;
  find("roles").replaceChildren();
}

function signOut() {
  stopActivity();
  forgetKey();
  location.reload();  // so that nothing of whom was signed in is left
}

function changeLanguage() {
  keepLanguage(find("language").value);
  fillIn();
  if (!find("page").hidden) showAll();
}

start();
