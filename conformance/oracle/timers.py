"""The sender's clocks: the smoothed round trip in the kernel's integers, and when a timer can have run out.

The law: what the tap measures of a round trip is no more than what the kernel measures, for a frame is stamped after
its skb and an acknowledgment before it is processed. So the smoothed value here is a lower bound, and a timer that is
early by it is early. `refmodel.tcp.rtt` holds the proved steps; `Rtt.sample` is the same in place.
"""

from typing import Final

RTO_MIN: Final = 200_000  # us; TCP_RTO_MIN
RTO_MAX: Final = 120_000_000  # us; TCP_RTO_MAX
TIMEOUT_INIT: Final = 1_000_000  # us; TCP_TIMEOUT_INIT
TIMEOUT_FALLBACK: Final = 3_000_000  # us; TCP_TIMEOUT_FALLBACK, where the handshake gave no sample
NEVER: Final = 0xFFFFFFFF
MIN_RTT_WINDOW: Final = 300_000_000  # us; net.ipv4.tcp_min_rtt_wlen


class Rtt:
    """srtt is scaled by 8, mdev and the variances by 4; all in us. `floor` is tcp_rto_min in us, whole jiffies.

    `least_wait` is TCP_TIMEOUT_MIN_US.
    """

    __slots__ = ("floor", "jiffy", "least_wait", "mdev", "mdev_max", "min_at", "min_rtt", "rtt_seq", "rttvar", "srtt")

    def __init__(self, jiffy: int = 4_000, floor: int = RTO_MIN, least_wait: int = 2_000) -> None:
        self.jiffy, self.least_wait = jiffy, least_wait
        self.floor = -(-floor // jiffy) * jiffy
        self.srtt = self.mdev_max = self.rttvar = self.rtt_seq = self.min_at = 0
        self.mdev = 1_000_000
        self.min_rtt = NEVER

    def copy(self) -> "Rtt":
        """A copy of its own."""
        new = Rtt(self.jiffy, self.floor, self.least_wait)
        new.srtt, new.mdev, new.mdev_max, new.rttvar = self.srtt, self.mdev, self.mdev_max, self.rttvar
        new.rtt_seq, new.min_rtt, new.min_at = self.rtt_seq, self.min_rtt, self.min_at
        return new

    def sample(self, m: int, una: int, nxt: int) -> None:
        """A sample of `m` us; source net/ipv4/tcp_input.c:tcp_rtt_estimator, RFC 6298 2."""
        floor = self.floor
        srtt = self.srtt
        if not srtt:
            self.srtt = max(m << 3, 1)
            self.mdev = m << 1
            self.rttvar = self.mdev_max = self.mdev if self.mdev > floor else floor
            self.rtt_seq = nxt
            return
        err = m - (srtt >> 3)
        self.srtt = max(srtt + err, 1)
        mdev = self.mdev
        if err < 0:
            d = -err - (mdev >> 2)
            if d > 0:
                d >>= 3
        else:
            d = err - (mdev >> 2)
        self.mdev = mdev = mdev + d
        if mdev > self.mdev_max:
            self.mdev_max = mdev
            if mdev > self.rttvar:
                self.rttvar = mdev
        if una > self.rtt_seq:
            if self.mdev_max < self.rttvar:
                self.rttvar -= (self.rttvar - self.mdev_max) >> 2
            self.rtt_seq = nxt
            self.mdev_max = floor

    def least(self, m: int, now: int) -> None:
        """The least sample of late; source net/ipv4/tcp_input.c:tcp_update_rtt_min."""
        if m <= self.min_rtt or now - self.min_at > MIN_RTT_WINDOW:
            self.min_rtt, self.min_at = m or self.jiffy, now

    def rto(self) -> int:
        """The timeout in us without back-off, whole jiffies; source include/net/tcp.h:__tcp_set_rto."""
        if not self.srtt:
            return TIMEOUT_INIT
        j = self.jiffy
        return min(-(-((self.srtt >> 3) + self.rttvar) // j) * j, RTO_MAX)

    def rto_low(self) -> int:
        """The least timeout (us) that any kernel can have: the floor lies under the variance.

        An eighth off for samples that the kernel did not take; without one, the floor.
        """
        return self.floor + (self.srtt >> 3) - (self.srtt >> 6)

    def pto(self, alone: bool) -> int:
        """When a tail would be probed (us); source net/ipv4/tcp_output.c:tcp_schedule_loss_probe, RFC 8985 7.2."""
        if not self.srtt:
            return TIMEOUT_INIT
        j = self.jiffy
        return -(-((self.srtt >> 2) + (self.floor if alone else self.least_wait)) // j) * j

    def pto_low(self, alone: bool) -> int:
        """The least time (us) to a probe of any kernel: 1.5 round trips, and the wait for a lone segment's ACK."""
        return (self.srtt >> 2) - (self.srtt >> 4) + (self.floor if alone else 2_000)
