"""What is true of every connection between two events.

Each law is a function of one socket (or of its namespace) that a reader can hold against the kernel's own
WARN_ONs; `violations` asks them all. They are checked after every event of every property test.
"""

from collections.abc import Callable, Iterator
from typing import Final

from refmodel.tcp.state import St
from refmodel.tcp.whole.const import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    TCP_MIN_SND_MSS,
    TCP_NAGLE_CORK,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
)
from refmodel.tcp.whole.net import Net, tcp_rto_max
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, RequestSock, Sock, TimewaitSock
from refmodel.tcp.whole.tcp_h import tcp_is_sack, tcp_packets_in_flight, tcp_rto_min, tcp_skb_pcount
from refmodel.types import H32, M32, add

Law = Callable[[Sock], bool]
LAWS: Final[list[Law]] = []
NET_LAWS: Final[list[Callable[[Net], bool]]] = []

OPEN: Final = (St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)
SENDING: Final = (St.ESTABLISHED, St.CLOSE_WAIT, St.FIN_WAIT1, St.LAST_ACK, St.CLOSING)
LONGEST_DELACK: Final = 5  # a delayed ACK waits for HZ/5 jiffies at most


def law(f: Law) -> Law:
    """Adds a law of sockets."""
    LAWS.append(f)
    return f


def net_law(f: Callable[[Net], bool]) -> Callable[[Net], bool]:
    """Adds a law of namespaces."""
    NET_LAWS.append(f)
    return f


def violations(net: Net) -> Iterator[tuple[str, Sock | Net]]:
    """Every law that doesn't hold now, by name, and of whom."""
    for q in NET_LAWS:
        if not q(net):
            yield q.__name__, net
    for sk in sockets(net):
        for p in LAWS:
            if not p(sk):
                yield p.__name__, sk


def sockets(net: Net) -> Iterator[Sock]:
    """The full sockets of a namespace, listeners too."""
    for sk in net.ehash.values():
        if isinstance(sk, Sock):
            yield sk
    for bucket in net.lhash.values():
        yield from bucket


def dist(a: int, b: int) -> int:
    """b - a in sequence space, negative if b lies before a."""
    d = (b - a) & M32
    return d - (1 << 32) if d >= H32 else d


def _pcount(skbs: Iterator[Skb], tag: int) -> int:
    return sum(tcp_skb_pcount(x) for x in skbs if x.sacked & tag)


# ---------------------------------------------------------------- sequence numbers and queues


@law
def sent_in_order(sk: Sock) -> bool:
    """snd_una <= snd_nxt <= write_seq."""
    return dist(sk.snd_una, sk.snd_nxt) >= 0 and dist(sk.snd_nxt, sk.write_seq) >= 0


@law
def rtx_queue_starts_at_una(sk: Sock) -> bool:
    """The retransmit queue starts at snd_una or before it: a partly acknowledged skb may be left whole."""
    head = sk.tcp_rtx_queue.head
    return head is None or (dist(head.seq, sk.snd_una) >= 0 and dist(sk.snd_una, head.end_seq) > 0)


@law
def rtx_queue_ends_at_nxt(sk: Sock) -> bool:
    """The retransmit queue ends at snd_nxt."""
    tail = sk.tcp_rtx_queue.tail
    return tail is None or tail.end_seq == sk.snd_nxt


@law
def rtx_queue_has_no_gaps(sk: Sock) -> bool:
    """Each skb of the retransmit queue starts where the one before it ends."""
    return all(x.next is None or x.end_seq == x.next.seq for x in sk.tcp_rtx_queue)


@law
def write_queue_starts_at_nxt(sk: Sock) -> bool:
    """What is unsent starts at snd_nxt."""
    head = sk.sk_write_queue.head
    return head is None or head.seq == sk.snd_nxt


@law
def write_queue_ends_at_write_seq(sk: Sock) -> bool:
    """What is unsent ends at write_seq."""
    tail = sk.sk_write_queue.tail
    return tail is None or tail.end_seq == sk.write_seq


@law
def write_queue_has_no_gaps(sk: Sock) -> bool:
    """Each unsent skb starts where the one before it ends."""
    return all(x.next is None or x.end_seq == x.next.seq for x in sk.sk_write_queue)


@law
def nothing_out_is_nothing_queued(sk: Sock) -> bool:
    """packets_out is zero exactly when the retransmit queue is empty."""
    return (sk.packets_out == 0) == (not sk.tcp_rtx_queue)


@law
def ofo_is_beyond_rcv_nxt(sk: Sock) -> bool:
    """Out-of-order data lies beyond rcv_nxt."""
    head = sk.out_of_order_queue.head
    return head is None or dist(sk.rcv_nxt, head.seq) > 0


@law
def ofo_is_sorted(sk: Sock) -> bool:
    """Out-of-order skbs are sorted, and none covers another; Linux leaves those that overlap in part."""
    pairs = ((x, x.next) for x in sk.out_of_order_queue if x.next is not None)
    return all(dist(x.seq, y.seq) > 0 and dist(x.end_seq, y.end_seq) > 0 for x, y in pairs)


@law
def ooo_last_skb_is_the_last(sk: Sock) -> bool:
    """ooo_last_skb is the tail of a queue that isn't empty."""
    return not sk.out_of_order_queue or sk.ooo_last_skb is sk.out_of_order_queue.tail


@law
def receive_queue_ends_at_rcv_nxt(sk: Sock) -> bool:
    """What is readable ends at rcv_nxt, a FIN counted."""
    tail = sk.sk_receive_queue.tail
    return tail is None or sk.sk_state not in OPEN or tail.end_seq == sk.rcv_nxt


@law
def receive_queue_has_no_gaps(sk: Sock) -> bool:
    """No byte is missing between what is readable."""
    return all(x.next is None or dist(x.end_seq, x.next.seq) <= 0 for x in sk.sk_receive_queue)


@law
def read_in_order(sk: Sock) -> bool:
    """copied_seq is never beyond rcv_nxt."""
    return sk.sk_state not in OPEN or dist(sk.copied_seq, sk.rcv_nxt) >= 0


@law
def acknowledged_in_order(sk: Sock) -> bool:
    """rcv_wup, the last acknowledgment sent, is never beyond rcv_nxt."""
    return sk.sk_state not in OPEN or dist(sk.rcv_wup, sk.rcv_nxt) >= 0


@law
def sacks_are_beyond_rcv_nxt(sk: Sock) -> bool:
    """SACK blocks to be sent lie beyond rcv_nxt and aren't empty."""
    blocks = sk.selective_acks[: sk.rx_opt.num_sacks]
    return all(dist(b.start_seq, b.end_seq) > 0 and dist(sk.rcv_nxt, b.start_seq) > 0 for b in blocks)


@law
def sacks_are_in_the_ofo_queue(sk: Sock) -> bool:
    """There are SACK blocks to send only while the out-of-order queue holds something."""
    return sk.rx_opt.num_sacks == 0 or bool(sk.out_of_order_queue)


# ---------------------------------------------------------------- the scoreboard


@law
def packets_out_counts_the_queue(sk: Sock) -> bool:
    """packets_out is the number of segments in the retransmit queue."""
    return sk.packets_out == sum(tcp_skb_pcount(x) for x in sk.tcp_rtx_queue)


@law
def sacked_out_counts_the_sacked(sk: Sock) -> bool:
    """With SACK sacked_out is the number of SACKed segments."""
    return not tcp_is_sack(sk) or sk.sacked_out == _pcount(iter(sk.tcp_rtx_queue), TCPCB_SACKED_ACKED)


@law
def lost_out_counts_the_lost(sk: Sock) -> bool:
    """lost_out is the number of segments marked lost."""
    return sk.lost_out == _pcount(iter(sk.tcp_rtx_queue), TCPCB_LOST)


@law
def retrans_out_counts_the_retransmitted(sk: Sock) -> bool:
    """retrans_out counts every retransmitted segment that is out, and others only after an undo has left its marks.

    Linux counts a segment twice that is retransmitted, kept by F-RTO's undo and retransmitted again by a timeout.
    """
    marked = _pcount(iter(sk.tcp_rtx_queue), TCPCB_SACKED_RETRANS)
    return sk.retrans_out == marked or (sk.retrans_out > marked and sk.icsk_ca_state >= CA.Disorder)


@law
def left_out_is_out(sk: Sock) -> bool:
    """No more has left the network than went into it (tcp_verify_left_out)."""
    return sk.sacked_out + sk.lost_out <= sk.packets_out


@law
def sacked_is_not_lost(sk: Sock) -> bool:
    """A SACKed segment isn't lost."""
    return all(not (x.sacked & TCPCB_SACKED_ACKED and x.sacked & TCPCB_LOST) for x in sk.tcp_rtx_queue)


@law
def open_has_nothing_lost(sk: Sock) -> bool:
    """In Open nothing is lost or retransmitted."""
    return sk.icsk_ca_state != CA.Open or sk.sk_state not in OPEN or (sk.lost_out == 0 and sk.retrans_out == 0)


@law
def tsorted_is_what_isnt_sacked(sk: Sock) -> bool:
    """The queue in order of sending holds skbs of the retransmit queue that aren't SACKed, and no others.

    RACK takes out what it finds lost, until it goes again or an undo finds it isn't. A probe of a tail that is SACKed
    already puts it back (tcp_send_loss_probe doesn't look).
    """
    out = TCPCB_SACKED_ACKED
    want = {id(x) for x in sk.tcp_rtx_queue if not x.sacked & out or x.sacked & TCPCB_EVER_RETRANS}
    return not tcp_is_sack(sk) or sk.sk_state not in OPEN or {id(x) for x in sk.tsorted_sent_queue} <= want


@law
def highest_sack_is_queued(sk: Sock) -> bool:
    """highest_sack, if there is one while something is SACKed, stands in the retransmit queue."""
    at = sk.highest_sack
    return at is None or sk.sacked_out == 0 or any(x is at for x in sk.tcp_rtx_queue)


@law
def undo_needs_a_marker(sk: Sock) -> bool:
    """undo_retrans is never less than -1, and counts at most what was retransmitted."""
    return -1 <= sk.undo_retrans <= sk.total_retrans


@law
def window_of_one_at_least(sk: Sock) -> bool:
    """The congestion window is never zero."""
    return sk.snd_cwnd >= 1


@law
def threshold_of_two_at_least(sk: Sock) -> bool:
    """No loss sets the threshold below two segments."""
    return sk.snd_ssthresh >= 2


@law
def recovery_has_a_goal(sk: Sock) -> bool:
    """In Recovery, CWR and Loss high_seq lies within what was sent."""
    busy = sk.icsk_ca_state in (CA.CWR, CA.Recovery, CA.Loss)
    return not busy or sk.sk_state not in OPEN or dist(sk.high_seq, sk.snd_nxt) >= 0


# ---------------------------------------------------------------- timers


@law
def what_is_out_is_watched(sk: Sock) -> bool:
    """While something is out the transmit timer is armed to retransmit, to probe or to mark as lost."""
    kinds = (ICSK_TIME_RETRANS, ICSK_TIME_LOSS_PROBE, ICSK_TIME_REO_TIMEOUT)
    armed = sk.icsk_pending in kinds and sk.icsk_retransmit_timer.pending
    return sk.sk_state not in SENDING or sk.packets_out == 0 or armed


@law
def what_waits_is_probed_for(sk: Sock) -> bool:
    """With data unsent and nothing out the window is probed, unless a cork or the pacing timer holds it back."""
    waits = sk.packets_out == 0 and bool(sk.sk_write_queue)
    armed = sk.icsk_pending == ICSK_TIME_PROBE0 and sk.icsk_retransmit_timer.pending
    return sk.sk_state not in SENDING or not waits or armed or sk.pacing_timer.pending


@net_law
def a_closed_socket_has_no_timer(net: Net) -> bool:
    """No timer waits for a socket that is closed."""
    live = (t.sk for when, token, t in net._heap if t.token == token and t.expires == when)
    return all(not isinstance(sk, Sock) or sk.sk_state != St.CLOSE for sk in live)


@law
def a_delayed_ack_has_a_deadline(sk: Sock) -> bool:
    """An acknowledgment that was put off to a timer is sent after 200 ms at the latest (in jiffies)."""
    if not sk.icsk_ack.pending & ICSK_ACK_TIMER:
        return True
    left = sk.icsk_ack.timeout - sk.net.jiffies
    return sk.icsk_delack_timer.pending and left <= sk.net.hz // LONGEST_DELACK


@law
def an_owed_ack_is_not_forgotten(sk: Sock) -> bool:
    """An acknowledgment that is owed waits for a timer, unless a reader's window update will carry it."""
    owed = sk.icsk_ack.pending & ICSK_ACK_SCHED and dist(sk.rcv_wup, sk.rcv_nxt) > 0
    waits = sk.icsk_delack_timer.pending or sk.compressed_ack_timer.pending
    return sk.sk_state not in OPEN or not owed or waits


@law
def nagle_lets_go(sk: Sock) -> bool:
    """With nothing out, data that the window takes don't wait, unless a cork or the pace holds them back."""
    head = sk.sk_write_queue.head
    if head is None or sk.packets_out or sk.sk_state not in SENDING or sk.nonagle & TCP_NAGLE_CORK:
        return True
    first = head.end_seq if head.len <= sk.mss_cache else add(head.seq, sk.mss_cache)
    fits = dist(first, add(sk.snd_una, sk.snd_wnd)) >= 0
    return not fits or sk.pacing_timer.pending


@law
def the_timeout_is_bounded(sk: Sock) -> bool:
    """The timeout lies between TCP_RTO_MIN and TCP_RTO_MAX once there is a sample."""
    return not sk.srtt_us or tcp_rto_min(sk) <= sk.icsk_rto <= tcp_rto_max(sk)


@law
def the_ack_timeout_is_bounded(sk: Sock) -> bool:
    """What the delay of acknowledgments adapts to is at least TCP_ATO_MIN, at most TCP_DELACK_MAX or the timeout."""
    ack, hz = sk.icsk_ack, sk.net.hz
    return ack.ato == 0 or ack.ato <= max(sk.icsk_rto, hz // LONGEST_DELACK)


@law
def nothing_negative_is_in_flight(sk: Sock) -> bool:
    """What is out, less what left the network, plus what went again, is never negative."""
    return tcp_packets_in_flight(sk) >= 0


@law
def the_urgent_pointer_is_in_the_stream(sk: Sock) -> bool:
    """Our urgent pointer lies between snd_una and what was written."""
    return sk.sk_state not in OPEN or (dist(sk.snd_una, sk.snd_up) >= 0 and dist(sk.snd_up, sk.write_seq) >= 0)


@law
def segments_have_a_size(sk: Sock) -> bool:
    """The segment size is at least 48 bytes, and never more than the peer's MSS."""
    return sk.sk_state not in OPEN or TCP_MIN_SND_MSS <= sk.mss_cache <= max(sk.rx_opt.mss_clamp, TCP_MIN_SND_MSS)


@law
def a_repeated_skb_is_full_or_whole(sk: Sock) -> bool:
    """An skb of the retransmit queue counts as many segments as its payload makes of its size."""
    skbs = (x for x in sk.tcp_rtx_queue if x.gso_segs > 1)
    return all((x.gso_segs - 1) * x.gso_size < x.len <= x.gso_segs * x.gso_size for x in skbs)


@net_law
def no_timer_is_lost(net: Net) -> bool:
    """A timer that is armed is in the order of timers, and none is overdue by a tick."""
    tick = net.jiffies_to_usecs(1)
    waiting = {token for when, token, t in net._heap if t.token == token and t.expires == when}
    for sk in sockets(net):
        xmit = (sk.icsk_retransmit_timer, sk.icsk_delack_timer, sk.pacing_timer, sk.compressed_ack_timer)
        for t in (*xmit, sk.sk_timer):
            if t.expires is not None and (t.token not in waiting or t.expires <= net.now - tick):
                return False
    return True


# ---------------------------------------------------------------- memory and the state


@law
def wmem_queued_is_what_is_queued(sk: Sock) -> bool:
    """sk_wmem_queued is the memory of both send queues."""
    if sk.sk_state in (St.CLOSE, St.LISTEN, St.SYN_SENT, St.SYN_RECV):
        return True
    both = sum(x.truesize for x in sk.sk_write_queue) + sum(x.truesize for x in sk.tcp_rtx_queue)
    return sk.sk_wmem_queued == both


@law
def rmem_alloc_is_what_is_queued(sk: Sock) -> bool:
    """sk_rmem_alloc is the memory of the receive queue and the out-of-order queue."""
    if sk.sk_state == St.LISTEN:
        return True
    both = sum(x.truesize for x in sk.sk_receive_queue) + sum(x.truesize for x in sk.out_of_order_queue)
    return sk.sk_rmem_alloc == both


@law
def rcvbuf_is_kept(sk: Sock) -> bool:
    """Received data take at most one skb more than the receive buffer allows."""
    queues = (sk.sk_receive_queue, sk.out_of_order_queue)
    largest = max((x.truesize for q in queues for x in q), default=0)
    return sk.sk_rmem_alloc <= sk.sk_rcvbuf + largest


@law
def window_within_the_clamp(sk: Sock) -> bool:
    """The window promised from rcv_wup fits the header, or lies within the clamp.

    Without a scale autotuning may raise the clamp beyond what the header can say, and rcv_wnd with it.
    """
    scale = sk.rx_opt.rcv_wscale
    return 0 <= sk.rcv_wnd <= max(65535 << scale, sk.window_clamp + (1 << scale))


@law
def fin_shuts_receiving(sk: Sock) -> bool:
    """After the peer's FIN nothing more is received."""
    gone = sk.sk_state in (St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)
    return not gone or bool(sk.sk_shutdown & RCV_SHUTDOWN)


@law
def closing_shuts_sending(sk: Sock) -> bool:
    """In the states after our own close nothing more can be written."""
    ours = sk.sk_state in (St.FIN_WAIT1, St.FIN_WAIT2, St.LAST_ACK, St.CLOSING)
    return not ours or bool(sk.sk_shutdown & SEND_SHUTDOWN)


@law
def fin_wait2_has_nothing_out(sk: Sock) -> bool:
    """In FIN_WAIT2 everything is acknowledged."""
    return sk.sk_state != St.FIN_WAIT2 or (sk.packets_out == 0 and sk.snd_una == sk.write_seq)


@law
def accept_queue_is_counted(sk: Sock) -> bool:
    """sk_ack_backlog is the number of connections that wait for accept()."""
    return sk.sk_state != St.LISTEN or sk.sk_ack_backlog == len(sk.accept_queue)


@law
def young_requests_are_requests(sk: Sock) -> bool:
    """No more requests are young than there are."""
    return sk.sk_state != St.LISTEN or 0 <= sk.young <= sk.qlen


@net_law
def established_are_counted(net: Net) -> bool:
    """CurrEstab is the number of connections in ESTABLISHED and CLOSE_WAIT."""
    n = sum(sk.sk_state in (St.ESTABLISHED, St.CLOSE_WAIT) for sk in net.ehash.values())
    return net.mib["TcpCurrEstab"] == n


@net_law
def requests_and_time_waits_have_timers(net: Net) -> bool:
    """Every request and every TIME_WAIT socket ends by a timer."""
    for x in net.ehash.values():
        if isinstance(x, TimewaitSock) and not x.tw_timer.pending:
            return False
        if isinstance(x, RequestSock) and not x.tfo_listener and not x.rsk_timer.pending:
            return False
    return True


@net_law
def the_hash_has_no_closed_sockets(net: Net) -> bool:
    """A connection that is over cannot be found."""
    return all(not isinstance(x, Sock) or x.sk_state not in (St.CLOSE, St.LISTEN) for x in net.ehash.values())
