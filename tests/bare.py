"""A namespace that has only a clock, timers, counters and a list of what was dropped: for tests of one layer."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from refmodel.dropreason import Reason
from refmodel.skbuff import SkBuff
from refmodel.tcp.whole.net import Net, Timer
from refmodel.tcp.whole.params import WholeParams


class Bare:
    """An `Env`: `drops` are (packet, reason), `notes` are (function, detail), both in order."""

    def __init__(self, params: WholeParams | None = None) -> None:
        self._net = Net(params)
        self.hz = self._net.hz
        self.mib: Counter[str] = self._net.mib
        self.drops: list[tuple[SkBuff, Reason]] = []
        self.consumed: list[SkBuff] = []
        self.notes: list[tuple[str, str]] = []
        self.kernel = 612

    @property
    def now(self) -> int:
        return self._net.now

    @now.setter
    def now(self, us: int) -> None:
        self._net.now = us

    @property
    def jiffies(self) -> int:
        return self._net.jiffies

    def note(self, fn: str, detail: str = "") -> None:
        self.notes.append((fn, detail))

    def count(self, name: str, n: int = 1) -> None:
        self.mib[name] += n

    def random(self) -> int:
        return self._net.random()

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Timer:
        return Timer(self._net, name, fn, arg)

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        self.drops.append((skb, reason))

    def consume_skb(self, skb: SkBuff) -> None:
        self.consumed.append(skb)

    def advance(self, us: int) -> None:
        """Lets `us` pass, firing the timers that are due on the way."""
        self._net.advance(self._net.now + us)
