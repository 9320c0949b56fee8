"""What a code block sees of the socket under test: TCP_INFO, TCP_CC_INFO, SO_MEMINFO, by the kernel's names."""

import struct
from collections.abc import Mapping
from typing import Final

from conformance.pkt.constants import SK_MEMINFO

TCP_INFO, TCP_CONGESTION, TCP_CC_INFO, SO_MEMINFO = 11, 13, 26, 55
LARGEST: Final = 1024

BYTES: Final = ("state", "ca_state", "retransmits", "probes", "backoff", "options")
_LAYOUT: Final = """
    rto ato snd_mss rcv_mss unacked sacked lost retrans fackets
    last_data_sent last_ack_sent last_data_recv last_ack_recv
    pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans
    pacing_rate:Q max_pacing_rate:Q bytes_acked:Q bytes_received:Q segs_out segs_in
    notsent_bytes min_rtt data_segs_in data_segs_out delivery_rate:Q busy_time:Q rwnd_limited:Q sndbuf_limited:Q
    delivered delivered_ce bytes_sent:Q bytes_retrans:Q dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash
    total_rto:H total_rto_recoveries:H total_rto_time
    received_ce delivered_e1_bytes delivered_e0_bytes delivered_ce_bytes
    received_e1_bytes received_e0_bytes received_ce_bytes accecn_fail_mode:H accecn_opt_seen:H
"""
FIELDS: Final = tuple((word.partition(":")[0], word.partition(":")[2] or "I") for word in _LAYOUT.split())
"""The fields behind the first 8 bytes, in the order of include/uapi/linux/tcp.h (6.18); a later kernel appends."""

CC_INFO: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "bbr": ("IIIII", ("bbr_bw_lo", "bbr_bw_hi", "bbr_min_rtt", "bbr_pacing_gain", "bbr_cwnd_gain")),
    "dctcp": ("HHIII", ("dctcp_enabled", "dctcp_ce_state", "dctcp_alpha", "dctcp_ab_ecn", "dctcp_ab_tot")),
    "vegas": ("IIII", ("tcpv_enabled", "tcpv_rttcnt", "tcpv_rtt", "tcpv_minrtt")),
}


def cc_info(name: str, raw: bytes) -> dict[str, int]:
    """The variables of a congestion control's TCP_CC_INFO; none where it has none."""
    if name not in CC_INFO or len(raw) != struct.calcsize(CC_INFO[name][0]):
        return {}
    layout, names = CC_INFO[name]
    return dict(zip(names, struct.unpack(layout, raw), strict=True))


def meminfo(raw: bytes) -> dict[str, int]:
    """The variables of SO_MEMINFO."""
    values = struct.unpack(f"{len(raw) // 4}I", raw)
    return {f"SK_MEMINFO_{n}": v for n, v in zip(SK_MEMINFO, values, strict=False)}


def tcp_info(raw: bytes) -> dict[str, int]:
    """The fields of struct tcp_info that this kernel filled in, by their names."""
    values = {f"tcpi_{name}": raw[n] for n, name in enumerate(BYTES)}
    values |= {
        "tcpi_snd_wscale": raw[6] & 15,
        "tcpi_rcv_wscale": raw[6] >> 4,
        "tcpi_delivery_rate_app_limited": raw[7] & 1,
        "tcpi_fastopen_client_fail": raw[7] >> 1 & 3,
    }
    at = 8
    for name, kind in FIELDS:
        size = struct.calcsize(kind)
        if at + size > len(raw):
            break
        (values[f"tcpi_{name}"],) = struct.unpack_from(kind, raw, at)
        at += size
    return values
