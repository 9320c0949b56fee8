"""Networks: machines, namespaces and wires, driven through virtual time.

The law: what is due happens in the order of its time, equal times in the order in which they were put there; programs
go on whenever something happened. The same network and the same programs give the same run.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from refmodel.host.devices import VETH_FEATURES, Veth
from refmodel.host.machine import Machine
from refmodel.host.namespace import Namespace
from refmodel.host.program import Program, Run
from refmodel.host.wire import NIC_FEATURES, Choose, Wire, both
from refmodel.tcp.whole.params import WholeParams
from refmodel.walk import Place, Recorder

MOST_STEPS: Final = 1_000_000


class Stuck(RuntimeError):
    """A network that never comes to rest."""


def mac(number: int) -> bytes:
    """02:00:00:00:xx:yy, a locally administered address."""
    return b"\x02\x00\x00\x00" + number.to_bytes(2, "big")


class Network:
    """Machines and what joins them; `now` is the time of all of them (us)."""

    def __init__(self, kernel: str = "6.12", hz: int = 250) -> None:
        self.kernel = kernel
        self.hz = hz
        self.machines: list[Machine] = []
        self.wires: list[Wire] = []
        self.runs: list[Run] = []
        self.recorder: Recorder | None = None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._macs = 0

    # What there is

    def machine(self, name: str, cpus: int = 1) -> Machine:
        """A machine without namespaces."""
        m = Machine(name, self.kernel, self.hz, cpus)
        self.machines.append(m)
        return m

    def host(self, name: str, machine: Machine | None = None, params: WholeParams | None = None) -> Namespace:
        """A namespace, on a machine of its own unless one is given."""
        ns = Namespace(machine if machine is not None else self.machine(name), name, params)
        ns.machine.now = ns.now = self.now
        return ns

    def veth(
        self,
        a: Namespace,
        b: Namespace,
        names: tuple[str, str] | None = None,
        features: frozenset[str] = VETH_FEATURES,
        mtu: int = 1500,
    ) -> Veth:
        """A veth pair between two namespaces of one machine; raises ValueError for those of different ones."""
        if a.machine is not b.machine:
            raise ValueError(f"{a.name} and {b.name} are not on one machine")
        self._macs += 2
        names = names or (f"{a.name}0", f"{b.name}0")
        return Veth(a, b, names, (mac(self._macs - 1), mac(self._macs)), features, mtu)

    def wire(
        self,
        a: Namespace,
        b: Namespace,
        fate: Choose = both,
        names: tuple[str, str] = ("eth0", "eth0"),
        driver: str = "igb",
        features: frozenset[str] = NIC_FEATURES,
        mtu: int = 1500,
    ) -> Wire:
        """A wire between cards of two hosts."""
        self._macs += 2
        w = Wire(self, a, b, names, (mac(self._macs - 1), mac(self._macs)), fate, driver, features, mtu)
        self.wires.append(w)
        return w

    @property
    def namespaces(self) -> list[Namespace]:
        """All namespaces."""
        return [ns for m in self.machines for ns in m.namespaces]

    # Time

    @property
    def now(self) -> int:
        """us."""
        return max((ns.now for ns in self.namespaces), default=1_000_000_250)

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Something happens at a time (us)."""
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what))

    def next(self) -> int | None:
        """When the next event, timer or program is due (us); None: nothing will ever happen."""
        times = [self._events[0][0]] if self._events else []
        times += [t for ns in self.namespaces if (t := ns.next_timer()) is not None]
        times += [r.wake for r in self.runs if not r.over and r.task is None]
        return min(times, default=None)

    def step(self) -> bool:
        """Lets time pass to whatever is due next and carries it out; False if there is nothing."""
        when = self.next()
        if when is None:
            return False
        self._set(max(when, self.now))
        if self._events and self._events[0][0] <= when:
            heapq.heappop(self._events)[2]()
        else:
            for ns in self.namespaces:
                while (t := ns.next_timer()) is not None and t <= when:
                    ns.fire()
        self.settle()
        return True

    def settle(self) -> None:
        """Lets programs go on as far as they can, and interrupts come that waited."""
        for w in self.wires:
            w.poke()
        moved = True
        while moved:
            moved = sum(run.poke() for run in self.runs) > 0

    def _set(self, when: int) -> None:
        for m in self.machines:
            m.now = when
            for ns in m.namespaces:
                ns.now = when

    def run(self, until: int | None = None, limit: int = MOST_STEPS) -> None:
        """Lets everything happen up to a time (us), or until every program is over.

        Raises Stuck after `limit` steps.
        """
        self.settle()
        for _ in range(limit):
            when = self.next()
            if until is None and all(r.over for r in self.runs):
                return
            if when is None or (until is not None and when > until):
                if until is not None:
                    self._set(max(until, self.now))
                return
            self.step()
        raise Stuck(f"not at rest after {limit} steps, at {self.now} us")

    def program(self, ns: Namespace, program: Program, name: str = "", start: int = 0, pace: int = 0) -> Run:
        """A program runs on a host, from `start` (us from now) on, with `pace` us between its calls."""
        run = Run(ns, program, name or ns.name, self.now + start, pace)
        self.runs.append(run)
        return run

    # Watching

    @contextmanager
    def record(self, title: str = "") -> Iterator[Recorder]:
        """Meanwhile every function of the kernel's that runs is a step of a walk."""

        def where() -> Place:
            for m in self.machines:
                if m.current is not None:
                    return m.place()
            return self.machines[0].place()

        recorder = Recorder(where, title)
        self.recorder = recorder
        for m in self.machines:
            m.recorder = recorder
        try:
            with recorder:
                yield recorder
        finally:
            self.recorder = None
            for m in self.machines:
                m.recorder = None

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Meanwhile a device works, which no walk shows."""
        if self.recorder is None:
            yield
            return
        with self.recorder.unseen():
            yield
