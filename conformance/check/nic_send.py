"""e1000e's transmit ring, the vector that cleans it, and the vector for link and errors, followed beside a log."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.nic_half import Frontier, Guess, Play
from conformance.live.nic_log import TxDescriptor
from refmodel.nic import tx, vector
from refmodel.nic.drivers import E1000E
from refmodel.nic.ring import dist


class Sending(Struct, frozen=True):
    """The transmit ring, whose handler or poll may clean it.

    `lengths`: of the packets in the ring, oldest first. `message`: an interrupt waits for its handler. `cleaned`: the
    handler that runs has had its pass. `restarts`: how often the queue was started again.
    """

    tx: tx.TxRing
    vector: vector.Vector
    lengths: tuple[int, ...] = ()
    message: bool = False
    cleaned: bool = False
    complete: bool = True
    restarts: int = 0
    packets: int = 0


class Transmit(Frontier):
    """The transmit ring and what cleans it: a vector of its own, or with `shared` the poll of the one vector."""

    def __init__(self, count: int, kernel: str, host: str, shared: bool) -> None:
        self.shared = shared
        self.ring = Play(tx.NIC_TX, kernel, replace(E1000E.tx, count=count))
        self.vector = Play(vector.NIC_VECTOR, kernel, E1000E.vectors[0])
        super().__init__(Sending(tx.TxRing(), vector.Vector(down=True, masked=True)), host)

    def _begin(self, s: Sending) -> Sending | None:
        """The handler begins, if an interrupt waits for it."""
        if not s.message or (s.vector.phase != vector.Phase.IDLE):
            return None
        if self.shared:
            return replace(s, cleaned=False)
        v = s.vector if s.vector.cause else self.vector(s.vector, vector.Happened())[1]
        return replace(s, vector=self.vector(v, vector.VectorInterrupt())[1], message=False, cleaned=False)

    def _running(self, s: Sending) -> bool:
        return s.message if self.shared else s.vector.phase == vector.Phase.HANDLER

    def _clean(self, s: Sending) -> Sending:
        """One pass over all that is written back."""
        t, lengths, complete, restarts = self.ring(s.tx, tx.PollTx())[1], s.lengths, True, s.restarts
        while t.clean != tx.Clean.IDLE:
            _, t, effects = self.ring(t, tx.CleanStep(n=lengths[0] if lengths else 1))
            lengths = lengths[sum(isinstance(x, tx.Completed) for x in effects) :]
            restarts += sum(isinstance(x, tx.QueueStarted) for x in effects)
            complete = all(x.complete for x in effects if isinstance(x, tx.CleanDone)) and complete
        return replace(s, tx=t, lengths=lengths, cleaned=not self.shared, complete=complete, restarts=restarts)

    def _with_room(self, s: Sending, data: int, context: bool) -> Sending:
        """`s`, if need be after a pass, or after stores have become visible."""
        t: Sending | None = s
        if t is not None and not self._fits(t, data, context) and not self._running(t):
            t = self._begin(t)
        if t is not None and not self._fits(t, data, context) and not t.cleaned:
            t = self._clean(t)
        if t is not None and not t.tx.stopped and not self._fits(t, data, context):
            t = replace(t, tx=self.ring(t.tx, tx.Drained())[1])
        return t if t is not None else s

    def _fits(self, s: Sending, data: int, context: bool) -> bool:
        p = self.ring.params
        return not s.tx.stopped and tx.room(s.tx, p) >= tx.size(data, context, p)

    def doorbell(self, line: int, value: int, packets: list[list[TxDescriptor]]) -> None:
        """The driver wrote TDT; the card fetches `packets` for it."""

        def follow(g: Guess) -> Iterator[Guess]:
            s: Sending = g.at
            rule = ""
            for i, packet in enumerate(packets):
                context = packet[0].context
                data, last = len(packet) - context, i + 1 == len(packets)
                s = self._with_room(s, data, context)
                e = tx.Send(data=data, context=context, more=not last, batched=i > 0)
                s, rule, rung, queued = self._send(s, e, len(packet))
                if not queued:
                    self.miss(rule, f"packet {i + 1} of {len(packets)}: no interrupt has let the driver clean the ring")
                    return
                if rung != ([value] if last else []):
                    self.allowed += [f"TDT = {t:#x}" for t in rung]
                    self.miss(rule, f"packet {i + 1} of {len(packets)} rings {[hex(t) for t in rung]}")
                    return
            if rule:
                yield self.label(g, s, line, rule, f"{len(packets)} packets" if len(packets) > 1 else "")

        self.each(f"TDT = {value:#x}", follow)

    def _send(self, s: Sending, e: tx.Send, slots: int) -> tuple[Sending, str, list[int], bool]:
        """ndo_start_xmit from call to return: the rule that came last, the tails written, whether the ring has it."""
        rule, t, out = self.ring(s.tx, e)
        while t.xmit != tx.Xmit.IDLE:
            rule, t, effects = self.ring(t, tx.SendStep())
            out += effects
        queued = any(isinstance(x, tx.TxOk) and x.queued for x in out)
        started = sum(isinstance(x, tx.QueueStarted) for x in out)
        lengths = (*s.lengths, slots) if queued else s.lengths
        done = replace(s, tx=t, lengths=lengths, restarts=s.restarts + started, packets=s.packets + queued)
        return done, rule, [x.tail for x in out if isinstance(x, tx.Doorbell)], queued

    def fetched(self, d: TxDescriptor) -> None:
        """The card fetched the next descriptor; with RS it wrote the packet back at once."""

        def follow(g: Guess) -> Iterator[Guess]:
            t = self.ring(g.at.tx, tx.DeviceFetched(n=1))[1]
            if d.eop and d.report_status:
                t = self.ring(t, tx.DeviceWroteBack(n=dist(t.done, t.head, self.ring.params.count)))[1]
            yield replace(g, at=replace(g.at, tx=t))

        self.each("the card fetched a transmit descriptor", follow)

    def cause(self) -> None:
        """The card set the transmit vector's cause bit."""

        def follow(g: Guess) -> Iterator[Guess]:
            yield replace(g, at=replace(g.at, vector=self.vector(g.at.vector, vector.Happened())[1]))

        self.each("a cause", follow)

    def raised(self, late: bool) -> None:
        """The card sent the transmit vector's message (with `shared`: the handler read ICR, and a poll will come)."""

        def follow(g: Guess) -> Iterator[Guess]:
            s: Sending = g.at
            yield replace(g, at=replace(s, message=True))
            begun = self._begin(s) if s.message and not self.shared else None
            if begun is not None:
                yield replace(g, at=replace(begun, message=True))
                yield replace(g, at=replace(self._clean(begun), message=True))

        self.each("an interrupt", follow)

    def unmask(self, line: int, value: int) -> None:
        """The driver wrote IMS with the transmit vector's cause (with `shared`: the poll is over)."""

        def follow(g: Guess) -> Iterator[Guess]:
            s: Sending | None = g.at if self._running(g.at) else self._begin(g.at)
            if s is None:
                self.miss("nic.vector.handler_ends", "not an interrupt that waits for its handler")
                return
            if not s.cleaned:
                s = self._clean(s)
            if self.shared:
                yield replace(g, at=replace(s, message=False))
                return
            rule, v, effects = self.vector(s.vector, vector.HandlerEnds(complete=s.complete))
            if vector.VectorUnmask(mask=value, by=rule) in effects:
                yield self.label(g, replace(s, vector=v, cleaned=False), line, rule)
            else:
                self.allowed += [f"IMS = {x.mask:#x}" for x in effects if isinstance(x, vector.VectorUnmask)]

        self.each(f"IMS = {value:#x}", follow)

    def enable(self, line: int, value: int) -> None:
        """The driver came up and unmasked all vectors."""
        _come_up(self, self.vector, line, value)

    def disable(self, line: int) -> None:
        """The driver wrote IMC because it goes down."""
        _go_down(self, self.vector, line)

    def settled(self) -> bool:
        """Whether no handler need wait or run."""
        return any(not g.at.message and not self._running(g.at) for g in self.alive)

    def finish(self) -> set[tuple[int, int]]:
        """(packets mapped, restarts of the queue) with which the log may end."""
        return {(g.at.packets, g.at.restarts) for g in self.alive if g.at.tx.tail == g.at.tx.head}


# ------------------------------------------------------------------------------------------------ the other vector


class Waiting(Struct, frozen=True):
    """The vector for link and errors. `stolen`: the queues' causes that its handler read away and not given back."""

    vector: vector.Vector
    message: bool = False
    stolen: int = 0


class Other(Frontier):
    """The vector for link and errors: its handler reads ICR."""

    def __init__(self, kernel: str, host: str) -> None:
        self.vector = Play(vector.NIC_VECTOR, kernel, E1000E.vectors[1])
        super().__init__(Waiting(vector.Vector(down=True, masked=True)), host)

    def cause(self) -> None:
        """The card set one of the vector's causes."""

        def follow(g: Guess) -> Iterator[Guess]:
            yield replace(g, at=replace(g.at, vector=self.vector(g.at.vector, vector.Happened())[1]))

        self.each("a cause", follow)

    def raised(self, late: bool) -> None:
        """The card sent the vector's message."""
        self.alive = [replace(g, at=replace(g.at, message=True)) for g in self.alive]

    def read_icr(self, line: int, value: int) -> None:
        """The handler read ICR."""

        def follow(g: Guess) -> Iterator[Guess]:
            s: Waiting = g.at
            if not s.message:
                self.miss("nic.vector.vector_interrupt", "not an interrupt that waits for its handler")
                return
            v = s.vector if s.vector.cause else self.vector(s.vector, vector.Happened())[1]
            rule, v, effects = self.vector(v, vector.VectorInterrupt())
            if vector.VectorReadsIcr(by=rule) in effects:
                stolen = value & (vector.E1000_IMS_RXQ0 | vector.E1000_IMS_TXQ0)
                yield self.label(g, Waiting(v, False, stolen), line, rule)

        self.each(f"ICR read as {value:#x}", follow)

    def unmask(self, line: int, value: int, given: int) -> None:
        """The handler wrote IMS; `given` is what it wrote to ICS since it read ICR."""

        def follow(g: Guess) -> Iterator[Guess]:
            rule, v, effects = self.vector(g.at.vector, vector.HandlerEnds(stolen=g.at.stolen))
            back = sum(x.mask for x in effects if isinstance(x, vector.SetCause))
            if back != given:
                self.allowed.append(f"ICS = {back:#x}")
                self.miss(rule, f"gives {back:#x} back to ICS first, not {given:#x}")
            elif vector.VectorUnmask(mask=value, by=rule) in effects:
                yield self.label(g, Waiting(v), line, rule)

        self.each(f"IMS = {value:#x}", follow)

    def enable(self, line: int, value: int) -> None:
        """The driver came up and unmasked all vectors."""
        _come_up(self, self.vector, line, value)

    def disable(self, line: int) -> None:
        """The driver wrote IMC because it goes down."""
        _go_down(self, self.vector, line)

    def settled(self) -> bool:
        """Whether no handler need wait or run."""
        return any(not g.at.message and g.at.vector.phase == vector.Phase.IDLE for g in self.alive)


def _come_up(f: Frontier, play: Play, line: int, value: int) -> None:
    def follow(g: Guess) -> Iterator[Guess]:
        rule, v, effects = play(g.at.vector, vector.ComesUp())
        if vector.VectorUnmask(mask=value, by=rule) in effects:
            yield f.label(g, replace(g.at, vector=v), line, rule)

    f.each(f"IMS = {value:#x} as the device comes up", follow)


def _go_down(f: Frontier, play: Play, line: int) -> None:
    def follow(g: Guess) -> Iterator[Guess]:
        rule, v, effects = play(g.at.vector, vector.GoesDown())
        if vector.VectorMask(by=rule) in effects:
            yield f.label(g, replace(g.at, vector=v), line, rule)

    f.each("IMC", follow)
