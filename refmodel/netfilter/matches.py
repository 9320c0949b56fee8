"""The matches of rules: each says whether a packet is one that its rule is about.

A match whose header is cut off can't tell, and drops the packet (hotdrop); a later fragment matches none that asks for
ports, flags or types.
"""

from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from refmodel.netdevice import ARPHRD_ETHER
from refmodel.netfilter import limit
from refmodel.netfilter.conn import nf_ct_get
from refmodel.netfilter.core import NfHookState
from refmodel.netfilter.skb import daddr, saddr, u16at
from refmodel.netfilter.uapi import CTINFO2DIR, ORIGINAL, Info, Ips
from refmodel.rule import cited
from refmodel.skbuff import PACKET_BROADCAST, PACKET_LOOPBACK, PACKET_MULTICAST, SkBuff

if TYPE_CHECKING:
    from refmodel.netfilter.conntrack import Conntrack
    from refmodel.netfilter.env import NetfilterEnv

STATE_OF: Final = {
    Info.ESTABLISHED: "ESTABLISHED",
    Info.RELATED: "RELATED",
    Info.NEW: "NEW",
    Info.ESTABLISHED_REPLY: "ESTABLISHED",
    Info.RELATED_REPLY: "RELATED",
}
CLOSED: Final = 0xFFFF


class Par(Struct):
    """struct xt_action_param: what is known of the packet while a table is walked.

    `nft`: iptables-nft has put the rules in. It asks for ports and TCP flags by loading just these bytes; where they
    aren't there its rule doesn't match, and nothing is dropped.
    """

    env: "NetfilterEnv"
    ct: "Conntrack"
    state: NfHookState
    fragoff: int
    thoff: int
    hotdrop: bool = False
    nft: bool = False


class Match(Protocol):
    """One match of a rule."""

    @property
    def tracks(self) -> bool:
        """It needs connections, so that they are tracked as long as the rule is there."""

    def match(self, skb: SkBuff, par: Par) -> bool:
        """Whether the packet is one of those."""


class Ports(Struct):
    """A range of ports, inclusive."""

    low: int = 0
    high: int = 0xFFFF
    invert: bool = False

    def has(self, port: int) -> bool:
        """Source net/netfilter/xt_tcpudp.c:port_match."""
        return (self.low <= port <= self.high) != self.invert


class Plain(Struct, kw_only=True):
    """What matches without connections share."""

    @property
    def tracks(self) -> bool:
        """No connections are needed."""
        return False


class Tcp(Plain):
    """-m tcp: ports, flags (of `mask` exactly `comp`), the presence of an option (0: not asked)."""

    spts: Ports
    dpts: Ports
    mask: int = 0
    comp: int = 0
    invert_flags: bool = False
    option: int = 0
    invert_option: bool = False

    @cited("net/netfilter/xt_tcpudp.c:tcp_mt")
    def tcp_mt(self, skb: SkBuff, par: Par) -> bool:
        """A TCP segment with these ports, flags and option."""
        if par.nft and not self.option and (self.mask or self.spts != Ports() or self.dpts != Ports()):
            return loaded(skb, par, self.spts, self.dpts) and self._flags_loaded(skb, par)
        if par.fragoff:
            par.hotdrop = par.hotdrop or par.fragoff == 1
            return False
        if len(skb.data) < par.thoff + 20:
            par.hotdrop = True
            return False
        th = skb.data[par.thoff :]
        if not self.spts.has(u16at(th, 0)) or not self.dpts.has(u16at(th, 2)):
            return False
        if (th[13] & self.mask == self.comp) == self.invert_flags:
            return False
        return not self.option or self.tcp_find_option(th, par)

    def _flags_loaded(self, skb: SkBuff, par: Par) -> bool:
        if not self.mask:
            return True
        if par.fragoff or len(skb.data) < par.thoff + 14:
            return False
        return (skb.data[par.thoff + 13] & self.mask == self.comp) != self.invert_flags

    @cited("net/netfilter/xt_tcpudp.c:tcp_find_option")
    def tcp_find_option(self, th: bytearray, par: Par) -> bool:
        """The option is there (or, inverted, isn't)."""
        optlen = (th[12] >> 4) * 4 - 20
        if optlen < 0 or len(th) < 20 + optlen:
            par.hotdrop = True
            return False
        op = th[20 : 20 + optlen]
        i = 0
        while i < optlen:
            if op[i] == self.option:
                return not self.invert_option
            i += 1 if op[i] < 2 or i == optlen - 1 else op[i + 1] or 1
        return self.invert_option

    match = tcp_mt


@cited("net/netfilter/nft_payload.c:nft_payload_eval")
def loaded(skb: SkBuff, par: Par, spts: Ports, dpts: Ports) -> bool:
    """Ports as nf_tables compares them: what is asked for has to be there."""
    for at, ports in ((0, spts), (2, dpts)):
        if ports == Ports():
            continue
        if par.fragoff or len(skb.data) < par.thoff + at + 2 or not ports.has(u16at(skb.data, par.thoff + at)):
            return False
    return True


class Udp(Plain):
    """-m udp: ports."""

    spts: Ports
    dpts: Ports

    @cited("net/netfilter/xt_tcpudp.c:udp_mt")
    def udp_mt(self, skb: SkBuff, par: Par) -> bool:
        """A datagram with these ports."""
        if par.nft and (self.spts != Ports() or self.dpts != Ports()):
            return loaded(skb, par, self.spts, self.dpts)
        if par.fragoff:
            return False
        if len(skb.data) < par.thoff + 8:
            par.hotdrop = True
            return False
        return self.spts.has(u16at(skb.data, par.thoff)) and self.dpts.has(u16at(skb.data, par.thoff + 2))

    match = udp_mt


class Icmp(Plain):
    """-m icmp: a type (255: any) and a range of codes."""

    type: int
    code: tuple[int, int] = (0, 255)
    invert: bool = False

    @cited("net/netfilter/xt_tcpudp.c:icmp_match")
    def icmp_match(self, skb: SkBuff, par: Par) -> bool:
        """An ICMP message of this type and code."""
        if par.fragoff:
            return False
        if len(skb.data) < par.thoff + 8:
            par.hotdrop = True
            return False
        kind, code = skb.data[par.thoff], skb.data[par.thoff + 1]
        return (self.type == 255 or (kind == self.type and self.code[0] <= code <= self.code[1])) != self.invert

    match = icmp_match


class Multiport(Plain):
    """-m multiport: up to 15 ports or ranges; `which` is "source", "destination" or "either"."""

    which: str
    ports: tuple[tuple[int, int], ...]
    invert: bool = False

    @cited("net/netfilter/xt_multiport.c:multiport_mt", "net/netfilter/xt_multiport.c:ports_match_v1")
    def multiport_mt(self, skb: SkBuff, par: Par) -> bool:
        """One of the ports."""
        if par.fragoff:
            return False
        if len(skb.data) < par.thoff + 4:
            par.hotdrop = True
            return False
        src, dst = u16at(skb.data, par.thoff), u16at(skb.data, par.thoff + 2)
        for low, high in self.ports:
            if (self.which != "destination" and low <= src <= high) or (self.which != "source" and low <= dst <= high):
                return not self.invert
        return self.invert

    match = multiport_mt


class ConnState(Struct):
    """-m state: NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED."""

    states: frozenset[str]

    @property
    def tracks(self) -> bool:
        """Connections are needed."""
        return True

    @cited("net/netfilter/xt_state.c:state_mt")
    def state_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet in one of these states."""
        return state_of(skb) in self.states

    match = state_mt


def state_of(skb: SkBuff) -> str:
    """The state that a packet is in for matches."""
    if skb.nfct is not None:
        return STATE_OF[Info(skb.nfctinfo)]
    return "UNTRACKED" if skb.nfctinfo == Info.UNTRACKED else "INVALID"


class CtAddress(Struct):
    """An address of a connection's tuple: `which` is "origsrc", "origdst", "replsrc" or "repldst"."""

    which: str
    addr: int
    mask: int
    invert: bool = False


class CtPorts(Struct):
    """A port of a connection's tuple: `which` is "origsrc", "origdst", "replsrc" or "repldst"."""

    which: str
    ports: Ports


STATUS: Final = {"EXPECTED": Ips.EXPECTED, "SEEN_REPLY": Ips.SEEN_REPLY, "ASSURED": Ips.ASSURED,
                 "CONFIRMED": Ips.CONFIRMED}  # fmt: skip


class Conntracked(Struct):
    """-m conntrack. `states` may hold SNAT and DNAT too; `direction` is 0, 1 or -1 (not asked)."""

    states: frozenset[str] | None = None
    invert_state: bool = False
    proto: int = 0
    invert_proto: bool = False
    addresses: tuple[CtAddress, ...] = ()
    ports: tuple[CtPorts, ...] = ()
    status: int | None = None
    invert_status: bool = False
    expires: tuple[int, int] | None = None
    invert_expires: bool = False
    direction: int = -1

    @property
    def tracks(self) -> bool:
        """Connections are needed."""
        return True

    @cited("net/netfilter/xt_conntrack.c:conntrack_mt")
    def conntrack_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet whose connection is one of those; without a connection only its state can match."""
        ct = nf_ct_get(skb)
        if self.states is not None:
            here = {state_of(skb)}
            if ct is not None:
                here |= {n for n, bit in (("SNAT", Ips.SRC_NAT), ("DNAT", Ips.DST_NAT)) if ct.status & bit}
            if bool(here & self.states) == self.invert_state:
                return False
        if ct is None:
            return self.states is not None
        if self.direction >= 0 and (CTINFO2DIR(skb.nfctinfo) == ORIGINAL) != (self.direction == ORIGINAL):
            return False
        tuples = {
            "origsrc": (ct.orig.src, ct.orig.sport),
            "origdst": (ct.orig.dst, ct.orig.dport),
            "replsrc": (ct.repl.src, ct.repl.sport),
            "repldst": (ct.repl.dst, ct.repl.dport),
        }
        for a in self.addresses:
            if ((int.from_bytes(tuples[a.which][0], "big") ^ a.addr) & a.mask == 0) == a.invert:
                return False
        if self.proto and (ct.protonum == self.proto) == self.invert_proto:
            return False
        if any(not x.ports.has(tuples[x.which][1]) for x in self.ports):
            return False
        if self.status is not None and bool(self.status & ct.status) == self.invert_status:
            return False
        if self.expires is not None:
            left = par.ct.nf_ct_expires(ct) // par.env.hz
            return (self.expires[0] <= left <= self.expires[1]) != self.invert_expires
        return True

    match = conntrack_mt


class Mark(Plain):
    """-m mark: of the bits in `mask` exactly `mark`."""

    mark: int
    mask: int = 0xFFFFFFFF
    invert: bool = False

    @cited("net/netfilter/xt_mark.c:mark_mt")
    def mark_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet with that mark."""
        return (skb.mark & self.mask == self.mark) != self.invert

    match = mark_mt


class Connmark(Struct):
    """-m connmark: the same of the connection's mark."""

    mark: int
    mask: int = 0xFFFFFFFF
    invert: bool = False

    @property
    def tracks(self) -> bool:
        """Connections are needed."""
        return True

    @cited("net/netfilter/xt_connmark.c:connmark_mt")
    def connmark_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet whose connection has that mark; one without a connection never matches."""
        ct = nf_ct_get(skb)
        return ct is not None and (ct.mark & self.mask == self.mark) != self.invert

    match = connmark_mt


class Limit(Plain):
    """-m limit: a token bucket. `cost` and `cap` are credits; `bucket` is None until the rule is put in."""

    avg: int
    burst: int
    bucket: limit.Bucket | None = None

    @cited("net/netfilter/xt_limit.c:limit_mt")
    def limit_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet for which there is credit."""
        p = limit.params(self.avg, self.burst, par.env.hz)
        if self.bucket is None:
            self.bucket = limit.full(p, par.env.jiffies)
        self.bucket, effects = limit.asked(self.bucket, limit.Packet(par.env.jiffies), p)
        return any(isinstance(x, limit.Matched) for x in effects)

    match = limit_mt


class Length(Plain):
    """-m length: bytes of the IP packet."""

    low: int
    high: int
    invert: bool = False

    @cited("net/netfilter/xt_length.c:length_mt")
    def length_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet of that length."""
        return (self.low <= (u16at(skb.data, 2) or len(skb.data)) <= self.high) != self.invert

    match = length_mt


class Ttl(Plain):
    """-m ttl: `how` is "eq", "ne", "lt" or "gt"."""

    how: str
    ttl: int

    @cited("net/netfilter/xt_hl.c:ttl_mt")
    def ttl_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet with such a TTL."""
        ttl = skb.data[8]
        return {"eq": ttl == self.ttl, "ne": ttl != self.ttl, "lt": ttl < self.ttl, "gt": ttl > self.ttl}[self.how]

    match = ttl_mt


class PktType(Plain):
    """-m pkttype: a PACKET_ number."""

    type: int
    invert: bool = False

    @cited("net/netfilter/xt_pkttype.c:pkttype_mt")
    def pkttype_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet to this host, to several, or to all, as the link says; looped back ones by their address."""
        kind = skb.pkt_type
        if kind == PACKET_LOOPBACK:
            kind = PACKET_MULTICAST if skb.data[16] >> 4 == 0xE else PACKET_BROADCAST
        return (kind == self.type) != self.invert

    match = pkttype_mt


class AddrType(Plain):
    """-m addrtype: sets of RTN_ numbers; `limit` is "", "in" or "out": of the addresses of that device only."""

    source: frozenset[int] = frozenset()
    dest: frozenset[int] = frozenset()
    invert_source: bool = False
    invert_dest: bool = False
    limit: str = ""

    @cited("net/netfilter/xt_addrtype.c:addrtype_mt_v1")
    def addrtype_mt_v1(self, skb: SkBuff, par: Par) -> bool:
        """A packet whose addresses are of these types."""
        dev = {"": None, "in": par.state.indev, "out": par.state.outdev}[self.limit]
        if self.source and (par.env.inet_dev_addr_type(dev, saddr(skb)) in self.source) == self.invert_source:
            return False
        return not self.dest or (par.env.inet_dev_addr_type(dev, daddr(skb)) in self.dest) != self.invert_dest

    match = addrtype_mt_v1


class IpRange(Plain):
    """-m iprange: ranges of addresses, inclusive."""

    src: tuple[bytes, bytes] | None = None
    dst: tuple[bytes, bytes] | None = None
    invert_src: bool = False
    invert_dst: bool = False

    @cited("net/netfilter/xt_iprange.c:iprange_mt4")
    def iprange_mt4(self, skb: SkBuff, par: Par) -> bool:
        """A packet with addresses of these ranges."""
        if self.src is not None and (self.src[0] <= saddr(skb) <= self.src[1]) == self.invert_src:
            return False
        return self.dst is None or (self.dst[0] <= daddr(skb) <= self.dst[1]) != self.invert_dst

    match = iprange_mt4


class Mac(Plain):
    """-m mac: the Ethernet source address."""

    addr: bytes
    invert: bool = False

    @cited("net/netfilter/xt_mac.c:mac_mt")
    def mac_mt(self, skb: SkBuff, par: Par) -> bool:
        """A frame from that address; what came over no Ethernet never matches."""
        if skb.dev is None or skb.dev.type != ARPHRD_ETHER or len(skb.mac_header) < 14:
            return False
        return (bytes(skb.mac_header[6:12]) == self.addr) != self.invert

    match = mac_mt


class Nth(Plain):
    """-m statistic --mode nth: one packet of `every` + 1, the first after `count`."""

    every: int
    count: int = 0
    invert: bool = False

    @cited("net/netfilter/xt_statistic.c:statistic_mt")
    def statistic_mt(self, skb: SkBuff, par: Par) -> bool:
        """The packet whose turn it is."""
        self.count = 0 if self.count == self.every else self.count + 1
        return (self.count == 0) != self.invert

    match = statistic_mt


class Random(Plain):
    """-m statistic --mode random: with `probability` of 2**31."""

    probability: int
    invert: bool = False

    @cited("net/netfilter/xt_statistic.c:statistic_mt")
    def random_mt(self, skb: SkBuff, par: Par) -> bool:
        """A packet that the dice choose."""
        return (par.env.random() & 0x7FFFFFFF < self.probability) != self.invert

    match = random_mt


class Comment(Plain):
    """-m comment: says something to people."""

    text: str

    @cited("net/netfilter/xt_comment.c:comment_mt")
    def comment_mt(self, skb: SkBuff, par: Par) -> bool:
        """Every packet."""
        return True

    match = comment_mt
