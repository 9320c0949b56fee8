"""One script on the kernel of this machine, in this process: its events in real time, each held against the script.

`python -m conformance.live.pkt_kernel_run` is the process that `pkt_kernel` starts for each run: it reads a Job from
standard input, leaves for namespaces of its own, and prints an Outcome. Whatever ends it takes the namespaces along.
"""

import ctypes
import gc
import ipaddress
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
from msgspec import Struct, structs

from conformance.live.pkt_kernel_calls import Calls
from conformance.live.pkt_kernel_info import snapshot
from conformance.live.pkt_kernel_shell import Shell, counters, read_command, tool
from conformance.live.tun import Tun, leave
from conformance.pkt import ast, encap
from conformance.pkt.ast import Call, Code, Command, Event, Form, Script
from conformance.pkt.match import Difference
from conformance.pkt.outcome import (
    PASSED,
    UNAVAILABLE,
    CannotCall,
    CommandFailed,
    Failed,
    Outcome,
    Unequal,
    refusal,
    report,
)
from conformance.pkt.parser import parse
from conformance.pkt.run import Run
from conformance.pkt.source import ScriptError
from conformance.pkt.variant import Config, Variant, configure, defines, refuse_for_kernel
from refmodel.packet.codec import Packet, decode
from refmodel.packet.wire import LINKTYPE_RAW

THREAD_PATIENCE: Final = 1.0  # s that the next call waits for a blocking one
PR_SET_PDEATHSIG: Final = 1
PRIORITY: Final = 10


class Job(Struct, frozen=True):
    """What to run: a script's name and text, the variant, the caller's defines and tolerance (us; None: its own).

    `remember`: the outcome says which packets left, and which counters moved.
    """

    name: str
    text: str
    variant: Variant
    defines: dict[str, str] = {}
    tolerance_usecs: int | None = None
    remember: bool = False


class _Pending:
    """A blocking call on its way: when it must have returned, what it did."""

    def __init__(self, event: Event, call: Call, end: int, span: int) -> None:
        self.event, self.call, self.end, self.span = event, call, end, span
        self.returned: int | None = None
        self.fault: Exception | None = None
        self.done = threading.Event()


class Runner(Run):
    """A script as it runs on the kernel."""

    who = "kernel"

    def __init__(self, script: Script, config: Config) -> None:
        super().__init__(script, config)
        self.calls = Calls(self.wire, lambda ns: ns - self.start * 1000, config.tolerance_usecs)
        self.shell = Shell(script)
        self.calls.congestion = lambda: self.shell.congestion
        self.tun = Tun()
        self.start = 0
        self.programs: list[tuple[Code, dict[str, int]]] = []
        self.pending: _Pending | None = None
        self.jobs: queue.SimpleQueue[_Pending] = queue.SimpleQueue()
        self.before: dict[str, int] = {}
        self.counters: dict[str, int] = {}

    # Setting up

    def check(self) -> None:
        """Reads every command and code block before anything runs; raises ScriptError."""
        self.compile()
        encap.check(self.script)
        for action in (self.script.init, self.script.cleanup, *(e.action for e in self.script.events)):
            match action:
                case Command():
                    read_command(action, self.script.source)
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
        nodad = "nodad" if c.version == 6 else ""
        via = "" if c.gateway_ip == c.local_ip else f"via {c.gateway_ip}"
        network = ipaddress.ip_network(f"{c.remote_ip}/{c.remote_prefix}", strict=False)
        commands = (
            "link set dev lo up",
            f"link set dev tun0 mtu {c.mtu} up",
            f"address add {c.local_ip}/{c.prefix} dev tun0 {nodad}",
            f"route add {network} {via} dev tun0",
        )
        tool("ip", "-batch", "-", given="\n".join(commands))
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

    # The run

    def run(self) -> None:
        """The whole script; raises Failed, ScriptError."""
        self.check()
        self.set_up()
        self.play()
        for code, values in self.programs:
            self.evaluate(code, values)

    def begin(self) -> None:
        """Time 0 is now; the thread for blocking calls starts."""
        if self.config.remember:
            self.before = counters()
        self.start = time.time_ns() // 1000
        threading.Thread(target=self.blocking, daemon=True, name="blocking").start()

    def closing(self) -> None:
        """Ends every connection by an RST, so that nothing of the run stays in the kernel."""
        if self.config.remember:
            now = counters()
            self.counters = {n: v - self.before.get(n, 0) for n, v in now.items() if v != self.before.get(n, 0)}
            self.rest()
        for conn in self.wire.conns:
            packet = self.wire.reset(conn)
            if packet is not None:
                self.tun.send(packet)

    def rest(self) -> None:
        """Remembers what left and no line expected."""
        any_tcp = ast.Packet(direction=ast.Direction.OUT, body=ast.Tcp(flags="", ack_flag=True, range=ast.Range(
            seq=0, end=0, length=0)))  # fmt: skip
        while self.wire.under_test is not None and (got := self.next_packet(self.now())) is not None:
            if self.wire.concerns(got[0], any_tcp):
                self.remember(*got)

    def inject(self, event: Event, packet: ast.Packet) -> None:
        """Gives the kernel a packet."""
        gso_size = self.config.mss if isinstance(packet.body, ast.Tcp) and not packet.layers else 0
        self.tun.send(self.wire.inbound(packet), gso_size)

    def command(self, command: Command) -> None:
        """A shell command."""
        try:
            self.shell.run(command)
        except CommandFailed as why:
            raise Failed(command.at, str(why)) from why

    def code(self, code: Code) -> None:
        """Notes what a code block will be evaluated with."""
        conn = self.described(code)
        try:
            self.programs.append((code, snapshot(conn.live_fd)))
        except OSError as why:
            raise Failed(code.at, f"TCP_INFO cannot be read: {why.strerror}") from why

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
        self.check_return(pending.event, pending.call.name, pending.returned, pending.end, pending.span)

    # Packets that the kernel sends

    def next_packet(self, limit: int | None) -> tuple[Packet, int] | None:
        """The next packet on the tap."""
        left = 3600.0 if limit is None else (limit - self.now()) / 1e6
        sniffed = self.tun.receive(left)
        return None if sniffed is None else (decode(sniffed.data, LINKTYPE_RAW), sniffed.time - self.start)


def execute(job: Job) -> Outcome:
    """Runs a job in this process, which must have its own namespaces."""
    try:
        script = parse(job.text, job.name, {**defines(job.variant), **job.defines})
        refuse_for_kernel(script)
        config = structs.replace(configure(script, job.variant, job.tolerance_usecs), remember=job.remember)
    except ScriptError as why:
        return refusal(why)
    runner = Runner(script, config)
    try:
        runner.run()
        outcome = Outcome(PASSED)
    except Failed as why:
        outcome = report(script, why)
    except ScriptError as why:
        return refusal(why)
    except (OSError, CommandFailed) as why:
        return Outcome(UNAVAILABLE, 0, f"the run could not be set up: {why}")
    return structs.replace(
        outcome,
        counters=runner.counters,
        packets=tuple(runner.sent),
        infos=tuple(runner.infos),
        returns=tuple(runner.calls.returns),
    )


def alone(job: Job) -> Outcome:
    """Takes this process into namespaces of its own, before other work, and runs a job there; it is of no use after."""
    try:
        leave()
        # A run is timed to a few ms: it goes before other work, and pauses for no garbage.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
        gc.collect()
        gc.freeze()
        gc.disable()
        return execute(job)
    except OSError as why:
        return Outcome(UNAVAILABLE, 0, f"namespaces of its own cannot be had: {why}")


def main() -> None:
    """The process of one run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    outcome = alone(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
