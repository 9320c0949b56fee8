"""A receive buffer that is overrun: copies its segments close together, then drops the last ones out of order.

The law: bytes of the receive queue are never dropped; bytes out of order are, from the highest sequence number down.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import data, rcvbuf
from refmodel.tcp.whole.const import FIN, PAGE_SIZE, SHARED_INFO_SIZE, SKB_TRUESIZE, SYN, skb_end_offset
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Skb, SkbQueue
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.tcp_h import tcp_sack_reset
from refmodel.types import M32, after, before

SKB_MAX_ORDER: Final = PAGE_SIZE - SHARED_INFO_SIZE


def tcp_collapse_one(sk: Sock, skb: Skb, queue: SkbQueue) -> Skb | None:
    """Frees an skb whose bytes were copied; the one behind it; source net/ipv4/tcp_input.c:tcp_collapse_one."""
    nxt = skb.next
    queue.unlink(skb)
    rcvbuf.sock_rfree(skb, sk)
    sk.net.count("TcpExtTCPRcvCollapsed")
    return nxt


def tcp_rbtree_insert(queue: SkbQueue, skb: Skb) -> None:
    """Puts an skb where its sequence number belongs; source net/ipv4/tcp_input.c:tcp_rbtree_insert."""
    at = queue.tail
    while at is not None and before(skb.seq, at.seq):
        at = at.prev
    if at is None:
        queue.push(skb)
    else:
        queue.insert_after(at, skb)


def _alloc(like: Skb, start: int, copy: int, p: WholeParams) -> Skb:
    skb = Skb(start, start, 0, like.tcp_flags)
    skb.ack_seq = like.ack_seq
    skb.sacked = like.sacked
    skb.ip_dsfield = like.ip_dsfield
    skb.has_rxtstamp = like.has_rxtstamp
    skb.txstamp_ack = like.txstamp_ack
    skb.eor = like.eor
    skb.packet = like.packet
    skb.opts = like.opts
    skb.end_offset = skb_end_offset(copy, p.kernel, p.max_header)
    skb.truesize = SKB_TRUESIZE(skb.end_offset)
    skb.tailroom = skb.end_offset
    return skb


@cited("net/ipv4/tcp_input.c:tcp_collapse")
def tcp_collapse(sk: Sock, queue: SkbQueue, head: Skb | None, tail: Skb | None, start: int, end: int) -> None:
    """Copies the bytes [start, end) of the skbs from `head` up to `tail` into as few skbs as hold them.

    Skbs at the front that waste nothing and overlap nothing stay; SYN and FIN are not copied.
    """
    is_ofo = queue is sk.out_of_order_queue
    skb = head
    end_of_skbs = True
    while skb is not None and skb is not tail:
        n = skb.next
        if not before(start, skb.end_seq):
            skb = tcp_collapse_one(sk, skb, queue)
            continue
        if not skb.tcp_flags & (SYN | FIN) and (
            rcvbuf.tcp_win_from_space(sk, skb.truesize) > skb.len or before(skb.seq, start)
        ):
            end_of_skbs = False
            break
        if n is not None and n is not tail and skb.end_seq != n.seq:
            end_of_skbs = False
            break
        start = skb.end_seq
        skb = n
    if end_of_skbs or skb is None or skb.tcp_flags & (SYN | FIN):
        return
    fresh: list[Skb] = []
    _copy(sk, queue, skb, tail, start, end, fresh if is_ofo else None)
    for nskb in fresh:
        tcp_rbtree_insert(queue, nskb)


def _copy(
    sk: Sock, queue: SkbQueue, first: Skb, tail: Skb | None, start: int, end: int, fresh: list[Skb] | None
) -> None:
    """The copying of tcp_collapse: new skbs of a page each."""
    skb: Skb | None = first
    p = sk.net.p
    while skb is not None and before(start, end):
        copy = min(SKB_MAX_ORDER, (end - start) & M32)
        nskb = _alloc(skb, start, copy, p)
        if fresh is None:
            queue.insert_before(skb, nskb)
        else:
            fresh.append(nskb)
        rcvbuf.skb_set_owner_r(nskb, sk)
        while copy > 0:
            size = (skb.end_seq - start) & M32
            if 0 < size < 0x80000000:
                size = min(copy, size)
                nskb.len += size
                nskb.linear += size
                nskb.tailroom -= size
                nskb.end_seq = (nskb.end_seq + size) & M32
                copy -= size
                start = (start + size) & M32
            if not before(start, skb.end_seq):
                skb = tcp_collapse_one(sk, skb, queue)
                if skb is None or skb is tail or skb.tcp_flags & (SYN | FIN):
                    return


@cited("net/ipv4/tcp_input.c:tcp_collapse_ofo_queue")
def tcp_collapse_ofo_queue(sk: Sock) -> None:
    """Collapses each run of skbs out of order that touch, unless the run is tiny."""
    ofo = sk.out_of_order_queue
    sum_tiny = 0
    skb = ofo.head
    while skb is not None:
        start, end = skb.seq, skb.end_seq
        range_truesize = skb.truesize
        head = skb
        while True:
            skb = skb.next
            if skb is None or after(skb.seq, end) or before(skb.end_seq, start):
                if range_truesize != head.truesize or (end - start) & M32 >= SKB_MAX_ORDER:
                    tcp_collapse(sk, ofo, head, skb, start, end)
                else:
                    sum_tiny += range_truesize
                    if sum_tiny > sk.sk_rcvbuf >> 3:
                        return
                break
            range_truesize += skb.truesize
            if before(skb.seq, start):
                start = skb.seq
            if after(skb.end_seq, end):
                end = skb.end_seq
    sk.ooo_last_skb = ofo.tail


@cited("net/ipv4/tcp_input.c:tcp_prune_ofo_queue", "RFC 2018 8")
def tcp_prune_ofo_queue(sk: Sock, in_skb: Skb) -> bool:
    """Drops skbs out of order from the highest down, an eighth of the buffer at a time; True if any went.

    None is dropped that lies before the segment that needs the room.
    """
    ofo = sk.out_of_order_queue
    if ofo.head is None:
        return False
    kernel = sk.net.p.kernel
    pruned = False
    goal = sk.sk_rcvbuf >> 3
    skb = ofo.tail
    while skb is not None:
        if kernel >= 612 and after(in_skb.seq, skb.seq):
            break
        pruned = True
        prev = skb.prev
        ofo.unlink(skb)
        goal -= skb.truesize
        data.tcp_drop_reason(sk, skb)
        rcvbuf.sock_rfree(skb, sk)
        sk.ooo_last_skb = prev
        if prev is None or goal <= 0:
            if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
                break
            goal = sk.sk_rcvbuf >> 3
        skb = prev
    if pruned:
        sk.net.count("TcpExtOfoPruned")
        sk.net.note("tcp_prune_ofo_queue", "the receive buffer is overrun: segments out of order are dropped")
        if sk.rx_opt.sack_ok:
            tcp_sack_reset(sk.rx_opt)
    return pruned


@cited("net/ipv4/tcp_input.c:tcp_prune_queue")
def tcp_prune_queue(sk: Sock, in_skb: Skb) -> int:
    """Tries to bring the received data back within the buffer; negative if that failed and data must be dropped."""
    net = sk.net
    net.count("TcpExtPruneCalled")
    if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        rcvbuf.tcp_clamp_window(sk)
    if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
        return 0
    tcp_collapse_ofo_queue(sk)
    if sk.sk_receive_queue.head is not None:
        tcp_collapse(sk, sk.sk_receive_queue, sk.sk_receive_queue.head, None, sk.copied_seq, sk.rcv_nxt)
    if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
        return 0
    tcp_prune_ofo_queue(sk, in_skb)
    if sk.sk_rmem_alloc <= sk.sk_rcvbuf:
        return 0
    net.count("TcpExtRcvPruned")
    sk.pred_flags = None
    return -1
