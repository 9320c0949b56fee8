"""When an end acknowledges what it got: quick acknowledgments, the delayed ones and their timer, as far as a tap tells.

The law: what icsk_ack holds is followed with the tap's stamps instead of jiffies. It bounds when an acknowledgment
leaves and names the function that sent it; whether it may leave at all is decided elsewhere. Times in us.
"""

from typing import ClassVar, Final

from conformance.check.setup import slack
from refmodel.packet.transport import FIN, PSH, SYN, URG

TCP_ATO_MIN: Final = 40_000
TCP_DELACK_MAX: Final = 200_000
OLD_DELACK_MAX: Final = 500_000  # before icsk_delack_max bounded it
TCP_MSS_DEFAULT: Final = 536
TCP_MIN_MSS: Final = 88
TCP_MAX_QUICKACKS: Final = 16
DEFERRED: Final = 20_000  # us: while the application holds the socket the timer's work waits
REMNANT: Final = FIN | URG | SYN | PSH


class AckClock:
    """icsk_ack.

    `since`: when the oldest input came whose acknowledgment is owed, -1 if none is; `frame` its number; `due`: when the
    delayed-ACK timer runs out, -1 if it isn't armed; `now`: an acknowledgment is due at once.
    """

    __slots__: ClassVar[tuple[str, ...]] = (
        "advmss", "ato", "due", "frame", "jiffy", "last_seg_size", "lrcvtime", "mandated", "now", "pingpong", "pushed",
        "quick", "rcv_mss", "since", "thresh",
    )  # fmt: skip

    def __init__(self, jiffy: int, thresh: int) -> None:
        self.jiffy, self.thresh = jiffy, thresh
        self.advmss, self.rcv_mss, self.last_seg_size = 0, TCP_MSS_DEFAULT, 0
        self.ato = self.quick = self.pingpong = 0
        self.lrcvtime = 0
        self.pushed = 0
        self.since = self.due = -1
        self.frame = 0
        self.now = self.mandated = False

    def copy(self) -> "AckClock":
        """A copy to go on from."""
        new = AckClock(self.jiffy, self.thresh)
        for name in AckClock.__slots__:
            setattr(new, name, getattr(self, name))
        return new

    def established(self, advmss: int, snd_mss: int, rcv_wnd: int, at: int) -> None:
        """Source net/ipv4/tcp_input.c:tcp_initialize_rcv_mss, tcp_finish_connect."""
        self.advmss = advmss
        hint = min(advmss or TCP_MSS_DEFAULT, snd_mss or TCP_MSS_DEFAULT, rcv_wnd // 2, TCP_MSS_DEFAULT)
        self.rcv_mss = max(hint, TCP_MIN_MSS)
        self.lrcvtime = at

    def measure(self, length: int, flags: int, header: int, plain: int) -> None:
        """Learns the peer's segment size; `header` bytes of TCP header, `plain` those without SACK blocks.

        Source net/ipv4/tcp_input.c:tcp_measure_rcv_mss.
        """
        before, self.last_seg_size = self.last_seg_size, 0
        if length >= self.rcv_mss:
            self.rcv_mss = min(length, self.advmss) if self.advmss else length
            if flags & PSH:
                self.pushed |= 1
            return
        n = length + header
        if n >= TCP_MSS_DEFAULT + 20 or (n >= TCP_MIN_MSS + 20 and not flags & REMNANT):
            n -= plain
            self.last_seg_size = n
            if n == before:
                self.rcv_mss = n
                return
        self.pushed |= 3 if self.pushed else 1

    def more_quick(self, rcv_wnd: int, most: int = TCP_MAX_QUICKACKS) -> None:
        """Source net/ipv4/tcp_input.c:tcp_incr_quickack."""
        self.quick = max(self.quick, min(rcv_wnd // (2 * self.rcv_mss) or 2, most))

    def enter_quick(self, rcv_wnd: int, most: int = TCP_MAX_QUICKACKS) -> None:
        """Source net/ipv4/tcp_input.c:tcp_enter_quickack_mode."""
        self.more_quick(rcv_wnd, most)
        self.pingpong = 0
        self.ato = TCP_ATO_MIN

    def data(self, at: int, rcv_wnd: int) -> None:
        """In-order data came at `at`; source net/ipv4/tcp_input.c:tcp_event_data_recv."""
        gap = at - self.lrcvtime
        if self.ato == 0:
            self.more_quick(rcv_wnd)
            self.ato = TCP_ATO_MIN
        elif gap <= TCP_ATO_MIN // 2:
            self.ato = (self.ato >> 1) + TCP_ATO_MIN // 2
        elif gap < self.ato:
            self.ato = min((self.ato >> 1) + gap, TCP_DELACK_MAX)
        elif gap > TCP_DELACK_MAX + self.ato:
            self.more_quick(rcv_wnd)
        self.lrcvtime = at

    def owes(self, at: int, frame: int) -> None:
        """An acknowledgment is scheduled for the input `frame`; source inet_csk_schedule_ack."""
        if self.since < 0:
            self.since, self.frame = at, frame

    def check(self, at: int, unacked: int, hole: bool, srtt: int) -> None:
        """Decides whether to acknowledge now or later; source net/ipv4/tcp_input.c:__tcp_ack_snd_check."""
        if self.mandated or unacked > self.rcv_mss or (self.quick and self.pingpong < self.thresh) or hole:
            self.now = True
            return
        delay = min(self.ato, max(srtt, TCP_ATO_MIN)) if srtt and self.ato > TCP_ATO_MIN else self.ato
        if 0 <= self.due <= at + (delay >> 2):
            self.now = True
        elif self.due < 0 or at + delay < self.due:
            self.due = at + delay

    def sent(self) -> None:
        """An acknowledgment left; source net/ipv4/tcp_output.c:tcp_event_ack_sent."""
        if self.quick and self.since >= 0:
            self.quick -= 1
            if self.quick == 0:
                self.ato = TCP_ATO_MIN
        self.since = self.due = -1
        self.pushed = 0
        self.now = self.mandated = False

    def data_sent(self, at: int) -> None:
        """Data left; source net/ipv4/tcp_output.c:tcp_event_data_sent."""
        if at - self.lrcvtime < self.ato and self.pingpong < 255:
            self.pingpong += 1

    def expired(self) -> None:
        """The timer sent the acknowledgment; source net/ipv4/tcp_timer.c:tcp_delack_timer_handler."""
        if self.pingpong >= self.thresh:
            self.pingpong, self.ato = 0, TCP_ATO_MIN
        else:
            self.ato = min(self.ato << 1, TCP_DELACK_MAX)

    def timer_fires(self, at: int) -> bool:
        """Whether the delayed-ACK timer runs out at `at`, as predicted or after the least delay.

        The tap's stamps hide where in its jiffy an input came.
        """
        if self.since < 0:
            return False
        if (
            self.due >= 0
            and -2 * self.jiffy <= at - self.due <= slack(TCP_DELACK_MAX, 1_000_000 // self.jiffy) + DEFERRED
        ):
            return True
        return self.least_delay(at - self.since)

    def least_delay(self, waited: int) -> bool:
        """Whether the least delay and the wheel's slack make up what was waited (us)."""
        return -self.jiffy <= waited - TCP_ATO_MIN <= slack(TCP_ATO_MIN, 1_000_000 // self.jiffy)

    def latest(self, longest: int, hz: int) -> int:
        """When the timer must have sent what is owed, -1 if nothing is."""
        return -1 if self.since < 0 else self.since + longest + slack(longest, hz)
