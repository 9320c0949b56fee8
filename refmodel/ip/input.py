"""A packet comes in: the header is checked, the way is found, the transport protocol gets it.

The law: what is wrong with the header is found in the kernel's order, so that one counter and one reason stand for
it; bytes behind the packet's own length are cut off before anybody else looks.
"""

from enum import IntEnum
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip import listed, options, reasm
from refmodel.ip.const import (
    ICMP_DEST_UNREACH,
    ICMP_PROT_UNREACH,
    INET_ECN_MASK,
    IP_DEFRAG_LOCAL_DELIVER,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPSKB_NOPOLICY,
    NET_RX_DROP,
    NET_RX_SUCCESS,
    NF_INET_LOCAL_IN,
    NF_INET_PRE_ROUTING,
    RTN_BROADCAST,
    RTN_MULTICAST,
)
from refmodel.ip.forward import ip_error, ip_forward
from refmodel.ip.header import ip_hdr, ip_is_fragment
from refmodel.ip.icmp import icmp_send
from refmodel.ip.net import IPCB, NF_HOOK, Ip, Ipcb, dst
from refmodel.netdevice import NetDevice
from refmodel.packet.wire import ones_sum
from refmodel.rule import cited, pure
from refmodel.skbuff import (
    CHECKSUM_COMPLETE,
    CHECKSUM_NONE,
    PACKET_BROADCAST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SkBuff,
)

ECN_COUNTERS: Final = ("IpExtInNoECTPkts", "IpExtInECT1Pkts", "IpExtInECT0Pkts", "IpExtInCEPkts")


class Header(IntEnum):
    """What ip_rcv_core finds, in its order."""

    OTHERHOST = 0
    SHORT = 1  # fewer than 20 bytes
    VERSION = 2  # not 4, or fewer than 5 words
    SHORT_OPTIONS = 3  # the header is longer than what came
    CSUM = 4
    TRUNCATED = 5  # the packet is longer than what came
    TOT_LEN = 6  # the packet is shorter than its header
    GOOD = 7


@pure
def header_verdict(otherhost: bool, size: int, version: int, ihl: int, csum: int, tot_len: int) -> Header:
    """The first thing that is wrong with a header of `ihl` words in a packet of `size` bytes.

    `csum` is the ones' complement sum of the header: 0xFFFF if it is right.
    """
    return (
        Header.OTHERHOST
        if otherhost
        else Header.SHORT
        if size < 20
        else Header.VERSION
        if ihl < 5 or version != 4
        else Header.SHORT_OPTIONS
        if size < 4 * ihl
        else Header.CSUM
        if csum != 0xFFFF
        else Header.TRUNCATED
        if size < tot_len
        else Header.TOT_LEN
        if tot_len < 4 * ihl
        else Header.GOOD
    )


def pskb_trim_rcsum(skb: SkBuff, size: int) -> None:
    """Cuts off what lies behind `size` bytes; source include/linux/skbuff.h:pskb_trim_rcsum."""
    if len(skb.data) > size:
        del skb.data[size:]
        if skb.ip_summed == CHECKSUM_COMPLETE:
            skb.ip_summed = CHECKSUM_NONE


@cited("net/ipv4/ip_input.c:ip_rcv_core", "RFC 1122 3.2.1", "RFC 1812 5.2.2")
def ip_rcv_core(net: Ip, skb: SkBuff) -> SkBuff | None:
    """The header is checked and the packet cut to its length; None if it was dropped."""
    env = net.env
    data = skb.data
    size = len(data)
    iph = ip_hdr(skb)
    whole = size >= 20
    ihl = iph.ihl if whole else 0
    csum = ones_sum(bytes(data[: 4 * ihl])) if whole and size >= 4 * ihl else 0
    verdict = header_verdict(
        skb.pkt_type == PACKET_OTHERHOST,
        size,
        iph.version if whole else 0,
        ihl,
        csum,
        iph.tot_len if whole else 0,
    )
    if verdict == Header.OTHERHOST:
        env.note("ip_rcv_core", "for another host at this link: PACKET_OTHERHOST")
        env.kfree_skb(skb, Reason.OTHERHOST)
        return None
    env.count("IpInReceives")
    env.count("IpExtInOctets", size)
    if verdict > Header.VERSION:
        env.count(ECN_COUNTERS[iph.tos & INET_ECN_MASK], max(1, skb.gso_segs))
    if verdict == Header.TRUNCATED:
        env.note("ip_rcv_core", f"{size} bytes came of {iph.tot_len}")
        env.count("IpExtInTruncatedPkts")
        env.kfree_skb(skb, Reason.PKT_TOO_SMALL)
        return None
    if verdict != Header.GOOD:
        env.note("ip_rcv_core", f"header is not valid: {verdict.name}")
        if verdict == Header.CSUM:
            env.count("IpExtInCsumErrors")
        env.count("IpInHdrErrors")
        env.kfree_skb(skb, Reason.IP_CSUM if verdict == Header.CSUM else Reason.IP_INHDR)
        return None
    if size > iph.tot_len:
        env.note("ip_rcv_core", f"{size - iph.tot_len} bytes of padding are cut off")
        pskb_trim_rcsum(skb, iph.tot_len)
    skb.transport = iph.hdrlen
    skb.cb = Ipcb(skb.skb_iif)
    return skb


@cited("net/ipv4/ip_input.c:ip_rcv")
def ip_rcv(net: Ip, skb: SkBuff, dev: NetDevice) -> int:
    """An IPv4 packet came in over a device."""
    if ip_rcv_core(net, skb) is None:
        return NET_RX_DROP
    return NF_HOOK(net, NF_INET_PRE_ROUTING, skb, dev, None, lambda x: ip_rcv_finish(net, x))


@cited("net/ipv4/ip_input.c:ip_rcv_finish")
def ip_rcv_finish(net: Ip, skb: SkBuff) -> int:
    """The packet passed the first hook: its way is found, and it takes it."""
    dev = skb.dev
    assert dev is not None
    ret = ip_rcv_finish_core(net, skb, dev)
    if ret != NET_RX_DROP:
        ret = dst_input(net, skb)
    return ret


@cited("net/ipv4/ip_input.c:ip_rcv_options")
def ip_rcv_options(net: Ip, skb: SkBuff, dev: NetDevice) -> Reason | None:
    """Options are read; a reason if the packet ends here."""
    env = net.env
    opt = IPCB(skb).opt
    opt.optlen = ip_hdr(skb).hdrlen - 20
    if options.ip_options_compile(net, opt, skb):
        env.count("IpInHdrErrors")
        return Reason.IP_INHDR if env.kernel >= 614 else Reason.NOT_SPECIFIED
    if opt.srr:
        in_dev = env.in_dev(dev)
        if in_dev is not None and not in_dev.accept_source_route:
            env.note("ip_rcv_options", "a source route, and the device accepts none")
            return Reason.NOT_SPECIFIED
        if options.ip_options_rcv_srr(net, skb, dev):
            return Reason.NOT_SPECIFIED
    return None


@cited("net/ipv4/ip_input.c:ip_rcv_finish_core", "RFC 1122 3.3.6")
def ip_rcv_finish_core(net: Ip, skb: SkBuff, dev: NetDevice, hint: SkBuff | None = None) -> int:
    """The route is found: by the packet before it in a list (`hint`), by its connection, or by its addresses."""
    env = net.env
    iph = ip_hdr(skb)
    if hint is not None:
        refused = listed.ip_route_use_hint(net, skb, hint)
        if refused is not None:
            return _drop_error(net, skb, refused)
    if env.ip.ip_early_demux and skb.dst is None and skb.sk is None and not ip_is_fragment(iph):
        if iph.protocol == IPPROTO_TCP:
            if env.ip.tcp_early_demux:
                env.tcp_v4_early_demux(skb)
        elif iph.protocol == IPPROTO_UDP and env.ip.udp_early_demux:
            refused = env.udp_v4_early_demux(skb)
            if refused is not None:
                return _drop_error(net, skb, refused)
    if skb.dst is None:
        refused = env.ip_route_input_noref(skb, iph.daddr, iph.saddr, iph.tos, dev)
        if refused is not None:
            return _drop_error(net, skb, refused)
    else:
        env.note("ip_rcv_finish_core", "the packet has its route already")
        in_dev = env.in_dev(dev)
        if in_dev is not None and in_dev.nopolicy:
            IPCB(skb).flags |= IPSKB_NOPOLICY
    if iph.ihl > 5:
        refused = ip_rcv_options(net, skb, dev)
        if refused is not None:
            env.kfree_skb(skb, refused)
            return NET_RX_DROP
    rt = dst(skb)
    if rt.rt_type == RTN_MULTICAST:
        env.count("IpExtInMcastPkts")
        env.count("IpExtInMcastOctets", skb.len)
    elif rt.rt_type == RTN_BROADCAST:
        env.count("IpExtInBcastPkts")
        env.count("IpExtInBcastOctets", skb.len)
    elif skb.pkt_type in (PACKET_BROADCAST, PACKET_MULTICAST):
        in_dev = env.in_dev(dev)
        if in_dev is not None and in_dev.drop_unicast_in_l2_multicast:
            env.note("ip_rcv_finish_core", "to one host, in a frame to many: drop_unicast_in_l2_multicast")
            env.kfree_skb(skb, Reason.UNICAST_IN_L2_MULTICAST)
            return NET_RX_DROP
    env.note("ip_rcv_finish_core", f"route type {rt.rt_type}: {rt.input}")
    return NET_RX_SUCCESS


def _drop_error(net: Ip, skb: SkBuff, reason: Reason) -> int:
    if reason == Reason.IP_RPFILTER:
        net.env.count("TcpExtIPReversePathFilter")
    net.env.note("ip_rcv_finish_core", f"no way in: {reason}")
    net.env.kfree_skb(skb, reason)
    return NET_RX_DROP


@cited("include/net/dst.h:dst_input")
def dst_input(net: Ip, skb: SkBuff) -> int:
    """The packet goes where its route's input function leads."""
    return INPUTS[dst(skb).input](net, skb)


@cited("net/core/dst.c:dst_discard")
def dst_discard(net: Ip, skb: SkBuff) -> int:
    """A route that swallows packets: a blackhole."""
    net.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
    return 0


@cited("net/ipv4/ip_input.c:ip_local_deliver", "RFC 791 3.2")
def ip_local_deliver(net: Ip, skb: SkBuff) -> int:
    """The packet is for this host: it is put together if it is in parts, and passes the hook."""
    if ip_is_fragment(ip_hdr(skb)) and reasm.ip_defrag(net, skb, IP_DEFRAG_LOCAL_DELIVER):
        return 0
    return NF_HOOK(net, NF_INET_LOCAL_IN, skb, skb.dev, None, lambda x: ip_local_deliver_finish(net, x))


@cited("net/ipv4/ip_input.c:ip_local_deliver_finish")
def ip_local_deliver_finish(net: Ip, skb: SkBuff) -> int:
    """The header is done with; the transport header comes next."""
    iph = ip_hdr(skb)
    skb.transport = iph.hdrlen
    ip_protocol_deliver_rcu(net, skb, iph.protocol)
    return 0


@cited("net/ipv4/ip_input.c:ip_protocol_deliver_rcu", "RFC 1122 3.2.2.1")
def ip_protocol_deliver_rcu(net: Ip, skb: SkBuff, protocol: int) -> None:
    """Raw sockets get copies, the protocol gets the packet; if there is neither, its sender is told."""
    env = net.env
    while True:
        raw = env.raw_local_deliver(skb, protocol)
        ipprot = env.inet_protos.get(protocol)
        if ipprot is None:
            break
        if not ipprot.no_policy:
            env.nf_reset_ct(skb)
        env.note("ip_protocol_deliver_rcu", f"protocol {protocol}")
        ret = ipprot.handler(skb)
        if ret >= 0:
            env.count("IpInDelivers")
            return
        protocol = -ret
    if raw:
        env.note("ip_protocol_deliver_rcu", f"protocol {protocol}: only raw sockets have it")
        env.count("IpInDelivers")
        env.consume_skb(skb)
        return
    env.note("ip_protocol_deliver_rcu", f"protocol {protocol}: nobody has it")
    env.count("IpInUnknownProtos")
    icmp_send(net, skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)
    env.kfree_skb(skb, Reason.IP_NOPROTO)


INPUTS: Final = {
    "ip_local_deliver": ip_local_deliver,
    "ip_forward": ip_forward,
    "ip_error": ip_error,
    "dst_discard": dst_discard,
    "": dst_discard,
}
"""The functions that a route may name as its input."""
