// The open subject: verdict, ladder, plot, states, and what is known of the chosen frame.

/** A heading with what stands under it, or nothing if that is nothing. */
const part = (title, ...content) => {
  const there = content.flat(3).filter((c) => c !== "" && c !== null && c !== undefined && c !== false);
  return there.length ? el("section", { class: "part" }, el("h3", {}, title), there) : null;
};
const lines = (texts) => texts.map((t) => el("div", { class: "mono" }, t));

function divergencePanel(d, ladder) {
  const x = d.divergence;
  if (!x) return null;
  return el("section", { class: "divergence" },
    el("h3", {}, `Diverges at ${d.unit || "frame"} ${x.frame}`),
    el("p", {}, x.what),
    el("p", { class: "dim small" }, [x.host && `from ${x.host}`, `${x.time.toFixed(6)} s`].filter(Boolean).join(" · ")),
    d.violated && part("Violates", el("div", {}, d.violated)),
    ladder && el("button", { onclick: () => ladder.goTo(x.frame) }, "show in the ladder"),
    part("Allowed then", lines(x.allowed || [])),
    part("Near misses", (d.near || []).map(([rule, cites, why]) =>
      el("div", { class: "near" }, rule && el("b", {}, rule), cites && el("span", { class: "dim small" }, ` ${cites}`), el("div", {}, why)))),
    part("State", lines(x.state || [])),
    part("Around", lines(x.around || [])));
}

function verdictPanel(subject, ladder) {
  const d = subject.d;
  const r = subject.row;
  const file = run.files[r[FILE]];
  return el("div", { class: "verdict" },
    divergencePanel(d, ladder),
    r[REASON] && !d.divergence && el("p", {}, r[REASON]),
    part("Not modelled", Object.entries(d.unmodelled || {}).map(([name, n]) => el("div", {}, `${whole(n)} frames of ${name}`))),
    part("Inferred", lines(d.inferred || [])),
    part("Hidden events", lines(d.events || []), d.happened > (d.events || []).length
      && el("div", { class: "dim" }, `and ${whole(d.happened - d.events.length)} more`)),
    part("Counters", Object.entries(d.counters || {}).map(([host, found]) => el("table", { class: "counters" },
      el("caption", {}, host),
      Object.entries(found).map(([name, [low, high]]) => el("tr", {}, el("td", {}, name),
        el("td", { class: "number" }, low === high ? whole(low) : `${whole(low)}–${whole(high)}`)))))),
    part("Capture", el("div", {}, file[0]), el("div", { class: "dim" }, `kernel ${file[1] || "?"}, ${plural(file[2], "frame")}`),
      file[3] && el("div", { class: "diverges" }, file[3]), file[4].map((n) => el("div", { class: "warn" }, n))));
}

function framePanel(subject, number) {
  const f = subject.frames.find((x) => x[NUMBER] === number);
  const labels = subject.labels.get(number) || [];
  const told = labels.map((l) => {
    const named = [l[3], l[2]].filter((n, k, all) => n >= 0 && all.indexOf(n) === k).map((n) => run.names[n]);
    return el("div", { class: "told" },
      named.map(([name, , says, cites]) => el("div", {}, el("b", {}, name), says && el("p", {}, says),
        cites && el("p", { class: "dim small" }, cites))),
      el("dl", {}, [["host", run.hosts[l[1]]], ["note", l[4]], ["state", l[5]]].filter(([, v]) => v)
        .map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])));
  });
  return el("aside", { class: "frame", "data-frame": number },
    el("h3", {}, `${subject.unit} ${number}`),
    f && el("p", { class: "mono" }, subject.said(f)),
    f && el("p", { class: "dim small" }, `${seconds(f[TIME])} s`),
    number === subject.diverges && el("p", { class: "diverges" }, subject.d.divergence.what),
    told.length ? told : el("p", { class: "dim" }, "no label"),
    f && el("dl", { class: "fields" }, subject.fields(f).map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])));
}

/** Everything of one subject. */
function subjectView(subject) {
  const r = subject.row;
  const side = el("div", { class: "side" }, el("p", { class: "dim small" }, "Choose a frame to see its fields and its label."));
  const choose = (number) => side.replaceChildren(framePanel(subject, number));
  const ladder = new Ladder(subject, choose);
  const body = el("div", { class: "body" });
  const tabs = [];
  const tab = (name, make) => tabs.push([name, make]);
  let at = 0;
  const goTo = { goTo: (n) => { turn(0); ladder.goTo(n); } };
  tab(subject.frames.length ? "Ladder" : "Labels", () => el("div", { class: "split" }, ladder.node, side));
  if (r[LAYER] === "tcp" && subject.frames.length) {
    const plot = new Plot(subject, choose);
    tab("Time–sequence", () => el("div", { class: "split" }, plot.node, side));
    tab("States", () => machine(subject.d.visits));
  }
  tab("Verdict", () => verdictPanel(subject, goTo));
  const names = tabs.map(([name]) => name);
  const bar = el("div", { class: "subtabs" });
  const turn = (k) => {
    at = k;
    bar.replaceChildren(choice("View", names, at, turn));
    body.replaceChildren(tabs[k][1]());
  };
  turn(r[OUTCOME] === 0 ? 0 : names.length - 1);
  return el("article", { class: "subject", "data-subject": subject.k },
    el("div", { class: "title" }, badge(r[OUTCOME]), el("h2", {}, r[SUBJECT] || r[LAYER]), el("span", { class: "dim" }, r[LAYER])),
    bar, body);
}
