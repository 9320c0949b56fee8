"""Delivery rate: how fast the network lately delivered, one sample for each acknowledgment (net/ipv4/tcp_rate.c).

The law: a sample counts what was delivered between the acknowledgment before which a segment left and the one that
acknowledges it, over the longer of the times that sending and acknowledging took. A sample in which the application
was short of data is marked, and replaces a rate only if it is no lower.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole.const import SKB_TRUESIZE, TCPCB_RETRANS, TCPCB_SACKED_ACKED
from refmodel.tcp.whole.skb import Skb, TxInfo
from refmodel.tcp.whole.sock import RateSample, Sock
from refmodel.tcp.whole.tcp_h import tcp_packets_in_flight, tcp_skb_sent_after
from refmodel.types import M32, after

TCPCB_DELIVERED_CE_MASK: Final = (1 << 20) - 1
ONE_BYTE: Final = SKB_TRUESIZE(1)


@cited("net/ipv4/tcp_rate.c:tcp_rate_skb_sent")
def tcp_rate_skb_sent(sk: Sock, skb: Skb) -> None:
    """A segment that leaves remembers what was delivered until now; the first after silence begins the interval."""
    if sk.packets_out == 0:
        sk.first_tx_mstamp = skb.skb_mstamp
        sk.delivered_mstamp = skb.skb_mstamp
    tx = skb.tx = TxInfo()
    tx.first_tx_mstamp = sk.first_tx_mstamp
    tx.delivered_mstamp = sk.delivered_mstamp
    tx.delivered = sk.delivered
    tx.delivered_ce = sk.delivered_ce & TCPCB_DELIVERED_CE_MASK
    tx.is_app_limited = sk.app_limited != 0


@cited("net/ipv4/tcp_rate.c:tcp_rate_skb_delivered")
def tcp_rate_skb_delivered(sk: Sock, skb: Skb, rs: RateSample) -> None:
    """Of the segments that an acknowledgment delivers the one that was sent last gives the sample."""
    tx = skb.tx
    if tx is None or tx.delivered_mstamp == 0:
        return
    tx_tstamp = skb.skb_mstamp
    if rs.prior_delivered == 0 or tcp_skb_sent_after(tx_tstamp, sk.first_tx_mstamp, skb.end_seq, rs.last_end_seq):
        rs.prior_delivered_ce = tx.delivered_ce
        rs.prior_delivered = tx.delivered
        rs.prior_mstamp = tx.delivered_mstamp
        rs.is_app_limited = tx.is_app_limited
        rs.is_retrans = skb.sacked & TCPCB_RETRANS != 0
        rs.last_end_seq = skb.end_seq
        sk.first_tx_mstamp = tx_tstamp
        rs.interval_us = max(tx_tstamp - tx.first_tx_mstamp, 0)
    if skb.sacked & TCPCB_SACKED_ACKED:
        tx.delivered_mstamp = 0


@cited("net/ipv4/tcp_rate.c:tcp_rate_gen")
def tcp_rate_gen(sk: Sock, delivered: int, lost: int, is_sack_reneg: bool, rs: RateSample) -> None:
    """The sample of one acknowledgment is finished, and the socket keeps the last that tells the path's rate."""
    if sk.app_limited and after(sk.delivered, sk.app_limited):
        sk.app_limited = 0
    if delivered:
        sk.delivered_mstamp = sk.tcp_mstamp
    rs.acked_sacked = delivered
    rs.losses = lost
    if rs.prior_mstamp == 0 or is_sack_reneg:
        rs.delivered = -1
        rs.interval_us = -1
        return
    rs.delivered = sk.delivered - rs.prior_delivered
    rs.delivered_ce = (sk.delivered_ce - rs.prior_delivered_ce) & TCPCB_DELIVERED_CE_MASK
    snd_us = rs.interval_us
    ack_us = max(sk.tcp_mstamp - rs.prior_mstamp, 0)
    rs.interval_us = max(snd_us, ack_us)
    rs.snd_interval_us = snd_us
    rs.rcv_interval_us = ack_us
    if rs.interval_us < sk.rtt_min.s[0][1]:
        rs.interval_us = -1
        return
    if not rs.is_app_limited or rs.delivered * sk.rate_interval_us >= sk.rate_delivered * rs.interval_us:
        sk.rate_delivered = rs.delivered
        sk.rate_interval_us = rs.interval_us
        sk.rate_app_limited = rs.is_app_limited


@cited("net/ipv4/tcp_rate.c:tcp_rate_check_app_limited")
def tcp_rate_check_app_limited(sk: Sock) -> None:
    """The application has less than a segment to send while everything else would let it: the path isn't measured."""
    if (
        ((sk.write_seq - sk.snd_nxt) & M32) < sk.mss_cache
        and sk.sk_wmem_alloc < ONE_BYTE
        and tcp_packets_in_flight(sk) < sk.snd_cwnd
        and sk.lost_out <= sk.retrans_out
    ):
        sk.app_limited = (sk.delivered + tcp_packets_in_flight(sk)) or 1
