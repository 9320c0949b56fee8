"""IPv4 routing, the model against the running kernel: random setups and random questions.

    python -m conformance.differential.fib --n 5000 --seed 1

An episode is a fresh namespace that lives through some dozens of operations. After each one the errno and the words of
a refusal are compared, after every few the addresses, rules and tables, and each question's whole answer.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import click
from rich.progress import Progress

from conformance.differential.fib_world import (
    DEVICES,
    Addr,
    Carrier,
    Conf,
    Kernel,
    Link,
    Model,
    NhConfig,
    Op,
    Routing,
    Ruling,
    Sysctl,
    running_version,
)
from refmodel.fib.getroute import Query
from refmodel.fib.net import Fib
from refmodel.fib.types import (
    IFA_F_NOPREFIXROUTE,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_SITE,
    RTN,
    RTNH_F_ONLINK,
    FrAct,
    inet_make_mask,
    ip4,
)

NETS: Final = tuple(ip4(x) for x in ("10.0.0.0", "10.0.1.0", "10.0.2.0", "10.1.0.0", "192.168.7.0"))
ODD: Final = tuple(
    ip4(x)
    for x in (
        "127.0.0.1", "127.0.0.5", "127.3.0.1", "0.0.0.0", "0.0.0.7", "255.255.255.255", "224.0.0.1", "224.0.0.9",
        "239.1.2.3", "10.0.0.255", "10.255.255.255", "8.8.8.8",
    )
)  # fmt: skip
TABLES: Final = (254, 254, 254, 254, 255, 253, 100, 101, 1000)
LENGTHS: Final = (0, 8, 15, 16, 24, 24, 24, 28, 30, 31, 32, 32)
OPS_AN_EPISODE: Final = 90


class Difference(NamedTuple):
    """Where model and kernel part: in which episode, at what, and what each said."""

    seed: int
    what: str
    kernel: Any
    model: Any
    log: tuple[str, ...]


class Source:
    """Random operations and questions from a small universe, so that they meet."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def host(self) -> int:
        """An address."""
        r = self.r
        return r.choice(ODD) if r.random() < 0.12 else r.choice(NETS) + r.randrange(8)

    def chance(self, p: float) -> bool:
        """True in a part `p` of cases."""
        return self.r.random() < p

    def prefix(self) -> tuple[int, int]:
        """A prefix; a few have bits set behind their length."""
        plen = self.r.choice(LENGTHS)
        addr = self.host()
        return (addr, plen) if self.chance(0.03) else (addr & inet_make_mask(plen), plen)

    def ifindex(self) -> int:
        """A device, once in a while one that is not there."""
        return 9 if self.chance(0.02) else self.r.randrange(1, 5)

    def addr(self, fib: Fib) -> Addr:
        """An address comes or goes; mostly one that is there goes, and new ones meet old ones in their subnet."""
        r = self.r
        old = r.choice(fib.addr_lst) if fib.addr_lst else None
        if old is not None and self.chance(0.3):
            address = old.ifa_address if old.ifa_address != old.ifa_local else 0
            return Addr(False, old.ifa_dev.dev.ifindex, old.ifa_local, old.ifa_prefixlen, address)
        if old is not None and self.chance(0.5):
            local = old.ifa_local if self.chance(0.2) else old.ifa_local & 0xFFFFFFF8 | r.randrange(8)
            brd = old.ifa_broadcast if self.chance(0.5) else 0
            nlflags = NLM_F_REPLACE | NLM_F_CREATE if self.chance(0.5) else 0
            metric = r.choice((0, 0, 5))
            return Addr(
                True, old.ifa_dev.dev.ifindex, local, old.ifa_prefixlen, 0, brd, old.ifa_scope, 0, metric, nlflags
            )
        local = self.host()
        plen = r.choice((24, 24, 24, 16, 30, 31, 32, 8, 28))
        add = self.chance(0.7)
        flags = IFA_F_NOPREFIXROUTE if self.chance(0.1) else 0
        nlflags = r.choice((0, 0, NLM_F_EXCL | NLM_F_CREATE, NLM_F_REPLACE | NLM_F_CREATE)) if add else 0
        scope = r.choice((0, 0, 0, 0, 0, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_SITE)) if add else 0
        broadcast = 0
        if add and self.chance(0.5):
            broadcast = r.choice(
                (local | ~inet_make_mask(plen) & 0xFFFFFFFF, local & inet_make_mask(plen), 0xFFFFFFFF, self.host())
            )
        peer = self.host() if self.chance(0.1) else 0
        metric = r.choice((0, 0, 0, 5, 100)) if add else 0
        return Addr(add, self.ifindex(), local, plen, peer, broadcast, scope, flags, metric, nlflags)

    def hop(self) -> NhConfig:
        """One nexthop of several."""
        r = self.r
        return NhConfig(
            r.choice((0, 2, 3, 4)), self.host() if self.chance(0.7) else 0, r.choice((0, 0, 1, 4, 255)),
            r.choice((0, 0, 0, 0, RTNH_F_ONLINK, 1)),
        )  # fmt: skip

    def deleting(self, fib: Fib) -> Routing | None:
        """A route that is there goes, named by some of what it is."""
        found = [fa for tb in fib.tables.values() for fah in tb.trie.values() for fa in fah]
        if not found:
            return None
        fa = self.r.choice(found)
        fi = fa.fa_info
        v: dict[str, Any] = {"table": fa.tb_id, "dscp": fa.fa_dscp, "type": 0, "scope": RT_SCOPE_NOWHERE, "protocol": 0}
        for name, value in (
            ("type", fa.fa_type), ("scope", fi.fib_scope), ("protocol", fi.fib_protocol), ("priority", fi.fib_priority),
            ("prefsrc", fi.fib_prefsrc), ("oif", fi.fib_nh[0].fib_nh_oif), ("gw", fi.fib_nh[0].fib_nh_gw4),
        ):  # fmt: skip
            if self.chance(0.4):
                v[name] = value
        if len(fi.fib_nh) > 1 and self.chance(0.5):
            v["mp"] = tuple(NhConfig(nh.fib_nh_oif, nh.fib_nh_gw4) for nh in fi.fib_nh[: self.r.randrange(1, 4)])
        if self.chance(0.1):
            v["mx"] = {2: 1400}
        return Routing(False, fa.prefix, fa.plen, v)

    def gateway(self, fib: Fib) -> int:
        """A gateway, mostly one that some subnet has."""
        if fib.addr_lst and self.chance(0.8):
            return self.r.choice(fib.addr_lst).ifa_local ^ self.r.choice((1, 2, 3, 4))
        return self.host()

    def several(self, fib: Fib) -> Routing:
        """A route with several good nexthops, or another default route."""
        r = self.r
        up = [(a.ifa_dev.dev.ifindex, a.ifa_local ^ r.choice((1, 2, 3))) for a in fib.addr_lst if a.ifa_dev.dev.up]
        hops = tuple(
            NhConfig(i if self.chance(0.7) else 0, gw if self.chance(0.85) else 0, r.choice((0, 0, 1, 7)))
            for i, gw in (r.sample(up, min(len(up), r.randrange(1, 4))) if up else [(2, 0)])
        )
        dst, plen = (0, 0) if self.chance(0.5) else self.prefix()
        v: dict[str, Any] = {"table": 254, "protocol": 4, "priority": r.choice((0, 0, 10))}
        if plen == 0 and self.chance(0.5):
            v |= {"gw": hops[0].gw, "oif": hops[0].rtnh_ifindex}
        else:
            v["mp"] = hops
        v["nlflags"] = NLM_F_CREATE | r.choice((0, NLM_F_APPEND, NLM_F_REPLACE))
        return Routing(True, dst, plen, v)

    def routing(self, fib: Fib) -> Routing:
        """A route comes or goes."""
        r = self.r
        if self.chance(0.2):
            return self.several(fib)
        if self.chance(0.15):
            return self.deleting(fib) or self.several(fib)
        dst, plen = self.prefix()
        add = self.chance(0.75)
        v: dict[str, Any] = {"table": r.choice(TABLES)}
        v["type"] = r.choice(
            (*[RTN.UNICAST] * 14, RTN.LOCAL, RTN.LOCAL, RTN.BROADCAST, RTN.MULTICAST, RTN.ANYCAST, RTN.BLACKHOLE,
             RTN.UNREACHABLE, RTN.PROHIBIT, RTN.THROW, RTN.UNSPEC, RTN.NAT)
        )  # fmt: skip
        error = v["type"] in (RTN.BLACKHOLE, RTN.UNREACHABLE, RTN.PROHIBIT, RTN.THROW)
        if not error or self.chance(0.1):
            if self.chance(0.15) and add:
                v["mp"] = tuple(self.hop() for _ in range(r.randrange(1, 4)))
            if "mp" not in v or self.chance(0.05):
                gw = self.chance(0.6) and v["type"] == RTN.UNICAST
                if gw:
                    v["gw"] = self.gateway(fib)
                if not gw or self.chance(0.5):
                    v["oif"] = self.ifindex()
                if gw and self.chance(0.2):
                    v["flags"] = RTNH_F_ONLINK
        local = v["type"] in (RTN.LOCAL, RTN.NAT)
        direct = "gw" not in v and "mp" not in v and not error
        v["scope"] = RT_SCOPE_HOST if local else RT_SCOPE_LINK if direct else 0
        if self.chance(0.07):
            v["scope"] = r.choice((0, RT_SCOPE_SITE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE))
        if not add:
            v["scope"] = RT_SCOPE_NOWHERE if self.chance(0.9) else v["scope"]
            v["type"] = RTN.UNSPEC if self.chance(0.5) else v["type"]
            for name in ("gw", "oif", "flags"):
                if self.chance(0.6):
                    v.pop(name, None)
        v["priority"] = r.choice((0, 0, 0, 10, 20, 100))
        v["dscp"] = r.choice((*[0] * 12, 0x04, 0x08, 0x10, 0x20, 0xB8, 0x01))
        if self.chance(0.12):
            v["prefsrc"] = self.host()
        if self.chance(0.08):
            v["mx"] = r.choice(({2: 1400}, {2: 70000}, {1: 4, 2: 1300}, {8: 1000}, {10: 300}, {12: 64}, {1: 128}))
        v["protocol"] = r.choice((3, 4, 4, 4)) if add else r.choice((0, 0, 0, 4, 3))
        create = NLM_F_CREATE
        v["nlflags"] = r.choice(
            (create | NLM_F_EXCL, create | NLM_F_EXCL, create | NLM_F_EXCL, create | NLM_F_APPEND, create,
             create | NLM_F_REPLACE, create | NLM_F_REPLACE, NLM_F_REPLACE, NLM_F_APPEND)
        )  # fmt: skip
        return Routing(add, dst, plen, v)

    def ruling(self, prefs: list[int]) -> Ruling:
        """A policy rule comes or goes."""
        r = self.r
        add = self.chance(0.7)
        action = r.choice(
            (*[FrAct.TO_TBL] * 6, FrAct.GOTO, FrAct.GOTO, FrAct.NOP, FrAct.UNREACHABLE, FrAct.PROHIBIT, FrAct.BLACKHOLE)
        )
        v: dict[str, Any] = {}
        table = 0
        if action == FrAct.TO_TBL:
            table = r.choice((254, 255, 253, 100, 101, 1000, 77))
            if self.chance(0.25):
                v["suppress_prefixlen"] = r.choice((0, 8, 24, 31))
        pref = r.choice((-1, 0, 5, 10, 20, 30, 100, 32765, 32766, 32767, 40000))
        if action == FrAct.GOTO and not self.chance(0.1):
            v["target"] = r.choice((10, 20, 100, 32766, 32767, 40000, 50))
        if self.chance(0.25):
            plen = r.choice((8, 16, 24, 32))
            v |= {"src": self.host() & inet_make_mask(plen), "src_len": plen}
        if self.chance(0.25):
            plen = r.choice((8, 16, 24, 32))
            v |= {"dst": self.host() & inet_make_mask(plen), "dst_len": plen}
        if self.chance(0.2):
            v["iifname"] = r.choice(("lo", *DEVICES, "none0"))
        if self.chance(0.15):
            v["oifname"] = r.choice(("lo", *DEVICES, "none0"))
        if self.chance(0.2):
            v |= {"mark": r.choice((1, 2, 0x10)), "mark_mask": r.choice((0xFFFFFFFF, 3, 0x10))}
        if self.chance(0.12):
            v["dscp"] = r.choice((0x04, 0x08, 0x10, 0x20))
        elif self.chance(0.08):
            v |= {"dscp": r.choice((0x08, 0xB8, 0x28)), "dscp_full": True}
        if self.chance(0.1):
            v["ip_proto"] = r.choice((6, 17, 1))
        for side in ("sport_range", "dport_range"):
            if self.chance(0.08):
                v[side] = r.choice(((80, 80), (1000, 2000), (53, 65534), (90, 80)))
        if self.chance(0.08):
            v["flags"] = 2
        if self.chance(0.05):
            v["uid_range"] = r.choice(((0, 0), (1000, 2000)))
        if not add and prefs and self.chance(0.8):
            pref = r.choice(prefs)
            if self.chance(0.8):
                v, table, action = {}, 0, FrAct.UNSPEC
        return Ruling(add, pref, action, table, v, r.choice((NLM_F_CREATE, NLM_F_CREATE | NLM_F_EXCL)) if add else 0)

    def conf(self) -> Conf | Sysctl:
        """A sysctl is written."""
        r = self.r
        if self.chance(0.08):
            return Sysctl("fib_multipath_hash_policy", r.randrange(2))
        name, values = r.choice(
            (("forwarding", (0, 1, 1, 1)), ("rp_filter", (0, 0, 1, 2)), ("accept_local", (0, 1)),
             ("route_localnet", (0, 0, 1)), ("ignore_routes_with_linkdown", (0, 1)), ("promote_secondaries", (0, 1)),
             ("bc_forwarding", (0, 1)), ("send_redirects", (0, 1)), ("shared_media", (0, 1)),
             ("src_valid_mark", (0, 1)), ("forwarding", (0, 1, 1, 1)))
        )  # fmt: skip
        who = r.choice(DEVICES) if name == "forwarding" else r.choice(("all", "lo", *DEVICES))
        return Conf(who, name, r.choice(values))

    def op(self, fib: Fib, rules: bool) -> Op:
        """The next operation."""
        x = self.r.random()
        if x < 0.27:
            return self.addr(fib)
        if x < 0.67:
            return self.routing(fib)
        if x < 0.8 and rules:
            return self.ruling([r.pref for r in fib.rules])
        if x < 0.9:
            return self.conf()
        if x < 0.97:
            return Link(self.r.choice(("lo", *DEVICES)), self.chance(0.7))
        return Carrier(self.r.choice(DEVICES), self.chance(0.5))

    def query(self, own: list[int]) -> Query:
        """The next question; `own` are the addresses that there are."""
        r = self.r
        src = self.host() if self.chance(0.45) else 0
        if src and own and self.chance(0.5):
            src = r.choice(own)
        iif = r.randrange(1, 5) if self.chance(0.45) else 0
        if iif and self.chance(0.9):
            src = self.host()
        return Query(
            dst=r.choice(own) if own and self.chance(0.12) else self.host(), src=src, iif=iif,
            oif=self.ifindex() if not iif and self.chance(0.25) else 0,
            mark=r.choice((0, 0, 0, 1, 2, 0x10, 0x13)), tos=r.choice((0, 0, 0, 0, 4, 8, 0x10, 0x20, 0xB8, 0x1C, 3)),
            ip_proto=r.choice((17, 17, 6, 1)), sport=r.choice((0, 0, 80, 1500)), dport=r.choice((0, 0, 80, 53, 1500)),
            fibmatch=self.chance(0.3), lookup_table=self.chance(0.9),
        )  # fmt: skip


def start(s: Source) -> Iterator[Op]:
    """What an episode begins with: lo and some devices up, some with an address."""
    if s.chance(0.9):
        yield Link("lo", True)
    for i, name in enumerate(DEVICES):
        if s.chance(0.5):
            yield Conf(name, "forwarding", 1)
        if s.chance(0.85):
            yield Link(name, True)
        if s.chance(0.8):
            plen = s.r.choice((24, 24, 16, 30))
            local = s.r.choice(NETS) + s.r.randrange(1, 8)
            yield Addr(True, i + 2, local, plen, broadcast=local | ~inet_make_mask(plen) & 0xFFFFFFFF)


class Tally(NamedTuple):
    """What was compared: counts by kind."""

    counts: Counter[str]
    differences: list[Difference]


def episode(seed: int, tally: Tally, queries: int) -> int:
    """One namespace's life; returns how many questions were asked. It ends with the first difference."""
    s = Source(seed)
    kernel = Kernel()
    model = Model(running_version())
    rules = s.chance(0.6)
    asked = 0
    history: list[str] = []

    def same(what: str, k: Any, m: Any) -> bool:
        tally.counts[what.split()[0]] += 1
        if k == m:
            return True
        tally.differences.append(Difference(seed, what, k, m, (*history, "", *model.env.log)))
        return False

    try:
        todo = [*start(s)]
        for step in range(OPS_AN_EPISODE):
            op = todo.pop(0) if todo else s.op(model.fib, rules)
            history.append(str(op))
            k, m = kernel.apply(op), model.apply(op)
            tally.counts["refused" if k.errno else "done"] += 1
            if not same(f"op {op}", (k.errno, k.text), (m.errno, m.text)):
                return asked
            if step % 6 == 0 and not (
                same("addresses", kernel.addresses(), model.addresses())
                and same("tables", kernel.dump(), model.dump())
                and same("rules", kernel.rules(), model.rules())
            ):
                return asked
            for _ in range(s.r.choice((0, 1, 2, 4)) if not todo else 0):
                if asked >= queries:
                    return asked
                q = s.query([a.ifa_local for a in model.fib.addr_lst])
                asked += 1
                k2, m2 = kernel.query(q), model.query(q)
                tally.counts["answered" if not isinstance(k2, int) else f"errno {-k2}"] += 1
                if not same(f"query {q}", k2, m2):
                    return asked
        return asked
    finally:
        kernel.close()


def ask(
    episode: Callable[[int, Tally, int], int], n: int, seed: int, progress: Progress | None = None, stop: int = 5
) -> Tally:
    """Asks `n` questions in as many episodes as they take, until `stop` of them ended with a difference.

    `episode` is given its seed, the tally, and how many questions are left; it returns how many it asked. All run on
    one processor, since each has cached routes of its own.
    """
    tally = Tally(Counter(), [])
    task = progress.add_task("questions", total=n) if progress is not None else None
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        asked = 0
        while asked < n and len(tally.differences) < stop:
            asked += episode(seed, tally, n - asked)
            seed += 1
            if progress is not None and task is not None:
                progress.update(task, completed=asked)
    finally:
        os.sched_setaffinity(0, before)
    return tally


def tell(tally: Tally, summary: str) -> int:
    """Prints the differences with what led to them, and the summary: the exit status."""
    for d in tally.differences:
        print(f"\nseed {d.seed}: {d.what}\n  kernel {d.kernel}\n  model  {d.model}")
        for line in d.log:
            print(f"    {line}")
    print(f"{summary}: {len(tally.differences)} differences")
    return bool(tally.differences)


def told(counts: Counter[str]) -> str:
    """How many questions, operations and dumps there were."""
    return (
        f"{counts['query']} questions ({counts['answered']} answered), {counts['op']} operations "
        f"({counts['refused']} refused), {counts['tables']} dumps of all tables"
    )


def run(n: int, seed: int, progress: Progress | None = None, stop: int = 5) -> Tally:
    """Asks `n` questions about IPv4, as `ask` does."""
    return ask(episode, n, seed, progress, stop)


@click.command()
@click.option("--n", default=1000, help="Questions to ask.")
@click.option("--seed", default=1, help="The first episode's seed.")
def main(n: int, seed: int) -> None:
    """Holds the model's IPv4 routing against the running kernel's."""
    with Progress() as progress:
        tally = run(n, seed, progress)
    sys.exit(tell(tally, told(tally.counts)))


if __name__ == "__main__":
    main()
