"""Synthesized captures with their truth: which function sent each frame, what became of it, what each host counted.

`synthesize(seed)` plays two whole TCPs on a faulty wire and writes down what taps saw. The same seed gives the same
bytes.
"""

import io
import random
from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from conformance.check.setup import Host as SetupHost
from conformance.check.setup import Setup, read_sidecar
from conformance.frames import Direction, Frame
from conformance.live.sidecar import Expected, HostInfo, Kernel, Sidecar, Vantage, dump
from conformance.pcap import Reader, Writer
from conformance.pkt import model_wire
from conformance.synth.plan import Plan, plan
from conformance.synth.wire import Lab, Sight, TooBig, Unit
from refmodel.packet import Ether, Icmp, Icmp6, Icmp6Word, Ip, Ip6, encode, pseudo_header, seal
from refmodel.packet.wire import LINKTYPE_ETHERNET
from refmodel.tcp.whole.const import SYN
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import INERT

IP_DF: Final = 0x4000
EPOCH: Final = 1_790_000_000_000_000_000  # ns: when the first recording was made
TABLE: Final = 65_521  # bytes of payload that repeat
MACS: Final = {"a": bytes.fromhex("020000000001"), "b": bytes.fromhex("020000000002")}
GATE: Final = bytes.fromhex("0200000000fe")


class FrameTruth(Struct, frozen=True):
    """What is true of one frame of the capture.

    `by` are the functions that sent it (several where receive offload joined segments), as `Packet.by` names them.
    `transmission` counts what `host` sent from 1, a super-segment once; frames with the same number are one
    transmission seen twice, or its parts. What a router sends has the host "r" and the number 0. `fate`: "processed",
    "dropped" (behind the tap) or "damaged" at the receiver's tap, "" elsewhere.
    """

    number: int
    tap: str
    host: str
    by: tuple[str, ...]
    transmission: int
    fate: str = ""


class Truth(Struct, frozen=True):
    """A capture and all that is true of it.

    `data` is a pcapng file. `mib` are the hosts' counters, all of them, by the names of a sidecar ("Tcp.OutSegs").
    `vantage` are the taps: ("a",), ("b",), ("a", "b") or ("m",), the middle. `lost` counts packets lost before the
    sender's tap, on the wire, behind the receiver's tap, and damaged ones. `says` describes the run.
    """

    seed: int
    data: bytes
    frames: tuple[FrameTruth, ...]
    mib: dict[str, dict[str, int]]
    vantage: tuple[str, ...]
    lost: dict[str, int]
    setup: Setup
    sidecar: str
    says: str

    def captured(self) -> list[Frame]:
        """The frames of `data`."""
        with Reader(io.BytesIO(self.data)) as reader:
            return list(reader)


def synthesize(seed: int, **given: Any) -> Truth:
    """The truth of a seed; `given` fields of `Plan` replace what the seed draws."""
    p = plan(seed, **given)
    lab = Lab(p)
    lab.play()
    return told(p, lab)


def told(p: Plan, lab: Lab) -> Truth:
    """What a run that was played makes of its plan."""
    shown = sorted(lab.sights, key=lambda s: s.time)
    frames = [_frame(p, s, n, lab.begun) for n, s in enumerate(shown, 1)]
    out = io.BytesIO()
    with Writer(out) as w:
        for tap in p.taps:
            w.interface(LINKTYPE_ETHERNET, f"{tap}0")
            w.interfaces[-1].received = sum(s.tap == tap for s in shown)
            w.interfaces[-1].dropped = 0
        for f in frames:
            w.frame(f)
    truths = tuple(_truth(n, s) for n, s in enumerate(shown, 1))
    mib = {h.name: counters(h.net) for h in lab.hosts}
    sidecar = _sidecar(p, mib, dict(lab.lost))
    return Truth(
        p.seed, out.getvalue(), truths, mib, p.taps, dict(lab.lost), _setup(p, sidecar), dump(sidecar), sidecar.says
    )


def _truth(n: int, s: Sight) -> FrameTruth:
    if isinstance(s.unit, TooBig):
        name = "icmpv6_send" if len(s.unit.unit.packet.saddr) == 16 else "icmp_send"
        return FrameTruth(n, s.tap, "r", (name,), 0, s.fate)
    return FrameTruth(n, s.tap, "ab"[s.unit.host], s.unit.by, s.unit.number, s.fate)


def counters(net: Net) -> dict[str, int]:
    """A namespace's counters by the names of a sidecar: "TcpExt.TCPTimeouts"."""
    out = {}
    for name, value in sorted(net.mib.items()):
        group = "TcpExt" if name.startswith("TcpExt") else "Tcp" if name.startswith("Tcp") else "Ip"
        out[f"{group}.{name.removeprefix(group)}"] = value
    return out


# ---------------------------------------------------------------- frames


@cache
def _table(seed: int, host: int) -> bytes:
    return random.Random(f"payload {seed} {host}").randbytes(TABLE) * 3


def payload(seed: int, host: int, seq: int, length: int) -> bytes:
    """The bytes that a host's stream has at `seq`: a retransmission has what the original had."""
    at = seq % TABLE
    return _table(seed, host)[at : at + length]


def _frame(p: Plan, s: Sight, number: int, begun: int) -> Frame:
    if isinstance(s.unit, TooBig):
        data = _word(p, s.unit)
    else:
        data = _segment(p, s, s.unit)
    way: Direction = "in" if s.way == "in" else "out" if s.way == "out" else ""
    time = EPOCH + p.seed * 1_000_000_000_000 + s.time - begun * 1000
    return Frame(number, time, LINKTYPE_ETHERNET, p.taps.index(s.tap), data, len(data), way)


def _word(p: Plan, word: TooBig) -> bytes:
    """ICMP's word on a packet that is too big, quoting what Linux quotes; source net/ipv4/icmp.c:__icmp_send."""
    unit = word.unit
    whole = _segment(p, Sight(0, "m", unit, ""), unit)[14:]
    to = "ab"[unit.host]
    router = unit.packet.saddr[:-1] + b"\xfe"
    if len(router) == 4:
        ip = Ip(5, 0xC0, 0, 0, 0, 64, 1, 0, router, unit.packet.saddr)
        layers = (Ether(MACS[to], GATE, 0x0800), ip, Icmp(3, 4, 0, word.mtu))
        return encode(seal(layers, whole[:548]))
    ip6 = Ip6(0, 0, 0, 58, 64, router, unit.packet.saddr)
    layers6 = (Ether(MACS[to], GATE, 0x86DD), ip6, Icmp6(2, 0, 0), Icmp6Word(word.mtu))
    return encode(seal(layers6, whole[:1232]))


def _segment(p: Plan, s: Sight, unit: Unit) -> bytes:
    packet = unit.packet
    ip, tcp = model_wire.frame(packet).layers
    if isinstance(ip, Ip):
        ip = replace(ip, frag_off=IP_DF, id=unit.id)
    body = payload(p.seed, unit.host, packet.seq + (packet.flags & SYN) // SYN, packet.len)
    sender, to = ("a", "b") if unit.host == 0 else ("b", "a")
    ether = Ether(MACS[to], MACS[sender], 0x0800 if isinstance(ip, Ip) else 0x86DD)
    sealed = seal((ether, ip, tcp), body)
    data = bytearray(encode(sealed))
    l4 = 14 + (20 if isinstance(ip, Ip) else 40)
    near = s.way == "out" and (p.offload or packet.gso_size)
    if near or (s.way == "in" and packet.gso_size):
        assert isinstance(ip, Ip | Ip6)
        partial = pseudo_header(ip.saddr, ip.daddr, 6, len(data) - l4)
        data[l4 + 16 : l4 + 18] = partial.to_bytes(2, "big")
    if unit.damaged:
        _damage(data, l4, unit.damaged)
    return bytes(data)


def _damage(data: bytearray, l4: int, draw: int) -> None:
    """Turns one bit of the segment round, but for its ports, its header's length and its flags."""
    places = [*range(l4 + 4, l4 + 12), *range(l4 + 14, len(data))]
    data[places[(draw >> 3) % len(places)]] ^= 1 << (draw & 7)


# ---------------------------------------------------------------- what a recorder would say


def _sidecar(p: Plan, mib: dict[str, dict[str, int]], lost: dict[str, int]) -> Sidecar:
    hosts = []
    for i, name in enumerate("ab"):
        sysctls: dict[str, int | str | bool] = {"net.ipv4.tcp_congestion_control": p.congestion[i]}
        for key, value in p.sysctls[i].items():
            if key in INERT:
                continue
            if key == "net.ipv4.tcp_rmem[1]":
                low, high = p.params[i].tcp_rmem_0, p.params[i].tcp_rmem_2
                sysctls["net.ipv4.tcp_rmem"] = f"{low} {value} {high}"
            else:
                sysctls[key] = value
        mac = MACS[name].hex(":")
        before = dict.fromkeys(mib[name], 0)
        hosts.append(HostInfo(name, True, [str(ip_address(p.addresses[i]))], mac, sysctls, before, dict(mib[name])))
    near = p.taps[0] if p.taps[0] in "ab" else ""
    return Sidecar(
        case=f"synth-{p.seed}",
        scenario="synth",
        layer="tcp",
        says=f"{p.shape}; {p.fates}; taps {' '.join(p.taps)}; out {p.tx}, in {p.rx}",
        kernel=Kernel(f"{p.kernel}.0", p.kernel, p.hz),
        vantage=Vantage(near, f"{p.taps[0]}0", "near" if near else "wire"),
        offloads={"tx-checksum": p.offload, "tso": p.tx == "super", "gso": p.tx == "super", "gro": p.rx == "gro"},
        hosts=hosts,
        expected=Expected("conforms"),
        extra={
            "drops": {
                f"{n}.{hook}": lost[k] for n in p.taps for hook, k in (("ingress", "behind"), ("egress", "before"))
            },
            "taps": {
                "hosts": list(p.taps),
                "interfaces": [f"{n}0" for n in p.taps],
                "kinds": ["near" if n in "ab" else "wire" for n in p.taps],
            },
        },
    )


def _setup(p: Plan, sidecar: Sidecar) -> Setup:
    """The setup as reading the sidecar would give it."""
    hosts = tuple(
        SetupHost(
            name=h.name,
            linux=h.linux,
            addresses=frozenset(ip_address(a).packed for a in h.addresses),
            mac=bytes.fromhex(h.mac.replace(":", "")),
            sysctls={k: v for k, v in h.sysctls.items() if isinstance(v, int)},
            mib={k: v - h.mib_before.get(k, 0) for k, v in h.mib_after.items()},
        )
        for h in sidecar.hosts
    )
    return Setup(
        kernel=p.kernel,
        hz=p.hz,
        hosts=hosts,
        near=sidecar.vantage.host,
        layer="tcp",
        expected=sidecar.expected.verdict,
        inferred=(f"kernel {p.kernel} and sysctls from synth-{p.seed}.toml",),
        extra={"scenario": "synth", "offloads": sidecar.offloads, "vantage": vars(sidecar.vantage), **sidecar.extra},
    )


# ---------------------------------------------------------------- files


class TruthFile(Struct, frozen=True):
    """`synth-<seed>.truth.json`: a `Truth` without its capture and its sidecar, which stand beside it."""

    seed: int
    says: str
    vantage: tuple[str, ...]
    lost: dict[str, int]
    mib: dict[str, dict[str, int]]
    frames: tuple[FrameTruth, ...]


def write(truth: Truth, folder: Path) -> Path:
    """Writes capture, sidecar and truth of one seed into `folder`; the capture's path. Raises OSError."""
    path = folder / f"synth-{truth.seed}.pcapng"
    path.write_bytes(truth.data)
    path.with_suffix(".toml").write_text(truth.sidecar, encoding="utf-8")
    told = TruthFile(truth.seed, truth.says, truth.vantage, truth.lost, truth.mib, truth.frames)
    path.with_suffix(".truth.json").write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1))
    return path


def load(path: Path) -> Truth:
    """The truth beside the capture `path` that `write` made; raises OSError, and ValueError if it is none."""
    told = msgspec.json.decode(path.with_suffix(".truth.json").read_bytes(), type=TruthFile)
    side = path.with_suffix(".toml")
    return Truth(
        told.seed, path.read_bytes(), told.frames, told.mib, told.vantage, told.lost, read_sidecar(side),
        side.read_text(encoding="utf-8"), told.says,
    )  # fmt: skip


def write_all(seeds: Iterable[int], folder: Path) -> list[Path]:
    """The same for many seeds; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write(synthesize(seed), folder) for seed in seeds]


__all__ = [
    "FrameTruth",
    "Truth",
    "TruthFile",
    "counters",
    "load",
    "payload",
    "synthesize",
    "told",
    "write",
    "write_all",
]
