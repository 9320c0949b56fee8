// A subject's frames as a ladder: who sends what to whom, and by which step.

const [NUMBER, TIME, SOURCE, DEST, SIZE, SAID, FIELDS, FLAGS, SEQ, ACK, WINDOW, LEN, SACK, MSS, WSCALE, SACK_PERM, TSVAL,
  TSECR, IP_ID, TTL, TOS, URG_PTR] = [...Array(22).keys()];
const BITS = [["SYN", 2], ["FIN", 1], ["RST", 4], ["PSH", 8], ["URG", 32], ["ECE", 64], ["CWR", 128], ["AE", 256], ["ACK", 16]];
const PAGE = 100;
const isTcp = (f) => !f[SAID];
const signed = (n) => (n | 0);

/** A subject as the page works with it: frames, labels by frame, and the numbers that sequence numbers count from. */
class Subject {
  constructor(k, d) {
    Object.assign(this, { k, d, row: run.rows[k], frames: d.drawing.frames, ends: d.drawing.ends, unit: d.unit || "frame" });
    this.labels = new Map();
    for (const label of d.labels) {
      if (!this.labels.has(label[0])) this.labels.set(label[0], []);
      this.labels.get(label[0]).push(label);
    }
    this.gaps = new Map(d.drawing.gaps);
    this.diverges = d.divergence ? d.divergence.frame : 0;
    this.first = new Map();
    this.scales = new Map();
    const tcp = this.frames.filter(isTcp);
    for (const f of tcp) {
      if (!this.first.has(f[SOURCE]) && f[LEN] + (f[FLAGS] & 3) > 0) this.first.set(f[SOURCE], f[SEQ]);
      if (f[FLAGS] & 2) this.scales.set(f[SOURCE], f[WSCALE]);
    }
    for (const f of tcp) {
      if (!this.first.has(f[SOURCE])) this.first.set(f[SOURCE], f[SEQ]);
      if (f[FLAGS] & 16 && !this.first.has(f[DEST])) this.first.set(f[DEST], f[ACK]);
    }
    this.scaled = [0, 1].every((s) => Number.isInteger(this.scales.get(s)));
    this.again = new Set();
    const highest = new Map();
    for (const f of tcp) {
      const end = this.relative(f[SOURCE], f[SEQ]) + f[LEN] + (f[FLAGS] & 1) + ((f[FLAGS] & 2) >> 1);
      const before = highest.get(f[SOURCE]);
      const start = this.relative(f[SOURCE], f[SEQ]);
      if (end > start && before !== undefined && start < before) this.again.add(f[NUMBER]);
      highest.set(f[SOURCE], Math.max(before ?? end, end));
    }
  }

  relative(end, seq) {
    return signed(seq - (this.first.get(end) ?? seq));
  }

  window(f) {
    return f[FLAGS] & 2 || !this.scaled ? f[WINDOW] : f[WINDOW] * 2 ** this.scales.get(f[SOURCE]);
  }

  said(f) {
    if (!isTcp(f)) return f[SAID];
    const flags = BITS.filter(([, bit]) => f[FLAGS] & bit).map(([n]) => n);
    const words = [flags.filter((n) => n !== "ACK" || flags.length === 1 || flags.includes("SYN")).join(" ") || "no flags"];
    if (f[LEN] || f[FLAGS] & 7) words.push(`seq ${this.relative(f[SOURCE], f[SEQ])}`);
    if (f[LEN]) words.push(`len ${f[LEN]}`);
    if (f[FLAGS] & 16) words.push(`ack ${this.relative(f[DEST], f[ACK])}`);
    words.push(`win ${this.window(f)}`);
    if (f[SACK].length)
      words.push(`sack ${f[SACK].map((b) => b.map((x) => this.relative(f[DEST], x)).join("–")).join(" ")}`);
    return words.join(" ");
  }

  /** The first label's name: its step if it has one. */
  step(number) {
    const label = (this.labels.get(number) || [])[0];
    return label ? run.names[label[3] >= 0 ? label[3] : label[2]][0] : "";
  }

  fields(f) {
    if (f[FIELDS]) return Object.entries(f[FIELDS]);
    const bits = BITS.filter(([, bit]) => f[FLAGS] & bit).map(([n]) => n).join(" ");
    const out = [["from", this.ends[f[SOURCE]]], ["to", this.ends[f[DEST]]], ["frame bytes", f[SIZE]],
      ["flags", bits], ["seq", `${f[SEQ]} (${this.relative(f[SOURCE], f[SEQ])})`]];
    if (f[FLAGS] & 16) out.push(["ack", `${f[ACK]} (${this.relative(f[DEST], f[ACK])})`]);
    const scaled = this.scaled && !(f[FLAGS] & 2) ? ` (scaled ${this.window(f)})` : "";
    out.push(["window", `${f[WINDOW]}${scaled}`], ["len", f[LEN]]);
    if (f[MSS] !== null) out.push(["MSS", f[MSS]]);
    if (f[WSCALE] !== null) out.push(["window scale", f[WSCALE]]);
    if (f[SACK_PERM]) out.push(["SACK permitted", "yes"]);
    if (f[TSVAL] !== null) out.push(["TSval", f[TSVAL]], ["TSecr", f[TSECR]]);
    f[SACK].forEach((b, k) => out.push([k ? "" : "SACK", `${b[0]}–${b[1]}`]));
    if (f[IP_ID] !== null) out.push(["IP id", f[IP_ID]]);
    out.push([f[IP_ID] === null ? "hop limit" : "TTL", f[TTL]], ["TOS", `0x${f[TOS].toString(16).padStart(2, "0")}`]);
    if (f[URG_PTR]) out.push(["urgent pointer", f[URG_PTR]]);
    return out;
  }
}

/** The ladder, a page of frames at a time. `choose` is called with a frame's number. */
class Ladder {
  constructor(subject, choose) {
    Object.assign(this, { subject, choose, page: 0, chosen: 0 });
    const bare = [...subject.labels.keys()].sort((a, b) => a - b);
    this.rows = subject.frames.length ? subject.frames : bare.map((n) => [n]);
    this.node = el("div", { class: "ladder" });
    this.draw();
  }

  /** Turns to the page of a frame and marks it. */
  goTo(number) {
    const at = this.rows.findIndex((f) => f[NUMBER] === number);
    if (at < 0) return;
    this.page = Math.floor(at / PAGE);
    this.chosen = number;
    this.draw();
    this.node.querySelector(".chosen").scrollIntoView({ block: "nearest" });
    this.choose(number);
  }

  draw() {
    const s = this.subject;
    const shown = this.rows.slice(this.page * PAGE, (this.page + 1) * PAGE);
    const ends = s.ends.length > 1 ? s.ends : [...s.ends, ...["", ""].slice(s.ends.length)];
    const at = (k) => 4 + (92 * k) / (ends.length - 1);
    const place = (k) => (k === 0 ? "left:0" : k === ends.length - 1 ? "right:0" : `left:${at(k)}%;transform:translateX(-50%)`);
    const lanes = ends.map((_, k) => el("i", { class: "lane", style: `left:${at(k)}%` }));
    this.node.classList.toggle("bare", !s.frames.length);
    const head = el("div", { class: "rung head" },
      el("span", {}, `${s.unit}`), el("span", {}, s.frames.length ? "time s" : "host"), s.frames.length > 0 && el("span"),
      s.frames.length > 0 && el("div", { class: "wire" }, ends.map((e, k) => el("b", { style: `${place(k)};max-width:${98 / ends.length}%`, title: e }, e))),
      el("span", {}, s.frames.length ? "sent by" : "step"));
    this.node.replaceChildren(this.pager(), head, ...shown.flatMap((f, k) => [this.gap(this.page * PAGE + k), this.rung(f, shown[k - 1], lanes, at)]).filter(Boolean),
      ...[this.page * PAGE + shown.length === this.rows.length && this.gap(this.rows.length)].filter(Boolean));
  }

  /** What is left out before a row, or nothing. */
  gap(at) {
    const n = this.subject.gaps.get(at);
    return n && el("div", { class: "gap dim small" }, `${plural(n, "frame")} not drawn`);
  }

  pager() {
    const s = this.subject;
    const pages = Math.ceil(this.rows.length / PAGE);
    const turn = (by) => () => { this.page += by; this.draw(); };
    const drawn = s.d.drawing.total > s.frames.length
      ? `${whole(s.frames.length)} of ${plural(s.d.drawing.total, "frame")} drawn: the first ${whole(run.room)}, those of rare `
        + `steps and ${run.around} on either side of a divergence`
      : s.frames.length ? plural(s.frames.length, "frame") : this.rows.length ? `${whole(this.rows.length)} labelled ${s.unit}s, of ${plural(s.d.labelled || 0, "label")}`
        : "no frames to draw";
    return el("div", { class: "line pager" },
      pages > 1 && [el("button", { disabled: this.page === 0, onclick: turn(-1), class: "back" }, "‹"),
        el("span", {}, `page ${this.page + 1} of ${pages}`),
        el("button", { disabled: this.page === pages - 1, onclick: turn(1), class: "forth" }, "›")],
      el("span", { class: "dim small grow" }, drawn),
      s.diverges > 0 && el("button", { class: "to-divergence", onclick: () => this.goTo(s.diverges) }, "to the divergence"));
  }

  rung(f, before, lanes, at) {
    const s = this.subject;
    const number = f[NUMBER];
    const labels = s.labels.get(number) || [];
    const kinds = [number === this.chosen && "chosen", number === s.diverges && "diverging", s.again.has(number) && "again"];
    const wire = el("div", { class: "wire" }, lanes.map((l) => l.cloneNode()));
    if (f.length > 1) {
      // What an end tells itself, as in a gratuitous ARP, it tells everyone.
      const [a, b] = [at(f[SOURCE]), f[SOURCE] === f[DEST] ? 100 - at(f[SOURCE]) : at(f[DEST])];
      const side = a <= b ? "right" : "left";
      wire.append(el("i", { class: `arrow ${side}`, style: `left:${Math.min(a, b)}%;width:${Math.abs(b - a)}%` }));
      wire.append(el("span", { class: "said", style: `left:${(a + b) / 2}%`, title: s.said(f) }, s.said(f)));
    }
    const pause = before && f.length > 1 ? f[TIME] - before[TIME] : 0;
    return el("div", {
      class: `rung ${kinds.filter(Boolean).join(" ")}`, "data-frame": number, onclick: () => this.pick(number),
    },
    el("span", { class: "number" }, number),
    el("span", { class: "dim" }, f.length > 1 ? seconds(f[TIME]) : labels.length > 0 && run.hosts[labels[0][1]]),
    f.length > 1 && el("span", { class: pause > 40000 ? "long" : "dim" }, pause > 0 ? `+${span(pause)}` : ""),
    f.length > 1 && wire,
    el("span", { class: "labels" },
      number === s.diverges && el("b", { class: "diverges" }, "DIVERGES "),
      labels.map((l) => el("span", { class: "label" }, el("b", {}, run.names[l[3] >= 0 ? l[3] : l[2]][0]), l[4] && ` ${l[4]}`))));
  }

  pick(number) {
    this.node.querySelectorAll(".chosen").forEach((r) => r.classList.remove("chosen"));
    this.chosen = number;
    const rung = this.node.querySelector(`[data-frame="${number}"]`);
    if (rung) rung.classList.add("chosen");
    this.choose(number);
  }
}
