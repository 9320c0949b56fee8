"""The MSS that follows from the path MTU, and the search for a larger one (net/ipv4/tcp_output.c).

The law: `mss_cache` is what the last known path MTU, the peer's MSS and its window allow; only `tcp_sync_mss` writes
it.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole.const import ACK, FIN, MAX_SKB_FRAGS, PSH
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, Sock
from refmodel.tcp.whole.tcp_h import (
    sk_mem_charge,
    sk_wmem_schedule,
    tcp_highest_sack_replace,
    tcp_packets_in_flight,
    tcp_skb_can_collapse,
    tcp_wmem_free_skb,
    tcp_wnd_end,
    tx_skb_truesize,
)
from refmodel.types import M32, add, after

IPV4_HEADER: Final = 20
IPV6_HEADER: Final = 40
TCP_HEADER: Final = 20
AF_INET6: Final = 10


def net_header_len(sk: Sock) -> int:
    """icsk_af_ops->net_header_len."""
    return IPV6_HEADER if sk.sk_family == AF_INET6 and not sk.mapped else IPV4_HEADER


@cited("net/ipv4/tcp_output.c:__tcp_mtu_to_mss", "RFC 9293 3.7.1")
def __tcp_mtu_to_mss(sk: Sock, pmtu: int) -> int:
    """The MSS of a path MTU, TCP's options not yet taken off."""
    mss_now = min(pmtu - net_header_len(sk) - TCP_HEADER, sk.rx_opt.mss_clamp)
    return max(mss_now - sk.icsk_ext_hdr_len, sk.net.p.tcp_min_snd_mss)


def tcp_mtu_to_mss(sk: Sock, pmtu: int) -> int:
    """The MSS of a path MTU; source net/ipv4/tcp_output.c:tcp_mtu_to_mss."""
    return __tcp_mtu_to_mss(sk, pmtu) - (sk.tcp_header_len - TCP_HEADER)


def tcp_mss_to_mtu(sk: Sock, mss: int) -> int:
    """The packet size of an MSS; source net/ipv4/tcp_output.c:tcp_mss_to_mtu."""
    return mss + sk.tcp_header_len + sk.icsk_ext_hdr_len + net_header_len(sk)


@cited("net/ipv4/tcp_output.c:tcp_mtup_init", "RFC 4821 7")
def tcp_mtup_init(sk: Sock) -> None:
    """Begins the search for the path MTU."""
    p = sk.net.p
    mtup = sk.icsk_mtup
    mtup.enabled = p.tcp_mtu_probing > 1
    mtup.search_high = sk.rx_opt.mss_clamp + TCP_HEADER + net_header_len(sk)
    mtup.search_low = tcp_mss_to_mtu(sk, p.tcp_base_mss)
    mtup.probe_size = 0
    if mtup.enabled:
        mtup.probe_timestamp = sk.net.jiffies


@cited("net/ipv4/tcp_output.c:tcp_sync_mss", "RFC 9293 3.7.1", "RFC 1191 6.4")
def tcp_sync_mss(sk: Sock, pmtu: int) -> int:
    """Brings the MSS in line with the path MTU: returns and keeps it."""
    mtup = sk.icsk_mtup
    mtup.search_high = min(mtup.search_high, pmtu)
    mss_now = sendmsg.tcp_bound_to_half_wnd(sk, tcp_mtu_to_mss(sk, pmtu))
    sk.icsk_pmtu_cookie = pmtu
    if mtup.enabled:
        mss_now = min(mss_now, tcp_mtu_to_mss(sk, mtup.search_low))
    sk.mss_cache = mss_now
    return mss_now


@cited("net/ipv4/tcp_output.c:tcp_current_mss", "RFC 9293 3.7.1")
def tcp_current_mss(sk: Sock) -> int:
    """The MSS of what is sent now: the path MTU may have changed, and SACK blocks take room."""
    mss_now = sk.mss_cache
    dst = sk.sk_dst
    if dst is not None:
        mtu = route.dst_mtu(dst)
        if mtu != sk.icsk_pmtu_cookie:
            mss_now = tcp_sync_mss(sk, mtu)
    key = md5.tcp_get_current_key(sk) if sk.md5sig_info is not None else None
    header_len = options.tcp_established_options(sk, None, None, key) + TCP_HEADER
    return mss_now - (header_len - sk.tcp_header_len)


# ---------------------------------------------------------------- MTU probes


@cited("net/ipv4/tcp_output.c:tcp_mtu_check_reprobe", "RFC 4821 7.7")
def tcp_mtu_check_reprobe(sk: Sock) -> None:
    """Searches again from the present MSS upwards after the interval."""
    net = sk.net
    mtup = sk.icsk_mtup
    if net.jiffies - mtup.probe_timestamp >= net.p.tcp_probe_interval * net.hz:
        mss = tcp_current_mss(sk)
        mtup.probe_size = 0
        mtup.search_high = sk.rx_opt.mss_clamp + TCP_HEADER + net_header_len(sk)
        mtup.search_low = tcp_mss_to_mtu(sk, mss)
        mtup.probe_timestamp = net.jiffies


@cited("net/ipv4/tcp_output.c:tcp_can_coalesce_send_queue_head")
def tcp_can_coalesce_send_queue_head(sk: Sock, length: int) -> bool:
    """The first `length` unsent bytes may stand in one skb."""
    skb = sk.sk_write_queue.head
    while skb is not None:
        if length <= skb.len:
            break
        following = skb.next
        if retransmit.tcp_has_tx_tstamp(skb) or following is None or not tcp_skb_can_collapse(skb, following):
            return False
        length -= skb.len
        skb = following
    return True


@cited("net/ipv4/tcp_output.c:tcp_clone_payload")
def tcp_clone_payload(sk: Sock, to: Skb, probe_size: int) -> bool:
    """`to` gets the first `probe_size` unsent bytes; False if they are too scattered. 6.1 copies them into its head."""
    if sk.net.p.kernel < 612:
        to.truesize = tx_skb_truesize(sk, probe_size)
        to.len += probe_size
        return sk_wmem_schedule(sk, to.truesize)
    if not sk_wmem_schedule(sk, to.truesize + probe_size):
        return False
    length = frags = 0
    for skb in sk.sk_write_queue:
        if length >= probe_size:
            break
        length += min(skb.len, probe_size - length)
        frags += skb.frags if not frags or skb.frag_at < 0 else max(skb.frags - 1, 0)
    if frags > MAX_SKB_FRAGS:
        return False
    to.frags = frags
    to.truesize += probe_size
    to.len += probe_size
    return True


@cited("net/ipv4/tcp_output.c:tcp_eat_one_skb")
def tcp_eat_one_skb(sk: Sock, dst: Skb, src: Skb) -> None:
    """All of `src` has gone into `dst`: so do its flags, and it is freed."""
    dst.tcp_flags |= src.tcp_flags
    dst.eor = src.eor
    retransmit.tcp_skb_collapse_tstamp(dst, src)
    sk.sk_write_queue.unlink(src)
    tcp_wmem_free_skb(sk, src)


@cited("net/ipv4/tcp_output.c:tcp_mtu_probe", "RFC 4821 7.2")
def tcp_mtu_probe(sk: Sock) -> int:
    """Sends a larger segment if it is time to: 1; 0: it should wait for room in the windows; -1: no probe."""
    mtup = sk.icsk_mtup
    if (
        not mtup.enabled
        or mtup.probe_size
        or sk.icsk_ca_state != CA.Open
        or sk.snd_cwnd < 11
        or sk.rx_opt.num_sacks
        or sk.rx_opt.dsack
    ):
        return -1
    mss_now = tcp_current_mss(sk)
    probe_size = tcp_mtu_to_mss(sk, (mtup.search_high + mtup.search_low) >> 1)
    size_needed = probe_size + (sk.reordering + 1) * sk.mss_cache
    interval = mtup.search_high - mtup.search_low
    if probe_size > tcp_mtu_to_mss(sk, mtup.search_high) or interval < sk.net.p.tcp_probe_threshold:
        tcp_mtu_check_reprobe(sk)
        return -1
    if (sk.write_seq - sk.snd_nxt) & M32 < size_needed or sk.snd_wnd < size_needed:
        return -1
    if after(add(sk.snd_nxt, size_needed), tcp_wnd_end(sk)):
        return 0
    in_flight = tcp_packets_in_flight(sk)
    if in_flight + 2 > sk.snd_cwnd:
        return 0 if in_flight else -1
    if not tcp_can_coalesce_send_queue_head(sk, probe_size):
        return -1
    nskb = sendmsg.tcp_stream_alloc_skb(sk, False)
    if not tcp_clone_payload(sk, nskb, probe_size):
        return -1
    sk.sk_wmem_queued += nskb.truesize
    sk_mem_charge(sk, nskb.truesize)
    skb = sk.sk_write_queue.head
    assert skb is not None
    nskb.seq = skb.seq
    nskb.end_seq = add(skb.seq, probe_size)
    nskb.tcp_flags = ACK
    sk.sk_write_queue.insert_before(skb, nskb)
    tcp_highest_sack_replace(sk, skb, nskb)
    length = 0
    following: Skb | None = skb
    while following is not None and length < probe_size:
        skb, following = following, following.next
        copy = min(skb.len, probe_size - length)
        if skb.len <= copy:
            tcp_eat_one_skb(sk, nskb, skb)
        else:
            nskb.tcp_flags |= skb.tcp_flags & ~(FIN | PSH)
            retransmit.__pskb_trim_head(skb, copy)
            retransmit.tcp_set_skb_tso_segs(skb, mss_now)
            skb.seq = add(skb.seq, copy)
        length += copy
    retransmit.tcp_init_tso_segs(nskb, nskb.len)
    sk.net.cause = "tcp_mtu_probe"
    sk.net.note("tcp_mtu_probe", f"{nskb.len} bytes")
    if transmit.tcp_transmit_skb(sk, nskb, True):
        return -1
    sk.snd_cwnd -= 1
    output.tcp_event_new_data_sent(sk, nskb)
    mtup.probe_size = tcp_mss_to_mtu(sk, nskb.len)
    sk.mtu_probe_seq_start = nskb.seq
    sk.mtu_probe_seq_end = nskb.end_seq
    return 1


from refmodel.tcp.whole import (  # noqa: E402
    md5,
    options,
    output,
    retransmit,
    route,
    sendmsg,
    transmit,
)
