"""Sending: how bytes of an application become skbs in the write queue (the sending half of net/ipv4/tcp.c).

The law: a write fills the last unsent skb up to the size goal and then begins another; an skb costs memory beyond its
bytes, and no skb begins while the queues take the whole send buffer. What is in the queue is pushed when the write
ends, when half of the peer's window waits, and before the writer sleeps for room.
"""

import errno
from typing import Any, Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import errqueue, output, poll, rate, stream
from refmodel.tcp.whole.const import (
    ACK,
    MAX_SKB_FRAGS,
    PAGE_SIZE,
    PSH,
    SEND_SHUTDOWN,
    TCP_MSS_DEFAULT,
    TCP_NAGLE_CORK,
    TCP_NAGLE_PUSH,
    TCPCB_REPAIRED,
)
from refmodel.tcp.whole.poll import Blocking, sk_stream_memory_free
from refmodel.tcp.whole.skb import FastopenRequest, MsgHdr, Skb
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.tcp_h import sk_forced_mem_schedule, tcp_wmem_free_skb, tx_skb_truesize
from refmodel.types import M32, after

MSG_OOB: Final = 0x1
MSG_DONTWAIT: Final = 0x40
MSG_EOR: Final = 0x80
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000
MSG_ZEROCOPY: Final = 0x4000000
MSG_SPLICE_PAGES: Final = 0x8000000
MSG_FASTOPEN: Final = 0x20000000

TFO_CLIENT_ENABLE: Final = 1
AF_UNSPEC: Final = 0
TCP_NO_QUEUE: Final = 0
TCP_RECV_QUEUE: Final = 1
TCP_CHRONO_BUSY: Final = 1
TCP_CHRONO_SNDBUF_LIMITED: Final = 3
FRAG_PAGE: Final = 32768  # PAGE_SIZE << SKB_FRAG_PAGE_ORDER
USER_PAGE_OFFSET: Final = 16  # where a buffer that malloc mapped begins in its page


@cited("net/ipv4/tcp.c:tcp_mark_push")
def tcp_mark_push(sk: Sock, skb: Skb) -> None:
    """The skb will carry PSH."""
    skb.tcp_flags |= PSH
    sk.pushed_seq = sk.write_seq


@cited("net/ipv4/tcp.c:forced_push")
def forced_push(sk: Sock) -> bool:
    """More than half of the largest window was written since the last push."""
    return after(sk.write_seq, (sk.pushed_seq + (sk.max_window >> 1)) & M32)


@cited("net/ipv4/tcp.c:tcp_skb_entail")
def tcp_skb_entail(sk: Sock, skb: Skb) -> None:
    """An empty skb joins the write queue."""
    skb.seq = skb.end_seq = sk.write_seq
    skb.tcp_flags = ACK
    sk.sk_write_queue.append(skb)
    if sk.sk_write_queue.head is skb:
        output.tcp_chrono_start(sk, TCP_CHRONO_BUSY)
    sk.sk_wmem_queued += skb.truesize
    sk.sk_forward_alloc -= skb.truesize
    if sk.nonagle & TCP_NAGLE_PUSH:
        sk.nonagle &= ~TCP_NAGLE_PUSH
    tcp_slow_start_after_idle_check(sk)


@cited("include/net/tcp.h:tcp_slow_start_after_idle_check", "RFC 5681 4.1")
def tcp_slow_start_after_idle_check(sk: Sock) -> None:
    """A connection that was idle for longer than an RTO begins with a smaller window."""
    if not sk.net.p.tcp_slow_start_after_idle or sk.packets_out or sk.icsk_ca_ops.cong_control is not None:
        return
    delta = sk.net.jiffies - sk.lsndtime
    if delta > sk.icsk_rto:
        output.tcp_cwnd_restart(sk, delta)


@cited("net/ipv4/tcp.c:tcp_should_autocork")
def tcp_should_autocork(sk: Sock, skb: Skb, size_goal: int) -> bool:
    """A small skb waits while earlier data are still in the host's queues."""
    return bool(
        skb.len < size_goal
        and sk.net.p.tcp_autocorking
        and sk.tcp_rtx_queue.head is not None
        and sk.sk_wmem_alloc + 1 > skb.truesize
        and not skb.eor
    )


@cited("net/ipv4/tcp.c:tcp_push", "RFC 9293 3.9.1.2")
def tcp_push(sk: Sock, flags: int, mss_now: int, nonagle: int, size_goal: int) -> None:
    """A write is over: its last skb is marked, and what may go goes."""
    skb = sk.sk_write_queue.tail
    if skb is None:
        return
    if not flags & MSG_MORE or forced_push(sk):
        tcp_mark_push(sk, skb)
    if flags & MSG_OOB:
        sk.snd_up = sk.write_seq
    if tcp_should_autocork(sk, skb, size_goal):
        if "TSQ_THROTTLED" not in sk.sk_tsq_flags:
            sk.net.count("TcpExtTCPAutoCorking")
            sk.sk_tsq_flags.add("TSQ_THROTTLED")
        return
    if flags & MSG_MORE:
        nonagle = TCP_NAGLE_CORK
    output.__tcp_push_pending_frames(sk, mss_now, nonagle)


@cited("net/ipv4/tcp.c:tcp_stream_alloc_skb")
def tcp_stream_alloc_skb(sk: Sock, force_schedule: bool = False) -> Skb:
    """A new skb for the send queues; only its head takes memory."""
    skb = Skb()
    skb.truesize = tx_skb_truesize(sk)
    sk_forced_mem_schedule(sk, skb.truesize)
    return skb


@cited("include/net/tcp.h:tcp_bound_to_half_wnd")
def tcp_bound_to_half_wnd(sk: Sock, pktsize: int) -> int:
    """At most half of the peer's largest window, or all of a tiny one."""
    cutoff = sk.max_window >> 1 if sk.max_window > TCP_MSS_DEFAULT else sk.max_window
    if cutoff and pktsize > cutoff:
        return max(cutoff, 68 - sk.tcp_header_len)
    return pktsize


@cited("net/ipv4/tcp.c:tcp_xmit_size_goal")
def tcp_xmit_size_goal(sk: Sock, mss_now: int, large_allowed: bool) -> int:
    """How many bytes an skb shall hold: whole segments, as many as the device takes at once."""
    if not large_allowed:
        return mss_now
    new_size_goal = tcp_bound_to_half_wnd(sk, sk.sk_gso_max_size)
    size_goal = sk.gso_segs * mss_now
    if new_size_goal < size_goal or new_size_goal >= size_goal + mss_now:
        sk.gso_segs = min((new_size_goal // mss_now) & 0xFFFF, sk.sk_gso_max_segs)
        size_goal = sk.gso_segs * mss_now
    return max(size_goal, mss_now)


@cited("net/ipv4/tcp.c:tcp_send_mss")
def tcp_send_mss(sk: Sock, flags: int) -> tuple[int, int]:
    """(mss_now, size_goal) of a write."""
    mss_now = output.tcp_current_mss(sk)
    return mss_now, tcp_xmit_size_goal(sk, mss_now, not flags & MSG_OOB)


@cited("net/ipv4/tcp.c:tcp_remove_empty_skb")
def tcp_remove_empty_skb(sk: Sock) -> None:
    """An skb that got no byte leaves the queue."""
    skb = sk.sk_write_queue.tail
    if skb is not None and skb.seq == skb.end_seq:
        sk.sk_write_queue.unlink(skb)
        if not sk.sk_write_queue:
            output.tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
        tcp_wmem_free_skb(sk, skb)


@cited("net/ipv4/tcp.c:tcp_downgrade_zcopy_pure")
def tcp_downgrade_zcopy_pure(sk: Sock, skb: Skb) -> None:
    """An skb of user pages gets copied bytes too: now its memory is charged."""
    if skb.pure_zcopy:
        extra = skb.truesize - tx_skb_truesize(sk)
        sk_forced_mem_schedule(sk, extra)
        sk.sk_forward_alloc -= extra
        skb.pure_zcopy = False


@cited("net/ipv4/tcp.c:tcp_sendmsg_fastopen", "RFC 7413 4.1.3")
def tcp_sendmsg_fastopen(sk: Sock, msg: MsgHdr, size: int, uarg: Any) -> stream.WaitEvent:
    """The write connects, with its first bytes in the SYN: (0 or a negative errno, bytes in the SYN)."""
    from refmodel.tcp.whole import connect, inet

    uaddr = msg.msg_name
    if not sk.net.p.tcp_fastopen & TFO_CLIENT_ENABLE or (uaddr is not None and uaddr.family == AF_UNSPEC):
        return -errno.EOPNOTSUPP, 0
    if sk.fastopen_req is not None:
        return -errno.EALREADY, 0
    sk.fastopen_req = FastopenRequest(size, msg, uarg)
    if sk.defer_connect:
        err = connect.tcp_connect(sk)
        if err:
            inet.tcp_set_state(sk, St.CLOSE)
            sk.inet_dport = 0
    err = yield from inet.__inet_stream_connect(sk, uaddr, bool(msg.msg_flags & MSG_DONTWAIT), True)
    copied = 0
    if sk.fastopen_req is not None:
        copied = sk.fastopen_req.copied
        tcp_free_fastopen_req(sk)
        sk.defer_connect = False
    return err, copied


def tcp_free_fastopen_req(sk: Sock) -> None:
    """Forgets the data that were meant for a SYN; source net/ipv4/tcp.c:tcp_free_fastopen_req."""
    sk.fastopen_req = None


# ---------------------------------------------------------------- bytes into an skb


@cited("net/core/sock.c:skb_page_frag_refill", "net/core/sock.c:sk_page_frag_refill")
def sk_page_frag_refill(sk: Sock) -> int:
    """Bytes that are left in the task's page frag, a new one if there are fewer than 32."""
    net = sk.net
    left = -net.task_frag % FRAG_PAGE
    if left < 32:
        net.task_frag += left
        left = FRAG_PAGE
    return left


def copy_to_frag(sk: Sock, skb: Skb, copy: int) -> int:
    """Copies up to `copy` bytes into page frags: how many, or -1 if the skb takes no more fragments.

    Source net/ipv4/tcp.c:tcp_sendmsg_locked, skb_copy_to_page_nocache.
    """
    net = sk.net
    space = sk_page_frag_refill(sk)
    merge = skb.frags > 0 and skb.frag_at == net.task_frag
    if not merge and skb.frags >= MAX_SKB_FRAGS:
        return -1
    copy = min(copy, space)
    tcp_downgrade_zcopy_pure(sk, skb)
    sk_forced_mem_schedule(sk, copy)
    skb.len += copy
    skb.truesize += copy
    sk.sk_wmem_queued += copy
    sk.sk_forward_alloc -= copy
    if not merge:
        skb.frags += 1
    net.task_frag += copy
    skb.frag_at = net.task_frag if net.task_frag % FRAG_PAGE else -1
    return copy


@cited("net/core/skbuff.c:skb_zerocopy_iter_stream", "net/core/datagram.c:zerocopy_fill_skb_from_iter")
def skb_zerocopy_iter_stream(sk: Sock, skb: Skb, msg: MsgHdr, length: int, uarg: Any) -> int:
    """Hangs the user's pages on the skb: how many bytes, or -1 if it takes no more of them.

    Each buffer is a fragment of its own. Where one begins in its page is the allocator's choice; the model takes
    buffers that malloc mapped.
    """
    if skb.uarg is not None and uarg is not skb.uarg:
        return -1
    copied = truesize = 0
    iov = msg.iov
    while copied < length and iov and skb.frags < MAX_SKB_FRAGS:
        start = (USER_PAGE_OFFSET + msg.at) % PAGE_SIZE
        part = min(length - copied, iov[0], (MAX_SKB_FRAGS - skb.frags) * PAGE_SIZE - start)
        pages = -(-(part + start) // PAGE_SIZE)
        if part:
            skb.frags += pages
            truesize += pages * PAGE_SIZE
            copied += part
        if part == iov[0]:
            iov.popleft()
            msg.at = 0
        else:
            iov[0] -= part
            msg.at += part
    if not copied:
        return -1
    skb.frag_at = -1
    skb.len += copied
    skb.truesize += truesize
    sk.sk_wmem_queued += truesize
    if skb.uarg is None:
        errqueue.skb_zcopy_set(skb, uarg)
    if not skb.pure_zcopy:
        sk.sk_forward_alloc -= truesize
    return copied


@cited("net/core/skbuff.c:skb_splice_from_iter")
def skb_splice_from_iter(sk: Sock, skb: Skb, msg: MsgHdr, maxsize: int) -> int:
    """Hangs pages of a pipe or a file on the skb: how many bytes, or -1 if it takes no more of them."""
    spliced = 0
    frags = msg.frags
    while maxsize > 0 and msg.left - spliced > 0:
        if skb.frags >= MAX_SKB_FRAGS:
            break
        if not frags:
            frags.append(min(PAGE_SIZE, msg.left - spliced))
        part = min(frags[0], maxsize)
        if part == frags[0]:
            frags.popleft()
        else:
            frags[0] -= part
        skb.frags += 1
        spliced += part
        maxsize -= part
    if not spliced:
        return -1
    skb.frag_at = -1
    skb.len += spliced
    skb.truesize += spliced
    sk.sk_wmem_queued += spliced
    sk.sk_forward_alloc -= spliced
    return spliced


# ---------------------------------------------------------------- sendmsg


@cited("net/ipv4/tcp.c:tcp_sendmsg_locked", "RFC 9293 3.10.2")
def tcp_sendmsg_locked(sk: Sock, msg: MsgHdr, size: int) -> Blocking:
    """Queues the bytes of a write, sleeping for room unless that is forbidden: how many, or a negative errno."""
    flags = msg.msg_flags
    uarg: Any = None
    zc = 0
    if size and flags & (MSG_ZEROCOPY | MSG_SPLICE_PAGES):
        if flags & MSG_ZEROCOPY:
            if msg.msg_ubuf is not None:
                uarg = msg.msg_ubuf
                zc = MSG_ZEROCOPY
            elif "SOCK_ZEROCOPY" in sk.sk_flags:
                uarg = errqueue.msg_zerocopy_realloc(sk, size, errqueue.skb_zcopy(sk.sk_write_queue.tail))
                if uarg is None:
                    return out_err(sk, msg, flags, None, -errno.ENOBUFS)
                zc = MSG_ZEROCOPY
        else:
            zc = MSG_SPLICE_PAGES
    copied_syn = 0
    if (flags & MSG_FASTOPEN or sk.defer_connect) and not sk.repair:
        err, copied_syn = yield from tcp_sendmsg_fastopen(sk, msg, size, uarg)
        if err == -errno.EINPROGRESS and copied_syn > 0:
            return out(sk, msg, flags, uarg, 0, copied_syn, 0, 0, 0)
        if err:
            return out_err(sk, msg, flags, uarg, err)
    timeo = stream.sock_sndtimeo(sk, bool(flags & MSG_DONTWAIT))
    rate.tcp_rate_check_app_limited(sk)
    if sk.sk_state not in stream.OPEN and not (sk.sk_state == St.SYN_RECV and sk.fastopen_rsk is not None):
        err, timeo = yield from stream.sk_stream_wait_connect(sk, timeo)
        if err:
            return do_error(sk, msg, flags, uarg, 0, copied_syn, 0, 0, 0, err)
    if sk.repair:
        if sk.repair_queue == TCP_RECV_QUEUE:
            raise NotModelled("TCP_REPAIR: data put into the receive queue")
        if sk.repair_queue == TCP_NO_QUEUE:
            return out_err(sk, msg, flags, uarg, -errno.EINVAL)
    tsflags = sk.sk_tsflags
    if msg.cmsgs:
        err, tsflags = errqueue.sock_cmsg_send(sk, msg.cmsgs)
        if err:
            return out_err(sk, msg, flags, uarg, -errno.EINVAL)
    copied = 0
    process_backlog = 0
    write_queue = sk.sk_write_queue
    mss_now, size_goal = tcp_send_mss(sk, flags)
    if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        return do_error(sk, msg, flags, uarg, copied, copied_syn, mss_now, size_goal, tsflags, -errno.EPIPE)
    while msg.left:
        skb = write_queue.tail
        copy = size_goal - skb.len if skb is not None else 0
        wait_for_space = False
        new_segment = copy <= 0 or (skb is not None and skb.eor)
        while True:
            if new_segment:
                if not sk_stream_memory_free(sk):
                    wait_for_space = True
                    break
                if process_backlog >= 16:
                    process_backlog = 0
                    if stream.flush_backlog(sk):
                        mss_now, size_goal = tcp_send_mss(sk, flags)
                        if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
                            return do_error(
                                sk, msg, flags, uarg, copied, copied_syn, mss_now, size_goal, tsflags, -errno.EPIPE
                            )
                        copy = 0
                        break
                first_skb = sk.tcp_rtx_queue.head is None and write_queue.head is None
                skb = tcp_stream_alloc_skb(sk, first_skb)
                process_backlog += 1
                tcp_skb_entail(sk, skb)
                copy = size_goal
                if sk.repair:
                    skb.sacked |= TCPCB_REPAIRED
            assert skb is not None
            copy = min(copy, msg.left)
            if msg.fault:
                tcp_downgrade_zcopy_pure(sk, skb)
                sk_forced_mem_schedule(sk, copy)
                return do_error(sk, msg, flags, uarg, copied, copied_syn, mss_now, size_goal, tsflags, -errno.EFAULT)
            if zc == 0:
                copy = copy_to_frag(sk, skb, copy)
            elif zc == MSG_ZEROCOPY:
                if not skb.len:
                    skb.pure_zcopy = True
                if not skb.pure_zcopy:
                    sk_forced_mem_schedule(sk, copy)
                copy = skb_zerocopy_iter_stream(sk, skb, msg, copy, uarg)
            else:
                tcp_downgrade_zcopy_pure(sk, skb)
                sk_forced_mem_schedule(sk, copy)
                copy = skb_splice_from_iter(sk, skb, msg, copy)
            if copy < 0:
                tcp_mark_push(sk, skb)
                new_segment = True
                continue
            break
        if wait_for_space:
            sk.sk_nospace = True
            tcp_remove_empty_skb(sk)
            if copied:
                tcp_push(sk, flags & ~MSG_MORE, mss_now, TCP_NAGLE_PUSH, size_goal)
            err, timeo = yield from stream.sk_stream_wait_memory(sk, timeo)
            if err:
                return do_error(sk, msg, flags, uarg, copied, copied_syn, mss_now, size_goal, tsflags, err)
            mss_now, size_goal = tcp_send_mss(sk, flags)
            continue
        if not copy:
            continue
        assert skb is not None
        if not copied:
            skb.tcp_flags &= ~PSH
        sk.write_seq = (sk.write_seq + copy) & M32
        skb.end_seq = (skb.end_seq + copy) & M32
        skb.gso_segs = 0
        copied += copy
        msg.left -= copy
        if not msg.left:
            if flags & MSG_EOR:
                skb.eor = True
            break
        if skb.len < size_goal or flags & MSG_OOB or sk.repair:
            continue
        if forced_push(sk):
            tcp_mark_push(sk, skb)
            output.__tcp_push_pending_frames(sk, mss_now, TCP_NAGLE_PUSH)
        elif skb is write_queue.head:
            output.tcp_push_one(sk, mss_now)
    return out(sk, msg, flags, uarg, copied, copied_syn, mss_now, size_goal, tsflags)


def out(
    sk: Sock, msg: MsgHdr, flags: int, uarg: Any, copied: int, copied_syn: int, mss_now: int, size_goal: int, ts: int
) -> int:
    """The end of a write; source net/ipv4/tcp.c:tcp_sendmsg_locked (out)."""
    if copied:
        if ts:
            errqueue.tcp_tx_timestamp(sk, ts)
        tcp_push(sk, flags, mss_now, sk.nonagle, size_goal)
    if uarg is not None and msg.msg_ubuf is None:
        errqueue.net_zcopy_put(uarg)
    return copied + copied_syn


def do_error(
    sk: Sock,
    msg: MsgHdr,
    flags: int,
    uarg: Any,
    copied: int,
    copied_syn: int,
    mss_now: int,
    size_goal: int,
    ts: int,
    err: int,
) -> int:
    """A write can not go on: what it did, else the error; source net/ipv4/tcp.c:tcp_sendmsg_locked (do_error)."""
    tcp_remove_empty_skb(sk)
    if copied + copied_syn:
        return out(sk, msg, flags, uarg, copied, copied_syn, mss_now, size_goal, ts)
    return out_err(sk, msg, flags, uarg, err)


def out_err(sk: Sock, msg: MsgHdr, flags: int, uarg: Any, err: int) -> int:
    """A write that did nothing; source net/ipv4/tcp.c:tcp_sendmsg_locked (out_err)."""
    if uarg is not None and msg.msg_ubuf is None:
        errqueue.net_zcopy_put_abort(uarg, True)
    err = stream.sk_stream_error(sk, flags, err)
    if err == -errno.EAGAIN and sk.tcp_rtx_queue.head is None and sk.sk_write_queue.head is None:
        poll.sk_write_space(sk)
        output.tcp_chrono_stop(sk, TCP_CHRONO_SNDBUF_LIMITED)
    return err


@cited("net/ipv4/tcp.c:tcp_sendmsg")
def tcp_sendmsg(sk: Sock, msg: MsgHdr, size: int) -> Blocking:
    """A write while the application holds the socket."""
    stream.lock_sock(sk)
    ret = yield from tcp_sendmsg_locked(sk, msg, size)
    stream.release_sock(sk)
    return ret


@cited("net/ipv4/tcp.c:tcp_splice_eof")
def tcp_splice_eof(sk: Sock) -> None:
    """A splice ended early although more was announced: what was held back for it goes."""
    if sk.sk_write_queue.tail is None:
        return
    stream.lock_sock(sk)
    mss_now, size_goal = tcp_send_mss(sk, 0)
    tcp_push(sk, 0, mss_now, sk.nonagle, size_goal)
    stream.release_sock(sk)
