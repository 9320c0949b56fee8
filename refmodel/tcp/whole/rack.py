"""Which segments are lost: by time (RACK), by duplicates, by count of SACKs (net/ipv4/tcp_recovery.c, tcp_input.c).

The law: a segment is lost if one that was sent after it arrived and more time passed than the round trip of that one
and the window for reordering. A count of three SACKs above it opens that window at once, unless reordering was ever
seen. Without SACK, three duplicates lose the first segment and each partial acknowledgment the next.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import output
from refmodel.tcp.whole.const import (
    ICSK_TIME_REO_TIMEOUT,
    TCP_TIMEOUT_MIN_US,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
)
from refmodel.tcp.whole.net import inet_csk_reset_xmit_timer
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, RateSample, Sock
from refmodel.tcp.whole.tcp_h import tcp_is_sack, tcp_skb_sent_after
from refmodel.types import after, before

TCP_RACK_LOSS_DETECTION: Final = 1  # tcp_recovery
TCP_RACK_STATIC_REO_WND: Final = 2
TCP_RACK_NO_DUPTHRESH: Final = 4
TCP_RACK_RECOVERY_THRESH: Final = 16


@cited("net/ipv4/tcp_recovery.c:tcp_rack_reo_wnd", "RFC 8985 6.2")
def tcp_rack_reo_wnd(sk: Sock) -> int:
    """How long (us) a segment may be overtaken before it is lost: not at all while reordering was never seen and loss
    is known, else a quarter of the least round trip, more after each DSACK, at most the mean round trip.
    """
    if sk.reord_seen == 0:
        if sk.icsk_ca_state >= CA.Recovery:
            return 0
        if sk.sacked_out >= sk.reordering and not sk.net.p.tcp_recovery & TCP_RACK_NO_DUPTHRESH:
            return 0
    return min((sk.rtt_min.s[0][1] >> 2) * sk.rack.reo_wnd_steps, sk.srtt_us >> 3)


@cited("net/ipv4/tcp_recovery.c:tcp_rack_skb_timeout", "RFC 8985 6.2")
def tcp_rack_skb_timeout(sk: Sock, skb: Skb, reo_wnd: int) -> int:
    """How long (us) until the segment counts as lost, 0 or less if it does."""
    return sk.rack.rtt_us + reo_wnd - max(sk.tcp_mstamp - skb.skb_mstamp, 0)


@cited("net/ipv4/tcp_recovery.c:tcp_rack_detect_loss", "RFC 8985 6.2")
def tcp_rack_detect_loss(sk: Sock) -> int:
    """What left before the last that arrived, and is overdue, is lost; returns how long (us) to wait for the rest."""
    reo_timeout = 0
    reo_wnd = tcp_rack_reo_wnd(sk)
    rack = sk.rack
    skb = sk.tsorted_sent_queue.head
    while skb is not None:
        n = skb.ts_next
        if not (skb.sacked & TCPCB_LOST and not skb.sacked & TCPCB_SACKED_RETRANS):
            if not tcp_skb_sent_after(rack.mstamp, skb.skb_mstamp, rack.end_seq, skb.end_seq):
                break
            remaining = tcp_rack_skb_timeout(sk, skb, reo_wnd)
            if remaining <= 0:
                tcp_mark_skb_lost(sk, skb)
                sk.tsorted_sent_queue.unlink(skb)
            else:
                reo_timeout = max(reo_timeout, remaining)
        skb = n
    return reo_timeout


@cited("net/ipv4/tcp_recovery.c:tcp_rack_mark_lost", "RFC 8985 6.2")
def tcp_rack_mark_lost(sk: Sock) -> bool:
    """News of arrivals may show losses; for those that aren't certain yet a timer is armed, then this is true."""
    if not sk.rack.advanced:
        return False
    sk.rack.advanced = False
    timeout = tcp_rack_detect_loss(sk)
    if timeout:
        when = sk.net.usecs_to_jiffies(timeout + TCP_TIMEOUT_MIN_US)
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_REO_TIMEOUT, when, sk.icsk_rto)
    return timeout != 0


@cited("net/ipv4/tcp_recovery.c:tcp_rack_advance", "RFC 8985 6.2")
def tcp_rack_advance(sk: Sock, sacked: int, end_seq: int, xmit_time: int) -> None:
    """A segment arrived: the clock of losses moves to when it was sent, unless it may be an earlier copy of it."""
    rtt_us = max(sk.tcp_mstamp - xmit_time, 0)
    if rtt_us < sk.rtt_min.s[0][1] and sacked & TCPCB_RETRANS:
        return
    rack = sk.rack
    rack.advanced = True
    rack.rtt_us = rtt_us
    if tcp_skb_sent_after(xmit_time, rack.mstamp, end_seq, rack.end_seq):
        rack.mstamp = xmit_time
        rack.end_seq = end_seq


@cited("net/ipv4/tcp_recovery.c:tcp_rack_update_reo_wnd", "RFC 8985 6.2")
def tcp_rack_update_reo_wnd(sk: Sock, rs: RateSample) -> None:
    """A DSACK widens the window for reordering once in a round trip; after 16 recoveries it is narrow again."""
    if sk.net.p.tcp_recovery & TCP_RACK_STATIC_REO_WND or rs.prior_delivered == 0:
        return
    rack = sk.rack
    if rs.prior_delivered < rack.last_delivered:
        rack.dsack_seen = False
    if rack.dsack_seen:
        rack.reo_wnd_steps = min(0xFF, rack.reo_wnd_steps + 1)
        rack.dsack_seen = False
        rack.last_delivered = sk.delivered
        rack.reo_wnd_persist = TCP_RACK_RECOVERY_THRESH
    elif rack.reo_wnd_persist == 0:
        rack.reo_wnd_steps = 1


@cited("net/ipv4/tcp_recovery.c:tcp_newreno_mark_lost", "RFC 6582 3.2")
def tcp_newreno_mark_lost(sk: Sock, snd_una_advanced: bool) -> None:
    """Without SACK the first segment is lost after three duplicates, and after each partial acknowledgment."""
    state = sk.icsk_ca_state
    if (state < CA.Recovery and sk.sacked_out >= sk.reordering) or (state == CA.Recovery and snd_una_advanced):
        skb = sk.tcp_rtx_queue.head
        assert skb is not None
        if skb.sacked & TCPCB_LOST:
            return
        mss = skb.gso_size
        if skb.gso_segs > 1 and skb.len > mss:
            output.tcp_fragment(sk, output.TCP_FRAG_IN_RTX_QUEUE, skb, mss, mss)
        tcp_mark_skb_lost(sk, skb)


# ---------------------------------------------------------------- marks


@cited("net/ipv4/tcp_input.c:tcp_verify_retransmit_hint")
def tcp_verify_retransmit_hint(sk: Sock, skb: Skb) -> None:
    """Retransmission goes on from the first skb that is lost and wasn't repeated."""
    hint = sk.retransmit_skb_hint
    if (hint is None and sk.retrans_out >= sk.lost_out) or (hint is not None and before(skb.seq, hint.seq)):
        sk.retransmit_skb_hint = skb


@cited("net/ipv4/tcp_input.c:tcp_mark_skb_lost")
def tcp_mark_skb_lost(sk: Sock, skb: Skb) -> None:
    """A segment, or its retransmission, is held for lost."""
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        return
    tcp_verify_retransmit_hint(sk, skb)
    pcount = skb.gso_segs
    if sacked & TCPCB_LOST:
        if sacked & TCPCB_SACKED_RETRANS:
            skb.sacked &= ~TCPCB_SACKED_RETRANS
            sk.retrans_out -= pcount
            sk.net.count("TcpExtTCPLostRetransmit", pcount)
            sk.lost += pcount
    else:
        sk.lost_out += pcount
        skb.sacked |= TCPCB_LOST
        sk.lost += pcount


@cited("net/ipv4/tcp_input.c:tcp_is_rack")
def tcp_is_rack(sk: Sock) -> bool:
    """Losses are found by time; net.ipv4.tcp_recovery says so."""
    return sk.net.p.tcp_recovery & TCP_RACK_LOSS_DETECTION != 0 or sk.net.p.kernel >= 617


@cited("net/ipv4/tcp_input.c:tcp_mark_head_lost", "RFC 6675 4")
def tcp_mark_head_lost(sk: Sock, packets: int, mark_head: bool) -> None:
    """Whatever has more SACKed segments above it than reordering explains is lost: all before the `packets`-th SACKed
    one, or the head alone.
    """
    loss_high = sk.snd_nxt
    skb = sk.lost_skb_hint
    if skb is not None:
        if mark_head and after(skb.seq, sk.snd_una):
            return
        cnt = sk.lost_cnt_hint
    else:
        skb = sk.tcp_rtx_queue.head
        cnt = 0
    while skb is not None:
        sk.lost_skb_hint = skb
        sk.lost_cnt_hint = cnt
        if after(skb.end_seq, loss_high):
            break
        if skb.sacked & TCPCB_SACKED_ACKED:
            cnt += skb.gso_segs
        if cnt > packets:
            break
        if not skb.sacked & TCPCB_LOST:
            tcp_mark_skb_lost(sk, skb)
        if mark_head:
            break
        skb = skb.next


@cited("net/ipv4/tcp_input.c:tcp_update_scoreboard", "RFC 6675 4")
def tcp_update_scoreboard(sk: Sock, fast_rexmit: bool) -> None:
    """With RACK off, counts of SACKs tell what is lost."""
    if tcp_is_sack(sk):
        sacked_upto = sk.sacked_out - sk.reordering
        if sacked_upto >= 0:
            tcp_mark_head_lost(sk, sacked_upto, False)
        elif fast_rexmit:
            tcp_mark_head_lost(sk, 1, True)
