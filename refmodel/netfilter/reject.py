"""What answers a packet that a rule rejects: an ICMP error through icmp_send, or a TCP reset of its own making."""

from typing import TYPE_CHECKING, Final

from refmodel.netfilter import proto
from refmodel.netfilter.env import Flow, NetfilterEnv
from refmodel.netfilter.nat import ip_route_me_harder
from refmodel.netfilter.skb import daddr, ip_hdrlen, nf_ip_checksum, put16, saddr, u16at, u32at
from refmodel.netfilter.uapi import (
    ICMP_DEST_UNREACH,
    IP_DF,
    IP_OFFSET,
    IPPROTO_TCP,
    IPPROTO_UDP,
    RTCF_BROADCAST,
    RTCF_MULTICAST,
)  # fmt: skip
from refmodel.packet.wire import pseudo_header
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SkBuff

if TYPE_CHECKING:
    from refmodel.netfilter.conntrack import Conntrack

FILE: Final = "net/ipv4/netfilter/nf_reject_ipv4.c:"
OTHER_CHECKS: Final = (47, 51, 50, 132, 136)  # GRE, AH, ESP, SCTP, UDPLITE
DCCP: Final = 33
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@cited("include/net/netfilter/nf_reject.h:nf_reject_verify_csum")
def nf_reject_verify_csum(skb: SkBuff, dataoff: int, protocol: int) -> bool:
    """Whether the packet's protocol has the Internet checksum over all of it, and the packet has one."""
    if protocol == IPPROTO_UDP:
        return len(skb.data) < dataoff + 8 or u16at(skb.data, dataoff + 6) != 0
    return protocol not in (*OTHER_CHECKS, DCCP)


@cited(FILE + "nf_send_unreach")
def nf_send_unreach(env: NetfilterEnv, skb: SkBuff, code: int, hook: int) -> None:
    """Sends ICMP destination unreachable, unless it is a later fragment or its checksum is wrong."""
    if u16at(skb.data, 6) & IP_OFFSET:
        return
    if skb.dst is None and nf_reject_fill_skb_dst(env, skb) < 0:
        return
    dataoff, protocol = ip_hdrlen(skb), skb.data[9]
    trusted = skb.ip_summed == CHECKSUM_UNNECESSARY or not nf_reject_verify_csum(skb, dataoff, protocol)
    if trusted or not nf_ip_checksum(skb, hook, dataoff, protocol):
        env.note("nf_send_unreach", f"code {code}")
        env.icmp_send(skb, ICMP_DEST_UNREACH, code, 0)


@cited(FILE + "nf_reject_fill_skb_dst")
def nf_reject_fill_skb_dst(env: NetfilterEnv, skb: SkBuff) -> int:
    """A packet that has no route yet gets the one to its sender."""
    rt = env.ip_route_output_key(Flow(daddr=saddr(skb)))
    if rt is None:
        return -1
    skb.dst = rt
    return 0


@cited(FILE + "nf_reject_ip_tcphdr_get")
def nf_reject_ip_tcphdr_get(skb: SkBuff, hook: int) -> bytes:
    """The header of a segment that may be answered with a reset; empty if it may not."""
    at = ip_hdrlen(skb)
    if u16at(skb.data, 6) & IP_OFFSET or skb.data[9] != IPPROTO_TCP or len(skb.data) < at + 20:
        return b""
    if skb.data[at + 13] & RST or nf_ip_checksum(skb, hook, at, IPPROTO_TCP):
        return b""
    return bytes(skb.data[at : at + 20])


@cited(FILE + "nf_reject_iphdr_put")
def nf_reject_iphdr_put(skb: SkBuff, ttl: int, length: int) -> bytearray:
    """The IP header of an answer: addresses turned round, DF, id 0."""
    head = bytearray(20)
    head[0] = 0x45
    put16(head, 2, length)
    put16(head, 6, IP_DF)
    head[8], head[9] = ttl, IPPROTO_TCP
    head[12:16], head[16:20] = daddr(skb), saddr(skb)
    return head


@cited(FILE + "nf_reject_ip_tcphdr_put")
def nf_reject_ip_tcphdr_put(skb: SkBuff, oth: bytes, ip: bytearray) -> bytearray:
    """The reset: where the peer's ACK says, or acknowledging what it sent; its checksum is left to the device."""
    th = bytearray(20)
    th[0:2], th[2:4] = oth[2:4], oth[0:2]
    th[12] = 5 << 4
    if oth[13] & ACK:
        th[4:8] = oth[8:12]
        th[13] = RST
    else:
        flags = bool(oth[13] & SYN) + bool(oth[13] & FIN)
        ack = u32at(oth, 4) + flags + len(skb.data) - ip_hdrlen(skb) - (oth[12] >> 4) * 4
        th[8:12] = (ack & 0xFFFFFFFF).to_bytes(4, "big")
        th[13] = RST | ACK
    put16(th, 16, pseudo_header(bytes(ip[12:16]), bytes(ip[16:20]), IPPROTO_TCP, 20))
    return th


@cited(FILE + "nf_send_reset", "RFC 9293 3.5.2")
def nf_send_reset(env: NetfilterEnv, ct: "Conntrack", skb: SkBuff, hook: int) -> None:
    """Answers a segment with a reset, which belongs to the same connection and closes it."""
    oth = nf_reject_ip_tcphdr_get(skb, hook)
    if not oth:
        env.note("nf_send_reset", "no reset: a reset itself, a fragment, or a wrong checksum")
        return
    if skb.dst is None and nf_reject_fill_skb_dst(env, skb) < 0:
        return
    if skb.dst.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        return
    ip = nf_reject_iphdr_put(skb, skb.dst.hoplimit or env.sysctl_ip_default_ttl(), 40)
    new = SkBuff(bytes(ip + nf_reject_ip_tcphdr_put(skb, oth, ip)), by="nf_send_reset")
    new.transport = 20
    new.ip_summed = CHECKSUM_PARTIAL
    new.dst = skb.dst
    new.mark = skb.mark if env.sysctl_fwmark_reflect() else 0
    if ip_route_me_harder(env, new):
        return
    ct.nf_ct_attach(new, skb)
    proto.nf_conntrack_tcp_set_closing(ct, skb.nfct)
    env.note("nf_send_reset", "reset sent")
    env.ip_local_out(new)
