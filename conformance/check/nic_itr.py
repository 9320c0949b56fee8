"""e1000e's interrupt moderation and its watchdog, followed beside a log: EITR, ITR, TIDV, RDTR and the watchdog's ICS.

How much traffic a poll has counted does not show in a log: any that would ask for another rate is admitted. What a
rate may be next, and who writes it when, is the machine's.
"""

from collections.abc import Iterator
from itertools import product
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.nic_half import Frontier, Guess, Play, Rejected
from refmodel.nic import itr
from refmodel.nic.vector import E1000_IMS_OTHER, E1000_IMS_RXQ0
from refmodel.rule import Event

EITR: Final = ("EITR0", "EITR1", "EITR2")
TX_INT_DELAY, RX_INT_DELAY = 8, 0x20
"""DEFAULT_TIDV and BURST_RDTR of drivers/net/ethernet/intel/e1000e/param.c."""
E1000_ICS_LSC: Final = 1 << 2
TRAFFIC: Final = ((0, 0), (1, 9000), (1, 600), (10, 640), (20, 30_000), (2, 120), (5, 1000), (5, 7500))
"""(packets, bytes) with which each latency asks for each that it can."""
POLLS: Final = tuple(
    itr.PollEnds(rx_packets=a, rx_bytes=b, tx_packets=c, tx_bytes=d) for (a, b), (c, d) in product(TRAFFIC, TRAFFIC)
)


class Moderating(Struct, frozen=True):
    """The machine; `ended`: the poll under way has looked at its traffic; `due`: writes that must come next."""

    itr: itr.Moderation
    ended: bool = False
    due: tuple[tuple[str, int], ...] = ()


def mode(throttle: int, msix: bool) -> tuple[itr.ItrParams, int]:
    """The parameters for a value of InterruptThrottleRate, and the rate that the driver begins with.

    Source drivers/net/ethernet/intel/e1000e/param.c:e1000e_check_options. The simple mode begins with the 4 itself as
    its rate, until its watchdog writes another.
    """
    found = {
        1: itr.Throttle.DYNAMIC,
        2: itr.Throttle.CONSERVATIVE,
        3: itr.Throttle.CONSERVATIVE,
        4: itr.Throttle.SIMPLE,
    }
    params = itr.ItrParams(throttle=found.get(throttle, itr.Throttle.FIXED), msix=msix)
    return params, itr.START if itr.dynamic(params) else throttle


class Moderate(Frontier):
    """The driver's rate and its watchdog. `throttle` is InterruptThrottleRate."""

    def __init__(self, throttle: int, kernel: str, host: str, shared: bool) -> None:
        params, start = mode(throttle, not shared)
        self.shared, self.simple = shared, params.throttle == itr.Throttle.SIMPLE
        self.asks = itr.E1000_ICS_RXDMT0 if shared else E1000_IMS_RXQ0
        self.first = E1000_ICS_LSC if shared else E1000_ICS_LSC | E1000_IMS_OTHER
        self.fired = False
        self.play = Play(itr.NIC_ITR, kernel, params)
        due = () if shared else tuple((r, itr.register(start) if start else 1) for r in EITR)
        super().__init__(Moderating(itr.Moderation(itr=start), due=due), host)

    def _ended(self, s: itr.Moderation) -> Iterator[tuple[itr.Moderation, str, int]]:
        """What may come of a poll's end: the state, the rule, and the rate that it writes (-1: none)."""
        found = set()
        known = [s] if s.gigabit or not self.fired else [s, self.play(s, itr.LinkSpeed(gigabit=True))[1]]
        for before, e in product(known, POLLS):
            rule, t, effects = self.play(before, e)
            wrote = next((x.itr for x in effects if isinstance(x, itr.WriteRate)), -1)
            if (t, wrote) not in found:
                found.add((t, wrote))
                yield t, rule, wrote

    def _due(self, line: int, register: str, value: int) -> None:
        """A write that must come now, and no other may."""

        def follow(g: Guess) -> Iterator[Guess]:
            s: Moderating = g.at
            if s.due and s.due[0] == (register, value):
                yield self.label(g, replace(s, due=s.due[1:]), line, "nic.itr.watchdog_simple")
            elif s.due:
                self.allowed.append(f"{s.due[0][0]} = {s.due[0][1]:#x}")

        self.each(f"{register} = {value:#x}", follow)

    def enable(self, line: int) -> None:
        """The driver came up: all that its set-up writes is written."""
        due = self.alive[0].at.due
        if due:
            raise Rejected(f"{due[0][0]} is not written before the device comes up", [f"{due[0][0]} = {due[0][1]:#x}"])

    def fires(self, value: int) -> bool:
        """Whether ICS = `value` is the driver's first: it asks for the interrupt of its link (e1000e_trigger_lsc)."""
        first, self.fired = value == self.first and not self.fired, self.fired or value == self.first
        return first

    def linked(self) -> None:
        """The driver has switched its transmitter on (TCTL): the link is up, and its speed known."""
        self.alive = [
            replace(g, at=replace(g.at, itr=self.play(g.at.itr, itr.LinkSpeed(gigabit=True))[1])) for g in self.alive
        ]

    def settled(self) -> bool:
        """Whether the watchdog need not be under way."""
        return any(g.at.itr.watchdog == itr.Watchdog.IDLE and not g.at.due for g in self.alive)

    def rate(self, line: int, register: str, value: int) -> None:
        """The driver wrote EITR of a vector, or ITR."""
        if any(g.at.due for g in self.alive):
            self._due(line, register, value)
            return

        def follow(g: Guess) -> Iterator[Guess]:
            yield from (
                self._watchdog_s(g, line, register, value) if self.simple else self._poll_s(g, line, register, value)
            )

        self.each(f"{register} = {value:#x}", follow)

    def _watchdog_s(self, g: Guess, line: int, register: str, value: int) -> Iterator[Guess]:
        """The simple mode's rate: written by the watchdog, to all that there are."""
        first = "ITR" if self.shared else EITR[0]
        fitting = [r for r in range(itr.SIMPLE_LOW, itr.SIMPLE_HIGH + 1) if itr.register(r) == value]
        if register != first or not fitting or g.at.itr.watchdog != itr.Watchdog.IDLE:
            low, high = itr.register(itr.SIMPLE_HIGH), itr.register(itr.SIMPLE_LOW)
            self.miss("nic.itr.watchdog_simple", f"writes {first} first, {low:#x} to {high:#x}, and once a watchdog")
            return
        rule, t, _ = self.play(g.at.itr, itr.WatchdogRuns(itr=fitting[0]))
        due = () if self.shared else tuple((r, value) for r in EITR[1:])
        yield self.label(g, replace(g.at, itr=t, due=due), line, rule)

    def _poll_s(self, g: Guess, line: int, register: str, value: int) -> Iterator[Guess]:
        """A dynamic rate: with MSI-X written by the receive vector's handler, else at the end of the poll."""
        s: Moderating = g.at
        if register != ("ITR" if self.shared else EITR[0]) or not itr.dynamic(self.play.params):
            self.miss("nic.itr.interrupt_writes", f"{register} is written as the device comes up, no more")
            return
        if self.shared:
            ends = [(t, rule, wrote) for t, rule, wrote in self._ended(s.itr) if wrote >= 0 and not s.ended]
            ended = True
        else:
            before = [(s.itr, s.ended)] if s.itr.waits else [(t, True) for t, _, _ in self._ended(s.itr) if t.waits]
            ended = before[0][1] if before else False
            ends = []
            for t, _ in before:
                rule, u, effects = self.play(t, itr.RxInterrupt())
                ends += [(u, rule, x.itr) for x in effects if isinstance(x, itr.WriteRate)]
        for t, rule, wrote in ends:
            if itr.register(wrote) == value:
                yield self.label(g, replace(s, itr=t, ended=ended), line, rule)
            else:
                self.allowed.append(f"{register} = {itr.register(wrote):#x}")
                self.miss(rule, f"writes {wrote} interrupts a second, {itr.register(wrote):#x}")

    def unmask(self, line: int) -> None:
        """The poll is over (IMS): it has looked at its traffic, and its handler has written what waited before."""

        def follow(g: Guess) -> Iterator[Guess]:
            s: Moderating = g.at
            if s.due:
                self.allowed.append(f"{s.due[0][0]} = {s.due[0][1]:#x}")
            elif s.ended:
                yield replace(g, at=replace(s, ended=False))
            elif s.itr.waits:
                self.allowed.append(f"EITR0 = {itr.register(s.itr.itr):#x}")
                self.miss("nic.itr.interrupt_writes", "the poll's handler writes the rate that waits")
            else:
                for t, _, wrote in self._ended(s.itr):
                    if wrote < 0:
                        yield replace(g, at=replace(s, itr=t))

        self.each("the end of a poll", follow)

    def asked(self, line: int, value: int) -> None:
        """The driver wrote ICS with the receive interrupt: its watchdog, or a handler that gives a cause back."""
        if not self.fired:
            raise Rejected(f"ICS = {value:#x} before the link's interrupt", [f"ICS = {self.first:#x}"])

        def follow(g: Guess) -> Iterator[Guess]:
            s: Moderating = g.at
            if not self.simple or s.itr.watchdog == itr.Watchdog.IDLE:
                yield g
            if s.itr.watchdog == itr.Watchdog.IDLE and not self.simple:
                t = self.play(s.itr, itr.WatchdogRuns())[1]
                rule, t, effects = self.play(t, itr.WatchdogStep())
                if itr.AskRx(by=rule) in effects:
                    yield self.label(g, replace(s, itr=t), line, rule)
            elif s.itr.watchdog == itr.Watchdog.ASKS and not s.due:
                rule, t, _ = self.play(s.itr, itr.WatchdogStep())
                yield self.label(g, replace(s, itr=t), line, rule)

        self.each(f"ICS = {value:#x}", follow)

    def flush(self, line: int, register: str, value: int) -> None:
        """The driver wrote TIDV or RDTR while it was up."""
        kind: type[Event | itr.FlushTx | itr.FlushRx] = itr.FlushTx if register == "TIDV" else itr.FlushRx
        delay = TX_INT_DELAY | itr.E1000_TIDV_FPD if register == "TIDV" else RX_INT_DELAY | itr.E1000_RDTR_FPD

        def follow(g: Guess) -> Iterator[Guess]:
            s: Moderating = g.at
            if s.itr.watchdog in (itr.Watchdog.IDLE, itr.Watchdog.ASKS):
                self.miss("nic.itr.watchdog_asks", "fires the receive interrupt first (ICS)")
                return
            rule, t, effects = self.play(s.itr, itr.WatchdogStep())
            would = "TIDV" if isinstance(effects[0], itr.FlushTx) else "RDTR"
            if isinstance(effects[0], kind) and value == delay:
                yield self.label(g, replace(s, itr=t), line, rule)
            else:
                due = TX_INT_DELAY if would == "TIDV" else RX_INT_DELAY
                self.allowed.append(f"{would} = {due | itr.E1000_TIDV_FPD:#x}")
                self.miss(rule, f"writes {would}")

        self.each(f"{register} = {value:#x}", follow)
