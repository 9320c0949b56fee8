"""What is corked, proved; and sockets of the model and of the running kernel that do as the machine says."""

import errno
import socket
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conformance.live.kernel import NetNamespace
from refmodel.engine.property import machine_tests
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.run import Dispatcher
from refmodel.engine.sampled import differences
from refmodel.tcp.whole.calls import SockAddr
from refmodel.udp.corking import (
    CORK,
    LARGEST,
    UDP_HLEN,
    Corked,
    CorkParams,
    Leaves,
    Refused,
    Send,
    SetCork,
    over4,
)
from refmodel.udp.output import MSG_MORE, MSG_PROBE
from refmodel.udp.sock import AF_INET, AF_INET6
from tests.udp.host import PEER, PEER6, Host

TestUdpCork = machine_tests(CORK)

SOL_UDP, UDP_CORK = 17, 1
MAPPED = bytes(10) + b"\xff\xff"


class Seed(NamedTuple):
    """What goes wrong, and the property that says so."""

    fault: str
    old: str
    new: str
    caught: str


SEEDS = (
    Seed("what left is still counted", "return replace(s, pending=Pending.NONE, length=0)",
         "return replace(s, pending=Pending.NONE)", "no_bytes_without_datagram"),
    Seed("what left is still pending", "return replace(s, pending=Pending.NONE, length=0)",
         "return replace(s, length=0)", "nothing_is_nothing"),
    Seed("an IPv4 socket takes IPv6's way", "if not p.v6 or s.pending == Pending.INET:",
         "if s.pending == Pending.INET:", "own_family"),
    Seed("UDP_CORK is not looked at", "return s.corkflag or e.more", "return e.more", "corked_waits"),
    Seed("the last part waits too", "return emptied(s), (Leaves(len=whole(s, e)),)",
         "return replace(s, length=whole(s, e)), ()", "uncorked_leaves"),
    Seed("the last part is left out", "return emptied(s), (Leaves(len=whole(s, e)),)",
         "return emptied(s), (Leaves(len=s.length),)", "leaves_whole"),
    Seed("a part of another family changes the datagram's", "return replace(s, length=whole(s, e)), ()",
         "return replace(s, pending=Pending.INET if e.to4 else s.pending, length=whole(s, e)), ()", "one_family"),
    Seed("the limit is forgotten", "return whole(s, e) <= e.limit and not e.fault", "return not e.fault",
         "within_limit"),
    Seed("a part that fails takes the rest unsaid", "(Forgotten(len=s.length), Refused())",
         "(Forgotten(len=s.length),)", "nothing_lost_unsaid"),
    Seed("each part has a header", "return replace(s, length=whole(s, e)), ()",
         "return replace(s, length=min(LARGEST, whole(s, e) + UDP_HLEN)), ()", "grows_by_what_was_sent"),
    Seed("the end of UDP_CORK forgets", "corkflag=False), (Leaves(len=s.length),)", "corkflag=False), ()",
         "drawn_leaves"),
    Seed("a splice ends UDP_CORK", "\"nothing waits, or UDP_CORK\")\n    return s, ()",
         "\"nothing waits, or UDP_CORK\")\n    return replace(s, corkflag=False), ()", "splice_respects_cork"),
    Seed("a close sends", "return emptied(s), (Forgotten(len=s.length),)", "return emptied(s), (Leaves(len=s.length),)",
         "close_leaves_nothing"),
)  # fmt: skip


def test_machine_is_proved() -> None:
    report = prove(CORK)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert {x.id.rsplit(".", 1)[1] for x in report.falsified} == {"accepted_is_kept"}


def test_the_prover_reads_the_rules_as_they_run() -> None:
    assert differences(CORK).differences == ()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: s.fault)
def test_the_proof_catches_and_names_the_fault(seed: Seed) -> None:
    report = prove_with(CORK, [("refmodel.udp.corking", seed.old, seed.new)])
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


def test_every_property_has_a_fault_of_its_own() -> None:
    stated = (*CORK.properties("invariant"), *CORK.properties("transition"))
    assert {q.id.rsplit(".", 1)[1] for q in stated if not q.falsified} <= {s.caught for s in SEEDS}


# ---------------------------------------------------------------- sockets


class Op(NamedTuple):
    """A send; or, with `size` -1, setsockopt(UDP_CORK, more)."""

    size: int
    named: bool = False
    to4: bool = True
    more: bool = False
    probe: bool = False


sizes = st.one_of(st.integers(0, 3000), st.sampled_from((20_000, 40_000, 65_507, 65_508, 65_527, 65_528, 65_536)))
ops = st.lists(
    st.one_of(
        st.builds(Op, sizes, st.booleans(), st.booleans(), st.booleans(), st.sampled_from((False, False, False, True))),
        st.builds(Op, st.just(-1), more=st.booleans()),
    ),
    min_size=1,
    max_size=12,
)


class Told(NamedTuple):
    """What an operation came to: refused, and the lengths of the datagrams that left, without header."""

    refused: bool
    left: tuple[int, ...]


def by_the_machine(v6: bool, done: list[Op]) -> list[Told]:
    """An IPv4 socket is connected, an IPv6 one is not, and so must name whom it sends to."""
    rules, p, out = Dispatcher(CORK.rules), CorkParams(v6=v6), []
    s = Corked()
    for op in done:
        e: Send | SetCork
        if op.size < 0:
            e = SetCork(on=op.more)
        else:
            to4 = not v6 or (op.named and op.to4)
            e = Send(size=op.size, named=op.named, to4=to4, more=op.more, probe=op.probe, lost=v6 and not op.named)
            e = replace(e, limit=LARGEST - 20 if over4(s, e, p) else LARGEST)
        _, now, effects = rules.apply(s, e, p)
        assert isinstance(now, Corked)
        s = now
        left = tuple(x.len - UDP_HLEN for x in effects if isinstance(x, Leaves))
        out.append(Told(any(isinstance(x, Refused) for x in effects), left))
    return out


def by_the_model(v6: bool, done: list[Op]) -> list[Told]:
    host = Host()
    fd = host.socket(AF_INET6 if v6 else AF_INET, peer=b"" if v6 else PEER)
    out = []
    for op in done:
        if op.size < 0:
            result = host.call("setsockopt", fd, SOL_UDP, UDP_CORK, int(op.more).to_bytes(4, "little"))
        else:
            flags = (MSG_MORE if op.more else 0) | (MSG_PROBE if op.probe else 0)
            result = host.call("sendto", fd, op.size, flags, named(v6, op, PEER, PEER6))
        left = tuple(p.ulen - UDP_HLEN for p in host.sent() if not p.frag)
        out.append(Told(result < 0, left))
    return out


def named(v6: bool, op: Op, four: bytes, six: bytes) -> SockAddr | None:
    """The address that a send names."""
    if not op.named:
        return None
    if not v6:
        return SockAddr(AF_INET, four, 9)
    return SockAddr(AF_INET6, MAPPED + four if op.to4 else six, 9)


@given(v6=st.booleans(), done=ops)
def test_the_model_s_sockets_do_as_the_machine_says(v6: bool, done: list[Op]) -> None:
    assert by_the_model(v6, done) == by_the_machine(v6, done)


def test_a_part_for_an_ipv6_address_goes_to_the_ipv4_one_that_was_begun() -> None:
    done = [Op(10, named=True, to4=True, more=True), Op(20, named=True, to4=False)]
    assert by_the_machine(True, done) == [Told(False, ()), Told(False, (30,))] == by_the_model(True, done)


# ---------------------------------------------------------------- the running kernel


@pytest.fixture(scope="module")
def namespace() -> Iterator[NetNamespace]:
    try:
        ns = NetNamespace()
    except OSError as e:
        pytest.skip(f"a namespace needs root: {e}")
    try:
        with ns.inside():
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield ns
    finally:
        ns.close()


def by_the_kernel(ns: NetNamespace, v6: bool, done: list[Op]) -> list[Told]:
    with ns.inside():
        four, six = (socket.socket(f, socket.SOCK_DGRAM) for f in (socket.AF_INET, socket.AF_INET6))
        sender = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    with four, six, sender:
        four.bind(("127.0.0.1", 9))
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::1", 9))
        if not v6:
            sender.connect(("127.0.0.1", 9))
        out = []
        for op in done:
            refused = False
            try:
                if op.size < 0:
                    sender.setsockopt(SOL_UDP, UDP_CORK, int(op.more))
                else:
                    flags = (MSG_MORE if op.more else 0) | (MSG_PROBE if op.probe else 0)
                    data = bytes(op.size)
                    if op.named:
                        host = ("::ffff:127.0.0.1" if op.to4 else "::1") if v6 else "127.0.0.1"
                        assert sender.sendto(data, flags, (host, 9)) == op.size
                    else:
                        assert sender.send(data, flags) == op.size
            except OSError as e:
                if e.errno not in (errno.EMSGSIZE, errno.EINVAL, errno.EDESTADDRREQ):
                    raise
                refused = True
            out.append(Told(refused, tuple(n for s in (four, six) for n in arrived(s))))
        return out


def arrived(s: socket.socket) -> Iterator[int]:
    """The lengths of the datagrams that wait."""
    while True:
        try:
            yield len(s.recv(1 << 17, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return


@pytest.mark.live
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(v6=st.booleans(), done=ops)
def test_the_kernel_s_sockets_do_as_the_machine_says(namespace: NetNamespace, v6: bool, done: list[Op]) -> None:
    assert by_the_kernel(namespace, v6, done) == by_the_machine(v6, done)
