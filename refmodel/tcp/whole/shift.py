"""SACKed neighbours in the retransmit queue become one skb (tcp_shift_skb_data and its like in net/ipv4/tcp_input.c).

The law: only whole segments move, only to an skb before that is SACKed and nothing else, and only between skbs of one
segment size whose data lie in page fragments. Counters and hints are as if the data had been tagged where they were.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import output, rate, sack
from refmodel.tcp.whole.acktag import SacktagState
from refmodel.tcp.whole.const import (
    FIN,
    MAX_SKB_FRAGS,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPCB_TAGBITS,
)
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.tcp_h import tcp_advance_highest_sack, tcp_rtx_queue_unlink_and_free, tcp_skb_can_collapse
from refmodel.types import M32, add, after, before

TCP_MIN_GSO_SIZE: Final = 8
SKB_SEGS_MAX: Final = 65535


def tcp_skb_seglen(skb: Skb) -> int:
    """The size of the skb's segments; source net/ipv4/tcp_input.c:tcp_skb_seglen."""
    return skb.len if skb.gso_segs == 1 else skb.gso_size


def skb_can_shift(skb: Skb) -> bool:
    """All its data are page fragments, so that they can move; source net/ipv4/tcp_input.c:skb_can_shift."""
    return skb.linear == 0 and skb.len > 0


@cited("net/core/skbuff.c:skb_shift")
def skb_shift(tgt: Skb, skb: Skb, shiftlen: int) -> int:
    """Moves bytes from the front of `skb` to the end of `tgt`; returns how many, 0 if it can't be done.

    The fragments of neighbours adjoin, as those of a stream do, unless there are several.
    """
    if skb.linear or tgt.uarg is not None or skb.uarg is not None:
        return 0
    whole = shiftlen == skb.len
    moved = skb.frags - 1 if whole and skb.frags else 0
    if moved > MAX_SKB_FRAGS - tgt.frags:
        return 0
    tgt.frags += moved
    tgt.frag_at = skb.frag_at if whole else -1
    if whole:
        skb.frags = 0
    skb.len -= shiftlen
    skb.truesize -= shiftlen
    tgt.len += shiftlen
    tgt.truesize += shiftlen
    return shiftlen


@cited("net/ipv4/tcp_input.c:tcp_skb_shift")
def tcp_skb_shift(to: Skb, frm: Skb, pcount: int, shiftlen: int) -> int:
    """Moves segments into the skb before, if it doesn't grow too large."""
    if to.len + shiftlen >= SKB_SEGS_MAX * TCP_MIN_GSO_SIZE:
        return 0
    if to.gso_segs + pcount > SKB_SEGS_MAX:
        return 0
    return skb_shift(to, frm, shiftlen)


@cited("net/ipv4/tcp_input.c:tcp_shifted_skb")
def tcp_shifted_skb(
    sk: Sock, prev: Skb, skb: Skb, state: SacktagState, pcount: int, shifted: int, mss: int, dup_sack: bool
) -> bool:
    """`shifted` bytes of `skb` are now `prev`'s: they are SACKed. True: nothing is left of `skb`, which is freed."""
    start_seq = skb.seq
    end_seq = add(start_seq, shifted)
    sack.tcp_sacktag_one(sk, state, skb.sacked, start_seq, end_seq, dup_sack, pcount, skb.skb_mstamp)
    rate.tcp_rate_skb_delivered(sk, skb, state.rate)
    if skb is sk.lost_skb_hint:
        sk.lost_cnt_hint += pcount
    prev.end_seq = add(prev.end_seq, shifted)
    skb.seq = add(skb.seq, shifted)
    prev.gso_segs += pcount
    skb.gso_segs -= pcount
    if prev.gso_size == 0:
        prev.gso_size = mss
    if skb.gso_segs <= 1:
        skb.gso_size = 0
    prev.sacked |= skb.sacked & TCPCB_EVER_RETRANS
    if skb.len > 0:
        sk.net.count("TcpExtTCPSackShifted")
        return False
    if skb is sk.retransmit_skb_hint:
        sk.retransmit_skb_hint = prev
    if skb is sk.lost_skb_hint:
        sk.lost_skb_hint = prev
        sk.lost_cnt_hint -= prev.gso_segs
    prev.tcp_flags |= skb.tcp_flags
    prev.eor = skb.eor
    if skb.tcp_flags & FIN:
        prev.end_seq = add(prev.end_seq, 1)
    if skb is sk.highest_sack:
        tcp_advance_highest_sack(sk, skb)
    output.tcp_skb_collapse_tstamp(prev, skb)
    if prev.tx is not None:
        prev.tx.delivered_mstamp = 0
    tcp_rtx_queue_unlink_and_free(skb, sk)
    sk.net.count("TcpExtTCPSackMerged")
    return True


def shift_count(sk: Sock, prev: Skb, skb: Skb, start_seq: int, end_seq: int) -> tuple[int, int, int] | None:
    """How many segments and bytes of `skb` can move to `prev`, and their size.

    (0, 0, 0): there is nothing to do with this skb; None: it can't be done this way.
    """
    nothing = (0, 0, 0)
    in_sack = not after(start_seq, skb.seq) and not before(end_seq, skb.end_seq)
    if in_sack:
        mss = tcp_skb_seglen(skb)
        return None if mss != tcp_skb_seglen(prev) else (skb.gso_segs, skb.len, mss)
    if not after(skb.end_seq, start_seq):
        return nothing
    if skb.gso_segs <= 1:
        return nothing
    if after(start_seq, skb.seq):
        return None
    length = (end_seq - skb.seq) & M32
    mss = skb.gso_size
    if mss != tcp_skb_seglen(prev):
        return None
    if length < mss:
        return nothing
    return length // mss, length // mss * mss, mss


@cited("net/ipv4/tcp_input.c:tcp_shift_skb_data")
def tcp_shift_skb_data(
    sk: Sock, skb: Skb, state: SacktagState, start_seq: int, end_seq: int, dup_sack: bool
) -> Skb | None:
    """Newly SACKed data behind a SACKed skb join it, and so does a SACKed skb behind them.

    Returns the skb that was grown; `skb` itself if the block doesn't reach it; None if it must be tagged by itself.
    """
    prev = skb.prev
    if (
        (not dup_sack and skb.sacked & (TCPCB_LOST | TCPCB_SACKED_RETRANS) == TCPCB_SACKED_RETRANS)
        or not skb_can_shift(skb)
        or not after(skb.end_seq, sk.snd_una)
        or prev is None
        or prev.sacked & TCPCB_TAGBITS != TCPCB_SACKED_ACKED
        or not tcp_skb_can_collapse(prev, skb)
    ):
        sk.net.count("TcpExtTCPSackShiftFallback")
        return None
    count = shift_count(sk, prev, skb, start_seq, end_seq)
    if count is not None and count[2] == 0:
        return skb
    if (
        count is None
        or not after(add(skb.seq, count[1]), sk.snd_una)
        or not tcp_skb_shift(prev, skb, count[0], count[1])
    ):
        sk.net.count("TcpExtTCPSackShiftFallback")
        return None
    pcount, length, mss = count
    if not tcp_shifted_skb(sk, prev, skb, state, pcount, length, mss, dup_sack):
        return prev
    behind = prev.next
    if (
        behind is None
        or not skb_can_shift(behind)
        or behind.sacked & TCPCB_TAGBITS != TCPCB_SACKED_ACKED
        or mss != tcp_skb_seglen(behind)
        or not tcp_skb_can_collapse(prev, behind)
    ):
        return prev
    length, pcount = behind.len, behind.gso_segs
    if tcp_skb_shift(prev, behind, pcount, length):
        tcp_shifted_skb(sk, prev, behind, state, pcount, length, mss, False)
    return prev
