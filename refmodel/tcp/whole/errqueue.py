"""The error queue of a socket: zerocopy notifications, time stamps of what was sent, ICMP errors.

The law: a notification or time stamp tells what happened to bytes that the application gave; it stands in the queue
until recvmsg(MSG_ERRQUEUE) takes it, one at a time, in order. Zerocopy notifications that follow one another are one.
A device that loops or keeps what it sends (as tun, or any with a tap) makes a copy, and the notification says so.

Time stamps are us of the Net's clock, which stands for CLOCK_REALTIME too; cmsgs hold seconds and nanoseconds.
"""

import errno
from collections.abc import Iterable
from struct import pack
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import capability, info
from refmodel.tcp.whole.const import SKB_TRUESIZE, skb_end_offset
from refmodel.tcp.whole.skb import IcmpError, Packet, Skb, SockAddr
from refmodel.tcp.whole.sock import InetSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_hdrlen
from refmodel.types import M32, before

SOL_IP: Final = 0
SOL_SOCKET: Final = 1
SOL_TCP: Final = 6
SOL_IPV6: Final = 41
IP_TOS: Final = 1
IP_TTL: Final = 2
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
IPV6_HOPLIMIT: Final = 52
IPV6_TCLASS: Final = 67
TCP_CM_INQ: Final = 36

SO_TIMESTAMP_OLD: Final = 29
SO_TIMESTAMPNS_OLD: Final = 35
SO_MARK: Final = 36
SO_TIMESTAMPING_OLD: Final = 37
SCM_TIMESTAMPING_OPT_STATS: Final = 54
SCM_TXTIME: Final = 61
SO_TIMESTAMP_NEW: Final = 63
SO_TIMESTAMPNS_NEW: Final = 64
SO_TIMESTAMPING_NEW: Final = 65
SCM_RIGHTS: Final = 1
SCM_CREDENTIALS: Final = 2

MSG_CTRUNC: Final = 0x8
MSG_TRUNC: Final = 0x20
MSG_ERRQUEUE: Final = 0x2000

SO_EE_ORIGIN_LOCAL: Final = 1
SO_EE_ORIGIN_ICMP: Final = 2
SO_EE_ORIGIN_ICMP6: Final = 3
SO_EE_ORIGIN_TIMESTAMPING: Final = 4
SO_EE_ORIGIN_ZEROCOPY: Final = 5
SO_EE_CODE_ZEROCOPY_COPIED: Final = 1

SCM_TSTAMP_SND: Final = 0
SCM_TSTAMP_SCHED: Final = 1
SCM_TSTAMP_ACK: Final = 2

SOF_TIMESTAMPING_TX_HARDWARE: Final = 1 << 0
SOF_TIMESTAMPING_TX_SOFTWARE: Final = 1 << 1
SOF_TIMESTAMPING_RX_HARDWARE: Final = 1 << 2
SOF_TIMESTAMPING_RX_SOFTWARE: Final = 1 << 3
SOF_TIMESTAMPING_SOFTWARE: Final = 1 << 4
SOF_TIMESTAMPING_RAW_HARDWARE: Final = 1 << 6
SOF_TIMESTAMPING_OPT_ID: Final = 1 << 7
SOF_TIMESTAMPING_TX_SCHED: Final = 1 << 8
SOF_TIMESTAMPING_TX_ACK: Final = 1 << 9
SOF_TIMESTAMPING_OPT_CMSG: Final = 1 << 10
SOF_TIMESTAMPING_OPT_TSONLY: Final = 1 << 11
SOF_TIMESTAMPING_OPT_STATS: Final = 1 << 12
SOF_TIMESTAMPING_BIND_PHC: Final = 1 << 15
SOF_TIMESTAMPING_OPT_ID_TCP: Final = 1 << 16
SOF_TIMESTAMPING_OPT_RX_FILTER: Final = 1 << 17
SOF_TIMESTAMPING_TX_RECORD_MASK: Final = (
    SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_ACK
)

SKBTX_HW_TSTAMP: Final = 1 << 0
SKBTX_SW_TSTAMP: Final = 1 << 1
SKBTX_HW_TSTAMP_USE_CYCLES: Final = 1 << 3
SKBTX_SCHED_TSTAMP: Final = 1 << 6
SKBTX_ANY_TSTAMP: Final = SKBTX_HW_TSTAMP | SKBTX_HW_TSTAMP_USE_CYCLES | SKBTX_SW_TSTAMP | SKBTX_SCHED_TSTAMP

OPT_STATS_SIZE: Final = 256  # tcp_opt_stats_get_size
BYTE_LIMIT: Final = 1 << 19  # of one notification
USHRT_MAX: Final = 65535
CMSG_HDR: Final = 16
USEC: Final = 1_000_000
TUN_IFINDEX: Final = 2
AF_INET: Final = 2
AF_INET6: Final = 10
ICMP_QUOTED: Final = 8  # bytes of the segment that an ICMP error quotes


def alloc_skb(sk: InetSock, size: int = 0) -> int:
    """The memory of an skb whose head has room for `size` bytes; source net/core/skbuff.c:__alloc_skb."""
    p = sk.net.p
    return SKB_TRUESIZE(skb_end_offset(size, p.kernel, p.max_header))


class RecvMsg:
    """struct msghdr as recvmsg fills it: flags, the peer's name, control messages as far as they fit."""

    __slots__ = ("cmsgs", "msg_controllen", "msg_flags", "msg_get_inq", "msg_inq", "msg_name")

    def __init__(self, controllen: int = 0, flags: int = 0) -> None:
        self.msg_flags = flags
        self.msg_controllen = controllen
        self.msg_name: SockAddr | None = None
        self.cmsgs: list[tuple[int, int, bytes]] = []
        self.msg_get_inq = False
        self.msg_inq = 0


class UbufInfo:
    """struct ubuf_info_msgzc: the zerocopy sends `id` to `id + len - 1`, and whether all went without a copy."""

    __slots__ = ("bytelen", "id", "len", "refcnt", "sk", "zerocopy")

    def __init__(self, sk: InetSock, ident: int, size: int) -> None:
        self.sk = sk
        self.id = ident
        self.len = 1
        self.bytelen = size
        self.zerocopy = True
        self.refcnt = 1


class ErrSkb:
    """An skb in the error queue: struct sock_exterr_skb, the bytes behind it (`len` of them) and its time stamp.

    `charge` says whose memory it takes: "rmem", or "omem" for a zerocopy notification. `iif` is 0 where the skb has no
    device. `addr` and `port` name the peer of an ICMP error, `saddr` the sender of what stands in the skb.
    """

    __slots__ = (
        "addr", "charge", "data", "ee_code", "ee_data", "ee_errno", "ee_info", "ee_origin", "ee_type", "iif", "len",
        "opt_stats", "packet", "port", "saddr", "truesize", "tstamp",
    )  # fmt: skip

    def __init__(self, truesize: int, length: int = 0, data: bytes = b"") -> None:
        self.truesize = truesize
        self.len = length
        self.data = data
        self.charge = "rmem"
        self.ee_errno = 0
        self.ee_origin = 0
        self.ee_type = 0
        self.ee_code = 0
        self.ee_info = 0
        self.ee_data = 0
        self.opt_stats = False
        self.tstamp = 0
        self.iif = 0
        self.addr = b""
        self.port = 0
        self.saddr = b""
        self.packet: Packet | None = None

    @property
    def ee(self) -> bytes:
        """struct sock_extended_err."""
        return pack(
            "<IBBBBII", self.ee_errno, self.ee_origin, self.ee_type, self.ee_code, 0, self.ee_info, self.ee_data
        )


# ---------------------------------------------------------------- net/core/scm.c


@cited("net/core/scm.c:put_cmsg")
def put_cmsg(msg: RecvMsg, level: int, type: int, data: bytes) -> None:
    """A control message takes what room is left; what is cut off or has no room is told by MSG_CTRUNC."""
    cmlen = CMSG_HDR + len(data)
    if msg.msg_controllen < CMSG_HDR:
        msg.msg_flags |= MSG_CTRUNC
        return
    if msg.msg_controllen < cmlen:
        msg.msg_flags |= MSG_CTRUNC
        cmlen = msg.msg_controllen
    msg.cmsgs.append((level, type, data[: cmlen - CMSG_HDR]))
    msg.msg_controllen -= min(CMSG_HDR + (len(data) + 7 & ~7), msg.msg_controllen)


def timespec(us: int) -> bytes:
    """struct __kernel_timespec of a time in us."""
    return pack("<qq", us // USEC, us % USEC * 1000)


def timeval(us: int) -> bytes:
    """struct __kernel_old_timeval of a time in us."""
    return pack("<qq", us // USEC, us % USEC)


@cited("net/core/scm.c:put_cmsg_scm_timestamping", "net/core/scm.c:put_cmsg_scm_timestamping64")
def put_cmsg_scm_timestamping(msg: RecvMsg, sk: InetSock, tstamp: int) -> None:
    """A software time stamp is the first of the three in the message; the others, of hardware, are zero."""
    new = "SOCK_TSTAMP_NEW" in sk.sk_flags
    put_cmsg(msg, SOL_SOCKET, SO_TIMESTAMPING_NEW if new else SO_TIMESTAMPING_OLD, timespec(tstamp) + bytes(32))


# ---------------------------------------------------------------- the queue itself (net/core/skbuff.c)


def sk_error_report(sk: InetSock) -> None:
    """Wakes whoever polls for errors; source net/core/sock.c:sk_error_report."""
    from refmodel.tcp.whole import poll

    poll.sk_error_report(sk)


@cited("net/core/skbuff.c:sock_queue_err_skb")
def sock_queue_err_skb(sk: InetSock, skb: ErrSkb) -> int:
    """An entry goes into the error queue unless the receive buffer has no room for it."""
    if sk.sk_rmem_alloc + skb.truesize >= sk.sk_rcvbuf:
        return -errno.ENOMEM
    sk.sk_rmem_alloc += skb.truesize
    skb.charge = "rmem"
    sk.sk_error_queue.append(skb)
    if "SOCK_DEAD" not in sk.sk_flags:
        sk_error_report(sk)
    return 0


def free_err_skb(sk: InetSock, skb: ErrSkb) -> None:
    """Gives back the memory of an entry (sock_rmem_free, sock_ofree)."""
    if skb.charge == "rmem":
        sk.sk_rmem_alloc -= skb.truesize
    else:
        sk.sk_omem_alloc -= skb.truesize


def is_icmp_err_skb(skb: ErrSkb | None) -> bool:
    """The entry is an ICMP error; source net/core/skbuff.c:is_icmp_err_skb."""
    return skb is not None and skb.ee_origin in (SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6)


@cited("net/core/skbuff.c:sock_dequeue_err_skb")
def sock_dequeue_err_skb(sk: InetSock) -> ErrSkb | None:
    """Takes the first entry; the socket's error becomes that of the ICMP error behind it, or none."""
    q = sk.sk_error_queue
    if not q:
        return None
    skb: ErrSkb = q.popleft()
    behind: ErrSkb | None = q[0] if q else None
    icmp_next = is_icmp_err_skb(behind)
    if behind is not None and icmp_next:
        sk.sk_err = behind.ee_errno
    if is_icmp_err_skb(skb) and not icmp_next:
        sk.sk_err = 0
    if behind is not None:
        sk_error_report(sk)
    return skb


@cited("net/core/skbuff.c:skb_errqueue_purge", "net/core/skbuff.c:skb_queue_purge")
def skb_errqueue_purge(sk: InetSock) -> None:
    """Turning IP_RECVERR off forgets errors, not zerocopy notifications or time stamps; 6.1 forgets those too."""
    stays = (SO_EE_ORIGIN_ZEROCOPY, SO_EE_ORIGIN_TIMESTAMPING) if sk.net.p.kernel >= 612 else ()
    kept = [s for s in sk.sk_error_queue if s.ee_origin in stays]
    for skb in sk.sk_error_queue:
        if skb not in kept:
            free_err_skb(sk, skb)
    sk.sk_error_queue.clear()
    sk.sk_error_queue.extend(kept)


# ---------------------------------------------------------------- zerocopy (net/core/skbuff.c)


@cited("net/core/skbuff.c:msg_zerocopy_alloc")
def msg_zerocopy_alloc(sk: InetSock, size: int) -> UbufInfo | None:
    """A zerocopy send gets the next number; None where the socket's option memory is used up."""
    if sk.sk_omem_alloc + SKB_TRUESIZE(0) > sk.net.p.optmem_max:
        return None
    sk.sk_omem_alloc += alloc_skb(sk)
    sk.sk_zckey = (sk.sk_zckey + 1) & M32
    return UbufInfo(sk, (sk.sk_zckey - 1) & M32, size)


@cited("net/core/skbuff.c:msg_zerocopy_realloc")
def msg_zerocopy_realloc(sk: InetSock, size: int, uarg: UbufInfo | None) -> UbufInfo | None:
    """A send that follows the one in the last skb shares its notification, up to 512 KiB or 65534 sends."""
    if uarg is not None:
        bytelen = uarg.bytelen + size
        if uarg.len == USHRT_MAX - 1 or bytelen > BYTE_LIMIT:
            return msg_zerocopy_alloc(sk, size)
        following = sk.sk_zckey
        if (uarg.id + uarg.len) & M32 == following:
            uarg.len += 1
            uarg.bytelen = bytelen
            sk.sk_zckey = (following + 1) & M32
            net_zcopy_get(uarg)
            return uarg
    return msg_zerocopy_alloc(sk, size)


@cited("net/core/skbuff.c:skb_zerocopy_notify_extend")
def skb_zerocopy_notify_extend(skb: ErrSkb, lo: int, length: int) -> bool:
    """The last notification in the queue grows if the next one continues its range."""
    old_lo, old_hi = skb.ee_info, skb.ee_data
    if old_hi - old_lo + 1 + length >= 1 << 32:
        return False
    if lo != (old_hi + 1) & M32:
        return False
    skb.ee_data = (skb.ee_data + length) & M32
    return True


@cited("net/core/skbuff.c:__msg_zerocopy_callback")
def __msg_zerocopy_callback(uarg: UbufInfo) -> None:
    """The last page of the sends is free: the application is told their numbers, and whether they were copied."""
    sk = uarg.sk
    if not uarg.len or "SOCK_DEAD" in sk.sk_flags:
        sk.sk_omem_alloc -= alloc_skb(sk)
        return
    skb = ErrSkb(alloc_skb(sk))
    skb.charge = "omem"
    skb.ee_origin = SO_EE_ORIGIN_ZEROCOPY
    skb.ee_info = uarg.id
    skb.ee_data = (uarg.id + uarg.len - 1) & M32
    if not uarg.zerocopy:
        skb.ee_code |= SO_EE_CODE_ZEROCOPY_COPIED
    q = sk.sk_error_queue
    tail: ErrSkb | None = q[-1] if q else None
    if (
        tail is None
        or tail.ee_origin != SO_EE_ORIGIN_ZEROCOPY
        or not skb_zerocopy_notify_extend(tail, uarg.id, uarg.len)
    ):
        q.append(skb)
    else:
        free_err_skb(sk, skb)
    sk_error_report(sk)


@cited("net/core/skbuff.c:msg_zerocopy_complete")
def msg_zerocopy_complete(uarg: UbufInfo, success: bool) -> None:
    """One holder of the pages lets go of them; `success` is False where it had to copy."""
    uarg.zerocopy = uarg.zerocopy and success
    uarg.refcnt -= 1
    if uarg.refcnt == 0:
        __msg_zerocopy_callback(uarg)


def net_zcopy_get(uarg: UbufInfo) -> None:
    """One more holder; source include/linux/skbuff.h:net_zcopy_get."""
    uarg.refcnt += 1


def net_zcopy_put(uarg: UbufInfo | None) -> None:
    """The sender lets go; source include/linux/skbuff.h:net_zcopy_put."""
    if uarg is not None:
        msg_zerocopy_complete(uarg, True)


@cited("net/core/skbuff.c:msg_zerocopy_put_abort", "include/linux/skbuff.h:net_zcopy_put_abort")
def net_zcopy_put_abort(uarg: UbufInfo | None, have_uref: bool) -> None:
    """A send that failed gives its number back."""
    if uarg is None:
        return
    uarg.sk.sk_zckey = (uarg.sk.sk_zckey - 1) & M32
    uarg.len -= 1
    if have_uref:
        msg_zerocopy_complete(uarg, True)


def skb_zcopy(skb: Skb | None) -> UbufInfo | None:
    """The notification that holds an skb's pages; source include/linux/skbuff.h:skb_zcopy."""
    return skb.uarg if skb is not None else None


def skb_zcopy_set(skb: Skb | None, uarg: UbufInfo | None) -> None:
    """The skb holds the pages of `uarg`, once; source include/linux/skbuff.h:skb_zcopy_set."""
    if skb is not None and uarg is not None and skb.uarg is None:
        net_zcopy_get(uarg)
        skb.uarg = uarg


def skb_zcopy_clear(skb: Skb, success: bool = True) -> None:
    """The skb is freed, or had to be copied; source include/linux/skbuff.h:skb_zcopy_clear."""
    uarg: UbufInfo | None = skb.uarg
    if uarg is not None:
        skb.uarg = None
        skb.pure_zcopy = False
        msg_zerocopy_complete(uarg, success)


@cited("net/core/skbuff.c:skb_zerocopy_clone")
def skb_zerocopy_clone(nskb: Skb, orig: Skb) -> None:
    """An skb that is cut holds the same pages in both parts."""
    if orig.uarg is not None and nskb.uarg is None:
        skb_zcopy_set(nskb, orig.uarg)


@cited("drivers/net/tun.c:tun_net_xmit", "include/linux/skbuff.h:skb_orphan_frags_rx")
def skb_orphan_frags_rx(skb: Skb) -> None:
    """A device that keeps the packet copies the application's pages, and the notification will say so."""
    if skb.uarg is not None:
        skb.uarg.zerocopy = False


# ---------------------------------------------------------------- time stamps of what is sent


@cited("net/socket.c:__sock_tx_timestamp")
def __sock_tx_timestamp(tsflags: int, tx_flags: int) -> int:
    """What of a segment's way out shall be stamped."""
    if tsflags & SOF_TIMESTAMPING_TX_HARDWARE:
        tx_flags |= SKBTX_HW_TSTAMP
        if tsflags & SOF_TIMESTAMPING_BIND_PHC:
            tx_flags |= SKBTX_HW_TSTAMP_USE_CYCLES
    if tsflags & SOF_TIMESTAMPING_TX_SOFTWARE:
        tx_flags |= SKBTX_SW_TSTAMP
    if tsflags & SOF_TIMESTAMPING_TX_SCHED:
        tx_flags |= SKBTX_SCHED_TSTAMP
    return tx_flags


@cited("net/ipv4/tcp.c:tcp_tx_timestamp")
def tcp_tx_timestamp(sk: Sock, tsflags: int) -> None:
    """The last byte of a send is the one that is stamped: its skb remembers the byte's sequence number."""
    skb = sk.sk_write_queue.tail
    if skb is None:
        skb = sk.tcp_rtx_queue.tail
    if tsflags & 0xFFFF and skb is not None:  # the parameter is a u16
        tsflags &= 0xFFFF
        skb.tx_flags = __sock_tx_timestamp(tsflags, skb.tx_flags)
        if tsflags & SOF_TIMESTAMPING_TX_ACK:
            skb.txstamp_ack = True
        if tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK:
            skb.tskey = (skb.seq + skb.len - 1) & M32


@cited("net/core/sock.c:__sock_cmsg_send", "net/core/sock.c:sock_cmsg_send")
def sock_cmsg_send(sk: InetSock, cmsgs: Iterable[tuple[int, int, bytes]]) -> tuple[int, int]:
    """A send's own control messages may say what to stamp: (0 or -EINVAL or -EPERM, time stamping flags)."""
    tsflags: int = sk.sk_tsflags
    for level, type, data in cmsgs:
        if level != SOL_SOCKET:
            continue
        if type == SO_MARK:
            if not capability.net_raw_or_admin(sk.net):
                return -errno.EPERM, tsflags
            if len(data) != 4:
                return -errno.EINVAL, tsflags
        elif type in (SO_TIMESTAMPING_OLD, SO_TIMESTAMPING_NEW):
            if len(data) != 4:
                return -errno.EINVAL, tsflags
            wanted = int.from_bytes(data, "little")
            if wanted & ~SOF_TIMESTAMPING_TX_RECORD_MASK:
                return -errno.EINVAL, tsflags
            tsflags = tsflags & ~SOF_TIMESTAMPING_TX_RECORD_MASK | wanted
        elif type == SCM_TXTIME:
            if "SOCK_TXTIME" not in sk.sk_flags or len(data) != 8:
                return -errno.EINVAL, tsflags
        elif type not in (SCM_RIGHTS, SCM_CREDENTIALS):
            return -errno.EINVAL, tsflags
    return 0, tsflags


@cited("net/core/skbuff.c:__skb_complete_tx_timestamp")
def __skb_complete_tx_timestamp(skb: ErrSkb, sk: Sock, tskey: int, tstype: int, opt_stats: bool) -> None:
    """A time stamp goes into the error queue, with the number of the byte where SOF_TIMESTAMPING_OPT_ID is on."""
    skb.ee_errno = errno.ENOMSG
    skb.ee_origin = SO_EE_ORIGIN_TIMESTAMPING
    skb.ee_info = tstype
    skb.opt_stats = opt_stats
    if sk.sk_tsflags & SOF_TIMESTAMPING_OPT_ID:
        skb.ee_data = (tskey - sk.sk_tskey) & M32
    sock_queue_err_skb(sk, skb)


@cited("net/core/skbuff.c:__skb_tstamp_tx")
def __skb_tstamp_tx(sk: Sock, orig_skb: Skb, ack_skb: Packet | None, tstype: int, packet: Packet | None = None) -> None:
    """A moment on a segment's way is told to the application, with the segment or without (OPT_TSONLY).

    `packet` is the segment as it stands at the queueing discipline or the device; with an acknowledgment there is none.
    """
    tsflags = sk.sk_tsflags
    opt_stats = False
    if tsflags & SOF_TIMESTAMPING_OPT_TSONLY:
        if tsflags & SOF_TIMESTAMPING_OPT_STATS:
            data = info.tcp_get_timestamping_opt_stats(sk, orig_skb, ack_skb)
            skb = ErrSkb(alloc_skb(sk, OPT_STATS_SIZE), len(data), data)
            opt_stats = True
        else:
            skb = ErrSkb(alloc_skb(sk))
    else:
        length = orig_skb.len
        if packet is not None:
            length = packet.len + tcp_hdrlen(packet) + (20 if len(packet.saddr) == 4 else 40)
        skb = ErrSkb(orig_skb.truesize, length)
        skb_orphan_frags_rx(orig_skb)
        if packet is not None:
            skb.iif = TUN_IFINDEX
            skb.saddr = packet.saddr
            skb.packet = packet
    skb.tstamp = sk.net.now
    __skb_complete_tx_timestamp(skb, sk, orig_skb.tskey, tstype, opt_stats)


def skb_sched_timestamp(sk: Sock, skb: Skb, packet: Packet) -> None:
    """The segment reaches the queueing discipline; source net/core/dev.c:__dev_queue_xmit."""
    if skb.tx_flags & SKBTX_SCHED_TSTAMP:
        __skb_tstamp_tx(sk, skb, None, SCM_TSTAMP_SCHED, packet)


def skb_tx_timestamp(sk: Sock, skb: Skb, packet: Packet) -> None:
    """The segment reaches the device; source include/linux/skbuff.h:skb_tx_timestamp."""
    if skb.tx_flags & SKBTX_SW_TSTAMP:
        __skb_tstamp_tx(sk, skb, None, SCM_TSTAMP_SND, packet)


@cited("net/ipv4/tcp_input.c:tcp_ack_tstamp")
def tcp_ack_tstamp(sk: Sock, skb: Skb, ack_skb: Packet | None, prior_snd_una: int) -> None:
    """The byte that shall be stamped is acknowledged."""
    if not skb.txstamp_ack:
        return
    if not before(skb.tskey, prior_snd_una) and before(skb.tskey, sk.snd_una):
        __skb_tstamp_tx(sk, skb, ack_skb, SCM_TSTAMP_ACK)


# ---------------------------------------------------------------- ICMP errors


@cited("net/ipv4/ip_sockglue.c:ip_icmp_error", "net/ipv6/datagram.c:ipv6_icmp_error")
def ip_icmp_error(
    sk: InetSock, error: IcmpError, err: int, port: int, info_: int, saddr: bytes = b"", quoted: int = ICMP_QUOTED
) -> None:
    """An ICMP error goes into the error queue, with the `quoted` bytes behind the header of the protocol that takes it.

    ICMPv6's goes there only if IPV6_RECVERR is on.
    """
    if len(error.daddr) == 16 and not sk.recverr6:
        return
    skb = ErrSkb(alloc_skb(sk, 128), quoted)
    skb.ee_errno = err
    skb.ee_origin = SO_EE_ORIGIN_ICMP if len(error.daddr) == 4 else SO_EE_ORIGIN_ICMP6
    skb.ee_type = error.type
    skb.ee_code = error.code
    skb.ee_info = info_
    skb.addr = error.daddr
    skb.port = port
    skb.saddr = saddr or error.daddr
    skb.iif = TUN_IFINDEX
    sock_queue_err_skb(sk, skb)


# ---------------------------------------------------------------- recvmsg


@cited("include/net/sock.h:sock_recv_timestamp", "net/socket.c:__sock_recv_timestamp")
def sock_recv_timestamp(msg: RecvMsg, sk: InetSock, skb: ErrSkb) -> None:
    """What stands in the error queue has a time stamp; the application gets it in the forms that it asked for."""
    flags, tsflags = sk.sk_flags, sk.sk_tsflags
    rcvtstamp = "SOCK_RCVTSTAMP" in flags
    if not (
        rcvtstamp or tsflags & SOF_TIMESTAMPING_RX_SOFTWARE or (skb.tstamp and tsflags & SOF_TIMESTAMPING_SOFTWARE)
    ):
        return
    if rcvtstamp and skb.tstamp == 0:
        skb.tstamp = sk.net.now
    if rcvtstamp:
        put_cmsg_tstamp(msg, sk, skb.tstamp)
    if tsflags & SOF_TIMESTAMPING_SOFTWARE and skb.tstamp:
        put_cmsg_scm_timestamping(msg, sk, skb.tstamp)
        if skb.len and skb.opt_stats:
            put_cmsg(msg, SOL_SOCKET, SCM_TIMESTAMPING_OPT_STATS, skb.data)


def put_cmsg_tstamp(msg: RecvMsg, sk: InetSock, tstamp: int) -> None:
    """SO_TIMESTAMP or SO_TIMESTAMPNS, in the old or the new form: they differ in name only on 64 bits."""
    new = "SOCK_TSTAMP_NEW" in sk.sk_flags
    if "SOCK_RCVTSTAMPNS" in sk.sk_flags:
        put_cmsg(msg, SOL_SOCKET, SO_TIMESTAMPNS_NEW if new else SO_TIMESTAMPNS_OLD, timespec(tstamp))
    else:
        put_cmsg(msg, SOL_SOCKET, SO_TIMESTAMP_NEW if new else SO_TIMESTAMP_OLD, timeval(tstamp))


@cited("net/ipv4/tcp.c:tcp_recv_timestamp")
def tcp_recv_timestamp(msg: RecvMsg, sk: InetSock, tstamp: int) -> None:
    """When the last of the data arrived (us, 0: unknown), in the forms that the application asked for."""
    if not tstamp:
        return
    if "SOCK_RCVTSTAMP" in sk.sk_flags:
        put_cmsg_tstamp(msg, sk, tstamp)
    tsflags = sk.sk_tsflags
    if tsflags & SOF_TIMESTAMPING_SOFTWARE and (
        tsflags & SOF_TIMESTAMPING_RX_SOFTWARE or not tsflags & SOF_TIMESTAMPING_OPT_RX_FILTER
    ):
        put_cmsg_scm_timestamping(msg, sk, tstamp)


@cited("net/ipv4/tcp.c:tcp_inq_hint")
def tcp_inq_hint(sk: Sock) -> int:
    """Bytes that are still to read; after a FIN at least 1, so that the application reads on to the end."""
    inq = (sk.rcv_nxt - sk.copied_seq) & M32
    if inq >= 1 << 31:
        inq -= 1 << 32
    if inq == 0 and "SOCK_DONE" in sk.sk_flags:
        inq = 1
    return inq


def sockaddr_in(family: int, addr: bytes, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    if family == AF_INET:
        return pack("<H", family) + port.to_bytes(2, "big") + addr + bytes(8)
    if len(addr) == 4:
        addr = bytes(10) + b"\xff\xff" + addr
    return pack("<H", family) + port.to_bytes(2, "big") + bytes(4) + addr + bytes(4)


@cited("net/ipv4/ip_sockglue.c:ip_recv_error")
def ip_recv_error(sk: InetSock, msg: RecvMsg, length: int) -> int:
    """The next entry of the error queue: its bytes as far as they fit, and what it says as control messages."""
    skb = sock_dequeue_err_skb(sk)
    if skb is None:
        return -errno.EAGAIN
    copied = min(skb.len, length)
    if skb.len > length:
        msg.msg_flags |= MSG_TRUNC
    sock_recv_timestamp(msg, sk, skb)
    if skb.ee_origin in (SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_LOCAL) or skb.port:
        msg.msg_name = SockAddr(AF_INET, skb.addr, skb.port)
    offender = bytes(16)
    if skb.ee_origin == SO_EE_ORIGIN_ICMP or (
        skb.ee_origin != SO_EE_ORIGIN_LOCAL and sk.sk_tsflags & SOF_TIMESTAMPING_OPT_CMSG and skb.iif
    ):
        offender = sockaddr_in(AF_INET, skb.saddr, 0)
        ip_cmsg_recv(msg, sk, skb)
    put_cmsg(msg, SOL_IP, IP_RECVERR, skb.ee + offender)
    msg.msg_flags |= MSG_ERRQUEUE
    free_err_skb(sk, skb)
    return copied


@cited("net/ipv6/datagram.c:ipv6_recv_error")
def ipv6_recv_error(sk: InetSock, msg: RecvMsg, length: int) -> int:
    """The same for an IPv6 socket, whatever its peer speaks."""
    skb = sock_dequeue_err_skb(sk)
    if skb is None:
        return -errno.EAGAIN
    copied = min(skb.len, length)
    if skb.len > length:
        msg.msg_flags |= MSG_TRUNC
    sock_recv_timestamp(msg, sk, skb)
    icmp = skb.ee_origin in (SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6)
    if icmp or skb.ee_origin == SO_EE_ORIGIN_LOCAL or skb.port:
        msg.msg_name = SockAddr(AF_INET6, skb.addr, skb.port)
    offender = bytes(28)
    if icmp or (skb.ee_origin != SO_EE_ORIGIN_LOCAL and skb.iif):
        offender = sockaddr_in(AF_INET6, skb.saddr, 0)
        if len(skb.saddr) == 4:
            ip_cmsg_recv(msg, sk, skb)
        else:
            ip6_datagram_recv_specific_ctl(msg, sk, skb)
    put_cmsg(msg, SOL_IPV6, IPV6_RECVERR, skb.ee + offender)
    msg.msg_flags |= MSG_ERRQUEUE
    free_err_skb(sk, skb)
    return copied


def ip_cmsg_recv(msg: RecvMsg, sk: InetSock, skb: ErrSkb) -> None:
    """TTL and TOS of what stands in the entry, if asked for; source net/ipv4/ip_sockglue.c:ip_cmsg_recv_offset."""
    if skb.packet is None:
        return
    if sk.recvttl:
        put_cmsg(msg, SOL_IP, IP_TTL, pack("<i", skb.packet.ttl))
    if sk.recvtos:
        put_cmsg(msg, SOL_IP, IP_TOS, bytes([skb.packet.tos]))


def ip6_datagram_recv_specific_ctl(msg: RecvMsg, sk: InetSock, skb: ErrSkb) -> None:
    """Hop limit and traffic class, if asked for; source net/ipv6/datagram.c:ip6_datagram_recv_specific_ctl."""
    if skb.packet is None:
        return
    if sk.inet_opts.get("rxhlim"):
        put_cmsg(msg, SOL_IPV6, IPV6_HOPLIMIT, pack("<i", skb.packet.ttl))
    if sk.inet_opts.get("rxtclass"):
        put_cmsg(msg, SOL_IPV6, IPV6_TCLASS, pack("<i", skb.packet.tos))


@cited("net/ipv4/af_inet.c:inet_recv_error")
def inet_recv_error(sk: InetSock, msg: RecvMsg, length: int) -> int:
    """recvmsg(MSG_ERRQUEUE): bytes copied, or -EAGAIN; it never waits."""
    if sk.sk_family == AF_INET:
        return ip_recv_error(sk, msg, length)
    return ipv6_recv_error(sk, msg, length)
