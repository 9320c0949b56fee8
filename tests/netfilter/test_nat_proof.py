"""NAT is invertible while its entry lives: what a connection's packets become, their answers undo; proved by Z3."""

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from z3 import And, BitVec, Not, Solver, sat, unsat

from conformance.differential.netfilter_packets import icmp, ip, tcp, udp
from refmodel.netfilter.nat import statusbit
from refmodel.netfilter.nat_proto import nf_nat_ipv4_manip_pkt
from refmodel.netfilter.tuples import ICMP_INVMAP, Tuple, dotted, inverted, nf_ct_get_tuple
from refmodel.netfilter.uapi import (
    HOOK2MANIP,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    ORIGINAL,
    REPLY,
    Ips,
    Manip,
)
from refmodel.skbuff import SkBuff

HALVES = (Ips(0), Ips.SRC_NAT, Ips.DST_NAT, Ips.SRC_NAT | Ips.DST_NAT)
ICMP_REQUESTS = tuple(kind << 8 | code for kind, code in product(ICMP_INVMAP, (0, 1)))
Bit = Callable[[Manip, int], Ips]
Turn = Callable[[Tuple], Tuple]


def half(t: Tuple, other: Tuple, manip: Manip) -> Tuple:
    """One end of `t` as in `other`: address and port, or the id of ICMP, which both ends share."""
    if manip == Manip.SRC:
        return t._replace(src=other.src, sport=other.sport)
    if t.protonum == IPPROTO_ICMP:
        return t._replace(dst=other.dst, sport=other.sport)
    return t._replace(dst=other.dst, dport=other.dport)


def through(packet: Tuple, status: Ips, direction: int, target: Tuple, bit: Bit) -> Tuple:
    """The packet behind both hooks of a router."""
    for hook in (NF_INET_PRE_ROUTING, NF_INET_POST_ROUTING):
        manip = HOOK2MANIP(hook)
        if status & bit(manip, direction):
            packet = half(packet, target, manip)
    return packet


def counterexample(proto: int, dport: int, status: Ips, bit: Bit = statusbit, turn: Turn = inverted) -> bool:
    """Whether there is a connection whose packets don't become what is mapped, or whose answers aren't undone.

    `dport` is ICMP's type and code.
    """

    def some(name: str) -> Tuple:
        port = BitVec(f"{name}.dport", 16) if proto != IPPROTO_ICMP else dport
        return Tuple(BitVec(f"{name}.src", 32), BitVec(f"{name}.sport", 16), BitVec(f"{name}.dst", 32), port, proto)

    orig = mapped = some("orig")
    for flag, manip in ((Ips.DST_NAT, Manip.DST), (Ips.SRC_NAT, Manip.SRC)):
        if status & flag:
            mapped = half(mapped, some(flag.name or ""), manip)
    repl = inverted(mapped)
    out = through(orig, status, ORIGINAL, turn(repl), bit)
    back = through(repl, status, REPLY, turn(orig), bit)
    solver = Solver()
    solver.add(Not(And(*(a == b for a, b in zip((*out, *back), (*mapped, *inverted(orig)), strict=True)))))
    found = solver.check()
    assert found in (sat, unsat)
    return bool(found == sat)


@pytest.mark.parametrize("status", HALVES, ids=str)
@pytest.mark.parametrize("proto", [IPPROTO_TCP, IPPROTO_UDP])
def test_for_all_addresses_and_ports_an_answer_is_turned_back(proto: int, status: Ips) -> None:
    assert not counterexample(proto, 0, status)


@pytest.mark.parametrize("status", HALVES, ids=str)
@pytest.mark.parametrize("dport", ICMP_REQUESTS)
def test_for_all_addresses_and_ids_an_icmp_answer_is_turned_back(dport: int, status: Ips) -> None:
    assert not counterexample(IPPROTO_ICMP, dport, status)


def test_a_reply_that_is_mapped_as_its_request_is_caught() -> None:
    def unturned(manip: Manip, direction: int) -> Ips:
        return Ips.SRC_NAT if manip == Manip.SRC else Ips.DST_NAT

    assert counterexample(IPPROTO_TCP, 0, Ips.SRC_NAT, bit=unturned)


def test_a_target_that_is_not_turned_round_is_caught() -> None:
    assert counterexample(IPPROTO_TCP, 0, Ips.DST_NAT, turn=lambda t: t)


addresses = st.binary(min_size=4, max_size=4)
ports = st.integers(0, 0xFFFF)


@given(
    ends=st.tuples(addresses, ports, addresses, ports),
    other=st.tuples(addresses, ports, addresses, ports),
    proto=st.sampled_from((IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP)),
    manip=st.sampled_from(Manip),
)
def test_the_bytes_are_rewritten_as_the_proof_has_it(
    ends: tuple[bytes, int, bytes, int], other: tuple[bytes, int, bytes, int], proto: int, manip: Manip
) -> None:
    (src, sport), (dst, dport) = (dotted(ends[0]), ends[1]), (dotted(ends[2]), ends[3])
    if proto == IPPROTO_TCP:
        body = tcp(src, dst, sport, dport, 1, 2, 0x10, 1000, b"", b"ab")
    elif proto == IPPROTO_UDP:
        body = udp(src, dst, sport, dport, b"ab")
    else:
        body = icmp(8, 0, sport << 16 | 1, b"ab")
    skb = SkBuff(ip(src, dst, proto, body))
    before = nf_ct_get_tuple(skb, 0, 20, proto)
    assert before is not None
    target = Tuple(*other, proto)
    assert nf_nat_ipv4_manip_pkt(skb, 0, target, manip)
    assert nf_ct_get_tuple(skb, 0, 20, proto) == half(before, target, manip)
