"""A packet goes out: its header is made, it passes the hooks, is cut if it is too long, and gets a neighbour.

The law: the length and the checksum are written last before LOCAL_OUT; whatever changes the packet after that mends
the checksum itself. A packet that was rerouted after POST_ROUTING does not pass that hook again.
"""

import errno
from copy import copy
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.ip import fragment, gso, options
from refmodel.ip.const import (
    INET_DSCP_MASK,
    IP_DF,
    IP_MAX_MTU,
    IPPROTO_TCP,
    IPSKB_FORWARDED,
    IPSKB_REROUTED,
    IPV4_MIN_MTU,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    RTAX_HOPLIMIT,
    RTAX_MTU,
    RTCF_BROADCAST,
    RTCF_LOCAL,
    RTCF_MULTICAST,
    RTN_BROADCAST,
    RTN_MULTICAST,
)
from refmodel.ip.env import Route
from refmodel.ip.header import ip_hdr, ip_send_check, new_header
from refmodel.ip.ident import ip_select_ident, ip_select_ident_segs
from refmodel.ip.net import IPCB, NF_HOOK, NF_HOOK_COND, Ip, IpOptions, dst, skb_clone
from refmodel.ip.sock import Flowi4, IpSock, ip_dont_fragment, ip_mtu_locked, ip_sk_use_pmtu, sk_mc_loop
from refmodel.rule import cited
from refmodel.skbuff import ETH_P_IP, SkBuff

LOOPBACK_IFINDEX: Final = 1
GATEWAY_MTU: Final = 576  # over a gateway, where the MTU is locked


@cited("include/net/ip.h:ip_dst_mtu_maybe_forward", "RFC 1191 3")
def ip_dst_mtu_maybe_forward(net: Ip, rt: Route, forwarding: bool) -> int:
    """The MTU of a route; what ICMP taught does not count for packets of others."""
    locked = ip_mtu_locked(rt)
    if (net.env.ip.ip_forward_use_pmtu or locked or not forwarding) and rt.rt_pmtu and net.env.jiffies < rt.expires:
        return min(rt.rt_pmtu, IP_MAX_MTU)
    own = rt.metrics.get(RTAX_MTU, 0)
    if own:
        return min(own, IP_MAX_MTU)
    mtu = rt.dev.mtu
    if locked and rt.rt_uses_gateway and mtu > GATEWAY_MTU:
        mtu = GATEWAY_MTU
    return min(mtu, IP_MAX_MTU)


@cited("include/net/route.h:dst4_mtu", "net/ipv4/route.c:ipv4_mtu")
def dst4_mtu(net: Ip, rt: Route) -> int:
    """The MTU for packets from here."""
    return ip_dst_mtu_maybe_forward(net, rt, False)


@cited("include/net/ip.h:ip_skb_dst_mtu")
def ip_skb_dst_mtu(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """The MTU for one packet: a socket that probes does not look at what ICMP taught."""
    if sk is None or ip_sk_use_pmtu(sk):
        return ip_dst_mtu_maybe_forward(net, dst(skb), bool(IPCB(skb).flags & IPSKB_FORWARDED))
    return min(dst(skb).dev.mtu, IP_MAX_MTU)


@cited("net/ipv4/ip_output.c:ip_select_ttl", "net/ipv4/route.c:ip4_dst_hoplimit")
def ip_select_ttl(net: Ip, sk: IpSock, rt: Route) -> int:
    """The socket's time to live, the route's, or the default."""
    if sk.uc_ttl >= 0:
        return sk.uc_ttl
    return rt.metrics.get(RTAX_HOPLIMIT, 0) or net.env.ip.ip_default_ttl


# ---------------------------------------------------------------- from the transport protocols


@cited("net/ipv4/ip_output.c:ip_queue_xmit")
def ip_queue_xmit(net: Ip, sk: IpSock, skb: SkBuff, fl4: Flowi4) -> int:
    """A connection's segment, whose bytes begin with the transport header, gets its IP header and leaves."""
    return __ip_queue_xmit(net, sk, skb, fl4, sk.tos)


@cited("net/ipv4/ip_output.c:__ip_queue_xmit", "RFC 791 3.1", "RFC 6864 4.1")
def __ip_queue_xmit(net: Ip, sk: IpSock, skb: SkBuff, fl4: Flowi4, tos: int) -> int:
    """The route is the packet's, the socket's, or found now; then the header is made."""
    env = net.env
    opt = sk.inet_opt
    if skb.dst is None:
        if sk.sk_dst is None:
            fl4.daddr = opt.faddr if opt is not None and opt.srr else sk.inet_daddr
            fl4.saddr = sk.inet_saddr
            fl4.sport, fl4.dport = sk.inet_sport, sk.inet_dport
            fl4.proto = sk.sk_protocol
            fl4.tos = tos & INET_DSCP_MASK
            fl4.oif = sk.sk_bound_dev_if
            sk.sk_dst = env.ip_route_output_key(fl4)
        if sk.sk_dst is None:
            return _no_route(net, skb)
        skb.dst = sk.sk_dst
    rt = dst(skb)
    if opt is not None and opt.is_strictroute and rt.rt_uses_gateway:
        return _no_route(net, skb)
    df = ip_dont_fragment(sk, rt) and not skb.ignore_df
    optlen = opt.optlen if opt is not None else 0
    head = new_header(optlen, tos, IP_DF if df else 0, ip_select_ttl(net, sk, rt), sk.sk_protocol, fl4.saddr, fl4.daddr)
    skb.data[:0] = head
    skb.transport = len(head)
    if opt is not None and optlen:
        options.ip_options_build(net, skb, opt, sk.inet_daddr)
    ip_select_ident_segs(net, skb, sk, skb.gso_segs or 1)
    iph = ip_hdr(skb)
    env.note("__ip_queue_xmit", f"id {iph.id:#06x}, {'DF' if df else 'no DF'}, ttl {iph.ttl}, tos {tos:#04x}")
    skb.priority = sk.sk_priority
    skb.mark = sk.sk_mark
    return ip_local_out(net, sk, skb)


def _no_route(net: Ip, skb: SkBuff) -> int:
    net.env.note("__ip_queue_xmit", "no route")
    net.env.count("IpOutNoRoutes")
    net.env.kfree_skb(skb, Reason.IP_OUTNOROUTES)
    return -errno.EHOSTUNREACH


@cited("net/ipv4/ip_output.c:ip_build_and_send_pkt", "RFC 6864 4.1")
def ip_build_and_send_pkt(
    net: Ip, skb: SkBuff, sk: IpSock, saddr: bytes, daddr: bytes, opt: IpOptions | None, tos: int
) -> int:
    """A SYN-ACK gets its header: without an identification while it is short or must not be cut."""
    env = net.env
    rt = dst(skb)
    optlen = opt.optlen if opt is not None else 0
    whole = len(skb.data) + 20 + optlen <= IPV4_MIN_MTU or ip_dont_fragment(sk, rt)
    to = opt.faddr if opt is not None and opt.srr else daddr
    head = new_header(optlen, tos, IP_DF if whole else 0, ip_select_ttl(net, sk, rt), sk.sk_protocol, saddr, to)
    skb.data[:0] = head
    skb.transport = len(head)
    if not whole:
        if sk.sk_protocol == IPPROTO_TCP:
            ip_hdr(skb).id = env.random() & 0xFFFF
        else:
            ip_select_ident(net, skb, None)
    if opt is not None and optlen:
        options.ip_options_build(net, skb, opt, daddr)
    env.note("ip_build_and_send_pkt", f"id {ip_hdr(skb).id:#06x}, {'DF' if whole else 'no DF'}")
    skb.priority = sk.sk_priority
    if not skb.mark:
        skb.mark = sk.sk_mark
    return ip_local_out(net, sk, skb)


@cited("net/ipv4/ip_output.c:ip_local_out")
def ip_local_out(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """A packet from here passes LOCAL_OUT and then takes its route."""
    err = __ip_local_out(net, sk, skb)
    if err == 1:
        err = dst_output(net, sk, skb)
    return err


@cited("net/ipv4/ip_output.c:__ip_local_out")
def __ip_local_out(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """Length and checksum are written, and the hook is asked: 1 if the packet goes on."""
    env = net.env
    iph = ip_hdr(skb)
    if env.kernel >= 612:
        env.count("IpOutRequests")
    # A super-segment may be longer than the field holds: then it says 0 (iph_set_totlen).
    iph.tot_len = skb.len if skb.len <= 0xFFFF else 0
    ip_send_check(iph)
    skb.protocol = ETH_P_IP
    return env.nf_hook(NF_INET_LOCAL_OUT, skb, None, dst(skb).dev, lambda x: dst_output(net, sk, x))


@cited("include/net/dst.h:dst_output")
def dst_output(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """The packet goes where its route's output function leads."""
    return OUTPUTS[dst(skb).output](net, sk, skb)


@cited("net/ipv4/route.c:ip_rt_bug")
def ip_rt_bug(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """A route of what came in was used for going out."""
    net.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
    return 0


@cited("net/core/dst.c:dst_discard_out")
def dst_discard_out(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """A route that swallows packets."""
    net.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
    return 0


# ---------------------------------------------------------------- towards the device


@cited("net/ipv4/ip_output.c:ip_output")
def ip_output(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """A packet to one host passes POST_ROUTING."""
    if net.env.kernel < 612:
        _count_out(net, skb)
    indev, dev = skb.dev, dst(skb).dev
    skb.dev = dev
    skb.protocol = ETH_P_IP
    return NF_HOOK_COND(
        net, NF_INET_POST_ROUTING, skb, indev, dev, lambda x: ip_finish_output(net, sk, x),
        not IPCB(skb).flags & IPSKB_REROUTED,
    )  # fmt: skip


@cited("net/ipv4/ip_output.c:ip_mc_output", "RFC 1112 6.1")
def ip_mc_output(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """A packet to a group or to all: this host hears it too, and beyond it goes only with a time to live."""
    env = net.env
    rt = dst(skb)
    if env.kernel < 612:
        _count_out(net, skb)
    dev = rt.dev
    skb.dev = dev
    skb.protocol = ETH_P_IP

    def loop_back() -> None:
        new = skb_clone(skb)
        NF_HOOK(net, NF_INET_POST_ROUTING, new, None, new.dev, lambda x: ip_mc_finish_output(net, sk, x))

    if rt.rt_flags & RTCF_MULTICAST:
        if sk_mc_loop(skb) and (rt.rt_flags & RTCF_LOCAL or not IPCB(skb).flags & IPSKB_FORWARDED):
            env.note("ip_mc_output", "a copy goes back to this host")
            loop_back()
        if ip_hdr(skb).ttl == 0:
            env.note("ip_mc_output", "ttl 0: it stays on this host")
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            return 0
    if rt.rt_flags & RTCF_BROADCAST:
        env.note("ip_mc_output", "a copy of the broadcast goes back to this host")
        loop_back()
    return NF_HOOK_COND(
        net, NF_INET_POST_ROUTING, skb, None, skb.dev, lambda x: ip_finish_output(net, sk, x),
        not IPCB(skb).flags & IPSKB_REROUTED,
    )  # fmt: skip


@cited("net/ipv4/ip_output.c:ip_mc_finish_output")
def ip_mc_finish_output(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """The host's own copy comes in again, with a route of its own that leads from loopback."""
    rt = copy(dst(skb))
    lo = net.env.dev_get_by_index(LOOPBACK_IFINDEX)
    if lo is not None:
        rt.dev, rt.rt_iif = lo, 0
        skb.dst = rt
    return net.env.dev_loopback_xmit(skb)


@cited("net/ipv4/ip_output.c:ip_finish_output")
def ip_finish_output(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """The packet passed the hook (no program is attached to the control group)."""
    return __ip_finish_output(net, sk, skb)


@cited("net/ipv4/ip_output.c:__ip_finish_output")
def __ip_finish_output(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """A super-segment, a packet that is too long, and one that fits go three ways."""
    env = net.env
    mtu = ip_skb_dst_mtu(net, sk, skb)
    if skb.is_gso:
        env.note("__ip_finish_output", f"a super-segment of {skb.gso_segs} segments of {skb.gso_size} bytes")
        return ip_finish_output_gso(net, sk, skb, mtu)
    most = IPCB(skb).frag_max_size
    if skb.len > mtu or most:
        env.note(
            "__ip_finish_output",
            f"{skb.len} > mtu {mtu}: ip_fragment" if skb.len > mtu else f"it came in fragments of {most}: ip_fragment",
        )
        return fragment.ip_fragment(net, sk, skb, mtu, ip_finish_output2)
    env.note("__ip_finish_output", f"{skb.len} fits mtu {mtu}")
    return ip_finish_output2(net, sk, skb)


@cited("net/ipv4/ip_output.c:ip_finish_output_gso")
def ip_finish_output_gso(net: Ip, sk: IpSock | None, skb: SkBuff, mtu: int) -> int:
    """Segments that fit are left to the device; else they are cut here, and each may be fragmented."""
    env = net.env
    if gso.skb_gso_validate_network_len(skb, mtu):
        return ip_finish_output2(net, sk, skb)
    env.note("ip_finish_output_gso", f"segments of {gso.skb_gso_network_seglen(skb)} > mtu {mtu}: they are cut here")
    # No kind of segmentation is left to the device.
    features = frozenset(f for f in env.netif_skb_features(skb) if not f.endswith("-segmentation"))
    segs = gso.skb_gso_segment(net, skb, features)
    if not isinstance(segs, list):
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return -errno.ENOMEM
    env.consume_skb(skb)
    ret = 0
    for seg in segs:
        err = fragment.ip_fragment(net, sk, seg, mtu, ip_finish_output2)
        if err and ret == 0:
            ret = err
    return ret


def _count_out(net: Ip, skb: SkBuff) -> None:
    net.env.count("IpOutRequests" if net.env.kernel < 612 else "IpOutTransmits")
    net.env.count("IpExtOutOctets", skb.len)


@cited("net/ipv4/ip_output.c:ip_finish_output2")
def ip_finish_output2(net: Ip, sk: IpSock | None, skb: SkBuff) -> int:
    """The packet gets its neighbour."""
    env = net.env
    rt = dst(skb)
    if rt.rt_type in (RTN_MULTICAST, RTN_BROADCAST):
        kind = "Mcast" if rt.rt_type == RTN_MULTICAST else "Bcast"
        env.count(f"IpExtOut{kind}Pkts")
        env.count(f"IpExtOut{kind}Octets", skb.len)
    if env.kernel >= 612:
        _count_out(net, skb)
    neigh = ip_neigh_for_gw(net, rt, skb)
    if neigh is None:
        env.note("ip_finish_output2", "no neighbour entry could be made")
        env.kfree_skb(skb, Reason.NEIGH_CREATEFAIL)
        return -errno.ENOBUFS
    return env.neigh_output(neigh, skb, False)


@cited("include/net/route.h:ip_neigh_for_gw")
def ip_neigh_for_gw(net: Ip, rt: Route, skb: SkBuff) -> Any:
    """The neighbour: the gateway, or the destination itself. Gateways of IPv6 are not modelled."""
    daddr = rt_nexthop(rt, ip_hdr(skb).daddr)
    net.env.note("ip_neigh_for_gw", ("gateway " if rt.rt_gw4 else "on the link: ") + ".".join(map(str, daddr)))
    return net.env.ip_neigh_gw4(rt.dev, daddr)


def rt_nexthop(rt: Route, daddr: bytes) -> bytes:
    """The next hop's address; source include/net/route.h:rt_nexthop."""
    return rt.rt_gw4.to_bytes(4, "big") if rt.rt_gw4 else daddr


OUTPUTS: Final = {
    "ip_output": ip_output,
    "ip_mc_output": ip_mc_output,
    "ip_rt_bug": ip_rt_bug,
    "dst_discard_out": dst_discard_out,
    "": dst_discard_out,
}
"""The functions that a route may name as its output."""
