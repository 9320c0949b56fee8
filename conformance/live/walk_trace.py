"""The kernel's own walk of a packet: tracepoints with their call chains, recorded in a trace instance of one's own.

Tracepoints are machine-wide. What is kept is what the calling process did, what carries one of its packets, and what
names one of its devices; a step that names neither packet nor device belongs to whatever its context was at.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct, json

TRACING: Final = Path("/sys/kernel/tracing")
EVENTS: Final = (
    *("net", "skb", "napi", "neigh", "sock", "qdisc", "tcp", "udp", "fib"),
    *("irq/softirq_entry", "irq/softirq_exit", "irq/softirq_raise"),
)
CONTEXTS: Final = {".": "process", "s": "softirq", "h": "hardirq", "H": "hardirq", "z": "nmi", "Z": "nmi"}
"""The third of a line's trace flags, and who the work is done by."""
SOFTIRQ: Final = ("handle_softirqs", "__do_softirq")
"""Where the work of a softirq begins: its function since 6.9, and before."""
_TRACER: Final = re.compile(r"(trace_event_raw_event_|__traceiter_|perf_trace_|trace_event_buffer_|stack_trace_)")
_LINE: Final = re.compile(
    r"^\s*(?P<task>.+)-(?P<pid>\d+)\s+\[(?P<cpu>\d+)\] (?P<flags>\S+)\s+(?P<time>[\d.]+): (?P<rest>.*)$"
)
_CLONE: Final = re.compile(r"\.(part|constprop|isra|cold|llvm)(\.\d+)?")
_FIELD: Final = re.compile(r"\b(skbaddr|dev|name|for device)[= ](\S+)")
BIRTHS: Final = ("net_dev_queue", "netif_receive_skb_entry", "netif_rx_entry", "napi_gro_receive_entry")
"""Where a packet is seen first: at the address of one that is gone it is another."""
NOTHING: Final = "0000000000000000"


class TraceError(Exception):
    """The kernel cannot be watched. The text says what is missing."""


class KernelCall(Struct, frozen=True, omit_defaults=True):
    """One thing that was seen: `event` fired at the end of `chain` (outermost first), at `time` ns on `cpu`.

    `context` is process, softirq, hardirq or nmi, as the trace flags say. `within` is the chain that a softirq or an
    interrupt came upon. `packet` numbers the packets of a walk as they appear, -1 before the first. With function_graph
    the event is "call" and the last of the chain is what was called.
    """

    time: int
    context: str
    chain: tuple[str, ...]
    event: str
    detail: str = ""
    within: tuple[str, ...] = ()
    packet: int = -1
    cpu: int = 0


class KernelWalk(Struct, frozen=True):
    """What one kernel did with a packet, in order. `how` is "tracepoints" or "function_graph".

    `inlined`: functions which that kernel has not out of line, of those that were asked for.
    """

    name: str
    says: str
    release: str
    how: str
    calls: tuple[KernelCall, ...]
    inlined: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The walk as a line of JSON."""
        return json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> "KernelWalk":
        """The walk that to_json wrote; raises msgspec.ValidationError for anything else."""
        return json.decode(data, type=cls)

    def functions(self) -> set[str]:
        """All that was seen in a chain."""
        return {f for c in self.calls for f in (*c.chain, *c.within)}


class Seen(Struct, frozen=True):
    """A trace event as the kernel printed it, its stack outermost first."""

    time: int
    pid: int
    cpu: int
    flags: str
    event: str
    detail: str
    stack: tuple[str, ...]

    @property
    def context(self) -> str:
        """Who did the work."""
        return CONTEXTS.get(self.flags[2], "process")

    def field(self, *names: str) -> str:
        """The value of the first of these fields, '' if it has none of them."""
        return next((v for k, v in _FIELD.findall(self.detail) if k in names and v != NOTHING), "")


def without_suffix(symbol: str) -> str:
    """A function's name without what compilers append: .part.0, .constprop.0, .isra.0."""
    return _CLONE.sub("", symbol)


def parse(text: str) -> list[Seen]:
    """The events of a trace file with stack traces; raises TraceError where a stack belongs to no event."""
    events: list[Seen] = []
    stack: list[str] | None = None

    def finish() -> None:
        nonlocal stack
        if stack is not None:
            e = events.pop()
            frames = [without_suffix(f) for f in stack if not _TRACER.match(f)]
            events.append(Seen(e.time, e.pid, e.cpu, e.flags, e.event, e.detail, tuple(reversed(frames))))
            stack = None

    for line in text.splitlines():
        if line.startswith(" => "):
            if stack is None:
                raise TraceError(f"a frame without a stack: {line.strip()}")
            stack.append(line[4:].strip())
            continue
        m = _LINE.match(line)
        if m is None:
            continue
        if m["rest"].startswith("<stack trace>"):
            stack = []
            continue
        finish()
        event, _, detail = m["rest"].partition(": ")
        sec, _, usec = m["time"].partition(".")
        time = (int(sec) * 1_000_000 + int(usec.ljust(6, "0"))) * 1000
        events.append(Seen(time, int(m["pid"]), int(m["cpu"]), m["flags"], event, detail.strip(), ()))
    finish()
    return events


def split(stack: Sequence[str], context: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A stack as (what the context came upon, its own chain)."""
    starts = [i for i, f in enumerate(stack) if _begins(f, context)]
    at = starts[-1] if starts and context != "process" else 0
    return tuple(stack[:at]), tuple(stack[at:])


def _begins(function: str, context: str) -> bool:
    if context == "softirq":
        return function in SOFTIRQ
    return function.startswith(("asm_common_interrupt", "asm_sysvec_", "common_interrupt"))


def own(seen: Sequence[Seen], pids: set[int], devices: set[str]) -> tuple[KernelCall, ...]:
    """Of all that was seen on the machine, what belongs to these processes and devices, with its packets numbered.

    A packet is known by its address until it is freed. A step without one belongs to the packet that its context is
    at, in a process to none; outside a process's own context such a step is kept only if that packet is.
    """
    numbers: dict[str, int] = {}
    freed: set[str] = set()
    at: dict[tuple[int, str, int], int | None] = {}
    count = 0
    kept: list[KernelCall] = []
    for e in seen:
        address, device = e.field("skbaddr"), e.field("dev", "name", "for device")
        mine, place = e.pid in pids and e.context == "process", (e.cpu, e.context, e.pid)
        if e.event == "softirq_entry":
            at[place] = None
        stranger = e.pid not in pids and device not in devices
        elsewhere = stranger and at.get(place) is None and (bool(device) or e.context == "process")
        if elsewhere or (e.event in BIRTHS and (address in freed or stranger)):
            numbers.pop(address, None)
            freed.discard(address)
        if address and address not in numbers and (mine or device in devices):
            numbers[address], count = count, count + 1
        if address or device:
            known = numbers.get(address, at.get(place) if device in devices else None)
            at[place] = -1 if known is None and device in devices else known
        number = numbers.get(address, -1) if mine else at.get(place)
        if mine or number is not None or (e.event == "softirq_entry" and e.pid in pids):
            within, chain = split(e.stack, e.context)
            packet = -1 if number is None else number
            kept.append(KernelCall(e.time, e.context, chain, e.event, e.detail, within, packet, e.cpu))
        if e.event in ("consume_skb", "kfree_skb") and address in numbers:
            freed.add(address)
    return tuple(c for c, then in zip(kept, [*kept[1:], None], strict=True) if not _idle(c, then))


def _idle(c: KernelCall, then: KernelCall | None) -> bool:
    """A softirq that began and did nothing of ours."""
    return c.event == "softirq_entry" and (then is None or then.context != "softirq" or then.cpu != c.cpu)


@contextmanager
def tracefs() -> Iterator[Path]:
    """Where tracefs is, mounted for the while if it is not; raises TraceError without root."""
    if (TRACING / "instances").is_dir():
        yield TRACING
        return
    where = tempfile.mkdtemp(prefix="refmodel-tracefs-")
    try:
        done = subprocess.run(["mount", "-t", "tracefs", "none", where], capture_output=True, text=True, check=False)
        if done.returncode:
            raise TraceError(f"tracefs cannot be mounted: {done.stderr.strip()}")
        try:
            yield Path(where)
        finally:
            subprocess.run(["umount", where], check=True)
    finally:
        os.rmdir(where)


class Tracer:
    """A trace instance; `text` is what it has seen while it was on."""

    how = "tracepoints"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = ""

    @contextmanager
    def on(self) -> Iterator[None]:
        """Records meanwhile; raises TraceError if the buffer was too small."""
        (self.folder / "trace").write_text("")
        (self.folder / "tracing_on").write_text("1")
        try:
            yield
        finally:
            (self.folder / "tracing_on").write_text("0")
        self.text = (self.folder / "trace").read_text()
        m = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", self.text)
        if m is not None and m[1] != m[2]:
            raise TraceError(f"of {m[2]} entries the buffer holds {m[1]}")

    def calls(self, pids: set[int], devices: set[str], begun: int) -> tuple[KernelCall, ...]:
        """What was seen since `begun` (ns of CLOCK_MONOTONIC) of these processes and devices."""
        return own([e for e in parse(self.text) if e.time >= begun], pids, devices)


@contextmanager
def tracer(events: Sequence[str] = EVENTS, kilobytes: int = 8192) -> Iterator[Tracer]:
    """A trace instance of one's own with these events and their stacks; it is gone afterwards, on every path.

    Raises TraceError where the kernel has no tracefs or refuses.
    """
    with tracefs() as root:
        folder = root / "instances" / f"refmodel-walk-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError as e:
            raise TraceError(f"no trace instance can be made: {e}") from e
        try:
            settings = {"tracing_on": "0", "buffer_size_kb": str(kilobytes), "trace_clock": "mono"}
            settings["options/stacktrace"] = "1"
            for name, value in settings.items():
                (folder / name).write_text(value)
            for event in events:
                (folder / "events" / event / "enable").write_text("1")
            yield Tracer(folder)
        finally:
            (folder / "events" / "enable").write_text("0")
            folder.rmdir()


def out_of_line() -> set[str]:
    """The functions that exist out of line: the text symbols of /proc/kallsyms, without compilers' suffixes."""
    found = set()
    with open("/proc/kallsyms", encoding="ascii") as f:
        for line in f:
            _, kind, name, *_ = line.split()
            if kind in "tTwW":
                found.add(without_suffix(name))
    return found
