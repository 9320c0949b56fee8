"""ICMP messages that come in: answers to questions, errors to those whom they concern.

The law: an error is worth what it quotes, which is an IP header and 8 bytes behind it. What is answered is told by
the type alone; what comes to a group or to all is answered only if the administrator wants that.
"""

from collections.abc import Callable
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip.const import (
    ICMP_ADDRESS,
    ICMP_ADDRESSREPLY,
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_EXC_FRAGTIME,
    ICMP_EXT_ECHO,
    ICMP_EXT_ECHOREPLY,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMP,
    ICMP_TIMESTAMPREPLY,
    IPPROTO_ICMP,
    IPPROTO_RAW,
    NET_RX_DROP,
    NET_RX_SUCCESS,
    NR_ICMP_TYPES,
    NR_ICMP_UNREACH,
    RTCF_BROADCAST,
    RTCF_MULTICAST,
    RTN_BROADCAST,
)
from refmodel.ip.header import SIZEOF_IPHDR, Iphdr
from refmodel.ip.icmp import SIZEOF_ICMPHDR, icmp_reply
from refmodel.ip.icmpmib import icmpmsgin_inc_stats
from refmodel.ip.net import Ip, dst
from refmodel.packet.wire import ones_sum
from refmodel.rule import NotModelled, cited
from refmodel.skbuff import CHECKSUM_UNNECESSARY, SkBuff


def _header(skb: SkBuff) -> int:
    assert skb.transport is not None
    return skb.transport


@cited("net/ipv4/icmp.c:icmp_rcv", "RFC 1122 3.2.2")
def icmp_rcv(net: Ip, skb: SkBuff) -> int:
    """A message comes in: its checksum, its type and to whom it came decide."""
    env = net.env
    at = _header(skb)
    data = skb.data
    env.count("IcmpInMsgs")
    if skb.ip_summed != CHECKSUM_UNNECESSARY and ones_sum(bytes(data[at:])) != 0xFFFF:
        env.count("IcmpInCsumErrors")
        return _error(net, skb, Reason.ICMP_CSUM)
    if len(data) < at + SIZEOF_ICMPHDR:
        return _error(net, skb, Reason.NOT_SPECIFIED)
    type, code = data[at], data[at + 1]
    env.note("icmp_rcv", f"type {type} code {code}")
    icmpmsgin_inc_stats(net, type)
    if type == ICMP_EXT_ECHO:
        return _done(net, skb, icmp_echo(net, skb))
    if type == ICMP_EXT_ECHOREPLY:
        return _done(net, skb, env.ping_rcv(skb))
    many = bool(dst(skb).rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST))
    # 6.18 asks first to whom it came, older kernels first whether they know the type.
    if type > NR_ICMP_TYPES and not (many and env.kernel >= 618):
        return _error(net, skb, Reason.UNHANDLED_PROTO)
    if many:
        question = type in (ICMP_ECHO, ICMP_TIMESTAMP)
        if question and env.ip.icmp_echo_ignore_broadcasts:
            return _error(net, skb, Reason.INVALID_PROTO)
        if not question and type not in (ICMP_ADDRESS, ICMP_ADDRESSREPLY):
            return _error(net, skb, Reason.INVALID_PROTO)
    return _done(net, skb, HANDLERS.get(type, icmp_discard)(net, skb))


def _done(net: Ip, skb: SkBuff, reason: Reason | None) -> int:
    if reason is None:
        net.env.consume_skb(skb)
        return NET_RX_SUCCESS
    net.env.kfree_skb(skb, reason)
    return NET_RX_DROP


def _error(net: Ip, skb: SkBuff, reason: Reason) -> int:
    net.env.count("IcmpInErrors")
    net.env.kfree_skb(skb, reason)
    return NET_RX_DROP


@cited("net/ipv4/icmp.c:ping_rcv", "net/ipv4/ping.c:ping_rcv")
def ping_rcv(net: Ip, skb: SkBuff) -> Reason | None:
    """An answer to a ping goes to the socket that asked."""
    return net.env.ping_rcv(skb)


@cited("net/ipv4/icmp.c:icmp_discard")
def icmp_discard(net: Ip, skb: SkBuff) -> Reason | None:
    """Types that are known and mean nothing any more."""
    return None


@cited("net/ipv4/icmp.c:icmp_echo", "RFC 1122 3.2.2.6")
def icmp_echo(net: Ip, skb: SkBuff) -> Reason | None:
    """A ping is answered with the same bytes."""
    if net.env.ip.icmp_echo_ignore_all:
        net.env.note("icmp_echo", "icmp_echo_ignore_all")
        return None
    message = bytearray(skb.data[_header(skb) :])
    if message[0] != ICMP_ECHO:
        if not net.env.ip.icmp_echo_enable_probe:
            return None
        raise NotModelled("extended echo requests (RFC 8335)")
    message[0] = ICMP_ECHOREPLY
    icmp_reply(net, message, skb)
    return None


@cited("net/ipv4/icmp.c:icmp_timestamp", "RFC 1122 3.2.2.8")
def icmp_timestamp(net: Ip, skb: SkBuff) -> Reason | None:
    """A request for the time of day is answered."""
    at = _header(skb)
    if len(skb.data) < at + SIZEOF_ICMPHDR + 4:
        net.env.count("IcmpInErrors")
        return Reason.PKT_TOO_SMALL
    now = net.env.clock_ms_of_day().to_bytes(4, "big")
    message = bytearray(skb.data[at : at + SIZEOF_ICMPHDR + 4]) + now + now
    message[0], message[1] = ICMP_TIMESTAMPREPLY, 0
    icmp_reply(net, message, skb)
    return None


@cited("net/ipv4/icmp.c:icmp_unreach", "RFC 1122 3.2.2.1", "RFC 1191 6.2")
def icmp_unreach(net: Ip, skb: SkBuff) -> Reason | None:
    """An error: what it says besides its type is taken out, and the protocol of the quoted packet gets it."""
    env = net.env
    at = _header(skb)
    inner = at + SIZEOF_ICMPHDR
    if len(skb.data) < inner + SIZEOF_IPHDR:
        env.count("IcmpInErrors")
        return Reason.NOT_SPECIFIED
    iph = Iphdr(skb.data, inner)
    if iph.ihl < 5:
        env.count("IcmpInErrors")
        return Reason.IP_INHDR
    type, code = skb.data[at], skb.data[at + 1]
    info = 0
    if type == ICMP_DEST_UNREACH:
        if code & 15 == ICMP_FRAG_NEEDED:
            mode = env.ip.ip_no_pmtu_disc
            if mode == 2 or (mode == 3 and not icmp_tag_validation(net, iph.protocol)):
                env.note("icmp_unreach", f"ip_no_pmtu_disc {mode}: not believed")
                return None
            if mode in (0, 3):
                info = int.from_bytes(skb.data[at + 6 : at + 8], "big")
        if code > NR_ICMP_UNREACH:
            return None
    elif type == ICMP_PARAMETERPROB:
        info = skb.data[at + 4]
    elif type == ICMP_TIME_EXCEEDED and code == ICMP_EXC_FRAGTIME:
        return None
    if not env.ip.icmp_ignore_bogus_error_responses and _about_broadcast(net, skb, iph.daddr):
        env.note("icmp_unreach", "about a broadcast: bogus")
        return None
    icmp_socket_deliver(net, skb, info)
    return None


def _about_broadcast(net: Ip, skb: SkBuff, daddr: bytes) -> bool:
    return skb.dev is not None and net.env.inet_addr_type_dev_table(skb.dev, daddr) == RTN_BROADCAST


@cited("net/ipv4/icmp.c:icmp_redirect")
def icmp_redirect(net: Ip, skb: SkBuff) -> Reason | None:
    """A router names a better one."""
    at = _header(skb)
    if len(skb.data) < at + SIZEOF_ICMPHDR + SIZEOF_IPHDR:
        net.env.count("IcmpInErrors")
        return Reason.PKT_TOO_SMALL
    icmp_socket_deliver(net, skb, int.from_bytes(skb.data[at + 4 : at + 8], "big"))
    return None


@cited("net/ipv4/icmp.c:icmp_tag_validation")
def icmp_tag_validation(net: Ip, protocol: int) -> bool:
    """The protocol checks that an error is about something it sent."""
    ipprot = net.env.inet_protos.get(protocol)
    return ipprot is not None and ipprot.icmp_strict_tag_validation


@cited("net/ipv4/icmp.c:icmp_socket_deliver")
def icmp_socket_deliver(net: Ip, skb: SkBuff, info: int) -> None:
    """Raw sockets and the protocol of the quoted packet get the error, if it quotes enough."""
    env = net.env
    inner = _header(skb) + SIZEOF_ICMPHDR
    iph = Iphdr(skb.data, inner)
    protocol = iph.protocol
    if len(skb.data) < inner + iph.hdrlen + 8 or protocol == IPPROTO_RAW:
        env.note("icmp_socket_deliver", "it quotes too little")
        env.count("IcmpInErrors")
        return
    env.raw_icmp_error(skb, inner, protocol, info)
    ipprot = env.inet_protos.get(protocol)
    if ipprot is not None:
        env.note("icmp_socket_deliver", f"to protocol {protocol}")
        ipprot.err_handler(skb, inner, info)


@cited("net/ipv4/icmp.c:icmp_err")
def icmp_err(net: Ip, skb: SkBuff, inner: int, info: int) -> None:
    """An error about an ICMP message from here: a ping socket's, or the kernel's own answer to a ping."""
    env = net.env
    at = _header(skb)
    quoted = inner + Iphdr(skb.data, inner).hdrlen
    if skb.data[quoted] != ICMP_ECHOREPLY:
        env.ping_err(skb, inner, info)
        return
    type, code = skb.data[at], skb.data[at + 1]
    if type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        env.ipv4_update_pmtu(skb, inner, info, IPPROTO_ICMP)
    elif type == ICMP_REDIRECT:
        env.ipv4_redirect(skb, inner, IPPROTO_ICMP)


HANDLERS: Final[dict[int, Callable[[Ip, SkBuff], Reason | None]]] = {
    ICMP_ECHOREPLY: ping_rcv,
    3: icmp_unreach,
    4: icmp_unreach,
    5: icmp_redirect,
    8: icmp_echo,
    11: icmp_unreach,
    12: icmp_unreach,
    13: icmp_timestamp,
}
"""icmp_pointers: every other type up to 18 is discarded."""


class IcmpProtocol:
    """ICMP as an entry of inet_protos; source net/ipv4/af_inet.c:icmp_protocol."""

    no_policy = True
    icmp_strict_tag_validation = False

    def __init__(self, net: Ip) -> None:
        self.net = net

    def handler(self, skb: SkBuff) -> int:
        """Takes a message."""
        return icmp_rcv(self.net, skb)

    def err_handler(self, skb: SkBuff, inner: int, info: int) -> None:
        """Takes an error about a message."""
        icmp_err(self.net, skb, inner, info)
