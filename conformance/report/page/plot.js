// One direction of a connection over time: data, what was sent again, the acknowledged and the offered edge, SACKs.

const MARGIN = { left: 78, right: 12, top: 10, bottom: 34 };
const HUES = 6; // --again-0 to --again-5 in the style sheet
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** About `n` round steps between two numbers. */
function ticks(from, to, n) {
  const raw = (to - from) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const out = [];
  for (let x = Math.ceil(from / step) * step; x <= to; x += step) out.push(x);
  return out;
}

class Plot {
  constructor(subject, choose) {
    Object.assign(this, { subject, choose, side: 0, hover: null, drag: null });
    this.canvas = el("canvas", { class: "plot", tabindex: 0, "aria-label": "Time–sequence plot" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.legend = el("div", { class: "legend small" });
    const sent = [0, 1].map((s) => subject.frames.reduce((n, f) => n + (f[SOURCE] === s ? f[LEN] : 0), 0));
    this.side = sent[1] > sent[0] ? 1 : 0;
    this.node = el("div", { class: "plotbox" },
      el("div", { class: "line" },
        choice("Direction", [0, 1].map((s) => `from ${subject.ends[s]}`), this.side, (s) => this.turn(s)),
        el("button", { class: "reset", onclick: () => this.reset() }, "whole")),
      this.legend, el("div", { class: "over" }, this.canvas, this.tip),
      el("p", { class: "dim small" }, "Drag or wheel: zoom (wheel with alt: sequence only, with shift: time only). Shift and drag: "
        + "move. Double click: whole. Click: the frame."));
    const on = (name, f) => this.canvas.addEventListener(name, f, { passive: false });
    on("wheel", (e) => this.wheel(e));
    on("pointerdown", (e) => this.press(e));
    on("pointermove", (e) => this.move(e));
    on("pointerup", (e) => this.release(e));
    on("pointerleave", () => { this.hover = null; this.tip.hidden = true; this.draw(); });
    on("dblclick", () => this.reset());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.turn(this.side);
  }

  turn(side) {
    const s = this.subject;
    this.side = side;
    this.data = [];
    this.acks = [];
    const steps = new Map();
    for (const f of s.frames) {
      if (!isTcp(f)) continue;
      if (f[SOURCE] === side) {
        const from = s.relative(side, f[SEQ]);
        const to = from + f[LEN] + (f[FLAGS] & 1) + ((f[FLAGS] & 2) >> 1);
        const again = s.again.has(f[NUMBER]);
        const step = again ? s.step(f[NUMBER]) || "sent again" : "";
        if (again && !steps.has(step)) steps.set(step, steps.size % HUES);
        this.data.push({ f, t: f[TIME], from, to, hue: again ? steps.get(step) : -1 });
      } else if (f[FLAGS] & 16) {
        const ack = s.relative(side, f[ACK]);
        const sack = f[SACK].map((b) => b.map((x) => s.relative(side, x)));
        this.acks.push({ f, t: f[TIME], ack, edge: ack + s.window(f), sack });
      }
    }
    const key = (style, text) => el("span", { class: "key" }, el("i", { style: `background:var(${style})` }), text);
    this.legend.replaceChildren(key("--data", "data"), ...[...steps].map(([step, hue]) => key(`--again-${hue}`, step)),
      key("--ack", "acknowledged"), key("--edge", "window"), key("--sack", "SACK"),
      ...(s.gaps.size ? [key("--soft", "frames not drawn")] : []), ...(s.scales.size || !this.acks.length ? [] : [el("span", { class: "dim" }, "window without its scale: no SYN")]));
    this.reset();
  }

  reset() {
    const times = [...this.data, ...this.acks].map((x) => x.t);
    const ys = [...this.data.flatMap((d) => [d.from, d.to]), ...this.acks.map((a) => a.ack), 0];
    let [t0, t1, y0, y1] = [1e300, -1e300, 1e300, -1e300];
    for (const t of times) { t0 = Math.min(t0, t); t1 = Math.max(t1, t); }
    for (const y of ys) { y0 = Math.min(y0, y); y1 = Math.max(y1, y); }
    if (!times.length) [t0, t1] = [0, 1];
    const [dt, dy] = [Math.max(t1 - t0, 10), Math.max(y1 - y0, 10)];
    this.view = { t0: t0 - dt * 0.02, t1: t1 + dt * 0.02, y0: y0 - dy * 0.03, y1: y1 + dy * 0.08 };
    this.draw();
  }

  x(t) { return MARGIN.left + ((t - this.view.t0) / (this.view.t1 - this.view.t0)) * this.w; }
  y(n) { return MARGIN.top + this.h - ((n - this.view.y0) / (this.view.y1 - this.view.y0)) * this.h; }
  t(x) { return this.view.t0 + ((x - MARGIN.left) / this.w) * (this.view.t1 - this.view.t0); }
  n(y) { return this.view.y0 + ((MARGIN.top + this.h - y) / this.h) * (this.view.y1 - this.view.y0); }

  draw() {
    const { canvas, view } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.dataset.view = JSON.stringify(view);
    canvas.dataset.points = this.data.length + this.acks.length;
    this.w = width - MARGIN.left - MARGIN.right;
    this.h = height - MARGIN.top - MARGIN.bottom;
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    g.clearRect(0, 0, width, height);
    g.font = "11px system-ui, sans-serif";
    this.grid(g, height);
    g.save();
    g.beginPath();
    g.rect(MARGIN.left, MARGIN.top, this.w, this.h);
    g.clip();
    this.gaps(g);
    this.stairs(g, "edge", css("--edge"));
    this.stairs(g, "ack", css("--ack"));
    this.bars(g);
    g.restore();
    if (this.drag && this.drag.zoom) {
      const [a, b] = [this.drag.from, this.drag.to];
      g.fillStyle = css("--select");
      g.fillRect(Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1]));
    }
  }

  grid(g, height) {
    g.strokeStyle = css("--grid");
    g.fillStyle = css("--dim");
    g.lineWidth = 1;
    const { t0, t1, y0, y1 } = this.view;
    const digits = Math.max(0, Math.min(6, 7 - Math.floor(Math.log10(Math.max(t1 - t0, 1)))));
    g.textAlign = "center";
    for (const t of ticks(t0, t1, Math.max(2, this.w / 110))) {
      g.beginPath(); g.moveTo(this.x(t), MARGIN.top); g.lineTo(this.x(t), MARGIN.top + this.h); g.stroke();
      g.fillText(`${(t / 1e6).toFixed(digits)} s`, this.x(t), height - 14);
    }
    g.textAlign = "right";
    for (const n of ticks(y0, y1, Math.max(2, this.h / 55))) {
      g.beginPath(); g.moveTo(MARGIN.left, this.y(n)); g.lineTo(MARGIN.left + this.w, this.y(n)); g.stroke();
      g.fillText(whole(Math.round(n) + 0), MARGIN.left - 6, this.y(n) + 4);
    }
  }

  /** The times of which no frame is drawn. */
  gaps(g) {
    const frames = this.subject.frames;
    g.fillStyle = css("--soft");
    for (const at of this.subject.gaps.keys()) {
      const from = at > 0 ? this.x(frames[at - 1][TIME]) : MARGIN.left;
      const to = at < frames.length ? this.x(frames[at][TIME]) : MARGIN.left + this.w;
      g.fillRect(from, MARGIN.top, Math.max(to - from, 1), this.h);
    }
  }

  stairs(g, what, colour) {
    g.strokeStyle = colour;
    g.lineWidth = 1.25;
    g.beginPath();
    let before = null;
    for (const a of this.acks) {
      if (a.f[FLAGS] & 4) continue;
      if (before !== null) g.lineTo(this.x(a.t), this.y(before));
      g[before === null ? "moveTo" : "lineTo"](this.x(a.t), this.y(a[what]));
      before = a[what];
    }
    if (before !== null) g.lineTo(MARGIN.left + this.w, this.y(before));
    g.stroke();
  }

  bars(g) {
    const bar = (t, from, to, colour, width) => {
      const [a, b] = [this.y(from), this.y(to)];
      g.fillStyle = colour;
      g.fillRect(this.x(t) - width / 2, Math.min(a, b) - (Math.abs(a - b) < 2 ? 1 : 0), width, Math.max(Math.abs(a - b), 2));
    };
    const sack = css("--sack");
    for (const a of this.acks) for (const [from, to] of a.sack) bar(a.t, from, to, sack, 2);
    const ack = css("--ack");
    for (const a of this.acks) bar(a.t, a.ack, a.ack, ack, 4);
    const data = css("--data");
    const again = [...Array(HUES).keys()].map((k) => css(`--again-${k}`));
    for (const d of this.data) bar(d.t, d.from, d.to, d.hue < 0 ? data : again[d.hue], d.hue < 0 ? 2.5 : 4);
    for (const p of [...this.data, ...this.acks]) {
      if (p.f[NUMBER] === this.subject.diverges) this.ring(g, p, css("--diverges"), 9);
      if (p === this.hover) this.ring(g, p, css("--text"), 6);
    }
  }

  ring(g, p, colour, radius) {
    g.strokeStyle = colour;
    g.lineWidth = 2;
    g.beginPath();
    g.arc(this.x(p.t), this.y(p.to ?? p.ack), radius, 0, 7);
    g.stroke();
  }

  /** The frame next to the pointer, or null. */
  near(x, y) {
    let [best, found] = [12, null];
    for (const p of [...this.data, ...this.acks]) {
      const [low, high] = p.ack === undefined ? [this.y(p.to), this.y(p.from)] : [this.y(p.ack), this.y(p.ack)];
      const far = Math.hypot(this.x(p.t) - x, Math.max(0, low - y, y - high));
      if (far < best) [best, found] = [far, p];
    }
    return found;
  }

  zoom(x, y, by, time, sequence) {
    const [t, n, v] = [this.t(x), this.n(y), this.view];
    if (time) [v.t0, v.t1] = [t - (t - v.t0) * by, t + (v.t1 - t) * by];
    if (sequence) [v.y0, v.y1] = [n - (n - v.y0) * by, n + (v.y1 - n) * by];
    this.bound();
    this.draw();
  }

  /** Keeps a view wide enough to be counted in: 10 us, 10 bytes. */
  bound() {
    const v = this.view;
    if (v.t1 - v.t0 < 10) [v.t0, v.t1] = [(v.t0 + v.t1) / 2 - 5, (v.t0 + v.t1) / 2 + 5];
    if (v.y1 - v.y0 < 10) [v.y0, v.y1] = [(v.y0 + v.y1) / 2 - 5, (v.y0 + v.y1) / 2 + 5];
  }

  wheel(e) {
    e.preventDefault();
    this.zoom(e.offsetX, e.offsetY, Math.exp(Math.sign(e.deltaY) * 0.2), !e.altKey, !e.shiftKey);
  }

  press(e) {
    this.canvas.setPointerCapture(e.pointerId);
    this.drag = { from: [e.offsetX, e.offsetY], to: [e.offsetX, e.offsetY], zoom: !e.shiftKey, view: { ...this.view } };
  }

  move(e) {
    const at = [e.offsetX, e.offsetY];
    if (!this.drag) {
      this.hover = this.near(...at);
      this.tip.hidden = !this.hover;
      if (this.hover) {
        const f = this.hover.f;
        this.tip.textContent = `#${f[NUMBER]} ${seconds(f[TIME])} s ${this.subject.said(f)} ${this.subject.step(f[NUMBER])}`;
        this.tip.style.left = `${Math.min(at[0] + 12, this.canvas.clientWidth - 260)}px`;
        this.tip.style.top = `${at[1] + 14}px`;
      }
    } else if (this.drag.zoom) {
      this.drag.to = at;
    } else {
      const v = this.drag.view;
      const t = ((this.drag.from[0] - at[0]) / this.w) * (v.t1 - v.t0);
      const n = ((at[1] - this.drag.from[1]) / this.h) * (v.y1 - v.y0);
      this.view = { t0: v.t0 + t, t1: v.t1 + t, y0: v.y0 + n, y1: v.y1 + n };
    }
    this.draw();
  }

  release(e) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    const [x, y] = [e.offsetX, e.offsetY];
    const [a, b] = [drag.from, [x, y]];
    if (Math.hypot(a[0] - b[0], a[1] - b[1]) < 5) {
      const p = this.near(x, y);
      if (p) this.choose(p.f[NUMBER]);
    } else if (drag.zoom) {
      const [x0, x1] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])];
      const [top, low] = [Math.min(a[1], b[1]), Math.max(a[1], b[1])];
      const view = { t0: this.t(x0), t1: this.t(x1), y0: this.n(low), y1: this.n(top) };
      // A flat or a narrow rectangle zooms one axis.
      if (x1 - x0 < 8) [view.t0, view.t1] = [this.view.t0, this.view.t1];
      if (low - top < 8) [view.y0, view.y1] = [this.view.y0, this.view.y1];
      this.view = view;
      this.bound();
    }
    this.draw();
  }
}
