"""What an acknowledgment is said to be while it is processed: its flags, and what its SACK blocks told."""

from typing import Final

from refmodel.tcp.whole.sock import RateSample

FLAG_DATA: Final = 0x01  # the segment has data
FLAG_WIN_UPDATE: Final = 0x02
FLAG_DATA_ACKED: Final = 0x04  # it acknowledges new data,
FLAG_RETRANS_DATA_ACKED: Final = 0x08  # some of it repeated
FLAG_SYN_ACKED: Final = 0x10
FLAG_DATA_SACKED: Final = 0x20  # news by SACK
FLAG_ECE: Final = 0x40
FLAG_LOST_RETRANS: Final = 0x80  # a retransmission was found lost
FLAG_SLOWPATH: Final = 0x100
FLAG_ORIG_SACK_ACKED: Final = 0x200  # data that were never repeated are acknowledged or SACKed
FLAG_SND_UNA_ADVANCED: Final = 0x400
FLAG_DSACKING_ACK: Final = 0x800
FLAG_SET_XMIT_TIMER: Final = 0x1000
FLAG_SACK_RENEGING: Final = 0x2000  # snd_una stands at a SACKed skb
FLAG_UPDATE_TS_RECENT: Final = 0x4000
FLAG_NO_CHALLENGE_ACK: Final = 0x8000
FLAG_ACK_MAYBE_DELAYED: Final = 0x10000
FLAG_DSACK_TLP: Final = 0x20000
FLAG_TS_PROGRESS: Final = 0x40000

FLAG_ACKED: Final = FLAG_DATA_ACKED | FLAG_SYN_ACKED
FLAG_NOT_DUP: Final = FLAG_DATA | FLAG_WIN_UPDATE | FLAG_ACKED
FLAG_CA_ALERT: Final = FLAG_DATA_SACKED | FLAG_ECE | FLAG_DSACKING_ACK
FLAG_FORWARD_PROGRESS: Final = FLAG_ACKED | FLAG_DATA_SACKED

REXMIT_NONE: Final = 0
REXMIT_LOST: Final = 1  # send again what is held for lost
REXMIT_NEW: Final = 2  # F-RTO: send new data

# What tcp_ack returns, negative, for a segment that isn't to be processed further.
TCP_TOO_OLD_ACK: Final = 1
TCP_ACK_UNSENT_DATA: Final = 2


class SacktagState:
    """struct tcp_sacktag_state: when the first and the last never-repeated skb newly SACKed were sent (us; 0: none)."""

    __slots__ = ("delivered_bytes", "first_sackt", "flag", "last_sackt", "mss_now", "rate", "reord", "sack_delivered")

    def __init__(self, rate: RateSample) -> None:
        self.first_sackt = 0
        self.last_sackt = 0
        self.reord = 0
        self.sack_delivered = 0
        self.delivered_bytes = 0
        self.flag = 0
        self.mss_now = 0
        self.rate = rate
