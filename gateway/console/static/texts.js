// The words of the page, in one of the languages of texts.json.

const LANGUAGE = "sayso.language";

let texts = {};
let all = {};
export let language = "en";

export async function loadTexts() {
  all = await (await fetch("texts.json")).json();
  const wanted = localStorage.getItem(LANGUAGE) ?? navigator.language.slice(0, 2);
  setLanguage(wanted in all ? wanted : "en");
}

export function setLanguage(chosen) {
  language = chosen;
  texts = all[chosen];
  document.documentElement.lang = chosen;
}

export function keepLanguage(chosen) {
  localStorage.setItem(LANGUAGE, chosen);
  setLanguage(chosen);
}

// The text of that name, with {values} filled in; the name itself if there is none.
export function say(name, values = {}) {
  const text = texts[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

export const sayNumber = (value, digits = 1) =>
  new Intl.NumberFormat(language, {minimumFractionDigits: digits, maximumFractionDigits: digits}).format(value);

export const sayTime = (time) =>
  time ? new Intl.DateTimeFormat(language, {dateStyle: "medium", timeStyle: "short"}).format(new Date(time)) : "";

export const sayClock = (time) =>
  new Intl.DateTimeFormat(language, {timeStyle: "medium"}).format(new Date(time));

// Fills in what the page's markup names: data-text, data-label (aria-label), data-hint (placeholder).
export function fillIn(root = document) {
  for (const each of root.querySelectorAll("[data-text]")) each.textContent = say(each.dataset.text);
  for (const each of root.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
  for (const each of root.querySelectorAll("[data-hint]")) each.placeholder = say(each.dataset.hint);
}
