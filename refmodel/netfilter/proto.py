"""The protocols' trackers: TCP's glue to its proved machine, UDP, ICMP and its errors, and all others."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from refmodel.netfilter import tcp
from refmodel.netfilter.conn import NfConn, nf_ct_set
from refmodel.netfilter.core import NfHookState
from refmodel.netfilter.params import SECOND
from refmodel.netfilter.skb import daddr, nf_ip_checksum, u16at, u32at
from refmodel.netfilter.tcp_state import TCP_MAX_WSCALE, Ct, CtTcp, Idx, Invalid, Kill, Refresh, Reopen, Segment
from refmodel.netfilter.tuples import nf_ct_get_tuplepr, nf_ct_invert_tuple
from refmodel.netfilter.uapi import (
    CTINFO2DIR,
    ICMP_ADDRESS,
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_INFO_REQUEST,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMP,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NF_ACCEPT,
    NF_DROP,
    NF_INET_PRE_ROUTING,
    NF_REPEAT,
    NR_ICMP_TYPES,
    REPLY,
    Info,
    Ips,
)  # fmt: skip
from refmodel.rule import cited
from refmodel.skbuff import SkBuff
from refmodel.types import after

if TYPE_CHECKING:
    from refmodel.netfilter.conntrack import Conntrack

TCP_C: Final = "net/netfilter/nf_conntrack_proto_tcp.c:"
FIN, SYN, RST, ACK, URG = 0x01, 0x02, 0x04, 0x10, 0x20
VALID_FLAGS: Final = frozenset(
    {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}
)  # fmt: skip
ICMP_ERRORS: Final = (ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB)
ICMP_NEW: Final = (ICMP_ECHO, ICMP_TIMESTAMP, ICMP_INFO_REQUEST, ICMP_ADDRESS)
TS_ALIGNED: Final = b"\x01\x01\x08\x0a"


@cited(TCP_C + "get_conntrack_index")
def get_conntrack_index(flags: int) -> Idx:
    """The kind of a segment by its flags."""
    if flags & RST:
        return Idx.RST
    if flags & SYN:
        return Idx.SYNACK if flags & ACK else Idx.SYN
    if flags & FIN:
        return Idx.FIN
    return Idx.ACK if flags & ACK else Idx.NONE


def options(raw: bytes) -> list[tuple[int, bytes]]:
    """(kind, value) of TCP options, as far as they can be read; source nf_conntrack_proto_tcp.c:tcp_options."""
    found = []
    at = 0
    while at < len(raw):
        kind = raw[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if len(raw) - at < 2 or not 2 <= raw[at + 1] <= len(raw) - at:
            break
        found.append((kind, raw[at + 2 : at + raw[at + 1]]))
        at += raw[at + 1]
    return found


@cited(TCP_C + "tcp_sack")
def tcp_sack(raw: bytes, ack: int) -> int:
    """The highest right edge of the SACK blocks that lies after the acknowledgement, else the acknowledgement."""
    sack = ack
    if len(raw) == 12 and raw[:4] == TS_ALIGNED:
        return sack
    for kind, value in options(raw):
        if kind == 5 and len(value) >= 8 and len(value) % 8 == 0:
            for i in range(0, len(value), 8):
                edge = u32at(value, i + 4)
                if after(edge, sack):
                    sack = edge
            break
    return sack


def segment(skb: SkBuff, dataoff: int, reply: bool, expires: int, fixed: bool) -> Segment:
    """A packet's TCP header as the tracker's event."""
    data = skb.data
    doff = (data[dataoff + 12] >> 4) * 4
    flags = data[dataoff + 13]
    seq, ack = u32at(data, dataoff + 4), u32at(data, dataoff + 8)
    raw = bytes(data[dataoff + 20 : dataoff + doff])
    length = len(data) - dataoff - doff + bool(flags & SYN) + bool(flags & FIN)
    known = options(raw)
    scales = [min(v[0], TCP_MAX_WSCALE) for k, v in known if k == 3 and len(v) == 1]
    return Segment(
        index=get_conntrack_index(flags),
        reply=reply,
        ack=bool(flags & ACK),
        seq=seq,
        end=seq + length & 0xFFFFFFFF,
        ack_seq=ack,
        sack=tcp_sack(raw, ack),
        win=u16at(data, dataoff + 14),
        options=bool(raw),
        window_scale=bool(scales),
        scale=scales[-1] if scales else 0,
        sack_perm=any(k == 4 and not v for k, v in known),
        expires=expires,
        fixed=fixed,
    )


def checked(net: "Conntrack", state: NfHookState) -> bool:
    """Checksums are verified of what comes from outside, unless nf_conntrack_checksum is off."""
    return net.params.sysctl_checksum and state.hook == NF_INET_PRE_ROUTING


@cited(TCP_C + "tcp_error")
def tcp_error(net: "Conntrack", skb: SkBuff, dataoff: int, state: NfHookState) -> str:
    """Why a segment can't be one: cut off, a wrong checksum from outside, impossible flags; empty if it can."""
    doff = (skb.data[dataoff + 12] >> 4) * 4
    if doff < 20 or len(skb.data) - dataoff < doff:
        return "truncated packet"
    if checked(net, state) and nf_ip_checksum(skb, state.hook, dataoff, IPPROTO_TCP):
        return "bad checksum"
    if skb.data[dataoff + 13] & (FIN | SYN | RST | ACK | URG) not in VALID_FLAGS:
        return "invalid tcp flag combination"
    return ""


Fired = Callable[[CtTcp, Segment, Any], tuple[CtTcp, tuple[Any, ...]]]
BY_ACT: Final[dict[tcp.Act, Fired]] = {
    tcp.Act.NEW_REFUSED: tcp.tcp_packet_new_refused,
    tcp.Act.REOPEN: tcp.tcp_packet_reopened,
    tcp.Act.IGNORE: tcp.tcp_packet_ignored,
    tcp.Act.INVALID: tcp.tcp_packet_invalid,
    tcp.Act.RST_INVALID: tcp.tcp_packet_invalid,
    tcp.Act.CHALLENGE: tcp.tcp_packet_challenge_ack,
    tcp.Act.BELIEVED: tcp.tcp_packet_believed,
}


def rule_of(s: CtTcp, e: Segment, p: Any) -> Fired:
    """The one rule that is enabled."""
    act = tcp.act(s, e, p)
    if act != tcp.Act.WINDOW:
        return BY_ACT[act]
    if tcp.accepts(s, e, p):
        return tcp.tcp_packet_accepted
    return tcp.tcp_packet_window_ignored if tcp.ignored_by_window(s, e) else tcp.tcp_packet_window_invalid


@cited(TCP_C + "nf_conntrack_tcp_packet")
def nf_conntrack_tcp_packet(
    net: "Conntrack", ct: NfConn, skb: SkBuff, dataoff: int, ctinfo: int, state: NfHookState
) -> int:
    """A segment moves its connection: ACCEPT, -ACCEPT if it is INVALID, -REPEAT if it begins a new one."""
    if len(skb.data) < dataoff + 20:
        return -NF_ACCEPT
    why = tcp_error(net, skb, dataoff, state)
    if why:
        net.env.note("nf_conntrack_tcp_packet", f"INVALID: {why}")
        return -NF_ACCEPT
    expires = net.nf_ct_expires(ct) * SECOND // net.env.hz if ct.confirmed else 0
    s = ct.tcp
    e = segment(skb, dataoff, CTINFO2DIR(ctinfo) == REPLY, expires, bool(ct.status & Ips.FIXED_TIMEOUT))
    fired = rule_of(s, e, net.tcp_params)
    t, effects = fired(s, e, net.tcp_params)
    ct.tcp = t
    if t.assured:
        ct.status |= Ips.ASSURED
    said = effects[0]
    name = fired.__name__.removeprefix("tcp_packet_")
    where = f"{e.index.name} in {s.state.name}"
    if isinstance(said, Invalid):
        if said.lowered:
            ct.timeout = net.env.jiffies + net.ticks(net.tcp_params.unacknowledged)
        net.env.note("nf_conntrack_tcp_packet", f"INVALID: {where}: {name}")
        return -NF_ACCEPT
    if isinstance(said, Reopen):
        return -NF_REPEAT if net.nf_ct_delete(ct) else NF_DROP
    net.env.note("nf_conntrack_tcp_packet", f"{where}: {name}: {t.state.name}")
    if isinstance(said, Kill):
        net.nf_ct_kill_acct(ct, ctinfo, skb)
    elif isinstance(said, Refresh):
        net.nf_ct_refresh_acct(ct, ctinfo, skb, said.timeout)
    return NF_ACCEPT


@cited(TCP_C + "nf_conntrack_tcp_set_closing")
def nf_conntrack_tcp_set_closing(net: "Conntrack", ct: NfConn | None) -> None:
    """A reset that is sent from here closes the connection of what it answers."""
    if ct is None or not ct.confirmed or ct.protonum != IPPROTO_TCP:
        return
    old = ct.tcp.state
    ct.tcp = replace(ct.tcp, state=Ct.CLOSE)
    if old == Ct.CLOSE or ct.status & Ips.FIXED_TIMEOUT:
        return
    ct.timeout = net.env.jiffies + net.ticks(net.tcp_params.close)


@cited("net/netfilter/nf_conntrack_proto_udp.c:udp_error")
def udp_error(net: "Conntrack", skb: SkBuff, dataoff: int, state: NfHookState) -> str:
    """Why a datagram can't be one; empty if it can."""
    udplen = len(skb.data) - dataoff
    if udplen < 8:
        return "short packet"
    length = u16at(skb.data, dataoff + 4)
    if length > udplen or length < 8:
        return "truncated/malformed packet"
    if u16at(skb.data, dataoff + 6) == 0:
        return ""
    if checked(net, state) and nf_ip_checksum(skb, state.hook, dataoff, IPPROTO_UDP):
        return "bad checksum"
    return ""


@cited("net/netfilter/nf_conntrack_proto_udp.c:nf_conntrack_udp_packet")
def nf_conntrack_udp_packet(
    net: "Conntrack", ct: NfConn, skb: SkBuff, dataoff: int, ctinfo: int, state: NfHookState
) -> int:
    """A datagram: answered flows that last two seconds are streams, ASSURED and kept longer."""
    why = udp_error(net, skb, dataoff, state)
    if why:
        net.env.note("nf_conntrack_udp_packet", f"INVALID: {why}")
        return -NF_ACCEPT
    status = ct.status
    if not status & Ips.CONFIRMED:
        ct.stream_ts = 2 * net.env.hz + net.env.jiffies
    if not status & Ips.SEEN_REPLY:
        net.nf_ct_refresh_acct(ct, ctinfo, skb, net.params.udp_timeout)
        return NF_ACCEPT
    lasts = net.env.jiffies > ct.stream_ts
    net.nf_ct_refresh_acct(ct, ctinfo, skb, net.params.udp_timeout_stream if lasts else net.params.udp_timeout)
    if lasts and not status & Ips.NAT_CLASH:
        ct.status |= Ips.ASSURED
    return NF_ACCEPT


@cited("net/netfilter/nf_conntrack_proto_icmp.c:nf_conntrack_icmp_packet")
def nf_conntrack_icmp_packet(net: "Conntrack", ct: NfConn, skb: SkBuff, ctinfo: int) -> int:
    """A request or its answer; nothing else makes a connection."""
    kind = ct.orig.dport >> 8
    if kind not in ICMP_NEW:
        net.env.note("nf_conntrack_icmp_packet", f"INVALID: type {kind} can't begin a connection")
        return -NF_ACCEPT
    net.nf_ct_refresh_acct(ct, ctinfo, skb, net.params.icmp_timeout)
    return NF_ACCEPT


@cited("net/netfilter/nf_conntrack_core.c:generic_packet")
def generic_packet(net: "Conntrack", ct: NfConn, skb: SkBuff, ctinfo: int) -> int:
    """A protocol without a tracker: addresses are all."""
    net.nf_ct_refresh_acct(ct, ctinfo, skb, net.params.generic_timeout)
    return NF_ACCEPT


@cited("net/netfilter/nf_conntrack_proto_icmp.c:nf_conntrack_icmpv4_error")
def nf_conntrack_icmpv4_error(net: "Conntrack", skb: SkBuff, dataoff: int, state: NfHookState) -> int:
    """An ICMP message: an error is RELATED to what it quotes; ACCEPT if it is to be looked up as any other packet."""
    if len(skb.data) < dataoff + 8:
        net.env.note("nf_conntrack_icmpv4_error", "INVALID: short packet")
        return -NF_ACCEPT
    if checked(net, state) and nf_ip_checksum(skb, state.hook, dataoff, IPPROTO_ICMP):
        net.env.note("nf_conntrack_icmpv4_error", "INVALID: bad hw icmp checksum")
        return -NF_ACCEPT
    kind = skb.data[dataoff]
    if kind > NR_ICMP_TYPES:
        net.env.note("nf_conntrack_icmpv4_error", f"INVALID: type {kind}")
        return -NF_ACCEPT
    if kind not in ICMP_ERRORS:
        return NF_ACCEPT
    return nf_conntrack_inet_error(net, skb, dataoff + 8)


@cited("net/netfilter/nf_conntrack_proto_icmp.c:nf_conntrack_inet_error")
def nf_conntrack_inet_error(net: "Conntrack", skb: SkBuff, dataoff: int) -> int:
    """Which connection an error is about: the one of the quoted packet, if the error goes to where that came from."""
    quoted = nf_ct_get_tuplepr(skb, dataoff)
    inner = None if quoted is None else nf_ct_invert_tuple(quoted)
    found = None if inner is None else net.nf_conntrack_find_get(inner)
    if found is None:
        net.env.note("nf_conntrack_inet_error", "INVALID: about no connection that is known")
        return -NF_ACCEPT
    ct, direction = found
    if ct.tuplehash[direction].dst != daddr(skb):
        net.env.note("nf_conntrack_inet_error", "INVALID: not to where the quoted packet came from")
        return -NF_ACCEPT
    nf_ct_set(skb, ct, Info.RELATED_REPLY if direction == REPLY else Info.RELATED)
    net.env.note("nf_conntrack_inet_error", f"RELATED to {ct.orig}")
    return NF_ACCEPT
