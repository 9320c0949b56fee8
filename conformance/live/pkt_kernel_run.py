"""One script on the kernel of this machine, in this process: its events in real time, each held against the script.

`python -m conformance.live.pkt_kernel_run` is the process that `pkt_kernel` starts for each run: it reads a Job from
standard input, leaves for namespaces of its own, and prints an Outcome. Whatever ends it takes the namespaces along.
"""

import ctypes
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from conformance.live.pkt_kernel_calls import Calls, CannotCall, Unequal
from conformance.live.pkt_kernel_config import Config, Variant, configure, defines
from conformance.live.pkt_kernel_info import snapshot
from conformance.live.pkt_kernel_match import Difference, differences, joined
from conformance.live.pkt_kernel_shell import CommandFailed, Shell, read_command, tool
from conformance.live.pkt_kernel_wire import Impossible, Wire
from conformance.live.tun import Tun, leave
from conformance.pkt import ast, printer
from conformance.pkt.ast import Call, Code, Command, Direction, Event, Form, Script
from conformance.pkt.expr import Program, Value, compile_code
from conformance.pkt.parser import parse
from conformance.pkt.source import Pos, ScriptError
from refmodel.packet.codec import Packet, decode
from refmodel.packet.transport import Tcp, Timestamp
from refmodel.packet.wire import LINKTYPE_RAW
from refmodel.types import M32

PATIENCE: Final = 2_000_000  # us that a packet may be late before it is given up
THREAD_PATIENCE: Final = 1.0  # s that the next call waits for a blocking one
PR_SET_PDEATHSIG: Final = 1
PRIORITY: Final = 10


class Job(Struct, frozen=True):
    """What to run: a script's name and text, the variant, the caller's defines and tolerance (us; None: its own)."""

    name: str
    text: str
    variant: Variant
    defines: dict[str, str] = {}
    tolerance_usecs: int | None = None


class Outcome(Struct, frozen=True):
    """How a run ended: `passed`, `failed` (the kernel does something else), `refused` (not a script that can run here).

    `message` is the whole report; `line` where, `field`, `expected` and `got` what differs in a packet, `sent` what the
    kernel sent.
    """

    status: str
    line: int = 0
    message: str = ""
    field: str = ""
    expected: str = ""
    got: str = ""
    sent: str = ""


class Failed(Exception):
    """The kernel does something else than the script says."""

    def __init__(self, at: Pos, what: str, differs: Difference | None = None, sent: str = "") -> None:
        self.at, self.what, self.differs, self.sent = at, what, differs, sent
        super().__init__(what)


class _Pending:
    """A blocking call on its way: when it must have returned, what it did."""

    def __init__(self, event: Event, call: Call, end: int, span: int) -> None:
        self.event, self.call, self.end, self.span = event, call, end, span
        self.returned: int | None = None
        self.fault: Exception | None = None
        self.done = threading.Event()


class Runner:
    """A script as it runs; times in us since its start."""

    def __init__(self, script: Script, config: Config) -> None:
        self.script, self.config = script, config
        self.wire = Wire(config)
        self.calls = Calls(self.wire, lambda ns: ns - self.start * 1000, config.tolerance_usecs)
        self.shell = Shell(script)
        self.calls.congestion = lambda: self.shell.congestion
        self.tun = Tun()
        self.start = 0
        self.nominal = 0
        self.finished = 0
        self.last: Event | None = None
        self.programs: list[tuple[Program, dict[str, int]]] = []
        self.compiled: dict[Pos, Program] = {}
        self.pending: _Pending | None = None
        self.jobs: queue.SimpleQueue[_Pending] = queue.SimpleQueue()

    # Setting up

    def check(self) -> None:
        """Reads every command and code block before anything runs; raises ScriptError."""
        for action in (self.script.init, self.script.cleanup, *(e.action for e in self.script.events)):
            match action:
                case Command():
                    read_command(action, self.script.source)
                case Code():
                    self.compiled[action.at] = compile_code(action, self.script.source)
                case ast.Packet() if action.layers:
                    help = "outer headers are not run on the machine's own kernel"
                    raise ScriptError("a packet with outer headers", action.at, self.script.source, help=help)
                case _:
                    pass

    def set_up(self) -> None:
        """The device with its address and the route to the other host."""
        c = self.config
        if c.version == 6:
            for name in ("all", "default", "tun0"):
                for key, value in (("accept_dad", 0), ("dad_transmits", 0), ("router_solicitations", 0)):
                    path = Path(f"/proc/sys/net/ipv6/conf/{name}/{key}")
                    path.write_text(str(value))
        tool("ip", "link", "set", "dev", "lo", "up")
        tool("ip", "link", "set", "dev", "tun0", "mtu", str(c.mtu), "up")
        nodad = ["nodad"] if c.version == 6 else []
        tool("ip", f"-{c.version}", "address", "add", f"{c.local_ip}/{c.prefix}", "dev", "tun0", *nodad)
        via = [] if c.gateway_ip == c.local_ip else ["via", c.gateway_ip]
        network = f"{c.remote_ip}/{128 if c.version == 6 else 32}"
        tool("ip", f"-{c.version}", "route", "add", network, *via, "dev", "tun0")
        self.tun.listen()

    # Time

    def now(self) -> int:
        """us since the start."""
        return time.time_ns() // 1000 - self.start

    def wait(self, until: int) -> None:
        """Sleeps until a time of the script."""
        self.tun.drain()
        left = until - self.now()
        if left > 0:
            time.sleep(left / 1e6)

    def base(self, event: Event) -> int:
        """What an event's time counts from: the event before, as it was; a packet behind a packet is not delayed."""
        if not event.time.relative or self.last is None:
            return 0
        if _inbound(self.last) and _inbound(event):
            return self.nominal
        return self.finished

    def tolerance(self, span: int) -> int:
        """How far off a time may be that comes `span` us after the one before."""
        return max(self.config.tolerance_usecs, int(self.config.tolerance_percent / 100 * span))

    def check_time(self, event: Event, what: str, got: int, nominal: int, end: int | None = None) -> None:
        """Compares a time; raises Failed."""
        slack = self.tolerance(nominal - self.nominal)
        if not nominal - slack <= got <= (nominal if end is None else end) + slack:
            wanted = f"{nominal / 1e6:.6f}" + ("" if end is None else f" to {end / 1e6:.6f}")
            seen = f"{what} at {got / 1e6:.6f} s, expected at {wanted} s, give or take {slack / 1e6:.6f} s"
            raise Failed(event.at, seen, Difference("time", wanted, f"{got / 1e6:.6f}"))

    # The run

    def run(self) -> None:
        """The whole script; raises Failed, ScriptError."""
        self.check()
        self.set_up()
        ran_init = False
        try:
            if self.script.init is not None:
                ran_init = True
                self.command(self.script.init)
            self.start = time.time_ns() // 1000
            threading.Thread(target=self.blocking, daemon=True, name="blocking").start()
            for event in self.script.events:
                self.event(event)
            self.idle(self.script.events[-1])
        finally:
            self.reset()
            if ran_init and self.script.cleanup is not None:
                self.command(self.script.cleanup)
        self.evaluate()

    def event(self, event: Event) -> None:
        """One event at its time."""
        base = self.base(event)
        nominal = base + event.time.start
        end = None if event.time.end is None else base + event.time.end
        action = event.action
        if isinstance(action, ast.Packet) and action.direction is Direction.OUT:
            self.expect(event, action, nominal, end)
        else:
            self.wait(nominal)
            if not _inbound(event) or not (self.last and _inbound(self.last)):
                self.check_time(event, "it started", self.now(), nominal)
            match action:
                case ast.Packet():
                    self.inject(event, action)
                case Call():
                    self.call(event, action, nominal, end)
                case Command():
                    self.command(action)
                case Code():
                    self.code(action)
        self.nominal = self.now() if event.time.form is Form.ANY else nominal
        self.finished = self.now()
        self.last = event

    def inject(self, event: Event, packet: ast.Packet) -> None:
        """Gives the kernel a packet."""
        try:
            self.tun.send(self.wire.inbound(packet))
        except Impossible as why:
            raise ScriptError(str(why), event.at, self.script.source) from why

    def command(self, command: Command) -> None:
        """A shell command."""
        try:
            self.shell.run(command)
        except CommandFailed as why:
            raise Failed(command.at, str(why)) from why

    def code(self, code: Code) -> None:
        """Notes what a code block will be evaluated with."""
        conn = self.wire.under_test
        if conn is None or conn.live_fd < 0:
            what = "a code block needs a descriptor: the socket under test is not accepted yet"
            raise ScriptError(what, code.at, self.script.source)
        try:
            self.programs.append((self.compiled[code.at], snapshot(conn.live_fd)))
        except OSError as why:
            raise Failed(code.at, f"TCP_INFO cannot be read: {why.strerror}") from why

    def evaluate(self) -> None:
        """Code blocks, in order, each with what was noted at its time; names go on from one to the next."""
        names: dict[str, Value] = {}
        for program, values in self.programs:
            outcome = program.run(values, names)
            names = dict(outcome.names)
            if outcome.failure is not None:
                f = outcome.failure
                shown = ", ".join(f"{name} = {value}" for name, value in f.names)
                what = f"assert {f.assertion} does not hold{f' ({f.message})' if f.message else ''}: {shown}"
                raise Failed(f.at, what, Difference("assertion", f.assertion, shown))

    # System calls

    def call(self, event: Event, call: Call, nominal: int, end: int | None) -> None:
        """A call: on this thread, or on the helper's where it may block."""
        self.idle(event)
        if event.time.form is Form.BLOCKING and end is not None:
            self.pending = _Pending(event, call, end, end - nominal)
            self.jobs.put(self.pending)
            return
        self.faults(event, call, lambda: self.calls.invoke(call))

    def faults(self, event: Event, call: Call, f: Callable[[], None]) -> None:
        """Turns a call's fault into a report with its line."""
        fault: Exception | None = None
        try:
            f()
        except (Unequal, CannotCall) as why:
            fault = why
        self.raise_fault(event, call, fault)

    def raise_fault(self, event: Event, call: Call, fault: Exception | None) -> None:
        """Raises Failed or ScriptError for what a call did."""
        if isinstance(fault, CannotCall):
            raise ScriptError(str(fault), event.at, self.script.source) from fault
        if fault is not None:
            raise Failed(event.at, f"{call.name}: {fault}") from fault

    def blocking(self) -> None:
        """The helper thread: one blocking call after the other."""
        while True:
            pending = self.jobs.get()
            try:
                self.calls.invoke(pending.call)
            except (Unequal, CannotCall) as why:
                pending.fault = why
            pending.returned = self.now()
            pending.done.set()

    def idle(self, event: Event) -> None:
        """Waits for the blocking call under way, and compares when it returned."""
        pending = self.pending
        if pending is None:
            return
        patience = max(THREAD_PATIENCE, (pending.end - self.now()) / 1e6 + THREAD_PATIENCE)
        if not pending.done.wait(patience) or pending.returned is None:
            raise Failed(pending.event.at, f"{pending.call.name} still blocks at {self.now() / 1e6:.6f} s",
                         Difference("time", f"{pending.end / 1e6:.6f}", "not yet"))  # fmt: skip
        self.pending = None
        self.raise_fault(pending.event, pending.call, pending.fault)
        slack = self.tolerance(pending.span)
        if abs(pending.returned - pending.end) > slack:
            got, wanted = f"{pending.returned / 1e6:.6f}", f"{pending.end / 1e6:.6f}"
            what = f"{pending.call.name} returned at {got} s, expected at {wanted} s, give or take {slack / 1e6:.6f} s"
            raise Failed(pending.event.at, what, Difference("time", wanted, got))

    # Packets that the kernel sends

    def expect(self, event: Event, packet: ast.Packet, nominal: int, end: int | None) -> None:
        """Waits for the packet that a line expects, and compares it."""
        anytime = event.time.form is Form.ANY
        limit = None if anytime else max(nominal, end or 0) + PATIENCE
        try:
            live, sent_at = self.receive(event, packet, limit)
            want = packet.body.range.length if isinstance(packet.body, ast.Tcp) else 0
            while live.get(Tcp) and live.payload_len < want and not self.config.strict_segments:
                more, sent_at = self.receive(event, packet, limit)
                both = joined(live, more, want - live.payload_len)
                if isinstance(both, Difference):
                    raise self.differs(event, packet, more, [both])
                live = both
        except Impossible as why:
            raise ScriptError(str(why), event.at, self.script.source) from why
        found = differences(self.wire, live, packet) + self.time_stamp(live, packet)
        if found:
            raise self.differs(event, packet, live, found)
        if not anytime:
            try:
                self.check_time(event, "the packet was sent", sent_at, nominal, end)
            except Failed as why:
                why.sent = printer.packet(self.wire.script_view(live))
                raise

    def receive(self, event: Event, packet: ast.Packet, limit: int | None) -> tuple[Packet, int]:
        """The next packet of the connection under test, and when it was sent."""
        while True:
            left = 3600.0 if limit is None else (limit - self.now()) / 1e6
            sniffed = self.tun.receive(left)
            if sniffed is None:
                raise Failed(event.at, f"the kernel sent nothing until {self.now() / 1e6:.6f} s",
                             Difference("packet", printer.packet(packet), "none"))  # fmt: skip
            live = decode(sniffed.data, LINKTYPE_RAW)
            if not self.wire.concerns(live, packet):
                continue
            tcp = live.get(Tcp)
            if tcp is not None and isinstance(packet.body, ast.Tcp):
                self.wire.learn(tcp, packet.body)
            return live, sniffed.time - self.start

    def time_stamp(self, live: Packet, packet: ast.Packet) -> list[Difference]:
        """With --tcp_ts_tick_usecs: how the time stamp's clock went on, in ticks."""
        tick = self.config.ts_tick_usecs
        conn, tcp = self.wire.under_test, live.get(Tcp)
        if not tick or conn is None or tcp is None or conn.first_ts is None or not isinstance(packet.body, ast.Tcp):
            return []
        got = tcp.option(Timestamp)
        wanted = next((o for o in packet.body.options or () if isinstance(o, Timestamp)), None)
        if got is None or wanted is None:
            return []
        value = (conn.first_ts[0] + got.tsval - conn.first_ts[1]) & M32
        if abs(value - wanted.tsval) * tick <= self.tolerance(self.now()):
            return []
        return [Difference("TS val", str(wanted.tsval), str(value))]

    def differs(self, event: Event, packet: ast.Packet, live: Packet, found: list[Difference]) -> Failed:
        """The report of a packet that is another one."""
        sent = printer.packet(self.wire.script_view(live))
        said = "; ".join(f"{d.field} is {d.got}, expected {d.expected}" for d in found)
        return Failed(event.at, f"the kernel sent another packet: {said}", found[0], sent)

    def reset(self) -> None:
        """Ends every connection by an RST, so that nothing of the run stays in the kernel."""
        for conn in self.wire.conns:
            packet = self.wire.reset(conn)
            if packet is not None:
                self.tun.send(packet)


def _inbound(event: Event) -> bool:
    return isinstance(event.action, ast.Packet) and event.action.direction is Direction.IN


def report(script: Script, why: Failed) -> Outcome:
    """A failure as its reader meets it: the script's line, what the kernel sent, what differs."""
    event = next((e for e in script.events if e.at == why.at), None)
    line = script.source.line(why.at.line).strip() or (printer.event(event) if event else "")
    out = [f"{why.at}: {why.what}", f"  script: {line}"]
    if why.sent:
        out.append(f"  kernel: {why.sent}")
    d = why.differs or Difference("", "", "")
    return Outcome("failed", why.at.line, "\n".join(out), d.field, d.expected, d.got, why.sent)


def refusal(why: ScriptError) -> Outcome:
    """A script that cannot be run."""
    return Outcome("refused", why.at.line, str(why))


def execute(job: Job) -> Outcome:
    """Runs a job in this process, which must have its own namespaces."""
    try:
        script = parse(job.text, job.name, {**defines(job.variant), **job.defines})
        config = configure(script, job.variant, job.tolerance_usecs)
    except ScriptError as why:
        return refusal(why)
    runner = Runner(script, config)
    try:
        runner.run()
    except Failed as why:
        return report(script, why)
    except ScriptError as why:
        return refusal(why)
    except (OSError, CommandFailed) as why:
        return Outcome("unavailable", 0, f"the run could not be set up: {why}")
    return Outcome("passed")


def main() -> None:
    """The process of one run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        leave()
        # A run is timed to a few ms: it goes before other work, and pauses for no garbage.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
        gc.collect()
        gc.freeze()
        gc.disable()
        outcome = execute(job)
    except OSError as why:
        outcome = Outcome("unavailable", 0, f"namespaces of its own cannot be had: {why}")
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
