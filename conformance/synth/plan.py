"""What a synthesized run is made of, drawn from a seed: kernels, sysctls, applications, the path, the taps."""

import random
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from conformance.synth.apps import App, Step
from conformance.synth.wire import SECOND, Half, Path
from refmodel.profile import profile
from refmodel.tcp.whole.params import WholeParams, sysctl_fields, whole_params

MS: Final = 1_000
SOL_SOCKET, IPPROTO_TCP = 1, 6
SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE = 7, 8, 9, 10
TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT = 1, 2, 3, 4, 5, 6
TCP_DEFER_ACCEPT, TCP_QUICKACK, TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_NOTSENT_LOWAT = 9, 12, 18, 23, 25
SO_REUSEADDR, TCP_LINGER2 = 2, 8
TAPS: Final = (("a",), ("a",), ("b",), ("b",), ("a", "b"), ("m",))
SHAPES: Final = (
    "requests", "requests", "bulk", "bulk", "both ways", "slow reader", "half close", "keepalive", "zero window",
    "urgent", "fast open", "abort", "refused", "many", "unreachable", "stream", "cork", "full queue", "cookies",
    "defer accept", "port again", "fin wait",
)  # fmt: skip


class Plan(Struct, frozen=True):
    """One run. `sysctls` are what differs from the defaults, by host; times in us.

    `tx`: what leaves a host, "segments" or "super"; `rx`: how it arrives, "each", "gro" or "whole" (super-segments pass
    uncut, as between veth devices). `offload`: the device fills checksums in, so that a tap near the sender sees only
    the pseudo-header's. `fates` says in words what the path does.
    """

    seed: int
    shape: str
    kernel: str
    hz: int
    addresses: tuple[bytes, bytes]
    params: tuple[WholeParams, WholeParams]
    sysctls: tuple[Mapping[str, int], Mapping[str, int]]
    congestion: tuple[str, str]
    mtu: int
    tx: str
    rx: str
    offload: bool
    taps: tuple[str, ...]
    paths: tuple[Path, Path]
    fates: str
    client: App
    server: App
    port: int
    connections: int = 1
    apart: int = 0
    backlog: int = 10
    listens: bool = True
    accepts_after: int = 0
    fastopen: bool = False
    local_port: int = 0
    length: int = 120 * SECOND


def plan(seed: int, **given: Any) -> Plan:
    """The plan of a seed; `given` fields of `Plan` replace what was drawn."""
    r = random.Random(f"plan {seed}")
    kernel = r.choice(("6.1", "6.12", "6.18"))
    hz = r.choice((100, 250, 250, 1000))
    shape = given.get("shape") or r.choice(SHAPES)
    shared = {"net.ipv4.tcp_timestamps": 0} if r.random() < 0.12 else {}
    sysctls = tuple({**shared, **_sysctls(r, shape, kernel)} for _ in range(2))
    params = tuple(whole_params(profile(kernel, hz, s)) for s in sysctls)
    client, server, more = _work(r, shape)
    delay = r.choice((20, 60, 200, 1 * MS, 5 * MS, 10 * MS, 25 * MS, 60 * MS))
    paths, fates = _paths(r, shape, delay)
    tx = r.choice(("segments", "segments", "super"))
    values: dict[str, Any] = {
        "seed": seed,
        "shape": shape,
        "kernel": kernel,
        "hz": hz,
        "addresses": _addresses(r),
        "params": params,
        "sysctls": sysctls,
        "congestion": tuple(r.choice(("cubic", "cubic", "reno", "bbr")) for _ in range(2)),
        "mtu": r.choice((1500, 1500, 1500, 1500, 9000, 1280, 576)),
        "tx": tx,
        "rx": r.choice(("each", "gro", "whole")) if tx == "super" else r.choice(("each", "each", "gro")),
        "offload": r.random() < 0.2,
        "taps": r.choice(TAPS),
        "paths": paths,
        "fates": fates,
        "client": client,
        "server": server,
        "port": r.choice((80, 443, 5201, 8080, r.randrange(1024, 65536))),
    }
    values |= more | given
    if any(x.second.mtu for x in values["paths"]) and values["rx"] == "whole":
        values["rx"] = "each"
    if len(values["addresses"][0]) == 16:
        values["mtu"] = max(values["mtu"], 1280)
    return Plan(**values)


def _addresses(r: random.Random) -> tuple[bytes, bytes]:
    if r.random() < 0.25:
        net = bytes.fromhex("fd00") + r.randbytes(6)
        return net + bytes(7) + b"\x01", net + bytes(7) + b"\x02"
    net = bytes((10, r.randrange(256), r.randrange(256)))
    return net + b"\x01", net + b"\x02"


def _sysctls(r: random.Random, shape: str, kernel: str) -> dict[str, int]:
    """What an administrator changed."""
    ip = "net.ipv4."
    s: dict[str, int] = {}
    for chance, name, values in (
        (0.15, "tcp_sack", (0,)),
        (0.1, "tcp_dsack", (0,)),
        (0.08, "tcp_window_scaling", (0,)),
        (0.25, "tcp_ecn", (1, 0)),
        (0.12, "tcp_early_retrans", (0,)),
        (0.08, "tcp_recovery", (0,)),
        (0.08, "tcp_frto", (0,)),
        (0.1, "tcp_slow_start_after_idle", (0,)),
        (0.1, "tcp_autocorking", (0,)),
        (0.06, "tcp_shrink_window", (1,) if kernel != "6.1" else (0,)),
        (0.1, "tcp_moderate_rcvbuf", (0,)),
        (0.05, "tcp_reordering", (5, 10)),
        (0.1, "tcp_no_metrics_save", (1,)),
        (0.08, "tcp_rmem[1]", (8192, 32768, 400_000)),
        (0.06, "tcp_adv_win_scale", (2, -1)),
        (0.06, "tcp_mtu_probing", (1, 2)),
    ):
        if r.random() < chance:
            s[ip + name] = r.choice(values)
    if shape == "fast open":
        s[ip + "tcp_fastopen"] = 3
    if shape == "cookies":
        s[ip + "tcp_syncookies"] = 2
    if shape == "full queue" and r.random() < 0.4:
        s[ip + "tcp_abort_on_overflow"] = 1
    if shape == "fin wait":
        s[ip + "tcp_fin_timeout"] = r.choice((1, 3))
    if shape == "unreachable":
        s[ip + "tcp_syn_retries"] = r.choice((1, 2, 3))
        s[ip + "tcp_retries2"] = r.choice((3, 5))
    known = sysctl_fields()
    return {k: v for k, v in s.items() if k in known}


# ---------------------------------------------------------------- applications


def _work(r: random.Random, shape: str) -> tuple[App, App, dict[str, Any]]:
    """The two applications, and what else the shape needs."""
    options = [_options(r), _options(r)]
    more: dict[str, Any] = {}
    asks: list[Step] = []
    answers: list[Step] = []
    reader: list[dict[str, Any]] = [{}, {}]
    if shape in ("requests", "many", "cork", "keepalive", "cookies", "defer accept", "full queue"):
        _rounds(r, shape, asks, answers, options)
        if shape == "defer accept":
            options[1].append((IPPROTO_TCP, TCP_DEFER_ACCEPT, r.choice((1, 5))))
            if r.random() < 0.5:
                asks.insert(0, ("pause", r.choice((500 * MS, 2 * SECOND, 8 * SECOND))))
        if shape == "full queue":
            more = {"connections": r.randrange(2, 5), "apart": r.choice((0, 50 * MS)), "backlog": r.choice((0, 0, 1)),
                    "accepts_after": r.choice((1, 4, 10)) * SECOND}  # fmt: skip
        if shape == "many":
            more = {"connections": r.randrange(2, 6), "apart": r.choice((0, 200, 5 * MS, 300 * MS)),
                    "backlog": r.choice((10, 10, 1))}  # fmt: skip
    elif shape == "bulk":
        size = r.choice((30_000, 100_000, 250_000, 600_000))
        one, two = (asks, answers) if r.random() < 0.5 else (answers, asks)
        one += [("write", size), ("shutdown",), ("eof",), ("close",)]
        two += [("eof",), ("close",)]
    elif shape == "both ways":
        for steps in (asks, answers):
            steps += [("write", r.choice((20_000, 80_000, 200_000))), ("shutdown",), ("eof",), ("close",)]
    elif shape == "stream":
        for _ in range(r.randrange(5, 25)):
            asks += [("write", r.choice((100, 1000, 4000, 20_000))), ("pause", r.choice((500, 10 * MS, 50 * MS)))]
        asks += [("shutdown",), ("eof",), ("close",)]
        answers += [("eof",), ("close",)]
    elif shape in ("slow reader", "zero window"):
        asks += [("write", r.choice((20_000, 60_000, 150_000))), ("shutdown",), ("eof",), ("close",)]
        answers += [("eof",), ("close",)]
        if shape == "slow reader":
            reader[1] = {"every": r.choice((1, 5, 40, 200)) * MS, "piece": r.choice((1000, 4096, 16_384))}
        else:
            reader[1] = {"deaf": r.choice((1, 3, 10)) * SECOND, "piece": r.choice((4096, 1 << 20))}
        if r.random() < 0.8:
            options[1].append((SOL_SOCKET, SO_RCVBUF, r.choice((2304, 4096, 8192, 20_000))))
    elif shape == "half close":
        asks += [("write", r.randrange(1, 3000)), ("shutdown",), ("eof",), ("close",)]
        answers += [("eof",), ("pause", r.choice((0, 30 * MS, 300 * MS)))]
        answers += [("write", r.choice((500, 20_000, 80_000))), ("shutdown",), ("close",)]
    elif shape == "urgent":
        inline = r.random() < 0.7
        for k, steps in enumerate((asks, answers)):
            if inline:
                options[k].append((SOL_SOCKET, SO_OOBINLINE, 1))
            for _ in range(r.randrange(1, 5)):
                steps += [(r.choice(("write", "oob")), r.choice((1, 10, 1500, 5000))), ("pause", r.randrange(60 * MS))]
            steps += [("shutdown",), ("eof",), ("close",)]
    elif shape == "fast open":
        n, m = r.choice((1, 100, 1200, 4000)), r.choice((10, 3000))
        asks += [("write", n), ("await", m), ("close",)]
        answers += [("await", n), ("write", m), ("eof",), ("close",)]
        options[1].append((IPPROTO_TCP, TCP_FASTOPEN, 5))
        more = {"fastopen": True, "connections": r.randrange(2, 5), "apart": r.choice((200 * MS, 2 * SECOND))}
    elif shape == "abort":
        n = r.choice((1000, 60_000))
        asks += [("write", n), ("pause", r.randrange(200 * MS)), (r.choice(("abort", "close")),)]
        answers += [
            ("write", r.choice((500, 50_000))),
            ("pause", r.randrange(400 * MS)),
            (r.choice(("abort", "close")),),
        ]
        reader[r.randrange(2)] = {"deaf": 100 * SECOND}
    elif shape == "port again":
        n = r.choice((1, 500, 4000))
        asks += [("write", n), ("eof",), ("close",)]
        answers += [("await", n), ("write", r.choice((1, 2000))), ("close",)]
        options[0].append((SOL_SOCKET, SO_REUSEADDR, 1))
        more = {"connections": r.randrange(2, 4), "apart": r.choice((1500 * MS, 5 * SECOND, 30 * SECOND)),
                "local_port": r.randrange(10_000, 30_000)}  # fmt: skip
    elif shape == "fin wait":
        asks += [("write", r.choice((1, 3000))), ("pause", r.randrange(1, 30 * MS)), ("close",)]
        answers += [("eof",), ("pause", r.choice((300 * MS, 2 * SECOND, 6 * SECOND)))]
        answers += [("write", 100)] if r.random() < 0.6 else []
        answers += [("close",)]
        if r.random() < 0.4:
            options[0].append((IPPROTO_TCP, TCP_LINGER2, 1))
    elif shape == "refused":
        asks += [("write", 10), ("close",)]
        more = {"listens": False, "connections": r.randrange(1, 4), "apart": 30 * MS}
    else:  # unreachable
        asks += [("write", r.randrange(1, 4000)), ("pause", 40 * SECOND), ("close",)]
        answers += [("pause", 3 * SECOND), ("close",)]
        more = {"length": r.choice((20, 60)) * SECOND}
    client = App(tuple(asks), options=tuple(options[0]), **reader[0])
    server = App(tuple(answers), options=tuple(options[1]), **reader[1])
    return client, server, more


def _rounds(
    r: random.Random, shape: str, asks: list[Step], answers: list[Step], options: list[list[tuple[int, int, int]]]
) -> None:
    """Requests and answers."""
    for _ in range(r.randrange(1, 12 if shape == "requests" else 5)):
        n, m = r.choice((1, 80, 400, 1448, 3000)), r.choice((1, 200, 1448, 6000, 25_000))
        if shape == "cork":
            asks += [("option", IPPROTO_TCP, TCP_CORK, 1), ("write", n), ("write", 2 * n)]
            asks += [("pause", r.choice((0, 10 * MS, 400 * MS))), ("option", IPPROTO_TCP, TCP_CORK, 0)]
            asks += [("await", m)]
            answers += [("await", 3 * n), ("write", m)]
            continue
        asks += [("write", n), ("await", m), ("pause", r.choice((0, 0, 2 * MS, 45 * MS, 300 * MS, 2 * SECOND)))]
        answers += [("await", n), ("pause", r.choice((0, 0, 1 * MS, 30 * MS, 60 * MS, 250 * MS))), ("write", m)]
    if shape == "keepalive":
        k = r.randrange(2)
        options[k] += [(SOL_SOCKET, SO_KEEPALIVE, 1), (IPPROTO_TCP, TCP_KEEPIDLE, r.choice((1, 2)))]
        options[k] += [(IPPROTO_TCP, TCP_KEEPINTVL, 1), (IPPROTO_TCP, TCP_KEEPCNT, r.choice((2, 9)))]
        asks.append(("pause", r.choice((3, 6, 12)) * SECOND))
    if shape == "defer accept" or r.random() < 0.5:
        asks += [("close",)]
        answers += [("eof",), ("close",)]
    else:
        asks += [("eof",), ("close",)]
        answers += [("close",)]


def _options(r: random.Random) -> list[tuple[int, int, int]]:
    out: list[tuple[int, int, int]] = []
    for chance, level, name, values in (
        (0.25, IPPROTO_TCP, TCP_NODELAY, (1,)),
        (0.1, IPPROTO_TCP, TCP_MAXSEG, (300, 536, 1000, 1200)),
        (0.1, SOL_SOCKET, SO_SNDBUF, (5000, 20_000, 100_000)),
        (0.06, SOL_SOCKET, SO_RCVBUF, (5000, 30_000, 100_000)),
        (0.06, IPPROTO_TCP, TCP_QUICKACK, (0, 1)),
        (0.05, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (2000,)),
        (0.04, IPPROTO_TCP, TCP_USER_TIMEOUT, (3000, 20_000)),
    ):
        if r.random() < chance:
            out.append((level, name, r.choice(values)))
    return out


# ---------------------------------------------------------------- the path


def _paths(r: random.Random, shape: str, delay: int) -> tuple[tuple[Path, Path], str]:
    """Both directions, and what they do in words."""
    kind = r.choice(("clean", "clean", "behind", "behind", "before", "wire", "wire", "reorder", "narrow", "noise",
                     "small mtu"))  # fmt: skip
    if shape == "unreachable":
        kind = r.choice(("cut", "one way"))
    rate = r.choice((0.005, 0.01, 0.03, 0.08, 0.15))
    out = []
    narrow = r.choice((60_000, 250_000, 1_250_000)), r.choice((8, 20, 60))
    mark = r.choice((0.0, 0.03, 0.2))
    mtu = r.choice((1480, 1400, 1280))
    for i in (0, 1):
        first: dict[str, Any] = {"delay": delay // 2 + 1, "mark": mark}
        second: dict[str, Any] = {"delay": delay // 2 + 1}
        path: dict[str, Any] = {}
        if r.random() < 0.4:
            first["jitter"] = 1 + delay // r.choice((2, 5, 20))
        if kind == "behind":
            path["behind_tap"] = rate
        elif kind == "before":
            path["before_tap"] = rate
        elif kind == "wire":
            r.choice((first, second))["loss"] = rate
        elif kind == "reorder":
            r.choice((first, second)).update(reorder=rate, hold=r.choice((50, 500, delay, 2 * delay)))
        elif kind == "narrow" and i == 0:
            first.update(rate=narrow[0], limit=narrow[1])
        elif kind == "noise":
            second.update(loss=rate / 3, damage=rate / 3, copies=rate / 2, reorder=rate / 3, hold=delay)
        elif kind == "small mtu":
            second["mtu"] = mtu
        elif kind == "cut":
            second["loss"] = 1.0
        elif kind == "one way":
            (first if i else {})["loss"] = 0.97
        out.append(Path(Half(**first), Half(**second), **path))
    words = f"{kind}, {2 * delay / 1000:g} ms round trip"
    if kind in ("behind", "before", "wire", "reorder", "noise"):
        words += f", rate {rate:g}"
    return (out[0], out[1]), words


__all__ = ["Plan", "plan"]
