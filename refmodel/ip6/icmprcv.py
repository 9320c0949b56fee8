"""ICMPv6 messages that arrive: echoes are answered, errors told to whom they concern, the rest handed on.

The law: a message whose checksum is wrong is an error and nothing else; one of a type that nobody knows is dropped, but
an error of an unknown type is told like the others.
"""

import errno
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip6.const import (
    ANY,
    EXT_HDRS,
    ICMP6_HLEN,
    ICMPV6_DEST_UNREACH,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ICMPV6_EXT_ECHO_REPLY,
    ICMPV6_INFOMSG_MASK,
    ICMPV6_MGM_QUERY,
    ICMPV6_MGM_REPORT,
    ICMPV6_PARAMPROB,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_TIME_EXCEED,
    IP6_HLEN,
    IP6SKB_FRAGMENTED,
    IPPROTO_RAW,
    NDISC_REDIRECT,
    NDISC_ROUTER_SOLICITATION,
    NEXTHDR_ICMP,
)
from refmodel.ip6.icmp import (
    build,
    count_type,
    icmp6_dev,
    icmpv6_global_allow,
    icmpv6_xrlim_allow,
)
from refmodel.ip6.lookup import ip6_dst_lookup, ip6_update_pmtu
from refmodel.ip6.net import IP6CB, Ip6, daddr, ipv6_skip_exthdr, is_multicast, route, saddr, tclass
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_UNNECESSARY, SkBuff

ERRORS: Final = (ICMPV6_PKT_TOOBIG, ICMPV6_DEST_UNREACH, ICMPV6_TIME_EXCEED, ICMPV6_PARAMPROB)
REFLECT_ECHO: Final = 4


@cited("net/ipv6/icmp.c:icmpv6_rcv", "RFC 4443 2.4")
def icmpv6_rcv(net: Ip6, skb: SkBuff) -> int:
    """A message arrives; 0, whatever becomes of it."""
    env, t = net.env, skb.transport or IP6_HLEN
    env.count("Icmp6InMsgs")
    message = bytes(skb.data[t:])
    good = ones_sum(message, pseudo_header(saddr(skb), daddr(skb), NEXTHDR_ICMP, len(message))) == 0xFFFF
    if skb.ip_summed != CHECKSUM_UNNECESSARY and not good:
        env.note("icmpv6_rcv", "checksum wrong")
        env.count("Icmp6InCsumErrors")
        env.count("Icmp6InErrors")
        net.drop(skb, Reason.ICMP_CSUM)
        return 0
    if len(message) < ICMP6_HLEN:
        env.note("icmpv6_rcv", f"{len(message)} bytes")
        env.count("Icmp6InErrors")
        net.drop(skb)
        return 0
    kind, code, info = message[0], message[1], int.from_bytes(message[4:8], "big")
    count_type(net, "In", kind)
    env.note("icmpv6_rcv", f"type {kind}, code {code}")
    reason: Reason | None = Reason.NOT_SPECIFIED
    if kind == ICMPV6_ECHO_REQUEST:
        if not env.ip6.echo_ignore_all:
            reason = icmpv6_echo_reply(net, skb)
    elif kind in (ICMPV6_ECHO_REPLY, ICMPV6_EXT_ECHO_REPLY):
        reason = env.ping6_rcv(skb)
    elif kind == ICMPV6_PKT_TOOBIG and len(message) < ICMP6_HLEN + IP6_HLEN:
        env.count("Icmp6InErrors")
    elif kind in ERRORS or (not kind & ICMPV6_INFOMSG_MASK):
        reason = icmpv6_notify(net, skb, kind, code, info)
    elif NDISC_ROUTER_SOLICITATION <= kind <= NDISC_REDIRECT:
        reason = ndisc_rcv(net, skb, kind, code)
    elif kind in (ICMPV6_MGM_QUERY, ICMPV6_MGM_REPORT):
        env.igmp6_event(skb, kind)
        return 0
    if env.kernel < 612 and kind not in (ICMPV6_ECHO_REPLY, ICMPV6_EXT_ECHO_REPLY):
        reason = Reason.NOT_SPECIFIED  # 6.1 drops what it has answered or told, too
    if reason is None:
        env.consume_skb(skb)
    else:
        net.drop(skb, reason)
    return 0


@cited("net/ipv6/icmp.c:icmpv6_echo_reply", "RFC 4443 4.2")
def icmpv6_echo_reply(net: Ip6, skb: SkBuff) -> Reason | None:
    """An echo request is answered with what it brought; None, or the reason why it is not."""
    env = net.env
    if is_multicast(daddr(skb)) and env.ip6.echo_ignore_multicast:
        return Reason.NOT_SPECIFIED
    anycast = route(skb).type == "anycast"
    if anycast and env.ip6.echo_ignore_anycast:
        return Reason.NOT_SPECIFIED
    unicast = route(skb).type == "local"
    source = daddr(skb) if unicast or (anycast and env.ip6.anycast_src_echo_reply) else ANY
    dev = icmp6_dev(net, skb)
    dest = saddr(skb)
    oif = dev.ifindex if dev is not None else 0
    rt, source = ip6_dst_lookup(net, dest, source, oif)
    if rt is None:
        env.note("icmpv6_echo_reply", "no way back")
        return Reason.NOT_SPECIFIED
    allowed, ask = icmpv6_global_allow(net, ICMPV6_ECHO_REPLY) if skb.dev and not skb.dev.loopback else (True, False)
    if not allowed or not icmpv6_xrlim_allow(net, dest, source, oif, ask):
        return Reason.NOT_SPECIFIED
    label = int.from_bytes(skb.data[:4], "big") & 0xFFFFF if env.ip6.flowlabel_reflect & REFLECT_ECHO else 0
    message = bytearray(skb.data[skb.transport or IP6_HLEN :])
    message[0] = ICMPV6_ECHO_REPLY
    env.note("icmpv6_echo_reply", f"{len(message) - ICMP6_HLEN} bytes to {dest.hex()}")
    net.local_out(build(net, rt, source, dest, bytes(message), tclass(skb), label))
    return None


@cited("net/ipv6/icmp.c:icmpv6_notify", "RFC 4443 2.4")
def icmpv6_notify(net: Ip6, skb: SkBuff, type: int, code: int, info: int) -> Reason | None:
    """An error is told to the protocol and to the raw sockets whose packet it quotes; else the reason to drop it."""
    inner = bytes(skb.data[(skb.transport or IP6_HLEN) + ICMP6_HLEN :])
    if len(inner) < IP6_HLEN:
        return _bad(net, Reason.PKT_TOO_SMALL)
    at, nexthdr = IP6_HLEN, inner[6]
    if nexthdr in EXT_HDRS:
        at, nexthdr, _ = ipv6_skip_exthdr(inner, IP6_HLEN, nexthdr)
        if at < 0:
            return _bad(net, Reason.IPV6_BAD_EXTHDR)
    if len(inner) < at + 8:
        return _bad(net, Reason.PKT_TOO_SMALL)
    if nexthdr == IPPROTO_RAW:
        return _bad(net, Reason.NOT_SPECIFIED)
    proto = net.protos.get(nexthdr)
    net.env.note("icmpv6_notify", f"about next header {nexthdr}")
    if proto is not None and proto.err_handler is not None:
        proto.err_handler(skb, type, code, at, info)
    net.env.raw6_icmp_error(skb, nexthdr, type, code, at, info)
    return None


def _bad(net: Ip6, reason: Reason) -> Reason:
    net.env.note("icmpv6_notify", f"quotes too little: {reason}")
    net.env.count("Icmp6InErrors")
    return reason


@cited("net/ipv6/icmp.c:icmpv6_err")
def icmpv6_err(net: Ip6, skb: SkBuff, type: int, code: int, offset: int, info: int) -> None:
    """An error about an ICMPv6 message: the path MTU is learnt, and a ping socket told."""
    start = (skb.transport or IP6_HLEN) + ICMP6_HLEN
    if type == ICMPV6_PKT_TOOBIG:
        ip6_update_pmtu(net, bytes(skb.data[start + 24 : start + 40]), info)
    if not type & ICMPV6_INFOMSG_MASK and skb.data[start + offset] == ICMPV6_ECHO_REQUEST:
        net.env.ping6_err(skb, offset, info)


@cited("net/ipv6/ndisc.c:ndisc_rcv", "RFC 4861 7.1.1", "RFC 6980 5")
def ndisc_rcv(net: Ip6, skb: SkBuff, type: int, code: int) -> Reason | None:
    """Neighbour discovery: only from this link, code 0, not in fragments; the neighbour's layer reads it."""
    idev = net.idev(skb.dev)
    if IP6CB(skb).flags & IP6SKB_FRAGMENTED and (idev is None or idev.suppress_frag_ndisc):
        return Reason.IPV6_NDISC_FRAG
    if skb.data[7] != 255:
        net.env.note("ndisc_rcv", f"hop limit {skb.data[7]}: not from this link")
        return Reason.IPV6_NDISC_HOP_LIMIT
    if code != 0:
        return Reason.IPV6_NDISC_BAD_CODE
    return net.env.ndisc_recv(skb, type)


@cited("net/ipv6/icmp.c:icmpv6_err_convert")
def icmpv6_err_convert(type: int, code: int) -> tuple[int, bool]:
    """The errno that sockets get for an error, and whether it is fatal to a connection."""
    if type == ICMPV6_DEST_UNREACH:
        return UNREACH[code] if code < len(UNREACH) else (errno.EPROTO, True)
    if type == ICMPV6_PKT_TOOBIG:
        return errno.EMSGSIZE, False
    if type == ICMPV6_PARAMPROB:
        return errno.EPROTO, True
    return (errno.EHOSTUNREACH, False) if type == ICMPV6_TIME_EXCEED else (errno.EPROTO, False)


UNREACH: Final = (
    (errno.ENETUNREACH, False),
    (errno.EACCES, True),
    (errno.EHOSTUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.ECONNREFUSED, True),
    (errno.EACCES, True),
    (errno.EACCES, True),
)
