"""A packet for somebody else goes on: one hop less, told if that was its last, or if there is a shorter way.

The law: a router changes the time to live, the checksum and the options that ask for it, and nothing else. A packet
with DF is never cut on its way, nor one whose fragments were larger than the next link.
"""

import errno
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip import gso, icmp, options, output
from refmodel.ip.const import (
    ICMP_DEST_UNREACH,
    ICMP_EXC_TTL,
    ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH,
    ICMP_NET_UNREACH,
    ICMP_PKT_FILTERED,
    ICMP_REDIR_HOST,
    ICMP_REDIRECT,
    ICMP_SR_FAILED,
    ICMP_TIME_EXCEEDED,
    IP_DEFRAG_CALL_RA_CHAIN,
    IP_DF,
    IPSKB_DOREDIRECT,
    IPSKB_FORWARDED,
    IPTOS_TOS_MASK,
    NET_RX_DROP,
    NET_RX_SUCCESS,
    NF_INET_FORWARD,
)
from refmodel.ip.header import ip_decrease_ttl, ip_hdr, ip_is_fragment
from refmodel.ip.limits import IP_RT_REDIRECT_NUMBER, redirect_due, redirect_silent
from refmodel.ip.net import IPCB, NF_HOOK, Ip, dst, inet_getpeer
from refmodel.ip.reasm import ip_defrag
from refmodel.rule import cited, pure
from refmodel.skbuff import PACKET_HOST, SkBuff

IP_RT_ERROR_BURST: Final = 5
"""How many errors about refused packets a host gets at once; one a second after that (ip_rt_error_cost)."""
IP_TOS2PRIO: Final = (0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)
"""TC_PRIO_ of the four TOS bits; source net/ipv4/route.c:ip_tos2prio."""


@pure
def exceeds_mtu(size: int, mtu: int, df: bool, frag_max_size: int, ignore_df: bool, gso_fits: bool) -> bool:
    """A packet of `size` bytes must not be cut and does not fit; source net/ipv4/ip_forward.c:ip_exceeds_mtu."""
    return size > mtu and df and (frag_max_size > mtu or not (ignore_df or gso_fits))


@cited("net/ipv4/ip_forward.c:ip_exceeds_mtu", "RFC 1191 3")
def ip_exceeds_mtu(net: Ip, skb: SkBuff, mtu: int) -> bool:
    """The packet with DF is too long; a super-segment counts by its segments."""
    fits = skb.is_gso and gso.skb_gso_validate_network_len(skb, mtu)
    df = bool(ip_hdr(skb).frag_off & IP_DF)
    return exceeds_mtu(skb.len, mtu, df, IPCB(skb).frag_max_size, skb.ignore_df, fits)


@cited("net/ipv4/ip_forward.c:ip_forward", "RFC 1812 5.2.1", "RFC 1812 5.3.1")
def ip_forward(net: Ip, skb: SkBuff) -> int:
    """The packet may go on if it has hops left and fits the next link."""
    env = net.env
    opt = IPCB(skb).opt
    iph = ip_hdr(skb)
    if skb.pkt_type != PACKET_HOST or skb.sk is not None:
        env.note("ip_forward", "a frame that was not for this host alone is not sent on")
        return _drop(net, skb, Reason.NOT_SPECIFIED)
    if opt.router_alert and ip_call_ra_chain(net, skb):
        return NET_RX_SUCCESS
    if iph.ttl <= 1:
        env.note("ip_forward", f"ttl {iph.ttl}: its last hop")
        env.count("IpInHdrErrors")
        icmp.icmp_send(net, skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0)
        return _drop(net, skb, Reason.IP_INHDR)
    rt = dst(skb)
    if opt.is_strictroute and rt.rt_uses_gateway:
        env.note("ip_forward", "a strict route, and the way leads over a gateway")
        icmp.icmp_send(net, skb, ICMP_DEST_UNREACH, ICMP_SR_FAILED, 0)
        return _drop(net, skb, Reason.NOT_SPECIFIED)
    if env.kernel >= 612:
        env.count("IpForwDatagrams")
    IPCB(skb).flags |= IPSKB_FORWARDED
    mtu = output.ip_dst_mtu_maybe_forward(net, rt, True)
    if ip_exceeds_mtu(net, skb, mtu):
        env.note("ip_forward", f"{skb.len} > mtu {mtu} with DF: the sender is told")
        env.count("IpFragFails")
        icmp.icmp_send(net, skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
        return _drop(net, skb, Reason.PKT_TOO_BIG)
    left = ip_decrease_ttl(iph)
    env.note("ip_forward", f"ttl {left + 1} -> {left}, out over {rt.dev.name}")
    if IPCB(skb).flags & IPSKB_DOREDIRECT and not opt.srr:
        ip_rt_send_redirect(net, skb)
    if env.ip.ip_forward_update_priority:
        skb.priority = IP_TOS2PRIO[(iph.tos & IPTOS_TOS_MASK) >> 1]
    return NF_HOOK(net, NF_INET_FORWARD, skb, skb.dev, rt.dev, lambda x: ip_forward_finish(net, x))


def _drop(net: Ip, skb: SkBuff, reason: Reason) -> int:
    net.env.kfree_skb(skb, reason)
    return NET_RX_DROP


@cited("net/ipv4/ip_forward.c:ip_forward_finish")
def ip_forward_finish(net: Ip, skb: SkBuff) -> int:
    """The packet passed the hook and takes its way."""
    if net.env.kernel < 612:
        net.env.count("IpForwDatagrams")
        net.env.count("IpExtOutOctets", skb.len)
    if IPCB(skb).opt.optlen:
        options.ip_forward_options(net, skb)
    skb.tstamp = 0
    return output.dst_output(net, None, skb)


@cited("net/ipv4/ip_input.c:ip_call_ra_chain", "RFC 2113 2.1")
def ip_call_ra_chain(net: Ip, skb: SkBuff) -> bool:
    """A packet that asks routers to look is given to the sockets that want to: True if it is theirs now."""
    if not net.env.ra_chain_wants(skb):
        return False
    if ip_is_fragment(ip_hdr(skb)) and ip_defrag(net, skb, IP_DEFRAG_CALL_RA_CHAIN):
        return True
    net.env.note("ip_call_ra_chain", "a raw socket has the router alert option")
    net.env.ra_chain_deliver(skb)
    return True


@cited("net/ipv4/route.c:ip_rt_send_redirect", "RFC 1812 5.2.7.2")
def ip_rt_send_redirect(net: Ip, skb: SkBuff) -> None:
    """The sender is told of the shorter way, ever less often; one that never listens is told no more."""
    env = net.env
    rt = dst(skb)
    in_dev = env.in_dev(rt.dev)
    if in_dev is None or not in_dev.send_redirects:
        return
    iph = ip_hdr(skb)
    peer = inet_getpeer(net, iph.saddr)
    now, hz = env.jiffies, env.hz
    if redirect_silent(now, peer.rate_last, hz):
        peer.rate_tokens = 0
        peer.n_redirects = 0
    if peer.n_redirects >= IP_RT_REDIRECT_NUMBER:
        env.note("ip_rt_send_redirect", f"{peer.n_redirects} were ignored")
        peer.rate_last = now
        return
    if redirect_due(now, peer.rate_last, peer.n_redirects, hz):
        gateway = output.rt_nexthop(rt, iph.daddr)
        env.note("ip_rt_send_redirect", f"number {peer.n_redirects + 1} to " + ".".join(map(str, iph.saddr)))
        icmp.icmp_send(net, skb, ICMP_REDIRECT, ICMP_REDIR_HOST, int.from_bytes(gateway, "big"))
        peer.rate_last = now
        peer.n_redirects += 1


@cited("net/ipv4/route.c:ip_error", "RFC 1812 4.3.3.1")
def ip_error(net: Ip, skb: SkBuff) -> int:
    """A packet that no route takes: a router tells its sender, five times at once and then once a second."""
    env = net.env
    rt = dst(skb)
    assert skb.dev is not None
    in_dev = env.in_dev(skb.dev)
    if in_dev is None:
        return _refuse(net, skb, Reason.NOT_SPECIFIED)
    if not in_dev.forwarding:
        if rt.error == errno.EHOSTUNREACH:
            env.count("IpInAddrErrors")
            return _refuse(net, skb, Reason.IP_INADDRERRORS)
        if rt.error == errno.ENETUNREACH:
            env.count("IpExtInNoRoutes")
            return _refuse(net, skb, Reason.IP_INNOROUTES)
        return _refuse(net, skb, Reason.NOT_SPECIFIED)
    reason = Reason.NOT_SPECIFIED
    if rt.error == errno.EHOSTUNREACH:
        code = ICMP_HOST_UNREACH
    elif rt.error == errno.ENETUNREACH:
        code = ICMP_NET_UNREACH
        reason = Reason.IP_INNOROUTES
        env.count("IpExtInNoRoutes")
    elif rt.error == errno.EACCES:
        code = ICMP_PKT_FILTERED
    else:
        return _refuse(net, skb, Reason.NOT_SPECIFIED)
    if _error_allowed(net, ip_hdr(skb).saddr):
        icmp.icmp_send(net, skb, ICMP_DEST_UNREACH, code, 0)
    else:
        env.note("ip_error", "too many errors to this host")
    return _refuse(net, skb, reason)


def _error_allowed(net: Ip, saddr: bytes) -> bool:
    peer = inet_getpeer(net, saddr)
    now, hz = net.env.jiffies, net.env.hz
    peer.rate_tokens = min(peer.rate_tokens + now - peer.rate_last, IP_RT_ERROR_BURST * hz)
    peer.rate_last = now
    if peer.rate_tokens < hz:
        return False
    peer.rate_tokens -= hz
    return True


def _refuse(net: Ip, skb: SkBuff, reason: Reason) -> int:
    net.env.note("ip_error", f"no route: {reason}")
    net.env.kfree_skb(skb, reason)
    return 0
