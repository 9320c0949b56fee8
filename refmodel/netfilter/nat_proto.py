"""Rewriting a packet for NAT: addresses, ports and ids, with their checksums, and the packet that an ICMP error quotes.

A packet is made to look like the inverse of the tuple of the other direction, whichever way it goes; that is why what
one direction undergoes the other undoes.
"""

from refmodel.netfilter.conn import NfConn
from refmodel.netfilter.env import NetfilterEnv
from refmodel.netfilter.skb import (
    csum_replace4,
    inet_proto_csum_replace4,
    ip_hdrlen,
    nf_ip_checksum,
    put16,
    u16at,
    u32at,
)  # fmt: skip
from refmodel.netfilter.tuples import ICMP_INVMAP, IPPROTO_DCCP, IPPROTO_SCTP, IPPROTO_UDPLITE, Tuple, inverted
from refmodel.netfilter.uapi import (
    CTINFO2DIR,
    HOOK2MANIP,
    ICMP_REDIRECT,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NAT_DONE_MASK,
    NAT_MASK,
    NF_ACCEPT,
    NF_DROP,
    REPLY,
    Ips,
    Manip,
)  # fmt: skip
from refmodel.packet.wire import ones_sum
from refmodel.rule import NotModelled, cited
from refmodel.skbuff import CHECKSUM_PARTIAL, SkBuff

FILE = "net/netfilter/nf_nat_proto.c:"
CSUM_MANGLED_0 = 0xFFFF


@cited(FILE + "nf_csum_update", FILE + "nf_nat_ipv4_csum_update")
def nf_csum_update(skb: SkBuff, iphdroff: int, check: int, t: Tuple, manip: Manip) -> int:
    """A transport checksum after the address in its pseudo-header has changed."""
    at, new = (iphdroff + 12, t.src) if manip == Manip.SRC else (iphdroff + 16, t.dst)
    return inet_proto_csum_replace4(check, skb, u32at(skb.data, at), int.from_bytes(new, "big"), True)


@cited(FILE + "tcp_manip_pkt")
def tcp_manip_pkt(skb: SkBuff, iphdroff: int, hdroff: int, t: Tuple, manip: Manip) -> None:
    """A TCP header's port and checksum; one that is quoted and cut off has no checksum to mend."""
    data = skb.data
    at, port = (hdroff, t.sport) if manip == Manip.SRC else (hdroff + 2, t.dport)
    old = u16at(data, at)
    put16(data, at, port)
    if len(data) < hdroff + 20:
        return
    check = nf_csum_update(skb, iphdroff, u16at(data, hdroff + 16), t, manip)
    put16(data, hdroff + 16, inet_proto_csum_replace4(check, skb, old, port, False))


@cited(FILE + "udp_manip_pkt", FILE + "__udp_manip_pkt")
def udp_manip_pkt(skb: SkBuff, iphdroff: int, hdroff: int, t: Tuple, manip: Manip) -> None:
    """A UDP header's port and, if it has one, its checksum."""
    data = skb.data
    at, port = (hdroff, t.sport) if manip == Manip.SRC else (hdroff + 2, t.dport)
    check = u16at(data, hdroff + 6)
    if check:
        check = nf_csum_update(skb, iphdroff, check, t, manip)
        check = inet_proto_csum_replace4(check, skb, u16at(data, at), port, False)
        put16(data, hdroff + 6, check or CSUM_MANGLED_0)
    put16(data, at, port)


@cited(FILE + "icmp_manip_pkt")
def icmp_manip_pkt(skb: SkBuff, hdroff: int, t: Tuple) -> None:
    """The id of a request or answer."""
    data = skb.data
    if data[hdroff] not in ICMP_INVMAP:
        return
    check = inet_proto_csum_replace4(u16at(data, hdroff + 2), skb, u16at(data, hdroff + 4), t.sport, False)
    put16(data, hdroff + 2, check)
    put16(data, hdroff + 4, t.sport)


@cited(FILE + "l4proto_manip_pkt")
def l4proto_manip_pkt(skb: SkBuff, iphdroff: int, hdroff: int, t: Tuple, manip: Manip) -> bool:
    """The transport header by its protocol; False if it is cut off. One that isn't known stays as it is."""
    if t.protonum in (IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP):
        raise NotModelled(f"NAT of protocol {t.protonum}")
    if t.protonum in (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP) and len(skb.data) < hdroff + 8:
        return False
    if t.protonum == IPPROTO_TCP:
        tcp_manip_pkt(skb, iphdroff, hdroff, t, manip)
    elif t.protonum == IPPROTO_UDP:
        udp_manip_pkt(skb, iphdroff, hdroff, t, manip)
    elif t.protonum == IPPROTO_ICMP:
        icmp_manip_pkt(skb, hdroff, t)
    return True


@cited(FILE + "nf_nat_ipv4_manip_pkt")
def nf_nat_ipv4_manip_pkt(skb: SkBuff, iphdroff: int, t: Tuple, manip: Manip) -> bool:
    """One end of the packet at `iphdroff`: transport header, address, IP checksum."""
    data = skb.data
    if len(data) < iphdroff + 20:
        return False
    hdroff = iphdroff + (data[iphdroff] & 0xF) * 4
    if not l4proto_manip_pkt(skb, iphdroff, hdroff, t, manip):
        return False
    at, new = (iphdroff + 12, t.src) if manip == Manip.SRC else (iphdroff + 16, t.dst)
    check = csum_replace4(u16at(data, iphdroff + 10), u32at(data, at), int.from_bytes(new, "big"))
    put16(data, iphdroff + 10, check)
    data[at : at + 4] = new
    return True


@cited(FILE + "nf_nat_manip_pkt")
def nf_nat_manip_pkt(env: NetfilterEnv, skb: SkBuff, ct: NfConn, mtype: Manip, direction: int) -> int:
    """One end of a packet: as the inverse of what comes from the other direction."""
    target = inverted(ct.tuplehash[REPLY - direction])
    if not nf_nat_ipv4_manip_pkt(skb, 0, target, mtype):
        return NF_DROP
    env.note("nf_nat_manip_pkt", f"{mtype.name} {'reply' if direction else 'original'}: now {target}")
    return NF_ACCEPT


@cited(FILE + "nf_nat_icmp_reply_translation")
def nf_nat_icmp_reply_translation(env: NetfilterEnv, skb: SkBuff, ct: NfConn, ctinfo: int, hooknum: int) -> bool:
    """An ICMP error: the quoted packet is turned back into what its sender sent, then the error itself is rewritten."""
    direction = CTINFO2DIR(ctinfo)
    manip = HOOK2MANIP(hooknum)
    hdrlen = ip_hdrlen(skb)
    if len(skb.data) < hdrlen + 28:
        return False
    if nf_ip_checksum(skb, hooknum, hdrlen, IPPROTO_ICMP):
        env.note("nf_nat_icmp_reply_translation", "wrong checksum: dropped")
        return False
    untouched = ct.status & NAT_DONE_MASK == NAT_DONE_MASK and not ct.status & NAT_MASK
    if skb.data[hdrlen] == ICMP_REDIRECT and not untouched:
        env.note("nf_nat_icmp_reply_translation", "a redirect about a connection with NAT: dropped")
        return False
    bit = Ips.SRC_NAT if manip == Manip.SRC else Ips.DST_NAT
    if direction == REPLY:
        bit ^= NAT_MASK
    if not ct.status & bit:
        return True
    other = ct.tuplehash[REPLY - direction]
    inner = Manip.DST if manip == Manip.SRC else Manip.SRC
    if not nf_nat_ipv4_manip_pkt(skb, hdrlen + 8, other, inner):
        return False
    if skb.ip_summed != CHECKSUM_PARTIAL:
        put16(skb.data, hdrlen + 2, 0)
        put16(skb.data, hdrlen + 2, ones_sum(bytes(skb.data[hdrlen:])) ^ 0xFFFF)
    target = inverted(other)._replace(protonum=IPPROTO_ICMP)
    env.note("nf_nat_icmp_reply_translation", f"quoted packet {inner.name}: {other}; the error {manip.name}: {target}")
    return nf_nat_ipv4_manip_pkt(skb, 0, target, manip)
