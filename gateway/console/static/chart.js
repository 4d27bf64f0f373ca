// The log-likelihood ratio over seconds of speech, between the bounds of Wald's test, as SVG.

import {say, sayNumber} from "./texts.js";

const [WIDTH, HEIGHT] = [720, 260];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 16, 16, 30];
const NAMES = "http://www.w3.org/2000/svg";

export class Chart {
  constructor(svg) {
    this.svg = svg;
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.clear();
  }

  clear() {
    this.points = [];
    this.accept = null;
    this.reject = null;
    this.draw();
  }

  // Takes the next answer of a call; those without a score add nothing.
  add(answer) {
    if (answer.llr === undefined) return;
    this.points.push({speechS: answer.net_speech_s, llr: answer.llr, outcome: answer.outcome});
    const bounds = readBounds(answer.threshold_description);
    if (bounds) this.reject = bounds.reject;
    if (answer.outcome !== "REJECTED" || !bounds) this.accept = answer.threshold_llr;
    else this.accept ??= bounds.accept;
    this.draw();
  }

  draw() {
    const {points, accept, reject} = this;
    const values = [...points.map(({llr}) => llr), accept ?? 5, reject ?? -5];
    const high = Math.max(...values) + 2;
    const low = Math.min(...values) - 2;
    const endS = Math.max(6, ...points.map(({speechS}) => speechS * 1.15));
    const x = (speechS) => LEFT + (speechS / endS) * (WIDTH - LEFT - RIGHT);
    const y = (llr) => TOP + ((high - llr) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    const add = (tag, attributes, text) => parts.push(makeShape(tag, attributes, text));

    if (accept !== null) add("rect", {class: "zone accept", x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: Math.max(0, y(accept) - TOP)});
    if (reject !== null) add("rect", {class: "zone reject", x: LEFT, y: y(reject), width: WIDTH - LEFT - RIGHT, height: Math.max(0, HEIGHT - BOTTOM - y(reject))});
    for (const llr of listTicks(low, high)) {
      add("line", {class: llr === 0 ? "grid zero" : "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(llr), y2: y(llr)});
      add("text", {class: "tick", x: LEFT - 8, y: y(llr) + 4, "text-anchor": "end"}, String(llr).replace("-", "−"));
    }
    for (let s = 0; s <= endS; s += endS > 14 ? 5 : 2) {
      add("text", {class: "tick", x: x(s), y: HEIGHT - 10, "text-anchor": "middle"}, `${s} s`);
    }
    for (const [name, llr, dy] of [["accept", accept, -7], ["reject", reject, 17]]) {
      if (llr === null) continue;
      add("line", {class: `bound ${name}`, x1: LEFT, x2: WIDTH - RIGHT, y1: y(llr), y2: y(llr)});
      add("text", {class: `name ${name}`, x: WIDTH - RIGHT - 6, y: y(llr) + dy, "text-anchor": "end"},
        `${say(`chart.${name}`)} ${sayNumber(llr)}`);
    }
    if (points.length) {
      const path = points.map(({speechS, llr}) => `${x(speechS).toFixed(1)},${y(llr).toFixed(1)}`).join(" ");
      add("polyline", {class: "llr", points: path});
      const last = points.at(-1);
      add("circle", {class: `now ${last.outcome.toLowerCase()}`, cx: x(last.speechS), cy: y(last.llr), r: 6});
    }
    this.svg.replaceChildren(...parts);
  }
}

// Wald's bounds (1945) from the error rates that a sequential test's threshold names; null if it is
// another threshold.
export function readBounds(description = "") {
  const rates = /error rates ([\d.e-]+) \/ ([\d.e-]+)/.exec(description);
  if (!rates) return null;
  const [falseMatch, falseNonMatch] = [Number(rates[1]), Number(rates[2])];
  return {
    accept: Math.log((1 - falseNonMatch) / falseMatch),
    reject: Math.log(falseNonMatch / (1 - falseMatch)),
  };
}

function listTicks(low, high) {
  const step = [1, 2, 5, 10, 20, 50, 100].find((each) => (high - low) / each <= 7) ?? 200;
  const ticks = [];
  for (let llr = Math.ceil(low / step) * step; llr <= high; llr += step) ticks.push(llr || 0);
  return ticks;
}

function makeShape(tag, attributes, text = "") {
  const shape = document.createElementNS(NAMES, tag);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  shape.textContent = text;
  return shape;
}
