"""Options of level IPPROTO_TCP (net/ipv4/tcp.c: do_tcp_setsockopt, do_tcp_getsockopt).

The law: a value is the bytes that the application passes or gets, little-endian; one that is too short is EINVAL, one
that is too long is cut. What an option changes takes effect at once, and may send what it held back.
"""

import errno
from struct import pack, unpack, unpack_from
from typing import Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import ca, capability, data, fastopen, info, md5, output, poll, rcvbuf, recvmsg, timer
from refmodel.tcp.whole.const import (
    ICSK_ACK_PUSHED,
    MAX_TCP_WINDOW,
    TCP_MAX_WSCALE,
    TCP_MIN_MSS,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
)
from refmodel.tcp.whole.net import inet_csk_reset_keepalive_timer
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.tcp_h import inet_csk_ack_scheduled, inet_csk_in_pingpong_mode
from refmodel.types import M32, after

TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_SYNCNT: Final = 7
TCP_LINGER2: Final = 8
TCP_DEFER_ACCEPT: Final = 9
TCP_WINDOW_CLAMP: Final = 10
TCP_INFO: Final = 11
TCP_QUICKACK: Final = 12
TCP_CONGESTION: Final = 13
TCP_MD5SIG: Final = 14
TCP_THIN_LINEAR_TIMEOUTS: Final = 16
TCP_THIN_DUPACK: Final = 17
TCP_USER_TIMEOUT: Final = 18
TCP_REPAIR: Final = 19
TCP_REPAIR_QUEUE: Final = 20
TCP_QUEUE_SEQ: Final = 21
TCP_REPAIR_OPTIONS: Final = 22
TCP_FASTOPEN: Final = 23
TCP_TIMESTAMP: Final = 24
TCP_NOTSENT_LOWAT: Final = 25
TCP_CC_INFO: Final = 26
TCP_SAVE_SYN: Final = 27
TCP_SAVED_SYN: Final = 28
TCP_REPAIR_WINDOW: Final = 29
TCP_FASTOPEN_CONNECT: Final = 30
TCP_ULP: Final = 31
TCP_MD5SIG_EXT: Final = 32
TCP_FASTOPEN_KEY: Final = 33
TCP_FASTOPEN_NO_COOKIE: Final = 34
TCP_ZEROCOPY_RECEIVE: Final = 35
TCP_INQ: Final = 36
TCP_TX_DELAY: Final = 37
TCP_AO_ADD_KEY: Final = 38
TCP_AO_REPAIR: Final = 42
TCP_IS_MPTCP: Final = 43

TCP_CA_NAME_MAX: Final = 16
TCP_ULP_NAME_MAX: Final = 16
TCP_FASTOPEN_KEY_LENGTH: Final = 16
MAX_TCP_KEEPIDLE: Final = 32767
MAX_TCP_KEEPINTVL: Final = 32767
MAX_TCP_KEEPCNT: Final = 127
MAX_TCP_SYNCNT: Final = 127
TCP_FIN_TIMEOUT_MAX: Final = 120  # s
TCP_RTO_MAX: Final = 120  # s
SOCK_MIN_RCVBUF: Final = 2304
TFO_CLIENT_ENABLE: Final = 1
SK_NO_REUSE: Final = 0
SK_FORCE_REUSE: Final = 2
TCP_NO_QUEUE: Final = 0
TCP_RECV_QUEUE: Final = 1
TCP_SEND_QUEUE: Final = 2
TCP_QUEUES_NR: Final = 3
TCP_REPAIR_OFF_NO_WP: Final = -1
TCPOPT_MSS: Final = 2
TCPOPT_WINDOW: Final = 3
TCPOPT_SACK_PERM: Final = 4
TCPOPT_TIMESTAMP: Final = 8
CLOSED: Final = (St.CLOSE, St.LISTEN)

Got = tuple[int, bytes]


def secs_to_retrans(seconds: int, timeout: int, rto_max: int) -> int:
    """How many retransmissions fit into a time; source net/ipv4/tcp.c:secs_to_retrans."""
    res = 0
    if seconds > 0:
        period = timeout
        res = 1
        while seconds > period and res < 255:
            res += 1
            timeout = min(timeout << 1, rto_max)
            period += timeout
    return res


def retrans_to_secs(retrans: int, timeout: int, rto_max: int) -> int:
    """How long so many retransmissions take; source net/ipv4/tcp.c:retrans_to_secs."""
    period = 0
    if retrans > 0:
        period = timeout
        for _ in range(retrans - 1):
            timeout = min(timeout << 1, rto_max)
            period += timeout
    return period


def tcp_clock_ts(sk: Sock) -> int:
    """The clock of the timestamp option now; source include/net/tcp.h:tcp_clock_ts."""
    return (sk.net.now if sk.tcp_usec_ts else sk.net.now // 1000) & M32


@cited("net/ipv4/tcp.c:__tcp_sock_set_cork")
def __tcp_sock_set_cork(sk: Sock, on: bool) -> None:
    """TCP_CORK holds back what doesn't fill a segment; without it all may go."""
    if on:
        sk.nonagle |= TCP_NAGLE_CORK
    else:
        sk.nonagle &= ~TCP_NAGLE_CORK
        if sk.nonagle & TCP_NAGLE_OFF:
            sk.nonagle |= TCP_NAGLE_PUSH
        output.tcp_push_pending_frames(sk)


@cited("net/ipv4/tcp.c:__tcp_sock_set_nodelay", "RFC 9293 3.7.4")
def __tcp_sock_set_nodelay(sk: Sock, on: bool) -> None:
    """TCP_NODELAY sends what waits, even what TCP_CORK holds back."""
    if on:
        sk.nonagle |= TCP_NAGLE_OFF | TCP_NAGLE_PUSH
        output.tcp_push_pending_frames(sk)
    else:
        sk.nonagle &= ~TCP_NAGLE_OFF


@cited("net/ipv4/tcp.c:__tcp_sock_set_quickack", "RFC 9293 3.8.6.3")
def __tcp_sock_set_quickack(sk: Sock, val: int) -> None:
    """Leaves the interactive mode, and acknowledges now what is owed; an even value goes back to it then."""
    ack = sk.icsk_ack
    if not val:
        ack.pingpong = sk.net.p.tcp_pingpong_thresh
        return
    ack.pingpong = 0
    if sk.sk_state in (St.ESTABLISHED, St.CLOSE_WAIT) and inet_csk_ack_scheduled(sk):
        ack.pending |= ICSK_ACK_PUSHED
        recvmsg.tcp_cleanup_rbuf(sk, 1)
        if not val & 1:
            ack.pingpong = sk.net.p.tcp_pingpong_thresh


@cited("net/ipv4/tcp.c:tcp_sock_set_keepidle_locked")
def tcp_sock_set_keepidle_locked(sk: Sock, val: int) -> int:
    """The idle time before keepalive probes; what is over of it counts."""
    if val < 1 or val > MAX_TCP_KEEPIDLE:
        return -errno.EINVAL
    sk.keepalive_time = val * sk.net.hz
    if "SOCK_KEEPOPEN" in sk.sk_flags and sk.sk_state not in CLOSED:
        elapsed = timer.keepalive_time_elapsed(sk)
        inet_csk_reset_keepalive_timer(sk, max(0, sk.keepalive_time - elapsed))
    return 0


@cited("net/ipv4/tcp.c:tcp_set_window_clamp")
def tcp_set_window_clamp(sk: Sock, val: int) -> int:
    """The most that the window may ever be; 0 takes the limit away, before the connection begins."""
    if not val:
        if sk.sk_state != St.CLOSE:
            return -errno.EINVAL
        sk.window_clamp = 0
        return 0
    old = sk.window_clamp
    new = max(val, SOCK_MIN_RCVBUF // 2)
    if new == old:
        return 0
    sk.window_clamp = new
    if new < old:
        sk.rcv_ssthresh = min(sk.rcv_ssthresh, new)
    else:
        sk.rcv_ssthresh = max(min(sk.rcv_wnd, new), sk.rcv_ssthresh)
    return 0


@cited("net/ipv4/tcp.c:tcp_set_rcvlowat")
def tcp_set_rcvlowat(sk: Sock, val: int) -> int:
    """How many bytes make a socket readable; the receive buffer grows so that they fit."""
    locked = sk.sk_userlocks & 2
    val = min(val, (sk.sk_rcvbuf if locked else sk.net.p.tcp_rmem_2) >> 1)
    sk.sk_rcvlowat = val or 1
    data.tcp_data_ready(sk)
    if locked:
        return 0
    space = rcvbuf.tcp_space_from_win(sk, val)
    if space > sk.sk_rcvbuf:
        sk.sk_rcvbuf = space
        if sk.window_clamp and sk.window_clamp < val:
            sk.window_clamp = val
    return 0


@cited("net/ipv4/tcp.c:tcp_repair_set_window")
def tcp_repair_set_window(sk: Sock, value: bytes) -> int:
    """The windows of a connection that is restored."""
    if not sk.repair:
        return -errno.EPERM
    if len(value) != 20:
        return -errno.EINVAL
    snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup = unpack("<5I", value)
    if max_window < snd_wnd or after(snd_wl1, (sk.rcv_nxt + rcv_wnd) & M32) or after(rcv_wup, sk.rcv_nxt):
        return -errno.EINVAL
    sk.snd_wl1, sk.snd_wnd, sk.max_window, sk.rcv_wnd, sk.rcv_wup = snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup
    return 0


@cited("net/ipv4/tcp.c:tcp_repair_options_est")
def tcp_repair_options_est(sk: Sock, value: bytes) -> int:
    """The options of a connection that is restored."""
    for at in range(0, len(value) - 7, 8):
        code, val = unpack_from("<II", value, at)
        if code == TCPOPT_MSS:
            sk.rx_opt.mss_clamp = val & 0xFFFF
            output.tcp_mtup_init(sk)
        elif code == TCPOPT_WINDOW:
            snd_wscale, rcv_wscale = val & 0xFFFF, val >> 16
            if snd_wscale > TCP_MAX_WSCALE or rcv_wscale > TCP_MAX_WSCALE:
                return -errno.EFBIG
            sk.rx_opt.snd_wscale, sk.rx_opt.rcv_wscale = snd_wscale, rcv_wscale
            sk.rx_opt.wscale_ok = True
        elif code == TCPOPT_SACK_PERM:
            if val:
                return -errno.EINVAL
            sk.rx_opt.sack_ok |= 1
        elif code == TCPOPT_TIMESTAMP:
            if val:
                return -errno.EINVAL
            sk.rx_opt.tstamp_ok = True
    return 0


def tcp_set_ulp(sk: Sock, name: str) -> int:
    """A protocol above TCP; source net/ipv4/tcp_ulp.c:tcp_set_ulp."""
    if name == "tls":
        if sk.sk_state != St.ESTABLISHED:
            return -errno.ENOTCONN
        raise NotModelled("TLS in the kernel")
    return -errno.ENOENT


def _name(value: bytes, size: int) -> str:
    return value[: size - 1].partition(b"\0")[0].decode("latin-1")


@cited("net/ipv4/tcp.c:do_tcp_setsockopt")
def do_tcp_setsockopt(sk: Sock, level: int, optname: int, optval: bytes) -> int:
    """Sets an option of TCP: 0 or a negative errno."""
    optlen = len(optval)
    if optname == TCP_CONGESTION:
        if optlen < 1:
            return -errno.EINVAL
        admin = capability.ns_capable(sk.net, capability.CAP_NET_ADMIN)
        return ca.tcp_set_congestion_control(sk, _name(optval, TCP_CA_NAME_MAX), True, admin)
    if optname == TCP_ULP:
        if optlen < 1:
            return -errno.EINVAL
        return tcp_set_ulp(sk, _name(optval, TCP_ULP_NAME_MAX))
    if optname == TCP_FASTOPEN_KEY:
        if optlen not in (TCP_FASTOPEN_KEY_LENGTH, 2 * TCP_FASTOPEN_KEY_LENGTH):
            return -errno.EINVAL
        backup = optval[TCP_FASTOPEN_KEY_LENGTH:] or None
        return fastopen.tcp_fastopen_reset_cipher(sk.net, sk, optval[:TCP_FASTOPEN_KEY_LENGTH], backup)
    if optlen < 4:
        return -errno.EINVAL
    (val,) = unpack_from("<i", optval)
    kept = _set_kept(sk, optname, val)
    if kept is not None:
        return kept
    if optname == TCP_REPAIR and not capability.ns_capable(sk.net, capability.CAP_NET_ADMIN):
        return -errno.EPERM
    if optname in REPAIR:
        return _set_repair(sk, optname, val, optval)
    return _set_acting(sk, optname, val, optval)


REPAIR: Final = frozenset(
    (TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS, TCP_TIMESTAMP, TCP_REPAIR_WINDOW)
)


def _ranged(ok: bool) -> int:
    return 0 if ok else -errno.EINVAL


def _set_kept(sk: Sock, optname: int, val: int) -> int | None:
    """Options that are only remembered; None for another one."""
    hz = sk.net.hz
    if optname == TCP_SYNCNT:
        if ok := 1 <= val <= MAX_TCP_SYNCNT:
            sk.icsk_syn_retries = val
        return _ranged(ok)
    if optname == TCP_USER_TIMEOUT:
        if ok := val >= 0:
            sk.icsk_user_timeout = val
        return _ranged(ok)
    if optname == TCP_KEEPINTVL:
        if ok := 1 <= val <= MAX_TCP_KEEPINTVL:
            sk.keepalive_intvl = val * hz
        return _ranged(ok)
    if optname == TCP_KEEPCNT:
        if ok := 1 <= val <= MAX_TCP_KEEPCNT:
            sk.keepalive_probes = val
        return _ranged(ok)
    if optname == TCP_LINGER2:
        sk.linger2 = -1 if val < 0 else min(val, TCP_FIN_TIMEOUT_MAX) * hz
        return 0
    if optname == TCP_DEFER_ACCEPT:
        sk.rskq_defer_accept = secs_to_retrans(val, 1, TCP_RTO_MAX)
        return 0
    if optname == TCP_MAXSEG:
        if ok := not val or TCP_MIN_MSS <= val <= MAX_TCP_WINDOW:
            sk.rx_opt.user_mss = val
        return _ranged(ok)
    if optname == TCP_THIN_LINEAR_TIMEOUTS:
        if ok := 0 <= val <= 1:
            sk.thin_lto = bool(val)
        return _ranged(ok)
    if optname == TCP_THIN_DUPACK:
        return _ranged(0 <= val <= 1)
    if optname == TCP_SAVE_SYN:
        if ok := 0 <= val <= 2:
            sk.save_syn = val
        return _ranged(ok)
    if optname == TCP_INQ:
        if ok := 0 <= val <= 1:
            sk.recvmsg_inq = bool(val)
        return _ranged(ok)
    if optname == TCP_TX_DELAY:
        sk.tcp_tx_delay = val & M32
        return 0
    return None


def _set_repair(sk: Sock, optname: int, val: int, optval: bytes) -> int:
    """Options that restore a connection."""
    if optname == TCP_REPAIR:
        if sk.sk_state == St.LISTEN:
            return -errno.EPERM
        if val == 1:
            sk.repair = True
            sk.sk_reuse = SK_FORCE_REUSE
            sk.repair_queue = TCP_NO_QUEUE
        elif val in (0, TCP_REPAIR_OFF_NO_WP):
            sk.repair = False
            sk.sk_reuse = SK_NO_REUSE
            if val == 0:
                output.tcp_send_window_probe(sk)
        else:
            return -errno.EINVAL
        return 0
    if optname == TCP_REPAIR_QUEUE:
        if not sk.repair:
            return -errno.EPERM
        if ok := 0 <= val < TCP_QUEUES_NR:
            sk.repair_queue = val
        return _ranged(ok)
    if optname == TCP_QUEUE_SEQ:
        return _set_queue_seq(sk, val & M32)
    if optname == TCP_REPAIR_OPTIONS:
        if not sk.repair:
            return -errno.EINVAL
        if sk.sk_state == St.ESTABLISHED and not sk.bytes_sent:
            return tcp_repair_options_est(sk, optval)
        return -errno.EPERM
    if optname == TCP_TIMESTAMP:
        if not sk.repair:
            return -errno.EPERM
        sk.tcp_usec_ts = bool(val & 1) and sk.net.p.kernel >= 612
        sk.tsoffset = (val - tcp_clock_ts(sk)) & M32
        return 0
    return tcp_repair_set_window(sk, optval)


def _set_queue_seq(sk: Sock, seq: int) -> int:
    if sk.sk_state != St.CLOSE:
        return -errno.EPERM
    if sk.repair_queue == TCP_SEND_QUEUE:
        if sk.tcp_rtx_queue:
            return -errno.EPERM
        sk.write_seq = seq
        return 0
    if sk.repair_queue == TCP_RECV_QUEUE:
        if sk.rcv_nxt != sk.copied_seq:
            return -errno.EPERM
        sk.rcv_nxt = sk.copied_seq = seq
        return 0
    return -errno.EINVAL


def _set_acting(sk: Sock, optname: int, val: int, optval: bytes) -> int:
    """Options that do something, or that only some states allow."""
    if optname == TCP_NODELAY:
        __tcp_sock_set_nodelay(sk, bool(val))
    elif optname == TCP_CORK:
        __tcp_sock_set_cork(sk, bool(val))
    elif optname == TCP_KEEPIDLE:
        return tcp_sock_set_keepidle_locked(sk, val)
    elif optname == TCP_WINDOW_CLAMP:
        return tcp_set_window_clamp(sk, val)
    elif optname == TCP_QUICKACK:
        __tcp_sock_set_quickack(sk, val)
    elif optname in (TCP_MD5SIG, TCP_MD5SIG_EXT):
        return md5.tcp_parse_md5_keys(sk, optname, optval)
    elif optname == TCP_FASTOPEN:
        if val < 0 or sk.sk_state not in CLOSED:
            return -errno.EINVAL
        fastopen.tcp_fastopen_init_key_once(sk.net)
        sk.fastopenq_max_qlen = min(val, sk.net.p.somaxconn)
    elif optname == TCP_FASTOPEN_CONNECT:
        if val > 1 or val < 0:
            return -errno.EINVAL
        if not sk.net.p.tcp_fastopen & TFO_CLIENT_ENABLE:
            return -errno.EOPNOTSUPP
        if sk.sk_state != St.CLOSE:
            return -errno.EINVAL
        sk.fastopen_connect = bool(val)
    elif optname == TCP_FASTOPEN_NO_COOKIE:
        if val > 1 or val < 0 or sk.sk_state not in CLOSED:
            return -errno.EINVAL
        sk.fastopen_no_cookie = bool(val)
    elif optname == TCP_NOTSENT_LOWAT:
        sk.notsent_lowat = val & M32
        poll.sk_write_space(sk)
    elif TCP_AO_ADD_KEY <= optname <= TCP_AO_REPAIR and sk.net.p.kernel >= 612:
        raise NotModelled("TCP-AO")
    else:
        return -errno.ENOPROTOOPT
    return 0


# ---------------------------------------------------------------- getsockopt


def _cut(value: bytes, length: int) -> Got:
    return 0, value[:length]


@cited("net/ipv4/tcp.c:do_tcp_getsockopt")
def do_tcp_getsockopt(sk: Sock, level: int, optname: int, length: int) -> Got:
    """Reads an option of TCP: (0 or a negative errno, the bytes that fit into `length`)."""
    if length < 0:
        return -errno.EINVAL, b""
    if optname == TCP_INFO:
        return _cut(info.tcp_info_bytes(sk), length)
    if optname == TCP_CC_INFO:
        return _cut(info.cc_info_bytes(sk), length)
    if optname == TCP_CONGESTION:
        return _cut(sk.icsk_ca_ops.name.encode().ljust(TCP_CA_NAME_MAX, b"\0"), min(length, TCP_CA_NAME_MAX))
    if optname == TCP_ULP:
        return 0, b""
    if optname == TCP_FASTOPEN_KEY:
        return _cut(b"".join(fastopen.tcp_fastopen_get_cipher(sk.net, sk)), length)
    if optname == TCP_REPAIR_WINDOW:
        if length != 20:
            return -errno.EINVAL, b""
        if not sk.repair:
            return -errno.EPERM, b""
        return 0, pack("<5I", sk.snd_wl1, sk.snd_wnd, sk.max_window, sk.rcv_wnd, sk.rcv_wup)
    if optname == TCP_SAVED_SYN:
        return _get_saved_syn(sk, length)
    if optname == TCP_ZEROCOPY_RECEIVE:
        if length < 12:  # the end of `length`, the second field
            return -errno.EINVAL, b""
        raise NotModelled("receiving by mapped pages")
    if TCP_AO_ADD_KEY <= optname <= TCP_AO_REPAIR and sk.net.p.kernel >= 612:
        raise NotModelled("TCP-AO")
    val = _get_int(sk, optname)
    if val is None:
        return -errno.ENOPROTOOPT, b""
    if val == REFUSED:
        return -errno.EINVAL, b""
    return _cut((val & M32).to_bytes(4, "little"), length)


REFUSED: Final = 1 << 40


def _get_saved_syn(sk: Sock, length: int) -> Got:
    """The SYN that began the connection, once; what is longer than the room for it stays."""
    saved = sk.saved_syn
    if saved is None:
        return 0, b""
    if length < len(saved):
        return -errno.EINVAL, b""
    sk.saved_syn = None
    return 0, saved


def _get_int(sk: Sock, optname: int) -> int | None:
    """An option that is an int; None for an unknown one, REFUSED for one that can't be read now."""
    p, hz = sk.net.p, sk.net.hz
    if optname == TCP_MAXSEG:
        if sk.repair:
            return sk.rx_opt.mss_clamp
        return sk.rx_opt.user_mss if sk.rx_opt.user_mss and sk.sk_state in CLOSED else sk.mss_cache
    if optname == TCP_LINGER2:
        return sk.linger2 if sk.linger2 < 0 else (sk.linger2 or p.tcp_fin_timeout * hz) // hz
    if optname == TCP_REPAIR_QUEUE:
        return sk.repair_queue if sk.repair else REFUSED
    if optname == TCP_QUEUE_SEQ:
        if sk.repair_queue == TCP_SEND_QUEUE:
            return sk.write_seq
        return sk.rcv_nxt if sk.repair_queue == TCP_RECV_QUEUE else REFUSED
    if optname == TCP_TIMESTAMP:
        stamp = (tcp_clock_ts(sk) + sk.tsoffset) & M32
        if p.kernel < 612:
            return stamp
        return stamp | 1 if sk.tcp_usec_ts else stamp & ~1
    if optname == TCP_IS_MPTCP:
        return 0 if p.kernel >= 612 else None
    values = {
        TCP_NODELAY: bool(sk.nonagle & TCP_NAGLE_OFF),
        TCP_CORK: bool(sk.nonagle & TCP_NAGLE_CORK),
        TCP_KEEPIDLE: timer.keepalive_time_when(sk) // hz,
        TCP_KEEPINTVL: timer.keepalive_intvl_when(sk) // hz,
        TCP_KEEPCNT: timer.keepalive_probes(sk),
        TCP_SYNCNT: sk.icsk_syn_retries or p.tcp_syn_retries,
        TCP_DEFER_ACCEPT: retrans_to_secs(sk.rskq_defer_accept, 1, TCP_RTO_MAX),
        TCP_WINDOW_CLAMP: sk.window_clamp,
        TCP_QUICKACK: not inet_csk_in_pingpong_mode(sk),
        TCP_THIN_LINEAR_TIMEOUTS: sk.thin_lto,
        TCP_THIN_DUPACK: 0,
        TCP_REPAIR: sk.repair,
        TCP_USER_TIMEOUT: sk.icsk_user_timeout,
        TCP_FASTOPEN: sk.fastopenq_max_qlen,
        TCP_FASTOPEN_CONNECT: sk.fastopen_connect,
        TCP_FASTOPEN_NO_COOKIE: sk.fastopen_no_cookie,
        TCP_TX_DELAY: sk.tcp_tx_delay,
        TCP_NOTSENT_LOWAT: sk.notsent_lowat,
        TCP_INQ: sk.recvmsg_inq,
        TCP_SAVE_SYN: sk.save_syn,
    }
    val = values.get(optname)
    return None if val is None else int(val)
