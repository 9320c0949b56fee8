"""IPv6 routing, the model against the running kernel: random addresses, routes and rules, and random questions.

    python -m conformance.differential.fib6 --n 2000 --seed 1

All devices are up with a carrier, addresses come without duplicate address detection, gateways are link-local. After
each operation the errno is compared, after every few all tables; and each question's whole answer: route, nexthop, and
the source address that the kernel would choose.
"""

import random
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.progress import Progress

from conformance.differential import rtnl
from conformance.differential.fib import Difference, Tally, ask, tell, told
from conformance.differential.fib_world import DEVICES, SEED, Kernel, Link, StillEnv, running_version
from conformance.differential.rtnl import Attr, Refused, attrs, u32
from conformance.live.errors import ScenarioFailed
from refmodel.fib.addrconf import ip6, mask6
from refmodel.fib.fib6 import fib6_nl_delrule, fib6_nl_newrule
from refmodel.fib.fib6_tables import addrconf_dev_up, fib6_add, inet6_addr_add, ip6_route_del
from refmodel.fib.getroute import Message, Query
from refmodel.fib.getroute6 import fib6_dump_table, inet6_rtm_getroute
from refmodel.fib.net import FibRule
from refmodel.fib.types import (
    IFA_F_NODAD,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_F_FIB_MATCH,
    RTN,
    FrAct,
)
from refmodel.fib.types6 import Fib6, Fib6Info
from refmodel.netdevice import NetDevice, loopback

PREFIXES: Final = tuple(
    ip6(x)
    for x in (
        "2001:db8:1::", "2001:db8:2::", "2001:db8:1:1::", "fd00:1::", "fd00:2::", "2002:c000:201::", "2001:0:1::",
        "2001:10::", "fec0::", "::ffff:10.0.0.0", "64:ff9b::", "3ffe:1::",
    )
)  # fmt: skip
ODD: Final = tuple(
    ip6(x) for x in ("::1", "ff02::1", "ff05::2", "ff0e::101", "fe80::101", "2600::1", "::", "::10.0.0.1")
)
LENGTHS: Final = (0, 3, 16, 32, 48, 64, 64, 96, 120, 127, 128)
REJECTS: Final = (RTN.BLACKHOLE, RTN.UNREACHABLE, RTN.PROHIBIT, RTN.THROW)
OPS_AN_EPISODE: Final = 60


class Addr6Op(NamedTuple):
    """An address is added, `preferred` seconds preferred (0: deprecated at once)."""

    ifindex: int
    addr: int
    plen: int
    preferred: int


class Route6Op(NamedTuple):
    """A route is added or deleted."""

    add: bool
    dst: int
    plen: int
    ifindex: int
    gw: int = 0
    type: int = RTN.UNICAST
    metric: int = 0
    table: int = 254
    pref: int = 0
    prefsrc: int = 0
    nlflags: int = 0


class Rule6Op(NamedTuple):
    """A policy rule is added, or the first of a preference deleted."""

    add: bool
    pref: int
    action: int = FrAct.TO_TBL
    table: int = 0
    values: tuple[tuple[str, Any], ...] = ()

    def rule(self) -> FibRule:
        """The request as the model takes it."""
        r = FibRule(self.pref, self.action, self.table)
        for name, value in self.values:
            setattr(r, name, value)
        return r


class Sysctl6(NamedTuple):
    """A sysctl of net.ipv6 is written."""

    path: str
    value: int


Op6 = Addr6Op | Route6Op | Rule6Op | Sysctl6


def _addr(x: int) -> bytes:
    return x.to_bytes(16, "big")


class Kernel6(Kernel):
    """The running kernel, with IPv6 on its three devices and no address but those that it is given."""

    ipv6 = True

    def __init__(self) -> None:
        super().__init__()
        with self.ns.inside():
            for name in ("all", "default", *DEVICES):
                conf = Path("/proc/sys/net/ipv6/conf") / name
                for key, value in (
                    ("accept_ra", 0),
                    ("router_solicitations", 0),
                    ("accept_dad", 0),
                    ("dad_transmits", 0),
                ):
                    (conf / key).write_text(str(value), encoding="ascii")
                if name != "all":
                    (conf / "addr_gen_mode").write_text("1", encoding="ascii")
        for name in ("lo", *DEVICES):
            self.apply(Link(name, True))

    def apply6(self, op: Op6) -> int:
        """Does one operation; 0 or an errno."""
        try:
            if isinstance(op, Addr6Op):
                body = struct.pack("=BBBBi", 10, op.plen, 0, 0, op.ifindex)
                info = struct.pack("=IIII", op.preferred, 0xFFFFFFFF, 0, 0)
                items: list[Attr] = [(2, _addr(op.addr)), (1, _addr(op.addr)), (8, u32(IFA_F_NODAD)), (6, info)]
                self.rtnl.request(rtnl.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body + attrs(items))
                self._settle_address(op.ifindex, op.addr)
            elif isinstance(op, Route6Op):
                kind = rtnl.RTM_NEWROUTE if op.add else rtnl.RTM_DELROUTE
                self.rtnl.request(kind, op.nlflags if op.add else 0, _route_body(op))
            elif isinstance(op, Rule6Op):
                kind = rtnl.RTM_NEWRULE if op.add else rtnl.RTM_DELRULE
                self.rtnl.request(kind, NLM_F_CREATE if op.add else 0, _rule_body(op))
            else:
                with self.ns.inside():
                    Path("/proc/sys/net/ipv6", op.path).write_text(str(op.value), encoding="ascii")
        except Refused as e:
            return e.errno
        return 0

    def _settle_address(self, ifindex: int, addr: int) -> None:
        """Waits until the kernel has put the local route to an address into its table."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if any(r["oif"] == ifindex for r in self.dump6().get((255, addr, 128), [])):
                return
            time.sleep(0.001)
        raise ScenarioFailed("an address gets no local route")

    def query6(self, q: Query) -> Message | int:
        """Asks for a route."""
        flags = RTM_F_FIB_MATCH if q.fibmatch else 0
        body = struct.pack("=BBBBBBBBI", 10, 128, 128 if q.src else 0, q.tos, 0, 0, 0, 0, flags)
        items: list[Attr] = [(1, _addr(q.dst))]
        if q.src:
            items.append((2, _addr(q.src)))
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

    def dump6(self) -> dict[tuple[int, int, int], list[Message]]:
        """All tables, node by node."""
        body = struct.pack("=BBBBBBBBI", 10, 0, 0, 0, 0, 0, 0, 0, 0)
        answers = self.rtnl.request(rtnl.RTM_GETROUTE, rtnl.NLM_F_DUMP, body)
        return _by_node([rtnl.parse_route(a) for _, a in answers])


def _by_node(routes: list[Message]) -> dict[tuple[int, int, int], list[Message]]:
    out: dict[tuple[int, int, int], list[Message]] = {}
    for r in routes:
        out.setdefault((r["table"], r.get("dst", 0), r["dst_len"]), []).append(r)
    return out


def _route_body(op: Route6Op) -> bytes:
    body = struct.pack("=BBBBBBBBI", 10, op.plen, 0, 0, op.table, 4 if op.add else 0, 0, op.type, 0)
    items: list[Attr] = []
    if op.plen:
        items.append((1, _addr(op.dst)))
    if op.type not in REJECTS:
        items.append((4, u32(op.ifindex)))
    if op.gw:
        items.append((5, _addr(op.gw)))
    if op.metric:
        items.append((6, u32(op.metric)))
    if op.prefsrc:
        items.append((7, _addr(op.prefsrc)))
    if op.pref:
        items.append((20, bytes((op.pref,))))
    return body + attrs(items)


def _rule_body(op: Rule6Op) -> bytes:
    r = op.rule()
    body = struct.pack(
        "=BBBBBBBBI", 10, r.dst_len, r.src_len, r.dscp, r.table, 0, 0, r.action if op.add else 0, r.flags
    )
    items: list[Attr] = [(6, u32(op.pref))]
    for length, kind, value in ((r.dst_len, 1, r.dst), (r.src_len, 2, r.src)):
        if length:
            items.append((kind, _addr(value)))
    for kind, name in ((3, r.iifname), (17, r.oifname)):
        if name:
            items.append((kind, name.encode() + b"\0"))
    if r.target:
        items.append((4, u32(r.target)))
    if r.mark_mask:
        items += [(10, u32(r.mark)), (16, u32(r.mark_mask))]
    if r.suppress_prefixlen != -1:
        items.append((14, u32(r.suppress_prefixlen)))
    if r.ip_proto:
        items.append((22, bytes((r.ip_proto,))))
    if r.dport_range != (0, 0):
        items.append((24, struct.pack("=HH", *r.dport_range)))
    return body + attrs(items)


class Model6:
    """The same in the model."""

    def __init__(self) -> None:
        self.env = StillEnv(running_version())
        self.fib = Fib6(self.env, SEED)
        lo = loopback()
        for dev in (lo, *(NetDevice(name, i + 2, bytes(6)) for i, name in enumerate(DEVICES))):
            self.fib.register(dev)
            addrconf_dev_up(self.fib, dev)

    def apply6(self, op: Op6) -> int:
        """Does one operation; 0 or an errno."""
        self.env.log.clear()
        fib = self.fib
        if isinstance(op, Addr6Op):
            flags = 0 if op.preferred else 0x20
            return -inet6_addr_add(fib, fib.devs[op.ifindex], op.addr, op.plen, flags)
        if isinstance(op, Route6Op):
            dev = fib.devs[1] if op.type in REJECTS else fib.devs[op.ifindex]
            if not op.add:
                return -ip6_route_del(
                    fib,
                    op.dst,
                    op.plen,
                    table=op.table,
                    dev=None if op.type in REJECTS else dev,
                    gw=op.gw,
                    metric=op.metric,
                )
            rt = Fib6Info(
                op.dst, op.plen, dev, type=op.type, gw=op.gw, metric=op.metric or 1024, table=op.table, protocol=4,
                pref=op.pref, prefsrc=op.prefsrc,
            )  # fmt: skip
            return -fib6_add(fib, rt, op.nlflags)
        if isinstance(op, Rule6Op):
            return -(fib6_nl_newrule(fib, op.rule()) if op.add else fib6_nl_delrule(fib, op.pref))
        if op.path.endswith("policy"):
            fib.hash_policy = op.value
        elif op.path.endswith("use_oif_addrs_only"):
            name = op.path.split("/")[1]
            next(x for x in fib.idevs.values() if x.dev.name == name).use_oif_addrs_only = bool(op.value)
        return 0

    def query6(self, q: Query) -> Message | int:
        """Asks for a route."""
        self.env.log.clear()
        return inet6_rtm_getroute(self.fib, q)

    def dump6(self) -> dict[tuple[int, int, int], list[Message]]:
        """All tables, node by node."""
        return _by_node([r for tb_id in self.fib.tables for r in fib6_dump_table(self.fib, tb_id)])


class Source6:
    """Random operations and questions from a small universe."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def chance(self, p: float) -> bool:
        """True in a part `p` of cases."""
        return self.r.random() < p

    def host(self) -> int:
        """An address."""
        return self.r.choice(ODD) if self.chance(0.12) else self.r.choice(PREFIXES) + self.r.randrange(1, 8)

    def addr(self) -> Addr6Op:
        """An address comes."""
        r = self.r
        ifindex = r.randrange(2, 5)
        if self.chance(0.25):
            return Addr6Op(ifindex, ip6("fe80::") + r.randrange(1, 6), 64, 0xFFFFFFFF)
        addr = r.choice(PREFIXES) + r.randrange(1, 8)
        return Addr6Op(ifindex, addr, r.choice((64, 64, 64, 128, 48, 127)), r.choice((0xFFFFFFFF, 0xFFFFFFFF, 0)))

    def routing(self, fib: Fib6) -> Route6Op:
        """A route comes or goes."""
        r = self.r
        if self.chance(0.2):
            user = [x for t in fib.tables.values() for n in t.nodes.values() for x in n if x.fib6_protocol == 4]
            if user:
                x = r.choice(user)
                error = x.fib6_flags & 0x200
                gw = x.gw if self.chance(0.6) and not error else 0
                metric = x.fib6_metric if self.chance(0.5) else 0
                return Route6Op(
                    False, x.prefix & mask6(x.plen), x.plen, x.dev.ifindex, gw, x.fib6_type, metric, x.tb6_id
                )
        plen = r.choice(LENGTHS)
        dst = self.host() & mask6(plen)
        kind = r.choice((*[RTN.UNICAST] * 12, *REJECTS))
        gw = ip6("fe80::100") + r.randrange(4) if kind == RTN.UNICAST and self.chance(0.65) else 0
        nlflags = NLM_F_CREATE | r.choice((NLM_F_EXCL, NLM_F_EXCL, NLM_F_APPEND, NLM_F_APPEND, 0))
        if self.chance(0.08):
            nlflags = r.choice((NLM_F_CREATE | NLM_F_REPLACE, NLM_F_REPLACE))
        own = [a.addr for i in fib.idevs.values() for a in i.addr_list if a.addr >> 118 != 0x3FA and a.addr != 1]
        prefsrc = r.choice(own) if own and kind == RTN.UNICAST and self.chance(0.1) else 0
        return Route6Op(
            True, dst, plen, r.randrange(2, 5), gw, kind, r.choice((0, 0, 0, 512, 1024, 2000)),
            r.choice((254, 254, 254, 100, 101)), r.choice((0, 0, 0, 1, 3)), prefsrc, nlflags,
        )  # fmt: skip

    def ruling(self, fib: Fib6) -> Rule6Op:
        """A policy rule comes or goes."""
        r = self.r
        if self.chance(0.3):
            return Rule6Op(False, r.choice([x.pref for x in fib.rules] or [7]))
        action = r.choice(
            (*[FrAct.TO_TBL] * 5, FrAct.GOTO, FrAct.NOP, FrAct.UNREACHABLE, FrAct.PROHIBIT, FrAct.BLACKHOLE)
        )
        v: dict[str, Any] = {}
        table = r.choice((254, 255, 100, 101, 99)) if action == FrAct.TO_TBL else 0
        if table and self.chance(0.25):
            v["suppress_prefixlen"] = r.choice((0, 16, 32, 64, 127))
        if action == FrAct.GOTO:
            v["target"] = r.choice((32766, 40000, 20000))
        for side in ("src", "dst"):
            if self.chance(0.25):
                plen = r.choice((16, 32, 64, 128))
                v |= {side: self.host() & mask6(plen), f"{side}_len": plen}
        for side in ("iifname", "oifname"):
            if self.chance(0.15):
                v[side] = r.choice(("lo", *DEVICES, "none0"))
        if self.chance(0.2):
            v |= {"mark": r.choice((1, 2)), "mark_mask": 3}
        if self.chance(0.15):
            v["dscp"] = r.choice((0x08, 0x20, 0xB8))
        if self.chance(0.1):
            v["ip_proto"] = r.choice((6, 17))
        if self.chance(0.1):
            v["dport_range"] = (80, 100)
        return Rule6Op(True, r.choice((0, 5, 10, 100, 1000, 33000)), action, table, tuple(v.items()))

    def op(self, fib: Fib6, rules: bool) -> Op6:
        """The next operation."""
        x = self.r.random()
        if x < 0.25:
            return self.addr()
        if x < 0.75:
            return self.routing(fib)
        if x < 0.93 and rules:
            return self.ruling(fib)
        if x < 0.97:
            return Sysctl6("fib_multipath_hash_policy", self.r.randrange(2))
        return Sysctl6(f"conf/{self.r.choice(DEVICES)}/use_oif_addrs_only", self.r.randrange(2))

    def query(self) -> Query:
        """The next question."""
        r = self.r
        iif = r.randrange(1, 5) if self.chance(0.35) else 0
        dst = self.host()
        while iif and dst >> 120 == 0xFF:  # multicast that came in is the multicast router's to answer
            dst = self.host()
        return Query(
            dst=dst, src=self.host() if self.chance(0.4) else 0, iif=iif,
            oif=r.randrange(1, 5) if not iif and self.chance(0.3) else 0, mark=r.choice((0, 0, 1, 2)),
            tos=r.choice((0, 0, 8, 0x20, 0xB8)), ip_proto=r.choice((17, 6)), sport=r.choice((0, 1500)),
            dport=r.choice((0, 80, 90)), fibmatch=self.chance(0.25),
        )  # fmt: skip


def episode(seed: int, tally: Tally, queries: int) -> int:
    """One namespace's life; returns how many questions were asked. It ends with the first difference."""
    s = Source6(seed)
    kernel, model = Kernel6(), Model6()
    rules = s.chance(0.6)
    asked = 0
    history: list[str] = []

    def same(what: str, k: Any, m: Any) -> bool:
        tally.counts[what.split()[0]] += 1
        if k == m:
            return True
        if isinstance(k, dict) and what == "tables":
            k, m = [{n: d.get(n) for n in {*k, *m} if k.get(n) != m.get(n)} for d in (k, m)]
        tally.differences.append(Difference(seed, what, k, m, (*history, "", *model.env.log)))
        return False

    try:
        for step in range(OPS_AN_EPISODE):
            op = s.op(model.fib, rules)
            history.append(str(op))
            k, m = kernel.apply6(op), model.apply6(op)
            tally.counts["refused" if k else "done"] += 1
            if not same(f"op {op}", k, m) or (step % 5 == 0 and not same("tables", kernel.dump6(), model.dump6())):
                return asked
            for _ in range(s.r.choice((0, 1, 2, 4))):
                if asked >= queries:
                    return asked
                q = s.query()
                asked += 1
                k2, m2 = kernel.query6(q), model.query6(q)
                tally.counts["answered" if not isinstance(k2, int) else f"errno {-k2}"] += 1
                if not same(f"query {q}", k2, m2):
                    return asked
        return asked
    finally:
        kernel.close()


def run(n: int, seed: int, progress: Progress | None = None, stop: int = 5) -> Tally:
    """Asks `n` questions about IPv6, as `ask` does."""
    return ask(episode, n, seed, progress, stop)


@click.command()
@click.option("--n", default=1000, help="Questions to ask.")
@click.option("--seed", default=1, help="The first episode's seed.")
def main(n: int, seed: int) -> None:
    """Holds the model's IPv6 routing against the running kernel's."""
    with Progress() as progress:
        tally = run(n, seed, progress)
    sys.exit(tell(tally, told(tally.counts)))


if __name__ == "__main__":
    main()
