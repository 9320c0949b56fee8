"""IPv6's behaviour: what is checked, answered, forwarded, put together and cut."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from conformance.differential.ip6_packets import Generator
from conformance.differential.ip6_world import IN, MACS, OUT, World, addr
from refmodel.ip6.exthdrs import Unknown, unknown_option
from refmodel.ip6.icmp import May, may_send
from refmodel.ip6.icmprcv import icmpv6_err_convert
from refmodel.ip6.input import Header, header_verdict
from refmodel.ip6.lookup import ipv6_addr_label, ipv6_dev_get_saddr
from refmodel.ip6.net import ipv6_addr_type
from refmodel.ip6.output import ip6_fragment, ip6_xmit
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.skbuff import SkBuff
from tests.ip6.runs import FAR, HOST, ROUTER, Timed, echo, fragment, fragments, packet


def icmp(p: bytes) -> tuple[int, int, int]:
    """Type, code and the word behind the checksum."""
    return p[40], p[41], int.from_bytes(p[44:48], "big")


# ------------------------------------------------------------------------------------------------------------- input


def test_an_echo_is_answered_with_what_it_brought() -> None:
    (answer,) = Timed().receive(echo(ROUTER, b"hello"))
    assert (icmp(answer)[0], answer[48:]) == (129, b"hello")
    assert (answer[8:24], answer[24:40]) == (addr(ROUTER), addr(HOST))


def test_bytes_behind_the_payload_are_cut_off() -> None:
    (answer,) = Timed().receive(echo(ROUTER, b"hello") + b"padding")
    assert answer[48:] == b"hello"


@pytest.mark.parametrize(
    ("spoil", "reason", "counter"),
    [
        (lambda p: p[:30], "IP_INHDR", "Ip6InHdrErrors"),
        (lambda p: b"\x40" + p[1:], "UNHANDLED_PROTO", "Ip6InHdrErrors"),
        (lambda p: p[:-1], "PKT_TOO_SMALL", "Ip6InTruncatedPkts"),
        (lambda p: p[:8] + addr("::1") + p[24:], "IP_INHDR", "Ip6InHdrErrors"),
        (lambda p: p[:8] + addr("ff02::1") + p[24:], "IP_INHDR", "Ip6InHdrErrors"),
        (lambda p: p[:24] + addr("ff01::1") + p[40:], "IP_INHDR", "Ip6InHdrErrors"),
        (lambda p: p[:24] + addr("ff00::1") + p[40:], "IP_INHDR", "Ip6InHdrErrors"),
    ],
)
def test_a_wrong_header_has_one_reason_and_one_counter(spoil: object, reason: str, counter: str) -> None:
    router = Timed()
    assert router.receive(spoil(packet(ROUTER))) == []  # type: ignore[operator]
    assert router.drops == [reason]
    assert router.mib[counter] == 1


def test_the_header_s_verdict_is_total_and_its_first_fault_counts() -> None:
    seen = Counter(
        header_verdict(a, b, size, version, out, loop, scope, many, source, length, jumbo)
        for a, b, out, loop, many, source, jumbo in itertools.product((False, True), repeat=7)
        for size, version, scope, length in itertools.product((39, 40, 90), (4, 6), (-1, 0, 1, 2), (40, 91))
    )
    assert set(seen) == set(Header)
    assert header_verdict(True, True, 0, 0, True, True, 0, True, True, 99, False) == Header.OTHERHOST


def test_a_next_header_that_nobody_has_is_answered_with_its_place() -> None:
    router = Timed()
    (answer,) = router.receive(packet(ROUTER))
    assert icmp(answer) == (4, 1, 6)
    assert router.drops == ["IP_NOPROTO"]


def test_no_next_header_is_silence() -> None:
    router = Timed()
    assert router.receive(packet(ROUTER, b"", 59)) == []
    assert router.mib["Ip6InDelivers"] == 1


@pytest.mark.parametrize(
    ("first_bits", "multicast", "disallowed", "outcome"),
    [
        (0, False, False, Unknown.SKIP),
        (1, False, False, Unknown.DROP),
        (2, True, False, Unknown.ANSWER),
        (3, False, False, Unknown.ANSWER),
        (3, True, False, Unknown.DROP),
        (0, False, True, Unknown.DROP),
    ],
)
def test_an_unknown_option_s_first_bits_say_what_happens(
    first_bits: int, multicast: bool, disallowed: bool, outcome: Unknown
) -> None:
    assert unknown_option(first_bits, multicast, disallowed) == outcome


def test_a_routing_header_with_segments_left_is_refused_at_its_type() -> None:
    router = Timed()
    (answer,) = router.receive(packet(ROUTER, bytes((253, 0, 0, 1)) + bytes(12), 43))
    assert icmp(answer) == (4, 0, 42)


def test_one_without_is_passed_over() -> None:
    router = Timed()
    (answer,) = router.receive(packet(ROUTER, bytes((253, 0, 0, 0)) + bytes(12), 43))
    assert icmp(answer) == (4, 1, 40)


# ------------------------------------------------------------------------------------------------------------ errors


def test_whether_an_error_may_be_sent_is_decided_in_order() -> None:
    assert may_send(True, False, False, False, False, False) == May.TO_MANY
    assert may_send(True, True, False, False, False, False) == May.SEND
    assert may_send(False, False, False, True, False, True) == May.NO_SOURCE
    assert may_send(False, False, False, False, False, True) == May.ERROR


def test_an_error_about_an_error_is_never_sent() -> None:
    router = Timed()
    assert router.receive(packet("2001:db8:dead::1", bytes((1, 0, 0, 0)) + bytes(60), 58)) == []
    assert router.drops == ["IP_INNOROUTES"]


def test_an_error_quotes_no_more_than_1280_bytes_hold() -> None:
    (answer,) = Timed().receive(packet("2001:db8:dead::1", bytes(1400)))
    assert len(answer) == 1280


def test_the_common_limit_silences_errors_but_not_too_big() -> None:
    router = Timed(World(mtu=1280))
    router.ip6 = type(router.ip6)(forwarding=1, auto_flowlabels=0)
    router.share = 1
    assert len(router.receive(packet("2001:db8:dead::1"))) == 1
    assert router.receive(packet("2001:db8:dead::1")) == []
    assert icmp(router.receive(packet(FAR, bytes(1300)))[0]) == (2, 0, 1280)


def test_errors_have_their_errno() -> None:
    assert icmpv6_err_convert(1, 4) == (111, True)
    assert icmpv6_err_convert(2, 0) == (90, False)
    assert icmpv6_err_convert(1, 77) == (71, True)


# ------------------------------------------------------------------------------------------------------- forwarding


def test_a_forwarded_packet_has_one_hop_less() -> None:
    (out,) = Timed().receive(packet(FAR, hops=9))
    assert out == packet(FAR, hops=8)


def test_the_last_hop_is_told() -> None:
    router = Timed()
    assert icmp(router.receive(packet(FAR, hops=1))[0]) == (3, 0, 0)
    assert router.drops == ["IP_INHDR"]


def test_a_router_does_not_cut() -> None:
    router = Timed(World(mtu=1280))
    assert icmp(router.receive(packet(FAR, bytes(1300)))[0]) == (2, 0, 1280)
    assert router.mib["Ip6FragFails"] == 1


def test_a_link_local_source_does_not_leave_its_link() -> None:
    router = Timed()
    assert icmp(router.receive(packet(FAR, source="fe80::10"))[0]) == (1, 2, 0)
    assert router.drops == ["IP_INADDRERRORS"]


def test_a_host_does_not_forward() -> None:
    router = Timed(World(forwarding=0))
    assert router.receive(packet(FAR)) == []
    assert router.mib["Ip6InAddrErrors"] == 1


def test_a_neighbour_that_asks_for_a_neighbour_is_redirected() -> None:
    redirect, forwarded = Timed().receive(packet("2001:db8:1::99"))
    assert (redirect[7], redirect[40]) == (255, 137)
    assert redirect[48:64] == redirect[64:80] == addr("2001:db8:1::99")
    assert redirect[80:88] == bytes((2, 1)) + MACS[IN]
    assert forwarded[24:40] == addr("2001:db8:1::99")


# -------------------------------------------------------------------------------------------------------- fragments


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 100), st.randoms(use_true_random=False), st.booleans())
def test_fragments_give_the_datagram_back_in_any_order(n: int, eighths: int, rng: random.Random, twice: bool) -> None:
    router = Timed()
    whole = echo(ROUTER, rng.randbytes(n))
    parts = fragments(whole, max(16, eighths * 8))
    if len(parts) == 1:
        return
    rng.shuffle(parts)
    last = parts.pop()
    for p in parts + (parts if twice else []):
        assert router.receive(p) == []
    router.receive(last)
    data = b"".join(p[48:] if p[6] == 44 else p[40:] for _, p in router.out)
    assert data[8:] == whole[48:]
    assert router.net.frag_mem == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9000), st.integers(1280, 1500))
def test_what_is_cut_here_tiles_the_packet_and_fits(n: int, mtu: int) -> None:
    router = Timed(World(mtu=mtu))
    skb = SkBuff(bytes((1, 2)) * (n // 2) + bytes(n % 2))
    skb.dst = router.net.table.lookup(addr(FAR))
    skb.ignore_df = True
    body = bytes(skb.data)
    ip6_xmit(router.net, skb, addr(ROUTER), addr(FAR), 253)
    out = [p for _, p in router.out]
    assert all(len(p) <= mtu for p in out)
    if len(out) == 1:
        assert out[0][40:] == body
        return
    offsets = [int.from_bytes(p[42:44], "big") for p in out]
    assert b"".join(p[48:] for p in out) == body
    assert [o & 1 for o in offsets] == [1] * (len(out) - 1) + [0]
    assert [o & ~7 for o in offsets] == list(itertools.accumulate((len(p) - 48 for p in out[:-1]), initial=0))
    assert len({p[44:48] for p in out}) == 1


def test_a_packet_that_must_not_be_cut_is_refused() -> None:
    router = Timed(World(mtu=1280))
    skb = SkBuff(packet(FAR, bytes(1300), source=ROUTER), 0x86DD, dev=router.devs[OUT])
    skb.dst = router.net.table.lookup(addr(FAR))
    assert ip6_fragment(router.net, skb, lambda net, s: 0) == -90


def test_an_overlap_destroys_the_datagram_and_a_duplicate_does_not() -> None:
    whole = echo(ROUTER, bytes(100))
    router = Timed()
    router.receive(fragment(whole, 0, 48))
    router.receive(fragment(whole, 8, 32))
    assert router.drops == ["DUP_FRAG"]
    router.receive(fragment(whole, 40, 108))
    assert router.drops == ["DUP_FRAG", "NOT_SPECIFIED"]
    assert router.net.frags == {}


def test_a_duplicate_that_says_to_be_the_last_leaves_the_datagram_waiting() -> None:
    whole = echo(ROUTER, bytes(40))
    router = Timed()
    router.receive(fragment(whole, 0, 48, more=True))
    assert router.receive(fragment(whole, 40, 48, more=False)) == []
    assert router.drops == ["DUP_FRAG"]
    (fq,) = router.net.frags.values()
    assert (fq.s.first_in, fq.s.last_in, fq.s.meat) == (True, True, fq.s.len)


@pytest.mark.parametrize("first", [True, False])
def test_after_60_seconds_a_datagram_is_given_up_and_its_sender_told_if_its_first_fragment_came(first: bool) -> None:
    router = Timed()
    start = 0 if first else 48
    router.receive(fragment(echo(ROUTER, bytes(100)), start, start + 48))
    router.advance(59_000_000)
    assert router.out == []
    router.advance(2_000_000)
    assert [icmp(p) for _, p in router.out] == ([(3, 1, 0)] if first else [])
    assert (router.mib["Ip6ReasmTimeout"], router.net.frag_mem) == (1, 0)
    assert router.drops == ["FRAG_REASM_TIMEOUT"]


def test_a_first_fragment_must_hold_the_transport_header() -> None:
    router = Timed()
    (answer,) = router.receive(fragment(packet(ROUTER, bytes(40), 17), 0, 4, more=True))
    assert icmp(answer) == (4, 3, 0)


def test_neighbour_discovery_in_fragments_or_from_afar_is_dropped() -> None:
    router = Timed()
    for kind in (133, 134, 135, 136, 137):
        message = bytes((kind, 0, 0, 0)) + bytes(20)
        check = checksum(message, pseudo_header(addr(HOST), addr(ROUTER), 58, len(message)))
        whole = packet(ROUTER, message[:2] + check.to_bytes(2, "big") + message[4:], 58)
        router.receive(whole)
        router.receive(fragment(whole, 0, len(message), more=False))
    assert set(router.drops) == {"IPV6_NDISC_HOP_LIMIT", "IPV6_NDISC_FRAG"}


# ----------------------------------------------------------------------------------------------------------- sources


def test_a_source_is_chosen_by_scope_device_and_prefix() -> None:
    router = Timed()
    dev = router.devs[OUT]
    assert ipv6_dev_get_saddr(router.net, dev, addr("2001:db8:9::1")) == addr("2001:db8:2::1")
    assert ipv6_dev_get_saddr(router.net, dev, addr("fe80::77")) == addr("fe80::2")
    assert ipv6_dev_get_saddr(router.net, dev, addr("ff02::1")) == addr("fe80::2")
    assert ipv6_dev_get_saddr(router.net, dev, addr(ROUTER)) == addr(ROUTER)


@pytest.mark.parametrize(
    ("text", "kind", "label"),
    [("::", 0, 3), ("::1", 0x11, 0), ("fe80::1", 0x21, 1), ("ff02::1", 2, 1), ("2001:db8::1", 1, 1), ("fd00::1", 1, 5)],
)
def test_addresses_have_their_type_and_label(text: str, kind: int, label: int) -> None:
    assert (ipv6_addr_type(addr(text)), ipv6_addr_label(addr(text))) == (kind, label)


class Traffic(RuleBasedStateMachine):
    """Random packets of the differential and the passing of time."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Timed(World(mtu=1280))
        self.frames = Generator(7)
        self.came = 0

    @rule(n=st.integers(1, 20), skip=st.integers(0, 50))
    def packets(self, n: int, skip: int) -> None:
        for _ in range(skip):
            self.frames.next()
        for _ in range(n):
            self.router.send(*self.frames.next())
            self.came += 1

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.router.advance(seconds * 1_000_000)

    @invariant()
    def memory_is_what_queues_hold(self) -> None:
        assert self.router.net.frag_mem == sum(fq.mem for fq in self.router.net.frags.values())

    @invariant()
    def no_queue_outlives_its_time(self) -> None:
        live = [c for c in self.router.clocks if c.expires is not None]
        assert len(live) == len(self.router.net.frags)
        assert all(c.expires is None or c.expires > self.router.now for c in live)

    @invariant()
    def what_leaves_fits_and_is_whole(self) -> None:
        for device, p in self.router.out:
            assert len(p) <= (1280 if device == OUT else 1500)
            assert int.from_bytes(p[4:6], "big") == len(p) - 40

    @invariant()
    def counters_add_up(self) -> None:
        m = self.router.mib
        assert m["Ip6InReceives"] >= self.came - self.router.drops.count("OTHERHOST")
        assert m["Ip6FragCreates"] >= 2 * m["Ip6FragOKs"]
        assert m["Ip6ReasmReqds"] >= m["Ip6ReasmOKs"]
        assert m["Icmp6OutMsgs"] == sum(v for k, v in m.items() if k.startswith("Icmp6OutType"))


Traffic.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestTraffic = Traffic.TestCase
