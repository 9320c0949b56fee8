"""The objects of a connection: sockets, buffers, packets, with the kernel's field names.

The law: times are us in `tcp_mstamp` and in skbs, jiffies in timers and in fields that the kernel keeps in jiffies
(named so), sequence numbers are in [0, 2**32). Payload has no content: a buffer is the range [seq, end_seq). Queues are
doubly linked, so that a step costs what it touches and never the length of a queue.
"""

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from refmodel.tcp.state import St
from refmodel.tcp.whole.const import (
    GSO_LEGACY_MAX_SIZE,
    MAX_TCP_HEADER,
    SK_PACING_NONE,
    TCP_DEFAULT_SCALING_RATIO,
    TCP_FASTRETRANS_THRESH,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MSS_DEFAULT,
)
from refmodel.tcp.whole.skb import OfoQueue, RtxQueue, SentQueue, Skb, SkbQueue

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net, Timer


class RxOpt:
    """struct tcp_options_received as a socket keeps it."""

    __slots__ = (
        "accecn",
        "dsack",
        "mss_clamp",
        "num_sacks",
        "rcv_tsecr",
        "rcv_tsval",
        "rcv_wscale",
        "sack_ok",
        "saw_tstamp",
        "snd_wscale",
        "ts_recent",
        "ts_recent_stamp",
        "tstamp_ok",
        "user_mss",
        "wscale_ok",
    )  # fmt: skip

    def __init__(self) -> None:
        self.accecn: tuple[int, tuple[int, ...]] | None = None  # order and counters of the segment at hand
        self.ts_recent_stamp = 0  # seconds
        self.ts_recent = 0
        self.rcv_tsval = 0
        self.rcv_tsecr = 0
        self.saw_tstamp = False
        self.tstamp_ok = False
        self.dsack = False
        self.wscale_ok = False
        self.sack_ok = 0  # TCP_SACK_SEEN 1, TCP_DSACK_SEEN 4
        self.snd_wscale = 0
        self.rcv_wscale = 0
        self.num_sacks = 0
        self.user_mss = 0
        self.mss_clamp = 0


class IcskAck:
    """icsk_ack: the acknowledgment that is owed (times in jiffies)."""

    __slots__ = (
        "ato", "dst_quick_ack", "last_seg_size", "lrcv_flowlabel", "lrcvtime", "pending", "pingpong", "quick",
        "rcv_mss", "retry", "timeout",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pending = 0
        self.quick = 0
        self.pingpong = 0
        self.retry = 0
        self.ato = 0
        self.dst_quick_ack = False
        self.timeout = 0
        self.lrcvtime = 0
        self.lrcv_flowlabel = 0
        self.last_seg_size = 0
        self.rcv_mss = 0


class IcskMtup:
    """icsk_mtup: the search for a larger MTU."""

    __slots__ = ("enabled", "probe_size", "probe_timestamp", "search_high", "search_low")

    def __init__(self) -> None:
        self.search_high = 0
        self.search_low = 0
        self.probe_size = 0
        self.enabled = False
        self.probe_timestamp = 0


class Rack:
    """tcp_sock.rack (times in us)."""

    __slots__ = (
        "advanced", "dsack_seen", "end_seq", "last_delivered", "mstamp", "reo_wnd_persist", "reo_wnd_steps", "rtt_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.mstamp = 0
        self.rtt_us = 0
        self.end_seq = 0
        self.last_delivered = 0
        self.reo_wnd_steps = 1
        self.reo_wnd_persist = 0
        self.dsack_seen = False
        self.advanced = False


class RcvRttEst:
    """tcp_sock.rcv_rtt_est (us, scaled by 8)."""

    __slots__ = ("rtt_us", "seq", "time")

    def __init__(self) -> None:
        self.rtt_us = 0
        self.seq = 0
        self.time = 0


class RcvqSpace:
    """tcp_sock.rcvq_space: what the application copied within the last round trip."""

    __slots__ = ("seq", "space", "time")

    def __init__(self) -> None:
        self.space = 0
        self.seq = 0
        self.time = 0


class CA(IntEnum):
    """icsk_ca_state (include/net/tcp.h)."""

    Open = 0
    Disorder = 1
    CWR = 2
    Recovery = 3
    Loss = 4


class MinMax:
    """struct minmax: a windowed minimum or maximum as three (time, value) samples, best first (lib/minmax.c)."""

    __slots__ = ("s",)

    def __init__(self) -> None:
        self.s = [(0, 0), (0, 0), (0, 0)]

    def get(self) -> int:
        """The best value in the window."""
        return self.s[0][1]

    def reset(self, t: int, v: int) -> int:
        """Forgets all samples but this one."""
        self.s = [(t, v)] * 3
        return v

    def running_max(self, win: int, t: int, v: int) -> int:
        """Takes a sample into the windowed maximum."""
        if v >= self.s[0][1] or ((t - self.s[2][0]) & 0xFFFFFFFF) > win:
            return self.reset(t, v)
        if v >= self.s[1][1]:
            self.s[2] = self.s[1] = (t, v)
        elif v >= self.s[2][1]:
            self.s[2] = (t, v)
        return self._subwin(win, t, v)

    def running_min(self, win: int, t: int, v: int) -> int:
        """Takes a sample into the windowed minimum."""
        if v <= self.s[0][1] or ((t - self.s[2][0]) & 0xFFFFFFFF) > win:
            return self.reset(t, v)
        if v <= self.s[1][1]:
            self.s[2] = self.s[1] = (t, v)
        elif v <= self.s[2][1]:
            self.s[2] = (t, v)
        return self._subwin(win, t, v)

    def _subwin(self, win: int, t: int, v: int) -> int:
        dt = (t - self.s[0][0]) & 0xFFFFFFFF
        if dt > win:
            self.s = [self.s[1], self.s[2], (t, v)]
            if ((t - self.s[0][0]) & 0xFFFFFFFF) > win:
                self.s = [self.s[1], self.s[2], (t, v)]
        elif self.s[1][0] == self.s[0][0] and dt > win // 4:
            self.s[2] = self.s[1] = (t, v)
        elif self.s[2][0] == self.s[1][0] and dt > win // 2:
            self.s[2] = (t, v)
        return self.s[0][1]


class RateSample:
    """struct rate_sample: how much was delivered over which time (us)."""

    __slots__ = (
        "acked_sacked", "delivered", "delivered_ce", "interval_us", "is_ack_delayed", "is_app_limited", "is_retrans",
        "last_end_seq", "losses", "prior_delivered", "prior_delivered_ce", "prior_in_flight", "prior_mstamp",
        "rcv_interval_us", "rtt_us", "snd_interval_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.prior_mstamp = 0
        self.prior_delivered = 0
        self.prior_delivered_ce = 0
        self.delivered = 0
        self.delivered_ce = 0
        self.interval_us = 0
        self.snd_interval_us = 0
        self.rcv_interval_us = 0
        self.rtt_us = 0
        self.losses = 0
        self.acked_sacked = 0
        self.prior_in_flight = 0
        self.last_end_seq = 0
        self.is_app_limited = False
        self.is_retrans = False
        self.is_ack_delayed = False


class SackBlock:
    """struct tcp_sack_block."""

    __slots__ = ("end_seq", "start_seq")

    def __init__(self, start_seq: int = 0, end_seq: int = 0) -> None:
        self.start_seq = start_seq
        self.end_seq = end_seq


class AckedSample:
    """struct ack_sample: what a congestion control's pkts_acked is told."""

    __slots__ = ("in_flight", "pkts_acked", "rtt_us")

    def __init__(self, pkts_acked: int, rtt_us: int, in_flight: int) -> None:
        self.pkts_acked = pkts_acked
        self.rtt_us = rtt_us
        self.in_flight = in_flight


class Dst:
    """A route as TCP sees it: struct dst_entry with its metrics (0: not set)."""

    __slots__ = (
        "advmss",
        "cc",
        "cwnd",
        "dev_mtu",
        "fastopen_no_cookie",
        "features",
        "hoplimit",
        "initcwnd",
        "initrwnd",
        "lock",
        "mtu",
        "mtu_locked",
        "net",
        "own",
        "pmtu",
        "pmtu_expires",
        "quickack",
        "reordering",
        "rto_min",
        "rtt",
        "rttvar",
        "ssthresh",
        "v6",
        "window",
    )  # fmt: skip

    def __init__(self, dev_mtu: int = 1500) -> None:
        self.dev_mtu = dev_mtu
        self.mtu = 0  # RTAX_MTU
        self.pmtu = 0  # learnt from ICMP
        self.pmtu_expires = 0  # jiffies
        self.advmss = 0  # RTAX_ADVMSS
        self.initcwnd = 0
        self.initrwnd = 0
        self.quickack = 0
        self.rto_min = 0  # us
        self.features = 0
        self.lock: set[str] = set()
        self.ssthresh = 0
        self.rtt = 0
        self.rttvar = 0
        self.cwnd = 0
        self.reordering = 0
        self.hoplimit = 0
        self.cc = ""
        self.window = 0
        self.fastopen_no_cookie = 0
        self.mtu_locked = False  # rt_mtu_locked: a learnt MTU below the minimum
        self.v6 = False
        self.own = False  # a copy of the default route for one peer
        self.net: Net | None = None


class InetSock:
    """struct sock, inet_sock and ipv6_pinfo, and the struct socket above: what sockets of every protocol have.

    Every field has the kernel's name; the unit is stated where the kernel's isn't bytes, segments or sequence numbers.
    """

    sk_type = 1
    sk_protocol = 6

    # What struct proto says of the protocol.

    def get_port(self, snum: int) -> int:
        """Binds the socket to a port, to any free one if `snum` is 0: 0, or -EADDRINUSE (sk_prot->get_port)."""
        raise NotImplementedError

    def write_space(self) -> None:
        """Room came into the send buffer (sk->sk_write_space)."""
        raise NotImplementedError

    def backlog_rcv(self, skb: Any) -> None:
        """Processes what arrived while the socket was held (sk->sk_backlog_rcv)."""
        raise NotImplementedError

    def release_cb(self) -> None:
        """Does what was left to do while the socket was held (sk_prot->release_cb)."""
        raise NotImplementedError

    def __init__(self, net: "Net", family: int) -> None:
        self.net = net
        # struct sock
        self.sk_family = family  # 2 or 10
        self.sk_state: St = St.CLOSE
        self.sk_shutdown = 0
        self.sk_err = 0
        self.sk_err_soft = 0
        self.sk_sndbuf = 0
        self.sk_rcvbuf = 0
        self.sk_userlocks = 0  # SOCK_SNDBUF_LOCK 1, SOCK_RCVBUF_LOCK 2
        self.sk_wmem_queued = 0
        self.sk_wmem_alloc = 0  # beyond the initial reference
        self.sk_rmem_alloc = 0
        self.sk_forward_alloc = 0
        self.sk_rcvlowat = 1
        self.sk_rcvtimeo = -1  # us; -1: for ever (MAX_SCHEDULE_TIMEOUT)
        self.sk_sndtimeo = -1
        self.sk_lingertime = 0  # us; -1: for ever
        self.sk_max_ack_backlog = 0
        self.sk_ack_backlog = 0
        self.sk_pacing_rate = 0xFFFFFFFFFFFFFFFF  # bytes a second
        self.sk_max_pacing_rate = 0xFFFFFFFFFFFFFFFF
        self.sk_pacing_status = SK_PACING_NONE
        self.sk_pacing_shift = 10
        self.sk_priority = 0
        self.sk_mark = 0
        self.sk_gso_max_size = GSO_LEGACY_MAX_SIZE - (MAX_TCP_HEADER(net.p.max_header) + 1)
        self.sk_gso_max_segs = 65535
        self.sk_drops = 0
        self.sk_omem_alloc = 0
        self.sk_reserved_mem = 0
        self.sk_bind_phc = 0
        self.sk_tsflags = 0
        self.sk_tskey = 0
        self.sk_txhash = 1
        self.sk_txrehash = net.p.txrehash
        self.sk_zckey = 0
        self.sk_user_frags = 0
        self.sk_wq: list[Any] = []  # refmodel.tcp.whole.poll.WaitEntry, in the order in which they are woken
        self.sk_disconnects = 0
        self.sk_peek_off = -1
        self.sk_flags: set[str] = (
            set()
        )  # SOCK_DEAD, SOCK_DONE, SOCK_KEEPOPEN, SOCK_LINGER, SOCK_URGINLINE, SOCK_ZEROCOPY ...
        self.sk_nospace = False  # SOCK_NOSPACE of the socket's flags
        self.sk_write_pending = 0
        self.sk_reuse = 0
        self.sk_reuseport = 0
        self.sk_ipv6only = False
        self.sk_bound = False  # SOCK_BINDPORT_LOCK or bind() done
        self.sk_dst: Dst | None = None
        self.sk_hash: tuple[bytes, int, bytes, int] | None = None  # its key in ehash; (b"", 0, b"", 0) of a listener
        self.local_port_range: tuple[int, int] | None = None  # IP_LOCAL_PORT_RANGE
        self.min_ttl = 0
        self.min_hopcount = 0
        self.sk_error_queue: deque[Any] = deque()
        self.sk_backlog: deque[Any] = deque()
        self.sk_owned = False  # an application holds the socket
        self.sk_tsq_flags: set[str] = set()
        # struct socket
        self.ss_state = 1  # SS_UNCONNECTED 1, SS_CONNECTING 2, SS_CONNECTED 3
        self.has_socket = True  # a struct socket stands above (children before accept have none)
        # inet_sock
        self.inet_saddr = b""
        self.inet_daddr = b""
        self.inet_rcv_saddr = b""
        self.inet_sport = 0
        self.inet_num = 0
        self.inet_dport = 0
        self.inet_tos = 0
        self.inet_rcv_tos = 0
        self.inet_ttl = -1
        self.inet_id = 0
        self.pmtudisc = 1  # IP_PMTUDISC_WANT
        self.recverr = False
        self.recverr6 = False  # IPV6_RECVERR
        self.np_pmtudisc = 1  # IPV6_MTU_DISCOVER
        self.hop_limit = -1  # IPV6_UNICAST_HOPS
        self.inet_opts: dict[str, int] = {}  # options that are kept for getsockopt() and control messages only
        self.recvtos = False
        self.recvttl = False
        self.tclass = 0
        self.mapped = False  # AF_INET6 that talks IPv4
        self.defer_connect = False


class Sock(InetSock):
    """inet_connection_sock and tcp_sock on top of it: one full socket of TCP.

    One object stands for all of them; `sk.icsk_ack` and the like are objects of their own.
    """

    def get_port(self, snum: int) -> int:
        """Source net/ipv4/inet_connection_sock.c:inet_csk_get_port."""
        from refmodel.tcp.whole import bind

        return bind.inet_csk_get_port(self, snum)

    def write_space(self) -> None:
        """Source net/core/stream.c:sk_stream_write_space."""
        from refmodel.tcp.whole import poll

        poll.sk_write_space(self)

    def backlog_rcv(self, skb: Any) -> None:
        """Source net/ipv4/tcp_ipv4.c:tcp_v4_do_rcv."""
        from refmodel.tcp.whole import ipv4

        ipv4.tcp_v4_do_rcv(self, skb)

    def release_cb(self) -> None:
        """Source net/ipv4/tcp_output.c:tcp_release_cb."""
        from refmodel.tcp.whole import transmit

        transmit.tcp_release_cb(self)

    def __init__(self, net: "Net", family: int) -> None:
        super().__init__(net, family)
        self.icsk_bind_hash: Any = None  # refmodel.tcp.whole.bind.InetBindBucket
        self.sk_receive_queue = SkbQueue()
        self.sk_write_queue = SkbQueue()
        self.tcp_rtx_queue = RtxQueue()
        # inet_connection_sock
        self.icsk_rto = 0  # jiffies
        self.icsk_rto_min = 0  # jiffies
        self.icsk_delack_max = 0  # jiffies
        self.icsk_pmtu_cookie = 0
        self.icsk_ca_ops: Any = None  # refmodel.tcp.whole.ca.CongestionOps
        self.icsk_ca_priv: Any = None
        self.icsk_ca_state: CA = CA.Open
        self.icsk_ca_initialized = False
        self.icsk_ca_setsockopt = False
        self.icsk_ca_dst_locked = False
        self.icsk_retransmits = 0
        self.icsk_pending = 0
        self.icsk_timeout = 0  # jiffies
        self.icsk_backoff = 0
        self.icsk_syn_retries = 0
        self.icsk_probes_out = 0
        self.icsk_ext_hdr_len = 0
        self.icsk_ack = IcskAck()
        self.icsk_mtup = IcskMtup()
        self.icsk_probes_tstamp = 0  # jiffies
        self.icsk_user_timeout = 0  # ms
        self.icsk_retransmit_timer: Timer
        self.icsk_delack_timer: Timer
        self.sk_timer: Timer
        self.pacing_timer: Timer
        self.compressed_ack_timer: Timer
        # the listener's icsk_accept_queue
        self.accept_queue: deque[Any] = deque()  # children that wait, in order
        self.requests: dict[tuple[bytes, int, bytes, int], Any] = {}  # (saddr, sport, daddr, dport) of the peer's SYN
        self.qlen = 0
        self.young = 0
        self.rskq_defer_accept = 0
        self.synflood_warned = False
        self.fastopenq_max_qlen = 0
        self.fastopenq_qlen = 0
        self.fastopenq_rskq_rst: deque[Any] = deque()
        self.fastopenq_ctx: Any = None  # a socket's own keys
        # tcp_sock
        self.max_window = 0
        self.rcv_ssthresh = 0
        self.reordering = TCP_FASTRETRANS_THRESH
        self.notsent_lowat = 0
        self.gso_segs = 0
        self.lost_skb_hint: Skb | None = None
        self.retransmit_skb_hint: Skb | None = None
        self.tsoffset = 0
        self.snd_wnd = 0
        self.mss_cache = TCP_MSS_DEFAULT
        self.snd_cwnd = TCP_INIT_CWND
        self.prr_out = 0
        self.lost_out = 0
        self.sacked_out = 0
        self.tcp_header_len = 20
        self.scaling_ratio = TCP_DEFAULT_SCALING_RATIO
        self.chrono_type = 0
        self.repair = False
        self.repair_queue = 0  # TCP_NO_QUEUE 0, TCP_RECV_QUEUE 1, TCP_SEND_QUEUE 2
        self.tcp_usec_ts = False
        self.is_sack_reneg = False
        self.is_cwnd_limited = False
        self.copied_seq = 0
        self.rcv_tstamp = 0  # jiffies
        self.snd_wl1 = 0
        self.tlp_high_seq = 0
        self.rttvar_us = 0
        self.retrans_out = 0
        self.advmss = 0
        self.urg_data = 0
        self.lost = 0
        self.rtt_min = MinMax()  # us, time in jiffies
        self.out_of_order_queue = OfoQueue()
        self.snd_ssthresh = TCP_INFINITE_SSTHRESH
        self.recvmsg_inq = False
        self.segs_out = 0
        self.data_segs_out = 0
        self.bytes_sent = 0
        self.snd_sml = 0
        self.chrono_start = 0  # jiffies
        self.chrono_stat = [0, 0, 0]
        self.write_seq = 0
        self.pushed_seq = 0
        self.lsndtime = 0  # jiffies
        self.mdev_us = 0
        self.rtt_seq = 0
        self.tcp_wstamp_ns = 0
        self.tsorted_sent_queue = SentQueue()
        self.highest_sack: Skb | None = None
        self.ecn_flags = 0
        self.received_ce = 0
        self.received_ce_pending = 0
        self.received_ecn_bytes = [0, 0, 0]  # by ECN field: ECT(1), ECT(0), CE
        self.delivered_ecn_bytes = [0, 0, 0]
        self.accecn_minlen = 0
        self.est_ecnfield = 0
        self.accecn_opt_demand = 0
        self.accecn_opt_sent_w_dsack = False
        self.accecn_opt_tstamp = 0
        self.prev_ecnfield = 0
        self.syn_ect_snt = 0
        self.syn_ect_rcv = 0
        self.saw_accecn_opt = 0
        self.accecn_fail_mode = 0
        self.pkts_acked_ewma = 0
        self.nonagle = 0
        self.rate_app_limited = False
        self.pred_flags: tuple[Any, ...] | None = None
        self.tcp_clock_cache = 0  # ns
        self.tcp_mstamp = 0  # us
        self.rcv_nxt = 0
        self.snd_nxt = 0
        self.snd_una = 0
        self.window_clamp = 0
        self.srtt_us = 0  # scaled by 8
        self.packets_out = 0
        self.snd_up = 0
        self.delivered = 0
        self.delivered_ce = 0
        self.app_limited = 0
        self.rcv_wnd = 0
        self.rx_opt = RxOpt()
        self.bytes_received = 0
        self.segs_in = 0
        self.data_segs_in = 0
        self.rcv_wup = 0
        self.max_packets_out = 0
        self.cwnd_usage_seq = 0
        self.rate_delivered = 0
        self.rate_interval_us = 0
        self.rcv_rtt_last_tsecr = 0
        self.first_tx_mstamp = 0
        self.delivered_mstamp = 0
        self.bytes_acked = 0
        self.rcv_rtt_est = RcvRttEst()
        self.rcvq_space = RcvqSpace()
        self.dsack_dups = 0
        self.compressed_ack_rcv_nxt = 0
        self.rack = Rack()
        self.compressed_ack = 0
        self.dup_ack_counter = 0
        self.tlp_retrans = False
        self.thin_lto = False
        self.fastopen_connect = False
        self.fastopen_no_cookie = False
        self.fastopen_client_fail = 0
        self.frto = False
        self.save_syn = 0
        self.syn_data = False
        self.syn_fastopen = False
        self.syn_fastopen_exp = False
        self.syn_fastopen_ch = False
        self.syn_fastopen_child = False
        self.syn_data_acked = False
        self.keepalive_probes = 0
        self.mdev_max_us = 0
        self.reord_seen = 0
        self.snd_cwnd_cnt = 0
        self.snd_cwnd_clamp = 0xFFFFFFFF
        self.snd_cwnd_used = 0
        self.snd_cwnd_stamp = 0  # jiffies
        self.prior_cwnd = 0
        self.prr_delivered = 0
        self.last_oow_ack_time = 0  # jiffies
        self.ooo_last_skb: Skb | None = None
        self.duplicate_sack: list[SackBlock] = [SackBlock()]
        self.selective_acks: list[SackBlock] = [SackBlock() for _ in range(4)]
        self.recv_sack_cache: list[SackBlock] = [SackBlock() for _ in range(4)]
        self.lost_cnt_hint = 0
        self.prior_ssthresh = 0
        self.high_seq = 0
        self.retrans_stamp = 0  # in the units of tcp_time_stamp_ts: ms
        self.undo_marker = 0
        self.undo_retrans = 0
        self.bytes_retrans = 0
        self.total_retrans = 0
        self.rto_stamp = 0  # ms
        self.total_rto = 0
        self.total_rto_recoveries = 0
        self.total_rto_time = 0  # ms
        self.urg_seq = 0
        self.keepalive_time = 0  # jiffies; 0: the sysctl
        self.keepalive_intvl = 0  # jiffies; 0: the sysctl
        self.linger2 = 0  # jiffies; -1: none
        self.timeout_rehash = 0
        self.plb_rehash = 0
        self.tcp_tx_delay = 0  # us
        self.rcv_ooopack = 0
        self.mtu_probe_seq_start = 0
        self.mtu_probe_seq_end = 0
        self.mtu_info = 0
        self.md5sig_info: Any = None
        self.fastopen_req: Any = None
        self.fastopen_rsk: Any = None
        self.saved_syn: bytes | None = None
        net.init_timers(self)


class RequestSock:
    """A half-open passive connection: struct request_sock, inet_request_sock and tcp_request_sock."""

    def __init__(self, net: "Net", listener: Sock) -> None:
        self.net = net
        self.sk_state: St = St.NEW_SYN_RECV
        self.rsk_listener = listener
        self.sk: Sock | None = None  # the child of a fast open
        self.ir_loc_addr = b""
        self.ir_rmt_addr = b""
        self.ir_num = 0
        self.ir_rmt_port = 0
        self.ireq_family = listener.sk_family
        self.mss = 0
        self.num_retrans = 0
        self.num_timeout = 0
        self.syncookie = False
        self.timeout = 0  # jiffies
        self.ts_recent = 0
        self.rsk_timer: Timer
        self.saved_syn: bytes | None = None
        self.sk_hash: tuple[bytes, int, bytes, int] | None = None
        self.expires = 0  # jiffies: rsk_timer.expires of a fast open's request, whose timer never runs
        self.snd_wscale = 0
        self.rcv_wscale = 0
        self.tstamp_ok = False
        self.sack_ok = False
        self.wscale_ok = False
        self.ecn_ok = False
        self.accecn_ok = False
        self.saw_accecn_opt = 0
        self.accecn_fail_mode = 0
        self.syn_ect_rcv = 0
        self.syn_ect_snt = 0
        self.acked = False
        self.tfo_listener = False
        self.ir_mark = 0
        self.txhash = 1
        self.rcv_isn = 0
        self.snt_isn = 0
        self.ts_off = 0
        self.snt_synack = 0  # us; 0: none
        self.last_oow_ack_time = 0  # jiffies
        self.rcv_nxt = 0
        self.syn_tos = 0
        self.rsk_rcv_wnd = 0
        self.rsk_window_clamp = 0
        self.req_usec_ts = False
        self.used_md5_key: bytes | None = None
        self.flowlabel = 0


class TimewaitSock:
    """What is left of a connection: struct inet_timewait_sock and tcp_timewait_sock."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.sk_family = 0
        self.sk_state: St = St.TIME_WAIT
        self.tw_substate: St = St.TIME_WAIT
        self.tw_daddr = b""
        self.tw_rcv_saddr = b""
        self.tw_num = 0
        self.tw_dport = 0
        self.tw_reuse = 0
        self.tw_ipv6only = False
        self.tw_tos = 0
        self.tw_mark = 0
        self.tw_priority = 0
        self.tw_txhash = 0
        self.tw_rcv_wscale = 0
        self.tw_rcv_nxt = 0
        self.tw_snd_nxt = 0
        self.tw_rcv_wnd = 0
        self.tw_ts_offset = 0
        self.tw_ts_recent = 0
        self.tw_ts_recent_stamp = 0  # seconds
        self.tw_last_oow_ack_time = 0  # jiffies
        self.tw_entry_stamp = 0
        self.tw_md5_key: Any = None
        self.tw_reuseport = 0
        self.tw_flowlabel = 0
        self.tw_usec_ts = False
        self.tw_tb: Any = None  # refmodel.tcp.whole.bind.InetBindBucket
        self.sk_hash: tuple[bytes, int, bytes, int] | None = None
        self.tw_timer: Timer
