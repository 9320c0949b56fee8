"""Data that arrives: the receive queue, the out-of-order queue, and the SACK blocks that tell the peer of it.

The law: the receive queue ends at rcv_nxt; the out-of-order queue is sorted, lies beyond rcv_nxt, and holds each byte
once. What arrives twice is dropped and told by a DSACK. SACK blocks are ordered by when they last changed.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import ack, poll, prune, rcv, rcvbuf, transmit
from refmodel.tcp.whole.const import (
    FIN,
    ICSK_ACK_NOMEM,
    ICSK_ACK_NOW,
    ICSK_ACK_SCHED,
    TCP_FASTRETRANS_THRESH,
    skb_end_offset,
)
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import SackBlock, Sock
from refmodel.tcp.whole.tcp_h import (
    sk_forced_mem_schedule,
    sk_mem_charge,
    tcp_fast_path_check,
    tcp_is_sack,
    tcp_receive_window,
)
from refmodel.types import M32, add, after, before

TCP_NUM_SACKS: Final = 4
TCP_SACK_BLOCKS_EXPECTED: Final = 2


def tcp_drop_reason(sk: Sock, skb: Skb) -> None:
    """Counts a segment that the socket drops; source net/ipv4/tcp_input.c:tcp_drop_reason."""
    sk.sk_drops += max(1, skb.gso_segs)


def tcp_data_ready(sk: Sock) -> None:
    """Wakes the reader if there is enough to read; source net/ipv4/tcp_input.c:tcp_data_ready."""
    if poll.tcp_epollin_ready(sk, sk.sk_rcvlowat) or "SOCK_DONE" in sk.sk_flags:
        poll.sk_data_ready(sk)


def tcp_rcv_nxt_update(sk: Sock, seq: int) -> None:
    """Moves rcv_nxt and counts the bytes; source net/ipv4/tcp_input.c:tcp_rcv_nxt_update."""
    sk.bytes_received += (seq - sk.rcv_nxt) & M32
    sk.rcv_nxt = seq


# ---------------------------------------------------------------- SACK and DSACK blocks


def tcp_sack_extend(sp: SackBlock, seq: int, end_seq: int) -> bool:
    """Widens a block by a range that touches it; source net/ipv4/tcp_input.c:tcp_sack_extend."""
    if after(seq, sp.end_seq) or after(sp.start_seq, end_seq):
        return False
    if before(seq, sp.start_seq):
        sp.start_seq = seq
    if after(end_seq, sp.end_seq):
        sp.end_seq = end_seq
    return True


@cited("net/ipv4/tcp_input.c:tcp_dsack_set", "RFC 2883 4")
def tcp_dsack_set(sk: Sock, seq: int, end_seq: int) -> None:
    """The next acknowledgment reports a range that arrived twice."""
    net = sk.net
    if tcp_is_sack(sk) and net.p.tcp_dsack:
        net.count("TcpExtTCPDSACKOldSent" if before(seq, sk.rcv_nxt) else "TcpExtTCPDSACKOfoSent")
        sk.rx_opt.dsack = True
        sk.duplicate_sack[0].start_seq = seq
        sk.duplicate_sack[0].end_seq = end_seq


@cited("net/ipv4/tcp_input.c:tcp_dsack_extend", "RFC 2883 4")
def tcp_dsack_extend(sk: Sock, seq: int, end_seq: int) -> None:
    """Reports a range that arrived twice, together with one that is to be reported already if they touch."""
    if not sk.rx_opt.dsack:
        tcp_dsack_set(sk, seq, end_seq)
    else:
        tcp_sack_extend(sk.duplicate_sack[0], seq, end_seq)


@cited("net/ipv4/tcp_input.c:tcp_sack_maybe_coalesce")
def tcp_sack_maybe_coalesce(sk: Sock) -> None:
    """Joins the first block with those that it has grown into."""
    blocks = sk.selective_acks
    this_sack = 1
    while this_sack < sk.rx_opt.num_sacks:
        walk = blocks[this_sack]
        if tcp_sack_extend(blocks[0], walk.start_seq, walk.end_seq):
            sk.rx_opt.num_sacks -= 1
            blocks.append(blocks.pop(this_sack))
            continue
        this_sack += 1


@cited("net/ipv4/tcp_input.c:tcp_sack_compress_send_ack")
def tcp_sack_compress_send_ack(sk: Sock) -> None:
    """Sends the acknowledgment that stands for those held back."""
    if not sk.compressed_ack:
        return
    sk.compressed_ack_timer.stop()
    sk.net.count("TcpExtTCPAckCompressed", sk.compressed_ack - 1)
    sk.compressed_ack = 0
    sk.net.cause = "tcp_sack_compress_send_ack"
    transmit.tcp_send_ack(sk)


@cited("net/ipv4/tcp_input.c:tcp_sack_new_ofo_skb", "RFC 2018 4")
def tcp_sack_new_ofo_skb(sk: Sock, seq: int, end_seq: int) -> None:
    """Puts the block of a segment that arrived out of order first: a block that it extends, or a new one."""
    blocks = sk.selective_acks
    cur_sacks = sk.rx_opt.num_sacks
    for this_sack in range(cur_sacks):
        if tcp_sack_extend(blocks[this_sack], seq, end_seq):
            if this_sack >= TCP_SACK_BLOCKS_EXPECTED:
                tcp_sack_compress_send_ack(sk)
            blocks.insert(0, blocks.pop(this_sack))
            if cur_sacks > 1:
                tcp_sack_maybe_coalesce(sk)
            return
    if cur_sacks:
        if cur_sacks >= TCP_SACK_BLOCKS_EXPECTED:
            tcp_sack_compress_send_ack(sk)
        if cur_sacks >= TCP_NUM_SACKS:
            cur_sacks -= 1
            sk.rx_opt.num_sacks -= 1
    first = blocks.pop(cur_sacks)
    first.start_seq = seq
    first.end_seq = end_seq
    blocks.insert(0, first)
    sk.rx_opt.num_sacks += 1


@cited("net/ipv4/tcp_input.c:tcp_sack_remove", "RFC 2018 4")
def tcp_sack_remove(sk: Sock) -> None:
    """Drops the blocks that rcv_nxt has passed."""
    if sk.out_of_order_queue.head is None:
        sk.rx_opt.num_sacks = 0
        return
    blocks = sk.selective_acks
    num_sacks = sk.rx_opt.num_sacks
    this_sack = 0
    while this_sack < num_sacks:
        if not before(sk.rcv_nxt, blocks[this_sack].start_seq):
            blocks.append(blocks.pop(this_sack))
            num_sacks -= 1
            continue
        this_sack += 1
    sk.rx_opt.num_sacks = num_sacks


# ---------------------------------------------------------------- queues


@cited("net/ipv4/tcp_input.c:tcp_try_coalesce")
def tcp_try_coalesce(sk: Sock, to: Skb, frm: Skb) -> bool:
    """Moves a segment's payload into the skb before it, if that is cheap; `frm` is then spent."""
    if frm.seq != to.end_seq:
        return False
    delta = rcvbuf.skb_try_coalesce(sk.net, to, frm)
    if delta < 0:
        return False
    sk.sk_rmem_alloc += delta
    sk_mem_charge(sk, delta)
    sk.net.count("TcpExtTCPRcvCoalesce")
    to.end_seq = frm.end_seq
    to.ack_seq = frm.ack_seq
    to.tcp_flags |= frm.tcp_flags
    if frm.has_rxtstamp:
        to.has_rxtstamp = True
        to.tstamp = frm.tstamp
    return True


def tcp_ooo_try_coalesce(sk: Sock, to: Skb, frm: Skb) -> bool:
    """As tcp_try_coalesce, and counts the segments; source net/ipv4/tcp_input.c:tcp_ooo_try_coalesce."""
    if not tcp_try_coalesce(sk, to, frm):
        return False
    to.gso_segs = min(max(1, to.gso_segs) + max(1, frm.gso_segs), 0xFFFF)
    return True


@cited("net/ipv4/tcp_input.c:tcp_ofo_queue")
def tcp_ofo_queue(sk: Sock) -> None:
    """Moves what has come into order from the out-of-order queue to the receive queue."""
    ofo = sk.out_of_order_queue
    dsack_high = sk.rcv_nxt
    skb = ofo.head
    while skb is not None and not after(skb.seq, sk.rcv_nxt):
        if before(skb.seq, dsack_high):
            tcp_dsack_extend(sk, skb.seq, skb.end_seq if before(skb.end_seq, dsack_high) else dsack_high)
        ofo.unlink(skb)
        if not after(skb.end_seq, sk.rcv_nxt):
            tcp_drop_reason(sk, skb)
            rcvbuf.sock_rfree(skb, sk)
            skb = ofo.head
            continue
        tail = sk.sk_receive_queue.tail
        eaten = tail is not None and tcp_try_coalesce(sk, tail, skb)
        tcp_rcv_nxt_update(sk, skb.end_seq)
        fin = skb.tcp_flags & FIN
        if eaten:
            rcvbuf.sock_rfree(skb, sk)
        else:
            sk.sk_receive_queue.append(skb)
        if fin:
            rcv.tcp_fin(sk)
            break
        skb = ofo.head


@cited("net/ipv4/tcp_input.c:tcp_try_rmem_schedule")
def tcp_try_rmem_schedule(sk: Sock, skb: Skb, size: int) -> bool:
    """Makes room for a segment, by pruning the queues if the buffer is overrun; True if there is none."""
    if sk.sk_rmem_alloc > sk.sk_rcvbuf and prune.tcp_prune_queue(sk, skb) < 0:
        return True
    sk_forced_mem_schedule(sk, size)
    return False


@cited("net/ipv4/tcp_input.c:tcp_data_queue_ofo", "RFC 9293 3.10.7.4", "RFC 5681 4.2", "RFC 2018 4")
def tcp_data_queue_ofo(sk: Sock, skb: Skb) -> None:
    """Queues a segment that left a gap before it, without the bytes that are there already."""
    net = sk.net
    rcvbuf.tcp_save_lrcv_flowlabel(sk, skb)
    rcvbuf.tcp_ecn_check_ce(sk, skb)
    if tcp_try_rmem_schedule(sk, skb, skb.truesize):
        net.count("TcpExtTCPOFODrop")
        poll.sk_data_ready(sk)
        tcp_drop_reason(sk, skb)
        return
    if net.p.kernel >= 603:
        rcvbuf.tcp_measure_rcv_mss(sk, skb)
    sk.pred_flags = None
    sk.icsk_ack.pending |= ICSK_ACK_SCHED
    sk.rcv_ooopack += max(1, skb.gso_segs)
    net.count("TcpExtTCPOFOQueue")
    seq, end_seq = skb.seq, skb.end_seq
    ofo = sk.out_of_order_queue
    last = ofo.tail
    queued = True
    if last is None:
        if tcp_is_sack(sk):
            sk.rx_opt.num_sacks = 1
            sk.selective_acks[0].start_seq = seq
            sk.selective_acks[0].end_seq = end_seq
        ofo.append(skb)
        sk.ooo_last_skb = skb
    else:
        queued = _ofo_insert(sk, skb, last)
        sk.ooo_last_skb = ofo.tail
        if tcp_is_sack(sk):
            tcp_sack_new_ofo_skb(sk, seq, end_seq)
    if queued:
        if tcp_is_sack(sk):
            rcvbuf.tcp_grow_window(sk, skb, False)
        rcvbuf.skb_condense(net, skb)
        rcvbuf.skb_set_owner_r(skb, sk)
    if net.p.kernel >= 618 and sk.has_socket:
        rcvbuf.tcp_rcvbuf_grow(sk, sk.rcvq_space.space)


def _ofo_insert(sk: Sock, skb: Skb, last: Skb) -> bool:
    """Puts a segment into a queue that isn't empty; False if its bytes went into another skb, or were all there."""
    ofo = sk.out_of_order_queue
    seq, end_seq = skb.seq, skb.end_seq
    at: Skb | None = last
    if tcp_ooo_try_coalesce(sk, last, skb):
        return _ofo_coalesced(sk, skb)
    if before(seq, last.end_seq):
        at, node = None, ofo.tree.root
        while node is not None:
            skb1 = node.item
            if before(seq, skb1.seq):
                node = node.left
                continue
            if before(seq, skb1.end_seq):
                if not after(end_seq, skb1.end_seq):
                    sk.net.count("TcpExtTCPOFOMerge")
                    tcp_drop_reason(sk, skb)
                    tcp_dsack_set(sk, seq, end_seq)
                    return False
                if after(seq, skb1.seq):
                    tcp_dsack_set(sk, seq, skb1.end_seq)
                else:
                    _ofo_replace(sk, skb1, skb)
                    return True
            elif tcp_ooo_try_coalesce(sk, skb1, skb):
                return _ofo_coalesced(sk, skb)
            at, node = skb1, node.right
    if at is None:
        ofo.push(skb)
    else:
        ofo.insert_after(at, skb)
    _ofo_merge_right(sk, skb)
    return True


def _ofo_coalesced(sk: Sock, skb: Skb) -> bool:
    if tcp_is_sack(sk):
        rcvbuf.tcp_grow_window(sk, skb, True)
    return False


def _ofo_replace(sk: Sock, skb1: Skb, skb: Skb) -> None:
    """Puts a segment in the place of one that it covers from the same byte on."""
    sk.out_of_order_queue.replace(skb1, skb)
    tcp_dsack_extend(sk, skb1.seq, skb1.end_seq)
    _ofo_merged(sk, skb1)
    _ofo_merge_right(sk, skb)


def _ofo_merged(sk: Sock, skb: Skb) -> None:
    """Drops an skb whose bytes another one of the queue has."""
    sk.net.count("TcpExtTCPOFOMerge")
    tcp_drop_reason(sk, skb)
    rcvbuf.sock_rfree(skb, sk)


def _ofo_merge_right(sk: Sock, skb: Skb) -> None:
    """Drops what `skb` covers behind it."""
    end_seq = skb.end_seq
    while (skb1 := skb.next) is not None and after(end_seq, skb1.seq):
        if before(end_seq, skb1.end_seq):
            tcp_dsack_extend(sk, skb1.seq, end_seq)
            break
        sk.out_of_order_queue.unlink(skb1)
        tcp_dsack_extend(sk, skb1.seq, skb1.end_seq)
        _ofo_merged(sk, skb1)


@cited("net/ipv4/tcp_input.c:tcp_queue_rcv")
def tcp_queue_rcv(sk: Sock, skb: Skb) -> bool:
    """Puts a segment that is in order behind the receive queue; True if its payload went into the last skb."""
    tail = sk.sk_receive_queue.tail
    eaten = tail is not None and tcp_try_coalesce(sk, tail, skb)
    sk.bytes_received += (skb.end_seq - sk.rcv_nxt) & M32
    sk.rcv_nxt = skb.end_seq
    if not eaten:
        sk.sk_receive_queue.append(skb)
        sk.sk_rmem_alloc += skb.truesize
        sk.sk_forward_alloc -= skb.truesize
    return eaten


@cited("net/ipv4/tcp_input.c:tcp_send_rcvq")
def tcp_send_rcvq(sk: Sock, size: int) -> int:
    """Repair: a process puts bytes into its own receive queue."""
    if size == 0:
        return 0
    p = sk.net.p
    page = 4096
    data_len = 0
    if size > page:
        data_len = min(size // page, 17) * page
        size = data_len + (size & (page - 1))
    skb = Skb(sk.rcv_nxt, add(sk.rcv_nxt, size), size)
    skb.ack_seq = add(sk.snd_una, -1)
    skb.end_offset = skb_end_offset(size - data_len, p.kernel, p.max_header)
    skb.linear = size - data_len
    skb.truesize = skb.end_offset + 576
    left, order = data_len, 3
    while left > 0:
        while order and -(-left // page) < 1 << order:
            order -= 1
        left -= min(left, page << order)
        skb.truesize += page << order
        skb.frags += 1
    skb.tailroom = 0 if skb.frags else skb.end_offset - size
    if tcp_try_rmem_schedule(sk, skb, skb.truesize):
        sk.net.count("TcpExtTCPRcvQDrop")
        return -12  # ENOMEM
    tcp_queue_rcv(sk, skb)
    return size


# ---------------------------------------------------------------- a segment's text


def _out_of_window(sk: Sock, skb: Skb) -> None:
    rcvbuf.tcp_enter_quickack_mode(sk, rcvbuf.TCP_MAX_QUICKACKS)
    sk.icsk_ack.pending |= ICSK_ACK_SCHED
    tcp_drop_reason(sk, skb)


@cited("net/ipv4/tcp_input.c:tcp_data_queue", "RFC 9293 3.10.7.4", "RFC 2883 4", "RFC 5681 4.2")
def tcp_data_queue(sk: Sock, skb: Skb) -> None:
    """Takes a segment's text: in order, out of order, partly or wholly old, or beyond the window."""
    if skb.seq == skb.end_seq:
        return
    net = sk.net
    sk.rx_opt.dsack = False
    rcv_nxt = sk.rcv_nxt
    if skb.seq == rcv_nxt:
        if tcp_receive_window(sk) == 0 and not (net.p.kernel >= 612 and not skb.len and skb.tcp_flags & FIN):
            net.count("TcpExtTCPZeroWindowDrop")
            _out_of_window(sk, skb)
            return
        _queue_and_out(sk, skb)
        return
    if not after(skb.end_seq, rcv_nxt):
        ack.tcp_rcv_spurious_retrans(sk, skb)
        net.count("TcpExtDelayedACKLost")
        tcp_dsack_set(sk, skb.seq, skb.end_seq)
        _out_of_window(sk, skb)
        return
    window = tcp_receive_window(sk)
    if not before(skb.seq, add(rcv_nxt, window)):
        _out_of_window(sk, skb)
        return
    if before(skb.seq, rcv_nxt):
        tcp_dsack_set(sk, skb.seq, rcv_nxt)
        if not window:
            net.count("TcpExtTCPZeroWindowDrop")
            _out_of_window(sk, skb)
            return
        _queue_and_out(sk, skb)
        return
    tcp_data_queue_ofo(sk, skb)


def _no_room(sk: Sock, skb: Skb) -> bool:
    """There is no memory for a segment in order: a zero window says so; True if the segment must go."""
    net = sk.net
    if net.p.kernel < 612:
        if sk.sk_receive_queue.head is None:
            sk_forced_mem_schedule(sk, skb.truesize)
            return False
        if not tcp_try_rmem_schedule(sk, skb, skb.truesize):
            return False
        net.count("TcpExtTCPRcvQDrop")
        poll.sk_data_ready(sk)
        return True
    if not tcp_try_rmem_schedule(sk, skb, skb.truesize):
        return False
    sk.icsk_ack.pending |= ICSK_ACK_NOMEM | ICSK_ACK_NOW | ICSK_ACK_SCHED
    poll.sk_data_ready(sk)
    if sk.sk_receive_queue.head is not None and skb.len:
        net.count("TcpExtTCPRcvQDrop")
        return True
    sk_forced_mem_schedule(sk, skb.truesize)
    return False


def _queue_and_out(sk: Sock, skb: Skb) -> None:
    """Queues a segment in order, and what had waited for it."""
    if _no_room(sk, skb):
        tcp_drop_reason(sk, skb)
        return
    tcp_queue_rcv(sk, skb)
    if skb.len:
        rcvbuf.tcp_event_data_recv(sk, skb)
    if skb.tcp_flags & FIN:
        rcv.tcp_fin(sk)
    ofo = sk.out_of_order_queue
    if ofo.head is not None:
        tcp_ofo_queue(sk)
        sk.ooo_last_skb = ofo.tail
        if ofo.head is None:
            sk.icsk_ack.pending |= ICSK_ACK_NOW
    if sk.rx_opt.num_sacks:
        tcp_sack_remove(sk)
    tcp_fast_path_check(sk)
    if "SOCK_DEAD" not in sk.sk_flags:
        tcp_data_ready(sk)


# ---------------------------------------------------------------- whether to acknowledge


@cited("net/ipv4/tcp_input.c:__tcp_ack_snd_check", "RFC 9293 3.8.6.3", "RFC 5681 4.2")
def __tcp_ack_snd_check(sk: Sock, ofo_possible: bool) -> None:
    """Acknowledges now, later, or together with more segments out of order."""
    icsk_ack = sk.icsk_ack
    if (
        (
            (sk.rcv_nxt - sk.rcv_wup) & M32 > icsk_ack.rcv_mss
            and ((sk.rcv_nxt - sk.copied_seq) & M32 < sk.sk_rcvlowat or transmit.__tcp_select_window(sk) >= sk.rcv_wnd)
        )
        or rcvbuf.tcp_in_quickack_mode(sk)
        or icsk_ack.pending & ICSK_ACK_NOW
    ):
        p = sk.net.p
        if sk.sk_owned and p.kernel >= 607 and p.tcp_backlog_ack_defer:
            sk.sk_tsq_flags.add("TCP_ACK_DEFERRED")
            return
        sk.net.cause = "__tcp_ack_snd_check"
        transmit.tcp_send_ack(sk)
        return
    if not ofo_possible or sk.out_of_order_queue.head is None:
        transmit.tcp_send_delayed_ack(sk)
        return
    _compress_sack(sk)


def _compress_sack(sk: Sock) -> None:
    """Sends the first three acknowledgments of segments out of order at once, and holds further ones back."""
    net = sk.net
    if not tcp_is_sack(sk) or sk.compressed_ack >= net.p.tcp_comp_sack_nr:
        net.cause = "__tcp_ack_snd_check"
        transmit.tcp_send_ack(sk)
        return
    if sk.compressed_ack_rcv_nxt != sk.rcv_nxt:
        sk.compressed_ack_rcv_nxt = sk.rcv_nxt
        sk.dup_ack_counter = 0
    if sk.dup_ack_counter < TCP_FASTRETRANS_THRESH:
        sk.dup_ack_counter += 1
        net.cause = "__tcp_ack_snd_check"
        transmit.tcp_send_ack(sk)
        return
    sk.compressed_ack += 1
    if sk.compressed_ack_timer.pending:
        return
    rtt = sk.rcv_rtt_est.rtt_us
    if sk.srtt_us and sk.srtt_us < rtt:
        rtt = sk.srtt_us
    delay = min(net.p.tcp_comp_sack_delay_ns, rtt * (1000 >> 3) // 20)
    sk.compressed_ack_timer.start_us(net.now + (delay + net.p.tcp_comp_sack_slack_ns) // 1000)


def tcp_ack_snd_check(sk: Sock) -> None:
    """Acknowledges if that is owed; source net/ipv4/tcp_input.c:tcp_ack_snd_check."""
    if sk.icsk_ack.pending & ICSK_ACK_SCHED:
        __tcp_ack_snd_check(sk, True)
