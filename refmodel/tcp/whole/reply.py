"""What is sent without a full socket: RSTs, the ACKs of requests and time-wait sockets, SYN-ACKs.

The law: such an answer is made of the segment that it answers and of what little is remembered; TTL and TOS are not the
socket's.
"""

from typing import TYPE_CHECKING, Any, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import hashtables, listen, md5, route, transmit
from refmodel.tcp.whole.const import ACK, RST
from refmodel.tcp.whole.skb import FastopenCookie, Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import Dst, RequestSock, Sock, TimewaitSock
from refmodel.types import M32, add

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

INET_ECN_MASK: Final = 3


def _reply(
    net: "Net", to: Packet, seq: int, ack_seq: int, flags: int, window: int, opts: TcpOptions, tos: int, by: str
) -> Packet:
    v6 = len(to.saddr) == 16
    dst = net.dst.get(to.saddr, net.default_dst)
    ttl = dst.hoplimit or (64 if v6 else net.p.ip_default_ttl)
    packet = Packet(
        to.daddr, to.saddr, to.dport, to.sport, seq, ack_seq, flags, window, 0, opts,
        tos=tos & ~INET_ECN_MASK, ttl=ttl, by=net.cause or by,
    )  # fmt: skip
    net.cause = ""
    return packet


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_send_reset", "net/ipv6/tcp_ipv6.c:tcp_v6_send_reset", "RFC 9293 3.5.2")
def send_reset(net: "Net", sk: Sock | TimewaitSock | None, skb: Skb, reason: object) -> None:
    """Answers a segment by an RST made of nothing but that segment."""
    to = skb.packet
    assert to is not None
    if to.flags & RST:
        return
    key: md5.Md5Key | None = None
    if isinstance(sk, Sock):
        key = md5.tcp_md5_do_lookup(sk, to.saddr)
    elif to.opts.md5 is not None:
        # The socket is gone: a listener on the segment's source port may have the key.
        sk1 = hashtables.inet_lookup_listener(net, to.saddr, to.sport, to.daddr, to.sport)
        key = md5.tcp_md5_do_lookup(sk1, to.saddr) if sk1 is not None else None
        if key is None or not to.md5_ok:
            return
    if to.flags & ACK:
        seq, ack_seq, flags = to.ack_seq, 0, RST
    else:
        seq, ack_seq, flags = 0, skb.end_seq, RST | ACK
    packet = _reply(net, to, seq, ack_seq, flags, 0, TcpOptions(), to.tos, "tcp_v4_send_reset")
    if key is not None:
        packet.opts.md5 = bytes(16)
        md5.calc_md5_hash(key, None, packet)
    net.note("tcp_v4_send_reset", str(reason))
    net.xmit(packet)
    net.count("TcpOutSegs")
    net.count("TcpOutRsts")


def tcp_v4_send_reset(sk: Sock | TimewaitSock, skb: Skb, reason: object) -> None:
    """Answers a segment for `sk` by an RST; source net/ipv4/tcp_ipv4.c:tcp_v4_send_reset."""
    send_reset(sk.net, sk, skb, reason)


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_send_ack", "net/ipv6/tcp_ipv6.c:tcp_v6_send_response")
def tcp_v4_send_ack(
    net: "Net", skb: Skb, seq: int, ack: int, win: int, tsval: int, tsecr: int, key: Any, tos: int, by: str
) -> None:
    """Sends an ACK on behalf of a request or a time-wait socket; timestamps only if there is one to echo."""
    to = skb.packet
    assert to is not None
    opts = TcpOptions(tsval=tsval & M32, tsecr=tsecr) if tsecr else TcpOptions()
    packet = _reply(net, to, seq, ack, ACK, win & 0xFFFF, opts, tos, by)
    if key is not None:
        opts.md5 = bytes(16)
        md5.calc_md5_hash(key, None, packet)
    net.xmit(packet)
    net.count("TcpOutSegs")


def _clock_ts(net: "Net", usec_ts: bool) -> int:
    return net.now if usec_ts else net.now // 1000


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_timewait_ack", "net/ipv6/tcp_ipv6.c:tcp_v6_timewait_ack")
def tcp_v4_timewait_ack(tw: TimewaitSock, skb: Skb) -> None:
    """A time-wait socket acknowledges what it had."""
    tcp_v4_send_ack(
        tw.net,
        skb,
        tw.tw_snd_nxt,
        tw.tw_rcv_nxt,
        tw.tw_rcv_wnd >> tw.tw_rcv_wscale,
        _clock_ts(tw.net, tw.tw_usec_ts) + tw.tw_ts_offset,
        tw.tw_ts_recent,
        tw.tw_md5_key,
        tw.tw_tos,
        "tcp_v4_timewait_ack",
    )


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_reqsk_send_ack", "net/ipv6/tcp_ipv6.c:tcp_v6_reqsk_send_ack")
def tcp_v4_reqsk_send_ack(sk: Sock, skb: Skb, req: RequestSock) -> None:
    """A request, or a fast open's child on its behalf, acknowledges the SYN once more."""
    to = skb.packet
    assert to is not None
    tcp_v4_send_ack(
        sk.net,
        skb,
        add(req.snt_isn, 1) if sk.sk_state == St.LISTEN else sk.snd_nxt,
        req.rcv_nxt,
        listen.tcp_synack_window(req) >> req.rcv_wscale,
        _clock_ts(sk.net, req.req_usec_ts) + req.ts_off,
        req.ts_recent,
        md5.tcp_md5_do_lookup(sk, to.saddr),
        to.tos,
        "tcp_v4_reqsk_send_ack",
    )


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_send_synack", "net/ipv6/tcp_ipv6.c:tcp_v6_send_synack")
def tcp_v4_send_synack(
    sk: Sock,
    dst: Dst | None,
    fl: Any,
    req: RequestSock,
    foc: FastopenCookie | None,
    synack_type: int,
    syn_skb: Skb | None,
) -> int:
    """Sends a request's SYN-ACK: 0, or what kept it from leaving."""
    net = sk.net
    if dst is None:
        dst = route.ip_route_output(net, req.ir_rmt_addr)
    req.syn_ect_snt = (sk.tclass if len(req.ir_rmt_addr) == 16 else sk.inet_tos) & INET_ECN_MASK
    packet = transmit.tcp_make_synack(sk, dst, req, foc, synack_type, syn_skb)
    v6 = len(req.ir_rmt_addr) == 16
    tos = sk.tclass if v6 else sk.inet_tos
    if net.p.tcp_reflect_tos:
        tos = (req.syn_tos & ~INET_ECN_MASK) | (tos & INET_ECN_MASK)
    packet.tos = tos
    err = net.xmit(packet)
    return 0 if err == transmit.NET_XMIT_CN else err
