"""One neighbour entry of one host, followed by all the ways in which what was seen can have come about.

It is the frontier's law with a second channel. Frames carry the tap's stamps, in order; a notification is stamped when
somebody read it, up to NOTE_LATE after it was made. So a notice that the machine gives waits for its match in the
sidecar, and one of the sidecar that no frame explains is the evidence of a hidden event: a timer, an administrator, a
device that went down. reachable_time is random in [base/2, 3*base/2): the machine runs with the longest, and a timer
that fires earlier is given the value that its time shows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.frontier import Apply, Dead, Trail, describe, labels
from conformance.check.neigh_frames import mac
from conformance.check.setup import Notification, slack
from conformance.check.verdict import Divergence, FrameLabel, NearMiss
from refmodel.neigh.arp import Learn
from refmodel.neigh.netlink import NewNeigh, neigh_add
from refmodel.neigh.parms import Family, NeighParms
from refmodel.neigh.types import (
    CONNECTED,
    NUD,
    Absent,
    Confirm,
    Create,
    Delete,
    Flush,
    Msg,
    Neigh,
    Notify,
    Output,
    Override,
    PeriodicGc,
    SendQueued,
    Solicit,
    Stray,
    Timer,
    Transmit,
    Update,
)
from refmodel.rule import AssumptionBroken, Event, NotEnabled, NotModelled, Params
from refmodel.types import NEVER

NOTE_LATE: Final = 400_000
TRUESIZE: Final = 768
WIDTH: Final = 32
REMEMBERED: Final = 256

State = Absent | Neigh | Stray


class Told(Struct, frozen=True):
    """A notice that the machine gave at `since`; somebody must have read it by `due` (us)."""

    effect: Notify
    rule: str
    since: int
    due: int


class Waiting(Struct, frozen=True):
    """`n` packets of arp_queue that must leave for `ha` by `due` (us)."""

    n: int
    ha: int
    rule: str
    step: str
    due: int


class Guess(Struct, frozen=True):
    """One way in which everything seen so far can have come about.

    `loose` is a deadline whose start nobody saw, and how much earlier (us) it may lie. `took` and `lost` are requests
    not yet answered.
    """

    state: State
    waiting: Waiting | None = None
    told: tuple[Told, ...] = ()
    loose: tuple[int, int] = (0, 0)
    took: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    cost: int = 0
    trail: Trail | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells guesses apart for the future."""
        return self.state, self.waiting, self.told, self.loose, self.took, self.lost


class Administered(Struct, frozen=True):
    """What an administrator did to the entry between `time` and `until` (us): RTM_NEWNEIGH, or RTM_DELNEIGH if None."""

    time: int
    until: int
    request: NewNeigh | None


class Ways(Struct, frozen=True):
    """How the host was observed: `noted`: its notifications were recorded; `late` and `hz` as in the setup."""

    apply: Apply
    params: NeighParms
    hz: int
    late: int
    noted: bool


class Watch:
    """One entry. Without knowledge of its start it is `unknown` until the host solicits its neighbour."""

    def __init__(
        self, host: str, subject: str, ways: Ways, unknown: bool, admin: tuple[Administered, ...] = ()
    ) -> None:
        self.host, self.subject, self.ways, self.unknown, self.admin = host, subject, ways, unknown, admin
        self.base = ways.params.base_reachable_time
        self.params = replace(ways.params, reachable_time=max(self.base * 3 // 2 - 1, 0))
        self.early = self.params.tick + 1_000
        self.alive = [] if unknown else [Guess(Absent())]
        self.dead: list[Dead] = []
        self.bounded = False
        self.touched = False
        self.ended: Divergence | None = None
        self.outs: deque[int] = deque(maxlen=REMEMBERED)
        self.confirms: deque[int] = deque(maxlen=REMEMBERED)
        self.spacing = max(abs(self.params.delay_probe_time) // 200, 1_000)
        self.acked = False  # the neighbour acknowledged something since: the next packet may confirm it
        self.quick_mac = b""
        self.quick_until = -1

    # -- one event

    def _run(
        self, g: Guess, events: Sequence[Event], note: str = "", cost: int = 1, replay: bool = False, reach: int = 0
    ) -> tuple[Guess, list[tuple[Any, str]]] | None:
        """Applies events, of which only the last may send a frame; `reach` is the reachable_time that was drawn."""
        params: Params = replace(self.params, reachable_time=reach) if reach else self.params
        shown: list[tuple[Any, str]] = []
        for e in events:
            if shown:
                return None
            now: int = e.now  # type: ignore[attr-defined]
            try:
                r, new, effects = self.ways.apply(g.state, e, params)
            except (NotModelled, AssumptionBroken, NotEnabled) as why:
                self.dead.append(Dead(g.state, now, str(why)))
                return None
            g = replace(g, state=new)
            for x in effects:
                if isinstance(x, SendQueued):
                    g = replace(g, waiting=Waiting(x.n, x.ha, r.id, x.by, now + self.ways.late))
                elif isinstance(x, Notify) and self.ways.noted:
                    g = replace(g, told=(*g.told, Told(x, r.id, now, now + NOTE_LATE)))
                elif isinstance(x, Solicit) or (isinstance(x, Transmit) and not replay):
                    shown.append((x, r.id))
        if isinstance(g.state, Stray):
            g = replace(g, state=Absent())
        if note:
            g = replace(g, trail=Trail(None, note, g.trail))
        return replace(g, cost=g.cost + cost), shown

    def _died(self, g: Guess, now: int, why: str, rule: str = "", allowed: str = "") -> None:
        near = (NearMiss(rule, why),) if rule else ()
        self.dead.append(Dead(g.state, now, why, (allowed,) if allowed else (), near))

    def _keep(self, found: Iterable[Guess]) -> bool:
        best: dict[Any, Guess] = {}
        for g in found:
            old = best.get(g.key)
            if old is None or g.cost < old.cost:
                best[g.key] = g
        alive = sorted(best.values(), key=lambda g: g.cost)
        self.bounded = self.bounded or len(alive) > WIDTH
        self.alive = alive[:WIDTH]
        self._quicken()
        return bool(self.alive)

    def _quicken(self) -> None:
        """Until when, and to which address, packets may be passed without a look at the machine."""
        self.quick_until = -1
        if len(self.alive) == 1 and not self.alive[0].waiting:
            s = self.alive[0].state
            if isinstance(s, Neigh) and s.nud_state in CONNECTED and s.hh:
                self.quick_mac = s.hh_ha.to_bytes(6, "big")
                self.quick_until = NEVER if s.timer == NEVER else self._latest(s)

    # -- timers

    def _delay(self, s: Neigh) -> int:
        if s.nud_state == NUD.REACHABLE:
            return self.params.reachable_time
        return self.params.delay_probe_time if s.nud_state == NUD.DELAY else self.params.retrans_time

    def _latest(self, s: Neigh) -> int:
        return s.timer + slack(max(self._delay(s), 0), self.ways.hz) + self.ways.late

    def _due(self, g: Guess, s: Neigh, t: int) -> bool:
        """The timer may have fired by `t`, and not too long before a notice read at `t`."""
        earliest = s.timer - self.early - (g.loose[1] if g.loose[0] == s.timer else 0)
        return s.timer != NEVER and earliest <= t <= self._latest(s) + NOTE_LATE

    def _reach(self, s: Neigh, confirmed: int, t: int) -> int:
        """The reachable_time with which the entry was too old at `t`; 0 if none of those that may be drawn."""
        wanted = t - confirmed - 1
        if wanted + self.early < self.base // 2:
            return 0
        return max(min(wanted, self.params.reachable_time), 1)

    def _confirmed(self, s: Neigh, t: int) -> int:
        """The last packet until `t` that may have carried a confirmation; -1 if none is newer than what is known."""
        return max((c for c in self.confirms if s.confirmed < c <= t), default=-1)

    def advance(self, now: int) -> bool:
        """Lets time pass: what was due must have been seen."""
        if not self.alive:
            return self.unknown
        if all(self._idle(g, now) for g in self.alive):
            return True
        return self._keep([n for g in self.alive for n in self._settle(g, now)])

    def _idle(self, g: Guess, now: int) -> bool:
        if (g.waiting and g.waiting.due < now) or (g.told and g.told[0].due < now):
            return False
        return not (isinstance(g.state, Neigh) and g.state.timer != NEVER and self._latest(g.state) < now)

    def _settle(self, g: Guess, now: int) -> Iterator[Guess]:
        while not self._idle(g, now):
            if g.waiting and g.waiting.due < now:
                what = f"{g.waiting.n} queued packets to {mac(g.waiting.ha)} were due and are missing"
                self._died(g, g.waiting.due, what, g.waiting.rule)
                return
            if g.told and g.told[0].due < now:
                self._untold(g)
                return
            fired = self._fire(g)
            if fired is None:
                return
            g = fired
        yield g

    def _fire(self, g: Guess) -> Guess | None:
        """The timer fired and no frame shows it: None if one should."""
        s = g.state
        if not isinstance(s, Neigh):
            raise TypeError(f"a {type(s).__name__} has no timer")
        latest = self._latest(s)
        confirmed = self._confirmed(s, latest)
        if confirmed >= 0 and s.nud_state in (NUD.REACHABLE, NUD.DELAY):
            at = max(s.timer, confirmed)
            if s.nud_state == NUD.REACHABLE or confirmed + self.params.delay_probe_time >= at:
                r = self._run(g, (Confirm(confirmed), Timer(at)), "confirmed by an upper layer")
                return None if r is None else self._unseen(g, *r, latest)
        at = max(s.timer, s.confirmed + self.params.reachable_time + 1) if s.nud_state == NUD.REACHABLE else latest
        r = self._run(g, (Timer(at),), "timer")
        n = None if r is None else self._unseen(g, *r, latest)
        if n is not None and s.nud_state == NUD.REACHABLE and isinstance(n.state, Neigh):
            return replace(n, loose=(n.state.timer, self.base))
        return n

    def _unseen(self, g: Guess, n: Guess, shown: list[tuple[Any, str]], at: int) -> Guess | None:
        if shown:
            effect, rule = shown[0]
            self._died(g, at, f"{describe(effect)} was due and is missing", rule, describe(effect))
            return None
        if n.state == g.state:
            self._died(g, at, "the timer does not disarm itself")
            return None
        return n

    # -- what the host sends

    def solicit(self, number: int, t: int, unicast: int, differs: Callable[[Solicit], str]) -> bool:
        """The host asks for the neighbour, at `unicast` (-1: everybody); `differs` compares the fields."""
        self.touched = True
        if not self.advance(t):
            return False
        if self.unknown:
            return self._first_seen(number, t, unicast)
        self.dead.clear()
        found: list[Guess] = []
        for g in self.alive:
            for events, note, cost, reach in self._asks(g, t):
                r = self._run(g, events, note, cost, reach=reach)
                if r is None:
                    continue
                n, shown = r
                if len(shown) != 1 or not isinstance(shown[0][0], Solicit):
                    self._died(g, t, f"{note} sends no solicitation")
                    continue
                effect, rule = shown[0]
                why = differs(effect)
                if why:
                    self._died(g, t, why, rule, describe(effect))
                else:
                    found.append(self._labelled(self._itself(n, t, unicast), number, rule, effect.by, note))
            self._too_early(g, t)
        return self._keep(found)

    def _itself(self, g: Guess, t: int, unicast: int) -> Guess:
        """A unicast solicitation of IPv6 is a packet to the neighbour like any other."""
        if unicast < 0 or self.params.family != Family.INET6:
            return g
        r = self._run(g, (Output(t, TRUESIZE),), "", 0, replay=True)
        return g if r is None else r[0]

    def _too_early(self, g: Guess, t: int) -> None:
        s = g.state
        if isinstance(s, Neigh) and s.nud_state in (NUD.INCOMPLETE, NUD.PROBE, NUD.DELAY) and not self._due(g, s, t):
            self._died(g, t, f"its timer fires {(s.timer - t) / 1e6:+.3f} s from then", "timer.ask_again")

    def _labelled(self, g: Guess, number: int, rule: str, step: str, note: str) -> Guess:
        return replace(g, trail=Trail(FrameLabel(number, "", rule, step, note), "", g.trail))

    def _asks(self, g: Guess, t: int) -> Iterator[tuple[tuple[Event, ...], str, int, int]]:
        """What could make it ask at `t`: hidden events, what a user reads, cost, the reachable_time that was drawn."""
        s = g.state
        if isinstance(s, Absent):
            yield (Create(t), Output(t, TRUESIZE)), "a packet for an unknown neighbour", 1, 0
        for a in self.admin:
            if a.request is not None and a.request.use and a.time <= t <= a.until:
                yield self._administer(s, a, t), "an administrator asks (NTF_USE)", 2, 0
        if not isinstance(s, Neigh):
            return
        if s.nud_state in (NUD.NONE, NUD.FAILED):
            yield (Output(t, TRUESIZE),), "a packet for the neighbour", 1, 0
        elif s.nud_state in (NUD.INCOMPLETE, NUD.PROBE) and self._due(g, s, t):
            yield (Timer(t),), "retransmission timer", 0, 0
            yield (Timer(min(s.timer, t)), Output(t, TRUESIZE)), "it failed, then a packet for the neighbour", 2, 0
        elif s.nud_state == NUD.DELAY and self._due(g, s, t):
            yield (Timer(t),), "the delay is over", 0, 0
        elif s.nud_state == NUD.REACHABLE:
            yield from self._from_reachable(s, t)
        elif s.nud_state == NUD.STALE and not self.ways.noted:
            for out in self._starts(t):
                yield (Output(out, TRUESIZE), Timer(t)), "a packet, then the delay", 3, 0
        if not self.ways.noted:
            yield (Flush(t), Create(t), Output(t, TRUESIZE)), "the entry was deleted (not seen)", 9, 0

    def _from_reachable(self, s: Neigh, t: int) -> Iterator[tuple[tuple[Event, ...], str, int, int]]:
        """reachable_time ended unseen, and delay_first_probe_time after that or after the next packet it asks."""
        delay = self.params.delay_probe_time
        gone = t - delay
        for at in (gone, gone - slack(max(delay, 0), self.ways.hz) // 2):
            reach = self._reach(s, s.confirmed, at)
            if reach:
                yield (Timer(at), Timer(t)), "reachable_time ended in use, then the delay", 1, reach
        if self.ways.noted:
            return
        for out in self._starts(t):
            reach = self._reach(s, s.confirmed, out)
            events = (Timer(out - 1), Output(out, TRUESIZE), Timer(t))
            if reach:
                yield events, "reachable_time ended unseen, then a packet, then the delay", 3, reach

    def _starts(self, t: int) -> Iterator[int]:
        """When packets left that may have started a delay which ended at `t`."""
        delay = self.params.delay_probe_time
        first = t - delay - slack(max(delay, 0), self.ways.hz) - self.ways.late
        return (out for out in self.outs if first <= out <= t - delay + self.early + self.spacing)

    def _first_seen(self, number: int, t: int, unicast: int) -> bool:
        """The first solicitation that the capture shows may be any of its series."""
        p = self.params
        known = unicast >= 0
        start = Neigh(
            nud_state=NUD.PROBE if known else NUD.INCOMPLETE,
            ha=max(unicast, 0),
            ha_set=known,
            hh=known,
            hh_ha=max(unicast, 0),
            confirmed=t - 2 * self.base,
            updated=t,
            used=t,
            timer=t + max(p.retrans_time, p.timer_floor),
            qlen=0 if known else 1,
            qbytes=0 if known else TRUESIZE,
        )
        before = 0 if known else p.ucast_probes + p.app_probes
        most = p.ucast_probes if known else p.mcast_probes
        self.unknown = False
        rule = "timer.ask_again" if known else "output.first"
        return self._keep(
            self._labelled(Guess(replace(start, probes=before + k)), number, rule, "output.probe", "first seen here")
            for k in range(1, max(most, 1) + 1)
        )

    def output(self, number: int, t: int, dst: int, label: bool, confirms: bool) -> bool:
        """The host sends a packet to the neighbour, at link-layer `dst`; `confirms`: it may carry a confirmation."""
        self.seen_out(t, confirms)
        if not self.advance(t):
            return False
        if self.unknown:
            return True
        self.dead.clear()
        found = [n for g in self.alive for n in self._sent(g, number, t, dst, label)]
        return self._keep(found)

    def seen_out(self, t: int, confirms: bool) -> None:
        """Remembers when packets left, at a spacing that bounds the memory."""
        if not self.outs or t - self.outs[-1] >= self.spacing:
            self.outs.append(t)
        if confirms and (not self.confirms or t - self.confirms[-1] >= self.spacing):
            self.confirms.append(t)

    def _sent(self, g: Guess, number: int, t: int, dst: int, label: bool) -> Iterator[Guess]:
        w = g.waiting
        if w is not None:
            if dst != w.ha:
                self._died(g, t, f"link-layer destination {mac(w.ha)} expected, {mac(dst)} seen", w.rule)
                return
            left = replace(w, n=w.n - 1) if w.n > 1 else None
            n = replace(g, waiting=left)
            yield self._labelled(n, number, w.rule, w.step, "it waited for the address") if label else n
            return
        r = None if isinstance(g.state, Absent) else self._run(g, (Output(t, TRUESIZE),), "", 0)
        if r is None:
            self._died(g, t, "there is no entry, so nothing may be sent before a solicitation is answered")
            return
        n, shown = r
        if not shown or not isinstance(shown[0][0], Transmit):
            at = g.state.nud_state.name if isinstance(g.state, Neigh) else type(g.state).__name__
            self._died(g, t, f"a packet waits in {at}, nothing is sent", "output.waiting")
            return
        effect, rule = shown[0]
        if effect.ha != dst:
            why = f"link-layer destination {mac(effect.ha)} expected, {mac(dst)} seen"
            self._died(g, t, why, rule, describe(effect))
            return
        yield self._labelled(n, number, rule, effect.by, "") if label else n

    # -- what it hears

    @property
    def known(self) -> bool:
        """The likeliest guess has an entry."""
        return self.unknown or isinstance(self.alive[0].state, Neigh)

    @property
    def failed(self) -> bool:
        """The likeliest guess's entry is FAILED."""
        s = None if self.unknown else self.alive[0].state
        return isinstance(s, Neigh) and s.nud_state == NUD.FAILED

    def learn(self, number: int, rule: str, news: Learn, answered: bool, may_be_lost: bool) -> bool:
        """Takes the news of frame `number`; `answered`: the host owes an answer, which tells whether it was lost."""
        t = news.update.now
        if not self.advance(t):
            return False
        if self.unknown:
            return True
        self.dead.clear()
        found: list[Guess] = []
        for g in self.alive:
            events: tuple[Event, ...] = (news.update,)
            if isinstance(g.state, Absent):
                events = (Create(t), news.update) if news.create else ()
            r = self._run(g, events, f"frame {number}: {rule}" if events else "", 0)
            if r is not None:
                found.append(replace(r[0], took=(*g.took, number)) if answered and may_be_lost else r[0])
            if may_be_lost and events:
                lost = (*g.lost, number) if answered else g.lost
                trail = Trail(None, f"frame {number} was lost after the tap", g.trail)
                found.append(replace(g, lost=lost, cost=g.cost + 20, trail=trail))
        return self._keep(found)

    def settle(self, number: int, answered: bool) -> bool:
        """Whether request `number` was answered: what lost it, or took it, is out."""
        if self.unknown:
            return True
        out = [g for g in self.alive if number not in (g.lost if answered else g.took)]
        for g in self.alive:
            if g not in out:
                self._died(g, 0, f"frame {number} {'was' if answered else 'was not'} answered")
        return self._keep(
            replace(g, took=tuple(k for k in g.took if k != number), lost=tuple(k for k in g.lost if k != number))
            for g in out
        )

    # -- what listeners were told

    def notified(self, note: Notification, blind: bool) -> bool:
        """A notification of the entry was read; `blind`: when the capture was over, so frames may lie behind it."""
        self.touched = True
        if not self.advance(note.time):
            return False
        if self.unknown:
            return True
        self.dead.clear()
        found: list[Guess] = []
        for g in self.alive:
            if g.told:
                found += self._heard(g, note)
                continue
            for events, why, cost, reach in (*self._causes(g, note), *(self._unseen_causes(g, note) if blind else ())):
                r = self._run(g, events, why, cost, replay=True, reach=reach)
                if r is None:
                    continue
                if not blind and any(isinstance(x, Solicit) for x, _ in r[1]):
                    self._died(g, note.time, f"{why}: a solicitation should have been seen")
                elif r[0].told:
                    found += self._heard(r[0], note)
                else:
                    self._died(g, note.time, f"{why}: nobody is told")
            if isinstance(g.state, Neigh):
                self._died(g, note.time, f"nothing turns {g.state.nud_state.name} into {note.state} then")
        return self._keep(found)

    def _heard(self, g: Guess, note: Notification) -> list[Guess]:
        told = g.told[0]
        why = told_differs(told.effect, note)
        if not why and told.since > note.time + self.early:
            why = f"{describe(told.effect)} comes {(told.since - note.time) / 1e6:.3f} s later"
        if why:
            self._died(g, note.time, why, told.rule, describe(told.effect))
            return []
        return [replace(g, told=g.told[1:])]

    def _causes(self, g: Guess, note: Notification) -> Iterator[tuple[tuple[Event, ...], str, int, int]]:
        """What could make it tell: hidden events, what a user reads, cost, the reachable_time that was drawn."""
        s, t = g.state, note.time
        for a in self.admin:
            if a.time <= t <= a.until:
                yield self._administer(s, a, t), "an administrator", 1, 0
        if not isinstance(s, Neigh):
            return
        if note.event == "DELNEIGH":
            yield (Flush(t),), "the device went down, lost its carrier or changed its address", 2, 0
            yield (Flush(t, held=True),), "the device went down while the entry was in use", 3, 0
            yield (PeriodicGc(t, entries=self.params.gc_thresh1),), "garbage collection", 3, 0
        elif note.state == "STALE" and s.nud_state == NUD.REACHABLE:
            yield from self._gone_stale(s, t)
        elif note.state == "REACHABLE" and s.nud_state in (NUD.DELAY, NUD.REACHABLE):
            yield from self._confirmed_again(g, s, t)
        elif note.state == "FAILED" and s.nud_state in (NUD.INCOMPLETE, NUD.PROBE, NUD.DELAY) and self._due(g, s, t):
            yield (Timer(min(max(t, s.timer), self._latest(s))),), "as many solicitations as allowed were sent", 0, 0

    def _unseen_causes(self, g: Guess, note: Notification) -> Iterator[tuple[tuple[Event, ...], str, int, int]]:
        """Frames behind the end of the capture: a solicitation, or news of the neighbour."""
        s, t = g.state, note.time
        why = "after the last frame"
        if note.state == "PROBE" and isinstance(s, Neigh) and s.nud_state == NUD.DELAY and self._due(g, s, t):
            yield (Timer(t),), why, 5, 0
        elif note.state == "PROBE" and isinstance(s, Neigh) and s.nud_state == NUD.REACHABLE:
            yield from self._from_reachable(s, t)
        elif note.event == "NEWNEIGH" and note.lladdr and note.state in ("STALE", "REACHABLE", "DELAY"):
            new = NUD.REACHABLE if note.state == "REACHABLE" else NUD.STALE
            news = Update(t, new, lladdr=int(note.lladdr.replace(":", ""), 16), override=Override.YES)
            first = (Create(t),) if isinstance(s, Absent) else ()
            yield (*first, news), why, 5, 0

    def _gone_stale(self, s: Neigh, t: int) -> Iterator[tuple[tuple[Event, ...], str, int, int]]:
        """reachable_time ended at `t` or up to NOTE_LATE before; packets since then started the delay."""
        may = self._confirmed(s, t)
        for c in (s.confirmed, may) if may >= 0 else (s.confirmed,):
            over = c + self.params.reachable_time + slack(self.params.reachable_time, self.ways.hz) + self.ways.late
            confirm: tuple[Event, ...] = (Confirm(c),) if c > s.confirmed else ()
            reach = self._reach(s, c, t)
            if reach and t - NOTE_LATE <= over:
                yield (*confirm, Timer(t)), "reachable_time ended", len(confirm), reach
            for out in self.outs:
                reach = self._reach(s, c, out - 1)
                if t - NOTE_LATE <= out <= min(t, over) and reach and out > c:
                    after = tuple(Output(o, TRUESIZE) for o in self.outs if out <= o <= t)
                    yield (*confirm, Timer(out - 1), *after), "reachable_time ended before the last packet", 2, reach

    def _confirmed_again(self, g: Guess, s: Neigh, t: int) -> Iterator[tuple[tuple[Event, ...], str, int, int]]:
        """The delay ended in REACHABLE because an upper layer confirmed meanwhile."""
        if s.nud_state == NUD.DELAY:
            if not self._due(g, s, t):
                return
            for at in (min(max(t, s.timer), self._latest(s)), s.timer):
                c = self._confirmed(s, at)
                events: tuple[Event, ...] = (Confirm(c), Timer(at)) if c >= 0 else (Timer(at),)
                yield events, "confirmed by an upper layer", 1, 0
            return
        gone = t - self.params.delay_probe_time
        reach = self._reach(s, s.confirmed, gone)
        c = self._confirmed(s, t)
        if reach and c >= 0:
            yield (Timer(gone), Confirm(c), Timer(t)), "reachable_time ended in use; confirmed meanwhile", 3, reach

    def _administer(self, s: State, a: Administered, t: int) -> tuple[Event, ...]:
        if a.request is None:
            return (Delete(t),) if isinstance(s, Neigh) else ()
        return neigh_add(replace(a.request, now=t), isinstance(s, Neigh))[1]

    # -- the end

    def finish(self, end: int) -> bool:
        """The capture has shown everything up to `end` us, and every notice until then was read."""
        if not self.advance(end) or self.unknown:
            return self.unknown
        self.dead.clear()
        for g in self.alive:
            if g.told and g.told[0].since <= end:
                self._untold(g)
        return self._keep([g for g in self.alive if not g.told or g.told[0].since > end])

    def _untold(self, g: Guess) -> None:
        told = g.told[0]
        self._died(
            g, told.due, f"{describe(told.effect)} was due and nobody was told", told.rule, describe(told.effect)
        )

    def labels(self) -> tuple[tuple[FrameLabel, ...], tuple[str, ...]]:
        """The labels and hidden events of the likeliest guess."""
        return labels(self.alive[0].trail if self.alive else None, self.host)


def told_differs(effect: Notify, note: Notification) -> str:
    """'' if the notice is the one that was read, else the fields that differ, the model's first."""
    event = "NEWNEIGH" if effect.msg == Msg.NEWNEIGH else "DELNEIGH"
    lladdr = mac(effect.ha) if effect.has_lladdr else ""
    pairs = (
        ("event", event, note.event),
        ("state", effect.nud_state.name, note.state),
        ("lladdr", lladdr, note.lladdr),
        ("probes", effect.probes, note.probes),
    )
    return "; ".join(f"notification's {name} {a} expected, {b} seen" for name, a, b in pairs if a != b)
