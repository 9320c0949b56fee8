"""The sender half's constraints, names and figures."""

from functools import cache
from typing import Final

from conformance.oracle.constraint import Constraint
from conformance.oracle.end import Label
from refmodel.tcp.state import St

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        "sequence-gap",
        "New data begin where the last ended; a gap is data that left and was not seen.",
        ("net/ipv4/tcp_output.c:tcp_event_new_data_sent", "RFC 9293 3.4"),
    ),
    Constraint(
        "data-after-fin",
        "Behind the FIN nothing is sent.",
        ("net/ipv4/tcp_output.c:tcp_send_fin", "RFC 9293 3.10.4"),
        True,
    ),
    Constraint(
        "beyond-window",
        "New data end within the furthest edge that the peer ever offered.",
        ("net/ipv4/tcp_output.c:tcp_snd_wnd_test", "RFC 9293 3.8.6"),
        True,
    ),
    Constraint(
        "beyond-congestion-window",
        "No more is in flight than the initial window and one segment for each that was delivered.",
        ("net/ipv4/tcp_output.c:tcp_cwnd_test", "net/ipv4/tcp_cong.c:tcp_slow_start", "RFC 5681 3.1", "RFC 6928 2"),
    ),
    Constraint(
        "overlaps-new",
        "A segment holds either data that were sent before or new data, not both.",
        ("net/ipv4/tcp_output.c:__tcp_retransmit_skb",),
    ),
    Constraint(
        "retransmits-acknowledged",
        "What is acknowledged is not sent again.",
        ("net/ipv4/tcp_output.c:__tcp_retransmit_skb", "RFC 9293 3.8.1"),
    ),
    Constraint(
        "retransmits-sacked",
        "What the peer holds by SACK is not sent again, but for a tail's probe and after a time-out that voids it.",
        ("net/ipv4/tcp_output.c:tcp_xmit_retransmit_queue", "RFC 2018 5.1"),
    ),
    Constraint(
        "retransmission-boundary",
        "A retransmission begins where a segment began, and ends where one ended or where MSS or window cut it.",
        ("net/ipv4/tcp_output.c:tcp_fragment", "net/ipv4/tcp_output.c:tcp_retrans_try_collapse"),
    ),
    Constraint(
        "retransmission-content",
        "A retransmission carries the bytes that were sent before.",
        ("net/ipv4/tcp_output.c:__tcp_retransmit_skb", "RFC 9293 3.7.4"),
        True,
    ),
    Constraint(
        "retransmission-cause",
        "A retransmission follows a timer that ran out, or arrivals of what was sent after it.",
        (
            "net/ipv4/tcp_timer.c:tcp_retransmit_timer",
            "net/ipv4/tcp_output.c:tcp_send_loss_probe",
            "net/ipv4/tcp_recovery.c:tcp_rack_detect_loss",
            "RFC 6298 5",
            "RFC 8985 6.2",
        ),
    ),
    Constraint(
        "retransmission-early",
        "No timer runs out early: a time-out is a round trip and 200 ms at least, a tail is probed after two of them.",
        ("net/ipv4/tcp_input.c:tcp_rearm_rto", "net/ipv4/tcp_output.c:tcp_schedule_loss_probe", "RFC 6298 5"),
    ),
    Constraint(
        "probe-cause",
        "An empty segment below the next number is a probe: nothing is out, and 200 ms have passed without an answer.",
        ("net/ipv4/tcp_timer.c:tcp_probe_timer", "net/ipv4/tcp_timer.c:tcp_keepalive_timer", "RFC 9293 3.8.6.1"),
    ),
    Constraint(
        "empty-sequence",
        "An empty segment has the next sequence number, the window's edge if that shrank, or is a probe below them.",
        ("net/ipv4/tcp_output.c:tcp_acceptable_seq", "RFC 9293 3.10.7.4"),
    ),
    Constraint(
        "retransmission-overdue",
        "What is not acknowledged is sent again when the time-out has passed.",
        ("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "RFC 6298 5.4"),
    ),
)

M32: Final = 0xFFFFFFFF
H32: Final = 0x80000000
NOTHING, NEW, AGAIN, PROBE, OLD, FILL = range(6)  # what a frame is
BY_WRITE, BY_FIN, BY_TLP, BY_RTO, BY_LOST, BY_PROBE0, BY_KEEPALIVE, BY_PATH = range(8)
NAMES: Final = (
    "tcp_write_xmit",
    "tcp_send_fin",
    "tcp_send_loss_probe",
    "tcp_retransmit_timer",
    "tcp_xmit_retransmit_queue",
    "tcp_send_probe0",
    "tcp_keepalive_timer",
    "tcp_xmit_retransmit_queue",
)
LABELS: Final = tuple(Label(n) for n in NAMES)
TIMERS: Final = ("tcp_retransmit_timer", "reqsk_timer_handler", "tcp_fastopen_synack_timer")
PAST: Final = 128  # inputs that are remembered
RETREATS: Final = 8  # right edges further left than one before that are remembered
TOLD: Final = 64  # inputs with SACK blocks that are remembered
JIFFY: Final = 10_000  # us; the longest of any kernel
EARLY: Final = 500  # us between making a frame and its stamp
BURST: Final = 300  # us in which an acknowledgment is answered by new data
TICK: Final = 1_000  # us of the timestamp clock
QUEUED: Final = 2_500  # us that a TSval lies back only behind a queue
IDS: Final = 64  # segments that may be overtaken
ECHO_MAX: Final = 500_000_000  # us; a smoothed round trip holds no more
JUMP: Final = 4_096  # ids; a greater step is another socket's
LEAST_MSS: Final = 36  # bytes; TCP_MIN_SND_MSS without options
SWAPPED: Final = 3_000  # us in which a frame is overtaken by the next
SAMPLES: Final = 16  # round trips that outweigh the handshake's
LAG: Final = 4_000  # us that a slow host takes for an input
KEEPALIVE: Final = 1_000_000  # us; TCP_KEEPIDLE and TCP_KEEPINTVL are whole seconds
HEADERS: Final = 40  # bytes of IPv4 and TCP headers at least
HEADERS_6: Final = 60  # of IPv6 and TCP headers
IP_MIN: Final = 552  # net.ipv4.route.min_pmtu
IPV6_MIN: Final = 1280  # IPV6_MIN_MTU
THIN: Final = 4  # segments out, from which a stream is not thin; net/ipv4/tcp.h:tcp_stream_is_thin
WSCALE_MAX: Final = 14
LATE: Final = 500_000  # us: no timer runs out so late on a host that is not starved
SYN_STATES: Final = (St.SYN_SENT, St.SYN_RECV, St.LISTEN, St.CLOSE)


@cache
def version(kernel: str) -> tuple[int, ...]:
    """The release that a kernel's name begins with, (6, 12) for "6.12.43"."""
    return tuple(int(n) for n in kernel.split(".")[:2] if n.isdigit())
