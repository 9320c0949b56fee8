"""Full duplex: a port sends frame after frame with the gap between, in ns of virtual time."""

from typing import Final

from refmodel.phy.frame import FCS_LEN, MIN_FRAME, PREAMBLE, SFD

INTER_PACKET_GAP: Final = 96  # bit times
SPEEDS: Final = (10, 100, 1000, 10_000)  # Mb/s
NS_PER_S: Final = 1_000_000_000


def bit_time_ps(speed: int) -> int:
    """How long a bit takes in ps, at `speed` Mb/s."""
    return 1_000_000 // speed


def medium_bits(length: int) -> int:
    """Bits that the medium carries for a frame of `length` octets without pad and check sequence."""
    return 8 * (len(PREAMBLE) + len(SFD) + max(length + FCS_LEN, MIN_FRAME))


def frame_time_ns(length: int, speed: int) -> int:
    """How long such a frame takes, from the preamble's first bit to the check sequence's last, rounded up."""
    return -(-medium_bits(length) * bit_time_ps(speed) // 1000)


def frames_per_second(length: int, speed: int) -> int:
    """How many such frames a link carries in a second at most."""
    return speed * 1_000_000 // (medium_bits(length) + INTER_PACKET_GAP)


class Port:
    """One direction of a full duplex link of `speed` Mb/s: `free_ps` is when the next frame may begin."""

    def __init__(self, speed: int = 1000) -> None:
        if speed not in SPEEDS:
            raise ValueError(f"{speed} Mb/s: Ethernet has {', '.join(map(str, SPEEDS))}")
        self.speed = speed
        self.free_ps = 0
        self.paused_ps = 0

    def transmit(self, now_ns: int, length: int, control: bool = False) -> tuple[int, int]:
        """A frame begins when the one before and its gap are over, and no pause holds it: (begin, end) in ns.

        `control`: a MAC control frame, which a pause does not hold.
        """
        begin = max(now_ns * 1000, self.free_ps, 0 if control else self.paused_ps)
        end = begin + medium_bits(length) * bit_time_ps(self.speed)
        self.free_ps = end + INTER_PACKET_GAP * bit_time_ps(self.speed)
        return begin // 1000, -(-end // 1000)

    def pause(self, now_ns: int, quanta: int) -> None:
        """A PAUSE frame came: no data frame begins for `quanta` times 512 bits; 0 ends a pause."""
        self.paused_ps = now_ns * 1000 + quanta * 512 * bit_time_ps(self.speed)
