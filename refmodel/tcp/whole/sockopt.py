"""Options of level SOL_SOCKET, and the way of setsockopt() and getsockopt() to each level (net/core/sock.c).

The law: what needs a capability is refused to a caller without it. A value is bytes, little-endian; every option but
SO_BINDTODEVICE needs an int at least. What TCP never looks at is kept for who asks for it again.
"""

import errno
from collections.abc import Generator
from struct import pack, unpack, unpack_from
from typing import TYPE_CHECKING, Any, Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import capability, errqueue, info, ipopt, stream, tcpopt, timer
from refmodel.tcp.whole.const import SK_PACING_NEEDED, SK_PACING_NONE
from refmodel.tcp.whole.errqueue import (
    SOF_TIMESTAMPING_BIND_PHC,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_OPT_ID_TCP,
    SOF_TIMESTAMPING_OPT_STATS,
    SOF_TIMESTAMPING_OPT_TSONLY,
    SOF_TIMESTAMPING_RX_SOFTWARE,
)
from refmodel.tcp.whole.net import Wait
from refmodel.tcp.whole.sock import InetSock, Sock

if TYPE_CHECKING:
    from refmodel.tcp.whole.calls import Process
    from refmodel.tcp.whole.sockfile import SocketFile

SOL_SOCKET: Final = 1
SOL_TCP: Final = 6

SO_DEBUG: Final = 1
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_DONTROUTE: Final = 5
SO_BROADCAST: Final = 6
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_OOBINLINE: Final = 10
SO_NO_CHECK: Final = 11
SO_PRIORITY: Final = 12
SO_LINGER: Final = 13
SO_BSDCOMPAT: Final = 14
SO_REUSEPORT: Final = 15
SO_PASSCRED: Final = 16
SO_PEERCRED: Final = 17
SO_RCVLOWAT: Final = 18
SO_SNDLOWAT: Final = 19
SO_RCVTIMEO_OLD: Final = 20
SO_SNDTIMEO_OLD: Final = 21
SO_BINDTODEVICE: Final = 25
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
SO_PEERNAME: Final = 28
SO_TIMESTAMP_OLD: Final = 29
SO_ACCEPTCONN: Final = 30
SO_PEERSEC: Final = 31
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
SO_PASSSEC: Final = 34
SO_TIMESTAMPNS_OLD: Final = 35
SO_MARK: Final = 36
SO_TIMESTAMPING_OLD: Final = 37
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
SO_RXQ_OVFL: Final = 40
SO_WIFI_STATUS: Final = 41
SO_PEEK_OFF: Final = 42
SO_NOFCS: Final = 43
SO_LOCK_FILTER: Final = 44
SO_SELECT_ERR_QUEUE: Final = 45
SO_BUSY_POLL: Final = 46
SO_MAX_PACING_RATE: Final = 47
SO_BPF_EXTENSIONS: Final = 48
SO_INCOMING_CPU: Final = 49
SO_ATTACH_BPF: Final = 50
SO_ATTACH_REUSEPORT_CBPF: Final = 51
SO_ATTACH_REUSEPORT_EBPF: Final = 52
SO_CNX_ADVICE: Final = 53
SO_MEMINFO: Final = 55
SO_INCOMING_NAPI_ID: Final = 56
SO_COOKIE: Final = 57
SO_PEERGROUPS: Final = 59
SO_ZEROCOPY: Final = 60
SO_TXTIME: Final = 61
SO_BINDTOIFINDEX: Final = 62
SO_TIMESTAMP_NEW: Final = 63
SO_TIMESTAMPNS_NEW: Final = 64
SO_TIMESTAMPING_NEW: Final = 65
SO_RCVTIMEO_NEW: Final = 66
SO_SNDTIMEO_NEW: Final = 67
SO_DETACH_REUSEPORT_BPF: Final = 68
SO_PREFER_BUSY_POLL: Final = 69
SO_BUSY_POLL_BUDGET: Final = 70
SO_NETNS_COOKIE: Final = 71
SO_BUF_LOCK: Final = 72
SO_RESERVE_MEM: Final = 73
SO_TXREHASH: Final = 74
SO_RCVMARK: Final = 75
SO_PASSPIDFD: Final = 76
SO_PEERPIDFD: Final = 77

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
M32: Final = 0xFFFFFFFF
M64: Final = 0xFFFFFFFFFFFFFFFF
SOCK_MIN_SNDBUF: Final = 4608
SOCK_MIN_RCVBUF: Final = 2304
SOCK_SNDBUF_LOCK: Final = 1
SOCK_RCVBUF_LOCK: Final = 2
SOCK_BUF_LOCK_MASK: Final = 3
SOCK_TXREHASH_DEFAULT: Final = 255
IFNAMSIZ: Final = 16
USEC: Final = 1_000_000
CLOCK_MONOTONIC: Final = 1
CLOCKS: Final = (0, 1, 11)  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_TAI
DEVICES: Final = {b"": 0, b"lo": 1, b"tun0": errqueue.TUN_IFINDEX}
AF_INET6: Final = 10
TC_PRIO_INTERACTIVE: Final = 6  # the highest priority that anybody may ask for
MAX_CAST: Final = 1 << 30  # SZ_1G

FLAGS: Final = {
    SO_DEBUG: "SOCK_DBG",
    SO_DONTROUTE: "SOCK_LOCALROUTE",
    SO_BROADCAST: "SOCK_BROADCAST",
    SO_OOBINLINE: "SOCK_URGINLINE",
    SO_RCVMARK: "SOCK_RCVMARK",
    SO_RXQ_OVFL: "SOCK_RXQ_OVFL",
    SO_WIFI_STATUS: "SOCK_WIFI_STATUS",
    SO_NOFCS: "SOCK_NOFCS",
    SO_SELECT_ERR_QUEUE: "SOCK_SELECT_ERR_QUEUE",
    SO_PASSCRED: "SOCK_PASSCRED",
    SO_PASSPIDFD: "SOCK_PASSPIDFD",
    SO_PASSSEC: "SOCK_PASSSEC",
    SO_NO_CHECK: "sk_no_check_tx",
    SO_PREFER_BUSY_POLL: "sk_prefer_busy_poll",
}
"""Options that are one bit of the socket."""

ADMIN: Final = frozenset((SO_DEBUG, SO_PREFER_BUSY_POLL, SO_SNDBUFFORCE, SO_RCVBUFFORCE))
"""Options that need CAP_NET_ADMIN to be turned on; those that force a size need it for any value."""

BPF: Final = frozenset(
    (SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF),
)
TIMESTAMPS: Final = {
    SO_TIMESTAMP_OLD: (False, False),
    SO_TIMESTAMP_NEW: (True, False),
    SO_TIMESTAMPNS_OLD: (False, True),
    SO_TIMESTAMPNS_NEW: (True, True),
}
"""Per option: the new form, nanoseconds."""

Got = tuple[int, bytes]
Call = Generator[Wait, bool, Any]


def sock_valbool_flag(sk: InetSock, flag: str, on: bool) -> None:
    """Sets or clears a bit of the socket; source net/core/sock.c:sock_valbool_flag."""
    if on:
        sk.sk_flags.add(flag)
    else:
        sk.sk_flags.discard(flag)


@cited("net/core/sock.c:sock_set_timeout")
def sock_set_timeout(sk: InetSock, value: bytes) -> tuple[int, int | None]:
    """A time-out in whole jiffies, as us; nothing at all means for ever (-1), a negative one at once."""
    if len(value) < 16:
        return -errno.EINVAL, None
    sec, usec = unpack_from("<qq", value)
    if not 0 <= usec < USEC:
        return -errno.EDOM, None
    if sec < 0:
        return 0, 0
    hz = sk.net.hz
    if not (sec or usec) or sec >= LONG_MAX // hz - 1:
        return 0, -1
    return 0, sk.net.jiffies_to_usecs(sec * hz + -(-usec // (USEC // hz)))


def sock_get_timeout(us: int) -> bytes:
    """struct timeval of a time-out, zero for one that is for ever; source net/core/sock.c:sock_get_timeout."""
    return pack("<qq", us // USEC, us % USEC) if us >= 0 else bytes(16)


@cited("net/core/sock.c:__sock_set_rcvbuf")
def __sock_set_rcvbuf(sk: InetSock, val: int) -> None:
    """The receive buffer is twice what was asked for, and no longer grows by itself."""
    sk.sk_userlocks |= SOCK_RCVBUF_LOCK
    sk.sk_rcvbuf = max(min(val, INT_MAX // 2) * 2, SOCK_MIN_RCVBUF)


def _set_sndbuf(sk: InetSock, val: int) -> None:
    sk.sk_userlocks |= SOCK_SNDBUF_LOCK
    sk.sk_sndbuf = max(min(val, INT_MAX // 2) * 2, SOCK_MIN_SNDBUF)
    sk.write_space()


@cited("net/core/sock.c:sock_set_timestamping")
def sock_set_timestamping(sk: InetSock, optname: int, val: int) -> int:
    """Which moments of segments shall be stamped; with OPT_ID bytes are numbered from what isn't acknowledged."""
    new_flags = sk.net.p.kernel >= 612
    mask = 0x3FFFF if new_flags else 0xFFFF
    if val & ~mask:
        return -errno.EINVAL
    if val & SOF_TIMESTAMPING_OPT_ID_TCP and not val & SOF_TIMESTAMPING_OPT_ID:
        return -errno.EINVAL
    if val & SOF_TIMESTAMPING_OPT_ID and not sk.sk_tsflags & SOF_TIMESTAMPING_OPT_ID:
        if not isinstance(sk, Sock):
            sk.sk_tskey = 0
        elif sk.sk_state in (St.CLOSE, St.LISTEN):
            return -errno.EINVAL
        else:
            sk.sk_tskey = sk.write_seq if val & SOF_TIMESTAMPING_OPT_ID_TCP else sk.snd_una
    if val & SOF_TIMESTAMPING_OPT_STATS and not val & SOF_TIMESTAMPING_OPT_TSONLY:
        return -errno.EINVAL
    if val & SOF_TIMESTAMPING_BIND_PHC:
        return -errno.EINVAL if sk.inet_opts.get("bound_dev_if") else -errno.EOPNOTSUPP
    sk.sk_tsflags = val
    sock_valbool_flag(sk, "SOCK_TSTAMP_NEW", optname == SO_TIMESTAMPING_NEW)
    sock_valbool_flag(sk, "SOCK_TIMESTAMPING_RX_SOFTWARE", bool(val & SOF_TIMESTAMPING_RX_SOFTWARE))
    return 0


@cited("net/core/sock.c:__sock_set_timestamps", "net/core/sock.c:sock_set_timestamp")
def sock_set_timestamp(sk: InetSock, optname: int, val: bool) -> None:
    """Reads tell when their data arrived, in us or ns."""
    if not val:
        sock_valbool_flag(sk, "SOCK_RCVTSTAMP", False)
        sock_valbool_flag(sk, "SOCK_RCVTSTAMPNS", False)
        return
    new, ns = TIMESTAMPS[optname]
    sock_valbool_flag(sk, "SOCK_TSTAMP_NEW", new)
    sock_valbool_flag(sk, "SOCK_RCVTSTAMPNS", ns)
    sock_valbool_flag(sk, "SOCK_RCVTSTAMP", True)
    sock_valbool_flag(sk, "SOCK_TIMESTAMP", True)


def _may_rebind(sk: InetSock) -> bool:
    """A socket may be bound to a device by anybody, to another one only with CAP_NET_RAW."""
    return not sk.inet_opts.get("bound_dev_if") or capability.ns_capable(sk.net, capability.CAP_NET_RAW)


def _bindtodevice(sk: InetSock, value: bytes) -> int:
    name = value[: IFNAMSIZ - 1].partition(b"\0")[0]
    if name not in DEVICES:
        return -errno.ENODEV
    if not _may_rebind(sk):
        return -errno.EPERM
    sk.inet_opts["bound_dev_if"] = DEVICES[name]
    return 0


def _max_pacing_rate(sk: InetSock, val: int, optval: bytes) -> int:
    rate = M64 if val == -1 else val & M32
    if len(optval) >= 8:
        (rate,) = unpack_from("<Q", optval)
    if rate != M64 and sk.sk_pacing_status == SK_PACING_NONE:
        sk.sk_pacing_status = SK_PACING_NEEDED
    sk.sk_max_pacing_rate = rate
    sk.sk_pacing_rate = min(sk.sk_pacing_rate, rate)
    return 0


@cited("net/core/sock.c:sk_setsockopt")
def sk_setsockopt(sk: InetSock, optname: int, optval: bytes) -> int:
    """Sets an option of the socket itself: 0 or a negative errno."""
    if optname == SO_BINDTODEVICE:
        return _bindtodevice(sk, optval)
    if len(optval) < 4:
        return -errno.EINVAL
    (val,) = unpack_from("<i", optval)
    forced = optname in (SO_SNDBUFFORCE, SO_RCVBUFFORCE)
    if optname in ADMIN and (val or forced) and not capability.ns_capable(sk.net, capability.CAP_NET_ADMIN):
        return -errno.EACCES if optname == SO_DEBUG else -errno.EPERM
    if optname in FLAGS:
        sock_valbool_flag(sk, FLAGS[optname], bool(val))
        return 0
    if optname in (SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_ERROR):
        return -errno.ENOPROTOOPT
    if optname in BPF:
        if (
            optname == SO_ATTACH_FILTER
            and isinstance(sk, Sock)
            and not capability.ns_capable(sk.net, capability.CAP_NET_ADMIN)
        ):
            return -errno.EPERM
        raise NotModelled("filters of sockets")
    for setter in (_set_buffer, _set_time):
        done = setter(sk, optname, val, optval)
        if done is not None:
            return done
    return _set_other(sk, optname, val, optval)


def _set_buffer(sk: InetSock, optname: int, val: int, optval: bytes) -> int | None:
    """Buffers and marks for their fill; None for another option."""
    p = sk.net.p
    if optname == SO_SNDBUF:
        _set_sndbuf(sk, min(val & M32, p.wmem_max))
    elif optname == SO_SNDBUFFORCE:
        _set_sndbuf(sk, max(val, 0))
    elif optname == SO_RCVBUF:
        __sock_set_rcvbuf(sk, min(val & M32, p.rmem_max))
    elif optname == SO_RCVBUFFORCE:
        __sock_set_rcvbuf(sk, max(val, 0))
    elif optname == SO_RCVLOWAT:
        wanted = INT_MAX if val < 0 else val
        if isinstance(sk, Sock):
            return tcpopt.tcp_set_rcvlowat(sk, wanted)
        sk.sk_rcvlowat = wanted or 1
    elif optname == SO_BUF_LOCK:
        if val & ~SOCK_BUF_LOCK_MASK:
            return -errno.EINVAL
        sk.sk_userlocks = val | sk.sk_userlocks & ~SOCK_BUF_LOCK_MASK
    elif optname == SO_RESERVE_MEM:
        return -errno.EINVAL if not 0 <= val <= MAX_CAST else -errno.EOPNOTSUPP if val else 0
    else:
        return None
    return 0


def _set_time(sk: InetSock, optname: int, val: int, optval: bytes) -> int | None:
    """Time-outs, lingering, time stamps; None for another option."""
    if optname in (SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW, SO_SNDTIMEO_OLD, SO_SNDTIMEO_NEW):
        err, timeo = sock_set_timeout(sk, optval)
        if timeo is not None:
            if optname in (SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW):
                sk.sk_rcvtimeo = timeo
            else:
                sk.sk_sndtimeo = timeo
        return err
    if optname == SO_LINGER:
        if len(optval) < 8:
            return -errno.EINVAL
        onoff, linger = unpack_from("<ii", optval)
        if onoff:
            forever = linger & M64 >= LONG_MAX // sk.net.hz
            sk.sk_lingertime = -1 if forever else linger * USEC
        sock_valbool_flag(sk, "SOCK_LINGER", bool(onoff))
        return 0
    if optname in TIMESTAMPS:
        sock_set_timestamp(sk, optname, bool(val))
        return 0
    if optname in (SO_TIMESTAMPING_OLD, SO_TIMESTAMPING_NEW):
        return sock_set_timestamping(sk, optname, val)
    if optname == SO_TXTIME:
        if len(optval) != 8:
            return -errno.EINVAL
        clockid, flags = unpack("<iI", optval)
        if clockid != CLOCK_MONOTONIC and not capability.ns_capable(sk.net, capability.CAP_NET_ADMIN):
            return -errno.EPERM
        if flags & ~3 or clockid not in CLOCKS:
            return -errno.EINVAL
        sk.inet_opts["clockid"], sk.inet_opts["txtime_flags"] = clockid, flags
        sock_valbool_flag(sk, "SOCK_TXTIME", True)
        return 0
    return None


def _set_other(sk: InetSock, optname: int, val: int, optval: bytes) -> int:
    admin = capability.ns_capable(sk.net, capability.CAP_NET_ADMIN)
    if optname == SO_PRIORITY:
        if not 0 <= val <= TC_PRIO_INTERACTIVE and not capability.net_raw_or_admin(sk.net):
            return -errno.EPERM
        sk.sk_priority = val & M32
    elif optname == SO_REUSEADDR:
        sk.sk_reuse = int(bool(val))
    elif optname == SO_REUSEPORT:
        sk.sk_reuseport = int(bool(val))
    elif optname == SO_KEEPALIVE:
        if isinstance(sk, Sock):
            timer.tcp_set_keepalive(sk, int(bool(val)))
        sock_valbool_flag(sk, "SOCK_KEEPOPEN", bool(val))
    elif optname == SO_MAX_PACING_RATE:
        return _max_pacing_rate(sk, val, optval)
    elif optname == SO_MARK:
        if not capability.net_raw_or_admin(sk.net):
            return -errno.EPERM
        sk.sk_mark = val & M32
    elif optname == SO_TXREHASH:
        if not -1 <= val <= 1:
            return -errno.EINVAL
        sk.sk_txrehash = sk.net.p.txrehash if val == -1 else val
    elif optname == SO_ZEROCOPY:
        if val not in (0, 1):
            return -errno.EINVAL
        sock_valbool_flag(sk, "SOCK_ZEROCOPY", bool(val))
    elif optname == SO_LOCK_FILTER:
        if "SOCK_FILTER_LOCKED" in sk.sk_flags and not val:
            return -errno.EPERM
        sock_valbool_flag(sk, "SOCK_FILTER_LOCKED", bool(val))
    elif optname == SO_PEEK_OFF:
        if sk.net.p.kernel < 612 and isinstance(sk, Sock):
            return -errno.EOPNOTSUPP
        sk.sk_peek_off = val
    elif optname == SO_BUSY_POLL:
        if sk.net.p.kernel < 612 and val > sk.inet_opts.get("ll_usec", 0) and not admin:
            return -errno.EPERM
        if val < 0:
            return -errno.EINVAL
        sk.inet_opts["ll_usec"] = val
    elif optname == SO_BUSY_POLL_BUDGET:
        return 0 if 0 <= val <= 0xFFFF else -errno.EINVAL
    elif optname == SO_INCOMING_CPU:
        sk.inet_opts["incoming_cpu"] = val
    elif optname == SO_CNX_ADVICE:
        if val == 1 and isinstance(sk, Sock):
            timer.dst_negative_advice(sk)
    elif optname == SO_BINDTOIFINDEX:
        if not _may_rebind(sk):
            return -errno.EPERM
        if val < 0:
            return -errno.EINVAL
        sk.inet_opts["bound_dev_if"] = val
    elif optname in (SO_DETACH_FILTER, SO_DETACH_REUSEPORT_BPF):
        return -errno.ENOENT
    elif optname != SO_BSDCOMPAT:
        return -errno.ENOPROTOOPT
    return 0


# ---------------------------------------------------------------- getsockopt


def sock_error(sk: InetSock) -> int:
    """The pending error, once, as a negative errno; source include/net/sock.h:sock_error."""
    err = sk.sk_err
    sk.sk_err = 0
    return -err


@cited("net/core/sock.c:sk_getsockopt")
def sk_getsockopt(sk: InetSock, optname: int, length: int) -> Got:
    """Reads an option of the socket itself: (0 or a negative errno, the bytes that fit into `length`)."""
    if length < 0:
        return -errno.EINVAL, b""
    if optname in FLAGS:
        return 0, int(FLAGS[optname] in sk.sk_flags).to_bytes(4, "little")[:length]
    special = _get_special(sk, optname, length)
    if special is not None:
        err, value = special
        return err, value[:length]
    val = _get_int(sk, optname)
    if val is None:
        return -errno.ENOPROTOOPT, b""
    return 0, (val & M32).to_bytes(4, "little")[:length]


def _get_special(sk: InetSock, optname: int, length: int) -> Got | None:
    """Options that aren't an int; None for another one."""
    if optname == SO_LINGER:
        seconds = LONG_MAX // sk.net.hz if sk.sk_lingertime < 0 else sk.sk_lingertime // USEC
        return 0, pack("<II", "SOCK_LINGER" in sk.sk_flags, seconds & M32)
    if optname in (SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW):
        return 0, sock_get_timeout(sk.sk_rcvtimeo)
    if optname in (SO_SNDTIMEO_OLD, SO_SNDTIMEO_NEW):
        return 0, sock_get_timeout(sk.sk_sndtimeo)
    if optname in (SO_TIMESTAMPING_OLD, SO_TIMESTAMPING_NEW):
        shown = optname == SO_TIMESTAMPING_OLD or "SOCK_TSTAMP_NEW" in sk.sk_flags
        return 0, pack("<ii", sk.sk_tsflags if shown else 0, 0)
    if optname == SO_MAX_PACING_RATE:
        if length >= 8:
            return 0, pack("<Q", sk.sk_max_pacing_rate)
        return 0, pack("<I", min(M32, sk.sk_max_pacing_rate))
    if optname == SO_MEMINFO:
        return 0, info.meminfo_bytes(sk)
    if optname == SO_TXTIME:
        return 0, pack("<iI", sk.inet_opts.get("clockid", 0), sk.inet_opts.get("txtime_flags", 0))
    if optname == SO_PEERCRED:
        return 0, pack("<iII", 0, M32, M32)
    if optname in (SO_PEERPIDFD, SO_PEERGROUPS):
        return -errno.ENODATA, b""
    if optname == SO_PEERSEC:
        return -errno.ENOPROTOOPT, b""
    if optname == SO_PEERNAME:
        return _get_peername(sk, length)
    if optname in (SO_COOKIE, SO_NETNS_COOKIE):
        wrong = length < 8 if optname == SO_COOKIE else length != 8
        return (-errno.EINVAL, b"") if wrong else (0, pack("<Q", 1))
    if optname == SO_BINDTODEVICE:
        index = sk.inet_opts.get("bound_dev_if", 0)
        if not index:
            return 0, b""
        if length < IFNAMSIZ:
            return -errno.EINVAL, b""
        names = {number: name for name, number in DEVICES.items()}
        return (0, names[index] + b"\0") if index in names else (-errno.ENODEV, b"")
    if optname == SO_ATTACH_FILTER:  # SO_GET_FILTER
        return 0, b""
    return None


def _get_peername(sk: InetSock, length: int) -> Got:
    if sk.sk_state in (St.CLOSE, St.SYN_SENT) or not sk.inet_dport:
        return -errno.ENOTCONN, b""
    name = errqueue.sockaddr_in(sk.sk_family, sk.inet_daddr, sk.inet_dport)
    return (-errno.EINVAL, b"") if len(name) < length else (0, name)


def _get_int(sk: InetSock, optname: int) -> int | None:
    flags = sk.sk_flags
    if optname == SO_ERROR:
        pending = -sock_error(sk)
        if pending == 0:
            pending, sk.sk_err_soft = sk.sk_err_soft, 0
        return pending
    if optname in TIMESTAMPS:
        new, ns = TIMESTAMPS[optname]
        if ns:
            return "SOCK_RCVTSTAMPNS" in flags and ("SOCK_TSTAMP_NEW" in flags) == new
        on = "SOCK_RCVTSTAMP" in flags and ("SOCK_TSTAMP_NEW" in flags) == new
        return on if new else on and "SOCK_RCVTSTAMPNS" not in flags
    if optname == SO_PEEK_OFF and sk.net.p.kernel < 612 and isinstance(sk, Sock):
        return None
    values = {
        SO_SNDBUF: sk.sk_sndbuf,
        SO_RCVBUF: sk.sk_rcvbuf,
        SO_REUSEADDR: sk.sk_reuse,
        SO_REUSEPORT: sk.sk_reuseport,
        SO_KEEPALIVE: "SOCK_KEEPOPEN" in flags,
        SO_TYPE: sk.sk_type,
        SO_PROTOCOL: sk.sk_protocol,
        SO_DOMAIN: sk.sk_family,
        SO_PRIORITY: sk.sk_priority,
        SO_BSDCOMPAT: 0,
        SO_RCVLOWAT: sk.sk_rcvlowat,
        SO_SNDLOWAT: 1,
        SO_ACCEPTCONN: sk.sk_state == St.LISTEN,
        SO_MARK: sk.sk_mark,
        SO_PEEK_OFF: sk.sk_peek_off,
        SO_LOCK_FILTER: "SOCK_FILTER_LOCKED" in flags,
        SO_BPF_EXTENSIONS: 64,
        SO_BUSY_POLL: sk.inet_opts.get("ll_usec", 0),
        SO_INCOMING_CPU: sk.inet_opts.get("incoming_cpu", 0 if isinstance(sk, Sock) and sk.segs_in else -1),
        SO_INCOMING_NAPI_ID: 0,
        SO_ZEROCOPY: "SOCK_ZEROCOPY" in flags,
        SO_BINDTOIFINDEX: sk.inet_opts.get("bound_dev_if", 0),
        SO_BUF_LOCK: sk.sk_userlocks & SOCK_BUF_LOCK_MASK,
        SO_RESERVE_MEM: sk.sk_reserved_mem,
        SO_TXREHASH: sk.sk_txrehash,
    }
    val = values.get(optname)
    return None if val is None else int(val)


# ---------------------------------------------------------------- the calls


@cited("net/socket.c:do_sock_setsockopt", "net/ipv4/tcp.c:tcp_setsockopt")
def do_sock_setsockopt(sk: InetSock, level: int, optname: int, optval: bytes) -> int:
    """setsockopt() on a socket, the protocol's own level left to the protocol: 0 or a negative errno."""
    if level == SOL_SOCKET:
        return sk_setsockopt(sk, optname, optval)
    if level == SOL_TCP and isinstance(sk, Sock):
        return tcpopt.do_tcp_setsockopt(sk, level, optname, optval)
    if sk.sk_family == AF_INET6:
        return ipopt.ipv6_setsockopt(sk, level, optname, optval)
    return ipopt.ip_setsockopt(sk, level, optname, optval)


@cited("net/socket.c:do_sock_getsockopt", "net/ipv4/tcp.c:tcp_getsockopt")
def do_sock_getsockopt(sk: InetSock, level: int, optname: int, length: int) -> Got:
    """getsockopt() on a socket, the protocol's own level left to the protocol: (0 or a negative errno, value)."""
    if level == SOL_SOCKET:
        return sk_getsockopt(sk, optname, length)
    if level == SOL_TCP and isinstance(sk, Sock):
        return tcpopt.do_tcp_getsockopt(sk, level, optname, length)
    if sk.sk_family == AF_INET6:
        return ipopt.ipv6_getsockopt(sk, level, optname, length)
    return ipopt.ip_getsockopt(sk, level, optname, length)


def _socket(proc: "Process", fd: int) -> "SocketFile | int":
    from refmodel.tcp.whole.sockfile import SocketFile

    file = proc.fds.get(fd)
    if file is None:
        return -errno.EBADF
    return file if isinstance(file, SocketFile) else -errno.ENOTSOCK


def sys_setsockopt(proc: "Process", fd: int, level: int, name: int, value: bytes | None) -> Call:
    """setsockopt(2): `value` are the bytes passed, None a null pointer; source net/socket.c:__sys_setsockopt."""
    from refmodel.tcp.whole import calls

    file = _socket(proc, fd)
    if isinstance(file, int):
        return calls.Ret(file)
    if value is None:
        return calls.Ret(-errno.EFAULT)
    stream.lock_sock(file.sk)
    err = file.setsockopt(level, name, value)
    stream.release_sock(file.sk)
    return calls.Ret(err)
    yield


def sys_getsockopt(proc: "Process", fd: int, level: int, name: int, optlen: int) -> Call:
    """getsockopt(2) with room for `optlen` bytes; what is told of the value is its bytes, as far as they fit."""
    from refmodel.tcp.whole import calls

    file = _socket(proc, fd)
    if isinstance(file, int):
        return calls.Ret(file, b"")
    err, value = file.getsockopt(level, name, optlen)
    return calls.Ret(err, value)
    yield
