"""The machines behind a register log of e1000e, each a small frontier of hypotheses.

A log shows a driver's register writes and all that the card does. It does not show when an interrupt handler began,
when the softirq polled, how far the driver had read the ring when a frame came. A frontier holds the states in which
the machines may be; a write is explained by running hidden steps until a rule makes it. So the model may be behind the
driver, never ahead of it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.frontier import Trail
from conformance.check.verdict import FrameLabel, NearMiss
from refmodel.engine.run import pick
from refmodel.nic import napi, rx
from refmodel.nic.drivers import E1000E
from refmodel.rule import AssumptionBroken, Event, Machine, NotModelled, Params, State

WIDTH: Final = 1024
E1000_IMS_ENABLE_MASK: Final = 0x9D  # MSI and INTx: RXT0, TXDW, RXDMT0, RXSEQ, LSC


class Rejected(Exception):
    """No hypothesis explains a line: what was seen, what could have been written, how near the rules came."""

    def __init__(self, what: str, allowed: Iterable[str] = (), near: Iterable[NearMiss] = (), state: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.allowed = tuple(dict.fromkeys(allowed))
        self.near = tuple(dict.fromkeys(near))
        self.state = state


class Play:
    """One machine's rules with its parameters; remembers what it has worked out. `strict` checks the assumptions."""

    def __init__(self, m: Machine, kernel: str, params: Params, strict: bool = True) -> None:
        self.params: Any = params
        self._apply = pick(m, kernel, check=strict).apply
        self._known: dict[tuple[State, Event], tuple[str, Any, tuple[Any, ...]]] = {}

    def __call__(self, s: State, e: Event) -> tuple[str, Any, tuple[Any, ...]]:
        """The rule's id, the new state, the effects; raises NotModelled and AssumptionBroken."""
        found = self._known.get((s, e))
        if found is None:
            r, new, effects = self._apply(s, e, self.params)
            found = self._known[s, e] = (r.id, new, effects)
        return found


class Guess(Struct, frozen=True):
    """One hypothesis: the machines' states and the trail of labels that led there."""

    at: Any
    trail: Trail | None = None


class Frontier:
    """The hypotheses about one part of driver and card."""

    def __init__(self, start: Any, host: str) -> None:
        self.alive = [Guess(start)]
        self.host = host
        self.bounded = False
        self.near: list[NearMiss] = []
        self.allowed: list[str] = []

    def each(self, what: str, follow: Callable[[Guess], Iterable[Guess]]) -> None:
        """Replaces each hypothesis by what `follow` makes of it; raises Rejected where none is left."""
        self.near, self.allowed = [], []
        found: dict[Any, Guess] = {}
        for g in self.alive:
            try:
                for n in follow(g):
                    found.setdefault(self.key(n.at), n)
            except (AssumptionBroken, NotModelled) as why:
                self.near.append(NearMiss(str(why).partition(":")[0], str(why)))
        if not found:
            raise Rejected(what, self.allowed, self.near, self.state())
        self.bounded |= len(found) > WIDTH
        self.alive = list(found.values())[:WIDTH]

    def key(self, at: Any) -> Any:
        """What tells hypotheses apart for what can be seen."""
        return at

    def miss(self, rule: str, why: str) -> None:
        """Notes a rule that came near."""
        self.near.append(NearMiss(rule, why))

    def label(self, g: Guess, at: Any, line: int, rule: str, note: str = "") -> Guess:
        """`g` moved to `at`, with the label of `line`."""
        return Guess(at, Trail(FrameLabel(line, self.host, rule, rule, note), "", g.trail))

    def state(self) -> str:
        """The likeliest hypothesis in words."""
        return str(self.alive[0].at) if self.alive else ""


# ------------------------------------------------------------------------------------------------ receive and NAPI


class Polling(Struct, frozen=True):
    """NAPI with its receive ring. `message`: an interrupt waits for its handler; `frames`: passed up so far."""

    napi: napi.Napi
    rx: rx.RxRing
    message: bool = False
    frames: int = 0


class Receive(Frontier):
    """The receive ring and the vector that polls it. With `shared` (MSI, INTx) reading ICR is that vector's handler."""

    def __init__(self, count: int, kernel: str, host: str, shared: bool) -> None:
        number = int(kernel.partition(".")[0]) * 100 + int(kernel.partition(".")[2])
        p = replace(E1000E.napi, kernel=number)
        if shared:
            p = replace(p, reads_icr=True, ims=E1000_IMS_ENABLE_MASK, ims_up=E1000_IMS_ENABLE_MASK)
        self.shared = shared
        self.napi = Play(napi.NAPI, kernel, p)
        # QEMU sends messages that are masked or without a cause: the handler runs all the same.
        self.handler = Play(napi.NAPI, kernel, p, strict=False)
        self.ring = Play(rx.NIC_RX, kernel, replace(E1000E.rx, count=count))
        down = napi.Napi(sched=True, npsvc=True, masked=True)
        super().__init__(Polling(down, self.ring(rx.RxRing(), rx.Configure())[1]), host)

    def key(self, at: Polling) -> Polling:
        """Without net_rx_action's budget and a finished poll's work, unless that is the whole weight: neither shows."""
        n, r = at.napi, at.rx
        over = r.rx in (rx.Rx.IDLE, rx.Rx.REFILL_END)
        full = n.work >= self.napi.params.weight
        return replace(
            at,
            napi=replace(n, budget=0, work=n.work if full else 0),
            rx=replace(r, work=0, budget=0) if over else r,
        )

    def _hidden(self, s: Polling) -> Iterator[tuple[Polling, str, tuple[Any, ...], str]]:
        """What driver and kernel may do next: the state, the rule, its effects, and what a reader should know."""
        n = s.napi
        ends = n.poll == napi.Poll.EMPTY and s.rx.rx == rx.Rx.IDLE
        if s.message and not self.shared and (ends or not n.sched):
            yield self._handled(s)
        if s.rx.rx != rx.Rx.IDLE or n.poll == napi.Poll.DRIVER:
            yield self._read(s)
        elif n.poll == napi.Poll.OUT and n.softirq and not n.in_action:
            yield self._napi(s, napi.Softirq())
        elif n.in_action and n.poll in (napi.Poll.OUT, napi.Poll.RETURNED):
            yield self._napi(s, napi.NetRxStep())
        elif n.poll in (napi.Poll.EMPTY, napi.Poll.COMPLETED):
            yield self._napi(s, napi.DriverStep())

    def _napi(self, s: Polling, e: Event) -> tuple[Polling, str, tuple[Any, ...], str]:
        rule, n, effects = self.napi(s.napi, e)
        return replace(s, napi=n), rule, effects, ""

    def _handled(self, s: Polling) -> tuple[Polling, str, tuple[Any, ...], str]:
        causes = s.napi.cause and not s.napi.masked
        rule, n, effects = self.handler(s.napi, napi.Interrupt() if causes or self.shared else napi.Schedule())
        note = "the handler runs" if causes else "the handler runs for a message without a cause"
        return replace(s, napi=n, message=False), rule, effects, note

    def _read(self, s: Polling) -> tuple[Polling, str, tuple[Any, ...], str]:
        """One step of the ring; where its loop ends, NAPI's poll knows how much was done."""
        e = rx.RxStep() if s.rx.rx != rx.Rx.IDLE else rx.PollRx(budget=self.napi.params.weight)
        rule, ring, effects = self.ring(s.rx, e)
        t = replace(s, rx=ring, frames=s.frames + sum(isinstance(x, rx.FrameUp) for x in effects))
        if s.rx.rx == rx.Rx.CLEAN and ring.rx in (rx.Rx.REFILL_END, rx.Rx.IDLE):
            after = self.napi(s.napi, napi.DriverStep(work=s.rx.work))[1]
            return replace(t, napi=after), rule, effects, f"a poll read {s.rx.work} descriptors"
        return t, rule, effects, ""

    def _search(self, g: Guess) -> Iterator[tuple[Guess, str, Any]]:
        """Every way on through hidden steps, up to the first register write of each: that write, or None within.

        Within, the rule's id comes along where it has just ended a poll's reading or begun a handler.
        """
        todo, seen = [(g, "")], {g.at}
        while todo:
            h, turn_by = todo.pop()
            yield h, turn_by, None
            for s, rule, effects, note in self._hidden(h.at):
                trail = Trail(None, note, h.trail) if note else h.trail
                shown = [x for x in effects if isinstance(x, rx.RxTail | napi.UnmaskIrq)]
                if shown:
                    yield Guess(s, trail), rule, shown[0]
                elif s not in seen:
                    seen.add(s)
                    turn = s.napi.poll == napi.Poll.EMPTY != h.at.napi.poll or s.message != h.at.message
                    todo.append((Guess(s, trail), rule if turn else ""))

    def _wrote(self, line: int, what: str, match: Callable[[Any], bool]) -> None:
        def follow(g: Guess) -> Iterator[Guess]:
            for h, rule, x in self._search(g):
                if x is None:
                    continue
                if match(x):
                    yield self.label(h, h.at, line, rule)
                else:
                    self.allowed.append(_would(x))
                    self.miss(rule, f"writes {_would(x)} first")

        self.each(what, follow)

    def tail(self, line: int, value: int) -> None:
        """The driver wrote RDT."""
        self._wrote(line, f"RDT = {value:#x}", lambda x: isinstance(x, rx.RxTail) and x.tail == value)

    def unmask(self, line: int, value: int) -> None:
        """The driver wrote IMS with this vector's causes."""
        self._wrote(line, f"IMS = {value:#x}", lambda x: isinstance(x, napi.UnmaskIrq) and x.mask == value)

    def enable(self, line: int, value: int) -> None:
        """The driver came up and unmasked all vectors; before that it filled the ring."""
        what = f"IMS = {value:#x} as the device comes up"

        def follow(g: Guess) -> Iterator[Guess]:
            for h, _, x in self._search(g):
                if x is not None:
                    self.allowed.append(_would(x))
                elif h.at.rx.rx == rx.Rx.IDLE:
                    rule, n, effects = self.napi(h.at.napi, napi.Enable())
                    if napi.UnmaskIrq(mask=value, by=rule) in effects:
                        yield self.label(h, replace(h.at, napi=n), line, rule)

        self.each(what, follow)

    def disable(self, line: int) -> None:
        """The driver wrote IMC because it goes down."""

        def follow(g: Guess) -> Iterator[Guess]:
            rule, n, effects = self.napi(g.at.napi, napi.Disable())
            if napi.MaskIrq(by=rule) in effects:
                yield self.label(g, replace(g.at, napi=n), line, rule)

        self.each("IMC", follow)

    def read_icr(self, line: int, value: int) -> None:
        """The handler of the one vector read ICR."""

        def follow(g: Guess) -> Iterator[Guess]:
            for h, turn, x in self._search(g):
                free = h is g or turn or h.at.napi.poll == napi.Poll.COMPLETED
                if x is None and h.at.message and free:
                    s, rule, effects, note = self._handled(h.at)
                    if napi.ReadIcr(by=rule) in effects:
                        yield self.label(h, s, line, rule, note)
            if not g.at.message:
                self.miss("nic.napi.interrupt", "not an interrupt that waits for its handler")

        self.each(f"ICR read as {value:#x}", follow)

    def raised(self, late: bool) -> None:
        """The card sent its message, or raised its line."""

        def follow(g: Guess) -> Iterator[Guess]:
            yield replace(g, at=replace(g.at, message=True))
            if g.at.message and not self.shared:
                # Its handler may have run already, so that this one is another.
                yield replace(g, at=replace(self._handled(g.at)[0], message=True))
                for h, turn, x in self._search(g):
                    if x is None and turn and not h.at.message:
                        yield replace(h, at=replace(h.at, message=True))

        self.each("an interrupt", follow)

    def cause(self) -> None:
        """The card set a cause bit of this vector without a frame."""

        def follow(g: Guess) -> Iterator[Guess]:
            yield replace(g, at=self._napi(g.at, napi.DeviceWork(n=0))[0])

        self.each("a cause", follow)

    def taken(self, index: int) -> None:
        """The card took slot `index` for a frame: the next one that is its own."""
        head, tail = self.alive[0].at.rx.head, self.alive[0].at.rx.tail
        if index != head or head == tail:
            allowed = f"slot {head}" if head != tail else "no slot"
            near = NearMiss("nic.rx.device_received", f"head is {head}, tail {tail}")
            raise Rejected(f"the card took receive slot {index}", [allowed], [near], self.state())

    def delivered(self) -> None:
        """The card filled its slot and wrote it back; polls may have ended their reading before."""

        def follow(g: Guess) -> Iterator[Guess]:
            for h, turn, x in self._search(g):
                if x is None and (h is g or turn):
                    s: Polling = h.at
                    ring = self.ring(s.rx, rx.DeviceReceived())[1]
                    yield replace(h, at=replace(self._napi(s, napi.DeviceWork())[0], rx=ring))

        self.each("the card wrote back a receive slot", follow)

    def refused(self) -> None:
        """The card had no slot for a frame."""

        def follow(g: Guess) -> Iterator[Guess]:
            if any(isinstance(x, rx.FrameMissed) for x in self.ring(g.at.rx, rx.DeviceReceived())[2]):
                yield g
            else:
                self.miss("nic.rx.device_missed", f"slots {g.at.rx.head} to {g.at.rx.tail} are the card's")

        self.each("the card had no buffer for a frame", follow)

    def settled(self) -> bool:
        """Whether nothing need be under way: no handler waits, no poll, nothing unread, not masked."""
        return any(not self._unfinished(h.at) for g in self.alive for h, _, x in self._search(g) if x is None)

    def _unfinished(self, s: Polling) -> bool:
        return s.message or s.napi.sched or s.napi.softirq or s.napi.in_action or s.rx.next_to_clean != s.rx.head

    def finish(self) -> set[int]:
        """The counts of frames passed up with which the log may end, all that was written back read."""
        return {
            h.at.frames
            for g in self.alive
            for h, _, x in self._search(g)
            if x is None and h.at.rx.next_to_clean == h.at.rx.head
        }


def _would(x: Any) -> str:
    return f"RDT = {x.tail:#x}" if isinstance(x, rx.RxTail) else f"IMS = {x.mask:#x}"
