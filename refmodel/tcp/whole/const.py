"""Constants of TCP and of socket buffers, under the kernel's names (include/net/tcp.h, include/linux/skbuff.h)."""

from functools import cache
from typing import Final

# tcp_skb_cb.tcp_flags: the header's bits, AE above them.
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80
AE: Final = 0x100
# tcp_skb_cb.sacked (include/net/tcp.h)
TCPCB_SACKED_ACKED: Final = 0x01
TCPCB_SACKED_RETRANS: Final = 0x02
TCPCB_LOST: Final = 0x04
TCPCB_TAGBITS: Final = 0x07
TCPCB_REPAIRED: Final = 0x10
TCPCB_EVER_RETRANS: Final = 0x80
TCPCB_RETRANS: Final = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS | TCPCB_REPAIRED
# tcp_sock.ecn_flags
TCP_ECN_OK: Final = 1
TCP_ECN_QUEUE_CWR: Final = 2
TCP_ECN_DEMAND_CWR: Final = 4
TCP_ECN_SEEN: Final = 8
TCP_ECN_MODE_ACCECN: Final = 16  # with TCP_ECN_OK: asked for, not answered yet
# tcp_sock.nonagle
TCP_NAGLE_OFF: Final = 1
TCP_NAGLE_CORK: Final = 2
TCP_NAGLE_PUSH: Final = 4
# icsk_ack.pending
ICSK_ACK_SCHED: Final = 1
ICSK_ACK_TIMER: Final = 2
ICSK_ACK_PUSHED: Final = 4
ICSK_ACK_PUSHED2: Final = 8
ICSK_ACK_NOW: Final = 16
ICSK_ACK_NOMEM: Final = 32
# icsk_pending
ICSK_TIME_RETRANS: Final = 1
ICSK_TIME_DACK: Final = 2
ICSK_TIME_PROBE0: Final = 3
ICSK_TIME_LOSS_PROBE: Final = 5
ICSK_TIME_REO_TIMEOUT: Final = 6
RCV_SHUTDOWN: Final = 1
SEND_SHUTDOWN: Final = 2
SHUTDOWN_MASK: Final = 3
SK_PACING_NONE: Final = 0
SK_PACING_NEEDED: Final = 1
SK_PACING_FQ: Final = 2
# tcp_sock.chrono_type
TCP_CHRONO_UNSPEC: Final = 0
TCP_CHRONO_BUSY: Final = 1
TCP_CHRONO_RWND_LIMITED: Final = 2
TCP_CHRONO_SNDBUF_LIMITED: Final = 3
# tcp_ca_event
CA_EVENT_TX_START: Final = 0
CA_EVENT_CWND_RESTART: Final = 1
CA_EVENT_COMPLETE_CWR: Final = 2
CA_EVENT_LOSS: Final = 3
CA_EVENT_ECN_NO_CE: Final = 4
CA_EVENT_ECN_IS_CE: Final = 5
# tcp_ca_ack_event_flags
CA_ACK_SLOWPATH: Final = 1
CA_ACK_WIN_UPDATE: Final = 2
CA_ACK_ECE: Final = 4
TCP_INFINITE_SSTHRESH: Final = 0x7FFFFFFF
MAX_TCP_WINDOW: Final = 32767
TCP_MAX_WSCALE: Final = 14
TCP_INIT_CWND: Final = 10
TCP_MSS_DEFAULT: Final = 536
TCP_MIN_MSS: Final = 88
TCP_MIN_SND_MSS: Final = 48
TCP_BASE_MSS: Final = 1024
TCP_FASTRETRANS_THRESH: Final = 3
MAX_HEADER_V4: Final = 20
GSO_LEGACY_MAX_SIZE: Final = 65536
NET_SKB_PAD: Final = 64
TCP_RMEM_TO_WIN_SCALE: Final = 8
TCP_DEFAULT_SCALING_RATIO: Final = 128
SK_BUFF_SIZE: Final = 256  # SKB_DATA_ALIGN(sizeof(struct sk_buff)), x86-64
SHARED_INFO_SIZE: Final = 320  # SKB_DATA_ALIGN(sizeof(struct skb_shared_info)), x86-64
FEW: Final = 16  # skbs that are searched one by one


def SKB_TRUESIZE(n: int) -> int:
    """Memory of an skb whose head holds `n` bytes; source include/linux/skbuff.h:SKB_TRUESIZE."""
    return n + SK_BUFF_SIZE + SHARED_INFO_SIZE


def MAX_TCP_HEADER(max_header: int) -> int:
    """Room for the headers of a segment, by MAX_HEADER; source include/net/tcp.h:MAX_TCP_HEADER."""
    return (128 + max_header + 63) & ~63


@cache
def skb_end_offset(size: int, kernel: int, max_header: int) -> int:
    """How many bytes the head of an skb holds that was allocated for `size`; source net/core/skbuff.c:kmalloc_reserve.

    Since 6.3 small heads are of a slab of their own, as large as the headers of a segment or the pulling of GRO want.
    """
    obj = ((size + 63) & ~63) + SHARED_INFO_SIZE
    if kernel >= 603:
        gro_max_head_pad = max_header + 128 + NET_SKB_PAD
        small = ((max(MAX_TCP_HEADER(max_header), gro_max_head_pad) + 63) & ~63) + SHARED_INFO_SIZE
        if not small & (small - 1):
            small += 64
        if obj <= small:
            return small - SHARED_INFO_SIZE
    return (1 << (obj - 1).bit_length()) - SHARED_INFO_SIZE


PAGE_SIZE: Final = 4096
MAX_SKB_FRAGS: Final = 17
USEC_PER_MSEC: Final = 1000
NSEC_PER_USEC: Final = 1000
TCP_TIMEOUT_MIN_US: Final = 2000
