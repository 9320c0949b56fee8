"""A segment that arrives for a connection: what is read from its header, whether it is acceptable, and the fast path.

The law: a segment is acceptable if its timestamp isn't old, its sequence number lies in the window, and it is neither
a RST nor a SYN; whatever isn't acceptable is answered by a rate-limited acknowledgment and changes nothing. A segment
whose header was predicted is acceptable without a look, and has fewer side effects.
"""

import errno
from typing import Any, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import accecn, ack, data, fastopen, inet, minisocks, poll, rcvbuf, rcvstate, transmit
from refmodel.tcp.whole.const import ACK, AE, FIN, ICSK_ACK_SCHED, PSH, RCV_SHUTDOWN, RST, SYN, TCP_MAX_WSCALE, URG
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.skb import FastopenCookie, Packet, Skb
from refmodel.tcp.whole.sock import RequestSock, RxOpt, Sock
from refmodel.tcp.whole.tcp_h import (
    inet_csk_enter_pingpong_mode,
    inet_csk_schedule_ack,
    options_size,
    tcp_fast_path_check,
    tcp_is_sack,
    tcp_receive_window,
    tcp_sack_reset,
)
from refmodel.types import H32, M32, add, after, before, between

FLAG_DATA: Final = 0x01
FLAG_SLOWPATH: Final = 0x100
FLAG_UPDATE_TS_RECENT: Final = 0x4000
FLAG_TS_PROGRESS: Final = 0x40000
TCP_PAWS_WINDOW: Final = 1
TCP_PAWS_WRAP: Final = 0x7FFFFFFF // 1_000_000  # s, since 6.7
TCP_PAWS_24DAYS: Final = 60 * 60 * 24 * 24
TCP_PAWS_MSL: Final = 60
TCPOLEN_TSTAMP_ALIGNED: Final = 12
TCP_FASTOPEN_COOKIE_MIN: Final = 4
TCP_FASTOPEN_COOKIE_MAX: Final = 16
TCP_SACK_SEEN: Final = 1
TCP_URG_VALID: Final = 0x0100
TCP_URG_NOTYET: Final = 0x0200
HP_BITS_612: Final = 0xFF & ~PSH
HP_BITS: Final = HP_BITS_612 | AE
I31: Final = 0x7FFFFFFF


# ---------------------------------------------------------------- options


@cited("net/ipv4/tcp_input.c:tcp_parse_options", "RFC 9293 3.2", "RFC 7323 2", "RFC 2018 2", "RFC 7413 4.1")
def tcp_parse_options(net: Net, skb: Skb, opt_rx: RxOpt, estab: int, foc: FastopenCookie | None) -> None:
    """Reads a segment's options: those of a SYN too unless the connection is established."""
    th = skb.packet
    assert th is not None
    opts = th.opts
    syn = th.flags & SYN
    opt_rx.saw_tstamp = False
    p = net.p
    opt_rx.accecn = opts.accecn if p.kernel >= 618 else None
    if opts.tsval is not None and (opt_rx.tstamp_ok if estab else p.tcp_timestamps):
        opt_rx.saw_tstamp = True
        opt_rx.rcv_tsval = opts.tsval
        opt_rx.rcv_tsecr = opts.tsecr
    if syn and not estab:
        if opts.mss:
            opt_rx.mss_clamp = min(opts.mss, opt_rx.user_mss) if opt_rx.user_mss else opts.mss
        if opts.wscale is not None and p.tcp_window_scaling:
            opt_rx.wscale_ok = True
            opt_rx.snd_wscale = min(opts.wscale, TCP_MAX_WSCALE)
        if opts.sack_perm and p.tcp_sack:
            opt_rx.sack_ok = TCP_SACK_SEEN
            tcp_sack_reset(opt_rx)
    if opts.sacks and opt_rx.sack_ok:
        skb.sacked = 1
    if opts.fastopen is not None and foc is not None and syn and len(opts.fastopen) & 1 == 0:
        n = len(opts.fastopen)
        if TCP_FASTOPEN_COOKIE_MIN <= n <= TCP_FASTOPEN_COOKIE_MAX:
            foc.val = opts.fastopen
        elif n != 0:
            n = -1
        foc.len = n
        foc.exp = opts.fastopen_exp


def tcp_parse_mss_option(th: Packet, user_mss: int) -> int:
    """The MSS option, at most the user's, 0 without one; source net/ipv4/tcp_input.c:tcp_parse_mss_option."""
    mss = th.opts.mss or 0
    return user_mss if 0 < user_mss < mss else mss


@cited("net/ipv4/tcp_input.c:tcp_parse_aligned_timestamp", "RFC 7323 A")
def tcp_parse_aligned_timestamp(sk: Sock, th: Packet) -> bool:
    """Reads the timestamp where it usually stands; the echo comes back without the connection's offset."""
    opts = th.opts
    if opts.tsval is None or not opts.aligned:
        return False
    rx_opt = sk.rx_opt
    rx_opt.saw_tstamp = True
    rx_opt.rcv_tsval = opts.tsval
    rx_opt.rcv_tsecr = (opts.tsecr - sk.tsoffset) & M32 if opts.tsecr else 0
    return True


@cited("net/ipv4/tcp_input.c:tcp_fast_parse_options")
def tcp_fast_parse_options(net: Net, skb: Skb, th: Packet, sk: Sock) -> bool:
    """Reads the options of a segment of an established connection; False if it has none."""
    rx_opt = sk.rx_opt
    size = options_size(th.opts)
    if size == 0:
        rx_opt.saw_tstamp = False
        rx_opt.accecn = None
        return False
    if rx_opt.tstamp_ok and size == TCPOLEN_TSTAMP_ALIGNED and tcp_parse_aligned_timestamp(sk, th):
        rx_opt.accecn = None
        return True
    tcp_parse_options(net, skb, rx_opt, 1, None)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & M32
    return True


# ---------------------------------------------------------------- timestamps


@cited("include/net/tcp.h:tcp_paws_check", "RFC 7323 5.3")
def tcp_paws_check(net: Net, rx_opt: RxOpt, paws_win: int) -> bool:
    """The timestamp isn't older than the last one by more than `paws_win`, or that one is too old to tell."""
    if _s32(rx_opt.ts_recent - rx_opt.rcv_tsval) <= paws_win:
        return True
    wrap = TCP_PAWS_WRAP if net.p.kernel >= 607 else TCP_PAWS_24DAYS
    return net.secs >= rx_opt.ts_recent_stamp + wrap or not rx_opt.ts_recent


@cited("include/net/tcp.h:tcp_paws_reject", "RFC 7323 5.2")
def tcp_paws_reject(net: Net, rx_opt: RxOpt, rst: bool) -> bool:
    """The timestamp is old; a RST is excused once the last one is older than a segment's lifetime."""
    if tcp_paws_check(net, rx_opt, 0):
        return False
    return not (rst and net.secs >= rx_opt.ts_recent_stamp + TCP_PAWS_MSL)


def _s32(n: int) -> int:
    n &= M32
    return n - (1 << 32) if n >= H32 else n


@cited("net/ipv4/tcp_input.c:tcp_store_ts_recent", "RFC 7323 4.3")
def tcp_store_ts_recent(sk: Sock) -> None:
    """The timestamp that arrived is the one to echo."""
    sk.rx_opt.ts_recent = sk.rx_opt.rcv_tsval
    sk.rx_opt.ts_recent_stamp = sk.net.secs


@cited("net/ipv4/tcp_input.c:tcp_replace_ts_recent", "RFC 7323 4.3")
def tcp_replace_ts_recent(sk: Sock, seq: int) -> int:
    """Echoes the timestamp of a segment that begins at or before the last acknowledgment, unless it is old; flags."""
    rx_opt = sk.rx_opt
    if rx_opt.saw_tstamp and not after(seq, sk.rcv_wup) and tcp_paws_check(sk.net, rx_opt, 0):
        delta = _s32(rx_opt.rcv_tsval - rx_opt.ts_recent)
        tcp_store_ts_recent(sk)
        return FLAG_TS_PROGRESS if delta > 0 else 0
    return 0


def tcp_tsval_replay(sk: Sock) -> int:
    """How far timestamps may go back within an RTO; source net/ipv4/tcp_input.c:tcp_tsval_replay."""
    hz = sk.net.hz
    if sk.tcp_usec_ts:
        return sk.icsk_rto * (1_000_000 // hz)
    return sk.icsk_rto * (1200 if sk.net.p.kernel >= 607 else 1024) // hz


@cited("net/ipv4/tcp_input.c:tcp_disordered_ack", "RFC 7323 5.3")
def tcp_disordered_ack(sk: Sock, skb: Skb) -> bool:
    """A duplicate acknowledgment without news that was overtaken: an old timestamp doesn't matter."""
    th = skb.packet
    assert th is not None
    return (
        th.flags & ACK != 0
        and skb.seq == skb.end_seq
        and skb.seq == sk.rcv_nxt
        and skb.ack_seq == sk.snd_una
        and not ack.tcp_may_update_window(sk, skb.ack_seq, skb.seq, th.window << sk.rx_opt.snd_wscale)
        and _s32(sk.rx_opt.ts_recent - sk.rx_opt.rcv_tsval) <= tcp_tsval_replay(sk)
    )


def tcp_paws_discard(sk: Sock, skb: Skb) -> bool:
    """The timestamp is too old to accept the segment; source net/ipv4/tcp_input.c:tcp_paws_discard."""
    return not tcp_paws_check(sk.net, sk.rx_opt, TCP_PAWS_WINDOW) and not tcp_disordered_ack(sk, skb)


# ---------------------------------------------------------------- acknowledgments of what is not acceptable


@cited("net/ipv4/tcp_input.c:__tcp_oow_rate_limited")
def __tcp_oow_rate_limited(net: Net, mib_idx: str, owner: Any, field: str) -> bool:
    """Such an acknowledgment was sent a moment ago; else this is that moment."""
    val = getattr(owner, field)
    now = net.jiffies
    if val and 0 <= now - val < net.msecs_to_jiffies(net.p.tcp_invalid_ratelimit):
        net.count(mib_idx)
        return True
    setattr(owner, field, now)
    return False


@cited("net/ipv4/tcp_input.c:tcp_oow_rate_limited")
def tcp_oow_rate_limited(net: Net, skb: Skb, mib_idx: str, owner: Any, field: str = "last_oow_ack_time") -> bool:
    """An acknowledgment of an unacceptable segment must not be sent now. Segments with data are not limited."""
    th = skb.packet
    assert th is not None
    if skb.seq != skb.end_seq and not th.flags & SYN:
        return False
    return __tcp_oow_rate_limited(net, mib_idx, owner, field)


@cited("net/ipv4/tcp_input.c:tcp_challenge_ack_allowed", "RFC 5961 7")
def tcp_challenge_ack_allowed(net: Net) -> bool:
    """The namespace may still send a challenge ACK in this second."""
    ack_limit = net.p.tcp_challenge_ack_limit
    if ack_limit == I31:
        return True
    now = net.jiffies // net.hz
    if now != net.challenge_timestamp:
        half = (ack_limit + 1) >> 1
        net.challenge_timestamp = now
        rnd = net.random()
        if ack_limit:
            rnd %= ack_limit
        net.challenge_count = (half + rnd) & M32  # a limit of 0 is none: get_random_u32_below(0) has no bound
    if net.challenge_count > 0:
        net.challenge_count -= 1
        return True
    return False


@cited("net/ipv4/tcp_input.c:tcp_send_challenge_ack", "RFC 5961 3.2", "RFC 5961 7")
def tcp_send_challenge_ack(sk: Sock, accecn_reflector: bool = False) -> None:
    """Asks the peer, by an acknowledgment, whether it meant a RST or SYN or acknowledgment that can't be right."""
    net = sk.net
    if __tcp_oow_rate_limited(net, "TcpExtTCPACKSkippedChallenge", sk, "last_oow_ack_time"):
        return
    if tcp_challenge_ack_allowed(net):
        net.count("TcpExtTCPChallengeACK")
        net.note("tcp_send_challenge_ack", "a segment that can't be right")
        net.cause = "tcp_send_challenge_ack"
        accecn.tcp_send_ack_reflect_ect(sk, accecn_reflector)


@cited("net/ipv4/tcp_input.c:tcp_reqsk_send_challenge_ack", "RFC 5961 3.2")
def tcp_reqsk_send_challenge_ack(sk: Sock, skb: Skb, req: RequestSock) -> None:
    """A challenge ACK of a half-open connection."""
    from refmodel.tcp.whole import ipv4

    net = sk.net
    if __tcp_oow_rate_limited(net, "TcpExtTCPACKSkippedChallenge", req, "last_oow_ack_time"):
        return
    if tcp_challenge_ack_allowed(net):
        net.count("TcpExtTCPChallengeACK")
        ipv4.tcp_v4_reqsk_send_ack(sk, skb, req)


@cited("net/ipv4/tcp_input.c:tcp_send_dupack", "RFC 9293 3.10.7.4", "RFC 2883 4")
def tcp_send_dupack(sk: Sock, skb: Skb) -> None:
    """Acknowledges an unacceptable segment, with a DSACK of the old data in it."""
    if skb.end_seq != skb.seq and before(skb.seq, sk.rcv_nxt):
        sk.net.count("TcpExtDelayedACKLost")
        rcvbuf.tcp_enter_quickack_mode(sk, rcvbuf.TCP_MAX_QUICKACKS)
        if tcp_is_sack(sk) and sk.net.p.tcp_dsack:
            ack.tcp_rcv_spurious_retrans(sk, skb)
            data.tcp_dsack_set(sk, skb.seq, sk.rcv_nxt if after(skb.end_seq, sk.rcv_nxt) else skb.end_seq)
    sk.net.cause = "tcp_send_dupack"
    transmit.tcp_send_ack(sk)


# ---------------------------------------------------------------- RST and FIN


@cited("net/ipv4/tcp_input.c:tcp_done_with_error")
def tcp_done_with_error(sk: Sock, err: int) -> None:
    """The connection is over because of `err`."""
    sk.sk_err = err
    inet.tcp_write_queue_purge(sk)
    inet.tcp_done(sk)
    if "SOCK_DEAD" not in sk.sk_flags:
        poll.sk_error_report(sk)


@cited("net/ipv4/tcp_input.c:tcp_reset", "RFC 9293 3.10.7.4")
def tcp_reset(sk: Sock, skb: Skb) -> None:
    """The peer reset the connection: what is queued to send is lost, and the application gets an error."""
    state = sk.sk_state
    if state == St.CLOSE:
        return
    err = errno.ECONNRESET
    if state == St.SYN_SENT:
        err = errno.ECONNREFUSED
    elif state == St.CLOSE_WAIT:
        err = errno.EPIPE
    sk.net.note("tcp_reset", f"in {state.name}: {errno.errorcode[err]}")
    tcp_done_with_error(sk, err)


@cited("net/ipv4/tcp_input.c:tcp_fin", "RFC 9293 3.10.7.4")
def tcp_fin(sk: Sock) -> None:
    """The peer's FIN came into order: nothing more is to be received."""
    inet_csk_schedule_ack(sk)
    sk.sk_shutdown |= RCV_SHUTDOWN
    sk.sk_flags.add("SOCK_DONE")
    state = sk.sk_state
    if state in (St.SYN_RECV, St.ESTABLISHED):
        inet.tcp_set_state(sk, St.CLOSE_WAIT)
        inet_csk_enter_pingpong_mode(sk)
    elif state == St.FIN_WAIT1:
        sk.net.cause = "tcp_fin"
        transmit.tcp_send_ack(sk)
        inet.tcp_set_state(sk, St.CLOSING)
    elif state == St.FIN_WAIT2:
        sk.net.cause = "tcp_fin"
        transmit.tcp_send_ack(sk)
        minisocks.tcp_time_wait(sk, St.TIME_WAIT, 0)
    for skb in sk.out_of_order_queue:
        rcvbuf.sock_rfree(skb, sk)
    sk.out_of_order_queue.clear()
    if tcp_is_sack(sk):
        tcp_sack_reset(sk.rx_opt)
    if "SOCK_DEAD" not in sk.sk_flags:
        poll.sk_state_change(sk)


# ---------------------------------------------------------------- urgent data


@cited("net/ipv4/tcp_input.c:tcp_check_urg", "RFC 9293 3.8.5", "RFC 6093 3")
def tcp_check_urg(sk: Sock, th: Packet) -> None:
    """Takes a new urgent pointer: the last byte of urgent data, one before the pointer unless tcp_stdurg is set."""
    ptr = th.urg_ptr
    if ptr and not sk.net.p.tcp_stdurg:
        ptr -= 1
    ptr = add(ptr, th.seq)
    if after(sk.copied_seq, ptr) or before(ptr, sk.rcv_nxt):
        return
    if sk.urg_data and not after(ptr, sk.urg_seq):
        return
    if (
        sk.urg_seq == sk.copied_seq
        and sk.urg_data
        and "SOCK_URGINLINE" not in sk.sk_flags
        and sk.copied_seq != sk.rcv_nxt
    ):
        skb = sk.sk_receive_queue.head
        sk.copied_seq = add(sk.copied_seq, 1)
        if skb is not None and not before(sk.copied_seq, skb.end_seq):
            sk.sk_receive_queue.unlink(skb)
            rcvbuf.sock_rfree(skb, sk)
    sk.urg_data = TCP_URG_NOTYET
    sk.urg_seq = ptr
    sk.pred_flags = None


@cited("net/ipv4/tcp_input.c:tcp_urg", "RFC 9293 3.8.5")
def tcp_urg(sk: Sock, skb: Skb, th: Packet) -> None:
    """Looks for the urgent byte, and keeps it if it came."""
    if th.flags & URG:
        tcp_check_urg(sk, th)
    if sk.urg_data == TCP_URG_NOTYET:
        headers = 20 + options_size(th.opts)
        at = (sk.urg_seq - th.seq + headers - (1 if th.flags & SYN else 0)) & M32
        if at < headers + th.len:  # a pointer just before the segment finds a byte of its header
            sk.urg_data = TCP_URG_VALID
            if "SOCK_DEAD" not in sk.sk_flags:
                poll.sk_data_ready(sk)


# ---------------------------------------------------------------- validation


@cited("net/ipv4/tcp_input.c:tcp_sequence", "RFC 9293 3.10.7.4")
def tcp_sequence(sk: Sock, seq: int, end_seq: int, fin: int = 0) -> str:
    """Why a segment lies outside the window, "" if it doesn't. The lower edge is the last acknowledgment sent."""
    if before(end_seq, sk.rcv_wup):
        return "TCP_OLD_SEQUENCE"
    limit = add(sk.rcv_nxt, tcp_receive_window(sk))
    if sk.net.p.kernel >= 618 and after((end_seq - fin) & M32, limit) and sk.sk_receive_queue.head is not None:
        return "TCP_INVALID_SEQUENCE" if after(seq, limit) else "TCP_INVALID_END_SEQUENCE"
    return "TCP_INVALID_SEQUENCE" if after(seq, limit) else ""


def tcp_reset_check(sk: Sock, skb: Skb) -> bool:
    """A RST that repeats the sequence number of a FIN; source net/ipv4/tcp_input.c:tcp_reset_check."""
    return skb.seq == (sk.rcv_nxt - 1) & M32 and sk.sk_state in (St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)


@cited(
    "net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 9293 3.10.7.4", "RFC 7323 5.3", "RFC 5961 3.2", "RFC 5961 4.2"
)
def tcp_validate_incoming(sk: Sock, skb: Skb, th: Packet, syn_inerr: int) -> bool:
    """Judges timestamp, sequence number, RST and SYN, in this order; False if that is all there is to the segment."""
    net = sk.net
    flags = th.flags
    has_options = tcp_fast_parse_options(net, skb, th, sk)
    if has_options and sk.rx_opt.saw_tstamp and tcp_paws_discard(sk, skb) and not flags & RST:
        if flags & SYN and net.p.kernel >= 612:
            return _syn_challenge(sk, skb, syn_inerr)
        if net.p.kernel >= 614 and flags & ACK and skb.seq == skb.end_seq and before(skb.seq, sk.rcv_nxt):
            net.count("TcpExtPAWSOldAck")  # an overtaken ACK: nothing is sent
            data.tcp_drop_reason(sk, skb)
            return False
        net.count("TcpExtPAWSEstab")
        net.note("tcp_validate_incoming", f"an old timestamp: {sk.rx_opt.rcv_tsval} after {sk.rx_opt.ts_recent}")
        if not tcp_oow_rate_limited(net, skb, "TcpExtTCPACKSkippedPAWS", sk):
            tcp_send_dupack(sk, skb)
        data.tcp_drop_reason(sk, skb)
        return False
    reason = tcp_sequence(sk, skb.seq, skb.end_seq, flags & FIN)
    if reason:
        return _outside(sk, skb, th, syn_inerr, reason)
    if flags & RST:
        return _reset(sk, skb)
    reflect = bool(flags & SYN) and accecn.syn_for_connection(sk, skb)
    if flags & SYN and not (
        sk.sk_state == St.SYN_RECV
        and sk.has_socket
        and flags & ACK
        and add(skb.seq, 1) == skb.end_seq
        and add(skb.seq, 1) == sk.rcv_nxt
        and skb.ack_seq == sk.snd_nxt
    ):
        return _syn_challenge(sk, skb, syn_inerr, reflect)
    return True


def _syn_challenge(sk: Sock, skb: Skb, syn_inerr: int, accecn_reflector: bool = False) -> bool:
    net = sk.net
    if syn_inerr:
        net.count("TcpInErrs")
    net.count("TcpExtTCPSYNChallenge")
    tcp_send_challenge_ack(sk, accecn_reflector)
    data.tcp_drop_reason(sk, skb)
    return False


def _outside(sk: Sock, skb: Skb, th: Packet, syn_inerr: int, reason: str) -> bool:
    """A segment outside the window."""
    net = sk.net
    if not th.flags & RST:
        if th.flags & SYN:
            return _syn_challenge(sk, skb, syn_inerr)
        if net.p.kernel >= 618 and reason != "TCP_OLD_SEQUENCE":
            net.count("TcpExtBeyondWindow")
        if not tcp_oow_rate_limited(net, skb, "TcpExtTCPACKSkippedSeq", sk):
            tcp_send_dupack(sk, skb)
    elif tcp_reset_check(sk, skb):
        tcp_reset(sk, skb)
        return False
    data.tcp_drop_reason(sk, skb)
    return False


def _reset(sk: Sock, skb: Skb) -> bool:
    """A RST in the window: it must hit rcv_nxt, a FIN before it, or the end of the last SACK block."""
    if skb.seq == sk.rcv_nxt or tcp_reset_check(sk, skb):
        tcp_reset(sk, skb)
        return False
    if tcp_is_sack(sk) and sk.rx_opt.num_sacks > 0:
        max_sack = sk.selective_acks[0].end_seq
        for block in sk.selective_acks[1 : sk.rx_opt.num_sacks]:
            if after(block.end_seq, max_sack):
                max_sack = block.end_seq
        if skb.seq == max_sack:
            tcp_reset(sk, skb)
            return False
    if sk.syn_fastopen and not sk.data_segs_in and sk.sk_state == St.ESTABLISHED:
        fastopen.tcp_fastopen_active_disable(sk)
    tcp_send_challenge_ack(sk)
    data.tcp_drop_reason(sk, skb)
    return False


# ---------------------------------------------------------------- ESTABLISHED


@cited("net/ipv4/tcp_input.c:tcp_rcv_established", "RFC 9293 3.10.7.4")
def tcp_rcv_established(sk: Sock, skb: Skb) -> None:
    """A segment for an established connection: predicted ones take the fast path, the others each step."""
    th = skb.packet
    assert th is not None
    if not skb.truesize:
        rcvbuf.tun_skb(sk.net, skb)
    transmit.tcp_mstamp_refresh(sk)
    sk.rx_opt.saw_tstamp = False
    sk.rx_opt.accecn = None
    pred = sk.pred_flags
    if (
        pred is not None
        and (th.flags & HP_BITS == pred[2] if sk.net.p.kernel >= 618 else th.flags & HP_BITS_612 == ACK)
        and th.window == pred[1]
        and skb.seq == sk.rcv_nxt
        and _ack_predicted(sk, skb.ack_seq)
        and 20 + options_size(th.opts) == pred[0]
    ):
        header_len = sk.tcp_header_len
        tstamps = header_len == 20 + TCPOLEN_TSTAMP_ALIGNED
        if not tstamps or (
            tcp_parse_aligned_timestamp(sk, th) and (sk.rx_opt.rcv_tsval - sk.rx_opt.ts_recent) & M32 < H32
        ):
            if th.len == 0:
                flag = 0
                if tstamps and sk.rcv_nxt == sk.rcv_wup:
                    flag = FLAG_TS_PROGRESS if sk.rx_opt.rcv_tsval != sk.rx_opt.ts_recent else 0
                    tcp_store_ts_recent(sk)
                if (skb.ip_dsfield & 3 or sk.prev_ecnfield) and sk.net.p.kernel >= 618:
                    accecn.tcp_ecn_received_counters(sk, skb, 0)
                ack.tcp_ack(sk, skb, flag)
                ack.tcp_data_snd_check(sk)
                sk.rcv_rtt_last_tsecr = sk.rx_opt.rcv_tsecr
                return
            if sk.net.p.kernel >= 618 and after(skb.end_seq, add(sk.rcv_nxt, tcp_receive_window(sk))):
                if tcp_validate_incoming(sk, skb, th, 1):
                    _step5(sk, skb, th)
            elif skb.truesize > sk.sk_forward_alloc:
                _step5(sk, skb, th)
            else:
                _predicted_data(sk, skb, tstamps)
            return
    if not th.flags & (ACK | RST | SYN):
        data.tcp_drop_reason(sk, skb)
        return
    if tcp_validate_incoming(sk, skb, th, 1):
        _step5(sk, skb, th)


def _ack_predicted(sk: Sock, ack_seq: int) -> bool:
    """The acknowledgment is none of what isn't sent; in 6.18 it may be an old one."""
    if sk.net.p.kernel >= 618:
        return not after(ack_seq, sk.snd_nxt)
    return between(ack_seq, sk.snd_una, sk.snd_nxt)


def _predicted_data(sk: Sock, skb: Skb, tstamps: bool) -> None:
    """Bulk data in order, as predicted."""
    flag = FLAG_DATA
    if tstamps and sk.rcv_nxt == sk.rcv_wup:
        flag |= FLAG_TS_PROGRESS if sk.rx_opt.rcv_tsval != sk.rx_opt.ts_recent else 0
        tcp_store_ts_recent(sk)
    rcvbuf.tcp_rcv_rtt_measure_ts(sk, skb)
    sk.net.count("TcpExtTCPHPHits")
    if (skb.ip_dsfield & 3 or sk.prev_ecnfield) and sk.net.p.kernel >= 618:
        accecn.tcp_ecn_received_counters(sk, skb, skb.len)
    data.tcp_queue_rcv(sk, skb)
    rcvbuf.tcp_event_data_recv(sk, skb)
    if skb.ack_seq != sk.snd_una:
        ack.tcp_ack(sk, skb, flag)
        ack.tcp_data_snd_check(sk)
        if sk.icsk_ack.pending & ICSK_ACK_SCHED:
            data.__tcp_ack_snd_check(sk, False)
    else:
        sk.snd_wl1 = skb.seq
        data.__tcp_ack_snd_check(sk, False)
    data.tcp_data_ready(sk)


def _step5(sk: Sock, skb: Skb, th: Packet) -> None:
    """The steps behind validation: acknowledgment, urgent pointer, text, and what is to be sent then."""
    if (skb.ip_dsfield & 3 or sk.prev_ecnfield) and sk.net.p.kernel >= 618:
        accecn.tcp_ecn_received_counters(sk, skb, th.len)
    if ack.tcp_ack(sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT) < 0:
        data.tcp_drop_reason(sk, skb)
        return
    rcvbuf.tcp_rcv_rtt_measure_ts(sk, skb)
    tcp_urg(sk, skb, th)
    data.tcp_data_queue(sk, skb)
    ack.tcp_data_snd_check(sk)
    data.tcp_ack_snd_check(sk)


# ---------------------------------------------------------------- the other states are in rcvstate


def tcp_rcv_state_process(sk: Sock, skb: Skb) -> int:
    """A segment in a state other than ESTABLISHED: not zero if it is to be answered by a RST."""
    return rcvstate.tcp_rcv_state_process(sk, skb)


def tcp_finish_connect(sk: Sock, skb: Skb | None) -> None:
    """The active open succeeded."""
    rcvstate.tcp_finish_connect(sk, skb)


def tcp_initialize_rcv_mss(sk: Sock) -> None:
    """A cautious first guess of the peer's segment size."""
    rcvbuf.tcp_initialize_rcv_mss(sk)


__all__ = ["tcp_fast_path_check", "tcp_rcv_established", "tcp_rcv_state_process"]
