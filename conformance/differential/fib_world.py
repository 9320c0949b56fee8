"""One operation on routing, said to the running kernel in a namespace of its own and to the model."""

import os
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from conformance.differential import rtnl
from conformance.differential.rtnl import Attr, Refused, Rtnl, addr4, attrs, u32
from conformance.live.errors import ScenarioFailed
from conformance.live.kernel import NetNamespace
from refmodel.dropreason import Reason
from refmodel.env import KernelTimer
from refmodel.fib.devinet import devinet_conf_proc, inet_rtm_deladdr, inet_rtm_newaddr, netdevice_event
from refmodel.fib.frontend import fib_nl_delrule, fib_nl_newrule, inet_rtm_delroute, inet_rtm_newroute
from refmodel.fib.getroute import Message, Query, fib_table_dump, inet_rtm_getroute
from refmodel.fib.net import Fib, FibRule
from refmodel.fib.params import FibParams
from refmodel.fib.types import (
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    FibConfig,
    NetdevEvent,
    NhConfig,
)
from refmodel.netdevice import IFF_RUNNING, IFF_UP, NetDevice, loopback
from refmodel.skbuff import SkBuff

DEVICES: Final = ("a0", "a1", "a2")
SEED: Final = 0x12345
CONF: Final[dict[str, int]] = {
    "forwarding": 0, "bc_forwarding": 0, "rp_filter": 0, "src_valid_mark": 0, "accept_local": 0, "route_localnet": 0,
    "ignore_routes_with_linkdown": 0, "promote_secondaries": 0, "accept_redirects": 1, "secure_redirects": 1,
    "send_redirects": 1, "shared_media": 1,
}  # fmt: skip


class Addr(NamedTuple):
    """An address is added (`add`) or deleted."""

    add: bool
    ifindex: int
    local: int
    plen: int
    address: int = 0
    broadcast: int = 0
    scope: int = 0
    flags: int = 0
    metric: int = 0
    nlflags: int = 0


class Routing(NamedTuple):
    """A route is added or deleted; the values are those of FibConfig."""

    add: bool
    dst: int
    dst_len: int
    values: dict[str, Any]

    def config(self) -> FibConfig:
        """The request as the model takes it."""
        return FibConfig(self.dst, self.dst_len, **self.values)


class Ruling(NamedTuple):
    """A policy rule is added or deleted; the values are those of FibRule, `pref` -1 where none is named."""

    add: bool
    pref: int
    action: int
    table: int
    values: dict[str, Any]
    nlflags: int = 0

    def rule(self) -> FibRule:
        """The request as the model takes it."""
        r = FibRule(max(self.pref, 0), self.action, self.table)
        for name, value in self.values.items():
            setattr(r, name, value)
        return r


class Link(NamedTuple):
    """A device goes up or down."""

    name: str
    up: bool


class Carrier(NamedTuple):
    """The far end of a device goes up or down, and its carrier with it."""

    name: str
    on: bool


class Conf(NamedTuple):
    """A sysctl of net.ipv4.conf is written."""

    who: str
    name: str
    value: int


class Sysctl(NamedTuple):
    """A sysctl of the namespace is written."""

    name: str
    value: int


Op = Addr | Routing | Ruling | Link | Carrier | Conf | Sysctl


class Outcome(NamedTuple):
    """What came of an operation: an errno (0: done) and the words beside it."""

    errno: int
    text: str = ""


def _run(*command: str) -> None:
    p = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if p.returncode:
        raise ScenarioFailed(f"{' '.join(command)}: {p.stderr.strip()}")


class Kernel:
    """The running kernel: a namespace with lo and three veth devices, all down, whose far ends lie in another one."""

    ipv6 = False

    def __init__(self) -> None:
        self.ns = NetNamespace()
        self.far = NetNamespace()
        with self.ns.inside():
            for i, name in enumerate(DEVICES):
                # Far ends have other numbers, so that the kernel takes every carrier change as urgent.
                _run(
                    "ip", "link", "add", name, "index", str(i + 2), "type", "veth", "peer", "name", f"b{i}", "index",
                    str(i + 12), "netns", self.far.path,
                )  # fmt: skip
            self.rtnl = Rtnl()
            for who in ("all", "default", "lo", *DEVICES):
                for name, value in CONF.items():
                    self._write(f"/proc/sys/net/ipv4/conf/{who}/{name}", value)
                if not self.ipv6:
                    self._write(f"/proc/sys/net/ipv6/conf/{who}/disable_ipv6", 1)
            self._write("/proc/sys/net/ipv4/fib_multipath_hash_policy", 0)
            self._write("/proc/sys/net/ipv4/fib_multipath_hash_seed", SEED)
        with self.far.inside():
            self.far_rtnl = Rtnl()
            for who in ("all", "default"):
                self._write(f"/proc/sys/net/ipv6/conf/{who}/disable_ipv6", 1)
            for i in range(len(DEVICES)):
                _run("ip", "link", "set", f"b{i}", "up")

    def close(self) -> None:
        """Lets the namespaces go."""
        self.rtnl.close()
        self.far_rtnl.close()
        self.ns.close()
        self.far.close()

    @staticmethod
    def _write(path: str, value: int) -> None:
        Path(path).write_text(str(value), encoding="ascii")

    def apply(self, op: Op) -> Outcome:
        """Does one operation."""
        try:
            if isinstance(op, Addr):
                self._addr(op)
            elif isinstance(op, Routing):
                kind = rtnl.RTM_NEWROUTE if op.add else rtnl.RTM_DELROUTE
                cfg = op.config()
                self.rtnl.request(kind, cfg.fc_nlflags if op.add else 0, route_body(cfg))
            elif isinstance(op, Ruling):
                kind = rtnl.RTM_NEWRULE if op.add else rtnl.RTM_DELRULE
                self.rtnl.request(kind, op.nlflags, rule_body(op))
            elif isinstance(op, Link):
                self._link(self.rtnl, op.name, op.up)
                self._settle(self.rtnl, op.name)
            elif isinstance(op, Carrier):
                self._link(self.far_rtnl, op.name.replace("a", "b"), op.on)
                self._settle(self.rtnl, op.name)
            else:
                with self.ns.inside():
                    where = f"conf/{op.who}/{op.name}" if isinstance(op, Conf) else op.name
                    self._write(f"/proc/sys/net/ipv4/{where}", op.value)
        except Refused as e:
            return Outcome(e.errno, e.text)
        return Outcome(0)

    def _addr(self, op: Addr) -> None:
        body = struct.pack("=BBBBi", 2, op.plen, op.flags & 0xFF, op.scope, op.ifindex)
        items: list[Attr] = [(2, addr4(op.local))]
        if op.address or not op.add:
            items.append((1, addr4(op.address or op.local)))
        if op.add:
            if op.broadcast:
                items.append((4, addr4(op.broadcast)))
            items.append((8, u32(op.flags)))
            if op.metric:
                items.append((9, u32(op.metric)))
        self.rtnl.request(rtnl.RTM_NEWADDR if op.add else rtnl.RTM_DELADDR, op.nlflags, body + attrs(items))

    @staticmethod
    def _link(sock: Rtnl, name: str, up: bool) -> None:
        body = struct.pack("=BBHiII", 0, 0, 0, 0, IFF_UP if up else 0, IFF_UP)
        sock.request(rtnl.RTM_NEWLINK, 0, body + attrs([(3, name.encode() + b"\0")]))

    @staticmethod
    def _settle(sock: Rtnl, name: str) -> None:
        """Waits until the kernel has told itself of a device's carrier."""
        if name == "lo":
            return
        body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attrs([(3, name.encode() + b"\0")])
        end = time.monotonic() + 5
        while time.monotonic() < end:
            answer = sock.request(rtnl.RTM_GETLINK, 0, body)[0][1]
            flags = struct.unpack_from("=I", answer, 8)[0]
            found = dict(rtnl.parse_attrs(answer[16:]))
            operstate, carrier = found[16][0], found[33][0]
            if (operstate == 6) == (bool(flags & IFF_UP) and bool(carrier)):
                return
            time.sleep(0.002)
        raise ScenarioFailed(f"{name} does not settle")

    def query(self, q: Query) -> Message | int:
        """Asks for a route."""
        flags = (RTM_F_FIB_MATCH if q.fibmatch else 0) | (RTM_F_LOOKUP_TABLE if q.lookup_table else 0)
        body = struct.pack("=BBBBBBBBI", 2, 32, 32 if q.src else 0, q.tos, 0, 0, 0, 0, flags)
        items: list[Attr] = [(1, addr4(q.dst))]
        if q.src:
            items.append((2, addr4(q.src)))
        for kind, value in ((3, q.iif), (4, q.oif), (16, q.mark)):
            if value:
                items.append((kind, u32(value)))
        items.append((27, bytes((q.ip_proto,))))
        for kind, port in ((28, q.sport), (29, q.dport)):
            if port:
                items.append((kind, port.to_bytes(2, "big")))
        try:
            return rtnl.parse_route(self.rtnl.request(rtnl.RTM_GETROUTE, 0, body + attrs(items))[0][1])
        except Refused as e:
            return -e.errno

    def dump(self) -> dict[int, list[Message]]:
        """All tables."""
        body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 0, 0, 0, 0)
        out: dict[int, list[Message]] = {}
        for _, answer in self.rtnl.request(rtnl.RTM_GETROUTE, rtnl.NLM_F_DUMP, body):
            route = rtnl.parse_route(answer)
            out.setdefault(route["table"], []).append(route)
        return out

    def addresses(self) -> list[tuple[int, ...]]:
        """All addresses: device, local, prefix length, address, broadcast, flags, scope."""
        body = struct.pack("=BBBBi", 2, 0, 0, 0, 0)
        out: list[tuple[int, ...]] = []
        for _, answer in self.rtnl.request(rtnl.RTM_GETADDR, rtnl.NLM_F_DUMP, body):
            _, plen, _, scope, ifindex = struct.unpack_from("=BBBBi", answer)
            found = dict(rtnl.parse_attrs(answer[8:]))
            flags = struct.unpack("=I", found[8])[0]
            values = [int.from_bytes(found.get(k, b"\0"), "big") for k in (2, 1, 4)]
            out.append((ifindex, values[0], plen, values[1], values[2], flags, scope))
        return out

    def rules(self) -> list[dict[str, Any]]:
        """All policy rules."""
        body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 0, 0, 0, 0)
        return [parse_rule(a) for _, a in self.rtnl.request(rtnl.RTM_GETRULE, rtnl.NLM_F_DUMP, body)]


def route_body(cfg: FibConfig) -> bytes:
    """A route request as bytes."""
    body = struct.pack(
        "=BBBBBBBBI", 2, cfg.fc_dst_len, 0, cfg.fc_dscp, min(cfg.fc_table, 255) if cfg.fc_table < 256 else 252,
        cfg.fc_protocol, cfg.fc_scope, cfg.fc_type, cfg.fc_flags,
    )  # fmt: skip
    items: list[Attr] = [(15, u32(cfg.fc_table))]
    if cfg.fc_dst_len or cfg.fc_dst:
        items.append((1, addr4(cfg.fc_dst)))
    for kind, value in ((4, cfg.fc_oif), (6, cfg.fc_priority)):
        if value:
            items.append((kind, u32(value)))
    for kind, value in ((5, cfg.fc_gw4), (7, cfg.fc_prefsrc)):
        if value:
            items.append((kind, addr4(value)))
    if cfg.fc_mx is not None:
        items.append((8, attrs([(k, u32(v)) for k, v in cfg.fc_mx.items()])))
    if cfg.fc_mp:
        hops = b""
        for h in cfg.fc_mp:
            gw = attrs([(5, addr4(h.gw))]) if h.gw else b""
            hops += struct.pack("=HBBi", 8 + len(gw), h.rtnh_flags, h.rtnh_hops, h.rtnh_ifindex) + gw
        items.append((9, hops))
    return body + attrs(items)


def rule_body(op: Ruling) -> bytes:
    """A rule request as bytes."""
    r = op.rule()
    tos = 0 if r.dscp_full else r.dscp
    body = struct.pack(
        "=BBBBBBBBI", 2, r.dst_len, r.src_len, tos, min(r.table, 255) if r.table < 256 else 0, 0, 0, r.action, r.flags
    )
    items: list[Attr] = [(15, u32(r.table))]
    if op.pref >= 0:
        items.append((6, u32(op.pref)))
    for length, kind, value in ((r.dst_len, 1, r.dst), (r.src_len, 2, r.src)):
        if length:
            items.append((kind, addr4(value)))
    for kind, name in ((3, r.iifname), (17, r.oifname)):
        if name:
            items.append((kind, name.encode() + b"\0"))
    if r.target:
        items.append((4, u32(r.target)))
    if r.mark_mask:
        items += [(10, u32(r.mark)), (16, u32(r.mark_mask))]
    if r.suppress_prefixlen != -1:
        items.append((14, u32(r.suppress_prefixlen)))
    if r.proto:
        items.append((21, bytes((r.proto,))))
    if r.ip_proto:
        items.append((22, bytes((r.ip_proto,))))
    for kind, ports in ((23, r.sport_range), (24, r.dport_range)):
        if ports != (0, 0):
            items.append((kind, struct.pack("=HH", *ports)))
    if r.dscp_full:
        items.append((25, bytes((r.dscp >> 2,))))
    if r.uid_range != (0, 0xFFFFFFFF):
        items.append((20, struct.pack("=II", *r.uid_range)))
    return body + attrs(items)


def parse_rule(body: bytes) -> dict[str, Any]:
    """A rule message as named fields of FibRule."""
    _, dst_len, src_len, tos, table, _, _, action, flags = struct.unpack_from("=BBBBBBBBI", body)
    found = dict(rtnl.parse_attrs(body[12:]))

    def number(kind: int, default: int = 0) -> int:
        return struct.unpack("=I", found[kind])[0] if kind in found else default

    def ports(kind: int) -> tuple[int, ...]:
        return struct.unpack("=HH", found[kind]) if kind in found else (0, 0)

    suppress = number(14, 0xFFFFFFFF)
    return {
        "dst_len": dst_len, "src_len": src_len, "dscp": found[25][0] << 2 if 25 in found else tos,
        "dscp_full": 25 in found, "table": number(15, table), "action": action, "flags": flags & 2, "pref": number(6),
        "dst": int.from_bytes(found.get(1, b"\0"), "big"), "src": int.from_bytes(found.get(2, b"\0"), "big"),
        "iifname": found.get(3, b"").rstrip(b"\0").decode(), "oifname": found.get(17, b"").rstrip(b"\0").decode(),
        "target": number(4), "mark": number(10), "mark_mask": number(16),
        "suppress_prefixlen": -1 if suppress == 0xFFFFFFFF else suppress, "proto": found.get(21, b"\0")[0],
        "ip_proto": found.get(22, b"\0")[0], "sport_range": ports(23), "dport_range": ports(24),
    }  # fmt: skip


class StillEnv:
    """Surroundings in which time stands still, nothing is sent and there are no neighbours."""

    now = 0
    hz = 250

    def __init__(self, kernel: int) -> None:
        self.kernel = kernel
        self.log: list[str] = []
        self.flags: dict[int, int] = {}
        self._random = 0

    @property
    def jiffies(self) -> int:
        """The tick that it is."""
        return 0

    def note(self, fn: str, detail: str = "") -> None:
        """Keeps the decision for whoever explains a difference."""
        self.log.append(f"{fn}: {detail}")

    def count(self, name: str, n: int = 1) -> None:
        """Nobody asks for counters here."""

    def random(self) -> int:
        """The next of a fixed series."""
        self._random = (self._random * 1103515245 + 12345) & 0xFFFFFFFF
        return self._random

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> KernelTimer:
        """Routing has no timers."""
        raise NotImplementedError(name)

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """Routing drops nothing itself."""

    def consume_skb(self, skb: SkBuff) -> None:
        """Routing ends no packet itself."""

    def neigh_nud_state(self, dev: NetDevice, gw: int) -> int | None:
        """There are no neighbours."""
        return None

    def neigh_event_send(self, dev: NetDevice, gw: int) -> None:
        """Nobody is asked."""

    def arp_ifdown(self, dev: NetDevice) -> None:
        """There is nothing to forget."""

    def arp_invalidate(self, dev: NetDevice, addr: int) -> None:
        """There is nothing to forget."""

    def ipcb_flags(self, skb: SkBuff, flags: int) -> int:
        """The flags of a packet."""
        self.flags[id(skb)] = self.flags.get(id(skb), 0) | flags
        return self.flags[id(skb)]


class Model:
    """The same in the model."""

    def __init__(self, kernel: int) -> None:
        self.env = StillEnv(kernel)
        self.fib = Fib(self.env, FibParams(fib_multipath_hash_seed=SEED))
        lo = loopback()
        lo.flags &= ~(IFF_UP | IFF_RUNNING)
        self.devs = {"lo": lo}
        self.far = dict.fromkeys(DEVICES, True)
        for i, name in enumerate(DEVICES):
            dev = NetDevice(name, i + 2, bytes((2, 0, 0, 0, 0, i)), flags=0x1002 & ~IFF_UP)
            dev.carrier = False
            self.devs[name] = dev
        for dev in self.devs.values():
            netdevice_event(self.fib, dev, NetdevEvent.REGISTER)

    def apply(self, op: Op) -> Outcome:
        """Does one operation."""
        self.env.log.clear()
        if isinstance(op, Link):
            self._link(op)
            return Outcome(0)
        if isinstance(op, Carrier):
            self.far[op.name] = op.on
            dev = self.devs[op.name]
            if dev.up and dev.carrier != op.on:
                dev.carrier = op.on
                netdevice_event(self.fib, dev, NetdevEvent.CHANGE)
            return Outcome(0)
        if isinstance(op, Conf):
            devinet_conf_proc(self.fib, op.who, op.name, op.value)
            return Outcome(0)
        if isinstance(op, Sysctl):
            self.fib.params = FibParams(fib_multipath_hash_seed=SEED, **{op.name: op.value})
            return Outcome(0)
        if isinstance(op, Addr):
            err = self._addr(op)
        elif isinstance(op, Routing):
            err = (inet_rtm_newroute if op.add else inet_rtm_delroute)(self.fib, op.config())
        elif op.add:
            err = fib_nl_newrule(self.fib, op.rule(), op.nlflags, op.pref >= 0)
        else:
            err = fib_nl_delrule(self.fib, op.rule(), op.pref >= 0)
        return Outcome(-err, self.fib.extack if err else "")

    def _addr(self, op: Addr) -> int:
        if not op.add:
            return inet_rtm_deladdr(self.fib, op.ifindex, op.local, (op.address or op.local, op.plen))
        return inet_rtm_newaddr(
            self.fib, op.ifindex, op.local, op.plen, address=op.address, broadcast=op.broadcast, scope=op.scope,
            flags=op.flags, rt_priority=op.metric, nlflags=op.nlflags,
        )  # fmt: skip

    def _link(self, op: Link) -> None:
        dev = self.devs[op.name]
        if dev.up == op.up:
            return
        dev.flags ^= IFF_UP
        if op.name != "lo":
            dev.carrier = op.up and self.far[op.name]
        netdevice_event(self.fib, dev, NetdevEvent.UP if op.up else NetdevEvent.DOWN)
        if op.up and op.name != "lo" and dev.carrier:
            netdevice_event(self.fib, dev, NetdevEvent.CHANGE)

    def query(self, q: Query) -> Message | int:
        """Asks for a route."""
        self.env.log.clear()
        self.env.flags.clear()
        return inet_rtm_getroute(self.fib, q)

    def dump(self) -> dict[int, list[Message]]:
        """All tables that have routes."""
        tables = {tb_id: list(fib_table_dump(self.fib, tb_id)) for tb_id in self.fib.tables}
        return {tb_id: routes for tb_id, routes in tables.items() if routes}

    def addresses(self) -> list[tuple[int, ...]]:
        """All addresses: device, local, prefix length, address, broadcast, flags, scope."""
        return [
            (i, a.ifa_local, a.ifa_prefixlen, a.ifa_address, a.ifa_broadcast, a.ifa_flags, a.ifa_scope)
            for i, in_dev in self.fib.in_devs.items()
            for a in in_dev.ifa_list
        ]

    def rules(self) -> list[dict[str, Any]]:
        """All policy rules."""
        names = parse_rule(bytes(12)).keys()
        return [{name: getattr(r, name) for name in names} for r in self.fib.rules]


def running_version() -> int:
    """The running kernel's version as the model counts it: 618."""
    major, minor = os.uname().release.split("-")[0].split(".")[:2]
    return int(major) * 100 + int(minor)


__all__ = ["Addr", "Carrier", "Conf", "Kernel", "Link", "Model", "NhConfig", "Outcome", "Routing", "Ruling", "Sysctl"]
