"""Receiving: how an application takes bytes from the receive queue (the receiving half of net/ipv4/tcp.c).

The law: a read returns as soon as it has what it must have (one byte, SO_RCVLOWAT, or all with MSG_WAITALL) and the
queue holds no more; it stops at urgent data. What a read frees may be worth an acknowledgment that opens the window.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import errqueue, rcvbuf, stream, transmit
from refmodel.tcp.whole.const import FIN, ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2, ICSK_ACK_SCHED, RCV_SHUTDOWN
from refmodel.tcp.whole.poll import TCP_URG_READ, TCP_URG_VALID, Blocking, sock_rcvlowat
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.tcp_h import inet_csk_in_pingpong_mode, sk_mem_uncharge, tcp_receive_window
from refmodel.types import M32, after

if TYPE_CHECKING:
    from refmodel.tcp.whole.errqueue import RecvMsg

MSG_OOB: Final = 0x1
MSG_PEEK: Final = 0x2
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_WAITALL: Final = 0x100
MSG_ERRQUEUE: Final = 0x2000

TCP_CMSG_INQ: Final = 1
TCP_CMSG_TS: Final = 2
SOL_TCP: Final = 6
TCP_CM_INQ: Final = 36
TCP_NO_QUEUE: Final = 0
TCP_SEND_QUEUE: Final = 2
AF_INET: Final = 2


@cited("net/ipv4/tcp.c:tcp_recv_urg", "RFC 6093 3.2")
def tcp_recv_urg(sk: Sock, msg: "RecvMsg", length: int, flags: int, fault: bool = False) -> int:
    """The urgent byte that stands beside the stream: 1, 0 at the end of the stream, or a negative errno."""
    if "SOCK_URGINLINE" in sk.sk_flags or not sk.urg_data or sk.urg_data == TCP_URG_READ:
        return -errno.EINVAL
    if sk.sk_state == St.CLOSE and "SOCK_DONE" not in sk.sk_flags:
        return -errno.ENOTCONN
    if sk.urg_data & TCP_URG_VALID:
        if not flags & MSG_PEEK:
            sk.urg_data = TCP_URG_READ
        msg.msg_flags |= MSG_OOB
        if length > 0:
            return -errno.EFAULT if fault and not flags & MSG_TRUNC else 1
        msg.msg_flags |= MSG_TRUNC
        return length
    if sk.sk_state == St.CLOSE or sk.sk_shutdown & RCV_SHUTDOWN:
        return 0
    return -errno.EAGAIN


@cited("net/ipv4/tcp.c:tcp_peek_sndq")
def tcp_peek_sndq(sk: Sock, length: int) -> int:
    """What stands in the send queues, for a process that moves the connection (TCP_REPAIR)."""
    queued = sum(skb.len for skb in sk.tcp_rtx_queue) + sum(skb.len for skb in sk.sk_write_queue)
    return queued if queued <= length else -errno.EFAULT


@cited("net/ipv4/tcp.c:__tcp_cleanup_rbuf", "RFC 9293 3.8.6.2.2")
def __tcp_cleanup_rbuf(sk: Sock, copied: int) -> None:
    """After a read of `copied` bytes: an acknowledgment if one is overdue, or if the window at least doubles."""
    time_to_ack = False
    ack = sk.icsk_ack
    if ack.pending & ICSK_ACK_SCHED:
        time_to_ack = (sk.rcv_nxt - sk.rcv_wup) & M32 > ack.rcv_mss or (
            copied > 0
            and (
                bool(ack.pending & ICSK_ACK_PUSHED2)
                or (bool(ack.pending & ICSK_ACK_PUSHED) and not inet_csk_in_pingpong_mode(sk))
            )
            and not sk.sk_rmem_alloc
        )
    if copied > 0 and not time_to_ack and not sk.sk_shutdown & RCV_SHUTDOWN:
        rcv_window_now = tcp_receive_window(sk)
        if 2 * rcv_window_now <= sk.window_clamp:
            new_window = transmit.__tcp_select_window(sk)
            if new_window and new_window >= 2 * rcv_window_now:
                time_to_ack = True
    if time_to_ack:
        sk.net.cause = "__tcp_cleanup_rbuf"
        transmit.tcp_send_ack(sk)
        sk.net.cause = ""


def tcp_cleanup_rbuf(sk: Sock, copied: int) -> None:
    """The same, as readers call it; source net/ipv4/tcp.c:tcp_cleanup_rbuf."""
    __tcp_cleanup_rbuf(sk, copied)


@cited("net/ipv4/tcp.c:tcp_eat_recv_skb", "net/core/sock.c:sock_rfree")
def tcp_eat_recv_skb(sk: Sock, skb: Skb) -> None:
    """An skb that was read leaves the receive queue, and its memory is free."""
    sk.sk_receive_queue.unlink(skb)
    sk.sk_rmem_alloc -= skb.truesize
    sk_mem_uncharge(sk, skb.truesize)


@cited("net/ipv4/tcp.c:tcp_recv_skb")
def tcp_recv_skb(sk: Sock, seq: int) -> tuple[Skb | None, int]:
    """The skb that holds `seq`, and how far in it; what lies before is freed."""
    while (skb := sk.sk_receive_queue.head) is not None:
        offset = (seq - skb.seq) & M32
        if offset < skb.len or skb.tcp_flags & FIN:
            return skb, offset
        tcp_eat_recv_skb(sk, skb)
    return None, 0


@cited("net/ipv4/tcp.c:tcp_recvmsg_locked", "RFC 9293 3.10.3")
def tcp_recvmsg_locked(
    sk: Sock, msg: "RecvMsg", length: int, flags: int, tss: list[int], fault: bool = False
) -> Blocking:
    """Takes up to `length` bytes: how many, 0 at the end of the stream, or a negative errno.

    `tss` is [control messages to give, when the last skb that was read arrived (us)]. `fault`: the buffer is no memory
    of the process.
    """
    if sk.sk_state == St.LISTEN:
        return -errno.ENOTCONN
    if sk.recvmsg_inq:
        tss[0] = TCP_CMSG_INQ
        msg.msg_get_inq = True
    timeo = stream.sock_rcvtimeo(sk, bool(flags & MSG_DONTWAIT))
    if flags & MSG_OOB:
        return tcp_recv_urg(sk, msg, length, flags, fault)
    peek = bool(flags & MSG_PEEK)
    if sk.repair:
        if not peek:
            return -errno.EPERM
        if sk.repair_queue == TCP_SEND_QUEUE:
            return tcp_peek_sndq(sk, length)
        if sk.repair_queue == TCP_NO_QUEUE:
            return -errno.EINVAL
    copied = 0
    urg_hole = 0
    peek_offset = max(sk.sk_peek_off, 0) if peek else 0
    seq = (sk.copied_seq + peek_offset) & M32
    urginline = "SOCK_URGINLINE" in sk.sk_flags
    target = sock_rcvlowat(sk, bool(flags & MSG_WAITALL), length)
    queue = sk.sk_receive_queue
    while True:
        if sk.urg_data and sk.urg_seq == seq and copied:
            break
        skb = queue.head
        offset = 0
        while skb is not None:
            offset = (seq - skb.seq) & M32
            if offset < skb.len or skb.tcp_flags & FIN:
                break
            skb = skb.next
        if skb is None:
            if copied >= target and not sk.sk_backlog:
                break
            if copied:
                if not timeo or sk.sk_err or sk.sk_state == St.CLOSE or sk.sk_shutdown & RCV_SHUTDOWN:
                    break
            else:
                if "SOCK_DONE" in sk.sk_flags:
                    break
                if sk.sk_err:
                    copied = stream.sock_error(sk)
                    break
                if sk.sk_shutdown & RCV_SHUTDOWN:
                    break
                if sk.sk_state == St.CLOSE:
                    copied = -errno.ENOTCONN
                    break
                if not timeo:
                    copied = -errno.EAGAIN
                    break
            if copied >= target:
                stream.flush_backlog(sk)
            else:
                __tcp_cleanup_rbuf(sk, copied)
                err, timeo = yield from stream.sk_wait_data(sk, timeo, queue.tail)
                if err < 0:
                    return copied or err
            if peek and (seq - peek_offset - copied - urg_hole) & M32 != sk.copied_seq:
                seq = (sk.copied_seq + peek_offset) & M32
            elif not peek:
                seq = sk.copied_seq
            if length <= 0:
                break
            continue
        if offset < skb.len:
            used = min(skb.len - offset, length)
            skip_copy = False
            if sk.urg_data:
                urg_offset = (sk.urg_seq - seq) & M32
                if urg_offset < used:
                    if urg_offset:
                        used = urg_offset
                    elif not urginline:
                        seq = (seq + 1) & M32
                        if not peek:
                            sk.copied_seq = seq
                        urg_hole += 1
                        offset += 1
                        used -= 1
                        skip_copy = not used
            if fault and used and not flags & MSG_TRUNC:
                copied = -errno.EFAULT
                break
            if not skip_copy:
                seq = (seq + used) & M32
                if not peek:
                    sk.copied_seq = seq
                copied += used
                length -= used
                if sk.sk_peek_off >= 0:
                    sk.sk_peek_off = sk.sk_peek_off + used if peek else max(sk.sk_peek_off - used, 0)
                rcvbuf.tcp_rcv_space_adjust(sk)
            if sk.urg_data and after(sk.copied_seq, sk.urg_seq):
                from refmodel.tcp.whole import rcv

                sk.urg_data = 0
                rcv.tcp_fast_path_check(sk)
            if skb.has_rxtstamp:
                tss[0] |= TCP_CMSG_TS
                tss[1] = skb.tstamp
            if used + offset < skb.len:
                if length <= 0:
                    break
                continue
            if not skb.tcp_flags & FIN:
                if not peek:
                    tcp_eat_recv_skb(sk, skb)
                if length <= 0:
                    break
                continue
        seq = (seq + 1) & M32
        if not peek:
            sk.copied_seq = seq
            tcp_eat_recv_skb(sk, skb)
        break
    __tcp_cleanup_rbuf(sk, copied)
    return copied


@cited("net/ipv4/tcp.c:tcp_recvmsg", "net/ipv4/af_inet.c:inet_recv_error")
def tcp_recvmsg(sk: Sock, msg: "RecvMsg", length: int, flags: int, fault: bool = False) -> Blocking:
    """A read while the application holds the socket, and what it is told beside the bytes."""
    if flags & MSG_ERRQUEUE:
        if sk.sk_family == AF_INET:
            return errqueue.ip_recv_error(sk, msg, length)
        return errqueue.ipv6_recv_error(sk, msg, length)
    tss = [0, 0]
    stream.lock_sock(sk)
    ret = yield from tcp_recvmsg_locked(sk, msg, length, flags, tss, fault)
    stream.release_sock(sk)
    if (tss[0] or msg.msg_get_inq) and ret >= 0:
        if tss[0] & TCP_CMSG_TS:
            errqueue.tcp_recv_timestamp(msg, sk, tss[1])
        if msg.msg_get_inq:
            msg.msg_inq = errqueue.tcp_inq_hint(sk)
            if tss[0] & TCP_CMSG_INQ:
                errqueue.put_cmsg(msg, SOL_TCP, TCP_CM_INQ, (msg.msg_inq & M32).to_bytes(4, "little"))
    return ret
