"""A network namespace: its clock, timers, sysctls, counters and sockets.

The law: time moves only when the host's driver moves it, to the next timer or the next event. Timers fire in the order
of their expiry. A jiffy timer is armed for a jiffy and fires when the timer wheel would run it: never early, late by
the granularity of its level (kernel/time/timer.c:calc_wheel_index). Where several are due at once, the wheel goes from
its coarsest level to its finest, and within one from the timer armed last to the one armed first (expire_timers). An
hrtimer fires at its microsecond, behind the wheel's, and in the order of arming.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec.structs import replace

from refmodel.profile import OutOfRange, UnknownSysctl
from refmodel.tcp.whole.const import (
    ICSK_ACK_TIMER,
    ICSK_TIME_DACK,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
)
from refmodel.tcp.whole.params import INERT, WholeParams, sysctl_fields, upper_limit
from refmodel.tcp.whole.skb import IcmpError, Packet
from refmodel.tcp.whole.sock import Dst, RequestSock, Sock, TimewaitSock
from refmodel.tcp.whole.tcp_h import tcp_pacing_delay

if TYPE_CHECKING:
    from refmodel.tcp.whole.bind import InetBindBucket
    from refmodel.tcp.whole.capability import Cred

BOOT: Final = 1_000_000_250  # us: the clock when a namespace begins, a little behind a tick as packetdrill starts
USEC_PER_SEC: Final = 1_000_000
LVL_START: Final = (0, 63, 504, 4032, 32256, 258048, 2064384)  # jiffies from which a level of the wheel is used
HR: Final = -1  # the level of an hrtimer
TURNS: Final = 1 << 48  # of the wheel's timers that are due at once the last armed goes first, on the coarsest level
TRACE_LENGTH: Final = 200


class Timer:
    """A kernel timer: `expires` is when it will fire (us), None while idle, `jiffy` what it was armed for."""

    __slots__ = ("expires", "fn", "jiffy", "level", "name", "net", "sk", "token")

    def __init__(self, net: "Net", name: str, fn: Callable[[Any], None], sk: Any) -> None:
        self.net = net
        self.name = name
        self.fn = fn
        self.sk = sk
        self.expires: int | None = None
        self.jiffy = 0
        self.level = HR
        self.token = 0

    @property
    def pending(self) -> bool:
        """It is armed."""
        return self.expires is not None

    def mod(self, jiffy: int) -> None:
        """Arms it for a jiffy (mod_timer)."""
        self.jiffy = jiffy
        self.net.arm(self, *self.net.wheel_us(jiffy))

    def start_us(self, when: int) -> None:
        """Arms it for a moment in us (hrtimer_start)."""
        self.net.arm(self, max(when, self.net.now))

    def stop(self) -> None:
        """Disarms it (timer_delete, hrtimer_cancel)."""
        self.expires = None


class Wait:
    """A blocked system call: it goes on when `ready()` holds, or after `timeout` us (None: never).

    A call is a generator; ``held = yield Wait(...)`` is True when the condition holds, False when time is over. The
    time-out is a jiffy timer, or an hrtimer if `hr`.
    """

    __slots__ = ("hr", "ready", "timeout")

    def __init__(self, ready: Callable[[], bool], timeout: int | None, hr: bool = False) -> None:
        self.ready = ready
        self.timeout = timeout
        self.hr = hr


class Below(Protocol):
    """The layers below the transport protocols, of a host that has them; without them what is sent leaves at once."""

    def route(self, daddr: bytes, dst: Dst) -> None:
        """Fills in what the routing tables say of the way to `daddr`."""

    def route_error(self, daddr: bytes) -> int:
        """0, or the negative errno of a way that refuses."""

    def source_address(self, daddr: bytes) -> bytes:
        """The address that routing chooses for packets to `daddr`."""

    def send_datagram(self, sk: Any, packet: Any, mtu: int) -> int:
        """A refmodel.udp.sock.Datagram leaves, cut where it is larger than `mtu`: 0, or a negative errno."""

    def datagram_read(self, payload: bytes) -> None:
        """An application has just read this of a datagram."""

    def port_unreachable(self) -> None:
        """The datagram that came in last finds no socket: its sender is told."""


class Net:
    """One network namespace, which is one host.

    `out` are packets of any protocol that left and nobody has taken yet. `mib` counts by the names of /proc/net/snmp,
    snmp6 and netstat, as TcpExtTCPTimeouts. `trace` are the last decisions as (us, function, detail).
    """

    def __init__(self, params: WholeParams | None = None, wheel: bool = True) -> None:
        self.p = params if params is not None else WholeParams()
        self.hz = self.p.hz
        self.wheel = wheel
        self.now = BOOT
        self.mib: Counter[str] = Counter()
        self.out: deque[Any] = deque()  # Packet, refmodel.udp.sock.Datagram, refmodel.icmp.message.Message
        self.trace: deque[tuple[int, str, str]] = deque(maxlen=TRACE_LENGTH)
        self.tcp_congestion_control = "cubic"
        self.tcp_allowed_congestion_control = frozenset({"reno", "cubic"})
        self.default_qdisc = "pfifo_fast"
        self.hystart_detect = 3  # module parameter of tcp_cubic
        self.ehash: dict[tuple[bytes, int, bytes, int], Sock | RequestSock | TimewaitSock] = {}
        self.lhash: dict[int, list[Sock]] = {}
        self.bhash: dict[int, InetBindBucket] = {}
        self.udp_table: dict[int, list[Any]] = {}  # refmodel.udp.sock.UdpSock by port, in the order of a search
        self.peers: dict[bytes, Any] = {}  # refmodel.icmp.send.InetPeer
        self.icmp_global_credit = 0
        self.icmp_global_stamp = 0  # jiffies
        self.dst: dict[bytes, Dst] = {}  # by peer's address
        self.default_dst = Dst()
        self.local_addrs: list[bytes] = []
        self.tcp_metrics: dict[tuple[bytes, bytes], Any] = {}
        self.fastopen_ctx: Any = None
        self.tfo_active_disable_times = 0
        self.tfo_active_disable_stamp = 0  # jiffies
        self.challenge_timestamp = 0
        self.challenge_count = 0
        self.tw_count = 0
        self.orphan_count = 0
        self.orphan_cache = 0  # what it was when it was last counted
        self.orphan_period = 0
        self.tun_mss = 0  # --mss: gso_size of packets that arrive
        self.tap = False  # a packet socket listens on the device, as packetdrill's does
        self.tap_rx = 0  # how many packets have arrived
        self.tap_read = 0  # up to which of them the packet socket has been read
        self.gso_enabled = True  # the device takes super-segments
        self.below: Below | None = None
        self.qdisc: Any = None  # refmodel.tcp.whole.fq, or None: what is sent leaves at once
        self.next_port = 32768
        self.task_frag = 0  # how many bytes of page frags (32768 a page) the task has used
        self.current: Cred | None = None  # of the process whose call runs; None: the kernel's own
        self.cause = ""  # the function that decided to send what is about to leave
        self.seed = 0x9E3779B9
        self.net_secret = bytes(range(16))  # keys of ISN, timestamp offset, ports and SYN cookies
        self.table_perturb: dict[int, int] = {}
        self.synq_overflow_ts: dict[int, int] = {}  # of a reuseport group, by its port (jiffies)
        self.tcp_md5_needed = False
        self.tcp_memory_pressure = False
        from refmodel.tcp.whole import ipv4

        self._ipv4 = ipv4
        self._heap: list[tuple[int, int, Timer]] = []
        self._tokens = 0
        self._jiffy_us = USEC_PER_SEC // self.hz

    # Time

    @property
    def jiffies(self) -> int:
        """The tick that it is."""
        return self.now * self.hz // USEC_PER_SEC

    @property
    def secs(self) -> int:
        """Whole seconds (ktime_get_seconds)."""
        return self.now // USEC_PER_SEC

    def usecs_to_jiffies(self, us: int) -> int:
        """Rounded up; source kernel/time/time.c:usecs_to_jiffies."""
        return -(-us * self.hz // USEC_PER_SEC)

    def msecs_to_jiffies(self, ms: int) -> int:
        """Rounded up; source kernel/time/time.c:msecs_to_jiffies."""
        return -(-ms * self.hz // 1000)

    def jiffies_to_usecs(self, j: int) -> int:
        """Source kernel/time/time.c:jiffies_to_usecs."""
        return j * USEC_PER_SEC // self.hz

    def jiffies_to_msecs(self, j: int) -> int:
        """Source kernel/time/time.c:jiffies_to_msecs."""
        return j * 1000 // self.hz

    def wheel_us(self, jiffy: int) -> tuple[int, int]:
        """When a timer that is armed now for `jiffy` fires (us), and its level of the wheel.

        Source kernel/time/timer.c:calc_wheel_index.
        """
        clk = self.jiffies
        if not self.wheel:
            return (jiffy * USEC_PER_SEC // self.hz if jiffy > clk else self.now), HR
        delta = jiffy - clk
        if delta < 0:
            return (clk + 1) * USEC_PER_SEC // self.hz, 0
        level = 0
        while level + 1 < len(LVL_START) and delta >= LVL_START[level + 1]:
            level += 1
        shift = 3 * level
        return (((jiffy >> shift) + 1) << shift) * USEC_PER_SEC // self.hz, level

    # Timers

    def init_timers(self, sk: Sock) -> None:
        """A socket's five timers; source net/ipv4/tcp_timer.c:tcp_init_xmit_timers."""
        from refmodel.tcp.whole import timer

        sk.icsk_retransmit_timer = Timer(self, "retrans", timer.tcp_write_timer, sk)
        sk.icsk_delack_timer = Timer(self, "delack", timer.tcp_delack_timer, sk)
        sk.sk_timer = Timer(self, "keepalive", timer.tcp_keepalive_timer, sk)
        sk.pacing_timer = Timer(self, "pacing", timer.tcp_pace_kick, sk)
        sk.compressed_ack_timer = Timer(self, "compressed_ack", timer.tcp_compressed_ack_kick, sk)

    def arm(self, timer: Timer, when: int, level: int = HR) -> None:
        """Arms `timer` for `when` (us), on a level of the wheel; in the bucket where it is already it stays put."""
        if timer.expires == when and timer.level == level:
            return
        self._tokens += 1
        timer.expires = when
        timer.level = level
        timer.token = self._tokens if level == HR else -level * TURNS - self._tokens
        heapq.heappush(self._heap, (when, timer.token, timer))

    def next_timer(self) -> int | None:
        """When the next timer fires (us), None if none is pending."""
        heap = self._heap
        while heap:
            when, token, timer = heap[0]
            if timer.expires == when and timer.token == token:
                return when
            heapq.heappop(heap)
        return None

    def advance(self, until: int) -> None:
        """Lets time pass to `until` (us), firing what is due on the way."""
        while (when := self.next_timer()) is not None and when <= until:
            self.fire()
        self.now = max(self.now, until)

    def fire(self) -> Timer:
        """Lets time pass to the next timer and fires it; raises IndexError if none is pending."""
        self.next_timer()
        when, _, timer = heapq.heappop(self._heap)
        self.now = max(self.now, when)
        timer.expires = None
        timer.fn(timer.sk)
        return timer

    # Sysctls, counters, reasons

    def sysctl(self, name: str, value: str) -> None:
        """Writes a sysctl as its file would take it; raises UnknownSysctl, OutOfRange."""
        fields = sysctl_fields()
        if name in INERT:
            return
        if name == "net.ipv4.tcp_congestion_control":
            from refmodel.tcp.whole import ca

            if ca.tcp_set_default_congestion_control(self, value.strip()):
                raise OutOfRange(f"{name} = {value}: no such algorithm")
            return
        if name == "net.ipv4.tcp_allowed_congestion_control":
            self.tcp_allowed_congestion_control = frozenset(value.split())
            return
        if name == "net.core.default_qdisc":
            self.default_qdisc = value.strip()
            return
        if name == "net.ipv4.tcp_fastopen_key":
            from refmodel.tcp.whole import fastopen

            fastopen.set_sysctl_key(self, value.strip())
            return
        parts = value.split()
        names = [f"{name}[{i}]" for i in range(len(parts))] if f"{name}[0]" in fields else [name]
        for n, v in zip(names, parts, strict=False):
            if n not in fields:
                raise UnknownSysctl(f"no function of the model reads {n}")
            field, s = fields[n]
            number = int(v, 0)
            if not s.min <= number <= upper_limit(self.p.kernel, n, s.max):
                raise OutOfRange(f"{n} = {number}: the kernel takes {s.min} to {upper_limit(self.p.kernel, n, s.max)}")
            self.p = replace(self.p, **{field: number})
        if name == "net.ipv4.tcp_fastopen_blackhole_timeout_sec":
            self.tfo_active_disable_times = 0

    def count(self, name: str, n: int = 1) -> None:
        """Adds to a MIB counter (NET_INC_STATS, TCP_INC_STATS), by its name in /proc: TcpExtTCPTimeouts."""
        self.mib[name] += n

    def note(self, fn: str, detail: str = "") -> None:
        """Remembers a decision and the function that took it, for whoever asks why."""
        self.trace.append((self.now, fn, detail))

    def random(self) -> int:
        """The next of a fixed series of 32-bit numbers: the model's get_random_u32."""
        self.seed = (self.seed * 1664525 + 1013904223) & 0xFFFFFFFF
        return self.seed

    # The way out

    def xmit(self, packet: Any) -> int:
        """Hands a packet to the device, through the queueing discipline if there is one: 0, or a NET_XMIT code."""
        packet.time = self.now
        packet.tap = self.tap_rx
        if self.qdisc is not None:
            return int(self.qdisc.enqueue(packet))
        self.out.append(packet)
        return 0

    def receive(self, packet: Packet) -> None:
        """A TCP segment arrives now; source net/ipv4/tcp_ipv4.c:tcp_v4_rcv."""
        self.tap_rx += 1
        self._ipv4.tcp_v4_rcv(self, packet)

    def receive_icmp(self, error: IcmpError) -> None:
        """An ICMP error that quotes a TCP segment arrives now; source net/ipv4/tcp_ipv4.c:tcp_v4_err."""
        self._ipv4.tcp_v4_err(self, error)


# ---------------------------------------------------------------- include/net/inet_connection_sock.h


def sk_reset_timer(sk: Sock, timer: Timer, jiffy: int) -> None:
    """Arms a socket's timer for a jiffy; source net/core/sock.c:sk_reset_timer."""
    timer.mod(jiffy)


def sk_stop_timer(sk: Sock, timer: Timer) -> None:
    """Stops a socket's timer; source net/core/sock.c:sk_stop_timer."""
    timer.stop()


def inet_csk_reset_xmit_timer(sk: Sock, what: int, when: int, max_when: int) -> None:
    """Arms a transmit or delayed-ACK timer in `when` jiffies, at most `max_when`.

    Source: include/net/inet_connection_sock.h:inet_csk_reset_xmit_timer.
    """
    when = min(when, max_when)
    if what in (ICSK_TIME_RETRANS, ICSK_TIME_PROBE0, ICSK_TIME_LOSS_PROBE, ICSK_TIME_REO_TIMEOUT):
        sk.icsk_pending = what
        sk.icsk_timeout = sk.net.jiffies + when
        sk.icsk_retransmit_timer.mod(sk.icsk_timeout)
    elif what == ICSK_TIME_DACK:
        sk.icsk_ack.pending |= ICSK_ACK_TIMER
        sk.icsk_ack.timeout = sk.net.jiffies + when
        sk.icsk_delack_timer.mod(sk.icsk_ack.timeout)


def inet_csk_clear_xmit_timer(sk: Sock, what: int) -> None:
    """Forgets why a timer runs, not the timer: it fires and finds nothing (INET_CSK_CLEAR_TIMERS is undefined).

    Source: include/net/inet_connection_sock.h:inet_csk_clear_xmit_timer.
    """
    if what == ICSK_TIME_DACK:
        sk.icsk_ack.pending = 0
        sk.icsk_ack.retry = 0
    else:
        sk.icsk_pending = 0


def inet_csk_clear_xmit_timers(sk: Sock) -> None:
    """Stops all three timers; source net/ipv4/inet_connection_sock.c:inet_csk_clear_xmit_timers."""
    sk.icsk_pending = 0
    sk.icsk_ack.pending = 0
    sk.icsk_retransmit_timer.stop()
    sk.icsk_delack_timer.stop()
    sk.sk_timer.stop()


def inet_csk_reset_keepalive_timer(sk: Sock, len: int) -> None:
    """Arms the keepalive timer in `len` jiffies.

    Source: net/ipv4/inet_connection_sock.c:inet_csk_reset_keepalive_timer.
    """
    sk.sk_timer.mod(sk.net.jiffies + len)


def inet_csk_delete_keepalive_timer(sk: Sock) -> None:
    """Stops it; source net/ipv4/inet_connection_sock.c:inet_csk_delete_keepalive_timer."""
    sk.sk_timer.stop()


def tcp_rto_max(sk: Sock) -> int:
    """The longest timeout in jiffies; source include/net/tcp.h:TCP_RTO_MAX."""
    return sk.net.p.tcp_rto_max_ms * sk.net.hz // 1000


def tcp_reset_xmit_timer(sk: Sock, what: int, when: int, max_when: int) -> None:
    """Arms a transmit timer, later by what pacing holds back; source include/net/tcp.h:tcp_reset_xmit_timer."""
    inet_csk_reset_xmit_timer(sk, what, when + tcp_pacing_delay(sk), max_when)


def tcp_rto_delta_us(sk: Sock) -> int:
    """How long until the first unacknowledged skb times out (us); source include/net/tcp.h:tcp_rto_delta_us."""
    head = sk.tcp_rtx_queue.head
    rto = sk.net.jiffies_to_usecs(sk.icsk_rto)
    return head.skb_mstamp + rto - sk.tcp_mstamp if head is not None else rto
