"""What two whole TCPs send is what the connection machine allows: the checker of captures accepts their runs."""

import random

import pytest
from msgspec.structs import replace

from conformance.check.capture import check_frames
from conformance.check.options import RULES
from conformance.check.setup import Host, Setup
from conformance.check.verdict import FileReport
from conformance.frames import Frame
from conformance.pkt import model_wire
from refmodel.packet.codec import encode, seal
from refmodel.packet.ip import Ip
from refmodel.packet.wire import LINKTYPE_RAW
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.const import ACK, SYN
from refmodel.tcp.whole.pair import ADDRESSES, Fate, Pair, copy
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet

DF = 0x4000
SECOND = 1_000_000
DONTWAIT = 0x40


class Tap:
    """A capture at host 0: what it sends as it leaves, what arrives as it arrives."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.frames: list[Frame] = []
        self.last = dict.fromkeys(ADDRESSES, 100)
        self.ids: dict[tuple[object, ...], int] = {}
        receive = pair.hosts[0].net.receive

        def arriving(p: Packet) -> None:
            self.note(p)
            receive(p)

        pair.hosts[0].net.receive = arriving  # type: ignore[method-assign]
        pair.seen = self.sent

    def sent(self, host: int, p: Packet) -> None:
        """Numbers a segment as it leaves: inet_id moves one step a segment, a SYN-ACK's is zero."""
        if p.flags & (SYN | ACK) != SYN | ACK:
            self.last[p.saddr] += 1
            self.ids[key(p)] = self.last[p.saddr]
        if host == 0:
            self.note(p)

    def note(self, p: Packet) -> None:
        """Takes a frame down."""
        ip, tcp = model_wire.frame(p).layers
        assert isinstance(ip, Ip)
        data = encode(seal((replace(ip, frag_off=DF, id=self.ids.get(key(p), 0)), tcp), bytes(p.len)))
        n = len(self.frames) + 1
        self.frames.append(Frame(n, self.pair.now * 1000, LINKTYPE_RAW, 0, data, len(data)))


def key(p: Packet) -> tuple[object, ...]:
    """What tells a segment from the others of a run."""
    return p.saddr, p.seq, p.ack_seq, p.flags, p.len, p.window, p.opts.tsval, p.opts.sacks


def run(seed: int) -> tuple[Tap, dict[str, int]]:
    """A connection with data in both directions, which closes."""
    r = random.Random(seed)
    sack, timestamps = r.choice([1, 1, 0]), r.choice([1, 1, 0])
    params = WholeParams(hz=1000, kernel=612, tcp_sack=sack, tcp_timestamps=timestamps)

    def fate(host: int, number: int) -> Fate:
        return Fate(delay=5_000)

    pair = Pair(fate, (params, params))
    tap = Tap(pair)
    fds = pair.connect()
    sizes = [[r.choice([1, 1448, 20_000]) for _ in range(3)], [r.choice([1, 3000]) for _ in range(3)]]
    wanted = [sum(sizes[1]), sum(sizes[0])]
    while any(wanted) or any(sizes):
        for i, host in enumerate(pair.hosts):
            if sizes[i]:
                assert host.process.start(calls.sys_send(host.process, fds[i], sizes[i][0], DONTWAIT)).ret.value > 0
                sizes[i].pop(0)
                if not sizes[i]:
                    host.process.start(calls.sys_shutdown(host.process, fds[i], 1))
            wanted[i] -= max(host.process.start(calls.sys_recv(host.process, fds[i], 1 << 20, DONTWAIT)).ret.value, 0)
        pair.settle()
        assert pair.step()
    for i, host in enumerate(pair.hosts):
        host.process.start(calls.sys_close(host.process, fds[i]))
    pair.settle()
    pair.run(pair.now + 130 * SECOND)
    return tap, {"net.ipv4.tcp_sack": sack, "net.ipv4.tcp_timestamps": timestamps}


def verdicts(tap: Tap, sysctls: dict[str, int]) -> list[str]:
    """What the checker says of each connection."""
    hosts = tuple(Host("ab"[i], True, frozenset({ADDRESSES[i]}), sysctls=sysctls) for i in (0, 1))
    setup = Setup(kernel="6.12", hz=1000, hosts=hosts, near="a", layer="tcp")
    report = FileReport("run")
    check_frames(tap.frames, setup, report, engine=RULES)
    return [f"{v.outcome.value}: {v.reason} {v.divergence}" for v in report.verdicts]


@pytest.mark.parametrize("seed", range(24))
def test_a_run_conforms_to_the_connection_machine(seed: int) -> None:
    said = verdicts(*run(seed))
    assert said
    assert all(x.startswith("conforms") for x in said), said


def test_copies_do_not_share_what_changes() -> None:
    p = Packet(b"\0" * 4, b"\1" * 4, 1, 2, 3, 4, 0x10, 5)
    q = copy(p)
    q.seq = 9
    assert p.seq == 3
