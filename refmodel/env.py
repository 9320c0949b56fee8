"""What every layer below the transport protocols may ask of the namespace that it works in.

A layer says what more it needs of its neighbours in a Protocol of its own that extends this one; the host has it all.
Nothing here reads a clock: `now` moves when whoever drives the host moves it.
"""

from collections.abc import Callable
from typing import Any, Protocol

from refmodel.dropreason import Reason
from refmodel.skbuff import SkBuff


class KernelTimer(Protocol):
    """A kernel timer: `expires` is when it fires (us), None while idle."""

    expires: int | None

    @property
    def pending(self) -> bool:
        """It is armed."""

    def mod(self, jiffy: int) -> None:
        """Arms it for a jiffy; it fires when the timer wheel runs it (mod_timer)."""

    def start_us(self, when: int) -> None:
        """Arms it for a moment in us (hrtimer_start)."""

    def stop(self) -> None:
        """Disarms it (timer_delete, hrtimer_cancel)."""


class Env(Protocol):
    """One network namespace: `now` in us, `jiffies` its tick, `hz` ticks a second, `kernel` 612 for Linux 6.12."""

    now: int
    hz: int

    @property
    def jiffies(self) -> int:
        """The tick that it is."""

    @property
    def kernel(self) -> int:
        """The version as an integer: 612."""

    def note(self, fn: str, detail: str = "") -> None:
        """Tells a decision and its reason, for the walk: note("neigh_output", "REACHABLE and header cached")."""

    def count(self, name: str, n: int = 1) -> None:
        """Adds to a MIB counter by its name in /proc/net/snmp, snmp6 or netstat: IpInHdrErrors."""

    def random(self) -> int:
        """The next of a fixed series of 32-bit numbers (get_random_u32)."""

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> KernelTimer:
        """A new idle timer that calls `fn(arg)` in softirq context (timer_setup)."""

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """The packet is dropped (kfree_skb_reason)."""

    def consume_skb(self, skb: SkBuff) -> None:
        """The packet came to its end as it should."""
