"""What may have happened unseen to a neighbour entry: timers, packets, confirmations and administrators, proposed from
what was seen. The law: a proposal never invents a fact that the capture does not show.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from conformance.check.neigh_guess import NOTE_LATE, TRUESIZE, Administered, Guess, State, Ways
from conformance.check.setup import Notification, slack
from refmodel.neigh.netlink import neigh_add
from refmodel.neigh.types import (
    NUD,
    Absent,
    Confirm,
    Create,
    Delete,
    Flush,
    Neigh,
    Output,
    Override,
    PeriodicGc,
    Timer,
    Update,
)
from refmodel.rule import Event
from refmodel.types import NEVER

REMEMBERED: Final = 256
ADMINISTRATOR: Final = "an administrator"

Proposals = Iterator[tuple[tuple[Event, ...], str, int, int]]  # events, what a user reads, cost, reachable_time drawn


class Causes:
    """The circumstances of one entry: its parameters, when packets left and which may have confirmed it."""

    def __init__(self, ways: Ways, admin: tuple[Administered, ...]) -> None:
        self.hz, self.late, self.noted, self.admin = ways.hz, ways.late, ways.noted, admin
        self.upheavals = ways.upheavals
        self.lossy = ways.lossy
        self.base = ways.params.base_reachable_time
        self.params = replace(ways.params, reachable_time=max(self.base * 3 // 2 - 1, 0))
        self.early = self.params.tick + 1_000 + ways.path
        self.outs: deque[int] = deque(maxlen=REMEMBERED)
        self.confirms: deque[int] = deque(maxlen=REMEMBERED)
        self.next_out = self.next_confirm = 0
        self.spacing = max(abs(self.params.delay_probe_time) // 200, 1_000)

    def delay(self, s: Neigh) -> int:
        """How far ahead (us) the timer of this state is armed."""
        if s.nud_state == NUD.REACHABLE:
            return self.params.reachable_time
        return self.params.delay_probe_time if s.nud_state == NUD.DELAY else self.params.retrans_time

    def latest(self, s: Neigh) -> int:
        """When (us) the timer has fired at the latest."""
        return s.timer + slack(max(self.delay(s), 0), self.hz) + self.late

    def due(self, g: Guess, s: Neigh, t: int) -> bool:
        """The timer may have fired by `t`, and not too long before a notice read at `t`."""
        earliest = s.timer - self.early - (g.loose[1] if g.loose[0] == s.timer else 0)
        return s.timer != NEVER and earliest <= t <= self.latest(s) + NOTE_LATE

    def reach(self, s: Neigh, confirmed: int, t: int) -> int:
        """The reachable_time with which the entry was too old at `t`; 0 if none of those that may be drawn."""
        wanted = t - confirmed - 1
        if wanted + self.early < self.base // 2:
            return 0
        return max(min(wanted, self.params.reachable_time), 1)

    def confirmed(self, s: Neigh, t: int) -> int:
        """The last packet until `t` that may have carried a confirmation; -1 if none is newer than what is known."""
        return max((c for c in self.confirms if s.confirmed < c <= t), default=-1)

    def seen_out(self, t: int, confirms: bool) -> None:
        """Remembers when packets left, at a spacing that bounds the memory."""
        if not self.outs or t - self.outs[-1] >= self.spacing:
            self.outs.append(t)
            self.next_out = t + self.spacing
        if confirms and (not self.confirms or t - self.confirms[-1] >= self.spacing):
            self.confirms.append(t)
            self.next_confirm = t + self.spacing

    def asks(self, g: Guess, t: int) -> Proposals:
        """What could make it ask at `t`: hidden events, what a user reads, cost, the reachable_time that was drawn."""
        s = g.state
        if isinstance(s, Absent):
            yield (Create(t), Output(t, TRUESIZE)), "a packet for an unknown neighbour", 1, 0
            yield from self._asked_before(t)
        asked = self._administered(g, t)
        if asked and self.admin[g.calls].uses:
            yield asked, f"{ADMINISTRATOR} asks (NTF_USE)", 2, 0
        if not isinstance(s, Neigh):
            return
        if s.nud_state in (NUD.NONE, NUD.FAILED):
            yield (Output(t, TRUESIZE),), "a packet for the neighbour", 1, 0
        elif s.nud_state in (NUD.INCOMPLETE, NUD.PROBE) and self.due(g, s, t):
            yield (Timer(t),), "retransmission timer", 0, 0
            yield (Timer(min(s.timer, t)), Output(t, TRUESIZE)), "it failed, then a packet for the neighbour", 2, 0
        elif s.nud_state == NUD.DELAY and self.due(g, s, t):
            yield (Timer(t),), "the delay is over", 0, 0
        elif s.nud_state == NUD.REACHABLE:
            yield from self._from_reachable(s, t)
        elif s.nud_state == NUD.STALE and not self.noted:
            for out in self.starts(t):
                yield (Output(out, TRUESIZE), Timer(t)), "a packet, then the delay", 3, 0
        if not self.noted:
            yield (Flush(t), Create(t), Output(t, TRUESIZE)), "the entry was deleted (not seen)", 9, 0

    def _asked_before(self, t: int) -> Proposals:
        """Where frames were lost before the tap, the first of a series that it sees need not be the first."""
        every = max(self.params.retrans_time, self.params.timer_floor)
        for k in range(1, self.params.mcast_probes if self.lossy else 0):
            first = t - k * every
            again = tuple(Timer(first + n * every) for n in range(1, k + 1))
            yield (Create(first), Output(first, TRUESIZE), *again), f"solicitations lost before the tap: {k}", 9 * k, 0

    def _from_reachable(self, s: Neigh, t: int) -> Proposals:
        """reachable_time ended unseen, and delay_first_probe_time after that or after the next packet it asks."""
        delay = self.params.delay_probe_time
        gone = t - delay
        for at in (gone, gone - slack(max(delay, 0), self.hz) // 2):
            reach = self.reach(s, s.confirmed, at)
            if reach:
                yield (Timer(at), Timer(t)), "reachable_time ended in use, then the delay", 1, reach
        if self.noted:
            return
        for out in self.starts(t):
            reach = self.reach(s, s.confirmed, out)
            events = (Timer(out - 1), Output(out, TRUESIZE), Timer(t))
            if reach:
                yield events, "reachable_time ended unseen, then a packet, then the delay", 3, reach

    def starts(self, t: int) -> Iterator[int]:
        """When packets left that may have started a delay which ended at `t`."""
        delay = self.params.delay_probe_time
        first = t - delay - slack(max(delay, 0), self.hz) - self.late
        return (out for out in self.outs if first <= out <= t - delay + self.early + self.spacing)

    def causes(self, g: Guess, note: Notification) -> Proposals:
        """What could make it tell: hidden events, what a user reads, cost, the reachable_time that was drawn."""
        s, t = g.state, note.time
        asked = self._administered(g, t)
        if asked:
            yield asked, ADMINISTRATOR, 1, 0
        if not isinstance(s, Neigh):
            return
        if note.event == "DELNEIGH":
            yield (PeriodicGc(t, entries=self.params.gc_thresh1),), "garbage collection", 3, 0
            if not any(since <= t <= until for since, until in self.upheavals):
                return
            yield (Flush(t),), "the device went down, lost its carrier or changed its address", 2, 0
            yield (Flush(t, held=True),), "the device went down while the entry was in use", 3, 0
        elif note.state == "STALE" and s.nud_state == NUD.REACHABLE:
            yield from self._gone_stale(s, t)
        elif note.state == "REACHABLE" and s.nud_state in (NUD.DELAY, NUD.REACHABLE):
            yield from self._confirmed_again(g, s, t)
        elif note.state == "FAILED" and s.nud_state in (NUD.INCOMPLETE, NUD.PROBE, NUD.DELAY) and self.due(g, s, t):
            yield (Timer(min(max(t, s.timer), self.latest(s))),), "as many solicitations as allowed were sent", 0, 0

    def unseen_causes(self, g: Guess, note: Notification) -> Proposals:
        """Frames behind the end of the capture: a solicitation, or news of the neighbour."""
        s, t = g.state, note.time
        why = "after the last frame"
        if note.state == "PROBE" and isinstance(s, Neigh) and s.nud_state == NUD.DELAY and self.due(g, s, t):
            yield (Timer(t),), why, 5, 0
        elif note.state == "PROBE" and isinstance(s, Neigh) and s.nud_state == NUD.REACHABLE:
            yield from self._from_reachable(s, t)
        elif note.event == "NEWNEIGH" and note.lladdr and note.state in ("STALE", "REACHABLE", "DELAY"):
            new = NUD.REACHABLE if note.state == "REACHABLE" else NUD.STALE
            news = Update(t, new, lladdr=int(note.lladdr.replace(":", ""), 16), override=Override.YES)
            first = (Create(t),) if isinstance(s, Absent) else ()
            yield (*first, news), why, 5, 0

    def _gone_stale(self, s: Neigh, t: int) -> Proposals:
        """reachable_time ended at `t` or up to NOTE_LATE before; packets since then started the delay."""
        may = self.confirmed(s, t)
        for c in (s.confirmed, may) if may >= 0 else (s.confirmed,):
            over = c + self.params.reachable_time + slack(self.params.reachable_time, self.hz) + self.late
            confirm: tuple[Event, ...] = (Confirm(c),) if c > s.confirmed else ()
            reach = self.reach(s, c, t)
            if reach and t - NOTE_LATE <= over:
                yield (*confirm, Timer(t)), "reachable_time ended", len(confirm), reach
            for out in self.outs:
                reach = self.reach(s, c, out - 1)
                if t - NOTE_LATE <= out <= min(t, over) and reach and out > c:
                    after = tuple(Output(o, TRUESIZE) for o in self.outs if out <= o <= t)
                    yield (*confirm, Timer(out - 1), *after), "reachable_time ended before the last packet", 2, reach

    def _confirmed_again(self, g: Guess, s: Neigh, t: int) -> Proposals:
        """The delay ended in REACHABLE because an upper layer confirmed meanwhile."""
        if s.nud_state == NUD.DELAY:
            if not self.due(g, s, t):
                return
            for at in (min(max(t, s.timer), self.latest(s)), s.timer):
                c = self.confirmed(s, at)
                events: tuple[Event, ...] = (Confirm(c), Timer(at)) if c >= 0 else (Timer(at),)
                yield events, "confirmed by an upper layer", 1, 0
            return
        gone = t - self.params.delay_probe_time
        reach = self.reach(s, s.confirmed, gone)
        c = self.confirmed(s, t)
        if reach and c >= 0:
            yield (Timer(gone), Confirm(c), Timer(t)), "reachable_time ended in use; confirmed meanwhile", 3, reach

    def _administered(self, g: Guess, t: int) -> tuple[Event, ...]:
        """The next request of an administrator, if it may take effect at `t`."""
        if g.calls >= len(self.admin) or not self.admin[g.calls].time <= t <= self.admin[g.calls].until:
            return ()
        return self.administer(g.state, self.admin[g.calls], t) or ()

    def administer(self, s: State, a: Administered, t: int) -> tuple[Event, ...] | None:
        """The events of a request at `t`; None if it would fail, and it did not."""
        if a.request is None:
            return (Delete(t),) if isinstance(s, Neigh) else None
        errno, events = neigh_add(replace(a.request, now=t), isinstance(s, Neigh))
        return None if errno else events
