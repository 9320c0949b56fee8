"""The window that an end has promised, and what it may promise next.

The law: the right edge stays where it was promised until it moves on, and the window opens no further than the data
that came has proved to be well used: what the SYN offered, and for each segment two of the peer's or twice its length.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK
from refmodel.tcp.window import scaled_up

U16_MAX: Final = 65535
UNBOUNDED: Final = 1 << 40
MPTCP: Final = 30
LEAST: Final = 128  # bytes: shorter segments in order don't open the window


def kinds(s: Segment) -> Iterator[int]:
    """The kinds of a segment's options, as far as they were captured."""
    i, end = s.l4 + 20, s.payload_at
    while i < end and s.data[i]:
        kind = s.data[i]
        if kind == 1:
            i += 1
            continue
        yield kind
        if i + 1 >= end or s.data[i + 1] < 2:
            return
        i += s.data[i + 1]


class Promise:
    """What was promised. Sequence numbers are unwrapped.

    `edge`: the right edge promised last; `window`: rcv_wnd then, -1 before the first; `shift`: rcv_wscale, -1 while it
    isn't known; `ceiling`: the most that rcv_ssthresh can be; `give`: by how much the first edge may be off; `advmss`:
    the peer's segments as this end expects them; `floor`: the right edge that the SYN offered, -1 if it isn't known.
    """

    __slots__: ClassVar[tuple[str, ...]] = (
        "advmss",
        "asked",
        "bare",
        "ceiling",
        "crossed",
        "edge",
        "floor",
        "give",
        "mine",
        "offered",
        "sealed",
        "shift",
        "theirs",
        "window",
    )

    def __init__(self) -> None:
        self.edge = UNBOUNDED
        self.window = self.shift = self.floor = -1
        self.ceiling = UNBOUNDED
        self.offered = self.advmss = self.give = 0
        self.mine: int | None = None
        self.theirs: int | None = None
        self.asked = self.sealed = self.bare = self.crossed = False

    def copy(self) -> "Promise":
        """A copy to go on from."""
        new = Promise()
        for name in Promise.__slots__:
            setattr(new, name, getattr(self, name))
        return new

    def offers(self, s: Segment, ack: int, cookies: bool) -> None:
        """This end's SYN or SYN-ACK left: its window is not scaled.

        `cookies`: it may be a SYN cookie's, whose window is computed again, from a coarser MSS
        (net/ipv4/syncookies.c:cookie_v4_check). A window of 65535 may stand for a larger one, since 6.12
        (net/ipv4/tcp_output.c:tcp_select_initial_window).
        """
        if s.flags & ACK and self.bare:
            # Where SYNs crossed, Linux scales its window although the peer's SYN had no such option.
            self.shift, self.crossed = min(self.mine or 0, 14), True
            self.offered = self.window = s.window
            self.edge = ack + s.window if s.window < U16_MAX else UNBOUNDED
            return
        self.bare = not s.flags & ACK
        self.mine, self.sealed = s.wscale, True
        self.offered = self.window = s.window
        self.edge = ack + s.window if s.window < U16_MAX else UNBOUNDED
        self.advmss = s.mss or 0
        self.give = self.advmss if cookies and s.flags & ACK else 0
        plain = MPTCP not in set(kinds(s))
        if s.flags & ACK and plain:
            self.floor = ack + s.window - self.give
        if s.window < U16_MAX and plain:
            self.ceiling = s.window + self.give
        self._agree()

    def asks(self, s: Segment, nxt: int) -> None:
        """The peer's SYN or SYN-ACK came: what was offered counts from `nxt`."""
        if self.window >= 0:
            self.floor = nxt + self.offered - self.give
            if self.edge < UNBOUNDED:
                self.edge = nxt + self.window
        self.theirs, self.asked = s.wscale, True
        self._agree()

    def _agree(self) -> None:
        if self.sealed and self.asked and not self.crossed:
            self.shift = min(self.mine, 14) if self.mine is not None and self.theirs is not None else 0

    def grows(self, length: int, hole: bool, pieces: int = 1) -> None:
        """Data came, perhaps in `pieces` cut behind the tap.

        Source: net/ipv4/tcp_input.c:tcp_grow_window, tcp_set_window_clamp, which starts from rcv_wnd.
        """
        if length >= LEAST or hole:
            self.ceiling = max(self.ceiling, self.window) + max(2 * (self.advmss or U16_MAX) * pieces, 2 * length)

    def left(self, nxt: int) -> int:
        """What is left of the promise; source include/net/tcp.h:tcp_receive_window."""
        return max(self.edge - nxt, 0)

    def says(self, s: Segment) -> int:
        """The window that a segment without SYN offers, in bytes; -1 if the scale isn't known."""
        return s.window << self.shift if self.shift >= 0 else -1

    def too_wide(self, window: int, ack: int) -> int:
        """The most that may be offered at `ack`, if `window` is more, else -1."""
        if self.ceiling >= UNBOUNDED or self.shift < 0:
            return -1
        most = scaled_up(max(self.ceiling, self.left(ack)), self.shift)
        return most if window > most else -1

    def retreats(self, window: int, ack: int) -> bool:
        """Whether the right edge moves back, as far as sixteen bits could have said it."""
        if self.edge >= UNBOUNDED or self.shift < 0:
            return False
        return ack + window < min(self.edge - self.give, ack + (U16_MAX << self.shift))

    def below_first(self, window: int, ack: int) -> bool:
        """Whether the right edge lies before that of the SYN, which left before all others.

        A request's acknowledgment rounds down to the scale (net/ipv4/tcp_ipv4.c:tcp_v4_reqsk_send_ack).
        """
        if self.floor < 0 or self.shift < 0 or self.crossed:
            return False
        return ack + window + (1 << self.shift) <= min(self.floor, ack + (U16_MAX << self.shift))

    def opens(self, window: int, ack: int) -> bool:
        """Whether a read may have sent the window: it at least doubles; source net/ipv4/tcp.c:__tcp_cleanup_rbuf."""
        if self.shift < 0 or self.edge >= UNBOUNDED:
            return True
        now = self.left(ack)
        return window > now and (window >= 2 * now or window == U16_MAX << self.shift)

    def sent(self, window: int, ack: int, newest: bool) -> None:
        """The window left; `newest`: no later one was seen before."""
        if window < 0:
            return
        self.give = 0
        right = ack + window
        if right < self.floor:
            self.floor = -1
        if newest or right > self.edge or self.edge >= UNBOUNDED:
            self.edge = right
        self.window = window
