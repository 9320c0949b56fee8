"""What identifies one direction of a connection, and how it is read from a packet and turned round."""

from typing import Final, NamedTuple

from refmodel.netfilter import uapi
from refmodel.netfilter.skb import u16at
from refmodel.netfilter.uapi import IP_OFFSET, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, NFPROTO_IPV4
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

IPPROTO_DCCP: Final = 33
IPPROTO_SCTP: Final = 132
IPPROTO_UDPLITE: Final = 136
PORTS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP)

ICMP_INVMAP: Final = {
    uapi.ICMP_ECHO: uapi.ICMP_ECHOREPLY,
    uapi.ICMP_ECHOREPLY: uapi.ICMP_ECHO,
    uapi.ICMP_TIMESTAMP: uapi.ICMP_TIMESTAMPREPLY,
    uapi.ICMP_TIMESTAMPREPLY: uapi.ICMP_TIMESTAMP,
    uapi.ICMP_INFO_REQUEST: uapi.ICMP_INFO_REPLY,
    uapi.ICMP_INFO_REPLY: uapi.ICMP_INFO_REQUEST,
    uapi.ICMP_ADDRESS: uapi.ICMP_ADDRESSREPLY,
    uapi.ICMP_ADDRESSREPLY: uapi.ICMP_ADDRESS,
}
"""Which message answers which; source net/netfilter/nf_conntrack_proto_icmp.c:invmap."""


class Tuple(NamedTuple):
    """struct nf_conntrack_tuple without its direction.

    `src` and `dst` are addresses; `sport` and `dport` src.u.all and dst.u.all: ports, or for ICMP the id, and type and
    code (type in the high byte).
    """

    src: bytes
    sport: int
    dst: bytes
    dport: int
    protonum: int
    l3num: int = NFPROTO_IPV4

    def __str__(self) -> str:
        if self.protonum == IPPROTO_ICMP:
            what = f"type={self.dport >> 8} code={self.dport & 0xFF} id={self.sport}"
        else:
            what = f"sport={self.sport} dport={self.dport}"
        return f"proto {self.protonum} src={dotted(self.src)} dst={dotted(self.dst)} {what}"


def dotted(addr: bytes) -> str:
    """An IPv4 address as people write it."""
    return ".".join(str(b) for b in addr)


@cited("net/netfilter/nf_conntrack_core.c:get_l4proto", "net/netfilter/nf_conntrack_core.c:ipv4_get_l4proto")
def get_l4proto(skb: SkBuff, nhoff: int) -> tuple[int, int]:
    """(offset of the transport header, protocol) of the packet at `nhoff`; the offset is -1 where there is none."""
    if len(skb.data) < nhoff + 20:
        return -1, 0
    if u16at(skb.data, nhoff + 6) & IP_OFFSET:
        return -1, 0
    dataoff = nhoff + (skb.data[nhoff] & 0xF) * 4
    if dataoff > len(skb.data):
        return -1, 0
    return dataoff, skb.data[nhoff + 9]


@cited("net/netfilter/nf_conntrack_core.c:nf_ct_get_tuple")
def nf_ct_get_tuple(skb: SkBuff, nhoff: int, dataoff: int, protonum: int) -> Tuple | None:
    """The tuple of the packet at `nhoff`; None where its headers are cut off."""
    data = skb.data
    src, dst = bytes(data[nhoff + 12 : nhoff + 16]), bytes(data[nhoff + 16 : nhoff + 20])
    if protonum == IPPROTO_ICMP:
        if len(data) < dataoff + 8:
            return None
        return Tuple(src, u16at(data, dataoff + 4), dst, u16at(data, dataoff), protonum)
    if protonum in PORTS:
        if len(data) < dataoff + 4:
            return None
        return Tuple(src, u16at(data, dataoff), dst, u16at(data, dataoff + 2), protonum)
    return Tuple(src, 0, dst, 0, protonum)


@cited("net/netfilter/nf_conntrack_core.c:nf_ct_get_tuplepr")
def nf_ct_get_tuplepr(skb: SkBuff, nhoff: int) -> Tuple | None:
    """The tuple of the packet quoted at `nhoff`; None where it has none."""
    dataoff, protonum = get_l4proto(skb, nhoff)
    if dataoff <= 0:
        return None
    return nf_ct_get_tuple(skb, nhoff, dataoff, protonum)


@cited(
    "net/netfilter/nf_conntrack_core.c:nf_ct_invert_tuple",
    "net/netfilter/nf_conntrack_proto_icmp.c:nf_conntrack_invert_icmp_tuple",
)
def nf_ct_invert_tuple(orig: Tuple) -> Tuple | None:
    """The tuple of an answer; None for an ICMP message that has none."""
    if orig.protonum == IPPROTO_ICMP:
        kind = ICMP_INVMAP.get(orig.dport >> 8)
        if kind is None:
            return None
        return orig._replace(src=orig.dst, dst=orig.src, dport=kind << 8 | orig.dport & 0xFF)
    return orig._replace(src=orig.dst, dst=orig.src, sport=orig.dport, dport=orig.sport)


def inverted(orig: Tuple) -> Tuple:
    """The answer's tuple of one that is known to have it, as a connection's tuples do."""
    inverse = nf_ct_invert_tuple(orig)
    if inverse is None:
        raise ValueError(f"{orig} has no answer")
    return inverse
