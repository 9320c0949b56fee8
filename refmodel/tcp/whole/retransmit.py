"""Cutting, joining and resending skbs, loss probes and window probes (net/ipv4/tcp_output.c).

The law: whatever is done to the skbs of a queue, their ranges stay adjacent and in order, and `packets_out`,
`sacked_out`, `lost_out` and `retrans_out` count the segments that they stand for.
"""

import copy
import errno
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole.const import (
    ACK,
    CWR,
    ECE,
    FIN,
    GSO_LEGACY_MAX_SIZE,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    PSH,
    SKB_TRUESIZE,
    SYN,
    TCP_NAGLE_OFF,
    TCP_TIMEOUT_MIN_US,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
)
from refmodel.tcp.whole.net import tcp_reset_xmit_timer, tcp_rto_delta_us, tcp_rto_max
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, Sock
from refmodel.tcp.whole.tcp_h import (
    sk_mem_charge,
    sk_mem_uncharge,
    tcp_clear_retrans_hints_partial,
    tcp_highest_sack_replace,
    tcp_in_cwnd_reduction,
    tcp_is_reno,
    tcp_is_sack,
    tcp_packets_in_flight,
    tcp_probe0_when,
    tcp_rto_min_us,
    tcp_rtx_queue_unlink_and_free,
    tcp_skb_can_collapse,
    tcp_skb_timestamp_ts,
    tcp_urg_mode,
    tcp_wnd_end,
)
from refmodel.types import H32, M32, add, after, before, between

TCP_FRAG_IN_WRITE_QUEUE: Final = 0
TCP_FRAG_IN_RTX_QUEUE: Final = 1
SKBTX_ANY_TSTAMP: Final = 1 << 0 | 1 << 1 | 1 << 6
SYN_ECN: Final = SYN | ECE | CWR


# ---------------------------------------------------------------- segments of an skb


def tcp_set_skb_tso_segs(skb: Skb, mss_now: int) -> int:
    """How many segments the skb makes; source net/ipv4/tcp_output.c:tcp_set_skb_tso_segs."""
    if skb.len <= mss_now:
        skb.gso_size = 0
        skb.gso_segs = 1
        return 1
    skb.gso_size = mss_now
    skb.gso_segs = -(-skb.len // mss_now)
    return skb.gso_segs


def tcp_init_tso_segs(skb: Skb, mss_now: int) -> int:
    """The same if it isn't known or the MSS changed; source net/ipv4/tcp_output.c:tcp_init_tso_segs."""
    tso_segs = skb.gso_segs
    if not tso_segs or (tso_segs > 1 and skb.gso_size != mss_now):
        return tcp_set_skb_tso_segs(skb, mss_now)
    return tso_segs


@cited("net/ipv4/tcp_output.c:tcp_adjust_pcount")
def tcp_adjust_pcount(sk: Sock, skb: Skb, decr: int) -> None:
    """An skb in the retransmit queue makes `decr` segments fewer: all counters follow."""
    sk.packets_out -= decr
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        sk.sacked_out -= decr
    if sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out -= decr
    if sacked & TCPCB_LOST:
        sk.lost_out -= decr
    if tcp_is_reno(sk) and decr > 0:
        sk.sacked_out -= min(sk.sacked_out, decr)
    if sk.lost_skb_hint is not None and before(skb.seq, sk.lost_skb_hint.seq) and sacked & TCPCB_SACKED_ACKED:
        sk.lost_cnt_hint -= decr


def tcp_has_tx_tstamp(skb: Skb) -> bool:
    """A time stamp is asked for; source net/ipv4/tcp_output.c:tcp_has_tx_tstamp."""
    return skb.txstamp_ack or bool(skb.tx_flags & SKBTX_ANY_TSTAMP)


@cited("net/ipv4/tcp_output.c:tcp_fragment_tstamp")
def tcp_fragment_tstamp(skb: Skb, skb2: Skb) -> None:
    """The wish for a time stamp goes with the byte that it is for."""
    if tcp_has_tx_tstamp(skb) and not before(skb.tskey, skb2.seq):
        tsflags = skb.tx_flags & SKBTX_ANY_TSTAMP
        skb.tx_flags &= ~tsflags
        skb2.tx_flags |= tsflags
        skb.tskey, skb2.tskey = skb2.tskey, skb.tskey
        skb2.txstamp_ack = skb.txstamp_ack
        skb.txstamp_ack = False


@cited("net/ipv4/tcp_output.c:tcp_skb_collapse_tstamp")
def tcp_skb_collapse_tstamp(skb: Skb, next_skb: Skb) -> None:
    """Two skbs become one: so do their wishes for time stamps."""
    if tcp_has_tx_tstamp(next_skb):
        skb.tx_flags |= next_skb.tx_flags & SKBTX_ANY_TSTAMP
        skb.tskey = next_skb.tskey
        skb.txstamp_ack = skb.txstamp_ack or next_skb.txstamp_ack


@cited("net/core/skbuff.c:skb_split")
def skb_split(skb: Skb, skb1: Skb, length: int) -> None:
    """Moves what lies behind `length` bytes into `skb1`, and the page fragments with it."""
    total = skb.len
    skb1.len = total - length
    skb.len = length
    if skb.frags > 1:
        kept = max(1, -(-skb.frags * length // total))
        skb1.frags = max(1, skb.frags - kept + 1)
        skb.frags = kept
    else:
        skb1.frags = skb.frags
    skb1.frag_at = skb.frag_at
    skb.frag_at = -1
    if skb.uarg is not None:
        errqueue.skb_zerocopy_clone(skb1, skb)
        skb1.pure_zcopy = skb.pure_zcopy


def _split(sk: Sock, skb: Skb, length: int, mss_now: int) -> Skb:
    """What tcp_fragment and tso_fragment have in common: the second part, of which no queue knows yet."""
    buff = sendmsg.tcp_stream_alloc_skb(sk, True)
    sk.sk_wmem_queued += buff.truesize
    sk_mem_charge(sk, buff.truesize)
    nlen = skb.len - length
    buff.truesize += nlen
    skb.truesize -= nlen
    buff.seq = add(skb.seq, length)
    buff.end_seq = skb.end_seq
    skb.end_seq = buff.seq
    flags = skb.tcp_flags
    skb.tcp_flags = flags & ~(FIN | PSH)
    buff.tcp_flags = flags
    buff.eor = skb.eor
    skb.eor = False
    skb_split(skb, buff, length)
    tcp_fragment_tstamp(skb, buff)
    return buff


@cited("net/ipv4/tcp_output.c:tcp_fragment", "RFC 9293 3.7.1")
def tcp_fragment(sk: Sock, tcp_queue: int, skb: Skb, length: int, mss_now: int) -> int:
    """Cuts an skb of either queue behind `length` bytes: 0, or a negative errno."""
    if length > skb.len:
        return -errno.EINVAL
    limit = sk.sk_sndbuf + 2 * SKB_TRUESIZE(GSO_LEGACY_MAX_SIZE)
    rtx = sk.tcp_rtx_queue
    if (
        sk.sk_wmem_queued >> 1 > limit
        and tcp_queue != TCP_FRAG_IN_WRITE_QUEUE
        and skb is not rtx.head
        and skb is not rtx.tail
    ):
        sk.net.count("TcpExtTCPWqueueTooBig")
        return -errno.ENOMEM
    sacked = skb.sacked
    old_factor = skb.gso_segs
    buff = _split(sk, skb, length, mss_now)
    buff.sacked = sacked
    buff.tstamp = skb.tstamp
    buff.skb_mstamp = skb.skb_mstamp
    tcp_set_skb_tso_segs(skb, mss_now)
    tcp_set_skb_tso_segs(buff, mss_now)
    buff.tx = copy.copy(skb.tx)
    if not before(sk.snd_nxt, buff.end_seq):
        diff = old_factor - skb.gso_segs - buff.gso_segs
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
    if tcp_queue == TCP_FRAG_IN_WRITE_QUEUE:
        sk.sk_write_queue.insert_after(skb, buff)
    else:
        rtx.insert_after(skb, buff)
        if skb.ts_queued:
            sk.tsorted_sent_queue.insert_after(skb, buff)
    return 0


@cited("net/ipv4/tcp_output.c:tso_fragment")
def tso_fragment(sk: Sock, skb: Skb, length: int, mss_now: int) -> int:
    """Cuts an skb that was never sent behind `length` bytes."""
    buff = _split(sk, skb, length, mss_now)
    tcp_set_skb_tso_segs(skb, mss_now)
    tcp_set_skb_tso_segs(buff, mss_now)
    sk.sk_write_queue.insert_after(skb, buff)
    return 0


def __pskb_trim_head(skb: Skb, length: int) -> int:
    """Drops `length` bytes at the head; source net/ipv4/tcp_output.c:__pskb_trim_head."""
    if skb.frags > 1 and skb.len:
        skb.frags = max(1, skb.frags - skb.frags * length // skb.len)
    skb.len -= length
    return length


@cited("net/ipv4/tcp_output.c:tcp_trim_head")
def tcp_trim_head(sk: Sock, skb: Skb, length: int) -> int:
    """Drops the acknowledged head of an skb."""
    delta_truesize = __pskb_trim_head(skb, length)
    skb.seq = add(skb.seq, length)
    skb.truesize -= delta_truesize
    sk.sk_wmem_queued -= delta_truesize
    if not (skb.uarg is not None and skb.pure_zcopy):
        sk_mem_uncharge(sk, delta_truesize)
    if skb.gso_segs > 1:
        tcp_set_skb_tso_segs(skb, skb.gso_size)
    return 0


# ---------------------------------------------------------------- loss probes


@cited("net/ipv4/tcp_output.c:tcp_schedule_loss_probe", "RFC 8985 7.2")
def tcp_schedule_loss_probe(sk: Sock, advancing_rto: bool) -> bool:
    """Arms the probe timer in two round trips, unless it can't help or the retransmission timeout is earlier."""
    net = sk.net
    if sk.fastopen_rsk is not None:
        return False
    early_retrans = net.p.tcp_early_retrans
    if (
        early_retrans not in (3, 4)
        or not sk.packets_out
        or not tcp_is_sack(sk)
        or sk.icsk_ca_state not in (CA.Open, CA.CWR)
    ):
        return False
    if sk.srtt_us:
        timeout_us = sk.srtt_us >> 2
        timeout_us += tcp_rto_min_us(sk) if sk.packets_out == 1 else TCP_TIMEOUT_MIN_US
        timeout = net.usecs_to_jiffies(timeout_us)
    else:
        timeout = net.hz
    rto_delta_us = net.jiffies_to_usecs(sk.icsk_rto) if advancing_rto else tcp_rto_delta_us(sk)
    rto_delta_us &= M32
    if rto_delta_us > 0:
        timeout = min(timeout, net.usecs_to_jiffies(rto_delta_us))
    tcp_reset_xmit_timer(sk, ICSK_TIME_LOSS_PROBE, timeout, tcp_rto_max(sk))
    return True


@cited("net/ipv4/tcp_output.c:skb_still_in_host_queue")
def skb_still_in_host_queue(sk: Sock, skb: Skb) -> bool:
    """What would be sent again has not left this host yet."""
    if skb.packet is None or skb.packet.sk is None:
        return False
    sk.sk_tsq_flags.add("TSQ_THROTTLED")
    sk.net.count("TcpExtTCPSpuriousRtxHostQueues")
    return True


@cited("net/ipv4/tcp_output.c:tcp_send_loss_probe", "RFC 8985 7.3")
def tcp_send_loss_probe(sk: Sock) -> None:
    """Sends new data if the window has room, else the last segment again, and arms the retransmission timeout."""
    rearm = _probe(sk)
    sk.net.cause = ""
    if rearm:
        ack.tcp_rearm_rto(sk)


def _probe(sk: Sock) -> bool:
    """The probe itself; False: there is nothing to send and no timeout to arm."""
    net = sk.net
    mss = output.tcp_current_mss(sk)
    if sk.tlp_high_seq:
        return True
    sk.tlp_retrans = False
    net.cause = "tcp_send_loss_probe"
    skb = sk.sk_write_queue.head
    if skb is not None and output.tcp_snd_wnd_test(sk, skb, mss):
        pcount = sk.packets_out
        output.tcp_write_xmit(sk, mss, TCP_NAGLE_OFF, 2)
        if sk.packets_out <= pcount:
            return True
    else:
        skb = sk.tcp_rtx_queue.tail
        if skb is None:
            sk.icsk_pending = 0
            return False
        if skb_still_in_host_queue(sk, skb):
            return True
        pcount = skb.gso_segs
        if pcount > 1 and skb.len > (pcount - 1) * mss:
            if tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, (pcount - 1) * mss, mss):
                return True
            assert skb.next is not None
            skb = skb.next
        if __tcp_retransmit_skb(sk, skb, 1):
            return True
        sk.tlp_retrans = True
    sk.tlp_high_seq = sk.snd_nxt
    net.count("TcpExtTCPLossProbes")
    net.note("tcp_send_loss_probe", "again" if sk.tlp_retrans else "new data")
    sk.icsk_pending = 0
    return True


# ---------------------------------------------------------------- retransmission


@cited("net/ipv4/tcp_output.c:tcp_collapse_retrans")
def tcp_collapse_retrans(sk: Sock, skb: Skb) -> bool:
    """Joins an skb with the next one."""
    next_skb = skb.next
    assert next_skb is not None
    if next_skb.len and not shift.tcp_skb_shift(skb, next_skb, 1, next_skb.len):
        return False
    tcp_highest_sack_replace(sk, next_skb, skb)
    skb.end_seq = next_skb.end_seq
    skb.tcp_flags |= next_skb.tcp_flags
    skb.sacked |= next_skb.sacked & TCPCB_EVER_RETRANS
    skb.eor = next_skb.eor
    tcp_clear_retrans_hints_partial(sk)
    if next_skb is sk.retransmit_skb_hint:
        sk.retransmit_skb_hint = skb
    tcp_adjust_pcount(sk, next_skb, next_skb.gso_segs)
    tcp_skb_collapse_tstamp(skb, next_skb)
    tcp_rtx_queue_unlink_and_free(next_skb, sk)
    return True


def tcp_can_collapse(sk: Sock, skb: Skb) -> bool:
    """The skb is one segment of which nobody holds a clone, and isn't SACKed.

    Source: net/ipv4/tcp_output.c:tcp_can_collapse. A packet socket holds a clone until it is read.
    """
    if skb.gso_segs > 1 or skb.sacked & TCPCB_SACKED_ACKED:
        return False
    packet = skb.packet
    return packet is None or (packet.sk is None and packet not in sk.net.out)


@cited("net/ipv4/tcp_output.c:tcp_retrans_try_collapse", "RFC 9293 3.7.4")
def tcp_retrans_try_collapse(sk: Sock, to: Skb, space: int) -> None:
    """Joins small skbs into the one that is sent again, up to `space` bytes."""
    if not sk.net.p.tcp_retrans_collapse or to.tcp_flags & SYN:
        return
    skb: Skb | None = to
    first = True
    to.packet = None
    while skb is not None:
        following = skb.next
        if not tcp_can_collapse(sk, skb) or not tcp_skb_can_collapse(to, skb):
            break
        space -= skb.len
        if first:
            first = False
        else:
            if space < 0 or after(skb.end_seq, tcp_wnd_end(sk)) or not tcp_collapse_retrans(sk, to):
                break
        skb = following


@cited("net/ipv4/tcp_output.c:__tcp_retransmit_skb", "RFC 9293 3.8.1", "RFC 7323 2.4")
def __tcp_retransmit_skb(sk: Sock, skb: Skb, segs: int) -> int:
    """Sends an skb again, at most `segs` segments of it and what the window takes: 0, or an error."""
    net = sk.net
    mtup = sk.icsk_mtup
    if mtup.probe_size:
        mtup.probe_size = 0
    if skb_still_in_host_queue(sk, skb):
        return -errno.EBUSY
    while before(skb.seq, sk.snd_una):
        if skb.tcp_flags & SYN:
            skb.tcp_flags &= ~SYN
            skb.seq = add(skb.seq, 1)
            continue
        if before(skb.end_seq, sk.snd_una):
            return -errno.EINVAL
        tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & M32)
        break
    if output.rebuild_header(sk):
        return -errno.EHOSTUNREACH
    cur_mss = output.tcp_current_mss(sk)
    avail_wnd = (tcp_wnd_end(sk) - skb.seq) & M32
    if avail_wnd == 0 or avail_wnd >= H32:
        if skb.seq != sk.snd_una:
            return -errno.EAGAIN
        avail_wnd = cur_mss
    length = cur_mss * (1 if tcp_urg_mode(sk) and net.p.kernel < 618 else segs)
    if length > avail_wnd:
        length = avail_wnd - avail_wnd % cur_mss or avail_wnd
    if skb.len > length:
        if tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, length, cur_mss):
            return -errno.ENOMEM
    else:
        diff = skb.gso_segs
        diff -= tcp_set_skb_tso_segs(skb, cur_mss)
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
        avail_wnd = min(avail_wnd, cur_mss)
        if skb.len < avail_wnd:
            tcp_retrans_try_collapse(sk, skb, avail_wnd)
    if skb.tcp_flags & SYN_ECN == SYN_ECN and (
        sk.icsk_retransmits > 1 or not accecn.tcp_ecn_mode_pending(sk) or not accecn.enabled(net)
    ):
        transmit.tcp_ecn_clear_syn(sk, skb)
    segs = skb.gso_segs
    net.count("TcpRetransSegs", segs)
    if skb.tcp_flags & SYN:
        net.count("TcpExtTCPSynRetrans")
    sk.total_retrans += segs
    sk.bytes_retrans += skb.len
    net.cause = net.cause or "tcp_retransmit_skb"
    err = transmit.tcp_transmit_skb(sk, skb, True)
    if err and err != -errno.EBUSY:
        net.count("TcpExtTCPRetransFail", segs)
    skb.sacked |= TCPCB_EVER_RETRANS
    return err


@cited("net/ipv4/tcp_output.c:tcp_retransmit_skb", "RFC 9293 3.8.1")
def tcp_retransmit_skb(sk: Sock, skb: Skb, segs: int) -> int:
    """The same, and keeps account of it for undoing."""
    err = __tcp_retransmit_skb(sk, skb, segs)
    sk.net.cause = ""
    if err == 0:
        skb.sacked |= TCPCB_RETRANS
        sk.retrans_out += skb.gso_segs
    if not sk.retrans_stamp:
        sk.retrans_stamp = tcp_skb_timestamp_ts(sk.tcp_usec_ts, skb)
    if sk.undo_retrans < 0:
        sk.undo_retrans = 0
    sk.undo_retrans += skb.gso_segs
    return err


@cited("net/ipv4/tcp_output.c:tcp_xmit_retransmit_queue", "RFC 6675 5", "RFC 5681 3.2")
def tcp_xmit_retransmit_queue(sk: Sock) -> None:
    """Sends again what is marked lost, as far as the congestion window goes."""
    if not sk.packets_out:
        return
    net = sk.net
    rearm_timer = False
    hole: Skb | None = None
    rtx_head = sk.tcp_rtx_queue.head
    skb = sk.retransmit_skb_hint if sk.retransmit_skb_hint is not None else rtx_head
    max_segs = output.tcp_tso_segs(sk, output.tcp_current_mss(sk))
    while skb is not None:
        if output.tcp_pacing_check(sk):
            break
        if hole is None:
            sk.retransmit_skb_hint = skb
        segs = sk.snd_cwnd - tcp_packets_in_flight(sk)
        if segs <= 0:
            break
        sacked = skb.sacked
        segs = min(segs, max_segs)
        if sk.retrans_out >= sk.lost_out:
            break
        if not sacked & TCPCB_LOST:
            if hole is None and not sacked & (TCPCB_SACKED_RETRANS | TCPCB_SACKED_ACKED):
                hole = skb
            skb = skb.next
            continue
        mib = "TcpExtTCPFastRetrans" if sk.icsk_ca_state != CA.Loss else "TcpExtTCPSlowStartRetrans"
        if sacked & (TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS):
            skb = skb.next
            continue
        if output.tcp_small_queue_check(sk, skb, 1):
            break
        net.cause = "tcp_xmit_retransmit_queue"
        if tcp_retransmit_skb(sk, skb, segs):
            break
        net.count(mib, skb.gso_segs)
        if tcp_in_cwnd_reduction(sk):
            sk.prr_out += skb.gso_segs
        if skb is rtx_head and sk.icsk_pending != ICSK_TIME_REO_TIMEOUT:
            rearm_timer = True
        skb = skb.next
    if rearm_timer:
        tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto, tcp_rto_max(sk))


# ---------------------------------------------------------------- window probes


@cited("net/ipv4/tcp_output.c:tcp_xmit_probe_skb", "RFC 9293 3.8.4", "RFC 9293 3.8.6.1")
def tcp_xmit_probe_skb(sk: Sock, urgent: int, mib: str) -> int:
    """Sends an old sequence number, so that the peer answers: one below the window, or its edge with an urgent one."""
    skb = Skb()
    transmit.tcp_init_nondata_skb(skb, (sk.snd_una - (0 if urgent else 1)) & M32, ACK)
    sk.net.count(mib)
    sk.net.cause = sk.net.cause or "tcp_xmit_probe_skb"
    return transmit.tcp_transmit_skb(sk, skb, False)


@cited("net/ipv4/tcp_output.c:tcp_send_window_probe")
def tcp_send_window_probe(sk: Sock) -> None:
    """Asks for the window after a repair."""
    if sk.sk_state == St.ESTABLISHED:
        sk.snd_wl1 = (sk.rcv_nxt - 1) & M32
        transmit.tcp_mstamp_refresh(sk)
        tcp_xmit_probe_skb(sk, 0, "TcpExtTCPWinProbe")


@cited("net/ipv4/tcp_output.c:tcp_write_wakeup", "RFC 9293 3.8.6.1", "RFC 9293 3.8.4")
def tcp_write_wakeup(sk: Sock, mib: str) -> int:
    """Probes a window, or whether the peer is alive: with data if the window takes any, else with an old number."""
    if sk.sk_state == St.CLOSE:
        return -1
    skb = sk.sk_write_queue.head
    end = tcp_wnd_end(sk)
    if skb is not None and before(skb.seq, end):
        mss = output.tcp_current_mss(sk)
        seg_size = (end - skb.seq) & M32
        if before(sk.pushed_seq, skb.end_seq):
            sk.pushed_seq = skb.end_seq
        if seg_size < (skb.end_seq - skb.seq) & M32 or skb.len > mss:
            seg_size = min(seg_size, mss)
            skb.tcp_flags |= PSH
            if tcp_fragment(sk, TCP_FRAG_IN_WRITE_QUEUE, skb, seg_size, mss):
                return -1
        elif not skb.gso_segs:
            tcp_set_skb_tso_segs(skb, mss)
        skb.tcp_flags |= PSH
        sk.net.cause = sk.net.cause or "tcp_write_wakeup"
        err = transmit.tcp_transmit_skb(sk, skb, True)
        if not err:
            output.tcp_event_new_data_sent(sk, skb)
        return err
    if between(sk.snd_up, add(sk.snd_una, 1), add(sk.snd_una, 0xFFFF)):
        tcp_xmit_probe_skb(sk, 1, mib)
    return tcp_xmit_probe_skb(sk, 0, mib)


@cited("net/ipv4/tcp_output.c:tcp_send_probe0", "RFC 9293 3.8.6.1")
def tcp_send_probe0(sk: Sock) -> None:
    """A window probe is due: sends it, and arms the next one at twice the interval."""
    net = sk.net
    net.cause = "tcp_send_probe0"
    err = tcp_write_wakeup(sk, "TcpExtTCPWinProbe")
    net.cause = ""
    if sk.packets_out or sk.sk_write_queue.head is None:
        sk.icsk_probes_out = 0
        sk.icsk_backoff = 0
        sk.icsk_probes_tstamp = 0
        return
    sk.icsk_probes_out = (sk.icsk_probes_out + 1) & 0xFF
    if err <= 0:
        if sk.icsk_backoff < net.p.tcp_retries2:
            sk.icsk_backoff += 1
        timeout = tcp_probe0_when(sk, tcp_rto_max(sk))
    else:
        timeout = net.hz // 2
    timeout = timer.tcp_clamp_probe0_to_user_timeout(sk, timeout)
    tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, timeout, tcp_rto_max(sk))


from refmodel.tcp.whole import (  # noqa: E402
    accecn,
    ack,
    errqueue,
    output,
    sendmsg,
    shift,
    timer,
    transmit,
)
