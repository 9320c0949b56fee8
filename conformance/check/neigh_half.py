"""One neighbour entry of one host, followed by all the ways in which what was seen can have come about.

It is the frontier's law with a second channel. Frames carry the tap's stamps, in order; a notification is stamped when
somebody read it, up to NOTE_LATE after it was made. So a notice that the machine gives waits for its match in the
sidecar, and one of the sidecar that no frame explains is the evidence of a hidden event: a timer, an administrator, a
device that went down. reachable_time is random in [base/2, 3*base/2): the machine runs with the longest, and a timer
that fires earlier is given the value that its time shows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from conformance.check.frontier import Dead, Trail, describe, labels
from conformance.check.neigh_causes import ADMINISTRATOR, Causes
from conformance.check.neigh_frames import mac
from conformance.check.neigh_guess import NOTE_LATE, TRUESIZE, Administered, Guess, Told, Waiting, Ways
from conformance.check.setup import Notification
from conformance.check.verdict import Divergence, FrameLabel, NearMiss
from refmodel.neigh.arp import Learn
from refmodel.neigh.parms import Family
from refmodel.neigh.types import (
    CONNECTED,
    NUD,
    Absent,
    Confirm,
    Create,
    Msg,
    Neigh,
    Notify,
    Output,
    SendQueued,
    Solicit,
    Stray,
    Timer,
    Transmit,
)
from refmodel.rule import AssumptionBroken, Event, NotEnabled, NotModelled, Params
from refmodel.types import NEVER

WIDTH: Final = 32
QUICK: Final = (*CONNECTED, NUD.DELAY, NUD.PROBE)


class Watch:
    """One entry. Without knowledge of its start it is `unknown` until the host solicits its neighbour."""

    def __init__(
        self, host: str, subject: str, ways: Ways, unknown: bool, admin: tuple[Administered, ...] = ()
    ) -> None:
        self.host, self.subject, self.ways, self.unknown, self.admin = host, subject, ways, unknown, admin
        self.causes = Causes(ways, admin)
        self.params = self.causes.params
        self.alive = [] if unknown else [Guess(Absent())]
        self.dead: list[Dead] = []
        self.bounded = False
        self.touched = False
        self.ended: Divergence | None = None
        self.acked = False  # the neighbour acknowledged something since: the next packet may confirm it
        self.quick_mac = b""
        self.quick_until = -1
        self.passed = -1

    # -- one event

    def _run(
        self, g: Guess, events: Sequence[Event], note: str = "", cost: int = 1, replay: bool = False, reach: int = 0
    ) -> tuple[Guess, list[tuple[Any, str]]] | None:
        """Applies events, of which only the last may send a frame the tap sees; `reach`: the reachable_time drawn."""
        params: Params = replace(self.params, reachable_time=reach) if reach else self.params
        shown: list[tuple[Any, str]] = []
        for e in events:
            if shown and not self.ways.lossy:
                return None
            shown.clear()
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
        """Until when, and to which address, packets may be passed to that move `used` alone."""
        self.quick_until = -1
        until = NEVER
        for g in self.alive:
            s = g.state
            if g.waiting or not isinstance(s, Neigh) or not s.hh or s.nud_state not in QUICK or s.ha != s.hh_ha:
                return
            until = min(until, NEVER if s.timer == NEVER else self.causes.latest(s))
        hw = {g.state.ha for g in self.alive if isinstance(g.state, Neigh)}
        if len(hw) == 1:
            self.quick_mac = hw.pop().to_bytes(6, "big")
            self.quick_until = until

    def passes(self, t: int) -> None:
        """A packet that the machine need not be asked about left at `t`."""
        self.passed = t
        if t >= self.causes.next_out or (self.acked and t >= self.causes.next_confirm):
            self.causes.seen_out(t, self.acked)
            self.acked = False

    def _catch_up(self) -> None:
        """Tells the machine of the last packet that was passed."""
        if self.passed >= 0 and self.alive:
            last, self.passed = self.passed, -1
            done = [self._run(g, (Output(last, TRUESIZE),), "", 0, replay=True) for g in self.alive]
            self._keep([r[0] for r in done if r is not None])

    # -- timers

    def advance(self, now: int) -> bool:
        """Lets time pass: what was due must have been seen."""
        if not self.alive:
            return self.unknown
        self._catch_up()
        if all(self._idle(g, now) for g in self.alive):
            return True
        self.dead.clear()
        return self._keep([n for g in self.alive for n in self._settle(g, now)])

    def _idle(self, g: Guess, now: int) -> bool:
        if (g.waiting and g.waiting.due < now) or (g.told and g.told[0].due < now):
            return False
        if g.calls < len(self.admin) and self.admin[g.calls].until < now:
            return False
        return not (isinstance(g.state, Neigh) and g.state.timer != NEVER and self.causes.latest(g.state) < now)

    def _settle(self, g: Guess, now: int) -> Iterator[Guess]:
        while not self._idle(g, now):
            if g.waiting and g.waiting.due < now and self.ways.lossy:
                g = replace(g, waiting=None)
                continue
            if g.waiting and g.waiting.due < now:
                what = f"{g.waiting.n} queued packets to {mac(g.waiting.ha)} were due and are missing"
                self._died(g, g.waiting.due, what, g.waiting.rule)
                return
            if g.told and g.told[0].due < now:
                self._untold(g)
                return
            administered = g.calls < len(self.admin) and self.admin[g.calls].until < now
            fired = self._administered(g) if administered else self._fire(g)
            if fired is None:
                return
            g = fired
        yield g

    def _administered(self, g: Guess) -> Guess | None:
        """An administrator's request took effect and no notice was read: None if there should be one."""
        a = self.admin[g.calls]
        events = self.causes.administer(g.state, a, a.until - NOTE_LATE)
        if events is None:
            self._died(g, a.until, "the administrator's request would have failed")
            return None
        r = self._run(g, events, ADMINISTRATOR, 1, replay=True)
        if r is None or r[1]:
            return None
        return replace(r[0], calls=g.calls + 1)

    def _fire(self, g: Guess) -> Guess | None:
        """The timer fired and no frame shows it: None if one should."""
        s = g.state
        if not isinstance(s, Neigh):
            raise TypeError(f"a {type(s).__name__} has no timer")
        latest = self.causes.latest(s)
        confirmed = self.causes.confirmed(s, latest)
        if confirmed >= 0 and s.nud_state in (NUD.REACHABLE, NUD.DELAY):
            at = max(s.timer, confirmed)
            if s.nud_state == NUD.REACHABLE or confirmed + self.params.delay_probe_time >= at:
                r = self._run(g, (Confirm(confirmed), Timer(at)), "confirmed by an upper layer")
                return None if r is None else self._unseen(g, *r, latest)
        at = max(s.timer, s.confirmed + self.params.reachable_time + 1) if s.nud_state == NUD.REACHABLE else latest
        r = self._run(g, (Timer(at),), "timer")
        n = None if r is None else self._unseen(g, *r, latest)
        if n is not None and s.nud_state == NUD.REACHABLE and isinstance(n.state, Neigh):
            return replace(n, loose=(n.state.timer, self.causes.base))
        return n

    def _unseen(self, g: Guess, n: Guess, shown: list[tuple[Any, str]], at: int) -> Guess | None:
        if shown and not self.ways.lossy:
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
            for events, note, cost, reach in self.causes.asks(g, t):
                r = self._run(g, events, note, cost, reach=reach)
                if r is None:
                    continue
                n, shown = self._counted(r[0], note), r[1]
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
        if (
            isinstance(s, Neigh)
            and s.nud_state in (NUD.INCOMPLETE, NUD.PROBE, NUD.DELAY)
            and not self.causes.due(g, s, t)
        ):
            self._died(g, t, f"its timer fires {(s.timer - t) / 1e6:+.3f} s from then", "neigh.timer.ask_again")

    def _counted(self, g: Guess, why: str) -> Guess:
        return replace(g, calls=g.calls + 1) if why.startswith(ADMINISTRATOR) else g

    def _labelled(self, g: Guess, number: int, rule: str, step: str, note: str) -> Guess:
        return replace(g, trail=Trail(FrameLabel(number, "", rule, step, note), "", g.trail))

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
            confirmed=t - 2 * self.causes.base,
            updated=t,
            used=t,
            timer=t + max(p.retrans_time, p.timer_floor),
            qlen=0 if known else 1,
            qbytes=0 if known else TRUESIZE,
        )
        before = 0 if known else p.ucast_probes + p.app_probes
        most = p.ucast_probes if known else p.mcast_probes
        self.unknown = False
        rule = "neigh.timer.ask_again" if known else "neigh.output.first"
        return self._keep(
            self._labelled(
                Guess(replace(start, probes=before + k)), number, rule, "neigh.output.probe", "first seen here"
            )
            for k in range(1, max(most, 1) + 1)
        )

    def output(self, number: int, t: int, dst: int, label: bool, confirms: bool) -> bool:
        """The host sends a packet to the neighbour, at link-layer `dst`; `confirms`: it may carry a confirmation."""
        self.causes.seen_out(t, confirms)
        if not self.advance(t):
            return False
        if self.unknown:
            return True
        self.dead.clear()
        found = [n for g in self.alive for n in self._sent(g, number, t, dst, label)]
        return self._keep(found)

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
            self._died(g, t, f"a packet waits in {at}, nothing is sent", "neigh.output.waiting")
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

    def may_have_taken(self, number: int) -> bool:
        """Whether some guess has request `number` received."""
        return self.unknown or any(number not in g.lost for g in self.alive)

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
            for events, why, cost, reach in (
                *self.causes.causes(g, note),
                *(self.causes.unseen_causes(g, note) if blind else ()),
            ):
                r = self._run(g, events, why, cost, replay=True, reach=reach)
                if r is None:
                    continue
                if not blind and any(isinstance(x, Solicit) for x, _ in r[1]):
                    self._died(g, note.time, f"{why}: a solicitation should have been seen")
                elif r[0].told:
                    found += self._heard(self._counted(r[0], why), note)
                else:
                    self._died(g, note.time, f"{why}: nobody is told")
            if isinstance(g.state, Neigh):
                self._died(g, note.time, f"nothing turns {g.state.nud_state.name} into {note.state} then")
        return self._keep(found)

    def _heard(self, g: Guess, note: Notification) -> list[Guess]:
        told = g.told[0]
        why = told_differs(told.effect, note)
        if not why and told.since > note.time + self.causes.early:
            why = f"{describe(told.effect)} comes {(told.since - note.time) / 1e6:.3f} s later"
        if why:
            self._died(g, note.time, why, told.rule, describe(told.effect))
            return []
        return [replace(g, told=g.told[1:])]

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
