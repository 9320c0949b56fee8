"""Taking back a reduction of the window that proved wrong (the undo procedures of net/ipv4/tcp_input.c).

The law: a reduction is taken back when every retransmission was needless (each was DSACKed) or the first of them can't
have caused the acknowledgment (its timestamp echo is older), and never if ECN had proved congestion. Window and
threshold are then as before, and what was held for lost isn't.
"""

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import ca, rack, recovery, sack
from refmodel.tcp.whole.const import TCP_ECN_QUEUE_CWR, TCPCB_EVER_RETRANS, TCPCB_LOST, TCPCB_RETRANS
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, Sock
from refmodel.tcp.whole.tcp_h import tcp_clear_all_retrans_hints, tcp_is_reno, tcp_is_sack, tcp_skb_timestamp_ts
from refmodel.types import before


@cited("net/ipv4/tcp_input.c:tcp_init_undo")
def tcp_init_undo(sk: Sock) -> None:
    """A reduction begins that may be taken back once `undo_retrans` retransmissions proved needless."""
    sk.undo_marker = sk.snd_una
    sk.undo_retrans = sk.retrans_out
    if sk.tlp_high_seq and sk.tlp_retrans:
        sk.undo_retrans += 1
    if sk.undo_retrans == 0:
        sk.undo_retrans = -1


@cited("net/ipv4/tcp_input.c:tcp_clear_retrans")
def tcp_clear_retrans(sk: Sock) -> None:
    """Nothing is out, SACKed, lost or repeated."""
    sk.retrans_out = 0
    sk.lost_out = 0
    sk.undo_marker = 0
    sk.undo_retrans = -1
    sk.sacked_out = 0
    sk.rto_stamp = 0
    sk.total_rto = 0
    sk.total_rto_recoveries = 0
    sk.total_rto_time = 0


@cited("net/ipv4/tcp_input.c:tcp_tsopt_ecr_before", "RFC 3522 3.2")
def tcp_tsopt_ecr_before(sk: Sock, when: int) -> bool:
    """The acknowledgment echoes a timestamp from before `when`."""
    rx_opt = sk.rx_opt
    return rx_opt.saw_tstamp and rx_opt.rcv_tsecr != 0 and before(rx_opt.rcv_tsecr, when)


@cited("net/ipv4/tcp_input.c:tcp_skb_spurious_retrans")
def tcp_skb_spurious_retrans(sk: Sock, skb: Skb) -> bool:
    """The skb was repeated, yet its original arrived."""
    return skb.sacked & TCPCB_RETRANS != 0 and tcp_tsopt_ecr_before(sk, tcp_skb_timestamp_ts(sk.tcp_usec_ts, skb))


@cited("net/ipv4/tcp_input.c:tcp_packet_delayed", "RFC 3522 3.2")
def tcp_packet_delayed(sk: Sock) -> bool:
    """What is acknowledged was only late: nothing was repeated, or the echo is older than the first retransmission."""
    if sk.retrans_stamp:
        return tcp_tsopt_ecr_before(sk, sk.retrans_stamp)
    if tcp_is_reno(sk) and not before(sk.snd_una, sk.high_seq):
        return False
    return sk.sk_state is not St.SYN_SENT


@cited("net/ipv4/tcp_input.c:tcp_any_retrans_done")
def tcp_any_retrans_done(sk: Sock) -> bool:
    """Something that is out was repeated."""
    if sk.retrans_out:
        return True
    skb = sk.tcp_rtx_queue.head
    return skb is not None and skb.sacked & TCPCB_EVER_RETRANS != 0


@cited("net/ipv4/tcp_input.c:tcp_retrans_stamp_cleanup")
def tcp_retrans_stamp_cleanup(sk: Sock) -> None:
    """With no retransmission out the clock of giving up stands at zero."""
    if not tcp_any_retrans_done(sk):
        sk.retrans_stamp = 0


@cited("net/ipv4/tcp_input.c:tcp_undo_cwnd_reduction", "RFC 4015 3")
def tcp_undo_cwnd_reduction(sk: Sock, unmark_loss: bool) -> None:
    """Window and threshold are as before the reduction, unless ECN forbids; `unmark_loss`: nothing is lost either."""
    if unmark_loss:
        skb = sk.tcp_rtx_queue.head
        while skb is not None:
            skb.sacked &= ~TCPCB_LOST
            skb = skb.next
        sk.lost_out = 0
        tcp_clear_all_retrans_hints(sk)
    if sk.prior_ssthresh:
        sk.snd_cwnd = sk.icsk_ca_ops.undo_cwnd(sk)
        if sk.prior_ssthresh > sk.snd_ssthresh:
            sk.snd_ssthresh = sk.prior_ssthresh
            sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR
    sk.snd_cwnd_stamp = sk.net.jiffies
    sk.undo_marker = 0
    sk.rack.advanced = True
    sk.net.note("tcp_undo_cwnd_reduction", f"cwnd {sk.snd_cwnd} ssthresh {sk.snd_ssthresh}")


@cited("net/ipv4/tcp_input.c:tcp_may_undo")
def tcp_may_undo(sk: Sock) -> bool:
    """There is a reduction to take back, and proof that it was wrong."""
    return sk.undo_marker != 0 and (sk.undo_retrans == 0 or tcp_packet_delayed(sk))


@cited("net/ipv4/tcp_input.c:tcp_is_non_sack_preventing_reopen", "RFC 6582 4")
def tcp_is_non_sack_preventing_reopen(sk: Sock) -> bool:
    """Without SACK the state stays until something above high_seq is acknowledged."""
    if sk.snd_una == sk.high_seq and tcp_is_reno(sk):
        tcp_retrans_stamp_cleanup(sk)
        return True
    return False


@cited("net/ipv4/tcp_input.c:tcp_try_undo_recovery")
def tcp_try_undo_recovery(sk: Sock) -> bool:
    """All that was out at the loss is acknowledged: Open, and as before if the loss was none.

    True: without SACK it is too early for Open.
    """
    if tcp_may_undo(sk):
        tcp_undo_cwnd_reduction(sk, False)
        sk.net.count("TcpExtTCPLossUndo" if sk.icsk_ca_state == CA.Loss else "TcpExtTCPFullUndo")
    elif sk.rack.reo_wnd_persist:
        sk.rack.reo_wnd_persist -= 1
    if tcp_is_non_sack_preventing_reopen(sk):
        return True
    ca.tcp_set_ca_state(sk, CA.Open)
    sk.is_sack_reneg = False
    return False


@cited("net/ipv4/tcp_input.c:tcp_try_undo_dsack", "RFC 3708 3")
def tcp_try_undo_dsack(sk: Sock) -> bool:
    """Every retransmission was DSACKed: the reduction is taken back."""
    if sk.undo_marker and sk.undo_retrans == 0:
        sk.rack.reo_wnd_persist = min(rack.TCP_RACK_RECOVERY_THRESH, sk.rack.reo_wnd_persist + 1)
        tcp_undo_cwnd_reduction(sk, False)
        sk.net.count("TcpExtTCPDSACKUndo")
        return True
    return False


@cited("net/ipv4/tcp_input.c:tcp_try_undo_loss", "RFC 5682 3.1")
def tcp_try_undo_loss(sk: Sock, frto_undo: bool) -> bool:
    """A timeout proved wrong, by F-RTO or by timestamps."""
    if not (frto_undo or tcp_may_undo(sk)):
        return False
    tcp_undo_cwnd_reduction(sk, True)
    sk.net.count("TcpExtTCPLossUndo")
    if frto_undo:
        sk.net.count("TcpExtTCPSpuriousRTOs")
    sk.icsk_retransmits = 0
    if tcp_is_non_sack_preventing_reopen(sk):
        return True
    if frto_undo or tcp_is_sack(sk):
        ca.tcp_set_ca_state(sk, CA.Open)
        sk.is_sack_reneg = False
    return True


@cited("net/ipv4/tcp_input.c:tcp_try_undo_partial")
def tcp_try_undo_partial(sk: Sock, prior_snd_una: int, do_lost: bool) -> tuple[bool, bool]:
    """A partial acknowledgment in recovery: if it was for an original that was late, the recovery was for nothing.

    Returns whether to wait, as retransmissions are still out, and whether more is to be marked lost.
    """
    if sk.undo_marker and tcp_packet_delayed(sk):
        sack.tcp_check_sack_reordering(sk, prior_snd_una, True)
        if sk.retrans_out:
            return True, do_lost
        tcp_retrans_stamp_cleanup(sk)
        tcp_undo_cwnd_reduction(sk, True)
        sk.net.count("TcpExtTCPPartialUndo")
        recovery.tcp_try_keep_open(sk)
    else:
        do_lost = recovery.tcp_force_fast_retransmit(sk)
    return False, do_lost


@cited("net/ipv4/tcp_input.c:tcp_try_undo_spurious_syn", "RFC 3522 3.2")
def tcp_try_undo_spurious_syn(sk: Sock) -> None:
    """The SYN was repeated, but its first copy was answered: the initial window stays."""
    syn_stamp = sk.retrans_stamp
    if sk.undo_marker and syn_stamp and sk.rx_opt.saw_tstamp and syn_stamp == sk.rx_opt.rcv_tsecr:
        sk.undo_marker = 0
