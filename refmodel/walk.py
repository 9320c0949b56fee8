"""A packet's walk through the stack: which functions of the kernel ran, where, in which context, and what they decided.

A walk is recorded from a run of the model: every function that carries a citation (`rule.cited`, `rule.step`)
and is called between `Recorder.__enter__` and `__exit__` becomes a step, nested as it was called. What a
function says through `note` while it runs is its decision and the reason for it; where it asks a proved machine, the
rule that fired is told too, and not what the rule itself calls. The recorder sees calls through the
interpreter's profiling hook, so a run that nobody watches pays nothing.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dis import opname
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from msgspec import Struct, structs

from refmodel.engine.run import Dispatcher
from refmodel.rule import STEPS


class Place(NamedTuple):
    """Where something runs: `now` in us, the host's name, the execution context ("process", "NET_RX softirq")."""

    now: int
    host: str
    context: str


class Step(Struct):
    """One call: `function` and its `file` as in the kernel; `depth` 0 is outermost.

    `notes` are (function, decision) pairs told inside it and not inside a call of its own. `returned` is what it
    returned if that is a number or a truth value, else None; `rules` are the ids of the rules that fired in it.
    `number` counts the steps from 0, `parent` is the number of the step that called it (-1: none).
    """

    number: int
    parent: int
    depth: int
    now: int
    host: str
    context: str
    function: str
    file: str
    id: str
    notes: list[tuple[str, str]]
    returned: int | bool | None = None
    rules: list[str] = []

    @property
    def layer(self) -> str:
        """The lane of the step: the part of the stack that its file belongs to."""
        return "neighbour" if self.function.startswith("ip_neigh_") else layer_of(self.file)

    @property
    def decision(self) -> str:
        """The notes in one line."""
        return "; ".join(text if fn == self.function or not fn else f"{fn}: {text}" for fn, text in self.notes if text)


class Walk(Struct):
    """The steps of one recording in the order in which they began, and what the walk shows."""

    title: str
    steps: list[Step]

    def functions(self) -> list[str]:
        """The kernel functions in order."""
        return [s.function for s in self.steps]

    def chain(self, number: int) -> list[str]:
        """The functions from the outermost call to the step of that number."""
        found: list[str] = []
        while number >= 0:
            step = self.steps[number]
            found.append(step.function)
            number = step.parent
        return found[::-1]

    def at(self, host: str) -> "Walk":
        """What happened on one host: its steps, renumbered; a step whose caller is elsewhere is an outermost one."""
        numbers: dict[int, int] = {-1: -1}
        steps: list[Step] = []
        for s in self.steps:
            if s.host == host:
                numbers[s.number] = len(steps)
                parent = numbers.get(s.parent, -1)
                depth = steps[parent].depth + 1 if parent >= 0 else 0
                steps.append(structs.replace(s, number=len(steps), parent=parent, depth=depth))
        return Walk(self.title, steps)

    def until(self, function: str) -> "Walk":
        """What happened up to the last call of a function, that call with what it called included."""
        last = max((s.number for s in self.steps if s.function == function), default=len(self.steps) - 1)
        end = last + 1
        while end < len(self.steps) and self.steps[end].depth > self.steps[last].depth:
            end += 1
        return Walk(self.title, self.steps[:end])

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


APPLY: Final = Dispatcher.apply.__code__

LAYERS: Final = (
    ("softirq", ("kernel/softirq", "kernel/smp", "include/linux/bottom_half")),
    ("system call", ("net/socket.c", "fs/", "io_uring/", "kernel/")),
    ("TCP", ("net/ipv4/tcp", "net/ipv6/tcp", "include/net/tcp", "net/ipv4/inet_connection_sock", "net/core/stream")),
    ("UDP", ("net/ipv4/udp", "net/ipv6/udp", "include/net/udp", "net/ipv4/datagram", "net/ipv6/datagram")),
    ("GRO", ("net/core/gro", "include/net/gro")),
    ("netfilter", ("net/netfilter", "net/ipv4/netfilter", "net/ipv6/netfilter", "include/linux/netfilter")),
    ("netfilter", ("include/net/netfilter",)),
    ("FIB", ("net/ipv4/fib", "net/ipv4/route", "net/ipv6/route", "net/ipv6/ip6_fib", "include/net/ip_fib")),
    ("FIB", ("net/core/fib", "include/net/route", "net/ipv4/devinet", "net/ipv6/addrconf", "include/net/ip6_fib")),
    ("ICMP", ("net/ipv4/icmp", "net/ipv6/icmp", "include/net/icmp", "net/ipv4/inetpeer")),
    ("ARP", ("net/ipv4/arp", "include/net/arp", "net/ipv6/ndisc", "include/net/ndisc")),
    ("neighbour", ("net/core/neighbour", "include/net/neighbour")),
    ("qdisc", ("net/sched", "include/net/sch", "include/net/pkt_sched", "lib/dynamic_queue_limits")),
    ("driver", ("drivers/",)),
    ("bridge", ("net/bridge",)),
    ("medium", ("IEEE",)),
    ("IP", ("net/ipv4/ip", "net/ipv6/", "include/net/ip", "include/net/dst", "net/ipv4/inet_fragment")),
    ("socket", ("net/ipv4/af_inet", "net/core/sock", "include/net/sock", "net/core/datagram", "net/ipv4/inet_hash")),
    ("device", ("net/core/dev", "include/linux/netdevice", "net/ethernet", "net/core/skbuff", "include/linux/skbuff")),
)
"""Lanes by the beginning of the file; the first that fits is taken."""


def layer_of(file: str) -> str:
    """The part of the stack that a kernel file belongs to; files that none claims are the kernel's."""
    for layer, starts in LAYERS:
        if file.startswith(starts):
            return layer
    return "kernel"


def _citation(name: str, cites: tuple[str, ...]) -> tuple[str, str]:
    """(function, file) of the citation that the Python name stands for; else of the first."""
    for cite in cites:
        file, function = cite.rsplit(":", 1)
        if function == name:
            return function, file
    file, function = cites[0].rsplit(":", 1)
    return function, file


def _known() -> dict[CodeType, tuple[str, str, str]]:
    """By code object: (function, file, id) of everything that carries a citation."""
    found = {}
    for x in STEPS.values():
        if x.kernel:
            found[x.fn.__code__] = (*_citation(x.fn.__name__, x.kernel), x.id)
    return found


class Recorder:
    """Records the cited functions that run while it is entered; `walk` is what it saw.

    `where` says where something runs now. Only one recorder can be entered at a time in a thread; a profiler that was
    set before is set again at the end. Meanwhile no garbage is collected: calls that a forgotten network left
    unfinished would end here.
    """

    def __init__(self, where: Callable[[], Place], title: str = "") -> None:
        self.where = where
        self.walk = Walk(title, [])
        self._known: dict[CodeType, tuple[str, str, str]] = {}
        self._open: list[tuple[FrameType, Step]] = []
        self._asleep: dict[FrameType, Step] = {}
        self._machine: FrameType | None = None  # a dispatcher at work
        self._before: Any = None
        self._collects = False

    def __enter__(self) -> "Recorder":
        self._known = _known()
        self._collects = gc.isenabled()
        gc.disable()
        self._before = sys.getprofile()
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        if self._collects:
            gc.enable()
        self._open.clear()
        self._asleep.clear()

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Meanwhile nothing is recorded: what runs is no part of the kernel, but a device or a wire."""
        sys.setprofile(None)
        try:
            yield
        finally:
            sys.setprofile(self._event)

    def note(self, fn: str, detail: str) -> None:
        """A decision, told by whatever runs now."""
        if self._open:
            self._open[-1][1].notes.append((fn, detail))

    def _event(self, frame: FrameType, event: str, arg: Any) -> None:
        if self._machine is not None:
            if event == "return" and frame is self._machine:
                self._machine = None
                if self._open and arg is not None:
                    self._open[-1][1].rules.append(arg[0].id)
        elif event == "call":
            known = self._known.get(frame.f_code)
            if known is not None:
                self._begin(frame, known)
            elif frame.f_code is APPLY:
                self._machine = frame
        elif event == "return" and self._open and self._open[-1][0] is frame:
            self._end(frame, arg)

    def _begin(self, frame: FrameType, known: tuple[str, str, str]) -> None:
        step = self._asleep.pop(frame, None)
        if step is None:
            function, file, ident = known
            now, host, context = self.where()
            parent = self._open[-1][1].number if self._open else -1
            number = len(self.walk.steps)
            step = Step(number, parent, len(self._open), now, host, context, function, file, ident, [])
            self.walk.steps.append(step)
        self._open.append((frame, step))

    def _end(self, frame: FrameType, arg: Any) -> None:
        _, step = self._open.pop()
        how = opname[frame.f_code.co_code[frame.f_lasti]]
        if how == "YIELD_VALUE":
            self._asleep[frame] = step
        elif how.startswith("RETURN") and isinstance(arg, int):
            step.returned = arg
