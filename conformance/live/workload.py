"""Random workloads: what a recording does, chosen from a seed. Nothing is done here; `workload_run` does it.

`plan(seed)` is the same on every machine. The kernel decides later what it cannot do (netem, a congestion control by
sysctl), and the sidecar says what was done instead. Standard library only.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from conformance.live.relay import Fate
from conformance.live.sidecar import Value
from conformance.live.workload_flows import Flow, flows_of, pick

CONGESTION: Final = ("reno", "cubic", "bbr")
TOPOLOGIES: Final = ("pair", "relay", "router", "loopback")


@dataclass(frozen=True)
class Impairment:
    """What loses or holds frames: `place` is HOST.HOOK; `rule` is an nft match, or the words after `tc qdisc add`.

    Hooks: ingress (behind the host's tap, before its IP), input (behind IP), output and egress (before the tap),
    forward (of a router), qdisc (before the tap). `begins` and `lasts` are in s; without `lasts` it stays.
    """

    place: str
    rule: str
    begins: float = 0.0
    lasts: float = 0.0


@dataclass(frozen=True)
class Plan:
    """One recording: `clients` connect from a to b; all of them on a for topology loopback.

    `tap` is a host's name, `both`, `middle` (one side of the wire or router), `middle-both`; `device_any` taps `any`.
    `snaplen` 0 is everything. `start` is whole or middle. `fates` are the relay's, there and back.
    """

    seed: int
    family: int
    topology: str
    tap: str
    device_any: bool
    snaplen: int
    start: str
    mtu: int
    path_mtu: int
    nat: str
    offloads: Mapping[str, bool]
    sysctls: Mapping[str, Mapping[str, Value]]
    congestion: str
    by_option: bool
    fates: tuple[Fate, Fate]
    impairments: tuple[Impairment, ...]
    flows: tuple[Flow, ...]

    @property
    def says(self) -> str:
        """One sentence for the sidecar."""
        kinds = ", ".join(dict.fromkeys(f.kind for f in self.flows))
        held = ", ".join([*(f"{i.place} {i.rule}" for i in self.impairments), *_shown(self.fates)]) or "nothing"
        return f"Random workload {self.seed}: {kinds} over IPv{self.family} ({self.topology}); in the way: {held}."


def _shown(fates: Sequence[Fate]) -> list[str]:
    plain = Fate()
    shown = []
    for name, fate in zip(("there", "back"), fates, strict=True):
        words = [f"{k} {v:g}" for k, v in vars(fate).items() if v != getattr(plain, k)]
        if words:
            shown.append(f"relay {name} {' '.join(words)}")
    return shown


OFFLOADS: Final = {
    "none": {"tso": False, "gso": False, "gro": False, "tx-checksum": False, "rx-checksum": True},
    "all": {"tso": True, "gso": True, "gro": True, "tx-checksum": True, "rx-checksum": True},
    "gso": {"tso": False, "gso": True, "gro": False, "tx-checksum": False, "rx-checksum": True},
    "gro": {"tso": False, "gso": False, "gro": True, "tx-checksum": False, "rx-checksum": True},
    "checksum": {"tso": False, "gso": False, "gro": False, "tx-checksum": True, "rx-checksum": True},
    "tso": {"tso": True, "gso": True, "gro": False, "tx-checksum": True, "rx-checksum": True},
}

SYSCTLS: Final[tuple[tuple[str, tuple[Value, ...]], ...]] = (
    ("net.ipv4.tcp_sack", (0,)),
    ("net.ipv4.tcp_dsack", (0,)),
    ("net.ipv4.tcp_timestamps", (0, 0, 2)),
    ("net.ipv4.tcp_window_scaling", (0,)),
    ("net.ipv4.tcp_ecn", (0, 1, 1)),
    ("net.ipv4.tcp_early_retrans", (0,)),
    ("net.ipv4.tcp_recovery", (0, 3, 5)),
    ("net.ipv4.tcp_reordering", (5, 10)),
    ("net.ipv4.tcp_slow_start_after_idle", (0,)),
    ("net.ipv4.tcp_frto", (0, 1)),
    ("net.ipv4.tcp_rmem", ("4096 16384 65536", "4096 8192 32768", "4096 65536 262144")),
    ("net.ipv4.tcp_wmem", ("4096 16384 65536", "4096 8192 16384")),
    ("net.ipv4.tcp_moderate_rcvbuf", (0,)),
    ("net.ipv4.tcp_autocorking", (0,)),
    ("net.ipv4.tcp_limit_output_bytes", (65536, 262144)),
    ("net.ipv4.tcp_adv_win_scale", (2, -1)),
    ("net.ipv4.tcp_retrans_collapse", (0,)),
    ("net.ipv4.tcp_thin_linear_timeouts", (1,)),
    ("net.ipv4.tcp_tw_reuse", (0, 1)),
    ("net.ipv4.tcp_min_tso_segs", (1, 8)),
    ("net.ipv4.tcp_notsent_lowat", (16384,)),
    ("net.ipv4.tcp_no_metrics_save", (1,)),
    ("net.ipv4.tcp_comp_sack_nr", (0,)),
    ("net.ipv4.tcp_mtu_probing", (1, 2)),
    ("net.ipv4.tcp_fin_timeout", (1,)),
    ("net.ipv4.tcp_abort_on_overflow", (1,)),
)


def plan(seed: int) -> Plan:
    """The workload of `seed`: a pure function of it."""
    r = random.Random(f"refmodel workload {seed}")
    family = pick(r, {4: 7, 6: 3})
    topology = pick(r, {"pair": 9, "relay": 8, "router": 4, "loopback": 1})
    start = pick(r, {"whole": 9, "middle": 1})
    offloads = pick(r, {"none": 7, "all": 6, "gso": 2, "gro": 3, "checksum": 2, "tso": 2})
    fates = _fates(r, OFFLOADS[offloads]["tx-checksum"]) if topology == "relay" else (Fate(), Fate())
    impairments = _impairments(r, topology)
    flows = flows_of(r, start, _budget(fates, impairments))
    if any(f.fast_open for f in flows) and start == "middle":
        start = "whole"
    sysctls = _sysctls(r)
    if any(f.fast_open for f in flows):
        sysctls = _with(sysctls, "net.ipv4.tcp_fastopen", 3)
    if fates[0].ce:
        sysctls = _with(sysctls, "net.ipv4.tcp_ecn", 1)
    blackout = any(f.kind == "user-timeout" for f in flows)
    if blackout and topology != "loopback":
        impairments = (*impairments, Impairment(f"{r.choice('ab')}.ingress", "meta l4proto tcp", 0.5, 2.5))
    taps = {
        "pair": {"a": 3, "b": 3, "both": 2},
        "relay": {"a": 3, "b": 3, "both": 2, "middle": 1},
        "router": {"a": 2, "b": 2, "both": 1, "middle": 1, "middle-both": 2},
        "loopback": {"a": 1},
    }
    tap = pick(r, taps[topology])
    jumbo = {9000: 1} if topology != "relay" else {}
    return Plan(
        seed=seed,
        family=family,
        topology=topology,
        tap=tap,
        device_any=tap in ("a", "b", "middle") and topology in ("pair", "router") and r.random() < 0.15,
        snaplen=pick(r, {0: 10, 96: 1, 128: 1}),
        start=start,
        mtu=pick(r, {1500: 10, 1400: 1, 1280: 1, (1280 if family == 6 else 576): 1, **jumbo}),
        path_mtu=pick(r, {0: 3, 1300: 1}) if topology == "router" else 0,
        nat=pick(r, {"": 2, "masquerade": 2, "dnat": 1}) if topology == "router" else "",
        offloads=OFFLOADS[offloads],
        sysctls=sysctls,
        congestion=pick(r, dict.fromkeys(CONGESTION, 1)),
        by_option=r.random() < 0.3,
        fates=fates,
        impairments=impairments,
        flows=flows,
    )


def _with(sysctls: Mapping[str, Mapping[str, Value]], name: str, value: Value) -> dict[str, dict[str, Value]]:
    rest = {scope: {k: v for k, v in chosen.items() if k != name} for scope, chosen in sysctls.items()}
    return {**rest, "*": {**rest.get("*", {}), name: value}}


def _sysctls(r: random.Random) -> dict[str, dict[str, Value]]:
    chosen: dict[str, dict[str, Value]] = {}
    if r.random() < 0.4:
        return chosen
    for name, values in r.sample(SYSCTLS, r.choice((1, 1, 2, 3))):
        chosen.setdefault(r.choice(("*", "a", "b")), {})[name] = r.choice(values)
    return chosen


def _fates(r: random.Random, offloaded: bool) -> tuple[Fate, Fate]:
    """What a relay does, there and back; damaged frames only where checksums are in them."""
    delay = r.choice((0.5, 1, 3, 5, 10, 20, 40))
    there = Fate(delay=delay)
    for kind in r.sample(
        ("loss", "burst", "jitter", "reorder", "duplicate", "ce", "corrupt", "rate"), r.choice((1, 2, 3))
    ):
        if kind == "loss":
            there = replace(there, loss=r.choice((0.005, 0.01, 0.02, 0.05, 0.1)))
        elif kind == "burst":
            there = replace(there, loss=0.01, burst=0.6)
        elif kind == "jitter":
            there = replace(there, jitter=delay * r.choice((0.2, 1)), ordered=r.random() < 0.5)
        elif kind == "reorder":
            there = replace(there, reorder=r.choice((0.01, 0.05)))
        elif kind == "duplicate":
            there = replace(there, duplicate=r.choice((0.01, 0.05)))
        elif kind == "ce":
            there = replace(there, ce=r.choice((0.02, 0.2)))
        elif kind == "corrupt" and not offloaded:
            there = replace(there, corrupt=0.01)
        elif kind == "rate":
            there = replace(there, rate=r.choice((2000, 10000, 50000)), limit=r.choice((10, 50, 200)))
    back = pick(r, {"same": 2, "delay": 2, "loss": 1})
    if back == "same":
        return there, there
    return there, Fate(delay=delay, loss=0.03 if back == "loss" else 0.0)


def _impairments(r: random.Random, topology: str) -> tuple[Impairment, ...]:
    hooks = [f"{host}.{hook}" for host in "ab" for hook in ("input", "input", "egress", "output")]
    places = {
        "pair": {"a.ingress": 6, "b.ingress": 6, **dict.fromkeys(hooks, 1)},
        "relay": {"a.ingress": 1, "b.ingress": 1},
        "router": {"r.forward": 4, "a.ingress": 1, "b.ingress": 1},
        "loopback": {"a.input": 1},
    }[topology]
    found: list[Impairment] = []
    count = pick(r, {"pair": {0: 3, 1: 5, 2: 2}, "relay": {0: 5, 1: 1}}.get(topology, {0: 1, 1: 1}))
    for place in dict.fromkeys(pick(r, places) for _ in range(count)):
        how = r.choice(("random", "random", "regular", "blackout"))
        rate = r.choice((5, 10, 20, 50, 80))
        if how == "random":
            found.append(Impairment(place, f"meta l4proto tcp numgen random mod 1000 < {rate}"))
        elif how == "regular":
            found.append(Impairment(place, f"meta l4proto tcp numgen inc mod {r.choice((7, 13, 23, 53))} == 0"))
        else:
            begins, lasts = round(r.uniform(0.0, 0.4), 3), round(r.uniform(0.05, 1.2), 3)
            found.append(Impairment(place, "meta l4proto tcp", begins, lasts))
    if topology in ("pair", "router") and r.random() < 0.25:
        host = r.choice("ab") if topology == "pair" else "r"
        rate = r.choice((5, 20, 100))
        limit = r.choice(("latency 20ms", "latency 100ms", "limit 15000"))
        found.append(Impairment(f"{host}.qdisc", f"tbf rate {rate}mbit burst {max(5, rate)}kb {limit}"))
    elif topology in ("pair", "router") and r.random() < 0.5:
        host = r.choice("ab") if topology == "pair" else "r"
        words = [f"delay {r.choice((1, 5, 20))}ms {r.choice((0, 1, 3))}ms"]
        words += r.sample(("loss 2%", "loss 0.5%", "duplicate 2%", "reorder 97% 50%", "loss gemodel 1% 40%"), 1)
        found.append(Impairment(f"{host}.qdisc", f"netem limit {r.choice((40, 1000))} {' '.join(words)}"))
    return tuple(found)


def _budget(fates: Sequence[Fate], impairments: Sequence[Impairment]) -> int:
    """About how many bytes pass in four seconds, so that a recording takes seconds and not minutes."""
    delay = max(0.5, fates[0].delay + fates[1].delay) / 1000
    loss = max(0.0005, fates[0].loss + fates[1].loss + fates[0].reorder)
    lossy = [i for i in impairments if "numgen" in i.rule or "loss" in i.rule]
    loss += 0.05 * len(lossy)
    if any("netem" in i.rule for i in impairments):
        delay = max(delay, 0.02)
    rate = 1448 / delay / loss**0.5
    if fates[0].rate:
        rate = min(rate, fates[0].rate * 125)
    if any("tbf" in i.rule for i in impairments):
        rate = min(rate, 500_000)
    return int(min(8_000_000, 4 * rate))


def without_netem(p: Plan) -> Plan:
    """The plan for a kernel that lacks netem: between a pair the relay does the same; elsewhere it is left out."""
    rules = [i for i in p.impairments if i.rule.startswith("netem")]
    rest = tuple(i for i in p.impairments if not i.rule.startswith("netem"))
    if not rules or p.topology != "pair":
        return replace(p, impairments=rest)
    words = rules[0].rule.split()
    number = {w: float(words[n + 1].rstrip("ms%")) for n, w in enumerate(words[:-1]) if words[n + 1][0].isdigit()}
    fate = Fate(
        delay=number["delay"],
        jitter=float(words[words.index("delay") + 2].rstrip("ms")),
        ordered=False,
        loss=0.01 if "gemodel" in words else number.get("loss", 0.0) / 100,
        burst=0.6 if "gemodel" in words else 0.0,
        duplicate=number.get("duplicate", 0.0) / 100,
        reorder=0.03 if "reorder" in words else 0.0,
    )
    plain = Fate(delay=0.1)
    fates = (fate, plain) if rules[0].place == "a.qdisc" else (plain, fate)
    return replace(p, topology="relay", device_any=False, fates=fates, impairments=rest)
