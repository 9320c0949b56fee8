"""Two whole TCPs with the connection tracker between them: two hops, each of which may lose, delay and double."""

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

from refmodel.netfilter.params import TcpCtParams
from refmodel.netfilter.proto import get_conntrack_index, rule_of
from refmodel.netfilter.tcp_state import Ct, CtTcp, Idx, Invalid, Kill, Let, Refresh, Reopen, Segment
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.options import wire_options
from refmodel.tcp.whole.pair import Fate, Pair, copy
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet
from refmodel.types import after

SYN, FIN, ACK, DONTWAIT = 0x02, 0x01, 0x10, 0x40
SECOND = 1_000_000


Fates = Callable[[int, int], Fate]


class Judged(NamedTuple):
    """What the tracker said of a segment: its sender, the state it came in, the event, the effect."""

    sender: int
    state: Ct
    event: Segment
    said: object
    rule: str


def event(p: Packet, reply: bool) -> Segment:
    """A segment as the tracker sees it."""
    syn, fin = bool(p.flags & SYN), bool(p.flags & FIN)
    sack = p.ack_seq
    for _, edge in p.opts.sacks:
        if after(edge, sack):
            sack = edge
    return Segment(
        index=get_conntrack_index(p.flags),
        reply=reply,
        ack=bool(p.flags & ACK),
        seq=p.seq,
        end=p.seq + p.len + syn + fin & 0xFFFFFFFF,
        ack_seq=p.ack_seq,
        sack=sack,
        win=p.window,
        options=bool(wire_options(p.opts, p.flags)),
        window_scale=p.opts.wscale is not None,
        scale=min(p.opts.wscale or 0, 14),
        sack_perm=p.opts.sack_perm,
    )


class Middle(Pair):
    """A pair whose wire has the tracker in its middle. `second` is asked for the fate behind it."""

    def __init__(self, first: Fates, second: Fates, params: tuple[WholeParams, WholeParams]) -> None:
        super().__init__(first, params)
        self.second = second
        self.tracker = CtTcp()
        self.tcp_params = TcpCtParams()
        self.judged: list[Judged] = []
        self.passed = 0

    def _launch(self, i: int, part: Packet) -> None:
        fate = self.fate(i, self.sent[i])
        self.sent[i] += 1
        for n in range(fate.copies):
            self._order += 1
            heapq.heappush(self._wire, (self.now + fate.delay + n, self._order, i - 2, copy(part) if n else part))

    def step(self) -> bool:
        when = self.next()
        if when is None:
            return False
        if not self._wire or self._wire[0][0] > when or self._wire[0][2] >= 0:
            return super().step()
        for host in self.hosts:
            host.net.now = max(host.net.now, when)
        _, _, i, packet = heapq.heappop(self._wire)
        self.track(i + 2, packet)
        fate = self.second(i + 2, self.passed)
        self.passed += 1
        for n in range(fate.copies):
            self._order += 1
            heapq.heappush(self._wire, (when + fate.delay + n, self._order, 1 - (i + 2), copy(packet) if n else packet))
        self.settle()
        return True

    def track(self, sender: int, packet: Packet) -> None:
        """The tracker's judgement."""
        s, e = self.tracker, event(packet, sender == 1)
        fired = rule_of(s, e, self.tcp_params)
        t, effects = fired(s, e, self.tcp_params)
        said = effects[0]
        gone = isinstance(said, (Kill, Reopen)) or (isinstance(said, Invalid) and s.state == Ct.NONE)
        self.tracker = CtTcp() if gone else t
        self.judged.append(Judged(sender, s.state, e, said, fired.__name__))

    @property
    def invalid(self) -> list[Judged]:
        """What was INVALID."""
        return [j for j in self.judged if isinstance(j.said, Invalid)]


def run(seed: int, loss: float, spread: int, copies: float) -> Middle:
    """A connection with data both ways that closes; `spread` us of delay are added by lot on each hop."""
    r = random.Random(seed)
    params = WholeParams(hz=1000, kernel=612, tcp_sack=r.choice([1, 1, 0]), tcp_timestamps=r.choice([1, 1, 0]),
                         tcp_window_scaling=r.choice([1, 1, 0]))  # fmt: skip

    def fate(host: int, number: int) -> Fate:
        if r.random() < loss:
            return Fate(copies=0)
        return Fate(delay=5_000 + (r.randrange(spread) if spread else 0), copies=2 if r.random() < copies else 1)

    pair = Middle(fate, fate, (params, params))
    fds = pair.connect(limit=600 * SECOND)
    sizes = [[r.choice([1, 1448, 20_000, 60_000]) for _ in range(3)], [r.choice([1, 3000, 30_000]) for _ in range(3)]]
    wanted = [sum(sizes[1]), sum(sizes[0])]
    for _ in range(4000):
        for i, host in enumerate(pair.hosts):
            if sizes[i] and r.random() < 0.3:
                got = host.process.start(calls.sys_send(host.process, fds[i], sizes[i][0], DONTWAIT)).ret.value
                if got > 0:
                    sizes[i][0] -= got
                    if sizes[i][0] <= 0:
                        sizes[i].pop(0)
                if not sizes[i]:
                    host.process.start(calls.sys_shutdown(host.process, fds[i], 1))
            if r.random() < 0.5:
                n = r.choice([100, 5000, 1 << 20])
                wanted[i] -= max(host.process.start(calls.sys_recv(host.process, fds[i], n, DONTWAIT)).ret.value, 0)
        pair.settle()
        if not any(sizes) and not any(w > 0 for w in wanted):
            break
        pair.step()
    for i, host in enumerate(pair.hosts):
        host.process.start(calls.sys_close(host.process, fds[i]))
    pair.settle()
    pair.run(pair.now + 130 * SECOND)
    return pair


__all__ = ["Idx", "Judged", "Let", "Middle", "Refresh", "run"]
