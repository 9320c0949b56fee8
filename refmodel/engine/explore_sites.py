"""Sites: a component with the wires that end at it, its local states numbered, its moves looked up by number.

A global state is one number a site, packed into one 64-bit word. Millions of global states share a few thousand local
ones, so rules run only when a local state is met for the first time; everything after that is arithmetic on arrays.
"""

from array import array
from collections.abc import Hashable, Iterator
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from msgspec import Struct

from refmodel.engine.explore_system import Budget, Component, Message, Problem, System, Taken, Wire
from refmodel.engine.explore_table import MISSING, Bools, Column, Ints, KeyMap, Words, distinct

Inbox = tuple[tuple[int, ...], ...]
Sends = tuple[tuple[int, int], ...]  # (position of the wire among the target's, message number)
BLOCKED = 1 << 40  # a lossless wire has no room
NOWHERE = BLOCKED + 1  # the event has no outcome
SEND_BITS = 22


T = TypeVar("T", bound=Hashable)


class Numbered(Generic[T]):
    """Values numbered in the order in which they were met."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, item: T) -> int:
        """The number of a value, a new one if it was not met before."""
        i = self._numbers.get(item)
        if i is None:
            i = self._numbers[item] = len(self.items)
            self.items.append(item)
        return i


class TooManyStates(Exception):
    """A site has more local states than its share of a packed word can number: the bound must be made smaller."""


class Move(Struct, frozen=True):
    """One move of a site with all that a run tells of it. `local` may be BLOCKED or NOWHERE."""

    kind: str
    event: Any
    wire: str
    taken: Taken | None
    local: int
    sends: tuple[int, ...]


class Outcome(Struct, frozen=True):
    """What an event does to a core (state and budget): the next core, and the messages to each site by number."""

    event: Any
    taken: Taken
    core: int | None
    sends: tuple[int, ...]
    to_self: int


class Arrival(Struct, frozen=True):
    """A message that may arrive or be lost: its wire, its number, and the inbox without it."""

    wire: int
    message: int
    rest: int


class Site:
    """One component and the wires into it, everything about them numbered.

    A core is (state number, budget), an inbox is the content of all wires, a local state is (core, inbox).
    """

    def __init__(self, index: int, component: Component, wires: tuple[Wire, ...], places: int, width: int) -> None:
        self.index = index
        self.component = component
        self.wires = wires
        self.shift = np.uint64(index * width)
        self.limit = 1 << width
        self.mask = np.uint64(self.limit - 1)
        self.states = Numbered[Any]()
        self.cores = Numbered[tuple[int, Budget]]()
        self.inboxes = Numbered[Inbox]()
        self.locals = Numbered[tuple[int, int]]()
        self.messages = Numbered[Message]()
        self.sent = Numbered[Sends]()
        self.sent.number(())
        self.wrong: dict[int, tuple[Problem, ...]] = {}
        self.taken: dict[tuple[int, Any], Taken] = {}
        self.own: dict[int, tuple[Outcome, ...]] = {}
        self.got: dict[tuple[int, int, int], tuple[Outcome, ...]] = {}
        self.arriving: dict[int, tuple[Arrival, ...]] = {}
        self.entered: dict[tuple[int, int], int] = {}
        self.first = Column(fill=MISSING)
        self.count = Column()
        self.next = Column()
        self.out = [Column() for _ in range(places)]
        self.puts = KeyMap()

    def core(self, s: Any, budget: Budget) -> int:
        """The number of a component state with a budget; a state's invariants are judged when it is met first."""
        fresh = len(self.states.items)
        i = self.states.number(s)
        if i == fresh:
            problems = self.component.judge(s)
            if problems:
                self.wrong[i] = problems
        return self.cores.number((i, budget))

    def local(self, core: int, inbox: int) -> int:
        """The number of a local state; raises TooManyStates."""
        i = self.locals.number((core, inbox))
        if i >= self.limit - 1:
            raise TooManyStates(
                f"{self.component.name} has more than {self.limit - 2:,} local states (state, budget, incoming "
                "messages): make budgets or wires smaller, or split the component"
            )
        return i

    def state_of(self, local: int) -> int:
        """The number of the component state in a local state."""
        return self.cores.items[self.locals.items[local][0]][0]

    def put(self, local: int, send: int) -> int:
        """The local state after messages have entered its wires, or BLOCKED if a lossless wire has no room."""
        core, inbox = self.locals.items[local]
        after = self.entered.get((inbox, send))
        if after is None:
            after = self.entered[inbox, send] = self._enter(inbox, send)
        return BLOCKED if after == BLOCKED else self.local(core, after)

    def _enter(self, inbox: int, send: int) -> int:
        boxes = list(self.inboxes.items[inbox])
        for w, m in self.sent.items[send]:
            wire, box = self.wires[w], boxes[w]
            if wire.duplicate and wire.reorder and m in box:
                continue
            if len(box) >= wire.capacity:
                if wire.loss:
                    continue
                return BLOCKED
            boxes[w] = tuple(sorted((*box, m))) if wire.reorder else (*box, m)
        return self.inboxes.number(tuple(boxes))

    def arrivals(self, inbox: int) -> tuple[Arrival, ...]:
        """The messages that may arrive next: any on a wire that reorders, else the oldest."""
        out = self.arriving.get(inbox)
        if out is None:
            boxes = self.inboxes.items[inbox]
            found: list[Arrival] = []
            for w, wire in enumerate(self.wires):
                box = boxes[w]
                for i in range(len(box)) if wire.reorder else range(min(1, len(box))):
                    if i and box[i - 1] == box[i]:
                        continue
                    rest = (*boxes[:w], box[:i] + box[i + 1 :], *boxes[w + 1 :])
                    found.append(Arrival(w, box[i], self.inboxes.number(rest)))
            out = self.arriving[inbox] = tuple(found)
        return out


class Sites:
    """All sites of a system, and the arithmetic of packed global states."""

    def __init__(self, system: System) -> None:
        self.system = system
        n = len(system.components)
        width = 63 // n
        index = {c.name: i for i, c in enumerate(system.components)}
        into: list[list[Wire]] = [[] for _ in range(n)]
        self.exits: list[list[tuple[int, int, Wire]]] = [[] for _ in range(n)]
        for w in system.wires:
            self.exits[index[w.source]].append((index[w.target], len(into[index[w.target]]), w))
            into[index[w.target]].append(w)
        self.sites = [Site(i, c, tuple(into[i]), n, width) for i, c in enumerate(system.components)]
        self.silence = (0,) * n
        self.log = array("q")
        self.lock = Lock()
        self.skipped = 0
        self.rules: set[str] = set()
        self.fresh: list[tuple[int, int]] = []
        for s in self.sites:
            s.local(s.core(s.component.start, s.component.budget), s.inboxes.number(tuple(() for _ in s.wires)))

    @property
    def start(self) -> Words:
        """The packed start state: every site's first local state."""
        return np.zeros(1, np.uint64)

    def own(self, site: Site, core: int) -> tuple[Outcome, ...]:
        """What the component's own environment may cause."""
        out = site.own.get(core)
        if out is None:
            state, budget = site.cores.items[core]
            proposed = site.component.moves(site.states.items[state], budget)
            out = site.own[core] = tuple(self._outcome(site, state, event, left) for event, left in proposed)
        return out

    def got(self, site: Site, core: int, wire: int, message: int) -> tuple[Outcome, ...]:
        """What the arrival of a message may cause."""
        out = site.got.get((core, wire, message))
        if out is None:
            state, budget = site.cores.items[core]
            events = site.wires[wire].deliver(site.states.items[state], site.messages.items[message])
            out = tuple(self._outcome(site, state, event, budget) for event in events)
            site.got[core, wire, message] = out
        return out

    def _outcome(self, site: Site, state: int, event: Any, budget: Budget) -> Outcome:
        t = site.taken.get((state, event))
        if t is None:
            t = site.taken[state, event] = site.component.apply(site.states.items[state], event)
            self.skipped += t.skipped
            if t.rule:
                self.rules.add(t.rule)
        if t.state is None:
            return Outcome(event, t, None, self.silence, 0)
        groups: list[list[tuple[int, int]]] = [[] for _ in self.sites]
        for x in t.effects:
            for target, place, w in self.exits[site.index]:
                m = w.carry(x)
                if m is not None:
                    groups[target].append((place, self.sites[target].messages.number(m)))
        sends = [self.sites[k].sent.number(tuple(g)) for k, g in enumerate(groups)]
        if max(sends) >= 1 << SEND_BITS:
            raise TooManyStates(f"more than {1 << SEND_BITS:,} different groups of messages from {site.component.name}")
        to_self, sends[site.index] = sends[site.index], 0
        return Outcome(event, t, site.core(t.state, budget), tuple(sends), to_self)

    def _land(self, site: Site, outcome: Outcome, inbox: int) -> int:
        """The site's local state after an outcome, its messages to itself included; NOWHERE or BLOCKED without one."""
        if outcome.core is None:
            return NOWHERE
        local = site.local(outcome.core, inbox)
        return site.put(local, outcome.to_self) if outcome.to_self else local

    def moves(self, index: int, local: int) -> Iterator[Move]:
        """Every move of one site in a local state, in a fixed order."""
        site = self.sites[index]
        core, inbox = site.locals.items[local]
        for o in self.own(site, core):
            yield Move("move", o.event, "", o.taken, self._land(site, o, inbox), o.sends)
        for a in site.arrivals(inbox):
            wire = site.wires[a.wire]
            for o in self.got(site, core, a.wire, a.message):
                yield Move("deliver", o.event, wire.name, o.taken, self._land(site, o, a.rest), o.sends)
                if wire.duplicate:
                    yield Move("deliver copy", o.event, wire.name, o.taken, self._land(site, o, inbox), o.sends)
            if wire.loss:
                lost = site.messages.items[a.message]
                yield Move("lose", lost, wire.name, None, site.local(core, a.rest), self.silence)

    def expand(self, index: int, local: int) -> None:
        """Fills the site's move table for a local state, and notes it as fresh if one of its moves is wrong."""
        site = self.sites[index]
        core, inbox = site.locals.items[local]
        rows: dict[tuple[int, tuple[int, ...]], None] = {}
        wrong = False
        for o in self.own(site, core):
            wrong = wrong or bool(o.taken.problems)
            rows[self._land(site, o, inbox), o.sends] = None
        for a in site.arrivals(inbox):
            wire = site.wires[a.wire]
            for o in self.got(site, core, a.wire, a.message):
                wrong = wrong or bool(o.taken.problems)
                rows[self._land(site, o, a.rest), o.sends] = None
                if wire.duplicate:
                    rows[self._land(site, o, inbox), o.sends] = None
            if wire.loss:
                rows[site.local(core, a.rest), self.silence] = None
        rows.pop((local, self.silence), None)
        done = [r for r in rows if r[0] != NOWHERE]
        site.first.reserve(local + 1)
        site.count.reserve(local + 1)
        site.count.data[local] = len(done)
        site.next.extend([j for j, _ in done])
        for k, column in enumerate(site.out):
            if k != index:
                column.extend([sends[k] for _, sends in done])
        site.first.data[local] = site.next.used - len(done)
        self.log.extend((index, local, -1))
        if wrong:
            self.fresh.append((index, local))

    def _tabled(self, site: Site, local: Ints) -> None:
        """Sees to it that every local state in `local` has its moves in the table."""
        with self.lock:
            site.first.reserve(len(site.locals.items))
            known = site.first.data
            for i in distinct(local[known[local] == MISSING]).tolist():
                self.expand(site.index, i)

    def _putting(self, site: Site, local: Ints, send: Ints) -> Ints:
        """The local states after messages entered, by table; the rules of the wires run once a pair."""
        keys = (local.astype(np.uint64) << np.uint64(SEND_BITS)) | send.astype(np.uint64)
        found = site.puts.find(keys)
        if (found == MISSING).any():
            with self.lock:
                asked = distinct(keys[found == MISSING])
                asked = asked[site.puts.find(asked) == MISSING]
                fresh: list[int] = []
                for k in asked.tolist():
                    i, s = k >> SEND_BITS, k & ((1 << SEND_BITS) - 1)
                    fresh.append(site.put(i, s))
                    self.log.extend((site.index, i, s))
                site.puts.add(asked, np.array(fresh, np.int64))
            found = site.puts.find(keys)
        return found

    def locals_of(self, index: int, states: Words) -> Ints:
        """The number of one site's local state in each packed state."""
        site = self.sites[index]
        return ((states >> site.shift) & site.mask).astype(np.int64)

    def successors(self, states: Words) -> tuple[Words, Ints, Bools]:
        """(successors, index of the state that each comes from, whether a state has moves cut by a full wire)."""
        after: list[Words] = []
        origin: list[Ints] = []
        cut = np.zeros(len(states), np.bool_)
        here = [self.locals_of(k, states) for k in range(len(self.sites))]
        for k, site in enumerate(self.sites):
            local = here[k]
            self._tabled(site, local)
            first, count = site.first.data, site.count.data
            moves, outs = site.next.data, [c.data for c in site.out]
            n = count[local]
            total = int(n.sum())
            source = np.repeat(np.arange(len(states)), n)
            row = np.arange(total) + np.repeat(first[local] - (np.cumsum(n) - n), n)
            blocked = moves[row] == BLOCKED
            new = (states & ~(site.mask << site.shift))[source] | (moves[row].astype(np.uint64) << site.shift)
            for j, target in enumerate(self.sites):
                if j == k:
                    continue
                send = outs[j][row]
                sel = np.flatnonzero(send)
                if len(sel):
                    put = self._putting(target, here[j][source[sel]], send[sel])
                    full = put == BLOCKED
                    blocked[sel[full]] = True
                    cleared = new[sel] & ~(target.mask << target.shift)
                    new[sel] = cleared | (put.astype(np.uint64) << target.shift)
            if blocked.any():
                cut[source[blocked]] = True
                new, source = new[~blocked], source[~blocked]
            after.append(new)
            origin.append(source)
        return np.concatenate(after), np.concatenate(origin), cut

    def replay(self, log: "array[int]") -> None:
        """Repeats a checkpoint's numbering, so that its packed states mean the same again."""
        for at in range(0, len(log), 3):
            index, local, send = log[at : at + 3]
            if send < 0:
                self.expand(index, local)
            else:
                site = self.sites[index]
                key = np.array([(local << SEND_BITS) | send], np.uint64)
                site.puts.add(key, np.array([site.put(local, send)], np.int64))
                self.log.extend((index, local, send))
        self.fresh.clear()

    def components_at(self, state: int) -> list[tuple[Any, Budget, Inbox]]:
        """(component state, budget, incoming message numbers) of each site in one packed state."""
        out = []
        for site in self.sites:
            core, inbox = site.locals.items[(state >> int(site.shift)) & int(site.mask)]
            i, budget = site.cores.items[core]
            out.append((site.states.items[i], budget, site.inboxes.items[inbox]))
        return out
