"""Networks of hosts: what sockets promise is kept over pairs, routers, bridges and NAT, under loss and reordering."""

import random
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refmodel.fib.types import FibConfig
from refmodel.host.namespace import Namespace
from refmodel.host.network import Network
from refmodel.host.program import (
    SOCK_DGRAM,
    Program,
    accept,
    bind,
    close,
    connect,
    family_of,
    listen,
    recv,
    send,
    sendto,
    socket,
)
from refmodel.host.walks import A6, B6, MASQUERADE, PORT
from refmodel.host.wire import Fate
from refmodel.tcp.whole.sock import Sock

A: Final = bytes((10, 9, 0, 1))
B: Final = bytes((10, 9, 0, 2))
C: Final = bytes((10, 9, 1, 2))
GATES: Final = (bytes((10, 9, 0, 254)), bytes((10, 9, 1, 254)))
HOURS: Final = 4 * 3600 * 1_000_000


class Faults:
    """What a bad wire does: each frame is lost, comes twice, or late, by chance from a seed."""

    def __init__(self, seed: int, loss: int, copies: int, late: int) -> None:
        self.rng = random.Random(seed)
        self.loss, self.copies, self.late = loss, copies, late

    def __call__(self, end: int, number: int) -> Fate:
        delay = 100 + (self.rng.randrange(20_000) if self.rng.randrange(100) < self.late else 0)
        if self.rng.randrange(100) < self.loss:
            return Fate(delay, 0)
        return Fate(delay, 2 if self.rng.randrange(100) < self.copies else 1)


faults = st.builds(Faults, st.integers(0, 2**32), st.integers(0, 20), st.integers(0, 20), st.integers(0, 50))
good = Faults(0, 0, 0, 0)


def gateway(ns: Namespace, gw: bytes) -> None:
    assert ns.newroute(FibConfig(gw=int.from_bytes(gw, "big"))) == 0


def wire(fate: Faults) -> tuple[Network, Namespace, Namespace, bytes]:
    net = Network()
    a, b = net.host("a"), net.host("b")
    w = net.wire(a, b, fate)
    a.newaddr(w.dev[0], A, 24)
    b.newaddr(w.dev[1], B, 24)
    return net, a, b, B


def wire6(fate: Faults) -> tuple[Network, Namespace, Namespace, bytes]:
    net = Network()
    a, b = net.host("a"), net.host("b")
    w = net.wire(a, b, fate)
    a.newaddr6(w.dev[0], A6, 64)
    b.newaddr6(w.dev[1], B6, 64)
    return net, a, b, B6


def veth(fate: Faults) -> tuple[Network, Namespace, Namespace, bytes]:
    net = Network()
    box = net.machine("box")
    a, b = net.host("a", box), net.host("b", box)
    w = net.veth(a, b)
    a.newaddr(w.dev[0], A, 24)
    b.newaddr(w.dev[1], B, 24)
    return net, a, b, B


def router(fate: Faults, ruleset: str = "", mtu: int = 1500) -> tuple[Network, Namespace, Namespace, bytes]:
    net = Network()
    a, r, c = net.host("a"), net.host("r"), net.host("c")
    left, right = net.wire(a, r, fate), net.wire(r, c, fate, ("eth1", "eth0"), mtu=mtu)
    a.newaddr(left.dev[0], A, 24)
    r.newaddr(left.dev[1], GATES[0], 24)
    r.newaddr(right.dev[0], GATES[1], 24)
    c.newaddr(right.dev[1], C, 24)
    r.forward()
    gateway(a, GATES[0])
    gateway(c, GATES[1])
    if ruleset:
        r.iptables_restore(ruleset)
    return net, a, c, C


def nat(fate: Faults) -> tuple[Network, Namespace, Namespace, bytes]:
    return router(fate, MASQUERADE)


def narrow(fate: Faults) -> tuple[Network, Namespace, Namespace, bytes]:
    return router(fate, mtu=1000)


def bridge(fate: Faults) -> tuple[Network, Namespace, Namespace, bytes]:
    net = Network()
    a, br, b = net.host("a"), net.host("bridge"), net.host("b")
    left, right = net.wire(a, br, fate), net.wire(br, b, fate, ("eth1", "eth0"))
    a.newaddr(left.dev[0], A, 24)
    b.newaddr(right.dev[1], B, 24)
    br.add_bridge("br0", bytes((2, 0, 0, 0, 1, 0)), [left.dev[1], right.dev[0]])
    return net, a, b, B


quick = settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""A failing network says enough by its seed; making it smaller takes minutes."""

Build = Callable[[Faults], tuple[Network, Namespace, Namespace, bytes]]
NETWORKS: Final[tuple[Build, ...]] = (wire, wire6, veth, router, nat, narrow, bridge)


def content(n: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(n)


def talk(daddr: bytes, data: bytes, answer: list[bytes]) -> Program:
    fd = yield socket(family_of(daddr))
    err = yield connect(fd, daddr, PORT)
    if err:
        answer.append(str(err).encode())
        return
    at = 0
    while at < len(data):
        n = yield send(fd, data[at : at + 4000])
        if n < 0:
            answer.append(str(n).encode())
            return
        at += n
    got = yield recv(fd, 100)
    answer.append(got if isinstance(got, bytes) else str(got).encode())
    yield close(fd)


def hear(address: bytes, n: int, got: bytearray) -> Program:
    fd = yield socket(family_of(address))
    yield bind(fd, address, PORT)
    yield listen(fd, 8)
    new = yield accept(fd)
    while len(got) < n:
        data = yield recv(new, 3000)
        if not isinstance(data, bytes) or not data:
            return
        got += data
    yield send(new, b"thanks")
    yield close(new)
    yield close(fd)


def one_connection(build: Build, fate: Faults, n: int) -> tuple[Network, bytes, bytearray, list[bytes]]:
    net, a, b, daddr = build(fate)
    data = content(n, 1)
    got, answer = bytearray(), []  # type: ignore[var-annotated]
    net.program(b, hear(daddr, n, got), "server")
    net.program(a, talk(daddr, data, answer), "client", 1_000)
    limit = net.now + HOURS
    while not all(r.over for r in net.runs) and net.now < limit and net.step():
        pass
    return net, data, got, answer


@pytest.mark.parametrize("build", NETWORKS)
def test_a_stream_arrives_whole_and_in_order(build: Build) -> None:
    _, data, got, answer = one_connection(build, Faults(1, 0, 0, 0), 50_000)
    assert bytes(got) == data
    assert answer == [b"thanks"]


@pytest.mark.parametrize("build", [b for b in NETWORKS if b is not veth])
@quick
@given(fate=faults, n=st.integers(1, 30_000))
def test_a_stream_arrives_whole_over_a_bad_wire_or_an_error_says_that_it_did_not(
    build: Build, fate: Faults, n: int
) -> None:
    net, data, got, answer = one_connection(build, fate, n)
    assert data.startswith(bytes(got))
    if answer == [b"thanks"]:
        assert bytes(got) == data
    else:
        assert answer in ([b"-110"], [b"-113"], [b"-104"], []), answer
    net.run(net.now + 1_000_000)


@quick
@given(fate=faults)
def test_what_was_sent_is_no_longer_the_senders_memory_once_all_is_quiet(fate: Faults) -> None:
    net, _, _, _ = one_connection(wire, fate, 20_000)
    net.run(net.now + 200_000_000)
    for ns in net.namespaces:
        for sk in ns.ehash.values():
            if isinstance(sk, Sock):
                assert sk.sk_wmem_alloc <= 1


@pytest.mark.parametrize("build", NETWORKS)
@quick
@given(fate=faults, sizes=st.lists(st.integers(0, 4_000), min_size=1, max_size=8))
def test_a_datagram_arrives_whole_or_not_at_all(build: Build, fate: Faults, sizes: list[int]) -> None:
    net, a, b, daddr = build(fate)
    sent = [content(n, i) for i, n in enumerate(sizes)]
    got: list[bytes] = []

    def ask() -> Program:
        fd = yield socket(family_of(daddr), SOCK_DGRAM)
        for data in sent:
            yield sendto(fd, data, daddr, PORT)

    def answer() -> Program:
        fd = yield socket(family_of(daddr), SOCK_DGRAM)
        yield bind(fd, daddr, PORT)
        while True:
            got.append((yield recv(fd, 65_536)))

    net.program(b, answer(), "server")
    net.program(a, ask(), "client", 1_000)
    net.run(net.now + 100_000_000)
    assert all(data in sent for data in got)
    if build is veth:
        assert got == sent


def test_the_same_network_and_programs_give_the_same_run() -> None:
    def frames() -> list[tuple[int, int, bytes]]:
        net, _, _, _ = one_connection(router, Faults(7, 10, 10, 30), 20_000)
        return [f for w in net.wires for f in w.seen]

    assert frames() == frames()


def test_a_masqueraded_client_is_seen_by_the_routers_address() -> None:
    net, _, _, _ = one_connection(nat, Faults(0, 0, 0, 0), 100)
    sources = {f[26:30] for _, end, f in net.wires[1].seen if end == 0 and f[12:14] == b"\x08\x00"}
    assert sources == {GATES[1]}


def test_a_bridge_learns_and_floods_no_more() -> None:
    net = Network()
    hosts = [net.host(n) for n in ("a", "b", "c")]
    br = net.host("bridge")
    wires = [net.wire(h, br, names=("eth0", f"port{i}")) for i, h in enumerate(hosts)]
    for i, h in enumerate(hosts):
        h.newaddr(wires[i].dev[0], bytes((10, 9, 0, i + 1)), 24)
    br.add_bridge("br0", bytes((2, 0, 0, 0, 1, 0)), [w.dev[1] for w in wires])
    got = bytearray()
    answer: list[bytes] = []
    net.program(hosts[1], hear(B, 100, got), "server")
    net.program(hosts[0], talk(B, bytes(100), answer), "client", 1_000)
    net.run(net.now + 1_000_000)
    assert answer == [b"thanks"]
    to_c = [f for _, end, f in wires[2].seen if end == 1]
    assert [f[12:14] for f in to_c] == [b"\x08\x06"]  # the question for b's address, and nothing else


def test_what_nobody_wants_is_dropped_with_its_reason() -> None:
    net, a, b, _ = wire(good)
    net.program(a, iter_once(sendto, B), "client", 1_000)
    net.run(net.now + 1_000_000)
    assert a.mib["IcmpInDestUnreachs"] == 1
    assert b.mib["UdpNoPorts"] == 1


def iter_once(call: Callable[..., object], daddr: bytes) -> Program:
    fd = yield socket(type=SOCK_DGRAM)
    yield sendto(fd, b"x", daddr, 9)
