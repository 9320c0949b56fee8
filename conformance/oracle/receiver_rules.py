"""The receiving half's constraints, names and figures, and what its parts ask of segments."""

from collections.abc import Iterable
from typing import Final

from conformance.oracle.constraint import Constraint
from conformance.oracle.sack import Range
from refmodel.packet.segment import Segment
from refmodel.tcp.state import St
from refmodel.types import H32, M32

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        "ack-of-what-did-not-arrive",
        "Only what arrived is acknowledged.",
        ("net/ipv4/tcp_output.c:__tcp_send_ack", "RFC 9293 3.4"),
        rfc=True,
    ),
    Constraint(
        "ack-goes-back",
        "What was acknowledged stays acknowledged.",
        ("net/ipv4/tcp_input.c:tcp_rcv_nxt_update", "RFC 9293 3.4"),
        rfc=True,
    ),
    Constraint(
        "ack-is-rcv-nxt",
        "An acknowledgment names the end of what arrived in order.",
        ("net/ipv4/tcp_output.c:tcp_send_ack", "RFC 9293 3.10.7.4"),
    ),
    Constraint(
        "echo-is-ts-recent",
        "TSecr is the timestamp of the last segment that began at or before the last acknowledgment.",
        ("net/ipv4/tcp_input.c:tcp_replace_ts_recent", "RFC 7323 4.3"),
    ),
    Constraint(
        "sack-blocks",
        "SACK blocks are what waits behind holes, the last that changed first, after a DSACK of what came twice.",
        (
            "net/ipv4/tcp_input.c:tcp_sack_new_ofo_skb",
            "net/ipv4/tcp_output.c:tcp_established_options",
            "RFC 2018 4",
            "RFC 2883 4",
        ),
    ),
    Constraint(
        "sack-not-permitted",
        "SACK blocks are sent only if both SYNs permitted them.",
        ("net/ipv4/tcp_input.c:tcp_is_sack", "RFC 2018 3"),
        rfc=True,
    ),
    Constraint(
        "window-retreats",
        "The right edge of the window doesn't move back, unless memory is out.",
        ("net/ipv4/tcp_output.c:tcp_select_window", "RFC 9293 3.8.6"),
    ),
    Constraint(
        "window-too-wide",
        "The window opens with the data that came, from what the SYN offered.",
        ("net/ipv4/tcp_input.c:tcp_grow_window", "net/ipv4/tcp_output.c:__tcp_select_window", "RFC 9293 3.8.6.2.2"),
    ),
    Constraint(
        "congestion-echo",
        "ECE is sent from a CE mark on data until CWR comes, and at no other time.",
        ("net/ipv4/tcp_output.c:tcp_ecn_send", "RFC 3168 6.1.3"),
    ),
    Constraint(
        "ack-without-cause",
        "An acknowledgment without data has a cause: something arrived, the window at least doubled, a timer ran out.",
        ("net/ipv4/tcp_input.c:__tcp_ack_snd_check", "net/ipv4/tcp.c:__tcp_cleanup_rbuf", "RFC 9293 3.8.6.3"),
    ),
    Constraint(
        "ack-withheld",
        "What arrived is acknowledged before the delayed-ACK timer has run out.",
        ("net/ipv4/tcp_output.c:tcp_send_delayed_ack", "RFC 9293 3.8.6.3", "RFC 1122 4.2.3.2"),
    ),
)

OPEN: Final = frozenset((St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSE_WAIT, St.CLOSING, St.LAST_ACK))
QUEUED: Final = 4_000_000  # us: no frame waits longer between its making and a tap on its host
HELD_LEAST: Final = 90  # us: no compressed acknowledgment is held back for less than the timer's slack of 100
READS: Final = 20  # us: a reader takes longer to wake, the interrupt's own acknowledgment seldom does
READS_LATE: Final = 2_000  # us: later than that no acknowledgment is sent at once
FAR_AWAY: Final = 1_000_000  # us in which an answer comes from far away
HELD_BACK: Final = 5_000  # us: a compressed acknowledgment may wait 1 ms by default, and the timer's slack
TCP_FASTRETRANS_THRESH: Final = 3
TCP_PAWS_WINDOW: Final = 1
ECN_CE: Final = 3
DAYS24: Final = 2_147_000_000_000  # us after which a timestamp has lost its meaning
REMEMBERED: Final = 64
FORGOTTEN: Final = 512  # inputs between two outputs


def release(kernel: str) -> tuple[int, ...]:
    """The release that a kernel's name begins with, (6, 12) for "6.12.43"."""
    return tuple(int(n) for n in kernel.split(".")[:2] if n.isdigit())


def tells_twice(s: Segment) -> bool:
    """Whether the first SACK block is a DSACK; source net/ipv4/tcp_input.c:tcp_check_dsack."""
    (low, high), *rest = s.sack
    if (low - s.ack_seq) & M32 >= H32:
        return True
    return bool(rest) and (low - rest[0][0]) & M32 < H32 and (rest[0][1] - high) & M32 < H32


def merged(ranges: list[Range]) -> list[Range]:
    """The union of ranges, sorted and apart."""
    out: list[Range] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return out


def covers(ranges: Iterable[Range], start: int, end: int) -> bool:
    """Whether ranges together hold all from `start` to `end`."""
    at = start
    for low, high in sorted(ranges):
        if low > at:
            break
        at = max(at, high)
    return at >= end


def as_ranges(blocks: tuple[Range, ...] | list[Range]) -> str:
    """Ranges in words, as sequence numbers on the wire."""
    return " ".join(f"{a & M32}-{b & M32}" for a, b in blocks) or "none"
