// The run, and the table of its subjects with its filters.

const run = JSON.parse(document.getElementById("run").textContent);
const [FILE, LAYER, SUBJECT, OUTCOME, REASON, HOSTS, NAMES, FRAMES] = [0, 1, 2, 3, 4, 5, 6, 7];
const base = (path) => path.slice(path.lastIndexOf("/") + 1);

const filters = { outcomes: new Set(run.outcomes.keys()), text: "", host: -1, step: "", file: -1 };
const texts = run.rows.map((r) => `${r[LAYER]} ${r[SUBJECT]} ${r[REASON]} ${run.files[r[FILE]][0]}`.toLowerCase());

/** The subjects that all filters let through, by number. */
function filtered() {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  const out = [];
  run.rows.forEach((r, k) => {
    if (!filters.outcomes.has(r[OUTCOME])) return;
    if (filters.host >= 0 && !r[HOSTS].includes(filters.host)) return;
    if (filters.file >= 0 && r[FILE] !== filters.file) return;
    if (filters.step && !r[NAMES].some((n) => run.names[n][1] === filters.step)) return;
    if (!words.every((w) => texts[k].includes(w))) return;
    out.push(k);
  });
  return out;
}

const badge = (outcome) => el("span", { class: `badge ${slug(run.outcomes[outcome])}` }, run.outcomes[outcome]);

function subjectRow(k) {
  const r = run.rows[k];
  return el("div", { class: "row", "data-subject": k, role: "option" },
    el("div", { class: "line" },
      el("span", { class: `dot ${slug(run.outcomes[r[OUTCOME]])}`, title: run.outcomes[r[OUTCOME]] }),
      el("span", { class: "grow name" }, r[SUBJECT] || r[LAYER]),
      el("span", { class: "dim" }, r[FRAMES] ? whole(r[FRAMES]) : "")),
    el("div", { class: "line dim small" },
      el("span", {}, r[LAYER]), el("span", {}, base(run.files[r[FILE]][0])),
      el("span", { class: "grow" }, r[REASON])));
}

/** The table with its filters; `open` is called with the number of a subject. */
class Subjects {
  constructor(open) {
    this.count = el("span", { class: "dim small", id: "count" });
    this.text = el("input", {
      type: "search", id: "text", placeholder: "Search address, capture, reason", "aria-label": "Search",
      oninput: (e) => this.set({ text: e.target.value }),
    });
    const option = (value, text) => el("option", { value }, text);
    this.host = el("select", { id: "host", "aria-label": "Host", onchange: (e) => this.set({ host: +e.target.value }) },
      option(-1, "any host"), this.few(run.hosts).map(([h, k]) => option(k, h)));
    this.step = el("select", { id: "step", "aria-label": "Step", onchange: (e) => this.set({ step: e.target.value }) },
      option("", "any step"), [...new Set(run.names.map((n) => n[1]))].sort().map((n) => option(n, n)));
    this.file = el("button", { id: "file", class: "pill", hidden: true, onclick: () => this.set({ file: -1 }) });
    const box = el("div", { class: "rows", id: "rows", role: "listbox", "aria-label": "Subjects" });
    this.node = el("section", { class: "list" },
      el("div", { class: "filters" }, this.text, el("div", { class: "line" }, this.host, this.step), this.file, this.count),
      box);
    this.sight = new Sight(box, 46, subjectRow, open);
  }

  /** Hosts by number, as many as a menu bears. */
  few(hosts) {
    return hosts.map((h, k) => [h, k]).filter(([h]) => h).sort((a, b) => a[0].localeCompare(b[0])).slice(0, 500);
  }

  set(changes) {
    Object.assign(filters, changes);
    this.show();
  }

  show() {
    const found = filtered();
    this.text.value = filters.text;
    this.host.value = filters.host;
    this.step.value = filters.step;
    this.file.hidden = filters.file < 0;
    this.file.textContent = filters.file < 0 ? "" : `only ${base(run.files[filters.file][0])} ×`;
    this.count.textContent = `${whole(found.length)} of ${plural(run.rows.length, "subject")}`;
    document.querySelectorAll("#totals button").forEach((b) =>
      b.setAttribute("aria-pressed", String(filters.outcomes.has(+b.dataset.outcome))));
    this.sight.show(found);
  }
}

// ---------------------------------------------------------------- what belongs to one subject

const opened = new Map();

/** The details of a subject: its pack is unpacked the first time that one of its subjects is opened. */
async function detail(k) {
  const at = Math.floor(k / run.pack);
  if (!opened.has(at)) {
    if (opened.size > 20) opened.delete(opened.keys().next().value);
    opened.set(at, unpack(document.querySelectorAll("script.pack")[at].textContent));
  }
  return (await opened.get(at))[k % run.pack];
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}
