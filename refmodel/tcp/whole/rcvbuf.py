"""The receive buffer: what arriving data costs, which window it leaves, and how fast it is acknowledged.

The law: memory is counted in truesize, never in payload; the window is the memory that is left, times the share of
payload that segments have shown (tcp_sock.scaling_ratio). The window only opens as far as segments have proved that
they use memory well (rcv_ssthresh), and the buffer grows with what the application reads within a round trip.
"""

from functools import lru_cache
from typing import Final

from refmodel.rule import cited
from refmodel.tcp import delack
from refmodel.tcp.whole import ack, ca, transmit
from refmodel.tcp.whole.const import (
    CA_EVENT_ECN_IS_CE,
    CA_EVENT_ECN_NO_CE,
    FIN,
    ICSK_ACK_PUSHED,
    ICSK_ACK_PUSHED2,
    ICSK_ACK_SCHED,
    MAX_SKB_FRAGS,
    MAX_TCP_HEADER,
    NET_SKB_PAD,
    PAGE_SIZE,
    PSH,
    SHARED_INFO_SIZE,
    SK_BUFF_SIZE,
    SKB_TRUESIZE,
    SYN,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_MODE_ACCECN,
    TCP_ECN_OK,
    TCP_ECN_SEEN,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TCP_RMEM_TO_WIN_SCALE,
    URG,
    skb_end_offset,
)
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import DISTRIBUTION, WholeParams
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.tcp_h import (
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
    options_size,
    sk_mem_charge,
    sk_mem_uncharge,
    tcp_hdrlen,
    tcp_stamp_us_delta,
    tcp_time_stamp_ts,
)
from refmodel.types import M32, add, before

SOCK_SNDBUF_LOCK: Final = 1
SOCK_RCVBUF_LOCK: Final = 2
SOCK_MIN_RCVBUF: Final = 2304
TCP_MAX_QUICKACKS: Final = 16
TCP_REMNANT: Final = FIN | URG | SYN | PSH
TCP_HEADER: Final = 20
I31: Final = 0x7FFFFFFF
COSTLY_ORDER: Final = 3
INET_ECN_MASK: Final = 3
INET_ECN_CE: Final = 3
TCP_MIN_GSO_SIZE: Final = 8


# ---------------------------------------------------------------- what an skb weighs (net/core/skbuff.c)


@lru_cache(maxsize=4096)
def tun_layout(len_ip_packet: int, kernel: int, max_header: int = DISTRIBUTION) -> tuple[int, int, int, int]:
    """An skb that tun makes of a packet: its truesize, head size, bytes in the head, fragments.

    Before 6.6 all of it is head. Source: drivers/net/tun.c:tun_get_user, tun_alloc_skb,
    net/core/skbuff.c:alloc_skb_with_frags.
    """
    linear = len_ip_packet
    if kernel >= 606 and NET_SKB_PAD + len_ip_packet >= PAGE_SIZE:
        linear = min(PAGE_SIZE - NET_SKB_PAD - SHARED_INFO_SIZE, len_ip_packet)
    end = skb_end_offset(NET_SKB_PAD + linear, kernel, max_header)
    truesize = SKB_TRUESIZE(end)
    left = len_ip_packet - linear
    frags = 0
    order = COSTLY_ORDER
    while left > 0:
        while order and -(-left // PAGE_SIZE) < 1 << order:
            order -= 1
        left -= min(left, PAGE_SIZE << order)
        truesize += PAGE_SIZE << order
        frags += 1
    return truesize, end, linear, frags


def tun_truesize(len_ip_packet: int, p: WholeParams) -> int:
    """The memory that a packet of so many bytes takes when it arrives through a tun device."""
    return tun_layout(len_ip_packet, p.kernel, p.max_header)[0]


@cited("drivers/net/tun.c:tun_get_user", "include/linux/virtio_net.h:virtio_net_hdr_to_skb")
def tun_skb(net: Net, skb: Skb) -> None:
    """Gives the skb of a packet that arrives its memory, and its segment size if it is a super-segment."""
    packet = skb.packet
    assert packet is not None
    options = options_size(packet.opts)
    headers = (40 if len(packet.saddr) == 4 else 60) + options
    p = net.p
    skb.tap = net.tap_rx
    truesize, end, head, frags = tun_layout(headers + packet.len, p.kernel, p.max_header)
    if packet.truesize and packet.truesize != truesize:
        truesize = packet.truesize
        end = max(truesize - SK_BUFF_SIZE - SHARED_INFO_SIZE, 0)
        head, frags = headers + packet.len, 0
    skb.truesize = truesize
    skb.end_offset = end
    skb.frags = frags
    skb.linear = head - headers if head > headers else 0
    room = end - NET_SKB_PAD - head
    skb.tailroom = room if room > 0 and not frags else 0
    if net.tun_mss:
        gso_size = max(net.tun_mss, TCP_MIN_GSO_SIZE)
        if packet.len + options > gso_size:
            skb.gso_size, skb.gso_segs = gso_size, 0
    elif packet.gso_size and packet.len > packet.gso_size:
        skb.gso_size, skb.gso_segs = packet.gso_size, packet.gso_segs


def skb_cloned(net: Net, skb: Skb) -> bool:
    """A packet socket on the device still holds a copy of it; source include/linux/skbuff.h:skb_cloned."""
    return net.tap and skb.tap > net.tap_read


@cited("net/core/skbuff.c:skb_try_coalesce")
def skb_try_coalesce(net: Net, to: Skb, frm: Skb) -> int:
    """Moves the payload of `frm` to the end of `to`; the memory that `to` gains, or -1 if that can't be.

    What fits behind `to` is copied. Otherwise only pages can move, and a head that isn't one stays where it is.
    """
    if skb_cloned(net, to):
        return -1
    n = frm.len
    if n <= to.tailroom:
        to.tailroom -= n
        to.linear += n
        to.len += n
        return 0
    if frm.linear or to.frags + frm.frags > MAX_SKB_FRAGS:
        return -1
    delta = frm.truesize - SKB_TRUESIZE(frm.end_offset)
    to.frags += frm.frags
    to.tailroom = 0
    to.truesize += delta
    to.len += n
    return delta


@cited("net/core/skbuff.c:skb_condense")
def skb_condense(net: Net, skb: Skb) -> None:
    """Counts the head alone where no pages are left."""
    if skb.frags:
        data_len = skb.len - skb.linear
        if data_len > skb.tailroom or skb_cloned(net, skb):
            return
        skb.frags = 0
        skb.linear = skb.len
        skb.tailroom -= data_len
    skb.truesize = SKB_TRUESIZE(skb.end_offset)


def skb_set_owner_r(skb: Skb, sk: Sock) -> None:
    """Charges a received skb to the socket; source include/net/sock.h:skb_set_owner_r."""
    sk.sk_rmem_alloc += skb.truesize
    sk_mem_charge(sk, skb.truesize)


def sock_rfree(skb: Skb, sk: Sock) -> None:
    """Frees a received skb that was charged to the socket; source net/core/sock.c:sock_rfree."""
    sk.sk_rmem_alloc -= skb.truesize
    sk_mem_uncharge(sk, skb.truesize)


# ---------------------------------------------------------------- memory and windows (include/net/tcp.h)


def tcp_win_from_space(sk: Sock, space: int) -> int:
    """The window that so much memory makes; source include/net/tcp.h:tcp_win_from_space.

    Before 6.6 the share is a sysctl, not measured.
    """
    if sk.net.p.kernel >= 606:
        return (space * sk.scaling_ratio) >> TCP_RMEM_TO_WIN_SCALE
    scale = sk.net.p.tcp_adv_win_scale
    return space >> -scale if scale <= 0 else space - (space >> scale)


def tcp_space_from_win(sk: Sock, win: int) -> int:
    """The memory that a window needs; source include/net/tcp.h:tcp_space_from_win."""
    return (win << TCP_RMEM_TO_WIN_SCALE) // sk.scaling_ratio


def tcp_space(sk: Sock) -> int:
    """The window that the free memory makes, negative if more is used; source include/net/tcp.h:tcp_space."""
    return tcp_win_from_space(sk, sk.sk_rcvbuf - sk.sk_rmem_alloc)


def tcp_full_space(sk: Sock) -> int:
    """The window that the whole buffer makes; source include/net/tcp.h:tcp_full_space."""
    return tcp_win_from_space(sk, sk.sk_rcvbuf)


def tcp_under_memory_pressure(sk: Sock) -> bool:
    """All of TCP uses too much memory: not modelled, so never; source include/net/tcp.h:tcp_under_memory_pressure."""
    return False


def tcp_adjust_rcv_ssthresh(sk: Sock) -> None:
    """Opens the window no further than four segments; source include/net/tcp.h:tcp_adjust_rcv_ssthresh."""
    sk.rcv_ssthresh = min(sk.rcv_ssthresh, 4 * sk.advmss)


@cited("net/ipv4/tcp_input.c:tcp_measure_rcv_mss", "RFC 9293 3.8.6.3")
def tcp_measure_rcv_mss(sk: Sock, skb: Skb) -> None:
    """Learns the peer's segment size, and how much of the memory that segments take is payload."""
    icsk_ack = sk.icsk_ack
    lss = icsk_ack.last_seg_size
    icsk_ack.last_seg_size = 0
    n = skb.gso_size or skb.len
    if n >= icsk_ack.rcv_mss:
        if n != icsk_ack.rcv_mss:
            if sk.net.p.kernel >= 606:
                old_ratio = sk.scaling_ratio
                sk.scaling_ratio = ((skb.len << TCP_RMEM_TO_WIN_SCALE) // skb.truesize) & 0xFF or 1
                if old_ratio != sk.scaling_ratio:
                    _clamp(sk, tcp_win_from_space(sk, sk.sk_rcvbuf))
                    if sk.window_clamp < sk.rcvq_space.space:
                        sk.rcvq_space.space = sk.window_clamp
            icsk_ack.rcv_mss = min(n, sk.advmss)
        else:
            icsk_ack.rcv_mss = min(n, sk.advmss)
        if skb.tcp_flags & PSH:
            icsk_ack.pending |= ICSK_ACK_PUSHED
        return
    packet = skb.packet
    assert packet is not None
    n += tcp_hdrlen(packet)
    if n >= TCP_MSS_DEFAULT + TCP_HEADER or (n >= TCP_MIN_MSS + TCP_HEADER and not packet.flags & TCP_REMNANT):
        n -= sk.tcp_header_len
        icsk_ack.last_seg_size = n
        if n == lss:
            icsk_ack.rcv_mss = n
            return
    if icsk_ack.pending & ICSK_ACK_PUSHED:
        icsk_ack.pending |= ICSK_ACK_PUSHED2
    icsk_ack.pending |= ICSK_ACK_PUSHED


def _clamp(sk: Sock, val: int) -> None:
    """A new upper bound of the window; since 6.16 what the window has reached is bounded too."""
    if sk.net.p.kernel >= 616:
        val = max(val, SOCK_MIN_RCVBUF // 2)
        if val < sk.window_clamp:
            sk.rcv_ssthresh = min(sk.rcv_ssthresh, val)
        elif val > sk.window_clamp:
            sk.rcv_ssthresh = max(min(sk.rcv_wnd, val), sk.rcv_ssthresh)
    sk.window_clamp = val


# ---------------------------------------------------------------- how eagerly to acknowledge


@cited("net/ipv4/tcp_input.c:tcp_incr_quickack")
def tcp_incr_quickack(sk: Sock, max_quickacks: int) -> None:
    """Acknowledges the next segments at once: as many as make half the window, two at least."""
    quickacks = (sk.rcv_wnd // (2 * sk.icsk_ack.rcv_mss) if sk.icsk_ack.rcv_mss else 0) or 2
    quickacks = min(quickacks, max_quickacks)
    sk.icsk_ack.quick = max(sk.icsk_ack.quick, quickacks)


@cited("net/ipv4/tcp_input.c:tcp_enter_quickack_mode")
def tcp_enter_quickack_mode(sk: Sock, max_quickacks: int) -> None:
    """Takes the session for a bulk transfer and acknowledges at once for a while."""
    tcp_incr_quickack(sk, max_quickacks)
    inet_csk_exit_pingpong_mode(sk)
    sk.icsk_ack.ato = sk.net.hz // 25


@cited("net/ipv4/tcp_input.c:tcp_in_quickack_mode")
def tcp_in_quickack_mode(sk: Sock) -> bool:
    """Every segment is acknowledged at once."""
    icsk_ack = sk.icsk_ack
    return icsk_ack.dst_quick_ack or (icsk_ack.quick != 0 and not inet_csk_in_pingpong_mode(sk))


@cited("net/ipv4/tcp_input.c:__tcp_ecn_check_ce", "RFC 3168 6.1.3", "RFC 8257 3.2")
def tcp_ecn_check_ce(sk: Sock, skb: Skb) -> None:
    """Reads the mark on data that arrives: a mark is to be echoed, and acknowledged quickly the first time."""
    if not sk.ecn_flags & (TCP_ECN_OK | TCP_ECN_MODE_ACCECN):
        return
    classic = sk.ecn_flags & TCP_ECN_OK
    ect = skb.ip_dsfield & INET_ECN_MASK
    if ect == 0:
        if sk.ecn_flags & TCP_ECN_SEEN:
            tcp_enter_quickack_mode(sk, 2)
        return
    if ect == INET_ECN_CE:
        if ca.tcp_ca_needs_ecn(sk):
            ca.tcp_ca_event(sk, CA_EVENT_ECN_IS_CE)
        if not sk.ecn_flags & TCP_ECN_DEMAND_CWR and classic:
            tcp_enter_quickack_mode(sk, 2)
            sk.ecn_flags |= TCP_ECN_DEMAND_CWR
    elif ca.tcp_ca_needs_ecn(sk):
        ca.tcp_ca_event(sk, CA_EVENT_ECN_NO_CE)
    if classic:
        sk.ecn_flags |= TCP_ECN_SEEN


def tcp_save_lrcv_flowlabel(sk: Sock, skb: Skb) -> None:
    """Remembers the flow label of the last data; source net/ipv4/tcp_input.c:tcp_save_lrcv_flowlabel."""
    packet = skb.packet
    if packet is not None and len(packet.saddr) != 4:
        sk.icsk_ack.lrcv_flowlabel = packet.flowlabel


@cited("net/ipv4/tcp_input.c:tcp_event_data_recv", "RFC 9293 3.8.6.3", "RFC 1122 4.2.3.2")
def tcp_event_data_recv(sk: Sock, skb: Skb) -> None:
    """Data arrived in order: measures it, tunes the delay of acknowledgments to its rhythm, and opens the window."""
    icsk_ack = sk.icsk_ack
    icsk_ack.pending |= ICSK_ACK_SCHED
    tcp_measure_rcv_mss(sk, skb)
    tcp_rcv_rtt_measure(sk)
    net = sk.net
    now = net.jiffies
    gap = now - icsk_ack.lrcvtime
    silent = gap > sk.icsk_rto and gap >= icsk_ack.ato and gap > delack.tcp_ato_min(net.hz) // 2
    if silent or not icsk_ack.ato:
        tcp_incr_quickack(sk, TCP_MAX_QUICKACKS)
    longest = delack.longest_ato(sk.icsk_rto, net.hz, net.p.kernel)
    icsk_ack.ato = delack.ato_after_data(icsk_ack.ato, gap, longest, net.hz)
    icsk_ack.lrcvtime = now
    tcp_save_lrcv_flowlabel(sk, skb)
    tcp_ecn_check_ce(sk, skb)
    if skb.len >= 128:
        tcp_grow_window(sk, skb, True)


# ---------------------------------------------------------------- the advertised window


@cited("net/ipv4/tcp_input.c:__tcp_grow_window")
def __tcp_grow_window(sk: Sock, skb: Skb, skbtruesize: int) -> int:
    """How much further the window may open if segments waste as much memory as this one."""
    truesize = tcp_win_from_space(sk, skbtruesize) >> 1
    window = tcp_win_from_space(sk, sk.net.p.tcp_rmem_2) >> 1
    while sk.rcv_ssthresh <= window:
        if truesize <= skb.len:
            return 2 * sk.icsk_ack.rcv_mss
        truesize >>= 1
        window >>= 1
    return 0


def truesize_adjust(adjust: bool, skb: Skb) -> int:
    """Memory without the head, if it holds no payload; source net/ipv4/tcp_input.c:truesize_adjust."""
    truesize = skb.truesize
    if adjust and skb.linear == 0:
        truesize -= SKB_TRUESIZE(skb.end_offset)
        if truesize < skb.len:
            truesize = skb.truesize
    return truesize


@cited("net/ipv4/tcp_input.c:tcp_grow_window")
def tcp_grow_window(sk: Sock, skb: Skb, adjust: bool) -> None:
    """Opens the window by two segments if such segments fit the buffer."""
    room = min(sk.window_clamp, tcp_space(sk)) - sk.rcv_ssthresh
    if room <= 0:
        return
    truesize = truesize_adjust(adjust, skb)
    if tcp_win_from_space(sk, truesize) <= skb.len:
        incr = 2 * sk.advmss
    else:
        incr = __tcp_grow_window(sk, skb, truesize)
    if incr:
        incr = max(incr, 2 * skb.len)
        sk.rcv_ssthresh += min(room, incr)
        sk.icsk_ack.quick |= 1


@cited("net/ipv4/tcp_input.c:tcp_init_buffer_space")
def tcp_init_buffer_space(sk: Sock) -> None:
    """Sets both buffers and the window's bounds as the connection is established."""
    tcp_app_win = sk.net.p.tcp_app_win
    if not sk.sk_userlocks & SOCK_SNDBUF_LOCK:
        ack.tcp_sndbuf_expand(sk)
    transmit.tcp_mstamp_refresh(sk)
    sk.rcvq_space.time = sk.tcp_mstamp
    sk.rcvq_space.seq = sk.copied_seq
    maxwin = tcp_full_space(sk)
    if sk.window_clamp >= maxwin:
        sk.window_clamp = maxwin
        if tcp_app_win and maxwin > 4 * sk.advmss:
            sk.window_clamp = max(maxwin - (maxwin >> tcp_app_win), 4 * sk.advmss)
    if tcp_app_win and sk.window_clamp > 2 * sk.advmss and sk.window_clamp + sk.advmss > maxwin:
        sk.window_clamp = max(2 * sk.advmss, maxwin - sk.advmss)
    sk.rcv_ssthresh = min(sk.rcv_ssthresh, sk.window_clamp)
    sk.snd_cwnd_stamp = sk.net.jiffies
    sk.rcvq_space.space = min(sk.rcv_ssthresh, sk.rcv_wnd, TCP_INIT_CWND * sk.advmss)


@cited("net/ipv4/tcp_input.c:tcp_clamp_window")
def tcp_clamp_window(sk: Sock) -> None:
    """The buffer is full: grows it to what it holds if it may, else closes the window to two segments."""
    sk.icsk_ack.quick = 0
    rmem2 = sk.net.p.tcp_rmem_2
    if sk.sk_rcvbuf < rmem2 and not sk.sk_userlocks & SOCK_RCVBUF_LOCK:
        sk.sk_rcvbuf = min(sk.sk_rmem_alloc, rmem2)
    if sk.sk_rmem_alloc > sk.sk_rcvbuf:
        sk.rcv_ssthresh = min(sk.window_clamp, 2 * sk.advmss)


@cited("net/ipv4/tcp_input.c:tcp_initialize_rcv_mss")
def tcp_initialize_rcv_mss(sk: Sock) -> None:
    """A cautious first guess of the peer's segment size."""
    hint = min(sk.advmss, sk.mss_cache)
    hint = min(hint, sk.rcv_wnd // 2)
    hint = min(hint, TCP_MSS_DEFAULT)
    sk.icsk_ack.rcv_mss = max(hint, TCP_MIN_MSS)


# ---------------------------------------------------------------- autotuning


@cited("net/ipv4/tcp_input.c:tcp_rcv_rtt_update")
def tcp_rcv_rtt_update(sk: Sock, sample: int, win_dep: bool) -> None:
    """Takes a sample (us) of the round trip as the receiver sees it: the least, or a mean of timestamps."""
    old_sample = sk.rcv_rtt_est.rtt_us
    m = sample << 3
    if old_sample == 0 or m < old_sample:
        new_sample = m
    elif win_dep:
        return
    else:
        new_sample = old_sample - (old_sample >> 3) + sample
    sk.rcv_rtt_est.rtt_us = new_sample


@cited("net/ipv4/tcp_input.c:tcp_rcv_rtt_measure")
def tcp_rcv_rtt_measure(sk: Sock) -> None:
    """Without timestamps a round trip is the time in which a whole window arrives."""
    est = sk.rcv_rtt_est
    if est.time != 0:
        if before(sk.rcv_nxt, est.seq):
            return
        tcp_rcv_rtt_update(sk, tcp_stamp_us_delta(sk.tcp_mstamp, est.time) or 1, True)
    est.seq = add(sk.rcv_nxt, sk.rcv_wnd)
    est.time = sk.tcp_mstamp


def tcp_rtt_tsopt_us(sk: Sock, min_delta: int) -> int:
    """The round trip that the echoed timestamp tells (us), -1 if none; source net/ipv4/tcp_input.c:tcp_rtt_tsopt_us."""
    delta = (tcp_time_stamp_ts(sk) - sk.rx_opt.rcv_tsecr) & M32
    if sk.tcp_usec_ts:
        return delta - (1 << 32) if delta > I31 else delta
    if delta < I31 // 1000:
        return (delta or min_delta) * 1000
    return -1


@cited("net/ipv4/tcp_input.c:tcp_rcv_rtt_measure_ts")
def tcp_rcv_rtt_measure_ts(sk: Sock, skb: Skb) -> None:
    """A full-sized segment that echoes a new timestamp is a sample of the receiver's round trip."""
    rx_opt = sk.rx_opt
    if rx_opt.rcv_tsecr == sk.rcv_rtt_last_tsecr:
        return
    sk.rcv_rtt_last_tsecr = rx_opt.rcv_tsecr
    if (skb.end_seq - skb.seq) & M32 >= sk.icsk_ack.rcv_mss:
        delta = tcp_rtt_tsopt_us(sk, 0 if sk.net.p.kernel >= 612 else 1)
        if delta > 0:
            tcp_rcv_rtt_update(sk, delta, False)


def tcp_rcvbuf_grow(sk: Sock, newval: int) -> None:
    """Since 6.16: makes room for what came in a round trip, what comes in the next, and what is out of order."""
    q, p = sk.rcvq_space, sk.net.p
    oldval = q.space
    q.space = newval
    if not p.tcp_moderate_rcvbuf or sk.sk_userlocks & SOCK_RCVBUF_LOCK:
        return
    rcvwin = newval << 1
    rcvwin += (rcvwin * (newval - oldval) // oldval) << 1
    last = sk.out_of_order_queue.tail
    if last is not None:
        rcvwin += (last.end_seq - sk.rcv_nxt) & M32
    rcvbuf = min(tcp_space_from_win(sk, rcvwin), p.tcp_rmem_2)
    if rcvbuf > sk.sk_rcvbuf:
        sk.sk_rcvbuf = rcvbuf
        sk.window_clamp = tcp_win_from_space(sk, rcvbuf)


@cited("net/ipv4/tcp_input.c:tcp_rcv_space_adjust")
def tcp_rcv_space_adjust(sk: Sock) -> None:
    """Once in a round trip: grows the receive buffer to what was read in it, with room for losses and slow start."""
    transmit.tcp_mstamp_refresh(sk)
    q = sk.rcvq_space
    rtt_us = sk.rcv_rtt_est.rtt_us
    if rtt_us == 0 or tcp_stamp_us_delta(sk.tcp_mstamp, q.time) < rtt_us >> 3:
        return
    p = sk.net.p
    copied = (sk.copied_seq - q.seq) & M32
    if p.kernel >= 612:
        copied -= (sk.rcv_nxt - sk.copied_seq) & M32
    if copied > q.space and p.kernel >= 618:
        tcp_rcvbuf_grow(sk, copied)
    elif copied > q.space:
        if p.tcp_moderate_rcvbuf and not sk.sk_userlocks & SOCK_RCVBUF_LOCK:
            rcvwin = (copied << 1) + 16 * sk.advmss
            grow = rcvwin * (copied - q.space) // q.space
            rcvwin += grow << 1
            if p.kernel >= 606:
                rcvbuf = min(tcp_space_from_win(sk, rcvwin), p.tcp_rmem_2)
            else:
                rcvmem = SKB_TRUESIZE(sk.advmss + MAX_TCP_HEADER(p.max_header))
                while tcp_win_from_space(sk, rcvmem) < sk.advmss:
                    rcvmem += 128
                rcvbuf = min(rcvwin // sk.advmss * rcvmem, p.tcp_rmem_2)
            if rcvbuf > sk.sk_rcvbuf:
                sk.net.note("tcp_rcv_space_adjust", f"read {copied} in a round trip: receive buffer {rcvbuf}")
                sk.sk_rcvbuf = rcvbuf
                sk.window_clamp = tcp_win_from_space(sk, rcvbuf)
        q.space = copied
    q.seq = sk.copied_seq
    q.time = sk.tcp_mstamp
