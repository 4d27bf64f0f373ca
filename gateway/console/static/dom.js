// Elements, made and found.

export const find = (id) => document.getElementById(id);

// An element with properties and children: make("button", {className: "quiet"}, "Undo").
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// A word in a shape and colour: never by the colour alone.
export const makeBadge = (text, tone) => make("span", {className: `badge ${tone}`}, text);

// A term and what it is, for a list of them.
export const makeFact = (term, ...what) => make("div", {}, make("dt", {}, term), make("dd", {}, ...what));
