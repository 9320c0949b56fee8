"""IPv6's reassembly: fragments wait until the datagram is whole, or its 60 s are over.

The law: `frag` decides, this module keeps the fragments. Fragments that overlap destroy the datagram.
"""

from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.env import KernelTimer
from refmodel.ip6 import frag
from refmodel.ip6.const import (
    FRAG_HLEN,
    ICMPV6_EXC_FRAGTIME,
    ICMPV6_HDR_FIELD,
    ICMPV6_HDR_INCOMP,
    ICMPV6_TIME_EXCEED,
    INET_ECN_MASK,
    IP6_HLEN,
    IP6_MF,
    IP6_OFFSET,
    IP6SKB_FRAGMENTED,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_MULTICAST,
    IPV6_MAXPLEN,
    NEXTHDR_ICMP,
    NEXTHDR_TCP,
    NEXTHDR_UDP,
)
from refmodel.ip6.frag import Fq, Fragment, Phase, Place, Verdict, verdict
from refmodel.ip6.icmp import icmpv6_param_prob, icmpv6_send
from refmodel.ip6.net import IP6CB, Ip6, daddr, ipv6_addr_type, ipv6_skip_exthdr, payload_len, saddr, tclass
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_NONE, SkBuff

SIZEOF_FRAG_QUEUE: Final = 184
"""What a queue adds to the memory that reassembly holds (bytes, sizeof(struct frag_queue))."""
UPPER_HLEN: Final = {NEXTHDR_TCP: 20, NEXTHDR_UDP: 8, NEXTHDR_ICMP: 8}
PARAMS: Final = frag.FqParams()


class Run:
    """Fragments that follow each other without a gap, from `start` to `end` (bytes of the fragmentable part)."""

    __slots__ = ("end", "skbs", "start")

    def __init__(self, skb: SkBuff, start: int, end: int) -> None:
        self.skbs = [skb]
        self.start = start
        self.end = end


class FragQueue:
    """struct frag_queue: one datagram being put together. `tail` is the last fragment's (start, end)."""

    def __init__(self, net: Ip6, key: tuple[Any, ...]) -> None:
        self.net = net
        self.key = key
        self.s = Fq()
        self.runs: list[Run] = []
        self.tail: tuple[int, int] | None = None
        self.ecn = 0
        self.iif = 0
        self.nhoffset = 0
        self.max_size = 0
        self.mem = SIZEOF_FRAG_QUEUE
        self.timer: KernelTimer | None = None

    def place(self, start: int, end: int) -> Place:
        """How a fragment lies to those that are there; source net/ipv4/inet_fragment.c:inet_frag_queue_insert."""
        if self.tail is None:
            return Place.OK
        if self.tail[1] < end:
            return Place.OVERLAP if start < self.tail[1] else Place.OK
        for run in self.runs:
            if end > run.start and start < run.end:
                return Place.DUP if start >= run.start and end <= run.end else Place.OVERLAP
        return Place.OK

    def insert(self, skb: SkBuff, start: int, end: int) -> None:
        """Keeps a fragment that overlaps none."""
        if self.tail is not None and self.tail[1] == start and self.runs[-1].end == start:
            self.runs[-1].skbs.append(skb)
            self.runs[-1].end = end
            self.tail = (start, end)
            return
        if self.tail is None or self.tail[1] < end:
            self.tail = (start, end)
        self.runs.append(Run(skb, start, end))
        self.runs.sort(key=lambda r: r.start)


@cited("include/net/ipv6_frag.h:ipv6frag_thdr_truncated", "RFC 8200 4.5")
def ipv6frag_thdr_truncated(skb: SkBuff) -> bool:
    """A first fragment lacks a part of the transport header."""
    at, nexthdr, frag_off = ipv6_skip_exthdr(skb.data, IP6_HLEN, skb.data[6])
    if at < 0 or frag_off & IP6_OFFSET:
        return False
    return at + UPPER_HLEN.get(nexthdr, 1) > len(skb.data)


@cited("net/ipv6/reassembly.c:fq_find", "net/ipv4/inet_fragment.c:inet_frag_find")
def fq_find(net: Ip6, ident: bytes, skb: SkBuff, iif: int) -> FragQueue | None:
    """The datagram that a fragment belongs to, made if need be; None if reassembly holds too much."""
    strict = ipv6_addr_type(daddr(skb)) & (IPV6_ADDR_MULTICAST | IPV6_ADDR_LINKLOCAL)
    high = net.env.ip6.ip6frag_high_thresh
    if not high or net.frag_mem > high:
        net.env.note("inet_frag_find", f"reassembly holds {net.frag_mem} bytes")
        return None
    key = (ident, saddr(skb), daddr(skb), iif if strict else 0)
    fq = net.frags.get(key)
    if fq is None:
        fq = net.frags[key] = FragQueue(net, key)
        net.frag_mem += fq.mem
        fq.timer = net.env.timer("ip6_frag_expire", ip6_frag_expire, fq)
        fq.timer.mod(net.env.jiffies + net.env.ip6.ip6frag_time * net.env.hz)
    return fq


@cited("net/ipv6/reassembly.c:ipv6_frag_rcv", "RFC 8200 4.5")
def ipv6_frag_rcv(net: Ip6, skb: SkBuff) -> int:
    """A fragment header: 1 if the packet goes on (whole, or no fragment), else negative."""
    env, opt, t = net.env, IP6CB(skb), skb.transport or IP6_HLEN
    if not opt.flags & IP6SKB_FRAGMENTED:
        env.count("Ip6ReasmReqds")
    if opt.flags & IP6SKB_FRAGMENTED or payload_len(skb) == 0 or t + FRAG_HLEN > len(skb.data):
        env.note("ipv6_frag_rcv", "a second fragment header, or one that is cut off")
        env.count("Ip6InHdrErrors")
        icmpv6_param_prob(net, skb, ICMPV6_HDR_FIELD, t)
        return -1
    frag_off = int.from_bytes(skb.data[t + 2 : t + 4], "big")
    if not frag_off & (IP6_OFFSET | IP6_MF):
        env.note("ipv6_frag_rcv", "an only fragment")
        skb.transport = t + FRAG_HLEN
        env.count("Ip6ReasmOKs")
        opt.nhoff = t
        opt.flags |= IP6SKB_FRAGMENTED
        opt.frag_max_size = payload_len(skb) + IP6_HLEN
        return 1
    if ipv6frag_thdr_truncated(skb):
        env.note("ipv6_frag_rcv", "the first fragment lacks a part of the transport header")
        env.count("Ip6InHdrErrors")
        icmpv6_param_prob(net, skb, ICMPV6_HDR_INCOMP, 0)
        return -1
    iif = skb.dev.ifindex if skb.dev is not None else 0
    fq = fq_find(net, bytes(skb.data[t + 4 : t + 8]), skb, iif)
    if fq is None:
        env.count("Ip6ReasmFails")
        net.drop(skb)
        return -1
    fq.iif = iif
    return ip6_frag_queue(net, fq, skb, t, frag_off)


@cited("net/ipv6/reassembly.c:ip6_frag_queue", "RFC 5722 4")
def ip6_frag_queue(net: Ip6, fq: FragQueue, skb: SkBuff, t: int, frag_off: int) -> int:
    """Adds a fragment, whose header is at `t`, to its datagram: 1 if that is whole now, else negative."""
    env = net.env
    offset, mf = frag_off & IP6_OFFSET, bool(frag_off & IP6_MF)
    size = payload_len(skb) - (t + FRAG_HLEN - IP6_HLEN)
    e = Fragment(units=offset // 8, size=size, mf=mf, place=fq.place(offset, offset + size))
    found = verdict(fq.s, e)
    duplicate = Reason.DUP_FRAG if env.kernel >= 612 else Reason.NOT_SPECIFIED
    env.note("ip6_frag_queue", f"{size} bytes at {offset}{', more follow' if mf else ''}: {found.name}")
    if found == Verdict.LATE:
        net.drop(skb, duplicate)
        return -1
    if found in (Verdict.TOO_LONG, Verdict.UNEVEN):
        env.count("Ip6InHdrErrors")
        icmpv6_param_prob(net, skb, ICMPV6_HDR_FIELD, t + 2 if found == Verdict.TOO_LONG else 4)
        return -1
    if found == Verdict.DUP:
        fq.s, _ = frag.ignored(fq.s, e, PARAMS)
        net.drop(skb, duplicate)
        return -1
    if found in (Verdict.DISCARD, Verdict.OVERLAP):
        kill(net, fq)
        env.count("Ip6ReasmFails")
        net.drop(skb)
        purge(net, fq)
        return -1
    fq.insert(skb, offset, offset + size)
    fq.ecn |= 1 << (tclass(skb) & INET_ECN_MASK)
    fq.mem += skb.truesize
    net.frag_mem += skb.truesize
    fq.max_size = max(fq.max_size, t + FRAG_HLEN + size)
    if offset == 0:
        fq.nhoffset = IP6CB(skb).nhoff
    skb.transport = t
    fq.s = frag.taken(fq.s, e)
    if found == Verdict.TAKE:
        return -1
    return ip6_frag_reasm(net, fq, skb)


def kill(net: Ip6, fq: FragQueue) -> None:
    """The queue takes nothing more and lets go of its memory; source net/ipv4/inet_fragment.c:inet_frag_kill."""
    if fq.s.phase == Phase.COMPLETE:
        return
    if fq.timer is not None:
        fq.timer.stop()
    fq.s = Fq(Phase.COMPLETE, fq.s.first_in, fq.s.last_in, fq.s.len, fq.s.meat)
    net.frag_mem -= fq.mem
    net.frags.pop(fq.key, None)


def purge(net: Ip6, fq: FragQueue) -> None:
    """The fragments of a datagram that is given up go: in 6.1 as drops, later as consumed."""
    for x in (x for r in fq.runs for x in r.skbs):
        if net.env.kernel < 612:
            net.drop(x)
        else:
            net.env.consume_skb(x)


@cited("net/ipv6/reassembly.c:ip6_frag_reasm", "RFC 8200 4.5", "RFC 3168 5.3")
def ip6_frag_reasm(net: Ip6, fq: FragQueue, skb: SkBuff) -> int:
    """The datagram is put together in the packet that came last: 1, or -1 if that cannot be."""
    env = net.env
    kill(net, fq)
    ecn = ecn_of(fq.ecn)
    head = fq.runs[0].skbs[0]
    t = head.transport or IP6_HLEN
    plen = t - IP6_HLEN + fq.s.len
    if ecn is None or plen > IPV6_MAXPLEN:
        env.note("ip6_frag_reasm", "fragments with and without ECN" if ecn is None else f"{plen} bytes")
        env.count("Ip6ReasmFails")
        purge(net, fq)
        return -1
    body = b"".join(bytes(x.data[(x.transport or IP6_HLEN) + FRAG_HLEN :]) for r in fq.runs for x in r.skbs)
    front = bytearray(head.data[:t])
    front[fq.nhoffset] = head.data[t]
    front[4:6] = plen.to_bytes(2, "big")
    front[1] |= ecn << 4
    summed = {x.ip_summed for r in fq.runs for x in r.skbs}
    skb.data = front + body
    skb.transport = t
    skb.ip_summed = head.ip_summed if len(summed) == 1 else CHECKSUM_NONE
    opt = skb.cb = IP6CB(head).copy()
    opt.nhoff = fq.nhoffset
    opt.flags |= IP6SKB_FRAGMENTED
    opt.frag_max_size = fq.max_size
    env.count("Ip6ReasmOKs")
    env.note("ip6_frag_reasm", f"{fq.s.len} bytes of {sum(len(r.skbs) for r in fq.runs)} fragments")
    return 1


def ecn_of(seen: int) -> int | None:
    """The ECN bits of a datagram by those of its fragments; None if some had none; ip_frag_ecn_table."""
    if seen & 1:
        return 0 if seen == 1 else None
    return 3 if seen & 8 and seen != 8 else 0


@cited("net/ipv6/reassembly.c:ip6_frag_expire", "include/net/ipv6_frag.h:ip6frag_expire_frag_queue")
def ip6_frag_expire(fq: FragQueue) -> None:
    """The datagram's time is over: it is given up, and the sender told if its first fragment came."""
    net = fq.net
    if fq.s.phase == Phase.COMPLETE:
        return
    kill(net, fq)
    dev = net.env.dev_get_by_index(fq.iif)
    if dev is None:
        return
    net.env.count("Ip6ReasmFails")
    net.env.count("Ip6ReasmTimeout")
    skbs = [x for r in fq.runs for x in r.skbs]
    if fq.s.first_in:
        head = skbs[0]
        head.dev = dev
        net.env.note("ip6_frag_expire", "the sender is told")
        icmpv6_send(net, head, ICMPV6_TIME_EXCEED, ICMPV6_EXC_FRAGTIME, 0)
    for x in skbs:
        net.drop(x, Reason.FRAG_REASM_TIMEOUT if net.env.kernel >= 612 else Reason.NOT_SPECIFIED)
