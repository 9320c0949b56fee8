// The page: totals that filter, tabs, and the subject that the address names.

const main = document.getElementById("main");

const counts = run.outcomes.map((_, k) => run.rows.filter((r) => r[OUTCOME] === k).length);
const pane = el("section", { class: "pane", id: "pane" }, el("p", { class: "dim hint" }, "Choose a subject."));
let asked = 0;

async function open(k) {
  const mine = ++asked;
  history.replaceState(null, "", `#s${k}`);
  const d = await detail(k);
  if (mine === asked) pane.replaceChildren(subjectView(new Subject(k, d)));
}

const subjects = new Subjects(open);

// ---------------------------------------------------------------- coverage, the machine and the captures

function coverageView() {
  const [ID, KIND, SAYS, CITES, TIMES, IN] = [0, 1, 2, 3, 4, 5];
  const fired = run.coverage.filter((c) => c[TIMES]).length;
  const most = Math.max(1, ...run.coverage.map((c) => c[TIMES]));
  const layer = (c) => (c[KIND] ? c[ID].split(".").slice(0, c[ID].startsWith("tcp.whole.") ? 2 : 1).join(".") : "other");
  const layers = [...new Set(run.coverage.map(layer))].sort();
  const box = el("div", { class: "rows tall", id: "coverage-rows" });
  const state = { text: "", which: 0 };
  const row = (c) => el("div", { class: `row cover${c[TIMES] ? "" : " never"}`, "data-id": c[ID] },
    el("div", { class: "line" }, el("b", { class: "grow" }, c[ID]), el("span", { class: "dim small" }, c[KIND]),
      el("span", { class: "times" }, c[TIMES] ? `${plural(c[TIMES], "frame")} in ${plural(c[IN], "subject")}` : "never"),
      el("span", { class: "bar" }, el("i", { style: `width:${c[TIMES] ? Math.max(2, (100 * Math.log1p(c[TIMES])) / Math.log1p(most)) : 0}%` }))),
    el("div", { class: "dim small cut" }, c[SAYS]), el("div", { class: "dim small cut" }, c[CITES]));
  const node = el("section", { class: "wide" },
    el("p", {}, `${whole(fired)} of ${plural(run.coverage.length, "rule")} and steps fired in this run. `,
      el("span", { class: "dim" }, "Choose one that fired to see where.")),
    el("div", { class: "line wrap" }, layers.map((l) => {
      const of = run.coverage.filter((c) => layer(c) === l);
      return el("span", { class: "pill" }, `${l} ${of.filter((c) => c[TIMES]).length} / ${of.length}`);
    })),
    el("div", { class: "line" },
      el("input", { type: "search", id: "coverage-text", placeholder: "Search rule, sentence, source", "aria-label": "Search rules",
        oninput: (e) => { state.text = e.target.value.toLowerCase(); show(); } }),
      choice("Which", ["all", "fired", "never"], 0, (k) => { state.which = k; show(); })),
    box);
  const sight = new Sight(box, 66, row, (c) => {
    if (!c[TIMES]) return;
    tabs[0].go();
    subjects.set({ step: c[ID] });
  });
  const show = () => sight.show(run.coverage.filter((c) => (state.which === 0 || (state.which === 1) === (c[TIMES] > 0))
    && `${c[ID]} ${c[SAYS]} ${c[CITES]}`.toLowerCase().includes(state.text)));
  show();
  return node;
}

function capturesView() {
  const box = el("div", { class: "rows tall", id: "capture-rows" });
  const per = run.files.map(() => run.outcomes.map(() => 0));
  for (const r of run.rows) per[r[FILE]][r[OUTCOME]]++;
  const row = (k) => {
    const [path, kernel, frames, error, notices] = run.files[k];
    return el("div", { class: "row" },
      el("div", { class: "line" }, el("span", { class: "grow name" }, path),
        per[k].map((n, o) => n > 0 && el("span", { class: `badge ${slug(run.outcomes[o])}` }, `${whole(n)} ${run.outcomes[o]}`))),
      el("div", { class: "line small dim" }, el("span", {}, plural(frames, "frame")), el("span", {}, `kernel ${kernel || "?"}`),
        el("span", { class: "diverges" }, error), el("span", { class: "warn grow", title: notices.join("\n") }, notices.join("; "))));
  };
  const sight = new Sight(box, 46, row, (k) => {
    tabs[0].go();
    subjects.set({ file: k });
  });
  const troubled = run.files.map((_, k) => k).sort((a, b) => trouble(b) - trouble(a) || a - b);
  const node = el("section", { class: "wide" }, el("p", { class: "dim" }, "Choose a capture to see its subjects."), box);
  sight.show(troubled);
  return node;
}

const trouble = (k) => (run.files[k][3] ? 2 : run.files[k][4].length ? 1 : 0);

// ---------------------------------------------------------------- putting it together

const tabs = [
  ["Subjects", () => el("div", { class: "columns" }, subjects.node, pane)],
  ["Coverage", coverageView],
  ["State machine", () => el("section", { class: "wide" }, machine(run.visits))],
  ["Captures", capturesView],
].map(([name, make]) => ({ name, make }));

function turn(at) {
  document.getElementById("tabs").replaceChildren(choice("Parts of the report", tabs.map((t) => t.name), at, turn));
  main.replaceChildren(tabs[at].make());
  if (at === 0) subjects.show();
}
tabs.forEach((t, k) => { t.go = () => turn(k); });

document.getElementById("totals").append(
  el("span", {}, el("b", {}, whole(run.files.length)), run.files.length === 1 ? " capture" : " captures"),
  el("span", {}, el("b", {}, whole(run.files.reduce((n, f) => n + f[2], 0))), " frames"),
  ...run.outcomes.map((name, k) => counts[k] > 0 && el("button", {
    class: `badge ${slug(name)}`, "data-outcome": k, "aria-pressed": "true", title: "Show or hide these",
    onclick: () => {
      if (!filters.outcomes.delete(k)) filters.outcomes.add(k);
      turn(0);
    },
  }, `${whole(counts[k])} ${name}`)).filter(Boolean),
  ...run.files.some((f) => f[3]) ? [el("span", { class: "diverges" }, `${run.files.filter((f) => f[3]).length} unreadable`)] : []);

document.getElementById("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  window.dispatchEvent(new Event("resize"));
  const view = document.querySelector("canvas.plot");
  if (view) view.dispatchEvent(new PointerEvent("pointerleave"));
});

turn(0);
// The subject that the address names, else the first that diverges, else the first.
const named = /^#s(\d+)$/.exec(location.hash);
const start = named && +named[1] < run.rows.length ? +named[1] : Math.max(0, run.rows.findIndex((r) => r[OUTCOME] === 1));
if (run.rows.length) {
  const at = subjects.sight.items.indexOf(start);
  subjects.sight.pick(at);
}
document.documentElement.dataset.ready = "yes";
