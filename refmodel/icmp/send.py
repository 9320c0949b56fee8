"""ICMP messages that are sent, and how many of them may be.

The law: of the types in the rate mask a host gets six at once and then one a second; to all hosts together go 50 in a
burst and 1000 a second. What is not in the mask (echo replies of IPv4) is never held back.
"""

from typing import TYPE_CHECKING, Final

from refmodel.icmp.message import Message
from refmodel.ip.limits import filled
from refmodel.rule import NotModelled, cited
from refmodel.tcp.whole import route
from refmodel.tcp.whole.ipv4 import is_loopback

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

NR_ICMP_TYPES: Final = 18
ICMP_DEST_UNREACH: Final = 3
ICMP_FRAG_NEEDED: Final = 4
ICMPV6_PKT_TOOBIG: Final = 2
ICMPV6_INFOMSG: Final = 128
IPTOS_PREC_INTERNETCONTROL: Final = 0xC0
IPTOS_RT_MASK: Final = 0x1C
IPTOS_TOS_MASK: Final = 0x1E
ROOM: Final = 576 - 20 - 8  # bytes that an ICMP error may quote
IPV6_MIN_MTU: Final = 1280
PREFIX: Final = 48  # of the route to the other host, which scales ICMPv6's rate
NAMES: Final = {
    0: "EchoReps", 3: "DestUnreachs", 4: "SrcQuenchs", 5: "Redirects", 8: "Echos", 11: "TimeExcds", 12: "ParmProbs",
    13: "Timestamps", 14: "TimestampReps", 17: "AddrMasks", 18: "AddrMaskReps",
}  # fmt: skip
"""How /proc/net/snmp names the types."""
NAMES6: Final = {
    1: "DestUnreachs", 2: "PktTooBigs", 3: "TimeExcds", 4: "ParmProblems", 128: "Echos", 129: "EchoReplies",
}  # fmt: skip
"""How /proc/net/snmp6 names them."""


class InetPeer:
    """struct inet_peer: what is left of a host's share (jiffies)."""

    __slots__ = ("rate_last", "rate_tokens")

    def __init__(self, now: int) -> None:
        self.rate_last = now - 60 * 10_000
        self.rate_tokens = 0


@cited("net/ipv4/inetpeer.c:inet_peer_xrlim_allow")
def inet_peer_xrlim_allow(net: "Net", daddr: bytes, timeout: int) -> bool:
    """A token bucket for each host: one message every `timeout` jiffies, six at once."""
    peer = net.peers.get(daddr)
    if peer is None:
        peer = net.peers[daddr] = InetPeer(net.jiffies)
    now = net.jiffies
    token = filled(peer.rate_tokens, now - peer.rate_last, timeout)
    peer.rate_last = now
    allowed = bool(token >= timeout)
    peer.rate_tokens = token - timeout if allowed else token
    return allowed


@cited("net/ipv4/icmp.c:icmp_global_allow")
def icmp_global_allow(net: "Net") -> bool:
    """A token bucket for all hosts together: icmp_msgs_per_sec, icmp_msgs_burst at once."""
    p = net.p
    if net.icmp_global_credit > 0:
        return True
    delta = min(net.jiffies - net.icmp_global_stamp, net.hz)
    if delta < net.hz // 50:
        return False
    incr = p.icmp_msgs_per_sec * delta // net.hz
    if not incr:
        return False
    net.icmp_global_stamp = net.jiffies
    net.icmp_global_credit = min(net.icmp_global_credit + incr, p.icmp_msgs_burst)
    return True


@cited("net/ipv4/icmp.c:icmpv4_global_allow", "net/ipv4/icmp.c:icmpv4_xrlim_allow")
def icmpv4_allow(net: "Net", daddr: bytes, type: int, code: int) -> bool:
    """A message may be sent to a host."""
    unlimited = type > NR_ICMP_TYPES or (type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED)
    if unlimited or not 1 << type & net.p.icmp_ratemask:
        return True
    if not icmp_global_allow(net):
        net.count("IcmpOutRateLimitGlobal")
        return False
    if is_loopback(daddr) or daddr in net.local_addrs:
        return True
    if not inet_peer_xrlim_allow(net, daddr, net.p.icmp_ratelimit * net.hz // 1000):
        net.count("IcmpOutRateLimitHost")
        return False
    # What is taken off the burst is random on a kernel, 0 to 2 (icmp_global_consume).
    net.icmp_global_credit -= 1
    return True


@cited("net/ipv6/icmp.c:icmpv6_global_allow", "net/ipv6/icmp.c:icmpv6_xrlim_allow")
def icmpv6_allow(net: "Net", daddr: bytes, type: int) -> bool:
    """The same for ICMPv6; wider prefixes get more."""
    if type == ICMPV6_PKT_TOOBIG:
        return True
    if not icmp_global_allow(net):
        net.count("IcmpOutRateLimitGlobal")
        return False
    if is_loopback(daddr) or daddr in net.local_addrs:
        return True
    timeout = net.p.icmpv6_ratelimit * net.hz // 1000 >> (128 - PREFIX >> 5)
    if not inet_peer_xrlim_allow(net, daddr, timeout):
        net.count("Icmp6OutRateLimitHost")
        return False
    net.icmp_global_credit -= 1
    return True


def out(net: "Net", message: Message, by: str) -> None:
    """Counts a message and hands it to the device; source net/ipv4/icmp.c:icmp_push_reply."""
    v4 = len(message.saddr) == 4
    if v4:
        net.count("IcmpOutMsgs")
        net.count(f"IcmpMsgOutType{message.type}")
        if message.type in NAMES:
            net.count(f"IcmpOut{NAMES[message.type]}")
    else:
        net.count("Icmp6OutMsgs")
        net.count(f"Icmp6OutType{message.type}")
        if message.type in NAMES6:
            net.count(f"Icmp6Out{NAMES6[message.type]}")
    message.by = by
    message.ttl = route.ip_route_output(net, message.daddr).hoplimit or (net.p.ip_default_ttl if v4 else 64)
    if message.daddr in net.local_addrs or is_loopback(message.daddr):
        return
    if net.qdisc is not None:
        raise NotModelled("ICMP messages through the queueing discipline fq")
    net.xmit(message)


@cited("net/ipv4/icmp.c:__icmp_send", "RFC 1122 3.2.2", "RFC 1812 4.3.2")
def icmp_send(net: "Net", saddr: bytes, daddr: bytes, tos: int, type: int, code: int, size: int, info: int = 0) -> None:
    """Tells the sender of a packet of `size` bytes what is wrong with it, with as much of it as fits into 576 bytes."""
    if daddr[0] >= 224:
        return
    if not icmpv4_allow(net, saddr, type, code):
        net.note("icmp_send", "too many ICMP errors to this host: none is sent")
        return
    answer = Message(daddr, saddr, type, code, info, min(size, ROOM))
    answer.tos = tos & IPTOS_TOS_MASK | IPTOS_PREC_INTERNETCONTROL
    out(net, answer, "icmp_send")


@cited("net/ipv6/icmp.c:icmp6_send", "RFC 4443 2.4")
def icmpv6_send(net: "Net", saddr: bytes, daddr: bytes, type: int, code: int, size: int, info: int = 0) -> None:
    """The same for IPv6, with as much as fits into the least MTU."""
    if daddr[0] == 0xFF or saddr[0] == 0xFF or not any(saddr):
        return
    if not icmpv6_allow(net, saddr, type):
        net.note("icmpv6_send", "too many ICMPv6 errors to this host: none is sent")
        return
    out(net, Message(daddr, saddr, type, code, info, min(size, IPV6_MIN_MTU - 48)), "icmpv6_send")
