"""One script on the model, in virtual time: nothing sleeps, and the same script gives the same run.

Time moves from one timer of the model's to the next, never past what the script says, and by a fixed cost for each
line. What blocks is resumed after each timer, packet and call. A script that would wait for ever, and a model that runs
on without end, end as failures.
"""

import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct, structs

from conformance.pkt import ast, encap
from conformance.pkt.ast import Call, Code, Command, Event, Form, Script
from conformance.pkt.constants import SK_MEMINFO
from conformance.pkt.match import Difference
from conformance.pkt.model_calls import Made, ModelCalls
from conformance.pkt.model_shell import ModelShell, read_command
from conformance.pkt.model_why import why
from conformance.pkt.model_wire import carrier_in, cut, datagram_in, frame, icmp_in, segment_in
from conformance.pkt.outcome import (
    BROKEN,
    NOT_MODELLED,
    PASSED,
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
from conformance.pkt.source import ScriptError, read_source
from conformance.pkt.tcpinfo import (
    CC_INFO,
    LARGEST,
    SO_MEMINFO,
    TCP_CC_INFO,
    TCP_CONGESTION,
    TCP_INFO,
    cc_info,
    meminfo,
    tcp_info,
)
from conformance.pkt.variant import Config, Variant, configure, defines, holds, variants
from refmodel.icmp.message import Message
from refmodel.icmp.rcv import icmp_rcv, unknown_protocol
from refmodel.packet.codec import Packet as Frame
from refmodel.profile import KERNELS, REFERENCE, profile, version_number
from refmodel.rule import NotModelled
from refmodel.tcp.whole import calls as model
from refmodel.tcp.whole.calls import Process, Task
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams, whole_params
from refmodel.tcp.whole.skb import Packet
from refmodel.udp.input import udp_rcv
from refmodel.udp.sock import Datagram

MOST_TIMERS: Final = 200_000  # that fire in one run
LONGEST: Final = 100 * 86_400_000_000  # us of virtual time that a run may last
CALL_PATIENCE: Final = 1_000_000  # us that the next call waits for a blocking one
HANGS: Final = 3600 * 1_000_000  # us after which a call that should return at once is given up
COST: Final = 50  # us that each line of a script takes, as it does where packetdrill plays it
HZ: Final = 1000
SOL_SOCKET, IPPROTO_TCP = 1, 6


class Setting(Struct, frozen=True):
    """Which kernel the model is, what the caller defines, and what is kept of a run."""

    kernel: str = REFERENCE
    hz: int = HZ
    defines: dict[str, str] = {}
    tolerance_usecs: int | None = None
    remember: bool = False


DEFAULT: Final = Setting()


class _Pending:
    """A blocking call on its way: when it must have returned, what its return is held against."""

    def __init__(self, event: Event, call: Call, end: int, span: int, made: Made, task: Task) -> None:
        self.event, self.call, self.end, self.span, self.made, self.task = event, call, end, span, made, task


class ModelRun(Run):
    """A script as it runs on the model."""

    who = "model"

    def __init__(self, script: Script, config: Config, params: WholeParams) -> None:
        super().__init__(script, config)
        self.net = net = Net(params)
        net.local_addrs.append(self.wire.local)
        net.default_dst.dev_mtu = config.mtu
        net.tun_mss = config.mss
        net.tap = True
        self.start = net.now
        self.process = Process(net)
        self.calls = ModelCalls(self.process, self.wire, lambda ns: ns - self.start * 1000, config.tolerance_usecs)
        self.shell = ModelShell(script, config, self.process, lambda us: self.pass_time(self.net.now + us))
        self.pending: _Pending | None = None
        self.latest: Packet | Datagram | Message | None = None
        self.fired = 0

    def check(self) -> None:
        """Reads every command, code block and outer header before anything runs; raises ScriptError."""
        self.compile()
        encap.check(self.script)
        for action in (self.script.init, self.script.cleanup, *(e.action for e in self.script.events)):
            match action:
                case Command():
                    read_command(action, self.script)
                case _:
                    pass

    def run(self) -> None:
        """The whole script; raises Failed, ScriptError, NotModelled."""
        self.check()
        for path in self.config.init_scripts:
            self.command(Command(text=path))
        if not self.config.dry_run:
            self.play()

    # Time

    def event(self, event: Event) -> None:
        """One event at its time; it takes a little, so that what follows at once comes later than it.

        Many lines at one absolute time do not add up to a script that is late.
        """
        super().event(event)
        if self.now() - self.nominal < self.config.tolerance_usecs // 4:
            self.pass_time(self.net.now + COST)
        self.finished = self.now()

    def now(self) -> int:
        """us since the start."""
        return self.net.now - self.start

    def begin(self) -> None:
        """Time 0 is now."""
        self.start = self.net.now

    def wait(self, until: int) -> None:
        """Lets virtual time pass."""
        self.pass_time(self.start + until)

    def pass_time(self, until: int) -> None:
        """Fires what is due until `until` on the model's clock."""
        net = self.net
        while (when := net.next_timer()) is not None and when <= until:
            self.fire()
        net.now = max(net.now, until)

    def settle(self) -> None:
        """Lets blocked calls go on, and compares the one that has returned."""
        self.process.settle()
        self.returned()

    def fire(self) -> None:
        """Lets time pass to the next timer; a script that has too many of them ends."""
        self.net.fire()
        self.settle()
        self.fired += 1
        if self.fired > MOST_TIMERS:
            raise self.runaway(self.fired)

    def runaway(self, fired: int) -> Failed:
        """The report of a model that goes on for ever."""
        at = self.script.events[-1].at if self.last is None else self.last.at
        return Failed(at, f"{fired} timers have fired up to what comes behind this line: the script has no end",
                      Difference("time", "an end", "none"), why=self.why())  # fmt: skip

    # Packets

    def inject(self, event: Event, packet: ast.Packet) -> None:
        """Gives the model a packet."""
        if packet.layers:
            self.net.tap_rx += 1
            unknown_protocol(self.net, *carrier_in(self.wire, packet))
        elif isinstance(packet.body, ast.Icmp):
            icmp_rcv(self.net, *icmp_in(self.wire, self.wire.receiver(packet.body), packet))
        elif isinstance(packet.body, ast.Udp):
            self.net.tap_rx += 1
            udp_rcv(self.net, datagram_in(self.wire, packet))
        else:
            self.net.receive(segment_in(self.wire, packet, self.net.p, self.config.mss))
        self.settle()

    def next_packet(self, limit: int | None) -> tuple[Frame, int] | None:
        """The next packet that left, letting time pass to the timer that sends one."""
        net = self.net
        end = self.start + (LONGEST if limit is None else limit)
        while not net.out:
            when = net.next_timer()
            if when is None or when > end:
                if limit is not None:
                    net.now = max(net.now, end)
                return None
            self.fire()
        packet = net.out.popleft()
        net.tap_read = packet.tap
        segment = isinstance(packet, Packet)
        if segment and (packet.accecn or not self.shell.tso) and packet.gso_size and packet.len > packet.gso_size:
            packet, *rest = cut(packet)
            net.out.extendleft(reversed(rest))
        self.latest = packet
        return frame(packet), packet.time - self.start

    def expect(self, event: Event, packet: ast.Packet, nominal: int, end: int | None) -> None:
        """Waits for the packet that a line expects; a failure says why the model sent what it sent."""
        self.latest = None
        try:
            super().expect(event, packet, nominal, end)
        except Failed as fault:
            fault.why = fault.why or why(self.net, self.wire.under_test, self.start, self.latest)
            raise

    def rest(self) -> None:
        """Remembers what left and no line expected."""
        line = ast.Tcp(flags="", ack_flag=True, range=ast.Range(seq=0, end=0, length=0))
        anything = ast.Packet(direction=ast.Direction.OUT, body=line)
        while self.wire.under_test is not None and (got := self.next_packet(self.now())) is not None:
            if self.wire.concerns(got[0], anything):
                self.remember(*got)

    def by(self) -> str:
        """The function that sent the latest packet."""
        return self.latest.by if self.latest is not None else ""

    def closing(self) -> None:
        """Keeps what is asked for."""
        if self.config.remember:
            self.rest()

    def why(self) -> str:
        """The model's reasons at this point."""
        return why(self.net, self.wire.under_test, self.start)

    # Commands and code

    def command(self, command: Command) -> None:
        """A shell command."""
        try:
            self.shell.run(command)
        except CommandFailed as fault:
            raise Failed(command.at, str(fault), why=self.why()) from fault

    def code(self, code: Code) -> None:
        """A code block, evaluated on what the socket says now."""
        conn = self.described(code)
        try:
            self.evaluate(code, self.snapshot(conn.live_fd))
        except Failed as fault:
            fault.why = self.why()
            raise

    def option(self, fd: int, level: int, name: int, size: int) -> bytes:
        """A socket option's bytes; none where the model refuses it."""
        ret = self.process.start(model.sys_getsockopt(self.process, fd, level, name, size)).ret
        return bytes(ret.data) if ret is not None and ret.value == 0 else b""

    def snapshot(self, fd: int) -> dict[str, int]:
        """The variables of a code block; a socket that is none of TCP has those of memory only."""
        info = self.option(fd, IPPROTO_TCP, TCP_INFO, LARGEST)
        values = tcp_info(info) if info else {}
        values |= meminfo(self.option(fd, SOL_SOCKET, SO_MEMINFO, 4 * len(SK_MEMINFO)))
        name = self.option(fd, IPPROTO_TCP, TCP_CONGESTION, 16).rstrip(b"\0").decode()
        if name in CC_INFO:
            values |= cc_info(name, self.option(fd, IPPROTO_TCP, TCP_CC_INFO, LARGEST))
        return values

    # System calls

    def call(self, event: Event, call: Call, nominal: int, end: int | None) -> None:
        """A call; one that may block goes on while the script does."""
        self.idle(event)
        try:
            made = self.calls.make(call)
        except CannotCall as fault:
            raise ScriptError(str(fault), event.at, self.script.source) from fault
        task = self.process.start(made.run)
        self.process.settle()
        if event.time.form is Form.BLOCKING and end is not None:
            self.pending = _Pending(event, call, end, end - nominal, made, task)
            self.returned()
            return
        if not task.done and not self.until_done(task, self.net.now + HANGS):
            what = f"{call.name} blocks, and nothing that could end that is due: write its time as START...END"
            raise Failed(event.at, what, Difference("time", "a return at once", "none"), why=self.why())
        self.compare(event, call, made, task)

    def compare(self, event: Event, call: Call, made: Made, task: Task) -> None:
        """Holds a call's return against the script; raises Failed."""
        assert task.ret is not None
        try:
            made.then(task.ret)
        except CannotCall as fault:
            raise ScriptError(str(fault), event.at, self.script.source) from fault
        except Unequal as fault:
            raise Failed(event.at, f"{call.name}: {fault}", Difference("result", "", ""), why=self.why()) from fault

    def until_done(self, task: Task, limit: int) -> bool:
        """Lets time pass until a call has returned, at most to `limit` on the model's clock."""
        net = self.net
        while not task.done:
            when = net.next_timer()
            if when is None or when > limit:
                return False
            self.fire()
        return True

    def returned(self) -> None:
        """Compares the blocking call if it has returned."""
        p = self.pending
        if p is None or not p.task.done:
            return
        self.pending = None
        self.compare(p.event, p.call, p.made, p.task)
        self.check_return(p.event, p.call.name, (p.task.returned or 0) - self.start, p.end, p.span)

    def idle(self, event: Event) -> None:
        """Waits for the blocking call under way, and compares when it returned."""
        p = self.pending
        if p is None:
            return
        limit = max(self.net.now, self.start + p.end) + CALL_PATIENCE
        if not self.until_done(p.task, limit):
            self.net.now = max(self.net.now, limit)
            raise Failed(p.event.at, f"{p.call.name} still blocks at {self.now() / 1e6:.6f} s",
                         Difference("time", f"{p.end / 1e6:.6f}", "not yet"), why=self.why())  # fmt: skip
        self.returned()


def run_text(name: str, text: str, variant: Variant, setting: Setting = DEFAULT) -> Outcome:
    """Runs a script's text on the model, in one variant."""
    try:
        return _run(parse(text, name, {**defines(variant), **setting.defines}), variant, setting)
    except ScriptError as fault:
        return refusal(fault)


def _run(script: Script, variant: Variant, setting: Setting) -> Outcome:
    """Runs a script in one variant; raises ScriptError for its options."""
    config = structs.replace(configure(script, variant, setting.tolerance_usecs), remember=setting.remember)
    return run_parsed(script, config, _params(setting.kernel, setting.hz))


@cache
def _params(kernel: str, hz: int) -> WholeParams:
    return whole_params(profile(kernel, hz))


def run_parsed(script: Script, config: Config, params: WholeParams) -> Outcome:
    """Runs a script that has been read."""
    run = ModelRun(script, config, params)
    try:
        run.run()
        outcome = Outcome(PASSED, message="\n".join(run.warnings))
    except Failed as fault:
        outcome = report(script, fault, "model")
    except ScriptError as fault:
        outcome = refusal(fault)
    except NotModelled as what:
        at = run.last.at if run.last is not None else script.source.name
        outcome = Outcome(NOT_MODELLED, _line(run), f"{at}: not modelled: {what}")
    except (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RecursionError, TypeError,
            ValueError, ImportError) as fault:  # fmt: skip
        outcome = _broken(run, fault)
    return structs.replace(
        outcome,
        counters=dict(run.net.mib),
        packets=tuple(run.sent),
        infos=tuple(run.infos),
        returns=tuple(run.calls.returns),
    )


def _line(run: ModelRun) -> int:
    """The line behind which a run stands."""
    return run.last.at.line if run.last is not None else 0


def _broken(run: ModelRun, fault: Exception) -> Outcome:
    """The report of a fault in the model itself: where, and behind which line of the script."""
    frames = [f for f in traceback.extract_tb(fault.__traceback__) if "refmodel" in f.filename]
    at = frames[-1] if frames else traceback.extract_tb(fault.__traceback__)[-1]
    place = f"{Path(at.filename).name}:{at.lineno} {at.name}"
    after = f"{run.last.at}" if run.last is not None else run.script.source.name
    return Outcome(
        BROKEN, _line(run), f"{after}: the model failed behind this line: {type(fault).__name__} in {place}: {fault}"
    )


def fitting(setting: Setting, text: str) -> Setting:
    """The setting with a profile that a script of other kernels holds for: the oldest later one, else the newest."""
    if holds(setting.kernel, text):
        return setting
    fit = [k for k in KERNELS if holds(k, text)]
    later = [k for k in fit if version_number(k) > version_number(setting.kernel)]
    return structs.replace(setting, kernel=(later or fit[-1:] or KERNELS[-1:])[0])


def run_script(
    path: Path, wanted: tuple[Variant, ...] = tuple(Variant), setting: Setting = DEFAULT
) -> Iterator[tuple[Variant, Outcome]]:
    """Runs a script in those of the `wanted` variants that it is meant for; raises OSError if it cannot be read."""
    try:
        source = read_source(path)
        setting = fitting(setting, source.text)
        script = parse(source.text, source.name, {**defines(wanted[0]), **setting.defines})
        meant = variants(script, path.stem, wanted)
    except ScriptError as fault:
        yield wanted[0], refusal(fault)
        return
    for variant in meant:
        if variant is not wanted[0]:
            yield variant, run_text(source.name, source.text, variant, setting)
            continue
        try:
            yield variant, _run(script, variant, setting)
        except ScriptError as fault:
            yield variant, refusal(fault)
