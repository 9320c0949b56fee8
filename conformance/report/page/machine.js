// The TCP state machine: what was visited is filled, moves that were only passed through are dashed.

const PLACES = {
  CLOSE: [400, 30], LISTEN: [150, 105], SYN_SENT: [650, 105], NEW_SYN_RECV: [150, 190], SYN_RECV: [400, 190],
  ESTABLISHED: [400, 275], FIN_WAIT1: [150, 360], CLOSE_WAIT: [650, 360], FIN_WAIT2: [150, 450], CLOSING: [400, 450],
  LAST_ACK: [650, 450], TIME_WAIT: [400, 540], END: [650, 540],
};
const [NODE_W, NODE_H] = [132, 34];
// How far an abort's line bows out, past the boxes that stand in its way.
const BOWS = { ESTABLISHED: 15, FIN_WAIT1: 120, SYN_SENT: 200, SYN_RECV: 45, CLOSE_WAIT: 170 };

/** The drawing for `visits`: how often states were entered and moves made or passed. */
function machine(visits) {
  const inner = [];
  for (const [from, to, why] of run.moves) {
    const key = `${from} ${to}`;
    const [made, passed] = [visits.moves[key] || 0, visits.passed[key] || 0];
    // Aborts lead to CLOSE from everywhere: shown where they happened.
    const ends = to === "CLOSE" && from !== "TIME_WAIT" && from !== "LAST_ACK";
    if (ends && !made && !passed) continue;
    inner.push(move(from, to === "CLOSE" ? "END" : to, why, made, passed, ends));
  }
  for (const name of Object.keys(PLACES)) inner.push(place(name, visits));
  const marker = (id) => svg("marker", {
    id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto-start-reverse",
  }, svg("path", { d: "M0 0L8 4L0 8z", class: id }));
  const seen = Object.keys(visits.states).length;
  return el("div", { class: "machine" },
    el("p", { class: "dim small" }, seen
      ? "Filled: states that a host was in behind a frame that it sent, and how often it came there. Solid: moves between two "
        + "frames; dashed: on the shortest way between two frames' states."
      : "No label tells a TCP state here."),
    svg("svg", { viewBox: "0 0 800 575", role: "img", "aria-label": "TCP state machine" },
      svg("defs", {}, marker("tip"), marker("tip-on")), inner));
}

function place(name, visits) {
  const [x, y] = PLACES[name];
  const said = name === "END" ? "CLOSE" : name;
  // The upper CLOSE is where connections start: it has been seen if one left it.
  const left = Object.entries({ ...visits.moves, ...visits.passed }).filter(([key]) => key.startsWith("CLOSE "));
  const times = name === "CLOSE" ? left.reduce((n, [, m]) => n + m, 0) : visits.states[said] || 0;
  return svg("g", { class: times ? "state on" : "state", "data-state": name, "data-times": times },
    svg("rect", { x: x - NODE_W / 2, y: y - NODE_H / 2, width: NODE_W, height: NODE_H, rx: 8 }),
    svg("text", { x, y: y + (times ? 0 : 4) }, said),
    times > 0 && svg("text", { x, y: y + 13, class: "times" }, whole(times)),
    svg("title", {}, times ? `${said}: ${whole(times)} times` : `${said}: not seen`));
}

/** Where the line between two places leaves the box of the first. */
function edge([x, y], [tx, ty]) {
  const [dx, dy] = [tx - x, ty - y];
  const scale = Math.min(NODE_W / 2 / Math.abs(dx || 1e-9), NODE_H / 2 / Math.abs(dy || 1e-9));
  return [x + dx * scale, y + dy * scale];
}

function move(from, to, why, made, passed, bent) {
  const [a, b] = [PLACES[from], PLACES[to]];
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const far = Math.hypot(dx, dy);
  const bow = bent ? BOWS[from] || 0 : 0;
  const control = [(a[0] + b[0]) / 2 + (bow * dy) / far, (a[1] + b[1]) / 2 - (bow * dx) / far];
  const [x1, y1] = edge(a, bent ? control : b);
  const [x2, y2] = edge(b, bent ? control : a);
  const on = made + passed > 0;
  const kind = made ? "move on" : passed ? "move passed" : "move";
  return svg("g", { class: kind, "data-move": `${from} ${to}` },
    svg("path", { d: `M${x1} ${y1}Q${control[0]} ${control[1]} ${x2} ${y2}`, "marker-end": `url(#${on ? "tip-on" : "tip"})` }),
    on && svg("text", { x: control[0] - (bow * dy) / far / 2, y: control[1] + (bow * dx) / far / 2 + 4, class: "times" },
      whole(made + passed)),
    svg("title", {}, `${from} → ${to === "END" ? "CLOSE" : to}: ${why}${made ? `; ${whole(made)} times` : ""}`
      + `${passed ? `; passed ${whole(passed)} times` : ""}`));
}
