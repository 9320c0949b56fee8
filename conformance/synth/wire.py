"""Two hosts, the path between them, and taps along it.

The law: a packet leaves its host, may be lost in the queueing discipline, passes the sender's tap, the first half of
the path, a tap in the middle, the second half, the receiver's tap, may be dropped behind it, and is processed some
microseconds later, in order. Each host has a clock of its own; the wire's time is that of the taps.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct

from conformance.synth.apps import App, Side, address, set_option
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.const import ACK, CWR, FIN, PSH, RST, SYN, URG
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.pair import copy, cut
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.rcvbuf import tun_truesize
from refmodel.tcp.whole.skb import IcmpError, Packet
from refmodel.tcp.whole.tcp_h import options_size
from refmodel.types import add

SECOND: Final = 1_000_000
CE: Final = 3
QUIET: Final = 4 * SECOND  # nothing but timers further off than this: the recording ends
MOST_EVENTS: Final = 60_000
GSO_MAX: Final = 65_000
MSG_FASTOPEN: Final = 0x20000000


class Half(Struct, frozen=True):
    """One half of the path in one direction: `delay` and `jitter` in us, the others are probabilities.

    `reorder`: of being held back by `hold` us and overtaken. `rate` in bytes a second (0: no bottleneck) with a queue
    of `limit` packets. `mark`: of a mark where the sender is ECN-capable. `mtu` (bytes, 0: none): larger IP packets are
    dropped, and the router before this half says so.
    """

    delay: int = 100
    jitter: int = 0
    loss: float = 0.0
    copies: float = 0.0
    damage: float = 0.0
    reorder: float = 0.0
    hold: int = 0
    rate: int = 0
    limit: int = 1000
    mark: float = 0.0
    mtu: int = 0


class Path(Struct, frozen=True):
    """One direction: what the queueing discipline loses, two halves, what is dropped behind the receiver's tap."""

    first: Half = Half()
    second: Half = Half()
    before_tap: float = 0.0
    behind_tap: float = 0.0


class Unit:
    """A packet on its way: its IPv4 id, its number among the transmissions of its host, what became of it."""

    __slots__ = ("by", "damaged", "host", "id", "number", "packet")

    def __init__(self, packet: Packet, host: int, number: int, id: int, by: tuple[str, ...], damaged: int = 0) -> None:
        self.packet, self.host, self.number, self.id, self.by = packet, host, number, id, by
        self.damaged = damaged  # a random number that says which bit

    def with_packet(self, packet: Packet, step: int = 0) -> "Unit":
        """The same transmission in another form; `step` is added to the id."""
        return Unit(packet, self.host, self.number, add(self.id, step) & 0xFFFF, self.by, self.damaged)


class TooBig:
    """A router's word that `unit` is larger than the MTU (bytes) behind it."""

    __slots__ = ("mtu", "unit")

    def __init__(self, unit: Unit, mtu: int) -> None:
        self.unit, self.mtu = unit, mtu

    def error(self) -> IcmpError:
        """As the stack of the unit's sender sees it."""
        p = self.unit.packet
        kind = (2, 0) if len(p.saddr) == 16 else (3, 4)
        return IcmpError(*kind, self.mtu, p.saddr, p.daddr, p.sport, p.dport, p.seq)


class Sight(Struct):
    """What a tap saw: at `time` (ns) `unit` passed. `way`: out of the tapped host, into it, or '' in the middle.

    `fate` says what became of it behind the tap: "processed", "dropped" or "damaged" at the receiver's, else "".
    """

    time: int
    tap: str
    unit: Unit | TooBig
    way: str
    fate: str = ""


class Host:
    """One machine: its namespace, its process, its address, and how far its clock is ahead of the taps' (us)."""

    def __init__(self, name: str, raw: bytes, params: WholeParams, offset: int) -> None:
        self.name, self.address, self.offset = name, raw, offset
        self.net = Net(params)
        self.net.now += offset
        self.start = self.net.now
        self.net.local_addrs.append(raw)
        self.process = calls.Process(self.net)
        self.busy = 0  # until then (us) the processor is at work
        self.sides: list[Side] = []
        self.woken = False
        self.sent = 0
        self.alarm = 0  # when an application wants to run again (us)
        self.ids: dict[tuple[int, int], int] = {}  # by ports: the next IPv4 id of the socket
        self.isns: dict[tuple[int, int], int] = {}
        self.late_for = -1  # the timer whose lateness was drawn
        self.late = 0
        self.queue: list[Unit] = []  # received and not yet polled


class Lab:
    """A run: `play` carries it out; `sights` is what the taps saw."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self.rng = random.Random(f"wire {plan.seed}")
        r = self.rng
        self.hosts = tuple(
            Host("ab"[i], plan.addresses[i], plan.params[i], r.randrange(1, 3_000) * SECOND + r.randrange(SECOND))
            for i in (0, 1)
        )
        for i, h in enumerate(self.hosts):
            h.net.net_secret = r.randbytes(16)
            h.net.seed = r.getrandbits(32)
            h.net.tcp_congestion_control = plan.congestion[i]
            h.net.tcp_allowed_congestion_control = frozenset({"reno", "cubic", "bbr"})
            h.net.gso_enabled = plan.tx == "super"
            h.net.default_dst.dev_mtu = plan.mtu
        self.now = self.hosts[0].net.now - self.hosts[0].offset
        self.begun = self.now
        self.sights: list[Sight] = []
        self.stamped: dict[str, int] = {}
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = 0
        self.free = [[0, 0], [0, 0]]  # when a half of a direction is free to send (us)
        self.waiting = [[0, 0], [0, 0]]
        self.behind = [[0, 0], [0, 0]]  # the last arrival at the end of a half: what follows comes later
        self.dialling: list[tuple[int, Any, App]] = []
        self.listener = -1
        self.lost = {"before": 0, "wire": 0, "behind": 0, "damaged": 0}

    # ------------------------------------------------------------ events

    def at(self, when: int, what: Callable[[], None]) -> None:
        """`what` happens at `when` (us)."""
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what))

    def _timer(self) -> tuple[int, Host] | None:
        """The next timer of either host, as late as the host gets to it (us)."""
        best: tuple[int, Host] | None = None
        for h in self.hosts:
            when = h.net.next_timer()
            if when is None:
                continue
            if when != h.late_for:
                h.late_for = when
                h.late = self.rng.randrange(4, 90) if self.rng.random() < 0.95 else self.rng.randrange(100, 3000)
            due = max(when - h.offset + h.late, h.busy)
            if best is None or due < best[0]:
                best = due, h
        return best

    def play(self) -> None:
        """Everything happens, until both applications are done and the wire is quiet, or `plan.length` us are over."""
        self._open()
        end = self.now + self.plan.length
        for _ in range(MOST_EVENTS):
            timer = self._timer()
            event = self.events[0][0] if self.events else None
            if timer is None and event is None:
                return
            if event is None or (timer is not None and timer[0] < event):
                assert timer is not None
                if timer[0] > end or (event is None and self._over() and timer[0] > self.now + QUIET):
                    return
                self.now = max(self.now, timer[0])
                self._on(timer[1], lambda net: net.advance(net.now))
                continue
            when, _, what = heapq.heappop(self.events)
            if when > end:
                return
            self.now = max(self.now, when)
            what()

    def _over(self) -> bool:
        return not self.dialling and all(s.closed for h in self.hosts for s in h.sides)

    def _on(self, h: Host, what: Callable[[Net], None]) -> None:
        """The host works on something now; what it sends leaves in the next microseconds."""
        h.net.now = max(h.net.now, self.now + h.offset)
        what(h.net)
        h.process.settle()
        self._leave(h)
        self._wake(h)

    def _wake(self, h: Host) -> None:
        """The scheduler lets the applications run a little later."""
        if h.woken:
            return
        h.woken = True
        self.at(self.now + self.rng.randrange(3, 70), lambda: self._run(h))

    def _run(self, h: Host) -> None:
        if h.busy > self.now:
            h.woken = True
            self.at(h.busy, lambda: self._run(h))
            return
        h.woken = False
        h.net.now = max(h.net.now, self.now + h.offset)
        moved = self._accept(h)
        for side in h.sides:
            moved = side.act(h.net.now) or moved
        h.process.settle()
        self._leave(h)
        wakes = [t for s in h.sides if (t := s.wake(h.net.now)) is not None]
        if moved:
            self._wake(h)
        elif wakes:
            when = min(wakes) - h.offset
            if not self.now < h.alarm <= when:
                h.alarm = when
                self.at(when + self.rng.randrange(50, 200), lambda: self._run(h))

    # ------------------------------------------------------------ applications

    def _open(self) -> None:
        """The server listens, the client dials."""
        plan = self.plan
        family = 10 if len(plan.addresses[0]) == 16 else 2
        client, server = self.hosts[0].process, self.hosts[1].process
        if plan.listens:
            self.listener = server.start(calls.sys_socket(server, family, 1, 0)).ret.value
            for option in plan.server.options:
                set_option(server, self.listener, *option)
            server.start(calls.sys_bind(server, self.listener, address(plan.addresses[1], plan.port)))
            server.start(calls.sys_listen(server, self.listener, plan.backlog))
        for k in range(plan.connections):
            self.at(self.now + k * plan.apart + self.rng.randrange(100), lambda: self._dial(family, client))

    def _dial(self, family: int, client: calls.Process) -> None:
        plan, h = self.plan, self.hosts[0]
        h.net.now = max(h.net.now, self.now + h.offset)
        fd = client.start(calls.sys_socket(client, family, 1, 0)).ret.value
        for option in plan.client.options:
            set_option(client, fd, *option)
        if plan.local_port:
            client.start(calls.sys_bind(client, fd, address(plan.addresses[0], plan.local_port)))
        app = plan.client
        to = address(plan.addresses[1], plan.port)
        if plan.fastopen:
            task = client.start(calls.sys_sendto(client, fd, app.steps[0][1], MSG_FASTOPEN, to))
            app = App(app.steps[1:], app.every, app.piece, app.deaf, app.options)
        else:
            task = client.start(calls.sys_connect(client, fd, to))
        self.dialling.append((fd, task, app))
        self._leave(h)
        self._wake(h)

    def _accept(self, h: Host) -> bool:
        """New connections get their applications."""
        before = len(h.sides)
        if h is self.hosts[0]:
            for entry in [e for e in self.dialling if e[1].done]:
                self.dialling.remove(entry)
                fd, task, app = entry
                if task.ret.value < 0:
                    h.process.start(calls.sys_close(h.process, fd))
                else:
                    h.sides.append(Side(h.process, fd, app, h.net.now))
        elif self.listener >= 0 and h.net.now - h.start >= self.plan.accepts_after:
            while (fd := h.process.start(calls.sys_accept(h.process, self.listener, 0o4000)).ret.value) >= 0:
                h.sides.append(Side(h.process, fd, self.plan.server, h.net.now))
        return len(h.sides) > before

    # ------------------------------------------------------------ the way out

    def _leave(self, h: Host) -> None:
        """What the host has sent passes its tap and enters the path."""
        i = self.hosts.index(h)
        out = h.net.out
        at = max(self.now, h.busy)
        while out:
            packet = out.popleft()
            at = max(at, packet.time - h.offset) + self.rng.choice((0, 1, 1, 2, 3))
            for unit in self._units(i, packet):
                self._send(i, unit, at)
        h.busy = at

    def _units(self, i: int, packet: Packet) -> Iterator[Unit]:
        """The packet with its IPv4 id, cut where the device doesn't take super-segments."""
        h = self.hosts[i]
        segs = max(1, -(-packet.len // packet.gso_size)) if packet.gso_size else 1
        first = self._ids(h, packet, segs)
        h.sent += 1
        whole = Unit(packet, i, h.sent, first, (packet.by,))
        if segs == 1 or self.plan.tx == "super":
            yield whole.with_packet(copy_of(packet))
            return
        for k, part in enumerate(cut(packet)):
            yield whole.with_packet(part, k)

    def _ids(self, h: Host, p: Packet, segs: int) -> int:
        """include/net/ip.h:ip_select_ident_segs: per socket, from a random one; 0 where no full socket sends."""
        key = p.sport, p.dport
        if p.flags & (SYN | ACK) == SYN | ACK and h.isns.get(key) != p.seq:
            h.ids.pop(key, None)  # the child will have its own
        if not p.tstamp or (p.flags & (SYN | ACK) == SYN | ACK and p.by != "tcp_send_synack"):
            h.isns[key] = p.seq if p.flags & SYN else h.isns.get(key, -1)
            return 0
        if key not in h.ids or (p.flags & SYN and h.isns.get(key) != p.seq):
            h.ids[key] = self.rng.randrange(1 << 16)
        if p.flags & SYN:
            h.isns[key] = p.seq
        value = h.ids[key]
        h.ids[key] = (value + segs) & 0xFFFF
        return value

    def _send(self, i: int, unit: Unit, at: int) -> None:
        path = self.plan.paths[i]
        if self.rng.random() < path.before_tap:
            self.lost["before"] += 1
            return
        self._see("ab"[i], unit, "out", at)
        parts = [unit]
        p = unit.packet
        if self.plan.rx != "whole" and p.gso_size and p.len > p.gso_size:
            parts = [unit.with_packet(part, k) for k, part in enumerate(cut(p))]
        for part in parts:
            self._cross(i, 0, part, at)

    def _cross(self, i: int, k: int, unit: Unit, at: int) -> None:
        """A unit enters half `k` of the path of host `i` at `at` (us)."""
        r, half = self.rng, (self.plan.paths[i].first, self.plan.paths[i].second)[k]
        p = unit.packet
        headers = (40 if len(p.saddr) == 4 else 60) + options_size(p.opts)
        if half.mtu and headers + p.len > half.mtu:
            self._too_big(i, TooBig(unit, half.mtu))
            return
        if r.random() < half.loss:
            self.lost["wire"] += 1
            return
        when = at
        if half.rate:
            size = unit.packet.len + 66
            begin = max(at, self.free[i][k])
            if begin - at > half.limit * 1500 * SECOND // half.rate:
                self.lost["wire"] += 1
                return
            self.free[i][k] = when = begin + size * SECOND // half.rate
        when += half.delay + (r.randrange(half.jitter) if half.jitter else 0)
        if half.reorder and r.random() < half.reorder:
            when += half.hold
        else:
            when = self.behind[i][k] = max(when, self.behind[i][k] + 1)
        if half.damage and r.random() < half.damage:
            unit = unit.with_packet(copy_of(unit.packet))
            unit.damaged = r.getrandbits(31) | 1
        if half.mark and unit.packet.tos & CE and r.random() < half.mark:
            unit = unit.with_packet(copy_of(unit.packet))
            unit.packet.tos |= CE
        for n in range(2 if half.copies and r.random() < half.copies else 1):
            self.at(when + n * r.randrange(1, 40), lambda u=unit, w=when: self._arrive(i, k, u))  # type: ignore[misc]

    def _too_big(self, i: int, word: TooBig) -> None:
        """The router's answer goes back to host `i`; nothing befalls it."""
        self.lost["wire"] += 1
        h = self.hosts[i]
        self._see("m", word, "", self.now)

        def arrive() -> None:
            self._see(h.name, word, "in", self.now).fate = "processed"
            h.busy = max(h.busy, self.now) + self.rng.randrange(1, 12)
            self.at(h.busy, lambda: self._on(h, lambda net: net.receive_icmp(word.error())))

        self.at(self.now + self.plan.paths[1 - i].second.delay, arrive)

    def _arrive(self, i: int, k: int, unit: Unit) -> None:
        """A unit is at the end of half `k`."""
        if k == 0:
            self._see("m", unit, "", self.now)
            self._cross(i, 1, unit, self.now)
            return
        h = self.hosts[1 - i]
        if self.plan.rx == "gro":
            h.queue.append(unit)
            if len(h.queue) == 1:
                self.at(self.now + self.rng.randrange(8, 60), lambda: self._poll(h))
        else:
            self._take(h, unit, self.now)

    def _poll(self, h: Host) -> None:
        """The device's poll: what came in order becomes super-segments."""
        units, h.queue = h.queue, []
        at = self.now
        for unit in merged(units):
            self._take(h, unit, at)
            at += self.rng.choice((0, 1, 1, 2))

    def _take(self, h: Host, unit: Unit, at: int) -> None:
        """A unit passes the receiver's tap; a little later the stack has it."""
        i = self.hosts.index(h)
        sight = self._see(h.name, unit, "in", at)
        if self.rng.random() < self.plan.paths[1 - i].behind_tap:
            self.lost["behind"] += 1
            sight.fate = "dropped"
            return
        sight.fate = "damaged" if unit.damaged else "processed"
        self.lost["damaged"] += bool(unit.damaged)
        packet = copy_of(unit.packet)
        packet.bad_csum = packet.bad_csum or bool(unit.damaged)
        headers = (40 if len(packet.saddr) == 4 else 60) + options_size(packet.opts)
        packet.truesize = tun_truesize(headers + packet.len, h.net.p)
        h.busy = max(h.busy, at) + self.rng.randrange(1, 12 if self.rng.random() < 0.9 else 60)
        self.at(h.busy, lambda: self._on(h, lambda net: net.receive(packet)))

    def _see(self, tap: str, unit: Unit | TooBig, way: str, at: int) -> Sight:
        ns = max(at * 1000 + self.rng.randrange(1000), self.stamped.get(tap, 0) + self.rng.randrange(80, 900))
        self.stamped[tap] = ns
        sight = Sight(ns, tap, unit, way)
        if tap in self.plan.taps:
            self.sights.append(sight)
        return sight


def copy_of(p: Packet) -> Packet:
    """A packet of its own with the same content, a super-segment too."""
    new = copy(p)
    new.gso_size, new.gso_segs, new.accecn, new.tstamp = p.gso_size, p.gso_segs, p.accecn, p.tstamp
    return new


def merged(units: list[Unit]) -> Iterator[Unit]:
    """What generic receive offload makes of the segments of one poll; source net/ipv4/tcp_offload.c:tcp_gro_receive."""
    held: Unit | None = None
    for unit in units:
        if held is not None:
            joined = _join(held, unit)
            if joined is not None:
                held = joined
                if _flush(unit.packet, held.packet.gso_size):
                    yield held
                    held = None
                continue
            yield held
            held = None
        if unit.damaged or not unit.packet.len or _flush(unit.packet, 1):
            yield unit
        else:
            held = unit
    if held is not None:
        yield held


def _flush(p: Packet, mss: int) -> bool:
    """Nothing may be added behind it."""
    return p.len < mss or bool(p.flags & (URG | PSH | RST | SYN | FIN))


def _join(a: Unit, b: Unit) -> Unit | None:
    """`b` behind `a` in one super-segment, None if they do not fit."""
    p, q = a.packet, b.packet
    mss = p.gso_size or p.len
    segs = -(-p.len // mss)
    same = (
        a.host == b.host
        and not b.damaged
        and (p.sport, p.dport, p.ack_seq, p.window, p.tos, p.ttl, p.flowlabel)
        == (q.sport, q.dport, q.ack_seq, q.window, q.tos, q.ttl, q.flowlabel)
        and not q.flags & CWR
        and (p.flags ^ q.flags) & ~(CWR | FIN | PSH) == 0
        and (p.opts.tsval, p.opts.tsecr, p.opts.sacks) == (q.opts.tsval, q.opts.tsecr, q.opts.sacks)
        and 0 < q.len <= mss
        and add(p.seq, p.len) == q.seq
        and p.len + q.len <= GSO_MAX
        and (len(p.saddr) == 16 or (a.id + segs) & 0xFFFF == b.id)
    )
    if not same:
        return None
    new = copy_of(p)
    new.len = p.len + q.len
    new.flags |= q.flags & (FIN | PSH)
    new.gso_size, new.gso_segs = mss, segs + 1
    return Unit(new, a.host, a.number, a.id, a.by if b.by[0] in a.by else (*a.by, *b.by))


__all__ = ["Half", "Host", "Lab", "Path", "Sight", "TooBig", "Unit", "copy_of", "merged"]
