"""Two whole TCPs, their applications, and the wire between: one program, and every law that its run broke.

A program is a plain value: the hosts' parameters, what each application does, what the wire does to each segment. The
same program gives the same run, so a failure is repeated by what it prints.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct

from refmodel.tcp.state import St
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.history import History, Owed, Wire, no_end_is_ahead
from refmodel.tcp.whole.invariants import violations
from refmodel.tcp.whole.pair import ADDRESSES, AF_INET, Fate, Pair
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet, SockAddr
from refmodel.tcp.whole.sock import Sock

SECOND = 1_000_000
EAGAIN = -11
ENDED = (-104, -32, -110, -107, -113, -111)  # ECONNRESET, EPIPE, ETIMEDOUT, ENOTCONN, EHOSTUNREACH, ECONNREFUSED
MSG_OOB, MSG_DONTWAIT = 1, 0x40
SOL_SOCKET, IPPROTO_TCP = 1, 6
SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE, SO_LINGER = 7, 8, 9, 10, 13
TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT = 1, 3, 4, 5, 6
PORT = 8080
LONGEST = 1800 * SECOND
MOST_STEPS = 30_000


class App(Struct, frozen=True):
    """What one host's application does with each connection.

    `pause`: it reads only every so many us (0: whatever comes). `urgent`: which write goes with MSG_OOB. `end`: how it
    ends, "shutdown" and reading on, "close" at once, or "abort" (a close with SO_LINGER of 0). `idle` us pass between
    two writes.
    """

    writes: tuple[int, ...] = ()
    pause: int = 0
    piece: int = 100_000
    rcvbuf: int = 0
    sndbuf: int = 0
    nodelay: bool = False
    cork: bool = False
    urgent: int = -1
    inline: bool = True
    keepalive: bool = False
    end: str = "shutdown"
    idle: int = 0


class Program(Struct, frozen=True):
    """One run."""

    first: WholeParams = WholeParams()
    second: WholeParams = WholeParams()
    client: App = App()
    server: App = App()
    fates: tuple[Fate, ...] = ()
    connections: int = 1
    backlog: int = 10
    seed: int = -1


class Side:
    """One application's end of one connection."""

    def __init__(self, process: calls.Process, fd: int, app: App, now: int) -> None:
        self.process, self.fd, self.app = process, fd, app
        self.sk: Sock = process.fds[fd].sk  # type: ignore[attr-defined]
        self.todo = list(app.writes)
        self.number = 0
        self.wrote = 0
        self.got = 0
        self.marks = 0  # urgent bytes that were written
        self.begun = self.sk.copied_seq
        self.next_read = now
        self.next_write = now
        self.ended = self.shut = self.closed = self.failed = False

    def call(self, made: Any) -> int:
        task = self.process.start(made)
        assert task.ret is not None, "a call that should return at once blocks"
        return int(task.ret.value)

    def option(self, level: int, name: int, value: int) -> None:
        assert self.call(calls.sys_setsockopt(self.process, self.fd, level, name, value.to_bytes(4, "little"))) == 0

    def prepare(self) -> None:
        app = self.app
        if app.sndbuf:
            self.option(SOL_SOCKET, SO_SNDBUF, app.sndbuf)
        if app.nodelay:
            self.option(IPPROTO_TCP, TCP_NODELAY, 1)
        if app.cork:
            self.option(IPPROTO_TCP, TCP_CORK, 1)
        if app.inline:
            self.option(SOL_SOCKET, SO_OOBINLINE, 1)
        if app.keepalive:
            self.option(SOL_SOCKET, SO_KEEPALIVE, 1)
            self.option(IPPROTO_TCP, TCP_KEEPIDLE, 1)
            self.option(IPPROTO_TCP, TCP_KEEPINTVL, 1)
            self.option(IPPROTO_TCP, TCP_KEEPCNT, 9)

    def act(self, now: int) -> None:
        """Whatever can be done now."""
        if self.closed:
            return
        while self.todo and now >= self.next_write:
            flags = MSG_DONTWAIT | (MSG_OOB if self.number == self.app.urgent else 0)
            ret = self.call(calls.sys_send(self.process, self.fd, self.todo[0], flags))
            if ret == EAGAIN:
                break
            if ret in ENDED:
                self.failed = True
                self.todo = []
                break
            assert ret > 0, f"send: {ret}"
            self.wrote += ret
            self.marks += flags & MSG_OOB
            self.todo[0] -= ret
            if self.todo[0] == 0:
                self.todo.pop(0)
                self.number += 1
                self.next_write = now + self.app.idle
        if not self.todo and not self.shut:
            if self.app.cork:
                self.option(IPPROTO_TCP, TCP_CORK, 0)
            self.shut = True
            if self.app.end == "abort":
                linger = (1).to_bytes(4, "little") + bytes(4)
                self.call(calls.sys_setsockopt(self.process, self.fd, SOL_SOCKET, SO_LINGER, linger))
            if self.app.end != "shutdown":
                self.close()
                return
            ret = self.call(calls.sys_shutdown(self.process, self.fd, 1))
            self.failed = self.failed or ret != 0
        if now >= self.next_read:
            while not self.ended:
                ret = self.call(calls.sys_recv(self.process, self.fd, self.app.piece, MSG_DONTWAIT))
                if ret == EAGAIN:
                    break
                self.failed = self.failed or ret in ENDED
                self.ended = ret == 0 or ret in ENDED
                assert ret >= 0 or self.ended, f"recv: {ret}"
                self.got += max(ret, 0)
                if self.app.pause:
                    break
            if self.app.pause:
                self.next_read = now + self.app.pause
        if self.ended and self.shut:
            self.close()

    def close(self) -> None:
        self.closed = True
        self.call(calls.sys_close(self.process, self.fd))

    def wake(self, now: int) -> int | None:
        """When it does something by itself."""
        if self.closed:
            return None
        times = [
            t for t, due in ((self.next_read, not self.ended), (self.next_write, bool(self.todo))) if due and t > now
        ]
        return min(times, default=None)


class Runner:
    """One run of a program, looked at after every event. `found` are the laws that were broken, first ones first."""

    def __init__(self, program: Program, enough: Callable[[set[str]], bool]) -> None:
        self.program = program
        self.enough = enough
        self.found: dict[str, int] = {}
        script = iter(program.fates)
        self.wire = Wire()
        self.pair = Pair(
            lambda host, number: next(script, Fate()),
            (program.first, program.second),
            lambda host, p: self.wire.leaves(p),
        )
        nets = [host.net for host in self.pair.hosts]
        self.history = [History(net) for net in nets]
        self.owed = [Owed(net, self.wire) for net in nets]
        for net in nets:
            net.receive = self.receiver(net)  # type: ignore[method-assign]
        self.sides: list[Side] = []
        self.dialled: dict[int, Side] = {}
        self.steps = 0

    def receiver(self, net: Any) -> Callable[[Packet], None]:
        deliver = net.receive

        def receive(p: Packet) -> None:
            self.wire.arrives(p, net.now)
            deliver(p)

        return receive

    def break_law(self, *names: str) -> None:
        for name in names:
            self.found.setdefault(name, self.pair.now)
        if self.found and self.enough(set(self.found)):
            raise Enough

    def look(self) -> None:
        """Asks all laws."""
        names = []
        for host, history, owed in zip(self.pair.hosts, self.history, self.owed, strict=True):
            names += [name for name, _ in violations(host.net)]
            names += history.look() + owed.look()
        names += self.wire.broken
        self.wire.broken.clear()
        peers = {name_of(s.sk): s.sk for s in self.sides}
        for sk in peers.values():
            peer = peers.get(peer_of(sk))
            if (
                peer is not None
                and sk.sk_state in TALKING
                and peer.sk_state in TALKING
                and not no_end_is_ahead(sk, peer)
            ):
                names.append("no_end_is_ahead")
        self.break_law(*names)

    def connect(self) -> None:
        """The client dials; what the server accepts joins as it comes."""
        p = self.program
        client, server = (h.process for h in self.pair.hosts)
        listener = server.start(calls.sys_socket(server, AF_INET, 1, 0)).ret.value
        buffer(server, listener, p.server.rcvbuf)
        server.start(calls.sys_bind(server, listener, SockAddr(AF_INET, ADDRESSES[1], PORT)))
        server.start(calls.sys_listen(server, listener, p.backlog))
        self.listener = listener
        self.dialling = []
        for _ in range(p.connections):
            fd = client.start(calls.sys_socket(client, AF_INET, 1, 0)).ret.value
            buffer(client, fd, p.client.rcvbuf)
            task = client.start(calls.sys_connect(client, fd, SockAddr(AF_INET, ADDRESSES[1], PORT)))
            self.dialling.append((fd, task))
        self.pair.settle()

    def join(self) -> None:
        """Connections that stand now get their applications."""
        client, server = (h.process for h in self.pair.hosts)
        now = self.pair.now
        for fd, task in list(self.dialling):
            if task.done:
                self.dialling.remove((fd, task))
                if task.ret.value == 0:
                    self.sides.append(Side(client, fd, self.program.client, now))
                    self.sides[-1].prepare()
                else:
                    client.start(calls.sys_close(client, fd))
        while self.listener >= 0:
            fd = server.start(calls.sys_accept(server, self.listener, 0o4000)).ret.value
            if fd < 0:
                break
            self.sides.append(Side(server, fd, self.program.server, now))
            self.sides[-1].prepare()

    def run(self) -> None:
        self.connect()
        pair, quiet = self.pair, 0
        end = pair.now + LONGEST
        while True:
            self.join()
            for side in self.sides:
                side.act(pair.now)
            pair.settle()
            self.look()
            if not self.dialling and all(s.closed for s in self.sides) and len(self.sides) % 2 == 0:
                break
            self.steps += 1
            if pair.now > end or self.steps > MOST_STEPS:
                self.break_law("both_ends_close")
                return
            when = pair.next()
            wakes = [t for s in self.sides if (t := s.wake(pair.now)) is not None]
            wake = min(wakes, default=None)
            if wake is not None and (when is None or wake <= when):
                for host in pair.hosts:
                    host.net.advance(wake)
                pair.settle()
            elif not pair.step():
                quiet += 1
                if quiet > 1:
                    break
        server = pair.hosts[1].process
        server.start(calls.sys_close(server, self.listener))
        self.listener = -1
        pair.settle()
        self.look()
        for _ in range(MOST_STEPS):
            if (when := pair.next()) is None or when > pair.now + 900 * SECOND:
                break
            pair.step()
            self.look()
        self.over()

    def over(self) -> None:
        """The laws of a run that is over."""
        broken = []
        p = self.program
        orderly = p.client.end == p.server.end == "shutdown"
        for host, app in zip(self.pair.hosts, (p.client, p.server), strict=True):
            net, a = host.net, host.address
            if orderly and (net.ehash or net.next_timer() is not None):
                broken.append("both_ends_close")
            synacks = net.mib["TcpExtTCPSynRetrans"] - self.wire.syns[a]
            if self.wire.left[a] != net.mib["TcpOutSegs"] + net.mib["TcpRetransSegs"] - synacks:
                broken.append("segments_that_left_are_counted")
            if self.wire.arrived[a] != net.mib["TcpInSegs"]:
                broken.append("segments_that_arrived_are_counted")
            if self.wire.damaged[a] != net.mib["TcpInCsumErrors"]:
                broken.append("damage_is_counted")
            mine = [s for s in self.sides if s.process is host.process]
            if (
                orderly
                and len(mine) == p.connections
                and not any(s.failed for s in mine)
                and sum(s.sk.delivered for s in mine)
                != net.mib["TcpExtTCPDelivered"] + (len(mine) if app is p.server else 0)
            ):
                broken.append("deliveries_are_counted")
        for s in self.sides:
            end = self.wire.ends.get(name_of(s.sk))
            known = end is not None and orderly and not s.failed and s.sk.bytes_sent
            if known and (end.segs["data"], end.segs["bytes"]) != (s.sk.data_segs_out, s.sk.bytes_sent):
                broken.append("data_segments_are_counted")
        peers = {name_of(s.sk): s for s in self.sides}
        for s in self.sides:
            peer = peers.get(peer_of(s.sk))
            if peer is None or s.failed or peer.failed or s.app.end != "shutdown" or peer.app.end != "shutdown":
                continue
            late = 0 if s.app.inline else peer.marks
            whole = (s.sk.rcv_nxt - s.begun) & 0xFFFFFFFF == peer.wrote + 1
            if not (s.ended and whole and peer.wrote - late <= s.got <= peer.wrote):
                broken.append("every_byte_arrives_once")
            active = s.process is self.pair.hosts[0].process
            if (s.sk.bytes_acked, s.sk.bytes_received) != (s.wrote + 1 + active, peer.wrote + 1):
                broken.append("bytes_are_counted_at_both_ends")
            if s.sk.bytes_sent - s.sk.bytes_retrans != s.wrote:
                broken.append("repetitions_are_counted")
        self.break_law(*broken)


def shown(p: Program) -> str:
    """A program, short enough to be read and repeated."""
    if p.seed >= 0:
        return f"program({p.seed})"
    plain = WholeParams()
    hosts = [
        {k: getattr(w, k) for k in w.__struct_fields__ if getattr(w, k) != getattr(plain, k)}
        for w in (p.first, p.second)
    ]
    return f"{hosts} {p.client} {p.server} {p.connections} connections, backlog {p.backlog}, fates {p.fates}"


class Enough(Exception):
    """What was looked for is found."""


TALKING = (St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)


def name_of(sk: Sock) -> tuple[bytes, int, bytes, int]:
    return sk.inet_saddr, sk.inet_sport, sk.inet_daddr, sk.inet_dport


def peer_of(sk: Sock) -> tuple[bytes, int, bytes, int]:
    return sk.inet_daddr, sk.inet_dport, sk.inet_saddr, sk.inet_sport


def buffer(process: calls.Process, fd: int, size: int) -> None:
    if size:
        process.start(calls.sys_setsockopt(process, fd, SOL_SOCKET, SO_RCVBUF, size.to_bytes(4, "little")))


def run(program: Program, enough: Callable[[set[str]], bool] = bool) -> list[str]:
    """The laws that a run breaks, in order, up to where they are `enough`."""
    runner = Runner(program, enough)
    with suppress(Enough):
        runner.run()
    return list(runner.found)


# ---------------------------------------------------------------- programs from seeds


# Programs that a seed would seldom give.
SMALL = Program(
    client=App(writes=(150,) * 60, nodelay=True, idle=10), server=App(pause=2 * SECOND, rcvbuf=2000, writes=(1,) * 5)
)


def program(seed: int) -> Program:
    """The program of a seed."""
    r = random.Random(seed)
    kernel = r.choice([601, 612, 612])
    hz = r.choice([250, 1000, 1000])

    def params() -> WholeParams:
        return WholeParams(
            hz=hz,
            kernel=kernel,
            tcp_sack=r.choice([1, 1, 1, 0]),
            tcp_dsack=r.choice([1, 1, 1, 0]),
            tcp_timestamps=r.choice([1, 1, 0]),
            tcp_window_scaling=r.choice([1, 1, 0]),
            tcp_ecn=r.choice([2, 1]),
            tcp_early_retrans=r.choice([3, 3, 0]),
            tcp_recovery=r.choice([1, 1, 1, 0]),
            tcp_rmem_1=r.choice([131072, 131072, 8192]),
            tcp_autocorking=r.choice([1, 0]),
            tcp_syncookies=0,
            tcp_abort_on_overflow=r.choice([0, 0, 1]),
        )

    def app() -> App:
        sizes = r.choice([(1, 100, 1448, 1448), (100, 1448, 5000, 20000), (1, 90, 150), (20000, 30000)])
        return App(
            writes=tuple(
                r.choice(sizes) for _ in range(r.choice([0, 1, 2, 3, 5]) if len(sizes) != 3 else r.choice([0, 3, 60]))
            ),
            pause=r.choice([0, 0, 0, 50_000, 2 * SECOND, 15 * SECOND]),
            piece=r.choice([100_000, 100_000, 3000]),
            rcvbuf=r.choice([0, 0, 0, 2000, 10_000]),
            sndbuf=r.choice([0, 0, 0, 5000]),
            nodelay=r.choice([False, False, True]),
            cork=r.choice([False, False, False, True]),
            urgent=r.choice([-1, -1, -1, 0, 1]),
            inline=r.choice([True, True, False]),
            keepalive=r.choice([False, False, False, True]),
            end=r.choice(["shutdown"] * 6 + ["close", "abort"]),
            idle=r.choice([0, 0, 100, 300_000, 3 * SECOND]),
        )

    worst = r.choice([0.0, 0.05, 0.15, 0.4])

    def fate() -> Fate:
        if r.random() >= worst:
            return Fate(delay=base)
        kind = r.randrange(4)
        if kind == 0:
            return Fate(base, 0)
        if kind == 1:
            return Fate(base, 2)
        if kind == 2:
            return Fate(base, 1, True)
        return Fate(r.choice([200, 4 * base, 300_000]))

    base = r.choice([200, 10_000, 10_000, 40_000])
    return Program(
        params(), params(), app(), app(), tuple(fate() for _ in range(r.choice([10, 60, 200]))),
        r.choice([1, 1, 1, 2, 4]), r.choice([10, 10, 1, 0]), seed,
    )  # fmt: skip


# Programs that break every law when its fault is in the code, and some more; quick ones, in the order of their use.
SERIES = (
    SMALL,
    *(program(s) for s in (22, 79, 59, 80, 151, 142, 133, 45, 119, 3, 7, 11, 16, 18, 23, 28, 31, 36, 42, 50)),
)
