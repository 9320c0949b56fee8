"""Random scenarios for a tun device and its discipline, and what the model makes of them."""

import random
from typing import Final

from msgspec import Struct

from conformance.differential.qdisc_model import QdiscEnv
from refmodel.netdevice import ARPHRD_NONE, NetDevice
from refmodel.sched.attach import qdisc_create, qdisc_graft
from refmodel.sched.const import NET_XMIT_CN
from refmodel.sched.pfifo_fast import rt_tos2priority
from refmodel.sched.qdisc import Qdisc
from refmodel.sched.tbf import TbfQopt, tbf_change
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import SkBuff

SLOW: Final = 100  # bytes a second: sizes and bursts leave half a second before time alone decides anything
FAST: Final = 1_250_000_000
ENOBUFS: Final = 105
IP_UDP: Final = 28
ROOTS: Final = ("pfifo_fast", "pfifo", "bfifo", "pfifo_head_drop", "noqueue")
CHILDREN: Final = ("", "pfifo", "bfifo", "pfifo_head_drop", "pfifo_fast")


class Send(Struct, frozen=True, tag=True):
    """A packet of `size` bytes: from a packet socket with `priority`, or with `tos` >= 0 from a UDP socket."""

    size: int
    priority: int = 0
    tos: int = -1


class Read(Struct, frozen=True, tag=True):
    """The program reads `n` packets, or what there is."""

    n: int


class Change(Struct, frozen=True, tag=True):
    """tbf's rate (bytes a second), burst (bytes) and limit are changed; a peak rate with `peak`, of `mtu` bytes."""

    rate: int
    burst: int
    limit: int
    peak: int = 0
    mtu: int = 0


class Look(Struct, frozen=True, tag=True):
    """The statistics are read."""


Op = Send | Read | Change | Look


class Scenario(Struct, frozen=True):
    """One tun device with `tx_queue_len`, discipline `root` with `limit`, under a tbf with `child`."""

    seed: int
    tx_queue_len: int
    root: str
    limit: int
    tbf: Change | None
    child: str
    child_limit: int
    ops: tuple[Op, ...]


class Stats(Struct, frozen=True):
    """A discipline's numbers as ``tc -s qdisc`` prints them."""

    kind: str
    bytes: int
    packets: int
    drops: int
    overlimits: int
    requeues: int
    backlog: int
    qlen: int


class Outcome(Struct, frozen=True):
    """What was seen: each send's errno, the packets read in order (-1: none), the statistics, the device's drops.

    `reasons` are the drops' reasons in order, with the packets' numbers.
    """

    errnos: tuple[int, ...]
    read: tuple[int, ...]
    looks: tuple[tuple[Stats, ...], ...]
    tx_dropped: int
    reasons: tuple[str, ...]


def scenario(seed: int) -> Scenario:
    """The scenario of that seed."""
    r = random.Random(seed)
    qlen = r.choice((1, 2, 3, 5, 8, 13, 20, 31, 32, 33, 40, 48))
    ops: list[Op] = []
    if r.random() < 0.35:
        root = r.choice(ROOTS)
        for _ in range(r.randint(4, 14)):
            ops += [send(r) for _ in range(r.randint(1, qlen + 4))] if r.random() < 0.6 else [Read(r.randint(1, qlen))]
        ops += [Look(), Read(200)]
        limit = r.choice((0, 1, 3, 1000)) if root != "bfifo" else r.choice((0, 100, 1500, 100000))
        return Scenario(seed, qlen, root, limit, None, "", 0, tuple(ops))
    child = r.choice(CHILDREN)
    first = change(r, SLOW)
    for _ in range(r.randint(1, 3)):
        for _ in range(r.randint(1, 4)):
            ops += [send(r) for _ in range(r.randint(1, 12))]
            ops.append(Look())
            if r.random() < 0.3:
                ops.append(Read(r.randint(1, 6)))
        if r.random() < 0.8:
            ops += [change(r, FAST), send(r), Look(), Read(200), change(r, SLOW)]
    ops += [Look(), Read(200)]
    child_limit = r.randint(0, 12) if child != "bfifo" else r.choice((0, 150, 900, 2000, 4000))
    return Scenario(seed, qlen, "tbf", 0, first, child, child_limit, tuple(ops))


def send(r: random.Random) -> Send:
    """A packet whose size is a multiple of 100."""
    size = 100 * r.choice((1, 1, 2, 3, 5, 8, 12, 15))
    if r.random() < 0.2:
        return Send(min(size, 1200), 0, r.randrange(256) & ~3)
    return Send(size, r.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 18, 22, 0x10006, 0x7FFFFFF2)))


def change(r: random.Random, rate: int) -> Change:
    """A burst that ends between two multiples of 100, so that half a second decides nothing."""
    burst = 100 * r.randint(1, 25) + 50
    limit = r.choice((1, 5, 300, 1000, 3000, 100000))
    if rate == FAST:
        return Change(FAST, 1_000_000, limit)
    if r.random() < 0.25:
        return Change(rate, burst, limit, 2 * rate, 100 * r.randint(1, 25) + 50)
    return Change(rate, burst, limit)


def payload(number: int, size: int) -> bytes:
    """A packet's bytes: an IPv4 version nibble, its number, zeros."""
    return (b"\x45\x00" + number.to_bytes(4, "big")).ljust(size, b"\0")


def qopt(c: Change) -> TbfQopt:
    """tbf's parameters as tc sends them."""
    return TbfQopt(rate=c.rate, limit=c.limit, burst=c.burst, peakrate=c.peak, pburst=c.mtu if c.peak else None)


def stats(q: Qdisc) -> Stats:
    """A discipline's numbers."""
    return Stats(q.ops.id, q.bytes, q.packets, q.drops, q.overlimits, q.requeues, q.backlog, q.qlen)


def play(s: Scenario, kernel: int, times: tuple[int, ...], late: int = 0) -> tuple[Outcome, list[tuple[str, str]]]:
    """What the model makes of a scenario, and its notes.

    Its operations come at `times` (ns since tbf was made), what a timer schedules runs `late` ns after it.
    """
    env = QdiscEnv(kernel)
    env.late = late
    dev = NetDevice("t", 2, kind="tun", type=ARPHRD_NONE, tx_queue_len=s.tx_queue_len, lltx=True)
    tfile = env.add_tun(dev)
    if s.tbf is not None:
        qdisc_create(env, dev, "tbf", qopt(s.tbf))
        if s.child:
            opt = None if s.child == "pfifo_fast" else s.child_limit
            qdisc_graft(env, env.root_qdisc(dev), s.child, opt)
    elif s.root != "pfifo_fast":
        qdisc_create(env, dev, s.root, None if s.root == "noqueue" else s.limit)
    errnos: list[int] = []
    read: list[int] = []
    looks: list[tuple[Stats, ...]] = []
    number = 0
    for op, ns in zip(s.ops, times, strict=True):
        env.advance(ns)
        root = env.root_qdisc(dev)
        if isinstance(op, Send):
            number += 1
            udp = op.tos >= 0
            skb = SkBuff(bytes(op.size + (IP_UDP if udp else 0)), dev=dev, mark=number)
            skb.priority = rt_tos2priority(op.tos) if udp else op.priority
            rc = dev_queue_xmit(env, skb)
            lost = ENOBUFS if rc > 0 and rc != NET_XMIT_CN else max(-rc, 0)
            errnos.append(0 if udp else lost)
        elif isinstance(op, Read):
            for _ in range(op.n):
                got = env.read(tfile)
                if got is None:
                    break
                read.append(got.mark)
            read.append(-1)
        elif isinstance(op, Change):
            tbf_change(env, root, qopt(op))
        else:
            inner = root.priv.qdisc if root.ops.id == "tbf" else None
            shown = [root] if inner is None or inner.ops.id == "noop" else [root, inner]
            looks.append(tuple(stats(q) for q in shown))
    reasons = tuple(f"{skb.mark} {reason}" for skb, reason in env.drops)
    return Outcome(tuple(errnos), tuple(read), tuple(looks), env.dropped, reasons), env.notes
