"""The worked example on the model and on the machine's kernel, side by side.

Both make the same calls; the frames are compared up to what is free: initial sequence numbers, the client's port,
timestamps, the first identification of each host, time and so who closes first.
Run as ``python -m conformance.example``.
"""

import sys
from ipaddress import ip_address
from typing import Final

from msgspec import Struct
from rich.table import Table

from conformance.console import DIVERGED, OK, out
from refmodel.host.example import PORT, client, server
from refmodel.host.network import Network
from refmodel.host.program import Done
from refmodel.packet import Arp, Ip, Tcp, decode
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN, Mss, SackPerm, Timestamp, Wscale

SERVER: Final = ip_address("10.9.0.1").packed
CLIENT: Final = ip_address("10.9.0.2").packed
NAMES: Final = {SERVER: "server", CLIENT: "client"}
FLAGS: Final = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"))
LATER: Final = 50_000  # us after the server the client starts


class Line(Struct, frozen=True):
    """One frame with what is free taken out. Numbers are relative to each side's first; `id` to the last one's id."""

    sender: str
    what: str
    seq: int = 0
    ack: int = 0
    length: int = 0
    window: int = 0
    options: tuple[str, ...] = ()
    ttl: int = 0
    df: bool = False
    tos: int = 0
    id: int = 0
    payload: bytes = b""

    def __str__(self) -> str:
        if not self.options and not self.ttl:
            return f"{self.sender}: {self.what}"
        options = f" <{', '.join(self.options)}>" if self.options else ""
        text = f" {self.payload!r}" if self.payload else ""
        return (
            f"{self.sender}: {self.what} seq {self.seq} ack {self.ack} len {self.length} win {self.window}{options}"
            f" ttl {self.ttl}{' DF' if self.df else ''} id {'0' if self.id < 0 else f'+{self.id}'}{text}"
        )


def lines(frames: list[bytes]) -> list[Line]:
    """The frames of the example, comparable."""
    first: dict[bytes, int] = {}
    ids: dict[bytes, int] = {}
    found = []
    for raw in frames:
        p = decode(raw)
        arp, ip, tcp = p.get(Arp), p.get(Ip), p.get(Tcp)
        if arp is not None:
            who = {1: "who has", 2: "is at"}[arp.ar_op]
            found.append(Line(NAMES[arp.ar_sip], f"ARP {who} {NAMES[arp.ar_tip if arp.ar_op == 1 else arp.ar_sip]}"))
        elif ip is not None and tcp is not None:
            found.append(_tcp(p.payload, ip, tcp, first, ids))
    return found


def _tcp(payload: bytes, ip: Ip, tcp: Tcp, first: dict[bytes, int], ids: dict[bytes, int]) -> Line:
    isn = first.setdefault(ip.saddr, tcp.seq)
    step = (ip.id - ids.get(ip.saddr, ip.id)) & 0xFFFF if ip.id else -1  # a SYN-ACK has none
    if ip.id:
        ids[ip.saddr] = ip.id
    options = []
    for o in tcp.options:
        if isinstance(o, Mss):
            options.append(f"mss {o.mss}")
        elif isinstance(o, Wscale):
            options.append(f"wscale {o.shift}")
        elif isinstance(o, SackPerm):
            options.append("sackOK")
        elif isinstance(o, Timestamp):
            options.append("TS")
        else:
            options.append(type(o).__name__.lower())
    return Line(
        NAMES[ip.saddr],
        "+".join(name for bit, name in FLAGS if tcp.flags & bit),
        (tcp.seq - isn) & 0xFFFFFFFF,
        (tcp.ack_seq - first[ip.daddr]) & 0xFFFFFFFF if tcp.flags & ACK else 0,
        len(payload),
        tcp.window,
        tuple(options),
        ip.ttl,
        ip.df,
        ip.tos,
        step,
        payload,
    )


class Told(Struct):
    """One run of the example: the calls of each side with their results, the frames at the client's interface."""

    calls: dict[str, list[Done]]
    frames: list[Line]


def on_model(kernel: str = "6.12", pace: tuple[int, int] = (0, 0)) -> Told:
    """The example on two namespaces of the model, joined by a veth pair.

    `pace` is how long (us) server and client take between their calls: whoever is faster closes first.
    """
    net = Network(kernel)
    machine = net.machine("box")
    s, c = net.host("server", machine), net.host("client", machine)
    veth = net.veth(c, s, features=frozenset({"scatter-gather", "rx-checksum", "highdma"}))
    c.newaddr(veth.dev[0], CLIENT, 24)
    s.newaddr(veth.dev[1], SERVER, 24)
    c.packet_socket(veth.dev[0])
    runs = {"server": net.program(s, server(SERVER), "server", 0, pace[0])}
    runs["client"] = net.program(c, client(SERVER), "client", LATER, pace[1])
    net.run()
    net.run(net.now + 2 * LATER)
    return Told({n: r.calls for n, r in runs.items()}, lines([f for _, _, _, f in c.seen]))


def on_kernel() -> Told:
    """The example on the machine's kernel, in two namespaces; raises LabUnavailable, ScenarioFailed, CaptureLost."""
    from conformance.live.program import record

    told = record({"b": lambda lab: server(SERVER), "a": lambda lab: client(SERVER)}, LATER / 1e6, tap="a")
    calls = {"server": told.calls["b"], "client": told.calls["a"]}
    return Told(calls, lines([f for _, f in told.frames]))


def differences(a: Told, b: Told) -> list[str]:
    """What is not the same in two runs: calls, results, frames."""
    found = []
    for who, calls in a.calls.items():
        mine = [(str(d.call), d.result) for d in calls]
        other = [(str(d.call), d.result) for d in b.calls[who]]
        found += [f"{who}: {x} against {y}" for x, y in zip(mine, other, strict=False) if x != y]
        if len(mine) != len(other):
            found.append(f"{who}: {len(mine)} calls against {len(other)}")
    found += [f"{x} against {y}" for x, y in zip(a.frames, b.frames, strict=False) if x != y]
    if len(a.frames) != len(b.frames):
        found.append(f"{len(a.frames)} frames against {len(b.frames)}")
    return found


PACES: Final = ((0, 0), (0, 10), (10, 0))


def nearest_run(live: Told, kernel: str) -> Told:
    """The model's run that differs least from a live one, over who closes first: the two programs race."""
    return min((on_model(kernel, pace) for pace in PACES), key=lambda told: len(differences(told, live)))


def show(told: Told) -> str:
    """The calls with their results, then the frames."""
    out_ = []
    for who, calls in told.calls.items():
        out_ += [f"{who}: {d.call} = {d.result!r}" for d in calls]
    return "\n".join([*out_, "", *map(str, told.frames)])


def main() -> int:
    """Runs both and prints them side by side; 1 if they differ."""
    from conformance.live.program import kernel
    from refmodel.profile import nearest

    live = on_kernel()
    model = nearest_run(live, nearest(kernel()))
    t = Table("the model", f"Linux {kernel()}", box=None)
    for x, y in zip(show(model).splitlines(), show(live).splitlines(), strict=False):
        t.add_row(x, "the same" if x == y else y)
    out.print(t)
    wrong = differences(model, live)
    out.print(f"{len(wrong)} differences")
    return DIVERGED if wrong else OK


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["PORT", "Told", "differences", "lines", "nearest_run", "on_kernel", "on_model", "show"]
