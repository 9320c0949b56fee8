"""Sites: a component with the wires that end at it, its local states numbered, its moves looked up by number.

A global state is one number a site, packed into one 64-bit word. Millions of global states share a few thousand local
ones, so rules run only when a local state is met for the first time; everything after that is arithmetic on arrays.
"""

from array import array
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
from msgspec import Struct

from refmodel.engine.explore_system import Budget, Component, Message, Problem, System, Taken, Wire
from refmodel.engine.explore_table import MISSING, Bools, Column, Ints, KeyMap, Words

Inbox = tuple[tuple[int, ...], ...]
Sends = tuple[tuple[int, int], ...]  # (position of the wire among the target's, message number)
BLOCKED = 1 << 40
SEND_BITS = 22


class TooManyStates(Exception):
    """A site has more local states than its share of a packed word can number: the bound must be made smaller."""


class Move(Struct, frozen=True):
    """One move of a site with all that a run tells of it. `local` is None if the move cannot be completed."""

    kind: str
    event: Any
    wire: str
    taken: Taken | None
    local: int | None
    sends: tuple[int, ...]


class Site:
    """One component, the wires into it, and its numbered local states."""

    def __init__(self, index: int, component: Component, wires: tuple[Wire, ...], places: int, width: int) -> None:
        self.index = index
        self.component = component
        self.wires = wires
        self.shift = np.uint64(index * width)
        self.limit = 1 << width
        self.mask = np.uint64(self.limit - 1)
        self.states: list[Any] = []
        self.state_ids: dict[Any, int] = {}
        self.cores: list[tuple[int, Budget]] = []
        self.core_ids: dict[tuple[int, Budget], int] = {}
        self.locals: list[tuple[int, Inbox]] = []
        self.local_ids: dict[tuple[int, Inbox], int] = {}
        self.messages: list[Message] = []
        self.message_ids: dict[Message, int] = {}
        self.sent: list[Sends] = [()]
        self.send_ids: dict[Sends, int] = {(): 0}
        self.taken: dict[tuple[int, Any], Taken] = {}
        self.wrong: dict[int, tuple[Problem, ...]] = {}
        self.first = Column(fill=MISSING)
        self.count = Column()
        self.next = Column()
        self.out = [Column() for _ in range(places)]
        self.puts = KeyMap()

    def state(self, s: Any) -> int:
        """The number of a component state; its invariants are judged when it is met first."""
        i = self.state_ids.get(s)
        if i is None:
            i = self.state_ids[s] = len(self.states)
            self.states.append(s)
            problems = self.component.judge(s)
            if problems:
                self.wrong[i] = problems
        return i

    def local(self, core: tuple[int, Budget], inbox: Inbox) -> int:
        """The number of a local state; raises TooManyStates."""
        c = self.core_ids.get(core)
        if c is None:
            c = self.core_ids[core] = len(self.cores)
            self.cores.append(core)
        i = self.local_ids.get((c, inbox))
        if i is None:
            i = len(self.locals)
            if i >= self.limit - 1:
                raise TooManyStates(
                    f"{self.component.name} has more than {self.limit - 2:,} local states (state, budget, incoming "
                    "messages): make budgets or wires smaller, or split the component"
                )
            self.local_ids[c, inbox] = i
            self.locals.append((c, inbox))
        return i

    def message(self, m: Message) -> int:
        """The number of a message that travels to this site."""
        i = self.message_ids.get(m)
        if i is None:
            i = self.message_ids[m] = len(self.messages)
            self.messages.append(m)
        return i

    def send(self, s: Sends) -> int:
        """The number of a group of messages to this site."""
        i = self.send_ids.get(s)
        if i is None:
            i = self.send_ids[s] = len(self.sent)
            if i >= 1 << SEND_BITS:
                raise TooManyStates(
                    f"more than {1 << SEND_BITS:,} different groups of messages to {self.component.name}"
                )
            self.sent.append(s)
        return i

    def put(self, local: int, send: int) -> int:
        """The local state after messages have entered its wires, or BLOCKED if a lossless wire has no room."""
        c, inbox = self.locals[local]
        boxes = list(inbox)
        for w, m in self.sent[send]:
            wire, box = self.wires[w], boxes[w]
            if wire.duplicate and wire.reorder and m in box:
                continue
            if len(box) >= wire.capacity:
                if wire.loss:
                    continue
                return BLOCKED
            boxes[w] = tuple(sorted((*box, m))) if wire.reorder else (*box, m)
        return self.local(self.cores[c], tuple(boxes))

    def step(self, state: int, event: Any) -> Taken:
        """What the component does with an event; asked of the rules once."""
        key = (state, event)
        t = self.taken.get(key)
        if t is None:
            t = self.taken[key] = self.component.apply(self.states[state], event)
        return t


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
        self.log = array("q")
        self.lock = Lock()
        self.skipped = 0
        self.rules: set[str] = set()
        self.fresh: list[tuple[int, int]] = []
        for s in self.sites:
            s.local((s.state(s.component.start), s.component.budget), tuple(() for _ in s.wires))

    @property
    def start(self) -> Words:
        """The packed start state: every site's first local state."""
        return np.zeros(1, np.uint64)

    def moves(self, index: int, local: int) -> Iterator[Move]:
        """Every move of one site in a local state, in a fixed order."""
        site = self.sites[index]
        core, inbox = site.locals[local]
        state, budget = site.cores[core]
        for event, left in site.component.moves(site.states[state], budget):
            yield self._move(site, "move", "", event, state, left, inbox)
        for w, wire in enumerate(site.wires):
            box = inbox[w]
            for i in range(len(box)) if wire.reorder else range(min(1, len(box))):
                if i and box[i - 1] == box[i]:
                    continue
                rest = (*inbox[:w], box[:i] + box[i + 1 :], *inbox[w + 1 :])
                message = site.messages[box[i]]
                for event in wire.deliver(site.states[state], message):
                    yield self._move(site, "deliver", wire.name, event, state, budget, rest)
                    if wire.duplicate:
                        yield self._move(site, "deliver copy", wire.name, event, state, budget, inbox)
                if wire.loss:
                    after = site.local((state, budget), rest)
                    yield Move("lose", message, wire.name, None, after, (0,) * len(self.sites))

    def _move(self, site: Site, kind: str, wire: str, event: Any, state: int, budget: Budget, inbox: Inbox) -> Move:
        t = site.step(state, event)
        if t.state is None:
            return Move(kind, event, wire, t, None, ())
        groups: list[list[tuple[int, int]]] = [[] for _ in self.sites]
        for x in t.effects:
            for target, place, w in self.exits[site.index]:
                m = w.carry(x)
                if m is not None:
                    groups[target].append((place, self.sites[target].message(m)))
        sends = [self.sites[k].send(tuple(g)) if g else 0 for k, g in enumerate(groups)]
        local = site.local((site.state(t.state), budget), inbox)
        if sends[site.index]:
            local = site.put(local, sends[site.index])
            sends[site.index] = 0
        return Move(kind, event, wire, t, local, tuple(sends))

    def expand(self, index: int, local: int) -> None:
        """Fills the site's move table for a local state and notes it as fresh if one of its moves is wrong."""
        site = self.sites[index]
        rows: dict[tuple[int, tuple[int, ...]], None] = {}
        wrong = False
        for m in self.moves(index, local):
            if m.taken is not None:
                wrong |= bool(m.taken.problems)
                self.skipped += m.taken.skipped
                if m.taken.rule:
                    self.rules.add(m.taken.rule)
            if m.local is not None and (m.local != local or any(m.sends)):
                rows[m.local, m.sends] = None
        site.first.reserve(local + 1)
        site.count.reserve(local + 1)
        site.count.data[local] = len(rows)
        site.next.extend([j for j, _ in rows])
        for k, column in enumerate(site.out):
            column.extend([sends[k] for _, sends in rows])
        site.first.data[local] = site.next.used - len(rows)
        self.log.extend((index, local, -1))
        if wrong:
            self.fresh.append((index, local))

    def _tabled(self, site: Site, local: Ints, count: int) -> None:
        """Sees to it that every local state in `local` has its moves in the table."""
        known = site.first.data
        with self.lock:
            site.first.reserve(len(site.locals))
            known = site.first.data
            for i in np.unique(local[known[local] == MISSING]).tolist():
                self.expand(site.index, i)

    def _putting(self, site: Site, local: Ints, send: Ints) -> Ints:
        """The local states after messages entered, by table; the rules of the wires run once a pair."""
        keys = (local.astype(np.uint64) << np.uint64(SEND_BITS)) | send.astype(np.uint64)
        found = site.puts.find(keys)
        if (found == MISSING).any():
            with self.lock:
                asked = np.unique(keys[found == MISSING])
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
            self._tabled(site, local, len(states))
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
            core, inbox = site.locals[(state >> int(site.shift)) & int(site.mask)]
            i, budget = site.cores[core]
            out.append((site.states[i], budget, inbox))
        return out
