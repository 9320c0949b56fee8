"use strict";
// Elements, numbers, and a list that keeps only what is in sight in the document. All texts go in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const whole = (n) => n.toLocaleString("en-US");
const plural = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;

/** A time in us as seconds. */
const seconds = (us) => (us / 1e6).toFixed(6);

/** A span of us in the unit that suits it. */
function span(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 2 : 1)} ms`;
  return `${(us / 1e6).toFixed(3)} s`;
}

/** A class name for an outcome. */
const slug = (outcome) => outcome.replace(/ /g, "-");

/** A list of which only the rows in sight stand in the document, however long it is. */
class Sight {
  constructor(box, height, draw, choose) {
    Object.assign(this, { box, height, draw, choose, items: [], from: 0, to: 0, chosen: -1 });
    this.inner = el("div", { class: "sight" });
    box.replaceChildren(this.inner);
    box.tabIndex = 0;
    box.addEventListener("scroll", () => this.refresh());
    box.addEventListener("keydown", (e) => this.key(e));
    this.watch = new ResizeObserver(() => this.refresh());
    this.watch.observe(box);
  }

  show(items) {
    this.items = items;
    this.inner.style.height = `${items.length * this.height}px`;
    this.box.scrollTop = 0;
    this.from = this.to = 0;
    this.inner.replaceChildren();
    this.refresh();
  }

  refresh(force) {
    const from = Math.max(0, Math.floor(this.box.scrollTop / this.height) - 5);
    const to = Math.min(this.items.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 5);
    if (!force && from === this.from && to === this.to) return;
    this.from = from;
    this.to = to;
    const rows = [];
    for (let k = from; k < to; k++) {
      const row = this.draw(this.items[k]);
      row.style.top = `${k * this.height}px`;
      row.style.height = `${this.height}px`;
      if (this.items[k] === this.chosen) row.classList.add("chosen");
      if (this.choose) row.addEventListener("click", () => this.pick(k));
      rows.push(row);
    }
    this.inner.replaceChildren(...rows);
  }

  pick(k) {
    if (!this.choose || k < 0 || k >= this.items.length) return;
    this.chosen = this.items[k];
    const top = k * this.height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.height > this.box.scrollTop + this.box.clientHeight)
      this.box.scrollTop = top + this.height - this.box.clientHeight;
    this.refresh(true);
    this.choose(this.chosen);
  }

  key(e) {
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[e.key];
    if (!move || !this.choose) return;
    e.preventDefault();
    const at = this.items.indexOf(this.chosen);
    this.pick(Math.max(0, Math.min(this.items.length - 1, at + move)));
  }
}

/** A row of buttons of which one is on. */
function choice(label, options, at, choose) {
  const buttons = options.map((text, k) =>
    el("button", { role: "tab", "aria-selected": String(k === at), onclick: () => turn(k) }, text));
  const turn = (k) => {
    buttons.forEach((b, n) => b.setAttribute("aria-selected", String(n === k)));
    choose(k);
  };
  return el("div", { class: "choice", role: "tablist", "aria-label": label }, buttons);
}
