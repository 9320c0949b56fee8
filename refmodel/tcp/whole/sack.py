"""The SACK scoreboard: which skbs the peer has, reordering, and what duplicates tell without the option (tcp_input.c).

The law: an skb is tagged S once (SACKed), and counts in `sacked_out` until it is acknowledged; a tag never splits a
segment. Blocks are walked in the order of their sequence numbers, and what the last acknowledgment's blocks covered is
skipped. Neighbours that are both SACKed become one skb.
"""

import errno
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import output, rack, rate, shift
from refmodel.tcp.whole.acktag import (
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ORIG_SACK_ACKED,
    SacktagState,
)
from refmodel.tcp.whole.const import TCP_ECN_OK, TCPCB_LOST, TCPCB_RETRANS, TCPCB_SACKED_ACKED, TCPCB_SACKED_RETRANS
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, SackBlock, Sock
from refmodel.tcp.whole.tcp_h import tcp_advance_highest_sack, tcp_highest_sack_reset, tcp_highest_sack_seq
from refmodel.types import M32, after, before

TCP_NUM_SACKS: Final = 4
TCP_DSACK_SEEN: Final = 4  # rx_opt.sack_ok
NO_BLOCK: Final = SackBlock()  # shared: blocks of the cache are replaced, never written


# ---------------------------------------------------------------- DSACK


@cited("net/ipv4/tcp_input.c:tcp_dsack_seen", "RFC 2883 4")
def tcp_dsack_seen(sk: Sock, start_seq: int, end_seq: int, state: SacktagState) -> int:
    """A DSACK counts as so many segments that were needless; 0: it can't be due to what was repeated here."""
    dup_segs = 1
    if not before(start_seq, end_seq):
        return 0
    seq_len = (end_seq - start_seq) & M32
    if seq_len > sk.max_window:
        return 0
    if seq_len > sk.mss_cache:
        dup_segs = -(-seq_len // sk.mss_cache)
    elif sk.tlp_high_seq and sk.tlp_high_seq == end_seq:
        state.flag |= FLAG_DSACK_TLP
    sk.dsack_dups += dup_segs
    if sk.dsack_dups > sk.total_retrans:
        return 0
    sk.rx_opt.sack_ok |= TCP_DSACK_SEEN
    if sk.reord_seen and not state.flag & FLAG_DSACK_TLP:
        sk.rack.dsack_seen = True
    state.flag |= FLAG_DSACKING_ACK
    state.sack_delivered += dup_segs
    return dup_segs


@cited("net/ipv4/tcp_input.c:tcp_check_dsack", "RFC 2883 4")
def tcp_check_dsack(sk: Sock, ack_skb: Skb, sp: list[SackBlock], prior_snd_una: int, state: SacktagState) -> bool:
    """The first block is a DSACK if it lies below the acknowledgment or within the second block."""
    start_seq_0, end_seq_0 = sp[0].start_seq, sp[0].end_seq
    if before(start_seq_0, ack_skb.ack_seq):
        sk.net.count("TcpExtTCPDSACKRecv")
    elif len(sp) > 1:
        if after(end_seq_0, sp[1].end_seq) or before(start_seq_0, sp[1].start_seq):
            return False
        sk.net.count("TcpExtTCPDSACKOfoRecv")
    else:
        return False
    dup_segs = tcp_dsack_seen(sk, start_seq_0, end_seq_0, state)
    if dup_segs == 0:
        sk.net.count("TcpExtTCPDSACKIgnoredDubious")
        return False
    sk.net.count("TcpExtTCPDSACKRecvSegs", dup_segs)
    if (
        sk.undo_marker
        and sk.undo_retrans > 0
        and not after(end_seq_0, prior_snd_una)
        and after(end_seq_0, sk.undo_marker)
    ):
        sk.undo_retrans = max(0, sk.undo_retrans - dup_segs)
    return True


@cited("net/ipv4/tcp_input.c:tcp_is_sackblock_valid", "RFC 2018 4")
def tcp_is_sackblock_valid(sk: Sock, is_dsack: bool, start_seq: int, end_seq: int) -> bool:
    """A block lies above snd_una and within what was sent; a DSACK may lie below, near what may be undone."""
    if after(end_seq, sk.snd_nxt) or not before(start_seq, end_seq):
        return False
    if not before(start_seq, sk.snd_nxt):
        return False
    if after(start_seq, sk.snd_una):
        return True
    if not is_dsack or not sk.undo_marker:
        return False
    if after(end_seq, sk.snd_una):
        return False
    if not before(start_seq, sk.undo_marker):
        return True
    if not after(end_seq, sk.undo_marker):
        return False
    return not before(start_seq, (end_seq - sk.max_window) & M32)


# ---------------------------------------------------------------- reordering


@cited("net/ipv4/tcp_input.c:tcp_check_sack_reordering", "RFC 4653 3")
def tcp_check_sack_reordering(sk: Sock, low_seq: int, ts: bool) -> None:
    """Data above arrived before `low_seq`, which was never repeated: the path reorders, this far in segments."""
    mss = sk.mss_cache
    fack = tcp_highest_sack_seq(sk)
    if not before(low_seq, fack):
        return
    metric = (fack - low_seq) & M32
    if metric > sk.reordering * mss and mss:
        sk.reordering = min((metric + mss - 1) // mss, sk.net.p.tcp_max_reordering)
    sk.reord_seen += 1
    sk.net.count("TcpExtTCPTSReorder" if ts else "TcpExtTCPSACKReorder")


# ---------------------------------------------------------------- tags


@cited("net/ipv4/tcp_input.c:tcp_match_skb_to_sack")
def tcp_match_skb_to_sack(sk: Sock, skb: Skb, start_seq: int, end_seq: int) -> int:
    """Whether the block covers the skb (1, 0); one that it covers in part is cut at a segment's edge. Else -errno."""
    in_sack = not after(start_seq, skb.seq) and not before(end_seq, skb.end_seq)
    if skb.gso_segs > 1 and not in_sack and after(skb.end_seq, start_seq):
        mss = skb.gso_size
        in_sack = not after(start_seq, skb.seq)
        if not in_sack:
            pkt_len = max((start_seq - skb.seq) & M32, mss)
        else:
            pkt_len = (end_seq - skb.seq) & M32
            if pkt_len < mss:
                return -errno.EINVAL
        if pkt_len > mss:
            new_len = pkt_len // mss * mss
            if not in_sack and new_len < pkt_len:
                new_len += mss
            pkt_len = new_len
        if pkt_len >= skb.len and not in_sack:
            return 0
        err: int = output.tcp_fragment(sk, output.TCP_FRAG_IN_RTX_QUEUE, skb, pkt_len, mss)
        if err < 0:
            return err
    return int(in_sack)


@cited("net/ipv4/tcp_input.c:tcp_sacktag_one", "RFC 6675 4")
def tcp_sacktag_one(
    sk: Sock,
    state: SacktagState,
    sacked: int,
    start_seq: int,
    end_seq: int,
    dup_sack: bool,
    pcount: int,
    xmit_time: int,
) -> int:
    """The range is SACKed: counters, hints, RACK's clock and reordering learn of it. Returns its new tags."""
    if dup_sack and sacked & TCPCB_RETRANS:
        if sk.undo_marker and sk.undo_retrans > 0 and after(end_seq, sk.undo_marker):
            sk.undo_retrans = max(0, sk.undo_retrans - pcount)
        if sacked & TCPCB_SACKED_ACKED and before(start_seq, state.reord):
            state.reord = start_seq
    if not after(end_seq, sk.snd_una):
        return sacked
    if not sacked & TCPCB_SACKED_ACKED:
        rack.tcp_rack_advance(sk, sacked, end_seq, xmit_time)
        if sacked & TCPCB_SACKED_RETRANS:
            if sacked & TCPCB_LOST:
                sacked &= ~(TCPCB_LOST | TCPCB_SACKED_RETRANS)
                sk.lost_out -= pcount
                sk.retrans_out -= pcount
        else:
            if not sacked & TCPCB_RETRANS:
                if before(start_seq, tcp_highest_sack_seq(sk)) and before(start_seq, state.reord):
                    state.reord = start_seq
                if not after(end_seq, sk.high_seq):
                    state.flag |= FLAG_ORIG_SACK_ACKED
                if state.first_sackt == 0:
                    state.first_sackt = xmit_time
                state.last_sackt = xmit_time
            if sacked & TCPCB_LOST:
                sacked &= ~TCPCB_LOST
                sk.lost_out -= pcount
        sacked |= TCPCB_SACKED_ACKED
        state.flag |= FLAG_DATA_SACKED
        sk.sacked_out += pcount
        state.sack_delivered += pcount
        state.delivered_bytes += (end_seq - start_seq) & M32
        if sk.lost_skb_hint is not None and before(start_seq, sk.lost_skb_hint.seq):
            sk.lost_cnt_hint += pcount
    if dup_sack and sacked & TCPCB_SACKED_RETRANS:
        sacked &= ~TCPCB_SACKED_RETRANS
        sk.retrans_out -= pcount
    return sacked


# ---------------------------------------------------------------- the walk


@cited("net/ipv4/tcp_input.c:tcp_sacktag_walk")
def tcp_sacktag_walk(
    skb: Skb | None,
    sk: Sock,
    next_dup: SackBlock | None,
    state: SacktagState,
    start_seq: int,
    end_seq: int,
    dup_sack_in: bool,
) -> Skb | None:
    """Tags all skbs from `skb` on that the block covers; returns the first that it doesn't."""
    while skb is not None:
        in_sack = 0
        dup_sack = dup_sack_in
        if not before(skb.seq, end_seq):
            break
        if next_dup is not None and before(skb.seq, next_dup.end_seq):
            in_sack = tcp_match_skb_to_sack(sk, skb, next_dup.start_seq, next_dup.end_seq)
            if in_sack > 0:
                dup_sack = True
        if in_sack <= 0:
            tmp = shift.tcp_shift_skb_data(sk, skb, state, start_seq, end_seq, dup_sack)
            if tmp is not None:
                if tmp is not skb:
                    skb = tmp.next
                    continue
                in_sack = 0
            else:
                in_sack = tcp_match_skb_to_sack(sk, skb, start_seq, end_seq)
        if in_sack < 0:
            break
        if in_sack:
            skb.sacked = tcp_sacktag_one(
                sk, state, skb.sacked, skb.seq, skb.end_seq, dup_sack, skb.gso_segs, skb.skb_mstamp
            )
            rate.tcp_rate_skb_delivered(sk, skb, state.rate)
            if skb.sacked & TCPCB_SACKED_ACKED:
                sk.tsorted_sent_queue.unlink(skb)
            if not before(skb.seq, tcp_highest_sack_seq(sk)):
                tcp_advance_highest_sack(sk, skb)
        skb = skb.next
    return skb


@cited("net/ipv4/tcp_input.c:tcp_sacktag_bsearch")
def tcp_sacktag_bsearch(sk: Sock, seq: int) -> Skb | None:
    """The skb that holds sequence number `seq`."""
    skb = sk.tcp_rtx_queue.at_or_before(seq)
    return skb if skb is not None and before(seq, skb.end_seq) else None


@cited("net/ipv4/tcp_input.c:tcp_sacktag_skip")
def tcp_sacktag_skip(skb: Skb | None, sk: Sock, skip_to_seq: int) -> Skb | None:
    """Goes on where the block begins."""
    if skb is not None and after(skb.seq, skip_to_seq):
        return skb
    return tcp_sacktag_bsearch(sk, skip_to_seq)


@cited("net/ipv4/tcp_input.c:tcp_maybe_skipping_dsack")
def tcp_maybe_skipping_dsack(
    skb: Skb | None, sk: Sock, next_dup: SackBlock | None, state: SacktagState, skip_to_seq: int
) -> Skb | None:
    """A DSACK within what is skipped is walked nevertheless."""
    if next_dup is None:
        return skb
    if before(next_dup.start_seq, skip_to_seq):
        skb = tcp_sacktag_skip(skb, sk, next_dup.start_seq)
        skb = tcp_sacktag_walk(skb, sk, None, state, next_dup.start_seq, next_dup.end_seq, True)
    return skb


def usable_blocks(
    sk: Sock, ack_skb: Skb, blocks: list[SackBlock], found_dup_sack: bool, prior_snd_una: int
) -> tuple[list[SackBlock], int]:
    """The blocks that say something, by their sequence numbers, and where the first one is (-1: left out)."""
    sp: list[SackBlock] = []
    first_sack_index = 0
    for i, block in enumerate(blocks):
        dup_sack = i == 0 and found_dup_sack
        if not tcp_is_sackblock_valid(sk, dup_sack, block.start_seq, block.end_seq):
            if dup_sack:
                name = "TcpExtTCPDSACKIgnoredOld" if sk.undo_marker else "TcpExtTCPDSACKIgnoredNoUndo"
            else:
                if ack_skb.ack_seq != sk.snd_una and not after(block.end_seq, sk.snd_una):
                    continue
                name = "TcpExtTCPSACKDiscard"
            sk.net.count(name)
            if i == 0:
                first_sack_index = -1
            continue
        if not after(block.end_seq, prior_snd_una):
            if i == 0:
                first_sack_index = -1
            continue
        sp.append(block)
    for i in range(len(sp) - 1, 0, -1):
        for j in range(i):
            if after(sp[j].start_seq, sp[j + 1].start_seq):
                sp[j], sp[j + 1] = sp[j + 1], sp[j]
                if j == first_sack_index:
                    first_sack_index = j + 1
    return sp, first_sack_index


@cited("net/ipv4/tcp_input.c:tcp_sacktag_write_queue", "RFC 2018 5", "RFC 2883 4")
def tcp_sacktag_write_queue(sk: Sock, ack_skb: Skb, prior_snd_una: int, state: SacktagState) -> int:
    """An acknowledgment's SACK blocks tag the retransmit queue; returns flags."""
    assert ack_skb.opts is not None
    blocks = [SackBlock(start, end) for start, end in ack_skb.opts.sacks[:TCP_NUM_SACKS]]
    state.flag = 0
    state.reord = sk.snd_nxt
    if sk.sacked_out == 0:
        tcp_highest_sack_reset(sk)
    found_dup_sack = tcp_check_dsack(sk, ack_skb, blocks, prior_snd_una, state)
    if before(ack_skb.ack_seq, (prior_snd_una - sk.max_window) & M32):
        return 0
    if sk.packets_out == 0:
        return state.flag
    sp, first_sack_index = usable_blocks(sk, ack_skb, blocks, found_dup_sack, prior_snd_una)
    state.mss_now = output.tcp_current_mss(sk)
    tag_blocks(sk, sp, first_sack_index, found_dup_sack, state)
    sk.recv_sack_cache = [NO_BLOCK] * (TCP_NUM_SACKS - len(sp)) + sp
    if sk.icsk_ca_state != CA.Loss or sk.undo_marker:
        tcp_check_sack_reordering(sk, state.reord, False)
    return state.flag


def tag_blocks(sk: Sock, sp: list[SackBlock], first_sack_index: int, found_dup_sack: bool, state: SacktagState) -> None:
    """Tags what the blocks cover and the last acknowledgment's didn't; source as tcp_sacktag_write_queue."""
    cached = sk.recv_sack_cache
    skb: Skb | None = None
    i = 0
    c = TCP_NUM_SACKS
    if sk.sacked_out:
        c = 0
        while c < TCP_NUM_SACKS and not cached[c].start_seq and not cached[c].end_seq:
            c += 1
    while i < len(sp):
        start_seq = sp[i].start_seq
        end_seq = sp[i].end_seq
        dup_sack = found_dup_sack and i == first_sack_index
        next_dup = sp[i + 1] if found_dup_sack and i + 1 == first_sack_index else None
        while c < TCP_NUM_SACKS and not before(start_seq, cached[c].end_seq):
            c += 1
        if c < TCP_NUM_SACKS and not dup_sack and after(end_seq, cached[c].start_seq):
            cache = cached[c]
            if before(start_seq, cache.start_seq):
                skb = tcp_sacktag_skip(skb, sk, start_seq)
                skb = tcp_sacktag_walk(skb, sk, next_dup, state, start_seq, cache.start_seq, dup_sack)
            if not after(end_seq, cache.end_seq):
                i += 1
                continue
            skb = tcp_maybe_skipping_dsack(skb, sk, next_dup, state, cache.end_seq)
            c += 1
            if tcp_highest_sack_seq(sk) == cache.end_seq:
                skb = sk.highest_sack
                if skb is None:
                    break
            else:
                skb = tcp_sacktag_skip(skb, sk, cache.end_seq)
                continue
        else:
            if not before(start_seq, tcp_highest_sack_seq(sk)):
                skb = sk.highest_sack
                if skb is None:
                    break
            skb = tcp_sacktag_skip(skb, sk, start_seq)
        skb = tcp_sacktag_walk(skb, sk, next_dup, state, start_seq, end_seq, dup_sack)
        i += 1


# ---------------------------------------------------------------- without SACK


@cited("net/ipv4/tcp_input.c:tcp_limit_reno_sacked")
def tcp_limit_reno_sacked(sk: Sock) -> bool:
    """Duplicates account for all that is out but the holes at most; true if they were more."""
    holes = min(max(sk.lost_out, 1), sk.packets_out)
    if sk.sacked_out + holes > sk.packets_out:
        sk.sacked_out = sk.packets_out - holes
        return True
    return False


@cited("net/ipv4/tcp_input.c:tcp_check_reno_reordering")
def tcp_check_reno_reordering(sk: Sock, addend: int) -> None:
    """More duplicates than segments that can cause them: the path reorders."""
    if not tcp_limit_reno_sacked(sk):
        return
    sk.reordering = min(sk.packets_out + addend, sk.net.p.tcp_max_reordering)
    sk.reord_seen += 1
    sk.net.count("TcpExtTCPRenoReorder")


def tcp_count_delivered(sk: Sock, delivered: int, ece_ack: bool) -> None:
    """Counts segments that arrived, and those that an echo marks; source net/ipv4/tcp_input.c:tcp_count_delivered."""
    sk.delivered += delivered
    if ece_ack and sk.ecn_flags & TCP_ECN_OK:
        sk.delivered_ce += delivered


@cited("net/ipv4/tcp_input.c:tcp_add_reno_sack", "RFC 5681 3.2")
def tcp_add_reno_sack(sk: Sock, num_dupack: int, ece_ack: bool) -> None:
    """Each duplicate acknowledgment is a segment that arrived out of order."""
    if num_dupack:
        prior_sacked = sk.sacked_out
        sk.sacked_out += num_dupack
        tcp_check_reno_reordering(sk, 0)
        delivered = sk.sacked_out - prior_sacked
        if delivered > 0:
            tcp_count_delivered(sk, delivered, ece_ack)


@cited("net/ipv4/tcp_input.c:tcp_remove_reno_sacks")
def tcp_remove_reno_sacks(sk: Sock, acked: int, ece_ack: bool) -> None:
    """Of what is acknowledged one segment was missing, the rest had caused duplicates."""
    if acked > 0:
        tcp_count_delivered(sk, max(acked - sk.sacked_out, 1), ece_ack)
        if acked - 1 >= sk.sacked_out:
            sk.sacked_out = 0
        else:
            sk.sacked_out -= acked - 1
    tcp_check_reno_reordering(sk, acked)


def tcp_reset_reno_sack(sk: Sock) -> None:
    """Forgets all duplicates; source net/ipv4/tcp_input.c:tcp_reset_reno_sack."""
    sk.sacked_out = 0
