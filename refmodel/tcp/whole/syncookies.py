"""SYN cookies: a connection without a request, all of it in the SYN-ACK's sequence number and timestamp.

The law: the sequence number holds the minute and one of four MSS values, hashed with the addresses; it is believed for
two minutes, and only while the listener sent cookies lately. Window scale, SACK and ECN are in the low six bits of the
timestamp, so without timestamps there are none of them.
"""

from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.whole import accecn, hashtables, ipv4, listen, rcv, rcvbuf, route, secure, transmit
from refmodel.tcp.whole.const import ACK, RST, SYN
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import Dst, RequestSock, RxOpt, Sock
from refmodel.tcp.whole.tcp_h import tcp_clear_options
from refmodel.types import M32, add

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

COOKIEBITS: Final = 24
COOKIEMASK: Final = (1 << COOKIEBITS) - 1
TSBITS: Final = 6
TS_OPT_WSCALE_MASK: Final = 0xF
TS_OPT_SACK: Final = 1 << 4
TS_OPT_ECN: Final = 1 << 5
MAX_SYNCOOKIE_AGE: Final = 2
SYNCOOKIE_PERIOD: Final = 60  # seconds
MSSTAB4: Final = (536, 1300, 1440, 1460)
MSSTAB6: Final = (1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60)
TCP_SACK_SEEN: Final = 1
SOCK_RCVBUF_LOCK: Final = 2


def tcp_cookie_time(net: "Net") -> int:
    """The minute; source include/net/tcp.h:tcp_cookie_time."""
    return net.jiffies // (SYNCOOKIE_PERIOD * net.hz)


def _between32(t: int, low: int, high: int) -> bool:
    return ((high - low) & M32) >= ((t - low) & M32)


@cited("include/net/tcp.h:tcp_synq_overflow")
def tcp_synq_overflow(sk: Sock) -> None:
    """Notes that the listener sends cookies now, at most once a second."""
    net = sk.net
    now = net.jiffies & M32
    if sk.sk_reuseport:
        last = net.synq_overflow_ts.get(sk.inet_num, 0)
        if not _between32(now, last, last + net.hz):
            net.synq_overflow_ts[sk.inet_num] = now
        return
    last = sk.rx_opt.ts_recent_stamp
    if not _between32(now, last, last + net.hz):
        sk.rx_opt.ts_recent_stamp = now


@cited("include/net/tcp.h:tcp_synq_no_recent_overflow")
def tcp_synq_no_recent_overflow(sk: Sock) -> bool:
    """The listener sent no cookies for two minutes, so none can come back."""
    net = sk.net
    last = net.synq_overflow_ts.get(sk.inet_num, 0) if sk.sk_reuseport else sk.rx_opt.ts_recent_stamp
    valid = MAX_SYNCOOKIE_AGE * SYNCOOKIE_PERIOD * net.hz
    return not _between32(net.jiffies & M32, last - net.hz, last + valid)


def cookie_hash(net: "Net", saddr: bytes, daddr: bytes, sport: int, dport: int, count: int, c: int) -> int:
    """One of the two keyed hashes of a cookie; source net/ipv4/syncookies.c:cookie_hash."""
    ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
    key = bytes(b ^ (0x5C if c else 0x36) for b in net.net_secret)
    return secure.siphash(saddr + daddr + (count & M32).to_bytes(4, "little") + ports, key) & M32


@cited("net/ipv4/syncookies.c:cookie_init_timestamp")
def cookie_init_timestamp(req: RequestSock, now: int) -> int:
    """When the SYN-ACK pretends to be sent (us): the latest time not after `now` whose low bits are the options."""
    options = req.snd_wscale if req.wscale_ok else TS_OPT_WSCALE_MASK
    if req.sack_ok:
        options |= TS_OPT_SACK
    if req.ecn_ok:
        options |= TS_OPT_ECN
    ts_now = now // 1000
    ts = (ts_now >> TSBITS) << TSBITS | options
    if ts > ts_now:
        ts -= 1 << TSBITS
    return ts if req.req_usec_ts else ts * 1000


@cited("net/ipv4/syncookies.c:secure_tcp_syn_cookie")
def secure_tcp_syn_cookie(net: "Net", saddr: bytes, daddr: bytes, sport: int, dport: int, sseq: int, data: int) -> int:
    """A cookie with `data` in it."""
    count = tcp_cookie_time(net)
    low = (cookie_hash(net, saddr, daddr, sport, dport, count, 1) + data) & COOKIEMASK
    return (cookie_hash(net, saddr, daddr, sport, dport, 0, 0) + sseq + (count << COOKIEBITS) + low) & M32


@cited("net/ipv4/syncookies.c:check_tcp_syn_cookie")
def check_tcp_syn_cookie(net: "Net", cookie: int, saddr: bytes, daddr: bytes, sport: int, dport: int, sseq: int) -> int:
    """What was put into a cookie; too large a number if it is wrong or old."""
    count = tcp_cookie_time(net)
    cookie = (cookie - cookie_hash(net, saddr, daddr, sport, dport, 0, 0) - sseq) & M32
    diff = (count - (cookie >> COOKIEBITS)) & (M32 >> COOKIEBITS)
    if diff >= MAX_SYNCOOKIE_AGE:
        return M32
    return (cookie - cookie_hash(net, saddr, daddr, sport, dport, count - diff, 1)) & COOKIEMASK


@cited("net/ipv4/syncookies.c:__cookie_v4_init_sequence", "net/ipv6/syncookies.c:__cookie_v6_init_sequence")
def cookie_init_sequence(skb: Skb, net: "Net", mss: int) -> tuple[int, int]:
    """The cookie for a SYN, and the MSS that it encodes: the largest of four that is not above `mss`."""
    packet = skb.packet
    assert packet is not None
    msstab = MSSTAB6 if len(packet.saddr) == 16 else MSSTAB4
    mssind = max((i for i, m in enumerate(msstab) if mss >= m), default=0)
    seq = secure_tcp_syn_cookie(
        net, packet.saddr, packet.daddr, packet.sport, packet.dport, packet.seq, mssind
    )  # fmt: skip
    return seq, msstab[mssind]


@cited("net/ipv4/syncookies.c:__cookie_v4_check", "net/ipv6/syncookies.c:__cookie_v6_check")
def cookie_check_mss(skb: Skb, net: "Net") -> int:
    """The MSS in the cookie that an ACK brings back; 0 if the cookie is no good."""
    packet = skb.packet
    assert packet is not None
    msstab = MSSTAB6 if len(packet.saddr) == 16 else MSSTAB4
    mssind = check_tcp_syn_cookie(
        net,
        add(packet.ack_seq, -1),
        packet.saddr,
        packet.daddr,
        packet.sport,
        packet.dport,
        add(packet.seq, -1),
    )
    return msstab[mssind] if mssind < len(msstab) else 0


@cited("net/ipv4/syncookies.c:cookie_timestamp_decode")
def cookie_timestamp_decode(net: "Net", tcp_opt: RxOpt) -> bool:
    """Reads the options out of the timestamp that came back; False if one of them is disabled by now."""
    options = tcp_opt.rcv_tsecr
    if not tcp_opt.saw_tstamp:
        tcp_clear_options(tcp_opt)
        return True
    if not net.p.tcp_timestamps:
        return False
    tcp_opt.sack_ok = TCP_SACK_SEEN if options & TS_OPT_SACK else 0
    if tcp_opt.sack_ok and not net.p.tcp_sack:
        return False
    if options & TS_OPT_WSCALE_MASK == TS_OPT_WSCALE_MASK:
        return True
    tcp_opt.wscale_ok = True
    tcp_opt.snd_wscale = options & TS_OPT_WSCALE_MASK
    return net.p.tcp_window_scaling != 0


@cited("net/ipv4/syncookies.c:cookie_tcp_reqsk_alloc", "net/ipv4/syncookies.c:cookie_tcp_reqsk_init")
def cookie_tcp_reqsk_alloc(sk: Sock, skb: Skb, tcp_opt: RxOpt, mss: int, tsoff: int) -> RequestSock:
    """The request as it would have been, rebuilt from the ACK."""
    packet = skb.packet
    assert packet is not None
    req = listen.inet_reqsk_alloc(sk)
    req.ir_num = packet.dport
    req.ir_rmt_port = packet.sport
    req.ir_mark = sk.sk_mark
    req.snt_synack = 0
    req.tfo_listener = False
    req.txhash = sk.net.random() or 1
    req.rcv_isn = add(packet.seq, -1)
    req.snt_isn = add(packet.ack_seq, -1)
    req.syn_tos = skb.ip_dsfield
    req.mss = mss
    req.ts_recent = tcp_opt.rcv_tsval if tcp_opt.saw_tstamp else 0
    req.snd_wscale = tcp_opt.snd_wscale
    req.tstamp_ok = tcp_opt.saw_tstamp
    req.sack_ok = bool(tcp_opt.sack_ok)
    req.wscale_ok = tcp_opt.wscale_ok
    req.ecn_ok = bool(tcp_opt.rcv_tsecr & TS_OPT_ECN)
    req.req_usec_ts = False
    req.ts_off = tsoff
    return req


@cited("net/ipv4/syncookies.c:cookie_tcp_check", "net/ipv6/syncookies.c:cookie_tcp_check")
def cookie_tcp_check(net: "Net", sk: Sock, skb: Skb) -> RequestSock | None:
    """The request that an ACK's cookie stands for; None if it carries none."""
    if tcp_synq_no_recent_overflow(sk):
        return None
    mss = cookie_check_mss(skb, net)
    if not mss:
        net.count("TcpExtSyncookiesFailed")
        return None
    net.count("TcpExtSyncookiesRecv")
    tcp_opt = RxOpt()
    rcv.tcp_parse_options(net, skb, tcp_opt, 0, None)
    tsoff = 0
    if tcp_opt.saw_tstamp and tcp_opt.rcv_tsecr:
        _, tsoff = ipv4.tcp_v4_init_seq_and_ts_off(net, skb)
        tcp_opt.rcv_tsecr = (tcp_opt.rcv_tsecr - tsoff) & M32
    if not cookie_timestamp_decode(net, tcp_opt):
        return None
    return cookie_tcp_reqsk_alloc(sk, skb, tcp_opt, mss, tsoff)


@cited("net/ipv4/syncookies.c:tcp_get_cookie_sock")
def tcp_get_cookie_sock(sk: Sock, skb: Skb, req: RequestSock) -> Sock | None:
    """Makes the child at once and puts it into the accept queue."""
    child = ipv4.tcp_v4_syn_recv_sock(sk, skb, req, req_dst(sk, req), None)
    if child is None:
        return None
    return listen.inet_csk_reqsk_queue_add(sk, req, child)


def req_dst(sk: Sock, req: RequestSock) -> Dst:
    """The route to the request's peer."""
    return route.ip_route_output(sk.net, req.ir_rmt_addr)


@cited("net/ipv4/syncookies.c:cookie_v4_check", "net/ipv6/syncookies.c:cookie_v6_check", "RFC 4987 3.6")
def cookie_v4_check(sk: Sock, skb: Skb) -> Sock | None:
    """An ACK for a listener: the child its cookie makes, the listener if it has none, None if nothing can be made."""
    net = sk.net
    if not net.p.tcp_syncookies or not skb.tcp_flags & ACK or skb.tcp_flags & (RST | SYN):
        return sk
    req = cookie_tcp_check(net, sk, skb)
    if req is None:
        return sk
    packet = skb.packet
    assert packet is not None
    req.ir_loc_addr, req.ir_rmt_addr = packet.daddr, packet.saddr
    req.ireq_family = hashtables.AF_INET6 if len(packet.saddr) == 16 else hashtables.AF_INET
    dst = req_dst(sk, req)
    req.rsk_window_clamp = sk.window_clamp or dst.window
    full_space = rcvbuf.tcp_full_space(sk)
    if sk.sk_userlocks & SOCK_RCVBUF_LOCK and (req.rsk_window_clamp > full_space or req.rsk_window_clamp == 0):
        req.rsk_window_clamp = full_space
    req.rsk_rcv_wnd, req.rsk_window_clamp, req.rcv_wscale = transmit.tcp_select_initial_window(
        sk, full_space, req.mss, req.rsk_window_clamp, req.wscale_ok, dst.initrwnd
    )
    req.ecn_ok = req.ecn_ok and bool(net.p.tcp_ecn or dst.features & listen.DST_FEATURE_ECN)
    req.accecn_ok = req.ecn_ok and net.p.kernel >= 618 and accecn.tcp_accecn_ace(skb.tcp_flags) > 1
    net.note("cookie_v4_check", f"a cookie with MSS {req.mss} opens the connection")
    return tcp_get_cookie_sock(sk, skb, req)
