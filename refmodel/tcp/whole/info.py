"""What a socket tells of itself: TCP_INFO, TCP_CC_INFO, SO_MEMINFO and the statistics that come with a time stamp.

The law: reading changes nothing. Values have the kernel's names and layout; a field that a kernel version doesn't have
is not in its bytes.
"""

from struct import pack, unpack
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole.skb import Packet, Skb
from refmodel.tcp.whole.sock import InetSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_rto_min
from refmodel.types import M32

USEC: Final = 1_000_000
U64: Final = 0xFFFFFFFFFFFFFFFF
SOCK_STREAM: Final = 1

TCPI_OPT_TIMESTAMPS: Final = 1
TCPI_OPT_SACK: Final = 2
TCPI_OPT_WSCALE: Final = 4
TCPI_OPT_ECN: Final = 8
TCPI_OPT_ECN_SEEN: Final = 16
TCPI_OPT_SYN_DATA: Final = 32
TCPI_OPT_USEC_TS: Final = 64
TCPI_OPT_TFO_CHILD: Final = 128

BYTES: Final = ("state", "ca_state", "retransmits", "probes", "backoff", "options")
"""The fields of struct tcp_info that are a byte each, in order; behind them two bytes hold four bit fields."""

_WORDS: Final = """
    rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv
    last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans
    pacing_rate:Q max_pacing_rate:Q bytes_acked:Q bytes_received:Q segs_out segs_in notsent_bytes min_rtt data_segs_in
    data_segs_out delivery_rate:Q busy_time:Q rwnd_limited:Q sndbuf_limited:Q delivered delivered_ce bytes_sent:Q
    bytes_retrans:Q dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash total_rto:H total_rto_recoveries:H
    total_rto_time
    received_ce delivered_e1_bytes delivered_e0_bytes delivered_ce_bytes
    received_e1_bytes received_e0_bytes received_ce_bytes accecn_fail_mode:H accecn_opt_seen:H
"""
WORDS: Final = tuple(_WORDS.split())
"""The others in order; one without a letter is a __u32."""

SINCE: Final = {"rcv_wnd": 612, "received_ce": 618}
"""Fields from which on an older kernel's struct ends."""

SK_MEMINFO: Final = (
    "RMEM_ALLOC", "RCVBUF", "WMEM_ALLOC", "SNDBUF", "FWD_ALLOC", "WMEM_QUEUED", "OPTMEM", "BACKLOG", "DROPS",
)  # fmt: skip


def tcp_delack_max(sk: Sock) -> int:
    """The longest a delayed acknowledgment waits (jiffies); source net/ipv4/tcp_output.c:tcp_delack_max."""
    return min(sk.icsk_delack_max, max(tcp_rto_min(sk), 2) - 1)


@cited("net/ipv4/tcp.c:tcp_compute_delivery_rate")
def tcp_compute_delivery_rate(sk: Sock) -> int:
    """Bytes a second of the best recent rate sample."""
    if sk.rate_delivered and sk.rate_interval_us:
        return sk.rate_delivered * sk.mss_cache * USEC // sk.rate_interval_us & U64
    return 0


@cited("net/ipv4/tcp.c:tcp_get_info_chrono_stats")
def tcp_get_info_chrono_stats(sk: Sock) -> tuple[int, int, int]:
    """For how long (us) there was something to send, of that limited by the peer's window, by the send buffer."""
    stats = [0, 0, 0]
    tick = USEC // sk.net.hz
    for i in range(3):
        jiffies = sk.chrono_stat[i]
        if i + 1 == sk.chrono_type:
            jiffies += (sk.net.jiffies - sk.chrono_start) & M32
        stats[i] = jiffies * tick
    return sum(stats), stats[1], stats[2]


def _since(sk: Sock, jiffy: int) -> int:
    return sk.net.jiffies_to_msecs((sk.net.jiffies - jiffy) & M32) & M32


def _notsent(sk: Sock, end: int) -> int:
    left = (sk.write_seq - end) & M32
    return left if left < 1 << 31 else 0


@cited("net/ipv4/tcp.c:tcp_get_info")
def tcp_get_info(sk: Sock) -> dict[str, int]:
    """The connection's state by the names of struct tcp_info; a listener's `unacked` and `sacked` are its backlog."""
    i = dict.fromkeys(NAMES, 0)
    if sk.sk_type != SOCK_STREAM:
        return i
    net = sk.net
    i["tcpi_state"] = int(sk.sk_state)
    i["tcpi_pacing_rate"] = sk.sk_pacing_rate
    i["tcpi_max_pacing_rate"] = sk.sk_max_pacing_rate
    i["tcpi_reordering"] = sk.reordering
    i["tcpi_snd_cwnd"] = sk.snd_cwnd
    if sk.sk_state == St.LISTEN:
        i["tcpi_unacked"] = sk.sk_ack_backlog
        i["tcpi_sacked"] = sk.sk_max_ack_backlog
        return i

    i["tcpi_ca_state"] = int(sk.icsk_ca_state)
    i["tcpi_retransmits"] = sk.icsk_retransmits & 0xFF
    i["tcpi_probes"] = sk.icsk_probes_out & 0xFF
    i["tcpi_backoff"] = sk.icsk_backoff & 0xFF

    options = 0
    if sk.rx_opt.tstamp_ok:
        options |= TCPI_OPT_TIMESTAMPS
    if sk.rx_opt.sack_ok:
        options |= TCPI_OPT_SACK
    if sk.rx_opt.wscale_ok:
        options |= TCPI_OPT_WSCALE
        i["tcpi_snd_wscale"] = sk.rx_opt.snd_wscale
        i["tcpi_rcv_wscale"] = sk.rx_opt.rcv_wscale
    if sk.ecn_flags & 17:
        options |= TCPI_OPT_ECN
    if sk.ecn_flags & 8:
        options |= TCPI_OPT_ECN_SEEN
    if sk.syn_data_acked:
        options |= TCPI_OPT_SYN_DATA
    if sk.tcp_usec_ts and net.p.kernel >= 612:
        options |= TCPI_OPT_USEC_TS
    if sk.syn_fastopen_child and net.p.kernel >= 616:
        options |= TCPI_OPT_TFO_CHILD
    i["tcpi_options"] = options

    i["tcpi_rto"] = net.jiffies_to_usecs(sk.icsk_rto)
    ato = sk.icsk_ack.ato if net.p.kernel < 612 else min(sk.icsk_ack.ato, tcp_delack_max(sk))
    i["tcpi_ato"] = net.jiffies_to_usecs(ato)
    i["tcpi_snd_mss"] = sk.mss_cache
    i["tcpi_rcv_mss"] = sk.icsk_ack.rcv_mss

    i["tcpi_unacked"] = sk.packets_out
    i["tcpi_sacked"] = sk.sacked_out
    i["tcpi_lost"] = sk.lost_out
    i["tcpi_retrans"] = sk.retrans_out

    i["tcpi_last_data_sent"] = _since(sk, sk.lsndtime)
    i["tcpi_last_data_recv"] = _since(sk, sk.icsk_ack.lrcvtime)
    i["tcpi_last_ack_recv"] = _since(sk, sk.rcv_tstamp)

    i["tcpi_pmtu"] = sk.icsk_pmtu_cookie
    i["tcpi_rcv_ssthresh"] = sk.rcv_ssthresh
    i["tcpi_rtt"] = sk.srtt_us >> 3
    i["tcpi_rttvar"] = sk.mdev_us >> 2
    i["tcpi_snd_ssthresh"] = sk.snd_ssthresh
    i["tcpi_advmss"] = sk.advmss
    i["tcpi_rcv_rtt"] = sk.rcv_rtt_est.rtt_us >> 3
    i["tcpi_rcv_space"] = sk.rcvq_space.space
    i["tcpi_total_retrans"] = sk.total_retrans
    i["tcpi_bytes_acked"] = sk.bytes_acked
    i["tcpi_bytes_received"] = sk.bytes_received
    i["tcpi_notsent_bytes"] = _notsent(sk, sk.snd_nxt)
    i["tcpi_busy_time"], i["tcpi_rwnd_limited"], i["tcpi_sndbuf_limited"] = tcp_get_info_chrono_stats(sk)
    i["tcpi_segs_out"] = sk.segs_out
    i["tcpi_segs_in"] = sk.segs_in
    i["tcpi_data_segs_in"] = sk.data_segs_in
    i["tcpi_min_rtt"] = sk.rtt_min.get()
    i["tcpi_data_segs_out"] = sk.data_segs_out
    i["tcpi_delivery_rate_app_limited"] = 1 if sk.rate_app_limited else 0
    i["tcpi_delivery_rate"] = tcp_compute_delivery_rate(sk)
    i["tcpi_delivered"] = sk.delivered
    i["tcpi_delivered_ce"] = sk.delivered_ce
    i["tcpi_bytes_sent"] = sk.bytes_sent
    i["tcpi_bytes_retrans"] = sk.bytes_retrans
    i["tcpi_dsack_dups"] = sk.dsack_dups
    i["tcpi_reord_seen"] = sk.reord_seen
    i["tcpi_rcv_ooopack"] = sk.rcv_ooopack
    i["tcpi_snd_wnd"] = sk.snd_wnd
    i["tcpi_fastopen_client_fail"] = sk.fastopen_client_fail
    if net.p.kernel >= 612:
        i["tcpi_rcv_wnd"] = sk.rcv_wnd
        i["tcpi_rehash"] = sk.plb_rehash + sk.timeout_rehash
        i["tcpi_total_rto"] = sk.total_rto & 0xFFFF
        i["tcpi_total_rto_recoveries"] = sk.total_rto_recoveries & 0xFFFF
        total = sk.total_rto_time
        if sk.rto_stamp:
            total += (net.now // 1000 - sk.rto_stamp) & M32
        i["tcpi_total_rto_time"] = total & M32
    if net.p.kernel >= 618:
        i["tcpi_received_ce"] = sk.received_ce
        for way, octets in (("delivered", sk.delivered_ecn_bytes), ("received", sk.received_ecn_bytes)):
            for n, name in enumerate(("e1", "e0", "ce")):
                i[f"tcpi_{way}_{name}_bytes"] = octets[n]
        i["tcpi_accecn_fail_mode"] = sk.accecn_fail_mode
        i["tcpi_accecn_opt_seen"] = sk.saw_accecn_opt
    return i


NAMES: Final = (
    *(f"tcpi_{n}" for n in BYTES),
    "tcpi_snd_wscale",
    "tcpi_rcv_wscale",
    "tcpi_delivery_rate_app_limited",
    "tcpi_fastopen_client_fail",
    *(f"tcpi_{w.partition(':')[0]}" for w in WORDS),
)
"""Every field of struct tcp_info."""


def tcp_info(sk: Sock) -> dict[str, int]:
    """TCP_INFO by name: tcpi_state, tcpi_rtt and the others."""
    return tcp_get_info(sk)


def tcp_info_bytes(sk: Sock) -> bytes:
    """TCP_INFO as getsockopt() gives it."""
    i = tcp_get_info(sk)
    out = bytes(i[f"tcpi_{n}"] for n in BYTES)
    out += bytes(
        (
            i["tcpi_snd_wscale"] | i["tcpi_rcv_wscale"] << 4,
            i["tcpi_delivery_rate_app_limited"] | i["tcpi_fastopen_client_fail"] << 1,
        )
    )
    for word in WORDS:
        name, _, kind = word.partition(":")
        if sk.net.p.kernel < SINCE.get(name, 0):
            break
        out += pack("<" + (kind or "I"), i["tcpi_" + name] & (U64 if kind == "Q" else M32))
    return out + bytes(-len(out) % 8)


# ---------------------------------------------------------------- TCP_CC_INFO


def cc_info_bytes(sk: Sock) -> bytes:
    """TCP_CC_INFO as getsockopt() gives it; empty for a congestion control that tells nothing."""
    ops = sk.icsk_ca_ops
    told = ops.get_info(sk, M32) if ops is not None and ops.get_info is not None else None
    return told[1] if told is not None else b""


def cc_info(sk: Sock) -> dict[str, int]:
    """TCP_CC_INFO by name: bbr_bw_lo, dctcp_alpha and the others."""
    ops = sk.icsk_ca_ops
    told = ops.get_info(sk, M32) if ops is not None and ops.get_info is not None else None
    if told is None:
        return {}
    kind, names = CC_FIELDS[told[0]]
    return dict(zip(names, unpack(kind, told[1]), strict=True))


CC_FIELDS: Final = {
    3: ("<IIII", ("tcpv_enabled", "tcpv_rttcnt", "tcpv_rtt", "tcpv_minrtt")),
    9: ("<HHIII", ("dctcp_enabled", "dctcp_ce_state", "dctcp_alpha", "dctcp_ab_ecn", "dctcp_ab_tot")),
    16: ("<IIIII", ("bbr_bw_lo", "bbr_bw_hi", "bbr_min_rtt", "bbr_pacing_gain", "bbr_cwnd_gain")),
}
"""By INET_DIAG attribute: format and field names of what a congestion control tells."""


# ---------------------------------------------------------------- SO_MEMINFO


@cited("net/core/sock.c:sk_get_meminfo")
def meminfo(sk: InetSock) -> dict[str, int]:
    """SO_MEMINFO by name: SK_MEMINFO_RMEM_ALLOC and the others."""
    values = (
        sk.sk_rmem_alloc,
        sk.sk_rcvbuf,
        sk.sk_wmem_alloc,
        sk.sk_sndbuf,
        sk.sk_forward_alloc,
        sk.sk_wmem_queued,
        sk.sk_omem_alloc,
        sum(skb.truesize for skb in sk.sk_backlog),
        sk.sk_drops,
    )
    return {f"SK_MEMINFO_{name}": value & M32 for name, value in zip(SK_MEMINFO, values, strict=True)}


def meminfo_bytes(sk: InetSock) -> bytes:
    """SO_MEMINFO as getsockopt() gives it."""
    return pack("<9I", *meminfo(sk).values())


# ---------------------------------------------------------------- SCM_TIMESTAMPING_OPT_STATS

NLA: Final = {
    "BUSY": (1, "Q"),
    "RWND_LIMITED": (2, "Q"),
    "SNDBUF_LIMITED": (3, "Q"),
    "DATA_SEGS_OUT": (4, "Q"),
    "TOTAL_RETRANS": (5, "Q"),
    "PACING_RATE": (6, "Q"),
    "DELIVERY_RATE": (7, "Q"),
    "SND_CWND": (8, "I"),
    "REORDERING": (9, "I"),
    "MIN_RTT": (10, "I"),
    "RECUR_RETRANS": (11, "B"),
    "DELIVERY_RATE_APP_LMT": (12, "B"),
    "SNDQ_SIZE": (13, "I"),
    "CA_STATE": (14, "B"),
    "SND_SSTHRESH": (15, "I"),
    "DELIVERED": (16, "I"),
    "DELIVERED_CE": (17, "I"),
    "BYTES_SENT": (18, "Q"),
    "BYTES_RETRANS": (19, "Q"),
    "DSACK_DUPS": (20, "I"),
    "REORD_SEEN": (21, "I"),
    "SRTT": (22, "I"),
    "TIMEOUT_REHASH": (23, "H"),
    "BYTES_NOTSENT": (24, "I"),
    "EDT": (25, "Q"),
    "TTL": (26, "B"),
    "REHASH": (27, "I"),
}
"""TCP_NLA_*: number and format of each attribute."""


def nla_put(name: str, value: int) -> bytes:
    """One attribute: its length, number and value, filled up to four bytes; source lib/nlattr.c:nla_put."""
    number, kind = NLA[name]
    size = {"Q": 8, "I": 4, "H": 2, "B": 1}[kind]
    return pack("<HH" + kind, 4 + size, number, value & (1 << 8 * size) - 1) + bytes(-size % 4)


@cited("net/ipv4/tcp.c:tcp_get_timestamping_opt_stats")
def tcp_get_timestamping_opt_stats(sk: Sock, orig_skb: Skb, ack_skb: Packet | None) -> bytes:
    """The connection's statistics as netlink attributes in the kernel's order; TTL only with an acknowledgment."""
    busy, rwnd_limited, sndbuf_limited = tcp_get_info_chrono_stats(sk)
    fields = {
        "BUSY": busy,
        "RWND_LIMITED": rwnd_limited,
        "SNDBUF_LIMITED": sndbuf_limited,
        "DATA_SEGS_OUT": sk.data_segs_out,
        "TOTAL_RETRANS": sk.total_retrans,
        "PACING_RATE": sk.sk_pacing_rate,
        "DELIVERY_RATE": tcp_compute_delivery_rate(sk),
        "SND_CWND": sk.snd_cwnd,
        "REORDERING": sk.reordering,
        "MIN_RTT": sk.rtt_min.get(),
        "RECUR_RETRANS": sk.icsk_retransmits,
        "DELIVERY_RATE_APP_LMT": 1 if sk.rate_app_limited else 0,
        "SND_SSTHRESH": sk.snd_ssthresh,
        "DELIVERED": sk.delivered,
        "DELIVERED_CE": sk.delivered_ce,
        "SNDQ_SIZE": _notsent(sk, sk.snd_una),
        "CA_STATE": int(sk.icsk_ca_state),
        "BYTES_SENT": sk.bytes_sent,
        "BYTES_RETRANS": sk.bytes_retrans,
        "DSACK_DUPS": sk.dsack_dups,
        "REORD_SEEN": sk.reord_seen,
        "SRTT": sk.srtt_us >> 3,
        "TIMEOUT_REHASH": sk.timeout_rehash,
        "BYTES_NOTSENT": _notsent(sk, sk.snd_nxt),
        "EDT": orig_skb.skb_mstamp * 1000,
    }
    if ack_skb is not None:
        fields["TTL"] = ack_skb.ttl
    if sk.net.p.kernel >= 612:
        fields["REHASH"] = sk.plb_rehash + sk.timeout_rehash
    return b"".join(nla_put(name, value) for name, value in fields.items())
