"""Reassembly: fragments wait in runs until the datagram is whole, or its time is over.

The law: fragments in order make one run; whatever lies within a run that is there is a duplicate, whatever cuts across
an edge of a run is an overlap and ends the datagram. `ipq` decides, this module keeps the fragments.
"""

import errno
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.env import KernelTimer
from refmodel.ip import icmp, ipq
from refmodel.ip.const import (
    ICMP_EXC_FRAGTIME,
    ICMP_TIME_EXCEEDED,
    IP_DEFRAG_AF_PACKET,
    IP_DEFRAG_CONNTRACK_BRIDGE_IN,
    IP_DEFRAG_CONNTRACK_BRIDGE_IN_END,
    IP_DEFRAG_CONNTRACK_IN,
    IP_DEFRAG_CONNTRACK_IN_END,
    IP_DEFRAG_LOCAL_DELIVER,
    IP_DF,
    IP_MF,
    IP_OFFSET,
    IPSKB_FRAG_COMPLETE,
    IPSKB_FRAG_PMTU,
    RTN_LOCAL,
)
from refmodel.ip.header import ip_hdr, ip_send_check
from refmodel.ip.ipq import Drop, Dropped, Ecn, Expire, Flushed, Fragment, IpqState, Killed, Phase, Place
from refmodel.ip.net import IPCB, InetPeer, Ip, dst, inet_getpeer
from refmodel.rule import Mib, cited
from refmodel.skbuff import CHECKSUM_NONE, CHECKSUM_UNNECESSARY, SkBuff
from refmodel.types import M32

SIZEOF_IPQ: Final = 200
"""What a queue adds to the memory that reassembly holds (bytes, sizeof(struct ipq))."""


class Run:
    """Fragments that follow each other without a gap: `skbs` from `start` to `end` (bytes of the datagram)."""

    __slots__ = ("end", "skbs", "start")

    def __init__(self, skb: SkBuff, start: int, end: int) -> None:
        self.skbs = [skb]
        self.start = start
        self.end = end


class Ipq:
    """struct ipq: one datagram being put together. `runs` are in order; `tail` is the last fragment's (start, end)."""

    def __init__(self, net: Ip, key: tuple[Any, ...]) -> None:
        self.net = net
        self.key = key
        self.s = IpqState()
        self.runs: list[Run] = []
        self.tail: tuple[int, int] | None = None
        self.rid = 0
        self.peer: InetPeer | None = None
        self.iif = 0
        self.stamp = 0
        self.drop = False
        self.timer: KernelTimer = net.env.timer("ipq", lambda q: ip_expire(net, q), self)

    @property
    def user(self) -> int:
        """Who puts it together: an IP_DEFRAG_ number."""
        return int(self.key[5])


@cited("net/ipv4/inet_fragment.c:inet_frag_find", "net/ipv4/ip_fragment.c:ip_find")
def ip_find(net: Ip, skb: SkBuff, user: int, vif: int) -> Ipq | None:
    """The queue of the fragment's datagram, made if there is none; None where reassembly holds too much already."""
    env = net.env
    high = env.ip.ipfrag_high_thresh
    if not high or net.frag_mem > high:
        env.note("inet_frag_find", f"{net.frag_mem} bytes are held: more than ipfrag_high_thresh {high}")
        return None
    iph = ip_hdr(skb)
    key = (iph.saddr, iph.daddr, iph.id, iph.protocol, vif, user)
    q = net.frags.get(key)
    if q is None:
        q = net.frags[key] = Ipq(net, key)
        if env.ip.ipfrag_max_dist:
            q.peer = inet_getpeer(net, iph.saddr)
        net.frag_mem += SIZEOF_IPQ
        q.timer.mod(env.jiffies + env.ip.ipfrag_time * env.hz)
    return q


@cited("net/ipv4/ip_fragment.c:ip_defrag", "RFC 791 3.2")
def ip_defrag(net: Ip, skb: SkBuff, user: int) -> int:
    """A fragment comes to its datagram: 0 if that is whole now and is `skb`; else -EINPROGRESS or another errno."""
    net.env.count("IpReasmReqds")
    q = ip_find(net, skb, user, 0)
    if q is None:
        net.env.count("IpReasmFails")
        net.drop(skb)
        return -errno.ENOMEM
    return ip_frag_queue(net, q, skb)


@cited("net/ipv4/ip_fragment.c:ip_frag_too_far")
def ip_frag_too_far(net: Ip, q: Ipq) -> bool:
    """More than ipfrag_max_dist fragments of other datagrams came from that host since the last one of this."""
    most = net.env.ip.ipfrag_max_dist
    if q.peer is None or not most:
        return False
    start = q.rid
    q.peer.rid = (q.peer.rid + 1) & M32
    q.rid = q.peer.rid
    return q.tail is not None and (q.rid - start) & M32 > most


@cited("net/ipv4/inet_fragment.c:inet_frag_queue_insert", "RFC 5722 4")
def inet_frag_queue_insert(q: Ipq, skb: SkBuff, offset: int, end: int) -> Place:
    """Finds a fragment's place among the runs, and puts it there if it is free."""
    if q.tail is None or q.tail[1] < end:
        if q.tail is not None and offset < q.tail[1]:
            return Place.OVERLAP
        if q.tail is not None and offset == q.tail[1]:
            q.runs[-1].skbs.append(skb)
            q.runs[-1].end = end
        else:
            q.runs.append(Run(skb, offset, end))
        q.tail = (offset, end)
        return Place.OK
    # Runs that have come to touch each other stay two: a repeat of bytes of both is an overlap.
    for i, run in enumerate(q.runs):
        if end <= run.start:
            q.runs.insert(i, Run(skb, offset, end))
            return Place.OK
        if offset >= run.end:
            continue
        return Place.DUP if offset >= run.start and end <= run.end else Place.OVERLAP
    raise AssertionError("a fragment that ends before the last one lies before or in it")


def _event(skb: SkBuff, head: SkBuff, place: Place, too_far: bool, rearmed: bool) -> Fragment:
    iph = ip_hdr(skb)
    return Fragment(
        units=iph.frag_off & IP_OFFSET,
        size=skb.len - iph.hdrlen,
        mf=bool(iph.frag_off & IP_MF),
        df=bool(iph.frag_off & IP_DF),
        ecn=Ecn(iph.tos & 3),
        ihl=iph.ihl,
        head_ihl=ip_hdr(head).ihl,
        place=place,
        too_far=too_far,
        rearmed=rearmed,
    )


@cited("net/ipv4/ip_fragment.c:ip_frag_queue", "RFC 791 3.2")
def ip_frag_queue(net: Ip, q: Ipq, skb: SkBuff) -> int:
    """A fragment joins its datagram, or ends it: 0 if the datagram is whole and is `skb` now."""
    env = net.env
    if q.s.phase == Phase.COMPLETE:
        env.kfree_skb(skb, _reason(net, Reason.DUP_FRAG))
        return -errno.ENOENT
    again = bool(IPCB(skb).flags & IPSKB_FRAG_COMPLETE)
    too_far = not again and ip_frag_too_far(net, q)
    rearmed = True
    if too_far:
        rearmed = ip_frag_reinit(net, q)
    e = _event(skb, skb, Place.OK, too_far, rearmed)
    offset, end = e.units * 8, ipq.end_of(e)
    if not ipq.corrupt(q.s, e) and rearmed:
        place = inet_frag_queue_insert(q, skb, offset, end)
        e = _event(skb, q.runs[0].skbs[0], place, too_far, rearmed)
    q.s, effects = ipq.take(q.s, e)
    whole: ipq.Reassembled | None = None
    dropped: Dropped | None = None
    kept = False
    for x in effects:
        if isinstance(x, Mib):
            env.count(x.name)
        elif isinstance(x, Killed):
            inet_frag_kill(net, q)
        elif isinstance(x, Dropped):
            dropped = x
        elif isinstance(x, ipq.Reassembled):
            whole = x
        elif not isinstance(x, Flushed):
            kept = True
    env.note("ip_frag_queue", f"bytes {offset} to {end}: {_fate(q, e, whole, dropped)}")
    if dropped is not None:
        again = dropped.reason == Drop.DUP_FRAG
        env.kfree_skb(skb, _reason(net, Reason.DUP_FRAG) if again else Reason.NOT_SPECIFIED)
        _put(net, q)
        return -errno.EINVAL if rearmed else -errno.ETIMEDOUT
    _take_in(net, q, skb, offset, end)
    if whole is not None:
        ip_frag_reasm(net, q, skb, whole)
        return 0
    if kept:
        skb.dst = None
        skb.sk = None
        return -errno.EINPROGRESS
    _put(net, q)
    return -errno.E2BIG if q.s.len + 4 * e.head_ihl > ipq.LARGEST else -errno.EINVAL


def _fate(q: Ipq, e: Fragment, whole: ipq.Reassembled | None, dropped: Dropped | None) -> str:
    if whole is not None:
        return f"the datagram of {whole.len} bytes is whole"
    if dropped is not None:
        return "a duplicate" if dropped.reason == Drop.DUP_FRAG else f"dropped with its datagram, {e.place.name}"
    if q.s.phase == Phase.COMPLETE:
        return "all is there, but it cannot be put together"
    return f"waits, {q.s.meat} bytes of {q.s.len if q.s.last_in else 'an unknown number'} are there"


def _take_in(net: Ip, q: Ipq, skb: SkBuff, offset: int, end: int) -> None:
    """The fragment is cut to what counts and charged."""
    iph = ip_hdr(skb)
    size = end - offset
    if len(skb.data) > iph.hdrlen + size:
        del skb.data[iph.hdrlen + size :]
        if skb.ip_summed != CHECKSUM_UNNECESSARY:
            skb.ip_summed = CHECKSUM_NONE
    if skb.dev is not None:
        q.iif = skb.dev.ifindex
    q.stamp = skb.tstamp
    net.frag_mem += skb.truesize


@cited("net/ipv4/ip_fragment.c:ip_frag_reinit")
def ip_frag_reinit(net: Ip, q: Ipq) -> bool:
    """The datagram begins anew: what was there is too old to belong to it. False if its time is just over."""
    env = net.env
    if not q.timer.pending:
        return False
    q.timer.mod(env.jiffies + env.ip.ipfrag_time * env.hz)
    inet_frag_queue_flush(net, q, _reason(net, Reason.FRAG_TOO_FAR))
    q.iif = 0
    return True


@cited("net/ipv4/inet_fragment.c:inet_frag_queue_flush")
def inet_frag_queue_flush(net: Ip, q: Ipq, reason: Reason) -> None:
    """All fragments are dropped."""
    for run in q.runs:
        for skb in run.skbs:
            net.frag_mem -= skb.truesize
            if reason == Reason.CONSUMED:
                net.env.consume_skb(skb)
            else:
                net.env.kfree_skb(skb, reason)
    q.runs = []
    q.tail = None


@cited("net/ipv4/inet_fragment.c:inet_frag_kill")
def inet_frag_kill(net: Ip, q: Ipq) -> None:
    """The queue is taken out of the table and its timer stopped."""
    q.timer.stop()
    net.frags.pop(q.key, None)


@cited("net/ipv4/inet_fragment.c:inet_frag_destroy")
def inet_frag_destroy(net: Ip, q: Ipq) -> None:
    """The queue goes, and what is in it."""
    inet_frag_queue_flush(net, q, _reason(net, Reason.FRAG_REASM_TIMEOUT if q.drop else Reason.CONSUMED))
    net.frag_mem -= SIZEOF_IPQ


def _put(net: Ip, q: Ipq) -> None:
    """Nobody else holds a queue that is done with; source include/net/inet_frag.h:inet_frag_putn."""
    if q.s.phase == Phase.COMPLETE:
        inet_frag_destroy(net, q)


@cited("net/ipv4/ip_fragment.c:ip_frag_reasm", "RFC 791 3.2", "RFC 3168 5.3")
def ip_frag_reasm(net: Ip, q: Ipq, skb: SkBuff, whole: ipq.Reassembled) -> None:
    """The fragments become one packet, which is `skb`: with the header and the fields of the first."""
    parts = [x for run in q.runs for x in run.skbs]
    head = parts[0]
    hlen = ip_hdr(head).hdrlen
    payload = b"".join(bytes(x.data[ip_hdr(x).hdrlen :]) for x in parts)
    lens = [len(x.data) - ip_hdr(x).hdrlen for x in parts[1:]]
    summed = {x.ip_summed for x in parts}
    net.frag_mem -= sum(x.truesize for x in parts)
    route, dev = skb.dst, skb.dev
    if head is not skb:
        for name in SkBuff.__slots__:
            setattr(skb, name, getattr(head, name))
    skb.data = bytearray(head.data[:hlen]) + payload
    skb.dst, skb.dev = route, dev
    skb.transport = hlen
    skb.truesize = sum(x.truesize for x in parts)
    skb.tstamp = q.stamp
    skb.ip_summed = summed.pop() if len(summed) == 1 else CHECKSUM_NONE
    cb = IPCB(skb)
    cb.frag_max_size = max(q.s.max_df_size, q.s.max_size)
    # Whoever delivers here melts the fragments together; others keep them apart, to send them on as they came.
    cb.frag_list = [] if q.user == IP_DEFRAG_LOCAL_DELIVER else lens
    iph = ip_hdr(skb)
    iph.tot_len = whole.len
    if whole.ce:
        iph.tos |= Ecn.CE
    if whole.df:
        cb.flags |= IPSKB_FRAG_PMTU
    iph.frag_off = IP_DF if whole.df else 0
    ip_send_check(iph)
    q.runs = []
    q.tail = None
    net.frag_mem -= SIZEOF_IPQ


def _reason(net: Ip, reason: Reason) -> Reason:
    """Reassembly's own reasons are younger than 6.1."""
    return reason if net.env.kernel >= 612 else Reason.NOT_SPECIFIED


def _skips_icmp(user: int) -> bool:
    """Source net/ipv4/ip_fragment.c:frag_expire_skip_icmp."""
    return (
        user == IP_DEFRAG_AF_PACKET
        or IP_DEFRAG_CONNTRACK_IN <= user <= IP_DEFRAG_CONNTRACK_IN_END
        or IP_DEFRAG_CONNTRACK_BRIDGE_IN <= user <= IP_DEFRAG_CONNTRACK_BRIDGE_IN_END
    )


@cited("net/ipv4/ip_fragment.c:ip_expire", "RFC 1122 3.3.2", "RFC 792")
def ip_expire(net: Ip, q: Ipq) -> None:
    """The time for a datagram is over: its fragments are dropped, and its sender told if the first one came."""
    env = net.env
    q.s, effects = ipq.time_out(q.s, Expire())
    q.drop = True
    for x in effects:
        if isinstance(x, Mib):
            env.count(x.name)
        elif isinstance(x, Killed):
            inet_frag_kill(net, q)
        else:
            _tell(net, q)
    env.note("ip_expire", f"{q.s.meat} bytes waited in vain")
    _put(net, q)


def _tell(net: Ip, q: Ipq) -> None:
    """The first fragment gets a route again, and goes back in an ICMP message."""
    env = net.env
    head = q.runs[0].skbs.pop(0)
    if not q.runs[0].skbs:
        q.runs.pop(0)
    net.frag_mem -= head.truesize
    head.dev = env.dev_get_by_index(q.iif)
    if head.dev is not None:
        iph = ip_hdr(head)
        refused = env.ip_route_input_noref(head, iph.daddr, iph.saddr, iph.tos, head.dev)
        local = refused is None and dst(head).rt_type == RTN_LOCAL
        if refused is None and (local or not _skips_icmp(q.user)):
            icmp.icmp_send(net, head, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)
    env.kfree_skb(head, _reason(net, Reason.FRAG_REASM_TIMEOUT))


@cited("net/ipv4/ip_fragment.c:ip_check_defrag")
def ip_check_defrag(net: Ip, skb: SkBuff, user: int) -> SkBuff | None:
    """A packet for a packet socket that wants datagrams whole: None if it is a fragment that waits."""
    data = skb.data
    if len(data) < 20:
        return skb
    iph = ip_hdr(skb)
    if iph.ihl < 5 or iph.version != 4 or len(data) < iph.tot_len or iph.tot_len < iph.hdrlen:
        return skb
    if iph.frag_off & (IP_MF | IP_OFFSET):
        del data[iph.tot_len :]
        skb.cb = None
        if ip_defrag(net, skb, user):
            return None
        skb.hash = 0
    return skb
