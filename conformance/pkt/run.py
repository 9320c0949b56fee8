"""The run of a script, whatever plays the stack under test: when events happen and what they are held against."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from conformance.pkt import ast, printer
from conformance.pkt.ast import Call, Code, Command, Direction, Event, Form, Script
from conformance.pkt.expr import Program, Value, compile_code
from conformance.pkt.match import Difference, differences, joined
from conformance.pkt.outcome import MOST_SENT, Failed, Info, Sent
from conformance.pkt.source import Pos, ScriptError
from conformance.pkt.variant import Config
from conformance.pkt.wire import Conn, Impossible, Wire
from refmodel.packet.codec import Packet
from refmodel.packet.transport import Tcp, Timestamp
from refmodel.types import M32

PATIENCE = 2_000_000
"""us that a packet may be late before it is given up."""


class Run(ABC):
    """A script as it runs; times in us since its start."""

    who = "stack"

    def __init__(self, script: Script, config: Config) -> None:
        self.script, self.config = script, config
        self.wire = Wire(config)
        self.nominal = 0
        self.finished = 0
        self.last: Event | None = None
        self.compiled: dict[Pos, Program] = {}
        self.names: dict[str, Value] = {}
        self.sent: list[Sent] = []
        self.infos: list[Info] = []
        self.warnings: list[str] = []

    # What plays the stack

    @abstractmethod
    def now(self) -> int:
        """us since the start."""

    @abstractmethod
    def wait(self, until: int) -> None:
        """Lets time pass up to a time of the script."""

    @abstractmethod
    def inject(self, event: Event, packet: ast.Packet) -> None:
        """Gives the stack a packet."""

    @abstractmethod
    def next_packet(self, limit: int | None) -> tuple[Packet, int] | None:
        """The next packet that the stack sent, and when; None if there is none until `limit` (None: however long)."""

    @abstractmethod
    def command(self, command: Command) -> None:
        """A shell command; raises Failed."""

    @abstractmethod
    def code(self, code: Code) -> None:
        """A code block."""

    @abstractmethod
    def call(self, event: Event, call: Call, nominal: int, end: int | None) -> None:
        """A system call, which must return at `end` if that is given."""

    @abstractmethod
    def idle(self, event: Event) -> None:
        """Waits for the blocking call under way, and compares when it returned."""

    @abstractmethod
    def begin(self) -> None:
        """The script's time 0 is now."""

    # Time

    def base(self, event: Event) -> int:
        """What an event's time counts from: the event before, as it was; a packet behind a packet is not delayed."""
        if not event.time.relative or self.last is None:
            return 0
        if inbound(self.last) and inbound(event):
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

    def check_return(self, event: Event, name: str, got: int, end: int, span: int) -> None:
        """Compares when a blocking call returned; raises Failed."""
        slack = self.tolerance(span)
        if abs(got - end) > slack:
            seen, wanted = f"{got / 1e6:.6f}", f"{end / 1e6:.6f}"
            what = f"{name} returned at {seen} s, expected at {wanted} s, give or take {slack / 1e6:.6f} s"
            raise Failed(event.at, what, Difference("time", wanted, seen))

    # The run

    def play(self) -> None:
        """The whole script between set-up and the end; raises Failed, ScriptError."""
        ran_init = False
        try:
            if self.script.init is not None:
                ran_init = True
                self.command(self.script.init)
            self.begin()
            for event in self.script.events:
                self.event(event)
            self.idle(self.script.events[-1])
        finally:
            self.closing()
            if ran_init and self.script.cleanup is not None:
                self.command(self.script.cleanup)

    def closing(self) -> None:  # noqa: B027 - a stack that leaves nothing behind has nothing to do
        """Ends what is left of the run."""

    def compile(self) -> None:
        """Reads every code block before anything runs; raises ScriptError."""
        for event in self.script.events:
            if isinstance(event.action, Code):
                self.compiled[event.action.at] = compile_code(event.action, self.script.source)

    def event(self, event: Event) -> None:
        """One event at its time."""
        base = self.base(event)
        nominal = base + event.time.start
        end = None if event.time.end is None else base + event.time.end
        action = event.action
        if isinstance(action, ast.Packet) and action.direction is Direction.OUT:
            self.lenient(event, "packet", lambda: self.expect(event, action, nominal, end))
        else:
            self.wait(nominal)
            if not inbound(event) or not (self.last and inbound(self.last)):
                self.check_time(event, "it started", self.now(), nominal)
            match action:
                case ast.Packet():
                    try:
                        self.inject(event, action)
                    except Impossible as why:
                        raise ScriptError(str(why), event.at, self.script.source) from why
                case Call():
                    self.lenient(event, "syscall", lambda: self.call(event, action, nominal, end))
                case Command():
                    self.command(action)
                case Code():
                    self.code(action)
        self.nominal = self.now() if event.time.form is Form.ANY else nominal
        self.finished = self.now()
        self.last = event

    def lenient(self, event: Event, kind: str, f: Callable[[], None]) -> None:
        """Does what an event says; with --non_fatal a difference of this kind is only noted."""
        if kind not in self.config.non_fatal:
            f()
            return
        try:
            f()
        except Failed as why:
            self.warnings.append(f"{why.at}: {why.what}")

    def evaluate(self, code: Code, values: dict[str, int]) -> None:
        """A code block over what was noted at its time; names go on from one to the next. Raises Failed."""
        if self.config.remember:
            self.infos.append(Info(code.at.line, values))
        outcome = self.compiled[code.at].run(values, self.names)
        self.names = dict(outcome.names)
        if outcome.failure is not None:
            f = outcome.failure
            shown = ", ".join(f"{name} = {value}" for name, value in f.names)
            what = f"assert {f.assertion} does not hold{f' ({f.message})' if f.message else ''}: {shown}"
            raise Failed(f.at, what, Difference("assertion", f.assertion, shown))

    def described(self, code: Code) -> Conn:
        """The socket under test, for a code block; raises ScriptError where it has no descriptor."""
        conn = self.wire.under_test
        if conn is None or conn.live_fd < 0:
            what = "a code block needs a descriptor: the socket under test is not accepted yet"
            raise ScriptError(what, code.at, self.script.source)
        return conn

    # Packets that the stack sends

    def expect(self, event: Event, packet: ast.Packet, nominal: int, end: int | None) -> None:
        """Waits for the packet that a line expects, and compares it."""
        anytime = event.time.form is Form.ANY
        limit = None if anytime else max(nominal, end or 0) + PATIENCE
        try:
            live, sent_at = self.receive(event, packet, limit)
            want = packet.body.range.length if isinstance(packet.body, ast.Tcp) else 0
            while live.payload_len < want and not self.config.strict_segments and live.get(Tcp):
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
            got = self.next_packet(limit)
            if got is None:
                raise Failed(event.at, f"the {self.who} sent nothing until {self.now() / 1e6:.6f} s",
                             Difference("packet", printer.packet(packet), "none"))  # fmt: skip
            live, sent_at = got
            if not self.wire.concerns(live, packet):
                continue
            tcp = live.get(Tcp)
            if tcp is not None and isinstance(packet.body, ast.Tcp):
                self.wire.learn(tcp, packet.body)
            self.remember(live, sent_at)
            return live, sent_at

    def remember(self, live: Packet, sent_at: int) -> None:
        """Keeps what left for whoever compares two runs."""
        if self.config.remember and len(self.sent) < MOST_SENT:
            self.sent.append(Sent(sent_at, printer.packet(self.wire.compared_view(live)), self.by()))

    def by(self) -> str:
        """Which step sent the latest packet, where that is known."""
        return ""

    def time_stamp(self, live: Packet, packet: ast.Packet) -> list[Difference]:
        """With --tcp_ts_tick_usecs: how the time stamp's clock went on, in ticks."""
        tick = self.config.ts_tick_usecs
        if not tick or not isinstance(packet.body, ast.Tcp):
            return []
        conn, tcp = self.wire.under_test, live.get(Tcp)
        if conn is None or tcp is None or conn.first_ts is None:
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
        return Failed(event.at, f"the {self.who} sent another packet: {said}", found[0], sent)


def inbound(event: Event) -> bool:
    """Whether an event is a packet that is injected."""
    return isinstance(event.action, ast.Packet) and event.action.direction is Direction.IN
