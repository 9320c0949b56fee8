"""ICMP messages that are sent: errors about packets, and answers.

The law: no error about an error, a group, a broadcast, or a fragment that is not the first; one quotes as much of the
packet as fits into 576 bytes; the types of the rate mask are limited for each host and for all together.
"""

import errno
from collections.abc import Callable
from typing import Final, NamedTuple

from refmodel.ip import append, options, output
from refmodel.ip.const import (
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    INADDR_ANY,
    INADDR_DUMMY,
    INET_DSCP_MASK,
    IP_OFFSET,
    IP_PMTUDISC_DONT,
    IPPROTO_ICMP,
    IPTOS_PREC_INTERNETCONTROL,
    IPTOS_TOS_MASK,
    NR_ICMP_TYPES,
    RT_SCOPE_LINK,
    RTCF_BROADCAST,
    RTCF_LOCAL,
    RTCF_MULTICAST,
)
from refmodel.ip.env import Route
from refmodel.ip.header import ip_hdr
from refmodel.ip.limits import (
    AskGlobal,
    AskPeer,
    Global,
    LimitParams,
    Peer,
    filled,
    global_allows,
    icmpv4_mask_allow,
    may_fill,
    peer_allows,
    peer_refuses,
)
from refmodel.ip.net import IPCB, Ip, IpOptions, dst, inet_getpeer
from refmodel.ip.sock import Flowi4, Ipcm, IpSock
from refmodel.packet.wire import checksum
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_NONE, PACKET_HOST, SkBuff

SIZEOF_ICMPHDR: Final = 8
ICMP_SNDBUF: Final = 2 * (64 * 1024 + 576)  # two packets of 64 KiB with the overhead of an skb (icmp_init)
ROOM: Final = 576  # RFC 1122 3.2.2: more than the least, and no more than every host takes
INFORMATION: Final = frozenset((ICMP_ECHOREPLY, ICMP_ECHO, 13, 14, 15, 16, 17, 18))
"""The types that are no errors; types that nobody knows are taken for errors."""


class IcmpErr(NamedTuple):
    """struct icmp_err: what a code of "destination unreachable" means to a socket."""

    errno: int
    fatal: bool


icmp_err_convert: Final = (
    IcmpErr(errno.ENETUNREACH, False),
    IcmpErr(errno.EHOSTUNREACH, False),
    IcmpErr(errno.ENOPROTOOPT, True),
    IcmpErr(errno.ECONNREFUSED, True),
    IcmpErr(errno.EMSGSIZE, False),
    IcmpErr(errno.EOPNOTSUPP, False),
    IcmpErr(errno.ENETUNREACH, True),
    IcmpErr(errno.EHOSTDOWN, True),
    IcmpErr(errno.ENONET, True),
    IcmpErr(errno.ENETUNREACH, True),
    IcmpErr(errno.EHOSTUNREACH, True),
    IcmpErr(errno.ENETUNREACH, False),
    IcmpErr(errno.EHOSTUNREACH, False),
    IcmpErr(errno.EHOSTUNREACH, True),
    IcmpErr(errno.EHOSTUNREACH, True),
    IcmpErr(errno.EHOSTUNREACH, True),
)
"""By code; RFC 1122 3.2.2.1 calls net, host and source route transient."""


def is_error(type: int) -> bool:
    """ICMP messages of the type are errors; source net/ipv4/icmp.c:icmp_pointers."""
    return type not in INFORMATION


# ---------------------------------------------------------------- limits


def _params(net: Ip) -> LimitParams:
    p = net.env.ip
    return LimitParams(net.env.hz, p.icmp_msgs_burst, p.icmp_ratelimit * net.env.hz // 1000)


@cited("net/ipv4/icmp.c:icmp_global_allow")
def icmp_global_allow(net: Ip) -> bool:
    """All hosts together may have one more message."""
    ask, s = _ask(net, False)
    p = _params(net)
    if s.credit <= 0 and not may_fill(s, ask, p):
        return False
    t, _ = global_allows(s, ask, p)
    net.icmp_global_credit, net.icmp_global_stamp = t.credit, t.stamp
    return True


def _ask(net: Ip, consume: bool) -> tuple[AskGlobal, Global]:
    passed = net.env.jiffies - net.icmp_global_stamp
    incr = net.env.ip.icmp_msgs_per_sec * min(passed, net.env.hz) // net.env.hz
    return AskGlobal(passed, incr, consume), Global(net.icmp_global_credit, net.icmp_global_stamp)


@cited("net/ipv4/icmp.c:icmp_global_consume")
def icmp_global_consume(net: Ip) -> None:
    """A message takes 0 to 2 of the credit, so that nobody can count what others are sent."""
    net.icmp_global_credit -= net.env.random() % 3


@cited("net/ipv4/icmp.c:icmpv4_global_allow")
def icmpv4_global_allow(net: Ip, type: int, code: int) -> tuple[bool, bool]:
    """Whether a message may be sent as far as all hosts are concerned, and whether its host's limit holds for it."""
    if icmpv4_mask_allow(type, code, net.env.ip.icmp_ratemask):
        return True, False
    if icmp_global_allow(net):
        return True, True
    net.env.note("icmpv4_global_allow", "icmp_msgs_per_sec is used up")
    net.env.count("IcmpOutRateLimitGlobal")
    return False, False


@cited("net/ipv4/inetpeer.c:inet_peer_xrlim_allow")
def inet_peer_xrlim_allow(net: Ip, daddr: bytes) -> bool:
    """The host's own limit allows one more."""
    peer = inet_getpeer(net, daddr)
    p = _params(net)
    ask = AskPeer(net.env.jiffies - peer.rate_last)
    s = Peer(peer.rate_tokens, peer.rate_last)
    allowed = filled(s.tokens, ask.passed, p.timeout) >= p.timeout
    t, _ = peer_allows(s, ask, p) if allowed else peer_refuses(s, ask, p)
    peer.rate_tokens, peer.rate_last = t.tokens, t.last
    return allowed


@cited("net/ipv4/icmp.c:icmpv4_xrlim_allow")
def icmpv4_xrlim_allow(net: Ip, rt: Route, daddr: bytes, apply_ratelimit: bool) -> bool:
    """The host's own limit, which does not hold over loopback."""
    if not apply_ratelimit:
        return True
    allowed = rt.dev.loopback or inet_peer_xrlim_allow(net, daddr)
    if allowed:
        icmp_global_consume(net)
    else:
        net.env.note("icmpv4_xrlim_allow", "icmp_ratelimit: too many to this host")
        net.env.count("IcmpOutRateLimitHost")
    return allowed


# ---------------------------------------------------------------- sending


def icmp_sk() -> IpSock:
    """The socket that ICMP sends with; source net/ipv4/icmp.c:icmp_init."""
    sk = IpSock(IPPROTO_ICMP)
    sk.raw = True
    sk.pmtudisc = IP_PMTUDISC_DONT
    sk.sk_sndbuf = ICMP_SNDBUF
    return sk


@cited("net/ipv4/icmp.c:icmp_push_reply")
def icmp_push_reply(net: Ip, sk: IpSock, message: bytearray, fl4: Flowi4, ipc: Ipcm, rt: Route, about: SkBuff) -> None:
    """The message, header first, gets its checksum and leaves."""
    message[2:4] = bytes(2)
    message[2:4] = checksum(bytes(message)).to_bytes(2, "big")
    if append.ip_append_data(net, sk, bytes(message), SIZEOF_ICMPHDR, ipc, rt) < 0:
        net.env.count("IcmpOutErrors")
        append.ip_flush_pending_frames(net, sk)
        return
    for skb in sk.write_queue:
        skb.ip_summed = CHECKSUM_NONE
        skb.by = "icmp_push_reply"
        if is_error(message[0]):
            net.env.nf_ct_attach(skb, about)
    append.ip_push_pending_frames(net, sk, fl4)


@cited("net/ipv4/icmp.c:icmp_reply", "RFC 1122 3.2.2.6")
def icmp_reply(net: Ip, message: bytearray, skb: SkBuff) -> None:
    """An answer goes back where the question came from, with its type of service and its options turned round."""
    env = net.env
    iph = ip_hdr(skb)
    opt = options.ip_options_echo(net, skb)
    if isinstance(opt, int):
        return
    allowed, limited = icmpv4_global_allow(net, message[0], message[1])
    if not allowed or net.icmp_busy:
        return
    sk = icmp_sk()
    sk.tos = iph.tos
    ipc = Ipcm(iph.saddr)
    fl4 = Flowi4(iph.saddr, env.fib_compute_spec_dst(skb), iph.tos & INET_DSCP_MASK, IPPROTO_ICMP)
    if opt.optlen:
        ipc.opt = opt
        if opt.srr:
            fl4.daddr = opt.faddr
    rt = env.ip_route_output_key(fl4)
    if rt is None:
        env.note("icmp_reply", "no way back")
        return
    if icmpv4_xrlim_allow(net, rt, fl4.daddr, limited):
        _locked(net, lambda: icmp_push_reply(net, sk, message, fl4, ipc, rt, skb))


def _locked(net: Ip, send: Callable[[], None]) -> None:
    """ICMP's socket is taken meanwhile: an error about what is sent with it is not sent (icmp_xmit_lock)."""
    net.icmp_busy = True
    send()
    net.icmp_busy = False


@cited("include/net/icmp.h:icmp_send")
def icmp_send(net: Ip, skb: SkBuff, type: int, code: int, info: int) -> None:
    """An error about a packet whose options were read."""
    __icmp_send(net, skb, type, code, info, IPCB(skb).opt)


def _unworthy(net: Ip, skb: SkBuff, type: int) -> str:
    """Why no error is sent about a packet; "" if one may be."""
    rt = dst(skb)
    iph = ip_hdr(skb)
    if skb.pkt_type != PACKET_HOST:
        return "the frame was not for this host alone"
    if rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        return "to a group or to all"
    if iph.frag_off & IP_OFFSET:
        return "not the first fragment"
    if is_error(type) and iph.protocol == IPPROTO_ICMP:
        at = iph.hdrlen
        if at >= len(skb.data):
            return "an ICMP message without a type"
        if skb.data[at] > NR_ICMP_TYPES or is_error(skb.data[at]):
            return "an ICMP error"
    return ""


@cited("net/ipv4/icmp.c:__icmp_send", "RFC 1122 3.2.2", "RFC 1812 4.3.2")
def __icmp_send(net: Ip, skb: SkBuff, type: int, code: int, info: int, opt: IpOptions) -> None:
    """The sender of a packet is told what is wrong with it; `info` is the header's second word."""
    env = net.env
    if skb.dst is None:
        return
    why = _unworthy(net, skb, type)
    if why:
        env.note("__icmp_send", f"type {type} code {code} is not sent: {why}")
        return
    rt = dst(skb)
    iph = ip_hdr(skb)
    limited = False
    if skb.dev is None or not skb.dev.loopback:
        allowed, limited = icmpv4_global_allow(net, type, code)
        if not allowed:
            return
    if net.icmp_busy:
        env.note("__icmp_send", "about an ICMP message that is being sent: none")
        return
    sk = icmp_sk()
    saddr = iph.daddr if rt.rt_flags & RTCF_LOCAL else _source(net, skb, rt)
    sk.tos = iph.tos & IPTOS_TOS_MASK | IPTOS_PREC_INTERNETCONTROL if is_error(type) else iph.tos
    echo = options.__ip_options_echo(net, skb, opt)
    if isinstance(echo, int):
        env.note("__icmp_send", "its options cannot be turned round")
        return
    ipc = Ipcm(iph.saddr, echo)
    fl4 = Flowi4(echo.faddr if echo.srr else iph.saddr, saddr, sk.tos & INET_DSCP_MASK, IPPROTO_ICMP)
    fl4.icmp_type = type
    back = icmp_route_lookup(net, fl4)
    if back is None:
        env.note("__icmp_send", "no way back")
        return
    if not icmpv4_xrlim_allow(net, back, fl4.daddr, limited):
        return
    room = min(output.dst4_mtu(net, back), ROOM) - 20 - echo.optlen - SIZEOF_ICMPHDR
    if room <= 20:
        return
    quote = bytes(skb.data[:room])
    if fl4.saddr == INADDR_ANY:
        fl4.saddr = INADDR_DUMMY
    env.note("__icmp_send", f"type {type} code {code} info {info:#x}, {len(quote)} bytes quoted")
    message = bytearray((type, code, 0, 0)) + info.to_bytes(4, "big") + quote
    _locked(net, lambda: icmp_push_reply(net, sk, message, fl4, ipc, back, skb))


def _source(net: Ip, skb: SkBuff, rt: Route) -> bytes:
    """The source of an error about a packet for somebody else: the route's choice, or of the device it came in by."""
    env = net.env
    if rt.is_input and env.ip.icmp_errors_use_inbound_ifaddr:
        dev = env.dev_get_by_index(skb.skb_iif)
        if dev is not None:
            return env.inet_select_addr(dev, ip_hdr(skb).saddr, RT_SCOPE_LINK)
    return INADDR_ANY


@cited("net/ipv4/icmp.c:icmp_route_lookup")
def icmp_route_lookup(net: Ip, fl4: Flowi4) -> Route | None:
    """The way back (there is no IPsec policy that could change it)."""
    return net.env.ip_route_output_key(fl4)
